"""`liqmapctl fault`: words of an operator, and what is done without asking anybody."""

from pathlib import Path

import pytest

from liqmap.cli.fault_words import BadWords, listing, order_of
from liqmap.cli.liqmapctl import main
from liqmap.sim.venues.fault_table import FAULTS, described


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("", {"do": "fault"}),
        ("okx clear", {"do": "fault", "venue": "okx", "command": {"fault": "clear"}}),
        (
            "binance silent --topic *@aggTrade --for 30",
            {"do": "fault", "venue": "binance", "command": {"fault": "silent", "topic": "*@aggTrade", "for_s": "30"}},
        ),
        (
            "--ms=-250 OKX clock_skew",
            {"do": "fault", "venue": "okx", "command": {"fault": "clock_skew", "ms": "-250"}},
        ),
        (
            "bybit restart --after-s -1",
            {"do": "fault", "venue": "bybit", "command": {"fault": "restart", "after_s": "-1"}},
        ),
        ("all stall --off", {"do": "fault", "venue": "all", "command": {"fault": "stall", "on": False}}),
    ],
)
def test_words_become_an_order(words: str, order: dict[str, object]) -> None:
    assert order_of(words.split()) == order


@pytest.mark.parametrize("words", ["okx", "okx stall now", "okx stall --for", "--for 3"])
def test_words_without_sense_are_usage_and_the_usage_is_shown(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadWords):
        order_of(words.split())
    with pytest.raises(SystemExit) as ended:
        main(["--socket", str(tmp_path / "none"), "fault", *words.split()])
    assert ended.value.code == 2
    assert "liqmapctl fault VENUE NAME" in capsys.readouterr().err


def test_help_needs_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fault", "--help"]) == 0
    assert "liqmapctl fault all clear" in capsys.readouterr().out


def test_the_listing_has_every_fault_with_every_parameter() -> None:
    lines = "\n".join(listing({"faults": described(), "venues": ["okx", "all"], "on": ["okx stall"]}))
    for fault in FAULTS.values():
        assert f"{fault.name} " in lines and fault.words in lines
        for parameter in fault.parameters:
            assert f"--{parameter.name.replace('_', '-')} " in lines
    assert "on: okx stall" in lines

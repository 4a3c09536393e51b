"""Which margin table a symbol gets: the named one, from beside the configuration, the shipped one, or the stand-in."""

import logging
from pathlib import Path

import pytest

from liqmap.config import ConfigError, Effective, load, parse
from liqmap.worker.main import spec_of
from liqmap.worker.margins import tier_mmr

OWN = """{"format": "liqmap margin 1", "symbol": "BTC", "tables": [{"venue": "okx", "as_of": "2026-11", "source": "me",
"open_interest_share": 1, "brackets": [{"to_usd": null, "mmr": 0.0031, "max_leverage": 100}]}]}"""


def test_a_named_table_is_looked_for_beside_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(OWN)
    (tmp_path / "liqmap.toml").write_text('[symbols.BTC]\nmargin_table = "mine.json"\n')
    config = load(tmp_path / "liqmap.toml")
    assert set(tier_mmr(Effective(config=config), "BTC")) == {0.0031}


def test_the_shipped_tables_serve_the_shipped_symbols() -> None:
    effective = Effective(config=parse({}))
    for symbol in effective.config.enabled_symbols:
        spec = spec_of(effective, symbol)
        assert len(spec.mmr) == len(spec.leverages)
        assert all(0.003 < mmr < 0.05 for mmr in spec.mmr)
        assert list(spec.distances) == sorted(spec.distances, reverse=True)


def test_a_symbol_without_a_table_takes_the_stand_in_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tiers = {"leverages": [5, 10], "weights": [0.5, 0.5], "step": 0.001, "instruments": {"binance": "WIFUSDT"}}
    effective = Effective(config=parse({"symbols": {"WIF": tiers}}))
    with caplog.at_level(logging.WARNING):
        assert len(tier_mmr(effective, "WIF")) == 2
    assert "no margin table is shipped" in caplog.text


def test_a_tier_that_would_be_liquidated_at_birth_is_refused_by_name() -> None:
    tiers = {"leverages": [10, 400], "weights": [0.5, 0.5]}
    effective = Effective(config=parse({"symbols": {"BTC": tiers}}))
    with pytest.raises(ConfigError, match=r"symbols\.BTC\.leverages: leverage 400"):
        tier_mmr(effective, "BTC")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        (OWN.replace("okx", "ftx"), "ftx"),
        (OWN.replace('"mmr": 0.0031', '"mmr": "x"'), "mmr"),
        (OWN.replace('"mmr": 0.0031', '"mmr": 0.0'), "mmr"),
        (OWN.replace('"as_of"', '"asof"'), "asof"),
        (OWN.replace("margin 1", "margin 2"), "format"),
    ],
)
def test_a_broken_table_is_one_line_that_names_the_key_the_file_and_the_fault(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    effective = Effective(config=parse({"symbols": {"BTC": {"margin_table": str(path)}}}))
    with pytest.raises(ConfigError) as refused:
        tier_mmr(effective, "BTC")
    message = str(refused.value)
    assert message.startswith("symbols.BTC.margin_table: ")
    assert str(path) in message
    assert why in message
    assert "\n" not in message

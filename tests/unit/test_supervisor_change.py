"""Reload by difference: whom a change of the configuration concerns."""

from typing import Any

import pytest

from liqmap.config import Config, Effective, RunMode, parse
from liqmap.supervisor.change import Difference, difference
from liqmap.supervisor.roster import Phase, Simulation, roster

BASE: dict[str, Any] = {"symbols": {"BTC": {}, "ETH": {}, "SOL": {"enabled": False}}}


def diff(after: dict[str, Any], before: dict[str, Any] | None = None, simulated: bool = False) -> Difference:
    old, new = parse(BASE if before is None else before), parse(after)
    simulation = Simulation((5, 6, 7)) if simulated else None
    return difference(old, new, roster(Effective(old), 4, simulation), roster(Effective(new), 4, simulation))


def with_section(name: str, **keys: Any) -> dict[str, Any]:
    return {**BASE, name: keys}


@pytest.mark.parametrize(
    ("section", "keys", "changed"),
    [
        ("supervisor", {"heartbeat_timeout_s": 9.0}, ()),
        ("api", {"workers": 3}, ("api",)),
        ("ingest", {"tick_ms": 500}, ("ingest",)),
        ("ingest", {"ring_events": 2048}, ("ingest", "BTC", "ETH")),
        ("venues", {"okx": {"enabled": False}}, ("ingest", "api")),
        ("model", {"decay_per_minute": 0.9}, ("BTC", "ETH")),
        ("history", {"minute_columns": 60}, ("BTC", "ETH", "api")),
        ("daemon", {"log_level": "DEBUG"}, ("ingest", "BTC", "ETH", "api")),
        ("sim", {"seed": 2}, ()),
        ("depth", {"frame_s": 15}, ("ingest", "BTC", "ETH", "api")),
        ("journal", {"keep_days": 2.0}, ("ingest",)),
        ("capture", {"enabled": True}, ("ingest",)),
    ],
)
def test_only_whom_a_section_concerns_is_restarted(
    section: str, keys: dict[str, Any], changed: tuple[str, ...]
) -> None:
    found = diff(with_section(section, **keys))
    assert found == Difference(gone=(), new=(), changed=changed, told=())


@pytest.mark.parametrize("keys", [{"pools_per_side": 3}, {"pool_width_pct": 1.0}])
def test_what_only_the_api_reads_of_the_model_is_told_to_it_and_costs_no_map(keys: dict[str, Any]) -> None:
    assert diff(with_section("model", **keys)) == Difference(gone=(), new=(), changed=(), told=("api",))


def test_the_simulated_market_is_restarted_for_its_own_section() -> None:
    assert diff(with_section("sim", seed=2), simulated=True).changed == ("sim",)


@pytest.mark.parametrize("section", ["depth", "journal", "capture"])
def test_what_is_kept_of_the_feeds_is_no_concern_of_the_simulated_market(section: str) -> None:
    keys = {"range_pct": 5.0} if section == "depth" else {"keep_bytes": 2**30}
    assert "sim" not in diff(with_section(section, **keys), simulated=True).changed


def test_one_symbol_s_own_table_restarts_its_worker_and_tells_who_serves_all() -> None:
    found = diff({"symbols": {"BTC": {"step": 10.0}, "ETH": {}, "SOL": {"enabled": False}}})
    assert (found.changed, found.told) == (("BTC",), ("ingest", "api"))


def test_a_symbol_that_comes_and_one_that_goes() -> None:
    found = diff({"symbols": {"BTC": {"enabled": False}, "ETH": {}, "SOL": {}}}, simulated=True)
    assert found == Difference(gone=("BTC",), new=("SOL",), changed=(), told=("ingest", "api"))


def test_no_difference() -> None:
    assert diff(BASE).empty
    assert diff(BASE).words() == "nothing changed"


def test_the_words_for_people() -> None:
    assert Difference(("SOL",), ("ETH",), ("api",), ("ingest",)).words() == (
        "stopped SOL; started ETH; restarted api; told ingest"
    )


def test_the_roster_of_a_demo_begins_with_the_venues_and_ends_with_the_api() -> None:
    posts = roster(Effective(Config(), RunMode(source=2)), 9, Simulation((5, 6, 7)))
    assert list(posts) == ["sim", "ingest", "BTC", "ETH", "SOL", "api"]
    assert posts["sim"].launch.arguments[-2:] == ("--fds", "5,6,7")
    assert posts["sim"].launch.inherit == (5, 6, 7)
    assert posts["api"].launch.arguments[-2:] == ("--fd", "9")
    assert posts["BTC"].launch.nice == Config().supervisor.worker_nice
    assert sorted(Phase) == [Phase.INGEST, Phase.WORKERS, Phase.API, Phase.SIM]

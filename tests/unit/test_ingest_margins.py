"""Published margin tiers: turned into dollars, kept, held against the table in use, and never used by themselves."""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from liqmap import config as configuration
from liqmap.config import Effective
from liqmap.domain.enums import GapReason, Source, Topic, Venue
from liqmap.exchanges.adapter import PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.feeds import SourceState
from liqmap.ingest.handoff import Polled, PollFailed
from liqmap.ingest.margins import Margins
from liqmap.ingest.replies import Asker
from liqmap.store.margin_files import read_tables
from liqmap.worker.margins import tier_mmr
from tests.unit.router_desk import NAMES, Desk

DAY_NS = 86_400 * 10**9
EVERY_S = 21_600.0


def bybit(*rows: tuple[str, str, str]) -> bytes:
    listed = [
        {"symbol": "BTCUSDT", "riskLimitValue": cap, "maintenanceMargin": mmr, "maxLeverage": top}
        for cap, mmr, top in rows
    ]
    return json.dumps({"retCode": 0, "result": {"list": listed}}).encode()


def okx(*rows: tuple[str, str, str, str]) -> bytes:
    listed = [
        {"instFamily": "BTC-USDT", "minSz": low, "maxSz": high, "mmr": mmr, "maxLever": top}
        for low, high, mmr, top in rows
    ]
    return json.dumps({"code": "0", "data": listed}).encode()


AS_SHIPPED = bybit(("2000000", "0.005", "100"))
DEARER = bybit(("2000000", "0.006", "100"))


class World(Desk):
    """A router that asks Bybit and OKX for the tiers of BTC."""

    def __init__(self, directory: Path, source: Source = Source.LIVE, **btc: Any) -> None:
        super().__init__(directory / "quarantine")
        self.kept = directory / "margin"
        for venue in (Venue.BYBIT, Venue.OKX):
            plan = PollPlan(venue, f"margins.{NAMES['BTC'][venue]}", "http://x", Topic.MARGINS, ("BTC",), EVERY_S)
            source_name = f"{venue.name.lower()}/{plan.name}"
            self.router.replies.askers[source_name] = Asker(plan, ADAPTERS[venue])
            self.feeds.follow(source_name, SourceState(venue, plan.name, False), (), self.router.time.now_ns)
        self.effective = Effective(config=configuration.parse({"symbols": {"BTC": btc}}))
        self.margins = Margins(self.kept, source, self.router)
        self.margins.use(self.effective)
        self.look()

    def say(self, venue: Venue, body: bytes) -> None:
        name = f"{venue.name.lower()}/margins.{NAMES['BTC'][venue]}"
        self.handoff.announce(Polled(name, self.clock.now_ns(), body))
        self.turn()

    def fail(self, venue: Venue, reason: str) -> None:
        name = f"{venue.name.lower()}/margins.{NAMES['BTC'][venue]}"
        self.handoff.announce(PollFailed(name, self.clock.now_ns(), reason, GapReason.NOT_CONNECTED, 1.0))
        self.turn()

    def look(self) -> None:
        self.turn()
        self.margins.look(self.router.time.now_ns)

    def row(self, venue: Venue) -> Any:
        board = self.board()
        rows = board["margins"][: int(board["margin_count"])]
        return rows[rows["venue"] == venue][0]

    def file(self, name: str) -> Any:
        return json.loads((self.kept / name).read_bytes())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_before_anything_was_told_nothing_is_known_and_no_drift_is_invented(world: World) -> None:
    row = world.row(Venue.BYBIT)
    assert (row["refreshed_ms"], row["reason"], row["late"]) == (-1, b"not told yet", 0)
    assert row["published_mmr"] != row["published_mmr"], "NaN"
    assert world.row(Venue.OKX)["refreshed_ms"] == -1
    assert not world.kept.exists()


def test_an_answer_is_kept_dated_in_the_format_of_the_shipped_tables(world: World) -> None:
    world.say(Venue.BYBIT, bybit(("5000000", "0.0056", "90"), ("2000000", "0.005", "100")))
    file = world.file("BTC-bybit.json")
    assert file["format"] == "liqmap margin 1" and file["symbol"] == "BTC"
    (table,) = file["tables"]
    assert (table["venue"], table["open_interest_share"]) == ("bybit", 0.3)
    assert table["brackets"] == [
        {"to_usd": 2e6, "mmr": 0.005, "max_leverage": 100.0},
        {"to_usd": 5e6, "mmr": 0.0056, "max_leverage": 90.0},
    ]
    assert "BTCUSDT" in table["source"] and table["as_of"].endswith("Z")
    assert world.row(Venue.BYBIT)["refreshed_ms"] == world.clock.now_ns() // 1_000_000
    assert [path.name for path in sorted(world.kept.iterdir())] == ["BTC-bybit.json", "BTC.json"]


def test_what_is_to_be_named_holds_every_venue_of_the_table_in_use(world: World) -> None:
    world.say(Venue.BYBIT, DEARER)
    world.router.flow.marks[2] = 60_000.0
    world.say(Venue.OKX, okx(("0", "1000", "0.004", "100")))
    tables = {table["venue"]: table for table in world.file("BTC.json")["tables"]}
    assert list(tables) == ["binance", "bybit", "okx"]
    assert tables["binance"]["as_of"] == "2026-09" and len(tables["binance"]["brackets"]) == 12
    assert tables["bybit"]["brackets"][0]["mmr"] == 0.006
    assert tables["okx"]["brackets"] == [{"to_usd": 600_000.0, "mmr": 0.004, "max_leverage": 100.0}]


def test_a_rate_that_is_off_is_counted_and_named_with_both_dates(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "liqmap.ingest.margins"):
        world.say(Venue.BYBIT, DEARER)
        world.say(Venue.BYBIT, DEARER)
    row = world.row(Venue.BYBIT)
    assert (row["used_mmr"], row["used_as_of"], row["own"], row["reason"]) == (0.005, b"2026-09", 1, b"")
    assert row["published_mmr"] == pytest.approx(0.006)
    assert row["tiers_off"] == 8, "of ten: no bracket of Bybit carries 125x and 150x"
    lines = [record for record in caplog.records if record.message == "margins differ from those in use"]
    assert len(lines) == 1, "one line per change"
    assert lines[0].levelno == logging.WARNING


def test_when_it_is_as_in_use_again_that_is_one_line_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "liqmap.ingest.margins"):
        for body in (AS_SHIPPED, AS_SHIPPED, DEARER, AS_SHIPPED):
            world.say(Venue.BYBIT, body)
    said = [record.message for record in caplog.records]
    assert said == ["margins are as in use", "margins differ from those in use", "margins are as in use"]
    assert world.row(Venue.BYBIT)["tiers_off"] == 0


def test_a_simulated_market_differs_on_purpose_and_no_warning_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, Source.SIMULATED)
    with caplog.at_level(logging.INFO, "liqmap.ingest.margins"):
        world.say(Venue.BYBIT, DEARER)
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert world.row(Venue.BYBIT)["tiers_off"] == 8


def test_contracts_wait_for_a_price_and_say_at_which_they_were_counted(world: World) -> None:
    world.say(Venue.OKX, okx(("0", "1000", "0.004", "100"), ("1000", "", "0.005", "75")))
    assert world.row(Venue.OKX)["refreshed_ms"] == -1
    assert b"no mark price yet" in world.row(Venue.OKX)["reason"]
    assert not (world.kept / "BTC-okx.json").exists()
    told_ms = world.clock.now_ns() // 1_000_000
    world.router.flow.marks[2] = 91_234.5
    world.look()
    (table,) = world.file("BTC-okx.json")["tables"]
    assert [bracket["to_usd"] for bracket in table["brackets"]] == [912_345.0, None], "1000 x 0.01 BTC"
    assert "contracts of 0.01 BTC at 91234.5 USD" in table["source"]
    assert abs(int(world.row(Venue.OKX)["refreshed_ms"]) - told_ms) < 1000, "when it was told, not when it was counted"


@pytest.mark.parametrize(
    "body", [bybit(), b"", b'{"retCode": 10001, "retMsg": "x", "result": {}}', bybit(("1e6", "0", "100"))]
)
def test_a_bad_answer_is_set_aside_and_what_was_told_before_stands_with_its_age(world: World, body: bytes) -> None:
    world.say(Venue.BYBIT, DEARER)
    before = world.file("BTC-bybit.json"), world.row(Venue.BYBIT)["refreshed_ms"]
    world.say(Venue.BYBIT, body)
    row = world.row(Venue.BYBIT)
    assert (world.file("BTC-bybit.json"), row["refreshed_ms"]) == before
    assert row["tiers_off"] == 8 and row["reason"]
    assert world.feeds.quarantined == 1


def test_an_endpoint_that_is_not_reached_makes_no_venue_worse_and_is_told_as_late_after_three_rounds(
    world: World,
) -> None:
    world.say(Venue.BYBIT, AS_SHIPPED)
    refreshed = int(world.row(Venue.BYBIT)["refreshed_ms"])
    for _ in range(4):
        assert not world.row(Venue.BYBIT)["late"]
        world.fail(Venue.BYBIT, "cannot resolve api.bybit.com")
        world.clock.wait(threading.Event(), EVERY_S)
        world.look()
    row = world.row(Venue.BYBIT)
    assert (row["refreshed_ms"], row["late"], row["reason"]) == (refreshed, 1, b"cannot resolve api.bybit.com")
    assert world.feeds.sources["bybit/margins.BTCUSDT"].reason == ""
    assert world.row(Venue.OKX)["refreshed_ms"] == -1 and world.row(Venue.OKX)["late"] == 1
    world.say(Venue.BYBIT, AS_SHIPPED)
    world.look()
    assert (world.row(Venue.BYBIT)["late"], world.row(Venue.BYBIT)["reason"]) == (0, b"")


def test_an_ingest_that_comes_back_knows_when_the_venue_was_heard_last(tmp_path: Path) -> None:
    first = World(tmp_path)
    first.say(Venue.BYBIT, DEARER)
    told_ms = int(first.row(Venue.BYBIT)["refreshed_ms"])
    again = World(tmp_path)
    row = again.row(Venue.BYBIT)
    assert row["tiers_off"] == 8
    assert 0 <= told_ms - int(row["refreshed_ms"]) < 60_000, "to the minute"


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _undated(path: Path) -> None:
    path.write_text(path.read_text().replace('"as_of": "20', '"as_of": "x'))


def _of_another_venue(path: Path) -> None:
    path.write_text(path.read_text().replace('"venue": "bybit"', '"venue": "okx"'))


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_empty, _torn, _undated, _of_another_venue, _a_directory])
def test_a_damaged_file_is_none_it_is_named_and_the_next_answer_replaces_it(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    World(tmp_path).say(Venue.BYBIT, DEARER)
    path = tmp_path / "margin" / "BTC-bybit.json"
    damage(path)
    with caplog.at_level(logging.WARNING, "liqmap.ingest.margins"):
        again = World(tmp_path)
    row = again.row(Venue.BYBIT)
    assert (row["refreshed_ms"], row["reason"]) == (-1, b"BTC-bybit.json cannot be read")
    assert [record.message for record in caplog.records][-1:] == ["refreshed margins"]
    again.say(Venue.BYBIT, AS_SHIPPED)
    if path.is_file():
        assert again.file("BTC-bybit.json")["tables"][0]["brackets"][0]["mmr"] == 0.005
    assert again.row(Venue.BYBIT)["refreshed_ms"] > 0


@pytest.fixture
def read_only(world: World) -> Iterator[Path]:
    world.kept.mkdir()
    world.kept.chmod(0o500)
    yield world.kept
    world.kept.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_disk_that_does_not_take_it_costs_the_file_and_not_the_comparison(world: World, read_only: Path) -> None:
    world.say(Venue.BYBIT, DEARER)
    row = world.row(Venue.BYBIT)
    assert row["tiers_off"] == 8 and row["reason"].startswith(b"not written: ")
    assert not any(read_only.iterdir())


def test_a_file_in_the_place_of_the_directory_costs_the_file_and_not_the_comparison(world: World) -> None:
    world.kept.write_bytes(b"")
    world.say(Venue.BYBIT, DEARER)
    row = world.row(Venue.BYBIT)
    assert row["tiers_off"] == 8 and row["reason"].startswith(b"not written: ")


def test_the_map_takes_a_refreshed_table_when_an_operator_names_it_and_not_before(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = tier_mmr(world.effective, "BTC")
    world.say(Venue.BYBIT, DEARER)
    assert tier_mmr(world.effective, "BTC") == before
    adopted = tmp_path / "BTC-2026-11.json"
    adopted.write_bytes((world.kept / "BTC.json").read_bytes())
    named = Effective(config=configuration.parse({"symbols": {"BTC": {"margin_table": str(adopted)}}}))
    assert tier_mmr(named, "BTC") > before
    world.margins.use(named)
    assert world.row(Venue.BYBIT)["tiers_off"] == 0, "a reload compares anew"


def test_a_refreshed_file_that_is_in_use_is_not_replaced_under_the_map(tmp_path: Path) -> None:
    World(tmp_path).say(Venue.BYBIT, DEARER)
    in_use = tmp_path / "margin" / "BTC.json"
    world, bytes_before = World(tmp_path, margin_table=str(in_use)), in_use.read_bytes()
    world.say(Venue.BYBIT, bybit(("2000000", "0.009", "100")))
    assert in_use.read_bytes() == bytes_before
    assert world.row(Venue.BYBIT)["tiers_off"] == 8
    assert world.file("BTC-bybit.json")["tables"][0]["brackets"][0]["mmr"] == 0.009


def test_a_table_in_use_that_cannot_be_read_leaves_the_drift_unknown(tmp_path: Path) -> None:
    world = World(tmp_path, margin_table=str(tmp_path / "none.json"))
    world.say(Venue.BYBIT, DEARER)
    row = world.row(Venue.BYBIT)
    assert row["refreshed_ms"] > 0 and row["tiers_off"] == 0
    assert row["published_mmr"] != row["published_mmr"] and b"margin_table" in row["reason"]


def test_a_symbol_that_is_taken_away_is_forgotten(world: World) -> None:
    world.say(Venue.BYBIT, DEARER)
    del world.router.replies.askers["bybit/margins.BTCUSDT"]
    world.look()
    assert [key[0] for key in world.feeds.margins] == [Venue.OKX]


def test_every_file_that_is_written_can_be_read_as_a_margin_table(world: World) -> None:
    world.router.flow.marks[2] = 60_000.0
    world.say(Venue.BYBIT, DEARER)
    world.say(Venue.OKX, okx(("0", "1000", "0.004", "100"), ("1000", "", "0.005", "75")))
    for path in world.kept.iterdir():
        assert all(table.brackets for table in read_tables(path, "x"))

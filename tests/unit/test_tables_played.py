"""Recorded tables as events: nothing invented, nothing known too early, the same at every speed."""

import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.clock import ManualClock
from liqmap.domain.enums import GapReason, Kind, TakerSide, Topic, Venue
from liqmap.domain.event import EVENT_DTYPE, FLAG_FROM_BAR
from liqmap.ingest.bar_events import path_of
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.feeds_board import painter
from liqmap.ingest.table_player import TablePlayer, Track
from liqmap.ingest.table_tape import TableTape
from liqmap.shm.layout import FEEDS
from liqmap.store.tables import Bar, tables_of

START = 1_770_681_600_000
MINUTE = 60_000
HOUR = 3_600_000
NAN = math.nan


@dataclass
class MemoryRing:
    """A ring whose worker takes everything at once, unless told otherwise."""

    capacity: int = 1 << 16
    waiting: int = 0
    written: list[Any] = field(default_factory=list)

    def write(self, events: Any) -> int:
        self.written.append(events.copy())
        return len(self.written)

    def pending(self) -> int:
        return self.waiting

    def events(self, *kinds: Kind) -> Any:
        events = np.concatenate([np.zeros(0, EVENT_DTYPE), *self.written])
        return events[np.isin(events["kind"], kinds)] if kinds else events


def bars(path: Path, rows: list[str], header: str = "") -> None:
    columns = header or "minute_ms,open,high,low,close,taker_buy_base,taker_sell_base,taker_buy_share"
    (path / "bars_1m_BTC.csv").write_text("\n".join([columns, *rows]) + "\n")


def liquidations(path: Path, rows: list[str]) -> None:
    (path / "liquidations_BTC.csv").write_text("\n".join(["ts_ms,venue,position_side,price,qty_base", *rows]) + "\n")


def hourly(path: Path, rows: list[str]) -> None:
    (path / "hourly_BTC.csv").write_text("\n".join(["hour_ms,open_interest_usd_close,price_close", *rows]) + "\n")


def play(
    path: Path, steps_s: list[float] | None = None, from_ms: int = START, to_ms: int | None = None, skip_ns: int = -1
) -> tuple[MemoryRing, Feeds]:
    """Play to the end, in steps of replay time."""
    clock, ring, feeds = ManualClock(from_ms * 1_000_000), MemoryRing(), Feeds(30.0)
    track = Track(TableTape(tables_of(path, "BTC"), from_ms, 250), ring, 1, skip_ns)
    player = TablePlayer([track], feeds, clock, to_ms)
    steps = iter(steps_s or [])
    for _ in range(100_000):
        if player.finished:
            return ring, feeds
        player.turn()
        clock.advance(next(steps, 600.0))
    raise AssertionError("the replay did not end")


def test_a_bar_becomes_a_path_of_marks_and_a_quarter_of_its_volumes_at_each(tmp_path: Path) -> None:
    bars(tmp_path, [f"{START},100,110,98,105,8,4,"])
    ring, _ = play(tmp_path)
    marks, trades = ring.events(Kind.MARK_PRICE), ring.events(Kind.TRADE)
    assert list(marks["price"]) == [100.0, 98.0, 110.0, 105.0]
    assert list(marks["venue_ms"]) == [START, START + 15_000, START + 30_000, START + 45_000]
    assert list(trades["price"]) == [100.0, 100.0, 98.0, 98.0, 110.0, 110.0, 105.0, 105.0]
    assert trades[trades["side"] == TakerSide.BUY]["quantity"].sum() == 8.0
    assert trades[trades["side"] == TakerSide.SELL]["quantity"].sum() == 4.0
    assert (marks["flags"] == FLAG_FROM_BAR).all()
    assert (trades["flags"] == FLAG_FROM_BAR).all()


def test_the_nearer_extreme_comes_first() -> None:
    def path(first: float, high: float, low: float, close: float) -> tuple[float, ...]:
        return path_of(Bar(START, first, high, low, close, NAN, NAN, NAN, NAN, NAN))

    assert path(100.0, 101.0, 90.0, 95.0) == (100.0, 101.0, 90.0, 95.0)
    assert path(100.0, 110.0, 99.0, 95.0) == (100.0, 99.0, 110.0, 95.0)


def test_a_bar_that_knows_only_the_share_makes_no_volume(tmp_path: Path) -> None:
    bars(tmp_path, [f"{START},100,110,98,105,,,0.7"])
    ring, _ = play(tmp_path)
    assert ring.events(Kind.TRADE).size == 0
    assert ring.events(Kind.MARK_PRICE).size == 4


def test_an_hourly_level_is_known_at_the_end_of_its_hour_and_not_before(tmp_path: Path) -> None:
    bars(tmp_path, [f"{START + i * MINUTE},100,100,100,100,,," for i in range(125)])
    hourly(tmp_path, [f"{START - HOUR},7000,70", f"{START},8000,80", f"{START + HOUR},,80"])
    ring, _ = play(tmp_path)
    levels = ring.events(Kind.OPEN_INTEREST)
    assert [(int(row["receive_ns"]) // 10**6, float(row["quantity"]), int(row["detail"])) for row in levels] == [
        (START, 100.0, HOUR),
        (START + HOUR, 100.0, HOUR),
    ]
    assert list(levels["venue_ms"]) == [START, START + HOUR]


@pytest.mark.parametrize(("hours_before", "said"), [(1, 1), (2, 0), (30, 0)])
def test_the_level_a_replay_begins_with_is_one_that_no_newer_should_have_replaced(
    tmp_path: Path, hours_before: int, said: int
) -> None:
    bars(tmp_path, [f"{START + i * MINUTE},100,100,100,100,,," for i in range(5)])
    hourly(tmp_path, [f"{START - hours_before * HOUR},7000,70"])
    ring, _ = play(tmp_path)
    assert ring.events(Kind.OPEN_INTEREST).size == said


def test_changes_are_used_only_where_there_is_no_level(tmp_path: Path) -> None:
    header = "minute_ms,open,high,low,close,open_interest_change_usd"
    bars(tmp_path, [f"{START},80,100,80,100,500", f"{START + MINUTE},100,100,100,100,"], header)
    ring, _ = play(tmp_path)
    [change] = ring.events(Kind.OPEN_INTEREST_CHANGE)
    assert (change["quantity"], change["receive_ns"]) == (5.0, (START + MINUTE) * 10**6)
    hourly(tmp_path, [f"{START - HOUR},7000,70"])
    ring, _ = play(tmp_path)
    assert ring.events(Kind.OPEN_INTEREST_CHANGE).size == 0


@pytest.mark.finding("M19")
def test_levels_in_the_bars_leave_the_hourly_series_out(tmp_path: Path) -> None:
    header = "minute_ms,open,high,low,close,open_interest_base"
    bars(tmp_path, [f"{START + i * MINUTE},100,100,100,100,{90 + i}" for i in range(70)], header)
    hourly(tmp_path, [f"{START - HOUR},7000,70", f"{START},8000,80"])
    ring, _ = play(tmp_path)
    levels = ring.events(Kind.OPEN_INTEREST)
    assert list(levels["quantity"]) == [90.0 + i for i in range(69)]
    assert list(levels["receive_ns"] // 10**6) == [START + (i + 1) * MINUTE for i in range(69)], "known at the end"
    assert set(levels["detail"]) == {MINUTE}


def test_minutes_without_a_bar_are_a_gap_and_time_goes_on(tmp_path: Path) -> None:
    rows = [START + i * MINUTE for i in (0, 1, 4, 5, 8)]
    bars(tmp_path, [f"{minute},100,100,100,100,,," for minute in rows])
    liquidations(tmp_path, [f"{START + 2 * MINUTE + 5},okx,long,99,1"])
    ring, feeds = play(tmp_path)
    gaps = [
        (Topic(int(gap["topic"])).name, (int(gap["venue_ms"]) - START) // MINUTE, int(gap["detail"]))
        for gap in ring.events(Kind.GAP)
    ]
    back, again = START + 4 * MINUTE, START + 8 * MINUTE
    assert gaps == [
        ("MARK_PRICE", 2, -1),
        ("TRADE", 2, -1),
        ("MARK_PRICE", 2, back),
        ("TRADE", 2, back),
        ("MARK_PRICE", 6, -1),
        ("TRADE", 6, -1),
        ("LIQUIDATION", 6, -1),
        ("MARK_PRICE", 6, again),
        ("TRADE", 6, again),
        ("LIQUIDATION", 6, again),
    ]
    assert set(ring.events(Kind.GAP)["side"]) == {int(GapReason.NOT_RECORDED)}
    ticks = ring.events(Kind.TICK)["receive_ns"]
    assert len(ticks) == 9 * 240
    assert set(np.diff(ticks)) == {250_000_000}
    record = np.zeros((), dtype=FEEDS)
    painter(feeds, 0)(record)
    assert int(record["finished"]) == 1
    assert int(record["gap_count"]) == 5


def test_liquidations_keep_their_venue_side_and_time(tmp_path: Path) -> None:
    bars(tmp_path, [f"{START},100,100,100,100,,,"])
    liquidations(
        tmp_path, [f"{START - 1},okx,long,1,1", f"{START + 7},binance,long,99.5,2", f"{START + 7},,short,101,3"]
    )
    ring, feeds = play(tmp_path)
    rows = ring.events(Kind.LIQUIDATION)
    assert list(rows["venue"]) == [Venue.BINANCE, Venue.UNKNOWN]
    assert list(rows["price"]) == [99.5, 101.0]
    assert list(rows["receive_ns"]) == [(START + 7) * 10**6] * 2
    record = np.zeros((), dtype=FEEDS)
    painter(feeds, 0)(record)
    venues = {int(row["venue"]): bool(row["delivering"]) for row in record["venues"][: int(record["venue_count"])]}
    assert venues == {int(Venue.UNKNOWN): True, int(Venue.BINANCE): True}


def a_day(path: Path, seed: int) -> None:
    draw = random.Random(seed)
    rows, forced, price = [], [], 100.0
    for number in range(90):
        if draw.random() < 0.1:
            continue
        minute = START + number * MINUTE
        close = price * (1 + draw.uniform(-0.01, 0.01))
        low, high = min(price, close) * 0.999, max(price, close) * 1.001
        rows.append(f"{minute},{price!r},{high!r},{low!r},{close!r},{draw.random()!r},{draw.random()!r},")
        forced += sorted(f"{minute + draw.randrange(MINUTE)},okx,long,99,1" for _ in range(draw.randrange(4)))
        price = close
    bars(path, rows)
    liquidations(path, forced)
    hourly(path, [f"{START - HOUR},7000,70", f"{START},8000,80"])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(0.01, 2000.0), max_size=60))
def test_the_same_tables_give_the_same_events_at_every_pace(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps_s: list[float]
) -> None:
    path = tmp_path_factory.mktemp("tables")
    a_day(path, seed)
    quick, _ = play(path, [10**7])
    slow, _ = play(path, steps_s)
    assert quick.events().tobytes() == slow.events().tobytes()
    events = quick.events()
    assert (np.diff(events["receive_ns"]) >= 0).all()
    assert np.array_equal(events["sequence"], np.arange(1, len(events) + 1))


def test_nothing_is_written_before_its_time(tmp_path: Path) -> None:
    a_day(tmp_path, 3)
    clock, ring = ManualClock(START * 10**6), MemoryRing()
    track = Track(TableTape(tables_of(tmp_path, "BTC"), START, 250), ring, 1)
    player = TablePlayer([track], Feeds(30.0), clock, None)
    for _ in range(300):
        clock.advance(7.3)
        player.turn()
        assert ring.events()["receive_ns"].max() <= clock.now_ns()


def test_an_ingest_that_died_goes_on_where_its_ring_ends(tmp_path: Path) -> None:
    a_day(tmp_path, 4)
    whole, _ = play(tmp_path)
    stamps = whole.events()["receive_ns"]
    cut_ns = int(stamps[len(stamps) // 2])
    rest, _ = play(tmp_path, from_ms=cut_ns // 10**6, skip_ns=cut_ns)
    expected = whole.events()[stamps > cut_ns]
    got = rest.events()
    for name in EVENT_DTYPE.names or ():
        if name != "sequence":
            assert np.array_equal(got[name], expected[name], equal_nan=got[name].dtype.kind == "f"), name


def test_a_worker_that_is_behind_holds_the_replay_back_but_a_dead_one_does_not(tmp_path: Path) -> None:
    a_day(tmp_path, 5)
    clock, ring = ManualClock(START * 10**6), MemoryRing(capacity=1024)
    player = TablePlayer([Track(TableTape(tables_of(tmp_path, "BTC"), START, 250), ring, 1)], Feeds(30.0), clock, None)
    player.turn()
    written = len(ring.events())
    ring.waiting = 1000
    clock.advance(120.0)
    player.turn()
    assert len(ring.events()) == written
    clock.advance(11.0)
    player.turn()
    assert len(ring.events()) > written


def test_a_table_that_breaks_is_played_to_the_break_and_named(tmp_path: Path) -> None:
    rows = [f"{START + i * MINUTE},100,100,100,100,,," for i in range(5)]
    bars(tmp_path, [*rows, "broken,1,1,1,1,,,"])
    ring, feeds = play(tmp_path)
    assert len(ring.events(Kind.MARK_PRICE)) == 20
    record = np.zeros((), dtype=FEEDS)
    painter(feeds, 0)(record)
    assert b"bars_1m_BTC.csv:7" in record["venues"]["reason"][0]


def test_a_replay_can_begin_and_end_anywhere(tmp_path: Path) -> None:
    a_day(tmp_path, 6)
    ring, _ = play(tmp_path, from_ms=START + 10 * MINUTE, to_ms=START + 20 * MINUTE)
    stamps = ring.events()["receive_ns"] // 10**6
    assert stamps.min() == START + 10 * MINUTE
    assert stamps.max() == START + 20 * MINUTE - 250

"""The past of a symbol as events: in order, nothing invented or known too early, and a gap for what is missing."""

import random
from typing import Any

import numpy as np
import pytest

from liqmap.domain.enums import GapReason, Kind, TakerSide, Topic, Venue
from liqmap.domain.event import FLAG_BACKFILLED, FLAG_FROM_BAR, NO_INSTRUMENT
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import PastBar, PastLevel
from liqmap.ingest.past_tape import ContractPast, hours_of

START = 1_770_681_600_000
MINUTE, HOUR = 60_000, 3_600_000
PERIOD = 300_000
BINANCE = Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 0)
BYBIT = Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", 1)


def bars(*minutes: int) -> tuple[PastBar, ...]:
    return tuple(PastBar(START + minute * MINUTE, 100.0, 110.0, 98.0, 105.0, 8.0, 4.0) for minute in minutes)


def levels(*minutes: int, base: float = 500.0) -> tuple[PastLevel, ...]:
    return tuple(PastLevel(START + minute * MINUTE, base) for minute in minutes)


def told(*pasts: ContractPast, now_ms: int, asked_ms: int = START) -> Any:
    portions = list(hours_of(pasts, asked_ms, now_ms * 1_000_000))
    for portion in portions:
        hours = portion["receive_ns"] // (HOUR * 1_000_000)
        assert hours[0] == hours[-1], "a portion of more than an hour"
    events = np.concatenate(portions)
    assert (np.diff(events["receive_ns"]) >= 0).all()
    assert (events["flags"] & FLAG_BACKFILLED).all()
    assert events["receive_ns"].max() <= now_ms * 1_000_000
    return events


def of(events: Any, kind: Kind) -> Any:
    return events[events["kind"] == kind]


def gaps(events: Any, venue: Venue, topic: Topic) -> list[tuple[int, int]]:
    """From and to in ms after START; -1: opened."""
    rows = of(events, Kind.GAP)
    mine = rows[(rows["venue"] == venue) & (rows["topic"] == topic)]
    assert (mine["side"] == GapReason.NOT_RECORDED).all()
    return [(int(row["venue_ms"]) - START, -1 if row["detail"] < 0 else int(row["detail"]) - START) for row in mine]


def test_a_bar_is_a_path_and_its_trades_at_its_venue() -> None:
    events = told(ContractPast(BINANCE, PERIOD, bars(0)), now_ms=START + 2 * MINUTE)
    marks, trades = of(events, Kind.MARK_PRICE), of(events, Kind.TRADE)
    assert list(marks["price"]) == [100.0, 98.0, 110.0, 105.0]
    assert list((marks["receive_ns"] // 1_000_000 - START) // 1000) == [0, 15, 30, 45]
    assert trades[trades["side"] == TakerSide.BUY]["quantity"].sum() == 8.0
    assert trades[trades["side"] == TakerSide.SELL]["quantity"].sum() == 4.0
    for rows in (marks, trades):
        assert (rows["venue"] == Venue.BINANCE).all()
        assert (rows["instrument"] == 0).all()
        assert (rows["flags"] == FLAG_FROM_BAR | FLAG_BACKFILLED).all()


def test_each_minute_is_closed_by_one_tick_and_none_lies_in_the_present() -> None:
    events = told(ContractPast(BINANCE, PERIOD, bars(*range(130))), now_ms=START + 130 * MINUTE + 1500)
    ticks = of(events, Kind.TICK)
    assert list(ticks["receive_ns"] // 1_000_000 - START) == [(minute + 1) * MINUTE + 2000 for minute in range(129)]
    assert (ticks["instrument"] == NO_INSTRUMENT).all()


def test_a_level_comes_at_its_own_time_and_covers_a_period() -> None:
    past = ContractPast(BYBIT, PERIOD, levels=levels(-5, 0, 5, 10))
    events = told(ContractPast(BINANCE, PERIOD, bars(*range(8))), past, now_ms=START + 8 * MINUTE)
    found = of(events, Kind.OPEN_INTEREST)
    assert list(found["receive_ns"] // 1_000_000 - START) == [0, 5 * MINUTE], (
        "before the first price, and after now: none"
    )
    assert (found["detail"] == PERIOD).all()
    assert (found["quantity"] == 500.0).all()
    assert (found["instrument"] == 1).all()
    assert (found["flags"] == FLAG_BACKFILLED).all()


def test_liquidations_are_missing_all_the_time_and_until_the_present_begins() -> None:
    now = START + 5 * MINUTE + 20_000
    events = told(ContractPast(BINANCE, PERIOD, bars(*range(5))), ContractPast(BYBIT, PERIOD), now_ms=now)
    for venue in (Venue.BINANCE, Venue.BYBIT):
        assert gaps(events, venue, Topic.LIQUIDATION) == [(0, -1), (0, now - START)]
    for topic in (Topic.MARK_PRICE, Topic.TRADE, Topic.OPEN_INTEREST):
        assert gaps(events, Venue.BYBIT, topic) == [(0, -1), (0, now - START)]
    for topic in (Topic.MARK_PRICE, Topic.TRADE):
        assert gaps(events, Venue.BINANCE, topic) == [(5 * MINUTE, -1), (5 * MINUTE, now - START)]


def test_bars_that_are_missing_in_the_middle_are_a_gap_and_time_goes_on() -> None:
    now = START + 90 * MINUTE
    events = told(ContractPast(BINANCE, PERIOD, bars(*range(10), *range(70, 90))), now_ms=now)
    hole = (10 * MINUTE, 70 * MINUTE)
    for topic in (Topic.MARK_PRICE, Topic.TRADE):
        assert gaps(events, Venue.BINANCE, topic) == [(hole[0], -1), hole]
    rows = of(events, Kind.GAP)
    opened = rows[(rows["topic"] == Topic.TRADE) & (rows["detail"] == -1)]
    assert list(opened["receive_ns"] // 1_000_000 - START) == [hole[0]], "told when it began"
    assert len(of(events, Kind.TICK)) == 89
    marks = of(events, Kind.MARK_PRICE)
    assert not ((marks["venue_ms"] >= START + hole[0]) & (marks["venue_ms"] < START + hole[1])).any()


def test_levels_that_are_missing_are_a_gap_and_the_newest_may_be_a_period_old() -> None:
    now = START + 60 * MINUTE
    some = levels(0, 5, 10, 40, 45, 50, 55)
    events = told(ContractPast(BINANCE, PERIOD, bars(*range(60)), some), now_ms=now)
    assert gaps(events, Venue.BINANCE, Topic.OPEN_INTEREST) == [(10 * MINUTE, -1), (10 * MINUTE, 35 * MINUTE)]
    old = told(ContractPast(BINANCE, PERIOD, bars(*range(60)), levels(*range(0, 45, 5))), now_ms=now)
    assert gaps(old, Venue.BINANCE, Topic.OPEN_INTEREST) == [(40 * MINUTE, -1), (40 * MINUTE, 60 * MINUTE)]


def test_a_past_that_begins_later_than_asked_says_so_when_it_begins() -> None:
    now = START + 30 * MINUTE
    past = ContractPast(BINANCE, PERIOD, bars(*range(20, 30)), levels(*range(0, 31, 5)))
    events = told(past, now_ms=now)
    assert events["receive_ns"].min() == (START + 20 * MINUTE) * 1_000_000
    assert gaps(events, Venue.BINANCE, Topic.TRADE) == [(0, 20 * MINUTE)]
    assert gaps(events, Venue.BINANCE, Topic.LIQUIDATION) == [(0, -1), (0, 30 * MINUTE)]


def test_without_any_bar_there_is_a_gap_that_is_over_and_nothing_else() -> None:
    now = START + HOUR
    events = told(
        ContractPast(BINANCE, PERIOD), ContractPast(BYBIT, PERIOD, levels=levels(*range(0, 61, 5))), now_ms=now
    )
    assert set(events["kind"]) == {Kind.GAP, Kind.OPEN_INTEREST}
    assert set(events["receive_ns"]) == {now * 1_000_000}
    assert gaps(events, Venue.BINANCE, Topic.TRADE) == [(0, HOUR)]
    assert gaps(events, Venue.BYBIT, Topic.OPEN_INTEREST) == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_missing_every_moment_of_every_feed_is_told_or_in_a_gap(seed: int) -> None:
    chance = random.Random(seed)
    length = chance.randrange(1, 300)
    minutes = [minute for minute in range(length) if chance.random() < 0.9 and not 50 < minute < 90]
    now = START + length * MINUTE + chance.randrange(0, MINUTE)
    events = told(ContractPast(BINANCE, PERIOD, bars(*minutes)), now_ms=now)
    missing = [gap for gap in gaps(events, Venue.BINANCE, Topic.TRADE) if gap[1] >= 0]
    told_ms = len(minutes) * MINUTE
    assert sum(to_ms - from_ms for from_ms, to_ms in missing) + told_ms == now - START
    assert of(events, Kind.TRADE)["quantity"].sum() == 12.0 * len(minutes)


def test_bars_older_than_four_hours_are_drawn_together_where_none_is_missing() -> None:
    """Thirty minutes with a hole, five hours ago: what is whole is told in its last minute, the rest as it came."""
    minutes = [minute for minute in range(30) if minute != 17]
    past = ContractPast(BINANCE, PERIOD, bars(*minutes), levels(*range(0, 31, 5)))
    events = told(past, now_ms=START + 5 * HOUR)
    marks = of(events, Kind.MARK_PRICE)
    at = (marks["venue_ms"] - START) // MINUTE
    coarse = marks["detail"] == 5 * MINUTE
    assert sorted(set(at[coarse])) == [4, 9, 14, 24, 29]
    assert sorted(set(at[~coarse])) == [15, 16, 18, 19]
    assert list(marks["price"][:4]) == [100.0, 98.0, 110.0, 105.0]
    trades = of(events, Kind.TRADE)
    assert trades["quantity"].sum() == 12.0 * len(minutes)
    ends = (of(events, Kind.TICK)["receive_ns"] // 1_000_000 - START - 2000) // MINUTE
    assert list(ends[ends <= 30]) == [5, 10, 15, 16, 17, 18, 19, 20, 25, 30]

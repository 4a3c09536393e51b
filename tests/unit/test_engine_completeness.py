"""How complete each venue's liquidations are: streams whose answer is known, and gaps that must not count."""

import math
from collections.abc import Iterable

import pytest

from liqmap.domain.enums import PositionSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.engine.completeness import HALF_LIFE_MIN, LEAST_ACTIVE_MIN, LEAST_EFFECTIVE, PENDING, Completeness
from liqmap.engine.frames import Facts, Liquidation
from liqmap.engine.ledger import Levels
from tests.unit.engine_tape import gap, level, liquidated, mark, run

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
PRICE = 60_000.0
INTEREST = {BINANCE: 80_000.0, BYBIT: 40_000.0, OKX: 20_000.0}
ENOUGH = int(LEAST_EFFECTIVE) + PENDING


def market(minutes: int, venues: Iterable[Venue] = (BINANCE, BYBIT, OKX)) -> list[Event]:
    """A mark that stands still and open interest of these venues."""
    events: list[Event] = []
    for start in range(0, 60 * minutes, 30):
        events += [mark(start + second, PRICE) for second in range(1, 30, 8)]
        events += [level(start + 2, INTEREST[venue], venue) for venue in venues]
    return events


def printing(minutes: Iterable[int], venue: Venue, qty_base: float, seconds: Iterable[int] = (20,)) -> list[Event]:
    """The same liquidation in each of these minutes, at each of these seconds."""
    when = [60 * minute + second for minute in minutes for second in seconds]
    return [liquidated(second, LONG, PRICE, qty_base, venue) for second in when]


def facts_after(events: list[Event], minutes: int) -> Facts:
    """What the last of so many minutes says."""
    _, frames = run(events, until_s=60 * minutes + 2.25)
    assert len(frames) == minutes
    return frames[-1].facts


def test_dollars_per_open_interest_beside_those_of_the_complete_venue() -> None:
    events = market(30)
    events += printing(range(30), BINANCE, 1.0) + printing(range(30), BYBIT, 2.0) + printing(range(30), OKX, 0.75)
    facts = facts_after(events, 30)
    assert facts.venue_completeness[BINANCE] == pytest.approx((1 / 80_000) / (2 / 40_000))
    assert facts.venue_completeness[OKX] == pytest.approx((0.75 / 20_000) / (2 / 40_000))
    assert facts.venue_completeness[BYBIT] == 1.0
    assert math.isnan(facts.venue_completeness[Venue.UNKNOWN])


def test_what_each_venue_printed_is_counted_by_side_and_sums_to_the_whole() -> None:
    events = [*market(2), liquidated(10, LONG, PRICE, 1.0, BINANCE), liquidated(11, SHORT, PRICE, 2.0, OKX)]
    events += [liquidated(70, LONG, PRICE, 3.0, OKX)]
    facts = facts_after(events, 2)
    assert facts.venue_liquidations == (0, 1, 0, 2)
    assert facts.venue_liquidated_usd[BINANCE] == (PRICE, 0.0)
    assert facts.venue_liquidated_usd[OKX] == (3 * PRICE, 2 * PRICE)
    assert sum(long for long, _ in facts.venue_liquidated_usd) == facts.liquidated_long_usd
    assert sum(short for _, short in facts.venue_liquidated_usd) == facts.liquidated_short_usd


def test_nothing_is_claimed_before_enough_was_seen() -> None:
    events = market(30) + printing(range(30), BINANCE, 1.0) + printing(range(30), BYBIT, 2.0)
    _, frames = run(events, until_s=30 * 60 + 2.25)
    told = [not math.isnan(frame.facts.venue_completeness[BINANCE]) for frame in frames]
    assert told.index(True) in (ENOUGH - 1, ENOUGH), "fading may take a hair off the last needed minute"
    assert all(told[ENOUGH:])


@pytest.mark.parametrize("silent", [BINANCE, BYBIT])
def test_a_venue_that_printed_nothing_says_nothing(silent: Venue) -> None:
    venue = BYBIT if silent is BINANCE else BINANCE
    facts = facts_after(market(30) + printing(range(30), venue, 1.0), 30)
    assert math.isnan(facts.venue_completeness[BINANCE])


def test_one_cascade_is_not_enough_however_large() -> None:
    events = market(40) + printing(range(40), BINANCE, 0.001) + printing(range(40), BYBIT, 0.001)
    events += [liquidated(600 + 0.01 * i, LONG, PRICE, 50.0, BYBIT) for i in range(200)]
    assert math.isnan(facts_after(events, 40).venue_completeness[BINANCE])


def test_without_open_interest_of_both_nothing_is_compared() -> None:
    prints = printing(range(30), BINANCE, 1.0) + printing(range(30), BYBIT, 2.0)
    for venues in ((BINANCE,), (BYBIT,), ()):
        facts = facts_after(market(30, venues) + prints, 30)
        assert math.isnan(facts.venue_completeness[BINANCE])
        assert facts.venue_liquidations[BINANCE] == 30


def half_gone(told_at_s: float | None, back_s: float = 2400) -> list[Event]:
    """An hour; Binance's liquidations are away from minute 20 to 40, which is told at a time, or never."""
    away = set(range(20, 40))
    events = market(60) + printing(range(60), BYBIT, 2.0) + printing(sorted(set(range(60)) - away), BINANCE, 4.0)
    if told_at_s is not None:
        events += [gap(told_at_s, Topic.LIQUIDATION, 1200), gap(back_s, Topic.LIQUIDATION, 1200, back_s)]
    return events


def test_a_venue_in_a_gap_is_not_counted_against_for_that_time() -> None:
    assert facts_after(half_gone(1200), 60).venue_completeness[BINANCE] == pytest.approx(1.0)
    untold = facts_after(half_gone(None), 60).venue_completeness[BINANCE]
    assert untold == pytest.approx(2 / 3, rel=0.05), "silence that nobody calls a gap counts: the test can tell"


def test_a_gap_that_is_told_late_still_takes_its_minutes_out() -> None:
    assert facts_after(half_gone(1200 + 150), 60).venue_completeness[BINANCE] == pytest.approx(1.0)


def test_minutes_in_which_the_complete_venue_was_away_are_not_compared() -> None:
    away = set(range(20, 40))
    events = market(60) + printing(sorted(set(range(60)) - away), BYBIT, 2.0) + printing(range(60), BINANCE, 4.0)
    events += [gap(1200, Topic.LIQUIDATION, 1200, venue=BYBIT), gap(2400, Topic.LIQUIDATION, 1200, 2400, venue=BYBIT)]
    assert facts_after(events, 60).venue_completeness[BINANCE] == pytest.approx(1.0)


def test_minutes_in_which_events_were_lost_count_for_nobody() -> None:
    away = set(range(20, 40))
    events = market(60) + printing(range(60), BYBIT, 2.0) + printing(sorted(set(range(60)) - away), BINANCE, 4.0)
    lost = gap(2399.5, Topic.LIQUIDATION, 1200, 2400, venue=Venue.UNKNOWN)._replace(topic=0)
    early = gap(1200, Topic.LIQUIDATION, 1200, venue=Venue.UNKNOWN)._replace(topic=0)
    assert facts_after([*events, early, lost], 60).venue_completeness[BINANCE] == pytest.approx(1.0)


def test_gaps_of_other_topics_and_symbols_of_time_do_not_matter() -> None:
    events = market(30) + printing(range(30), BINANCE, 4.0) + printing(range(30), BYBIT, 2.0)
    events += [gap(100, Topic.TRADE, 100), gap(100, Topic.DEPTH, 100, venue=BYBIT)]
    assert facts_after(events, 30).venue_completeness[BINANCE] == pytest.approx(1.0)


# -- saturation -------------------------------------------------------------------------------------------------------


def test_saturation_is_the_share_of_active_minutes_seconds_that_have_a_print() -> None:
    active = range(0, 40, 2)
    events = market(40) + printing(active, BINANCE, 0.01, seconds=range(0, 45, 3))
    facts = facts_after(events, 40)
    assert facts.venue_saturation[BINANCE] == pytest.approx(15 / 60), "quiet minutes do not dilute it"


def test_several_prints_of_one_second_are_one_second() -> None:
    events = market(20) + printing(range(20), BINANCE, 0.01, seconds=(5, 5, 5, 9))
    assert facts_after(events, 20).venue_saturation[BINANCE] == pytest.approx(2 / 60)


def test_venues_without_such_a_cap_have_no_saturation() -> None:
    events = market(30) + printing(range(30), BYBIT, 0.01, range(60)) + printing(range(30), OKX, 0.01, range(60))
    facts = facts_after(events, 30)
    assert math.isnan(facts.venue_saturation[BYBIT]) and math.isnan(facts.venue_saturation[OKX])


def test_saturation_needs_some_active_minutes_outside_gaps() -> None:
    few = int(LEAST_ACTIVE_MIN) - 1
    assert math.isnan(facts_after(market(20) + printing(range(few), BINANCE, 1.0), 20).venue_saturation[BINANCE])
    gone = [gap(1, Topic.LIQUIDATION, 0), gap(300, Topic.LIQUIDATION, 0, 300)]
    events = market(20) + printing(range(20), BINANCE, 1.0, (7,)) + printing(range(5), BINANCE, 1.0, range(60))
    assert facts_after(events + gone, 20).venue_saturation[BINANCE] == pytest.approx(1 / 60)


# -- the window -------------------------------------------------------------------------------------------------------


def seen(minute: int, venue: Venue, usd: float) -> Liquidation:
    """One liquidation of that many dollars."""
    return Liquidation(minute, 60_000 * minute + 1000, 0, venue, LONG, 1.0, math.nan, 1.0, usd, usd)


def test_what_was_seen_a_half_life_ago_counts_half() -> None:
    levels = Levels(3.0, (math.nan, 1.0, 1.0, 1.0), (-1, 0, 0, 0), (0, 0, 0, 0))
    kept = Completeness()
    minute = 0
    for stretch, binance_usd in enumerate((100.0, 50.0)):
        for number in range(200):
            minute += 1
            elapsed = HALF_LIFE_MIN if stretch and number == 0 else 1
            prints = [seen(minute, BINANCE, binance_usd), seen(minute, BYBIT, 100.0)]
            kept.close(60_000 * minute, elapsed, prints, levels, 0)
    half = 0.5 * 0.5 ** (198 / HALF_LIFE_MIN)
    expected = (half * 1.0 + 0.5) / (half + 1.0)
    assert kept.facts()["venue_completeness"][BINANCE] == pytest.approx(expected, rel=0.03)


def test_time_alone_makes_it_unknown_again() -> None:
    levels = Levels(2.0, (math.nan, 1.0, 1.0, math.nan), (-1, 0, 0, -1), (0, 0, 0, 0))
    kept = Completeness()
    for minute in range(1, 40):
        kept.close(60_000 * minute, 1, [seen(minute, BINANCE, 1.0)], levels, 0)
    assert kept.facts()["venue_saturation"][BINANCE] == pytest.approx(1 / 60)
    for minute in range(40, 40 + 2 * PENDING):
        kept.close(60_000 * minute, HALF_LIFE_MIN, [], levels, 0)
    assert math.isnan(kept.facts()["venue_saturation"][BINANCE])

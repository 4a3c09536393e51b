"""The calibration in an engine: who is blamed for a liquidation, every verdict, and what none but CLEAR may do."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.domain.enums import Divisor, PositionSide, Topic, Venue, Verdict
from liqmap.domain.event import Event
from liqmap.engine.bars import MinuteBar, MinuteTape, OpenInterestStep
from liqmap.engine.engine import Engine
from liqmap.engine.judgement import entropy_of
from liqmap.engine.learned import GuardRails
from liqmap.engine.spec import EngineSpec
from tests.events import events_array
from tests.unit.calibration_tape import (
    BASE,
    SPEC,
    Prints,
    at_risk_base,
    deaf,
    honest,
    learned,
    market,
    price_at,
    printed,
)
from tests.unit.engine_tape import FLOW, START_S, digest, gap, level, liquidated, mark, stream, tick
from tests.unit.inventory_tape import PRICE, inventory_of, played, whole_base

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT

BAR = MinuteBar(
    0,
    60_000.0,
    60_000.0,
    60_000.0,
    60_000.0,
    math.nan,
    math.nan,
    OpenInterestStep(math.nan, math.nan, (), math.nan, False),
)
"""Any minute that was heard, not made from a bar."""


def twice(minute: int, side: PositionSide, price: float, lost: float) -> list[Event]:
    """The same print once more."""
    return 2 * honest(0.5)(minute, side, price, lost)


def of_the_other_side(minute: int, side: PositionSide, price: float, lost: float) -> list[Event]:
    """Longs and shorts are swapped: where price falls, no short stands."""
    return honest()(minute, SHORT if side is LONG else LONG, price, lost)


def by_two_until(last: int) -> Prints:
    """Two venues print a half each until this minute; then one prints everything."""

    def prints(minute: int, side: PositionSide, price: float, lost: float) -> list[Event]:
        both = (Venue.BYBIT, Venue.BINANCE) if minute < last else (Venue.BYBIT,)
        return [liquidated(60 * minute + 31, side, price, lost / len(both), venue) for venue in both]

    return prints


def dips(minutes: int) -> list[Event]:
    """Each minute dips a little lower than any before, prints longs there, and closes above its open; the mark is too
    old when a minute turns to be the next one's open."""
    events: list[Event] = []
    for minute in range(minutes):
        start, low = 60 * minute, PRICE * (1 - 0.0012 * minute)
        events += [mark(start + 15, low * 1.002), mark(start + 30, low), mark(start + 40, low * 1.003)]
        events += [level(start + 10, BASE), level(start + 40, BASE), liquidated(start + 30.5, LONG, low, 3.0)]
    return events


DECIDED = np.tile([0.334, 0.333, 0.331, 0.001, 0.001], (2, 1))
"""Weights below the largest allowed one, and with too little entropy."""
NEAREST = replace(SPEC, weights=(0.16, 0.16, 0.17, 0.17, 0.34))
"""Most is in the tier that is hit first."""


def run(
    events: list[Event], minutes: int, spec: EngineSpec = SPEC, weights: np.ndarray | None = None
) -> tuple[Engine, Engine]:
    """The engine, and one that has seen the same and learns nothing."""
    engines = Engine(spec), deaf([], 0, spec)
    for engine in engines:
        if weights is not None:
            engine.weights = weights.copy()
        array = stream(events, 60.0 * minutes + 2.25)
        engine.apply(array)
    return engines


@cache
def world(verdict: Verdict) -> tuple[Engine, Engine]:
    """An engine whose newest window has that verdict, and one that saw the same and learned nothing."""
    match verdict:
        case Verdict.CLEAR:
            return run(printed(121, honest()), 121)
        case Verdict.TOO_LITTLE:
            still = [event for event in market(241, 0.0) if event.kind]
            return run(still, 241)
        case Verdict.REPEATS:
            return run(printed(121, twice), 121)
        case Verdict.UNATTRIBUTED:
            return run(printed(121, of_the_other_side), 121)
        case Verdict.AGAINST_PRICE:
            return run(dips(121), 121)
        case Verdict.LEVEL:
            return run(printed(121, honest(8.0)), 121)
        case Verdict.LARGEST:
            lost = printed(121, honest(4.0), 0.0002, NEAREST)
            return run(lost, 121, NEAREST)
        case Verdict.ENTROPY:
            decided = replace(SPEC, weights=tuple(DECIDED[0].tolist()))
            return run(printed(121, honest(), spec=decided), 121, SPEC, DECIDED)
        case _:
            raise AssertionError(verdict)


ONE_WINDOW = [verdict for verdict in Verdict if verdict is not Verdict.VENUE_MISSING]


@pytest.mark.finding("M11")
@pytest.mark.parametrize("verdict", ONE_WINDOW)
def test_every_verdict_is_reached(verdict: Verdict) -> None:
    engine, _ = world(verdict)
    assert [judged.verdict for judged in engine.calibration.judged] == [verdict]
    assert engine.calibration.applied == (verdict is Verdict.CLEAR)


@pytest.mark.finding("M8")
@pytest.mark.finding("L11")
@pytest.mark.parametrize("verdict", ONE_WINDOW)
def test_only_a_clear_window_moves_a_bit_of_the_weights_or_the_book(verdict: Verdict) -> None:
    engine, learns_nothing = world(verdict)
    same = engine.weights.tobytes() == learns_nothing.weights.tobytes()
    book = inventory_of(engine).base.tobytes() == inventory_of(learns_nothing).base.tobytes()
    unknown = inventory_of(engine).unknown_base.tobytes() == inventory_of(learns_nothing).unknown_base.tobytes()
    assert (same, book) == ((False, False) if verdict is Verdict.CLEAR else (True, True))
    assert unknown or verdict is Verdict.CLEAR
    assert (engine.calibration.judged[-1].furthest == 1.0) == (verdict is not Verdict.CLEAR)


@pytest.mark.finding("M11")
def test_a_venue_that_falls_silent_stops_the_window_and_is_usual_after_a_while() -> None:
    engine, _ = learned(1100, by_two_until(237))
    verdicts = [judged.verdict for judged in engine.calibration.judged]
    assert verdicts[:2] == [Verdict.CLEAR, Verdict.CLEAR] and verdicts[2] is Verdict.VENUE_MISSING
    assert verdicts[-1] is Verdict.CLEAR, "a venue that is gone for good does not stop the learning for good"
    before = engine.calibration.judged[1]
    assert verdicts.index(Verdict.CLEAR, 3) > 3 and before.furthest != 1.0


@pytest.mark.finding("M8")
@pytest.mark.finding("L11")
def test_the_number_that_is_checked_is_the_number_that_is_shown_and_of_the_present_weights() -> None:
    clear, _ = world(Verdict.CLEAR)
    shown = clear.calibration.judged[-1]
    assert shown.largest == clear.weights.max()
    assert shown.entropy == min(entropy_of(side) for side in clear.weights)
    for verdict, number in ((Verdict.LARGEST, "largest"), (Verdict.ENTROPY, "entropy"), (Verdict.LEVEL, "level")):
        engine, _ = world(verdict)
        shown, rails = engine.calibration.judged[-1], GuardRails.of(engine.calibration)
        broken = {
            "largest": shown.largest > rails.largest_weight,
            "entropy": shown.entropy < rails.least_entropy,
            "level": not rails.level_low <= shown.level <= rails.level_high,
        }
        assert [name for name, is_broken in broken.items() if is_broken] == [number]


@pytest.mark.finding("M11")
def test_what_a_corrupt_window_saw_is_not_carried_over() -> None:
    for verdict in ONE_WINDOW:
        calibration = world(verdict)[0].calibration
        if verdict.is_of_the_stream:
            one_minute = 0.02 * BASE
            assert calibration.expected_base.sum() < one_minute and calibration.observed_base.sum() < 8 * one_minute


# -- what is learned, and where it goes -------------------------------------------------------------------------------


@pytest.mark.finding("X11")
def test_learned_weights_are_in_the_next_frame_and_in_the_next_minutes_openings() -> None:
    engine, learns_nothing = world(Verdict.CLEAR)
    live = engine.live()
    assert live is not None and live.weights.tobytes() == engine.weights.tobytes()
    assert engine.weights.tobytes() != np.tile(np.array(SPEC.weights), (2, 1)).tobytes()
    end = 121 * 60
    array = stream(printed(120, honest()), 120 * 60 + 2.25)
    fresh = Engine(SPEC)
    fresh.apply(array)
    before = fresh.live()
    weights = fresh.weights.copy()
    fresh.apply(
        events_array(
            [mark(end - 40, PRICE), level(end - 39, BASE + 1), level(end - 20, BASE + 2), tick(end + 2.25)], 10**6
        )
    )
    after = fresh.live()
    assert before is not None and after is not None and before.weights.tobytes() == weights.tobytes()
    grown = (after.projection_usd[FLOW] - 0.995 * before.projection_usd[FLOW]).sum(axis=2)
    assert grown[0] == pytest.approx(weights[0] * grown[0].sum(), rel=1e-3)
    assert learns_nothing.weights.tobytes() != weights.tobytes()


@pytest.mark.finding("X7")
def test_the_book_and_not_the_distance_from_the_price_says_who_was_liquidated() -> None:
    """Only 10x was ever opened, at 60,000. Price is 9.5 % lower now; what is printed there is within half a percent of
    it, as 100x would be, and is 10x all the same."""
    ten = replace(SPEC, weights=(0.0, 1.0, 0.0, 0.0, 0.0), turnover_per_minute=0.0)
    events = [mark(60 * m + s, PRICE) for m in range(3) for s in (6, 30, 50)]
    events += [level(60 * m + s, BASE + 2 * m, Venue.BINANCE) for m in range(3) for s in (10, 40)]
    for minute in range(3, 9):
        now = PRICE * (0.905 - 0.002 * (minute - 3))
        start = 60 * minute
        events += [mark(start + 6, now + 100), mark(start + 30, now), mark(start + 50, now)]
        events += [level(start + 10, BASE + 4), level(start + 40, BASE + 4), liquidated(start + 31, LONG, now, 1.0)]
    engine, _ = played(events, 9, ten)
    observed = engine.calibration.observed_base
    assert observed[0, 1] > 0 and observed[0].sum() == observed[0, 1] and not observed[1].any()
    assert engine.calibration.expected_base[0].sum() == engine.calibration.expected_base[0, 1] > 0


@pytest.mark.finding("X7")
def test_responsibilities_are_shares_of_what_stood_within_three_cells() -> None:
    engine, _ = played(market(20), 20, SPEC)
    inventory, window = inventory_of(engine), engine.window
    assert window is not None
    prices = window.prices()
    stands = inventory.base[0]
    trigger = price_at(20) - 200.0
    near = np.abs(prices - trigger) < 3.5 * 20
    assert near.sum() in (6, 7)
    at_trigger = [
        liquidation
        for frame in played([*market(20), liquidated(60 * 20 - 9.9, LONG, trigger, 5.0)], 20, SPEC)[1]
        for liquidation in frame.liquidations
    ][-1:]
    moved = [
        replace(each, trigger_price=float(prices[near][len(prices[near]) // 2]), qty_base=5.0) for each in at_trigger
    ]
    engine.calibration.observe(inventory, window, BAR, MinuteTape(0, liquidations=moved))
    middle = int(np.flatnonzero(near)[near.sum() // 2])
    held = stands[:, middle - 3 : middle + 4].sum(axis=1)
    assert engine.calibration._waiting[-1].observed_base[0] == pytest.approx(5.0 * held / held.sum(), rel=1e-9)


def test_the_level_and_not_only_the_shape_moves_tiers_that_price_reached_against_those_it_did_not() -> None:
    """Half of what the book said is printed: the near tiers were too heavy; far ones, never reached, gain by it."""
    engine, _ = learned(121, honest(0.5))
    ratio = engine.weights[0] / np.array(SPEC.weights)
    assert ratio[0] == pytest.approx(ratio[1]) and ratio[0] > 1 > ratio[4]
    assert engine.calibration.divided_by is Divisor.ANCHORED


def test_a_realisation_of_a_few_percent_that_nobody_configured_is_found_and_learning_goes_on() -> None:
    floating = replace(SPEC, realisation=0.0)
    engine, _ = learned(400, honest(0.04), spec=floating)
    calibration = engine.calibration
    assert {judged.verdict for judged in calibration.judged} == {Verdict.CLEAR}
    assert calibration.judged[0].level == pytest.approx(1.0), "the first window is divided by its own level"
    assert calibration.divided_by is Divisor.LONG_RUN and calibration.realisation == pytest.approx(0.04, rel=0.1)


def test_a_realisation_that_was_wrong_from_the_start_is_left_after_some_windows() -> None:
    floating = replace(SPEC, realisation=0.0)

    def prints(minute: int, side: PositionSide, price: float, lost: float) -> list[Event]:
        return honest(0.02 if minute < 121 else 0.8)(minute, side, price, lost)

    engine, _ = learned(1300, prints, spec=floating)
    verdicts = [judged.verdict for judged in engine.calibration.judged]
    assert verdicts[1] is Verdict.LEVEL and verdicts[-1] is Verdict.CLEAR
    assert Verdict.LEVEL not in verdicts[verdicts.index(Verdict.CLEAR, 1) :]


# -- gaps and holes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "away",
    [
        gap(1, Topic.LIQUIDATION, 0, 60 * 60, venue=Venue.OKX),
        gap(1, Topic.LIQUIDATION, 0, venue=Venue.BINANCE),
        gap(1, Topic.LIQUIDATION, 0, venue=Venue.UNKNOWN)._replace(topic=0),
    ],
    ids=["closed", "open", "lost events"],
)
def test_a_minute_with_a_gap_counts_neither_as_observed_nor_as_expected(away: Event) -> None:
    engine, frames = played([away, *printed(50, honest())], 50, SPEC)
    assert sum(sum(frame.minute_at_risk_usd) for frame in frames) > 0
    assert not engine.calibration.observed_base.any() and not engine.calibration.expected_base.any()
    assert engine.calibration.minutes == 0


def test_gaps_of_other_topics_do_not_matter_and_one_minute_costs_one_minute() -> None:
    plain, _ = played(printed(50, honest()), 50, SPEC)
    other, _ = played([gap(1, Topic.TRADE, 0, venue=Venue.OKX), *printed(50, honest())], 50, SPEC)
    assert other.calibration.observed_base.tobytes() == plain.calibration.observed_base.tobytes()
    one = gap(60 * 20 + 40, Topic.LIQUIDATION, 60 * 20 + 15, 60 * 20 + 35)
    missed, _ = played([one, *printed(50, honest())], 50, SPEC)
    assert plain.calibration.minutes - missed.calibration.minutes == 1
    lost = sum(at_risk_base(50, 0.001, SPEC)[20])
    gone = plain.calibration.expected_base.sum() - missed.calibration.expected_base.sum()
    assert gone == pytest.approx(lost, rel=1e-3)
    assert plain.calibration.observed_base.sum() - missed.calibration.observed_base.sum() == pytest.approx(lost)


@pytest.mark.parametrize("told_after_s", [0.5, 15.0, 100.0])
def test_a_gap_that_is_told_after_its_minute_closed_still_takes_it_out(told_after_s: float) -> None:
    plain, _ = played(printed(50, honest()), 50, SPEC)
    told = gap(60 * 21 + 2.5 + told_after_s, Topic.LIQUIDATION, 60 * 20 + 50, 60 * 20 + 59)
    missed, frames = played([told, *printed(50, honest())], 50, SPEC)
    assert plain.calibration.minutes - missed.calibration.minutes == 1
    gone = plain.calibration.expected_base.sum() - missed.calibration.expected_base.sum()
    assert gone == pytest.approx(sum(at_risk_base(50, 0.001, SPEC)[20]), rel=1e-3)
    assert [frame.gap_topics for frame in frames].count(0) == 50, "frames say what was known when they were made"


def test_the_minute_after_a_hole_counts_for_nothing_and_time_passes_all_the_same() -> None:
    events = printed(50, honest())
    hole = [event for event in events if not 20 <= (event.receive_ns // 10**9 - START_S) // 60 < 23]
    whole, _ = played(events, 50, SPEC)
    holed, _ = played(hole, 50, SPEC)
    assert whole.calibration.minutes - holed.calibration.minutes >= 2
    assert whole.calibration.window_min == holed.calibration.window_min == 50
    assert holed.calibration.expected_base.sum() < whole.calibration.expected_base.sum()


def test_before_a_level_is_known_nothing_is_learned() -> None:
    events = [event for event in printed(30, honest()) if event.topic != Topic.OPEN_INTEREST]
    engine, _ = played(events, 30, SPEC)
    assert engine.calibration.minutes == 0 and not engine.calibration.expected_base.any()


# -- determinism ------------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_cutting_the_stream_anywhere_changes_no_bit_of_what_is_learned(cuts: list[float]) -> None:
    whole, array, frames = _played_whole()
    engine, seen = Engine(SPEC), []
    for part in np.split(array, sorted(int(cut * len(array)) for cut in cuts)):
        seen += engine.apply(part)
    assert engine.weights.tobytes() == whole.weights.tobytes()
    assert engine.calibration.observed_base.tobytes() == whole.calibration.observed_base.tobytes()
    assert engine.calibration.expected_base.tobytes() == whole.calibration.expected_base.tobytes()
    assert repr(engine.calibration.judged) == repr(whole.calibration.judged)
    assert digest(seen) == frames


@cache
def _played_whole() -> tuple[Engine, np.ndarray, str]:
    array = stream(printed(125, honest(1.3)), 125 * 60 + 2.25)
    engine = Engine(SPEC)
    frames = engine.apply(array)
    assert engine.calibration.applied == 1
    return engine, array, digest(frames)


def test_learning_keeps_the_invariant() -> None:
    engine, frames = learned(260, honest(1.5))
    assert engine.calibration.applied == 2
    assert whole_base(engine) == pytest.approx([BASE, BASE], rel=1e-9)
    assert not math.isnan(frames[-1].facts.realisation)

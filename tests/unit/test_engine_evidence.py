"""Evidence: every observed dollar stands at the price where the mark was, and only time takes it away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import PositionSide
from liqmap.engine.engine import Engine
from liqmap.engine.evidence import trigger_price
from tests.events import events_array
from tests.unit.engine_tape import BTC, FLOW, at, liquidated, mark, prices_of, quiet, run, stream, tick, trade

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT


def test_the_maintenance_margin_is_taken_out_of_the_printed_price() -> None:
    assert trigger_price(99.6, LONG, 0.004, None) == pytest.approx(100.0)
    assert trigger_price(100.4, SHORT, 0.004, None) == pytest.approx(100.0)


@given(
    printed=st.floats(1.0, 1e6),
    side=st.sampled_from([LONG, SHORT]),
    low=st.floats(1.0, 1e6),
    width=st.floats(0.0, 1e3),
)
def test_the_clamp_has_the_last_word(printed: float, side: PositionSide, low: float, width: float) -> None:
    assert low <= trigger_price(printed, side, 0.004, (low, low + width)) <= low + width


def test_a_trigger_lies_within_the_marks_of_its_seconds() -> None:
    marks = [mark(second, 60_000.0 - 10 * second) for second in range(60)]
    event = liquidated(30.4, LONG, 55_000.0)
    engine, _ = run([*marks, event], until_s=40)
    (seen,) = engine.drain_liquidations()
    assert 60_000.0 - 320 <= seen.trigger_price <= 60_000.0 - 280
    assert seen.printed_price == 55_000.0
    assert seen.notional_usd == seen.trigger_price
    assert (seen.ts_ms, seen.side) == (at(30.4) // 10**6, LONG)


@pytest.mark.parametrize(("side", "printed", "expected"), [(LONG, 59_600.0, 59_720.0), (SHORT, 59_600.0, 59_700.0)])
def test_the_seconds_of_an_event_reach_two_back_and_no_further(side: int, printed: float, expected: float) -> None:
    """Marks fall by 10 a second: 59,720 two seconds before, 59,700 now. The estimates lie above and below both."""
    marks = [mark(second, 60_000.0 - 10 * second) for second in range(31)]
    engine, _ = run([*marks, liquidated(30.4, PositionSide(side), printed)], until_s=40)
    assert engine.drain_liquidations()[0].trigger_price == expected


def test_without_any_price_the_estimate_stands() -> None:
    engine, frames = run([liquidated(5, SHORT, 60_300.0)], until_s=62)
    (seen,) = engine.drain_liquidations()
    assert seen.trigger_price == pytest.approx(60_300.0 / (1 + BTC.trigger_mmr))
    assert frames[0].evidence_usd[1].sum() == pytest.approx(seen.notional_usd), "the map is laid around it"


def test_a_fill_price_stands_in_for_a_printed_one_that_is_missing() -> None:
    event = liquidated(5, LONG, float("nan"))._replace(extra=59_900.0)
    engine, _ = run([event], until_s=10)
    assert engine.drain_liquidations()[0].trigger_price == 59_900.0


def test_prices_made_from_bars_bound_a_trigger_by_their_minute() -> None:
    path = [(0, 60_000.0), (15, 59_000.0), (30, 60_500.0), (45, 60_200.0)]
    bars = [mark(second, price)._replace(flags=1) for second, price in path]
    engine, _ = run([*bars, liquidated(40, LONG, 58_900.0)], until_s=50)
    assert engine.drain_liquidations()[0].trigger_price == pytest.approx(58_900 / (1 - BTC.trigger_mmr))


def test_dollars_stand_in_their_bucket_on_their_side() -> None:
    events = [*quiet(2), liquidated(20, LONG, 59_700.0, 2.0), liquidated(21, SHORT, 60_400.0, 3.0)]
    _, frames = run(events, until_s=62)
    frame = frames[0]
    long, short = frame.evidence_usd
    prices = prices_of(frame)
    assert prices[np.flatnonzero(long)].tolist() == [60_000.0]
    assert (long.sum(), short.sum()) == (120_000.0, 180_000.0)
    assert (frame.minute_long_usd, frame.minute_short_usd) == (120_000.0, 180_000.0)
    assert (frame.facts.liquidated_long_usd, frame.facts.liquidated_short_usd) == (120_000.0, 180_000.0)
    assert [event.side for event in frame.liquidations] == [LONG, SHORT]


def test_evidence_halves_in_138_minutes_and_nothing_else_removes_it() -> None:
    path = [*range(60_000, 50_000, -2_000), *range(50_000, 70_000, 2_000), *range(70_000, 60_000, -2_000)]
    sweep = [mark(95.1 + i / 10, float(price)) for i, price in enumerate(path)]
    _, frames = run([*quiet(142), liquidated(20, LONG, 59_700.0), *sweep], until_s=142 * 60)
    start = float(frames[0].evidence_usd.sum())
    for minute in (1, 10, 138):
        assert frames[minute].evidence_usd.sum() == pytest.approx(start * 0.995**minute, rel=1e-6)
    assert frames[138].evidence_usd.sum() == pytest.approx(start / 2, rel=0.005)


@given(cut=st.integers(1, 99))
def test_decay_composes(cut: int) -> None:
    assert BTC.decay(cut) * BTC.decay(100 - cut) == pytest.approx(BTC.decay(100), rel=1e-10)


def test_an_old_event_that_comes_late_brings_what_time_has_left_of_it() -> None:
    late = liquidated(130, LONG, 59_700.0)._replace(venue_ms=at(130 - 7200) // 10**6)
    _, frames = run([*quiet(3), late], until_s=185)
    expected = 59_700.0 / (1 - BTC.trigger_mmr) * 0.995**120
    assert frames[2].evidence_usd.sum() == pytest.approx(expected, rel=1e-5)
    assert frames[2].liquidations[0].ts_ms == at(130 - 7200) // 10**6


@pytest.mark.parametrize(("millisecond", "minutes"), [(0, 0), (59_999, 0), (-1, 1), (-60_000, 1), (-60_001, 2)])
def test_a_minute_that_an_event_belongs_to_takes_nothing_of_it(millisecond: int, minutes: int) -> None:
    """Time 0 is the first instant of the minute in which it is taken, 120 s into the test."""
    event = liquidated(170, LONG, 59_700.0)._replace(venue_ms=at(120) // 10**6 + millisecond)
    _, frames = run([*quiet(3), event], until_s=185)
    notional = frames[2].liquidations[0].notional_usd
    assert frames[2].evidence_usd.sum() == pytest.approx(notional * 0.995**minutes, rel=1e-6)


def test_what_lies_outside_the_window_is_kept_at_its_end() -> None:
    far = liquidated(90, LONG, 10_000.0)._replace(venue_ms=at(-86_400) // 10**6)
    _, frames = run([*quiet(3), far], until_s=185)
    facts = frames[1].facts
    assert facts.evidence_outside_usd[0][0] > 0
    assert facts.evidence_outside_usd[0][1] == facts.evidence_outside_usd[1][0] == 0.0
    assert frames[1].evidence_usd.sum() == 0


def test_the_window_follows_price_and_no_dollar_vanishes() -> None:
    events = [liquidated(6, LONG, 59_700.0, 2.0), liquidated(6, SHORT, 60_400.0, 1.0)]
    steps = [60_000.0 * 1.04**i for i in range(40)]
    events += [mark(60 * i + 5, price) for i, price in enumerate(steps)]
    _, frames = run(events, until_s=40 * 60 + 5)
    moves = 0
    for minute, frame in enumerate(frames):
        facts = frame.facts
        moves += minute > 0 and facts.first_bucket != frames[minute - 1].facts.first_bucket
        total = float(frame.evidence_usd.sum()) + sum(below for below, _ in facts.evidence_outside_usd)
        assert total == pytest.approx(180_000.0 * 0.995**minute, rel=1e-5)
        prices = prices_of(frame)
        assert prices[0] < frame.close < prices[-1]
    assert moves > 5
    assert frames[-1].evidence_usd.sum() == 0, "all of it has fallen off the lower edge by now"


def test_the_live_map_shows_the_liquidations_of_the_open_minute_at_once() -> None:
    engine = Engine(BTC)
    engine.apply(stream(quiet(2), until_s=125))
    engine.apply(events_array([mark(126, 60_000.0), liquidated(127, LONG, 59_700.0, 2.0)], first_sequence=5000))
    live = engine.live()
    assert live is not None
    assert live.evidence_usd[0].sum() == 120_000.0
    assert live.facts.liquidations == 1
    (seen,) = engine.drain_liquidations()
    assert seen.id == 5001
    assert engine.drain_liquidations() == []


def test_a_live_map_exists_before_the_first_minute_closes() -> None:
    engine = Engine(BTC)
    engine.apply(events_array([tick(0)]))
    empty = engine.live()
    assert empty is not None
    assert (empty.facts.buckets, empty.facts.minute_ms) == (0, -1)
    engine.apply(events_array([trade(0.1, 60_000.0), tick(0.25)]))
    laid = engine.live()
    assert laid is not None
    assert laid.facts.buckets > 3000
    assert laid.projection_usd.shape == (2, 2, 5, laid.facts.buckets)
    assert laid.facts.projection_known[FLOW] == 0

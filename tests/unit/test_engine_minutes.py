"""Minutes are made of event time: closed by ticks, filled by what was said of them, never by a wall clock."""

import math

import pytest

from liqmap.domain.enums import PositionSide, PriceSource, TakerSide, Topic, Venue
from liqmap.domain.event import FLAG_FROM_BAR, Event
from liqmap.engine.engine import HOLE_MINUTES, Engine
from tests.events import events_array
from tests.unit.engine_tape import (
    BTC,
    FLOW,
    START_S,
    at,
    gap,
    level,
    liquidated,
    mark,
    mid,
    quiet,
    run,
    stream,
    tick,
    trade,
)

LONG = PositionSide.LONG


@pytest.mark.finding("X16")
def test_a_quiet_feed_still_rolls() -> None:
    _, frames = run([mark(0, 60_000.0)], until_s=310)
    assert [frame.facts.minute_ms for frame in frames] == [(START_S + 60 * minute) * 1000 for minute in range(5)]
    assert math.isnan(frames[-1].close), "nobody spoke: no price is made up"


@pytest.mark.finding("X16")
def test_a_minute_closes_at_the_first_tick_two_seconds_after_its_end() -> None:
    engine = Engine(BTC)
    assert engine.apply(stream([mark(1, 60_000.0)], until_s=61.75)) == []
    assert engine.apply(events_array([mark(65, 60_000.0)])) == [], "an event does not close a minute"
    assert len(engine.apply(events_array([tick(65)]))) == 1


@pytest.mark.finding("X16")
def test_events_count_by_their_own_time_and_late_ones_into_the_open_minute() -> None:
    before_close = trade(59.5, 60_000.0, 1.0)._replace(receive_ns=at(61))
    of_the_next = trade(60.5, 60_000.0, 10.0)
    late = trade(59.0, 60_000.0, 100.0)._replace(receive_ns=at(63))
    _, frames = run([mark(0, 60_000.0), before_close, of_the_next, late], until_s=130)
    assert [frame.taker_buy_base for frame in frames] == [1.0, 110.0]


def test_a_venue_clock_that_is_far_off_is_not_believed() -> None:
    far_ahead = trade(30, 60_000.0, 1.0)._replace(venue_ms=at(3000) // 10**6)
    far_behind = trade(90, 60_000.0, 10.0)._replace(venue_ms=at(-3000) // 10**6)
    _, frames = run([mark(0, 60_000.0), far_ahead, far_behind], until_s=130)
    assert [frame.taker_buy_base for frame in frames] == [1.0, 10.0]


@pytest.mark.finding("X3")
def test_one_bar_carries_prices_volumes_and_open_interest_of_the_same_minute() -> None:
    events = quiet(4)
    events += [trade(60 + 20, 60_100.0, 3.0, TakerSide.BUY), trade(60 + 40, 59_900.0, 1.0, TakerSide.SELL)]
    events += [level(60 + 45, 79_007.0), level(60 + 55, 79_009.0), level(121.5, 79_000.0), level(150.5, 79_000.0)]
    _, frames = run(events, until_s=245)
    first, second, third, *_ = frames
    assert (second.taker_buy_base, second.taker_sell_base) == (3.0, 1.0)
    assert second.facts.open_interest_change_base == 9.0
    assert first.taker_buy_base != 3.0
    assert third.taker_buy_base == 0.0
    assert third.facts.open_interest_change_base == pytest.approx(-9.0)


def test_bars_have_the_open_high_low_and_close_of_the_mark() -> None:
    path = [60_000.0, 60_050.0, 59_900.0, 60_010.0]
    _, frames = run([mark(10 * i, price) for i, price in enumerate(path)], until_s=62)
    bar = frames[0]
    assert (bar.open, bar.high, bar.low, bar.close) == (60_000.0, 60_050.0, 59_900.0, 60_010.0)


@pytest.mark.finding("C1")
def test_without_marks_the_mid_stands_in_and_without_mids_the_last_trade() -> None:
    events = [mark(second, 60_000.0) for second in range(60)]
    events += [mid(second, 60_100.0) for second in range(240)]
    events += [trade(second, 60_200.0) for second in range(400)]
    engine, frames = run(events, until_s=400)
    assert [frame.close for frame in frames] == [60_000.0, 60_100.0, 60_100.0, 60_100.0, 60_200.0, 60_200.0]
    sources = [frame.facts.mark_source for frame in frames]
    assert sources[1] == PriceSource.MID
    assert sources[5] == PriceSource.LAST_TRADE
    live = engine.live()
    assert live is not None
    assert (live.facts.mark_price, live.facts.mark_source) == (60_200.0, PriceSource.LAST_TRADE)


@pytest.mark.finding("C1")
def test_a_symbol_with_every_feed_dead_still_closes_its_minutes_and_keeps_its_map() -> None:
    alive = quiet(5, change_base=20.0)
    engine, frames = run(alive, until_s=900)
    assert len(frames) == 14
    before, after = frames[4], frames[-1]
    assert before.projection_usd[FLOW].sum() > 0
    kept = 0.995 ** (len(frames) - 5)
    assert after.projection_usd[FLOW].sum() == pytest.approx(kept * before.projection_usd[FLOW].sum(), rel=1e-5)
    live = engine.live()
    assert live is not None
    assert live.facts.mark_as_of_ns == at(295), "the price says how old it is"


@pytest.mark.finding("M15")
def test_while_nobody_speaks_the_map_stays_as_of_the_last_word_so_that_readers_see_it_grow_stale() -> None:
    spoken = [mark(second, 60_000.0) for second in range(100)]
    engine, _ = run(spoken, until_s=400)
    live = engine.live()
    assert live is not None
    assert engine.engine_ns == at(400)
    assert live.facts.as_of_ns == at(99)


def test_a_market_that_never_spoke_is_as_of_no_time_at_all() -> None:
    engine, _ = run([], until_s=100)
    live = engine.live()
    assert live is not None
    assert live.facts.as_of_ns == -1


def test_a_print_made_from_a_minute_bar_speaks_for_the_whole_of_its_minute() -> None:
    engine, _ = run([mark(125, 60_000.0)._replace(flags=FLAG_FROM_BAR)], until_s=150)
    live = engine.live()
    assert live is not None
    assert live.facts.as_of_ns == at(150)
    engine, _ = run([mark(125, 60_000.0)._replace(flags=FLAG_FROM_BAR)], until_s=250)
    live = engine.live()
    assert live is not None
    assert live.facts.as_of_ns == at(180)


def test_a_mark_that_dies_within_a_minute_hands_over_within_that_minute() -> None:
    events = [mark(second, 60_000.0) for second in range(20)] + [mid(second, 60_000.0) for second in range(60)]
    events.append(mid(50, 59_000.0))
    _, frames = run(events, until_s=62)
    assert frames[0].low == 59_000.0
    events = [mark(second, 60_000.0) for second in range(60)] + [mid(50, 59_000.0)]
    _, frames = run(events, until_s=62)
    assert frames[0].low == 60_000.0, "while marks come, mids do not count"


def test_gaps_set_the_bits_of_their_feeds_in_the_minutes_they_touch() -> None:
    trades_bit = 1 << (Venue.BINANCE * 16 + Topic.TRADE)
    marks_bit = 1 << (Venue.OKX * 16 + Topic.MARK_PRICE)
    events = quiet(5)
    events += [gap(70, Topic.TRADE, from_s=65), gap(190, Topic.TRADE, from_s=65, to_s=185)]
    events += [gap(130, Topic.MARK_PRICE, from_s=125, to_s=129, venue=Venue.OKX)]
    _, frames = run(events, until_s=305)
    assert [frame.gap_topics for frame in frames[:5]] == [0, trades_bit, trades_bit | marks_bit, trades_bit, 0]
    assert frames[-1].facts.gap_minutes == 3
    assert math.isnan(frames[1].taker_buy_base), "no trade came and the feed was missing: unknown, not zero"


def test_volumes_are_unknown_before_any_trade_and_zero_in_a_quiet_minute_after() -> None:
    _, frames = run([*quiet(3), trade(70, 60_000.0)], until_s=185)
    assert math.isnan(frames[0].taker_buy_base)
    assert [frame.taker_buy_base for frame in frames[1:]] == [1.0, 0.0]


def test_each_of_several_minutes_due_at_one_tick_waits_its_two_seconds() -> None:
    engine = Engine(BTC)
    engine.apply(events_array([mark(1, 60_000.0), tick(2), tick(61)]))
    assert [frame.facts.minute_ms for frame in engine.apply(events_array([tick(121)]))] == [START_S * 1000]
    assert len(engine.apply(events_array([tick(121.75)]))) == 0
    assert len(engine.apply(events_array([tick(122)]))) == 1


def test_a_gap_that_closed_after_the_minute_it_began_in_is_seen_in_both() -> None:
    """It is told in the two seconds in which the first minute waits for what is late."""
    bit = 1 << (Venue.BINANCE * 16 + Topic.TRADE)
    _, frames = run([*quiet(4), gap(121.5, Topic.TRADE, from_s=110, to_s=121)], until_s=245)
    assert [frame.gap_topics for frame in frames] == [0, bit, bit, 0]


def test_a_long_hole_is_not_framed_minute_by_minute_but_decays_by_its_whole_length() -> None:
    alive = [*quiet(3, change_base=20.0), liquidated(100, LONG, 59_700.0)]
    engine = Engine(BTC)
    frames = engine.apply(stream(alive, until_s=185))
    days = 3 * 24 * 60
    late = engine.apply(events_array([tick(60 * (3 + days) + 5)]))
    assert len(late) == HOLE_MINUTES
    assert late[-1].facts.minute_ms == (START_S + 60 * (2 + days)) * 1000
    expected = frames[-1].projection_usd[FLOW].sum() * 0.995**days
    assert late[-1].projection_usd[FLOW].sum() == pytest.approx(expected, rel=1e-4)
    assert frames[-1].evidence_usd.sum() > 0
    assert late[-1].evidence_usd.sum() == pytest.approx(frames[-1].evidence_usd.sum() * 0.995**days, rel=1e-4)


def test_a_minute_in_which_nobody_spoke_does_not_know_the_price_of_later() -> None:
    """Ingest was away: ten minutes close at the first tick of its return, when the new price has already come."""
    engine = Engine(BTC)
    frames = engine.apply(stream([mark(s, 60_000.0) for s in range(60)], until_s=62.5))
    frames += engine.apply(events_array([mark(665, 62_000.0), tick(665)], first_sequence=1000))
    assert [frame.facts.mark_price for frame in frames] == [60_000.0] * 11
    assert {frame.facts.mark_as_of_ns for frame in frames} == {at(59)}
    live = engine.live()
    assert live is not None
    assert live.facts.mark_price == 62_000.0


def test_a_bar_that_is_followed_by_a_liquidation_speaks_for_its_minute_in_every_batch() -> None:
    events = [mark(0, 60_000.0)._replace(flags=1), liquidated(1, LONG, 59_700.0)]
    whole, cut = Engine(BTC), Engine(BTC)
    whole.apply(events_array([*events, tick(30)]))
    for event in [*events, tick(30)]:
        cut.apply(events_array([event]))
    found = [live.facts.as_of_ns for engine in (whole, cut) if (live := engine.live())]
    assert found == [at(30), at(30)]


def test_engine_time_never_goes_back() -> None:
    engine = Engine(BTC)
    engine.apply(stream(quiet(2), until_s=130))
    engine.apply(events_array([tick(10), mark(11, 60_000.0)]))
    assert engine.engine_ns == at(130)


def test_the_first_event_is_the_birth_of_the_map() -> None:
    engine, frames = run([mark(30, 60_000.0)], until_s=63)
    assert engine.born_ns == at(0)
    assert frames[0].facts.born_ns == at(0)
    assert frames[0].facts.minutes == 1


@pytest.mark.parametrize("nonsense", [float("nan"), 0.0, -5.0, float("inf")])
def test_impossible_prices_and_quantities_are_left_alone(nonsense: float) -> None:
    events = [mark(0, 60_000.0), mark(1, nonsense), mid(1, nonsense), trade(2, nonsense), trade(3, 60_000.0, nonsense)]
    events += [liquidated(4, LONG, nonsense), liquidated(5, LONG, 59_700.0, nonsense), level(6, nonsense)]
    _, frames = run(events, until_s=62)
    assert (frames[0].low, frames[0].high) == (60_000.0, 60_000.0)
    assert frames[0].facts.liquidations == 0
    assert frames[0].evidence_usd.sum() == 0
    assert frames[0].facts.projection_known[FLOW] == 0


def test_events_of_unknown_kinds_are_counted_and_nothing_else() -> None:
    strange = Event(at(5), kind=200, price=1.0, quantity=1.0)
    _, frames = run([mark(0, 60_000.0), strange], until_s=62)
    assert frames[0].close == 60_000.0

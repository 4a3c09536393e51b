"""One absurd price moves nothing; a price that somebody agrees with does."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.event import FLAG_FROM_BAR, Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame
from tests.events import events_array
from tests.unit.engine_tape import BTC, at, digest, mark, mid, prices_of, quiet, run, stream, tick, trade

PRICE = 60_000.0
MARK_BIT = 1 << (Venue.OKX * 16 + Topic.MARK_PRICE)


def last_two(events: list[Event]) -> list[MinuteFrame]:
    """The minutes 3 and 4 of a map that was built in three, with `events` in minute 3."""
    _, frames = run([*quiet(5, change_base=20.0), *events], until_s=305)
    return frames[3:5]


@pytest.mark.parametrize("factor", [10.0, 0.1, 1.06, 0.94])
def test_one_absurd_mark_neither_sweeps_nor_moves_the_window_nor_enters_a_bar(factor: float) -> None:
    expected = last_two([])
    found = last_two([mark(200.5, factor * PRICE, Venue.OKX)])
    for frame, calm in zip(found, expected, strict=True):
        assert frame.projection_usd.tobytes() == calm.projection_usd.tobytes()
        assert frame.facts.first_bucket == calm.facts.first_bucket
        assert (frame.open, frame.high, frame.low, frame.close) == (PRICE, PRICE, PRICE, PRICE)
    assert [frame.gap_topics for frame in found] == [MARK_BIT, 0], "the frame says whose print was not used"


def test_at_the_end_of_a_minute_and_in_the_live_map_neither() -> None:
    engine = Engine(BTC)
    engine.apply(stream(quiet(4, change_base=20.0), until_s=239))
    calm = engine.live()
    engine.apply(events_array([mark(239.5, 10 * PRICE, Venue.OKX), tick(239.75)], first_sequence=10_000))
    live = engine.live()
    assert calm is not None
    assert live is not None
    assert live.facts.mark_price == PRICE
    assert live.projection_usd.tobytes() == calm.projection_usd.tobytes()
    assert engine.held_back == 1


def test_a_venue_that_repeats_itself_against_everybody_else_is_never_believed() -> None:
    wrong = [mark(190 + second + 0.5, 10 * PRICE, Venue.OKX) for second in range(100)]
    engine, frames = run([*quiet(6, change_base=20.0), *wrong], until_s=365)
    assert all(frame.high == PRICE for frame in frames)
    assert engine.held_back == 100


def test_a_lone_wrong_mark_feed_is_not_believed_against_trades() -> None:
    trades = [trade(60 + second / 2, PRICE) for second in range(300)]
    wrong = [mark(70 + second, 10 * PRICE) for second in range(120)]
    _, frames = run([*quiet(1), *trades, *wrong], until_s=190)
    assert all(frame.high == PRICE for frame in frames)
    assert frames[-1].close == PRICE


def test_two_venues_that_jump_are_believed_at_once() -> None:
    jump = [mark(185, 66_000.0, Venue.OKX), mark(185.2, 66_010.0, Venue.BYBIT), mark(186, 66_020.0, Venue.OKX)]
    frame = last_two(jump)[0]
    assert frame.high == 66_020.0


def test_a_normal_print_between_two_absurd_ones_parts_them() -> None:
    """Of two venues, within ten seconds: somebody near the old price spoke between them."""
    frame = last_two([mark(186, 66_000.0, Venue.OKX), mark(192, 66_010.0, Venue.BYBIT)])[0]
    assert frame.high == PRICE


def test_a_jump_that_the_trades_have_made_too_is_believed_at_once() -> None:
    events = [mark(0, PRICE), trade(1, PRICE), trade(20, 66_000.0), trade(22.5, 66_000.0), mark(23, 66_000.0)]
    _, frames = run(events, until_s=62)
    assert frames[0].high == 66_000.0


def test_after_an_outage_one_venue_is_believed_when_it_repeats_itself() -> None:
    """Nobody else speaks: two seconds decide."""
    back = [mark(1800 + second, 75_000.0) for second in (0.0, 1.0, 2.5, 3.5)]
    engine, frames = run([*quiet(2), *back], until_s=1865)
    assert (frames[30].open, frames[30].high) == (75_000.0, 75_000.0)
    assert engine.held_back == 2
    facts = frames[30].facts
    assert facts.first_bucket == BTC.window(75_000.0).first, "and the window has followed"


def test_repeats_within_an_instant_agree_with_nobody() -> None:
    _, frames = run([*quiet(1), *[mark(75.0, 10 * PRICE) for _ in range(5)]], until_s=125)
    assert frames[1].high != 10 * PRICE


def test_a_wrong_first_price_is_left_behind() -> None:
    events = [mark(0, 10 * PRICE), *[mark(1 + i / 4, PRICE, venue) for i in range(8) for venue in (1, 2)]]
    engine, frames = run([*events, *quiet(2, first_minute=1)], until_s=185)
    assert frames[-1].close == PRICE
    assert engine.window == BTC.window(PRICE)


def test_mids_and_trades_are_guarded_like_marks_and_quantities_still_count() -> None:
    events = [mid(0.0, PRICE), trade(1, PRICE), mid(5, 10 * PRICE), trade(6, 10 * PRICE, 3.0), mid(7, PRICE)]
    _, frames = run(events, until_s=62)
    assert frames[0].high == PRICE
    assert frames[0].taker_buy_base == 4.0
    assert frames[0].facts.last_price == PRICE


def test_the_extreme_of_a_recorded_bar_is_believed() -> None:
    path = [(0, PRICE), (15, 50_000.0), (30, 61_000.0), (45, PRICE)]
    _, frames = run([mark(second, price)._replace(flags=FLAG_FROM_BAR) for second, price in path], until_s=62)
    assert (frames[0].low, frames[0].high) == (50_000.0, 61_000.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 900), max_size=15))
def test_verdicts_do_not_depend_on_the_cuts(seed: int, cuts: list[int]) -> None:
    draw = np.random.default_rng(seed)
    events: list[Event] = []
    for second in range(150):
        factor = float(draw.choice([1.0, 1.04, 1.07, 10.0], p=[0.8, 0.08, 0.06, 0.06]))
        price, venue = factor * (PRICE + 50 * float(draw.normal())), int(draw.integers(1, 4))
        make: Callable[[float, float], Event] = (mark, mid, trade)[int(draw.integers(0, 3))]
        one = make(second + float(draw.random()), round(price, 1))
        events.append(one._replace(venue=venue, flags=int(draw.random() < 0.02)))
    tape = stream([*events, *quiet(1)], until_s=150)
    whole, cut = Engine(BTC), Engine(BTC)
    expected = whole.apply(tape)
    found = [f for part in np.split(tape, sorted(min(c, len(tape)) for c in cuts)) for f in cut.apply(part)]
    assert digest(found) == digest(expected)
    assert cut.held_back == whole.held_back
    assert repr(cut.live()) == repr(whole.live())


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_price_that_moves_in_small_steps_is_never_held_back(seed: int) -> None:
    draw = np.random.default_rng(seed)
    path = PRICE * np.exp(np.cumsum(draw.uniform(-0.045, 0.045, 120)))
    events = [mark(i, float(price), int(draw.integers(1, 4))) for i, price in enumerate(path)]
    engine, frames = run(events, until_s=122)
    assert engine.held_back == 0
    assert frames[0].high == pytest.approx(path[:60].max())
    assert prices_of(frames[0])[0] > 0
    assert engine.engine_ns == at(122)

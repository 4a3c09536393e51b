"""The inventory: every contract is somewhere, whatever happens; what closes, opens and is passed, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.domain.enums import Projection, Venue
from liqmap.domain.event import Event
from liqmap.engine.bars import MinuteBar, OpenInterestStep
from liqmap.engine.entries import EntryProfile
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.model import Minute
from liqmap.engine.smear import Placement
from tests.unit.engine_tape import BTC, INVENTORY, change, level, mark, prices_of, quiet, run, trade
from tests.unit.inventory_tape import (
    PRICE,
    inventory_of,
    lively,
    minute_by_minute,
    played,
    random_history,
    whole_base,
)

WEIGHTS = np.tile(np.array(BTC.weights), (2, 1))
NAN = math.nan


def still(minutes: int, price: float = PRICE, first: int = 0) -> list[Event]:
    """A mark that stands still."""
    return [mark(60 * minute + s, price) for minute in range(first, first + minutes) for s in (5, 20, 35, 50)]


def told(minutes: int, base: float, first: int = 0, venue: int = Venue.BINANCE) -> list[Event]:
    """A level told twice a minute."""
    return [level(60 * minute + s, base, venue) for minute in range(first, first + minutes) for s in (10, 40)]


# -- the invariant ----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), turnover=st.sampled_from([0.0, 0.0003, 0.01]))
def test_every_contract_is_somewhere_whatever_happens(seed: int, turnover: float) -> None:
    """Sum over tiers and cells + unknown = open interest, by side, each minute; and nothing lies behind the mark."""
    for engine, frames in minute_by_minute(random_history(seed, 90), 90, lively(turnover)):
        if engine._state is None or not frames:
            continue
        inventory, facts = inventory_of(engine), frames[-1].facts
        book = facts.open_interest_base
        if inventory.projection is not Projection.DOLLARS:
            book = 1.0
        assert np.allclose(whole_base(engine), book, rtol=1e-9, atol=0)
        assert (inventory.unknown_base >= 0).all() and (inventory.base >= -1e-9 * book).all()
        prices, close = prices_of(frames[-1]), frames[-1].close
        if close == close:
            assert np.all(inventory.base[0][:, prices >= close] == 0)
            assert np.all(inventory.base[1][:, prices <= close] == 0)
            assert not inventory.outside_usd[0, :, 1].any() and not inventory.outside_usd[1, :, 0].any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(0.5, 2.0))
def test_moving_the_window_loses_nothing(seed: int, factor: float) -> None:
    engine, _ = played([*still(30), *told(30, 1000.0)], 30, lively())
    inventory = inventory_of(engine)
    before = inventory.known_base.copy()
    inventory.move(BTC.window(PRICE * factor))
    assert np.allclose(inventory.known_base, before, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(factors=st.lists(st.floats(0.1, 10.0), min_size=10, max_size=10))
def test_retiering_moves_between_tiers_and_keeps_each_side(factors: list[float]) -> None:
    engine, _ = played([*still(5), *told(5, 1000.0)], 5, lively())
    inventory = inventory_of(engine)
    before, wanted = inventory.known_base, np.array(factors).reshape(2, 5)
    inventory.retier(wanted)
    after = inventory.known_base
    assert np.allclose(after.sum(axis=1), before.sum(axis=1), rtol=1e-12)
    assert np.allclose(whole_base(engine), 1000.0, rtol=1e-12)
    asked = before * wanted
    assert np.allclose(after / after.sum(axis=1, keepdims=True), asked / asked.sum(axis=1, keepdims=True), rtol=1e-12)


def test_an_open_interest_that_collapses_closes_the_book_and_breaks_nothing() -> None:
    """Turnover and the fall together are more than there is: what is left is the level."""
    events = [*still(12), *told(6, 79_000.0), *told(6, 100.0, first=6)]
    events += [trade(60 * minute + 30, PRICE, 1.0 if minute < 6 else 1e6) for minute in range(12)]
    for spec in (lively(0.01), lively(0.0)):
        for engine, frames in minute_by_minute(events, 12, spec):
            if frames:
                assert np.allclose(whole_base(engine), frames[-1].facts.open_interest_base, rtol=1e-9)
        assert frames[-1].facts.open_interest_base == 100.0


def test_a_change_that_is_more_than_the_level_it_led_to_is_not_known() -> None:
    engine, _ = played([*still(10), *told(10, 1000.0)], 10, lively())
    inventory = inventory_of(engine)
    inventory.advance(_minute(inventory, change_base=5000.0, level_base=1000.0))
    assert np.allclose(whole_base(engine), 1000.0, rtol=1e-9)
    assert (inventory.base >= 0).all() and (inventory.unknown_base >= 0).all()


def test_what_was_deferred_is_never_more_than_what_is_unknown() -> None:
    """Levels told by the hour; a sweep waits in `unknown`, which turns over for fifty minutes before it is settled."""
    events = still(670) + [mark(60 * minute + 5, 0.93 * PRICE) for minute in range(670, 725)]
    events += [level(3600 * hour + 10, 79_000.0, 0, covers_ms=3_600_000) for hour in range(13)]
    swept = 0.0
    for engine, frames in minute_by_minute(events, 725, lively()):
        inventory = inventory_of(engine)
        assert np.all(inventory._deferred <= inventory.unknown_base + 1e-6)
        assert np.allclose(whole_base(engine), frames[-1].facts.open_interest_base, rtol=1e-9)
        swept = max(swept, float(inventory._deferred[0]))
    assert swept > 1000.0, "the test can tell"


def _minute(
    inventory: InventoryModel,
    *,
    change_base: float = NAN,
    level_base: float = 1000.0,
    low: float = PRICE,
    high: float = PRICE,
    close: float = PRICE,
    fresh: bool = True,
    volume: float = NAN,
    minutes: int = 1,
) -> Minute:
    """A minute by hand, entered at its close."""
    step = OpenInterestStep(change_base, NAN, ((1.0, 0.0, change_base),), level_base, fresh)
    bar = MinuteBar(0, close, high, low, close, volume, 0.0, step)
    place = Placement.of(EntryProfile(np.array([close]), np.ones(1)), inventory._window, BTC.distances)
    return Minute(bar, minutes, place, place, WEIGHTS)


def model(turnover: float = 0.01) -> InventoryModel:
    """An inventory of its own, around PRICE."""
    spec = lively(turnover)
    return InventoryModel(spec, spec.window(PRICE))


# -- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("minutes", [1, 60, 60 * 1440])
def test_a_book_that_was_swept_and_not_told_of_turns_over_no_more_than_what_still_stands(
    fresh: bool, minutes: int
) -> None:
    """All longs are gone and wait to be settled; then nobody speaks for a minute, an hour, two months."""
    one = model(0.25)
    for _ in range(60):
        one.advance(_minute(one))
    one.advance(_minute(one, low=0.5 * PRICE, close=0.5 * PRICE))
    assert one._deferred[0] > 900.0, "the test can tell"
    for _ in range(5):
        one.advance(_minute(one, low=0.5 * PRICE, close=0.5 * PRICE, fresh=fresh, minutes=minutes))
        assert one.known_base.sum(axis=1) + one.unknown_base == pytest.approx([1000.0, 1000.0], rel=1e-9)
        assert (one._deferred <= one.unknown_base + 1e-6).all()


def test_without_any_reading_the_book_is_one_and_the_first_level_makes_quantities_of_it() -> None:
    one = model()
    kinds = [one.projection]
    for _ in range(3):
        one.advance(_minute(one, level_base=NAN, fresh=False))
        kinds.append(one.projection)
    assert kinds == [None, Projection.RELATIVE, Projection.RELATIVE, Projection.RELATIVE]
    assert one.known_base.sum(axis=1) == pytest.approx(1 - 0.99**3)
    shape = one.base
    quiet_one = model(0.0)
    quiet_one._raw, quiet_one._scale = one._raw.copy(), one._scale.copy()
    quiet_one.unknown_base, quiet_one._opened = one.unknown_base.copy(), True
    quiet_one.advance(_minute(quiet_one, level_base=5000.0))
    assert quiet_one.projection is Projection.DOLLARS
    assert np.allclose(quiet_one.base, 5000.0 * shape, rtol=1e-12)
    assert quiet_one.unknown_base == pytest.approx(5000.0 * 0.99**3)


def test_frames_say_relative_before_a_level_and_dollars_after() -> None:
    events = [*still(20), *told(10, 79_000.0, first=10)]
    _, frames = run(events, until_s=1205)
    known = [frame.facts.projection_known[INVENTORY] for frame in frames]
    assert known == [Projection.RELATIVE] * 10 + [Projection.DOLLARS] * 10
    assert math.isnan(frames[5].facts.coverage[INVENTORY][0]) and frames[15].facts.coverage[INVENTORY][0] > 0


def test_coverage_rises_as_the_book_turns_over() -> None:
    _, frames = run([*still(30), *told(30, 79_000.0)], until_s=1805, spec=lively(0.01))
    for side in (0, 1):
        shares = [frame.facts.coverage[INVENTORY][side] for frame in frames]
        assert np.all(np.diff(shares) > 0)
        assert shares[-1] == pytest.approx(1 - 0.99**30, rel=0.02), "hazards differ from one by little here"


def test_open_interest_falls_by_what_was_liquidated_when_nothing_else_happened() -> None:
    """A sweep takes 30 of 1,000; the level says 970 at once: nothing else closed, nothing opened."""
    one = model(0.0)
    one.advance(_minute(one, level_base=1000.0))
    one.advance(_minute(one, level_base=1100.0, change_base=100.0))  # 100 opened at PRICE, each side
    assert one.known_base.sum(axis=1) == pytest.approx([100.0, 100.0])
    low = PRICE * 0.985
    held = one.base[0]
    prices = one._prices
    passed = float(held[:, prices >= low].sum())
    assert 0 < passed < 100
    shorts = one.base[1].copy()
    one.advance(_minute(one, level_base=1100.0 - passed, change_base=-passed, low=low, close=low))
    assert one.at_risk_base.sum(axis=1) == pytest.approx([passed, 0.0])
    assert one.base[0].sum() == pytest.approx(100 - passed), "longs: only what price passed"
    assert one.unknown_base[0] == pytest.approx(1000.0)
    lost = shorts.sum() - one.base[1].sum() + 1000.0 - one.unknown_base[1]
    assert lost == pytest.approx(passed), "shorts: as many were closed, in proportion to quantity times hazard"
    assert one.at_risk_usd[0] == pytest.approx(float((held * prices)[:, prices >= low].sum()))


def test_closing_goes_by_quantity_times_hazard() -> None:
    one = model(0.0)
    one.advance(_minute(one, level_base=1000.0))
    one.advance(_minute(one, level_base=1100.0, change_base=100.0))
    before, unknown = one.known_base[0], one.unknown_base[0]
    one.advance(_minute(one, level_base=1090.0, change_base=-10.0))
    closed = before - one.known_base[0]
    hazard = 1 + np.array(BTC.leverages) / 15
    mean = float((before * hazard).sum() / before.sum())
    rate = 10.0 / (float((before * hazard).sum()) + unknown * mean)
    assert closed == pytest.approx(rate * before * hazard)
    assert unknown - one.unknown_base[0] == pytest.approx(rate * unknown * mean)


def test_a_minute_without_a_reading_defers_and_the_next_one_settles() -> None:
    def settled(*, missing: bool) -> InventoryModel:
        one = model(0.0)
        one.advance(_minute(one, level_base=1000.0))
        one.advance(_minute(one, level_base=1100.0, change_base=100.0))
        low = PRICE * 0.985
        passed = float(one.base[0][:, one._prices >= low].sum())
        first = {"level_base": 1100.0} if missing else {"level_base": 1100.0 - passed, "change_base": -passed}
        one.advance(_minute(one, low=low, close=low, **first))  # type: ignore[arg-type]
        if missing:
            assert one.unknown_base[0] == pytest.approx(1000.0 + passed) and one._deferred[0] == pytest.approx(passed)
            assert one.base[0].sum() == pytest.approx(100.0 - passed)
            second = {"level_base": 1100.0 - passed, "change_base": -passed}
        else:
            second = {"level_base": 1100.0 - passed, "change_base": 0.0}
        one.advance(_minute(one, low=low, close=low, **second))  # type: ignore[arg-type]
        return one

    late, once = settled(missing=True), settled(missing=False)
    assert np.allclose(late.known_base, once.known_base, rtol=1e-9)
    assert np.allclose(late.unknown_base, once.unknown_base, rtol=1e-9)
    assert not late._deferred.any()


def test_a_venue_that_returns_with_more_is_unknown_and_with_less_closes_all_alike() -> None:
    one = model(0.0)
    one.advance(_minute(one, level_base=1000.0))
    one.advance(_minute(one, level_base=1100.0, change_base=100.0))
    before = one.base
    one.advance(_minute(one, level_base=1500.0))
    assert np.array_equal(one.base, before) and one.unknown_base == pytest.approx([1400.0, 1400.0])
    one.advance(_minute(one, level_base=750.0))
    assert np.allclose(one.base, before / 2, rtol=1e-12) and one.unknown_base == pytest.approx([700.0, 700.0])


@pytest.mark.finding("M15")
def test_while_no_level_is_fresh_the_book_turns_over_unseen() -> None:
    one = model(0.01)
    one.advance(_minute(one, level_base=1000.0))
    known, places = one.known_base.sum(), one.base > 0
    for _ in range(5):
        one.advance(_minute(one, level_base=1000.0, fresh=False, low=PRICE * 0.999, high=PRICE * 1.001))
    assert 0 < one.known_base.sum() < known and not (one.base > 0)[~places].any(), "nothing is opened that nobody saw"
    assert one.known_base.sum(axis=1) + one.unknown_base == pytest.approx([1000.0, 1000.0])


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_price_that_leaps_beyond_the_window_leaves_nothing_behind_it(factor: float) -> None:
    events = [*still(10), *still(3, PRICE * factor, first=10), *told(13, 79_000.0)]
    engine, frames = played(events, 13, lively())
    outside = inventory_of(engine).outside_usd
    assert not outside[0, :, 1].any() and not outside[1, :, 0].any()
    assert np.allclose(whole_base(engine), 79_000.0, rtol=1e-9)
    assert frames[-1].facts.coverage[INVENTORY][0] < 1


def test_openings_are_mirror_images_of_each_other_in_distance() -> None:
    one = model(0.01)
    for _ in range(5):
        one.advance(_minute(one, level_base=1000.0))
    longs, shorts = one.base
    centre = int(np.searchsorted(one._prices, PRICE))
    reach = min(centre, len(one._prices) - 1 - centre)
    below, above = longs[:, centre - reach : centre + 1][:, ::-1], shorts[:, centre : centre + reach + 1]
    assert np.allclose(below, above, atol=1e-9 * 1000)
    assert one.unknown_base[0] == pytest.approx(one.unknown_base[1])


@settings(max_examples=20, deadline=None)
@given(steps=st.lists(st.floats(0.0, 0.02), min_size=1, max_size=8))
def test_longs_that_fall_and_shorts_that_rise_lose_alike(steps: list[float]) -> None:
    """Mirrored in cells about the entry: what a fall takes from longs, the same rise takes from shorts."""

    def moved(sign: int) -> tuple[list[float], list[float]]:
        one = model(0.01)
        for _ in range(3):
            one.advance(_minute(one, level_base=1000.0))
        taken, left = [], []
        furthest = 0.0
        side = 0 if sign < 0 else 1
        for step in steps:
            furthest = max(furthest, 20 * round(step * PRICE / 20) + 10.0)
            edge = PRICE + sign * furthest
            low, high = min(edge, PRICE), max(edge, PRICE)
            one.advance(_minute(one, level_base=1000.0, fresh=False, low=low, high=high))
            taken.append(float(one.at_risk_base[side].sum()))
            left.append(float(one.unknown_base[side]))
        return taken, left

    assert np.allclose(moved(-1), moved(+1), rtol=1e-9, atol=1e-9)


def test_volume_modulates_the_turnover_and_bounds_it() -> None:
    one = model(0.01)
    one.advance(_minute(one, level_base=1000.0, volume=100.0))
    assert one.known_base.sum(axis=1) == pytest.approx([10.0, 10.0])
    one.advance(_minute(one, level_base=1000.0, change_base=0.0, volume=2.0))
    opened = 0.01 * 1000 * 2 / 51
    assert opened > 1.0 / 3 and one.known_base.sum() < 2 * (10.0 + opened)
    thin = model(0.01)
    thin.advance(_minute(thin, level_base=1000.0, volume=4.0))
    assert thin.known_base.sum(axis=1) == pytest.approx([2.0, 2.0]), "opens and closes take half of the volume each"


def test_more_than_one_minute_at_once_is_turned_over_unseen_first() -> None:
    one, spec = model(0.01), replace(BTC, turnover_per_minute=0.01)
    one.advance(_minute(one, level_base=1000.0))
    before = float(one.known_base[0].sum())
    one.advance(_minute(one, level_base=1000.0, change_base=0.0, minutes=31))
    kept = (1 - spec.turnover_per_minute) ** 30
    assert float(one.known_base[0].sum()) == pytest.approx(before * kept * 0.99 + 10.0, rel=1e-2)
    assert one.known_base.sum(axis=1) + one.unknown_base == pytest.approx([1000.0, 1000.0])


def test_a_change_series_without_a_level_opens_only_turnover() -> None:
    events = [*still(30), *[change(60 * minute + 55, 10.0) for minute in range(30)]]
    engine, frames = run(events, until_s=1805)
    assert frames[-1].facts.projection_known[INVENTORY] == Projection.RELATIVE
    assert whole_base(engine) == pytest.approx([1.0, 1.0], rel=1e-9)
    plain, _ = run(still(30), until_s=1805)
    assert np.allclose(inventory_of(plain).base, inventory_of(engine).base, rtol=1e-9)


def test_the_same_quiet_market_is_the_same_book_again() -> None:
    events = quiet(20, change_base=5.0)
    first, second = run(events, until_s=1205)[0], run(events, until_s=1205)[0]
    assert inventory_of(first).base.tobytes() == inventory_of(second).base.tobytes()

"""The flow model: what comes in is opened on both sides, what closes shrinks both, what price passes is swept."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.domain.enums import PositionSide, Projection, Venue
from liqmap.engine.engine import Engine
from liqmap.engine.smear import smear
from tests.events import events_array
from tests.unit.engine_tape import (
    BTC,
    FLOW,
    change,
    level,
    liquidated,
    mark,
    outside_usd,
    prices_of,
    quiet,
    run,
    stream,
    tick,
)

PRICE = 60_000.0
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT


def test_every_contract_opens_one_long_and_one_short() -> None:
    _, frames = run(quiet(3, change_base=20.0), until_s=185)
    changes = [frame.facts.open_interest_change_base for frame in frames]
    assert changes == [pytest.approx(10.0), pytest.approx(20.0), pytest.approx(20.0)]
    expected = PRICE * (10.0 * 0.995**2 + 20.0 * 0.995 + 20.0)
    assert frames[2].projection_usd[FLOW].sum(axis=1).tolist() == [pytest.approx(expected), pytest.approx(expected)]


def test_the_dollars_of_a_tier_lie_about_its_distance_from_the_entry() -> None:
    engine, _ = run(quiet(3, change_base=20.0), until_s=185)
    live = engine.live()
    assert live is not None
    prices = prices_of(live)
    for tier, distance in enumerate(BTC.distances):
        for side, sign in enumerate((-1, 1)):
            dollars = live.projection_usd[FLOW][side, tier].astype(float)
            assert dollars.sum() == pytest.approx(live.projection_usd[FLOW][side].sum() * BTC.weights[tier], rel=1e-5)
            median = np.interp(0.5, np.cumsum(dollars) / dollars.sum(), prices)
            assert median == pytest.approx(PRICE * (1 + sign * distance), abs=1.01 * BTC.step)
            reached = prices[dollars > 1e-9 * dollars.max()]
            assert len(reached) > 3, "never a single bucket"
            assert np.all(sign * (reached - PRICE) > 0), "never behind the mark"


@pytest.mark.finding("M2")
def test_open_interest_that_falls_shrinks_both_sides_by_its_share_of_the_level_before() -> None:
    events = [*quiet(2, change_base=20.0), *[mark(120 + s, PRICE) for s in range(0, 60, 5)]]
    events += [level(121, 79_020.0), level(150, 78_930.0)]
    _, frames = run(events, until_s=185)
    kept = 0.995 * (1 - 90.0 / 79_020.0)
    assert frames[2].facts.open_interest_change_base == -90.0
    assert frames[2].projection_usd[FLOW].sum() == pytest.approx(kept * frames[1].projection_usd[FLOW].sum(), rel=1e-6)


@pytest.mark.parametrize("factor", [1.04, 1 / 1.04])
def test_what_falls_off_the_window_is_kept_at_the_end_where_it_fell_off_and_decays(factor: float) -> None:
    """Price runs away from the side that it does not sweep, until that side lies beyond the edge."""
    path = [mark(180 + 60 * i + 5, PRICE * factor**i) for i in range(45)]
    side, end = (0, 0) if factor > 1 else (1, 1)
    _, frames = run([*quiet(3, change_base=20.0), *path], until_s=180 + 45 * 60 + 5)
    start = float(frames[2].projection_usd[FLOW][side].sum()) + outside_usd(frames[2].facts, side, end)
    for minute in (20, 47):
        facts = frames[minute].facts
        found = float(frames[minute].projection_usd[FLOW][side].sum()) + outside_usd(facts, side, end)
        assert found == pytest.approx(start * 0.995 ** (minute - 2), rel=1e-4)
    assert outside_usd(facts, side, end) > 0.99 * found
    others = [place for place in itertools.product((0, 1), (0, 1)) if place != (side, end)]
    assert [outside_usd(facts, *place) for place in others] == [0.0, 0.0, 0.0]


def test_no_single_minute_closes_more_than_a_quarter() -> None:
    events = [*quiet(2, change_base=20.0), *[mark(120 + s, PRICE) for s in range(0, 60, 5)]]
    events += [level(125, 79_020.0), level(130, 20_000.0), level(140, 20_000.0)]
    _, frames = run(events, until_s=185)
    kept = 0.995 * 0.75
    assert frames[2].projection_usd[FLOW].sum() == pytest.approx(kept * frames[1].projection_usd[FLOW].sum(), rel=1e-6)


@pytest.mark.finding("M15")
def test_a_total_outage_of_open_interest_leaves_the_map_but_for_decay() -> None:
    events = quiet(5, change_base=20.0)
    events += [mark(300 + s, PRICE) for s in range(0, 1800, 5)]
    engine, frames = run(events, until_s=2100)
    for earlier, later in itertools.pairwise(frames[5:]):
        assert math.isnan(later.facts.open_interest_change_base)
        assert np.allclose(later.projection_usd[FLOW], 0.995 * earlier.projection_usd[FLOW], rtol=1e-5)
    facts = frames[-1].facts
    assert facts.open_interest_base == pytest.approx(79_080.0), "the last known level, not zero"
    assert facts.venue_oi_stale[Venue.BINANCE] == 1
    live = engine.live()
    assert live is not None
    assert live.facts.venue_oi_stale[Venue.BINANCE] == 1
    assert live.facts.projection_known[FLOW] == 1


@pytest.mark.finding("M15")
def test_readings_of_zero_close_nothing() -> None:
    events = quiet(5, change_base=20.0)
    events += [mark(300 + s, PRICE) for s in range(0, 600, 5)] + [level(300 + s, 0.0) for s in range(0, 600, 10)]
    _, frames = run(events, until_s=900)
    assert np.allclose(frames[-1].projection_usd[FLOW], 0.995**8 * frames[5].projection_usd[FLOW], rtol=1e-4)


@pytest.mark.finding("X2")
def test_a_venue_that_returns_after_failed_polls_plants_nothing() -> None:
    steady = [*quiet(12), *[level(s, 45_000.0, Venue.BYBIT) for s in range(0, 120, 10)]]
    returned = [level(s, 47_000.0, Venue.BYBIT) for s in range(480, 720, 10)]
    _, frames = run([*steady, *returned], until_s=725)
    assert all(frame.projection_usd[FLOW].sum() == 0 for frame in frames)
    assert frames[-1].facts.open_interest_base == 79_000.0 + 47_000.0
    assert frames[5].facts.open_interest_base == 79_000.0 + 45_000.0, "its last word stays in the sum meanwhile"


def test_without_any_open_interest_the_projection_is_unknown() -> None:
    _, frames = run([mark(s, PRICE) for s in range(0, 120, 5)], until_s=125)
    facts = frames[-1].facts
    assert facts.projection_known[FLOW] == 0
    assert math.isnan(facts.open_interest_base)
    assert math.isnan(facts.open_interest_usd)
    assert np.isnan(facts.coverage[FLOW]).all()
    assert np.isnan(facts.unknown_usd[FLOW]).all()


@pytest.mark.parametrize("covers_ms", [60_000, 3_600_000])
def test_a_level_told_at_the_first_instant_of_a_minute_was_entered_before_it(covers_ms: int) -> None:
    """Price was at 60,000 while the positions were opened, and is at 62,000 when that becomes known."""
    minutes = covers_ms // 60_000
    events = [mark(s, PRICE if s < 60 * minutes else 62_000.0) for s in range(0, 60 * minutes + 60, 5)]
    events += [level(0, 90_000.0, 0, covers_ms), level(60 * minutes, 90_100.0, 0, covers_ms)]
    _, frames = run(events, until_s=60 * minutes + 65)
    assert frames[-2].projection_usd[FLOW].sum() == 0
    assert frames[-1].projection_usd[FLOW][0].sum() == pytest.approx(100 * PRICE, rel=1e-4), (
        "longs lie below either price"
    )


def test_a_reading_across_the_turn_of_a_minute_is_entered_in_both_by_its_parts() -> None:
    events = [mark(s, PRICE if s < 60 else 62_000.0) for s in range(0, 120, 5)]
    events += [level(55, 79_000.0), level(70, 79_015.0)]
    _, frames = run(events, until_s=125)
    expected = 15.0 * (PRICE / 3 + 62_000.0 * 2 / 3)
    assert frames[1].projection_usd[FLOW][0].sum() == pytest.approx(expected, rel=1e-4)


def test_a_change_series_opens_but_without_a_level_closes_nothing() -> None:
    events = [mark(s, PRICE) for s in range(0, 1800, 5)]
    events += [change(60 * m + 59, 10.0 if m < 20 else -10.0) for m in range(30)]
    _, frames = run(events, until_s=1805)
    assert frames[5].projection_usd[FLOW].sum() == 0, "its usual size is not known yet"
    assert frames[15].projection_usd[FLOW].sum() > 0
    assert frames[29].projection_usd[FLOW].sum() == pytest.approx(
        frames[19].projection_usd[FLOW].sum() * 0.995**10, rel=1e-5
    )
    facts = frames[29].facts
    assert facts.projection_known[FLOW] == Projection.RELATIVE, "openings without closings are no dollars, only a shape"
    assert math.isnan(facts.open_interest_usd)
    assert np.isnan(facts.coverage[FLOW]).all()
    assert not np.any(facts.projection_outside_usd[FLOW]), "nor is what lies outside the window"


def test_a_level_after_changes_makes_dollars_of_it() -> None:
    events = [mark(s, PRICE) for s in range(0, 1800, 5)] + [change(60 * m + 59, 10.0) for m in range(20)]
    _, frames = run([*events, level(1500, 79_000.0)], until_s=1805)
    assert [frames[m].facts.projection_known[FLOW] for m in (10, 26)] == [Projection.RELATIVE, Projection.DOLLARS]


def test_a_sweep_takes_seventy_percent_of_what_it_traversed_and_what_is_behind_is_gone() -> None:
    events = quiet(3, change_base=20.0)
    events += [
        mark(180, PRICE),
        mark(190, 58_500.0),
        mark(200, 57_000.0),
        mark(230, 58_500.0),
        level(185, 79_040.0),
        level(215, 79_040.0),
    ]
    _, frames = run(events, until_s=245)
    before, after = frames[2].projection_usd[FLOW], frames[3].projection_usd[FLOW]
    prices = prices_of(frames[3])
    below, between, behind = prices < 57_000.0, (prices >= 57_000.0) & (prices < 58_500.0), prices >= 58_500.0
    assert np.allclose(after[0, below], 0.995 * before[0, below], rtol=1e-5)
    assert np.allclose(after[0, between], 0.3 * 0.995 * before[0, between], rtol=1e-5)
    assert before[0, behind].sum() > 0
    assert after[0, behind].sum() == 0
    above = prices > PRICE
    assert np.allclose(after[1, above], 0.995 * before[1, above], rtol=1e-5)


def test_the_live_map_shows_the_sweep_of_the_open_minute_and_the_state_waits_for_its_end() -> None:
    engine = Engine(BTC)
    engine.apply(stream(quiet(3, change_base=20.0), until_s=182))
    calm = engine.live()
    assert calm is not None
    engine.apply(events_array([mark(189, 58_500.0), mark(190, 57_000.0), tick(190), mark(191, 58_500.0), tick(191)]))
    live = engine.live()
    assert live is not None
    prices = prices_of(live)
    longs = live.projection_usd[FLOW][0].sum(axis=0)
    was = calm.projection_usd[FLOW][0].sum(axis=0)
    between = (prices >= 57_000.0) & (prices < 58_500.0)
    assert longs[prices >= 58_500.0].sum() == 0
    assert longs[between].sum() == pytest.approx(0.3 * was[between].sum(), rel=1e-5)
    assert longs[prices < 57_000.0].sum() == pytest.approx(was[prices < 57_000.0].sum(), rel=1e-5)


def test_the_entries_of_a_wide_minute_are_spread_over_its_range() -> None:
    events = [mark(0, PRICE), level(1, 79_000.0), level(30, 79_000.0), mark(59, PRICE)]
    events += [mark(60, PRICE), mark(80, 61_000.0), mark(100, 59_500.0), mark(119, PRICE), level(90, 79_050.0)]
    widths = []
    for stretch in (events, quiet(2, change_base=50.0)):
        live = run(stretch, until_s=125)[0].live()
        assert live is not None
        dollars, prices = live.projection_usd[FLOW][1, 4].astype(float), prices_of(live)
        mean = (dollars * prices).sum() / dollars.sum()
        widths.append(float(np.sqrt((dollars * (prices - mean) ** 2).sum() / dollars.sum())))
    assert widths[0] > 2 * widths[1]


def test_a_change_that_covers_an_hour_is_entered_over_that_hour() -> None:
    hour_ms = 3_600_000
    events = [mark(s, 61_500.0 if s < 1800 else PRICE) for s in range(0, 3700, 5)]
    events += [level(0, 90_000.0, 0, covers_ms=hour_ms), level(3600, 91_000.0, 0, covers_ms=hour_ms)]
    engine, frames = run(events, until_s=3665)
    assert all(frame.projection_usd[FLOW].sum() == 0 for frame in frames[:60])
    live = engine.live()
    assert live is not None
    shorts = live.projection_usd[FLOW][1, 4].astype(float)
    prices, distance = prices_of(live), BTC.distances[4]
    late, early = (shorts[np.abs(prices - entry * (1 + distance)) < 300].sum() for entry in (PRICE, 61_500.0))
    assert late > 0
    assert early == pytest.approx(late, rel=0.05)


@pytest.mark.finding("X11")
def test_other_weights_change_the_next_minute() -> None:
    engine = Engine(BTC)
    engine.apply(stream(quiet(3, change_base=20.0), until_s=185))
    before = engine.live()
    engine.weights = np.array([[0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    engine.apply(events_array([mark(190, PRICE), level(191, 79_060.0), level(200, 79_080.0), tick(250)]))
    after = engine.live()
    assert before is not None
    assert after is not None
    grown = (after.projection_usd[FLOW] - 0.995 * before.projection_usd[FLOW]).sum(axis=2)
    assert grown[0, 4] == pytest.approx(40 * PRICE, rel=1e-4)
    assert grown[1, 0] == pytest.approx(40 * PRICE, rel=1e-4)
    assert np.all(np.abs(grown[0, :4]) < 1.0)
    assert np.all(after.weights == engine.weights)


def test_coverage_says_how_much_of_open_interest_is_on_the_map() -> None:
    _, frames = run(quiet(30, change_base=20.0), until_s=1805)
    facts = frames[-1].facts
    on_map = float(frames[-1].projection_usd[FLOW].sum()) / 2
    assert facts.coverage[FLOW][0] == pytest.approx(on_map / facts.open_interest_usd, rel=1e-5)
    assert facts.unknown_usd[FLOW][0] == pytest.approx(facts.open_interest_usd - on_map, rel=1e-5)
    assert facts.open_interest_usd == pytest.approx(facts.open_interest_base * PRICE)


moves = st.lists(st.floats(-400, 400).map(lambda x: round(x, 1)), min_size=3, max_size=20)


@settings(max_examples=30, deadline=None)
@given(opened=st.lists(st.floats(0, 100), min_size=2, max_size=6), path=moves, sizes=st.lists(st.floats(0.01, 5)))
def test_longs_and_shorts_are_mirror_images(opened: list[float], path: list[float], sizes: list[float]) -> None:
    def world(sign: int) -> np.ndarray:
        side, other = (LONG, SHORT) if sign > 0 else (SHORT, LONG)
        base, events = 79_000.0, []
        for minute, amount in enumerate(opened):
            base += amount
            events += [mark(60 * minute + s, PRICE) for s in range(0, 60, 5)] + [level(60 * minute + 30, base)]
        start = 60 * len(opened)
        for i, offset in enumerate(path):
            events += [mark(start + 20 * i, PRICE + sign * (offset + 0.33)), level(start + 20 * i + 1, base)]
        for i, size in enumerate(sizes[:20]):
            who, off = (side, -1) if i % 2 else (other, 1)
            events.append(liquidated(30 + 7 * i, who, PRICE + sign * off * 300.0, size))
        _, frames = run(events, until_s=start + 20 * len(path) + 130)
        facts = frames[-1].facts
        centre = round(PRICE / BTC.step) - facts.first_bucket
        reach = min(centre, facts.buckets - centre - 1)
        both = np.stack([frames[-1].projection_usd[FLOW], frames[-1].evidence_usd])
        return both[:, :, centre - reach : centre + reach + 1]

    up, down = world(1), world(-1)
    mirrored = down[:, ::-1, ::-1]
    assert np.allclose(up[0], mirrored[0], rtol=1e-4, atol=1e-2)
    widest = 2 * 400.33 / (PRICE - 400.33)
    assert np.allclose(up[1], mirrored[1], rtol=widest, atol=1e-2), "one coin is worth more above than below"


@settings(deadline=None)
@given(
    entries=st.lists(st.integers(2500, 3500), min_size=1, max_size=40, unique=True),
    sign=st.sampled_from([1, -1]),
    distance=st.floats(0.001, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
def test_smearing_conserves_every_dollar(entries: list[int], sign: int, distance: float, seed: int) -> None:
    window = BTC.window(PRICE)
    prices = 20.0 * np.array(sorted(entries), dtype=float)
    dollars = np.random.default_rng(seed).exponential(1e6, len(prices)) + 1.0
    found = smear(window, prices, dollars, sign, distance)
    assert found.shares.min(initial=0.0) >= -1e-6
    assert min(found.below, found.above) >= 0
    assert found.shares.sum() + found.below + found.above == pytest.approx(dollars.sum(), rel=1e-12)

"""Pools: peaks of one frame, by distance to the seed, with room for evidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.blend import blend
from liqmap.domain.pools import find_pools

PRICES = 60_000 + 20.0 * np.arange(400)


def hump(centre: int, height: float, width: int = 3) -> np.ndarray:
    """Dollars shaped as a peak of `height` at cell `centre`."""
    return height * np.exp(-0.5 * ((np.arange(len(PRICES)) - centre) / width) ** 2)


def nothing(tiers: int = 2) -> np.ndarray:
    """A projection without a dollar."""
    return np.zeros((tiers, len(PRICES)))


def test_intensity_is_what_the_model_page_says_by_hand() -> None:
    """Of 4 cells a side: projection only, both, evidence only, nothing. One amount each: its own percentile."""
    projection = np.array([[200.0, 200.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    evidence = np.array([[0.0, 30.0, 30.0, 0.0], [0.0, 0.0, 0.0, 30.0]])
    found = blend(projection, evidence)
    assert found.intensity.tolist() == [[0.65, 1.0, 0.35, 0.0], [0.0, 0.0, 0.0, 0.35]]
    assert (found.evidence_p99_usd, found.projection_p99_usd) == (30.0, 200.0)
    faint = blend(np.array([[200.0] * 999 + [20.0], [0.0] * 1000]), np.array([[0.0] * 999 + [3.0], [30.0] * 1000]))
    assert faint.intensity[0, 999] == pytest.approx(1.5 * (0.65 * 0.1 + 0.35 * 0.1), rel=1e-6), "boosted by half"


def test_two_humps_are_two_pools_and_their_dollars_are_the_grids() -> None:
    projection = np.stack([hump(80, 5e6), hump(300, 2e6)])
    pools = find_pools(PRICES, projection, np.zeros(400), width_pct=0.5, limit=2)
    assert [round(pool.price, -2) for pool in pools] == [61_600, 66_000]
    assert pools[0].notional_usd == pytest.approx(projection[0].sum(), rel=0.01)
    assert pools[0].by_tier_usd[0] == pytest.approx(projection[0].sum(), rel=0.01)
    assert {pool.source for pool in pools} == {"projection"}


@pytest.mark.finding("X6")
def test_a_carpet_of_dollars_is_not_chained_into_one_pool() -> None:
    carpet = nothing(1)
    carpet[0] = 1e6 + np.cos(np.arange(400) / 4) * 1e5
    pools = find_pools(PRICES, carpet, np.zeros(400), width_pct=0.5, limit=64)
    assert len(pools) > 5
    for pool in pools:
        assert (pool.high - pool.low) / pool.price <= 0.0101


@pytest.mark.finding("M6")
def test_evidence_only_pools_keep_their_room_beside_larger_projections() -> None:
    projection = nothing(1)
    for centre in range(20, 260, 24):
        projection[0] += hump(centre, 1e8)
    evidence = hump(300, 3e4) + hump(360, 2e4)
    pools = find_pools(PRICES, projection, evidence, width_pct=0.3, limit=8)
    assert len(pools) == 8
    assert [pool.source for pool in pools][-2:] == ["evidence", "evidence"]
    dollars = [pool.notional_usd for pool in pools]
    assert dollars == sorted(dollars, reverse=True)


def test_an_unknown_projection_leaves_the_evidence_pools() -> None:
    pools = find_pools(PRICES, np.full((2, 400), np.nan), hump(100, 1e5), width_pct=0.5, limit=4)
    assert [pool.source for pool in pools] == ["evidence"]
    assert pools[0].projected_usd == 0


def test_pools_below_the_threshold_are_left_out_and_an_empty_map_has_none() -> None:
    projection = np.stack([hump(80, 5e6), hump(300, 2e3)])
    assert len(find_pools(PRICES, projection, np.zeros(400), width_pct=0.5, limit=9, min_notional_usd=1e5)) == 1
    assert find_pools(PRICES, nothing(), np.zeros(400), width_pct=0.5, limit=9) == ()
    assert find_pools(PRICES[:0], nothing()[:, :0], np.zeros(0), width_pct=0.5, limit=9) == ()


@given(
    st.lists(st.floats(0, 1e9), min_size=1, max_size=120),
    st.floats(0.05, 3.0),
    st.integers(0, 2**32 - 1),
)
def test_no_dollar_is_in_two_pools(cells: list[float], width_pct: float, seed: int) -> None:
    projection = np.array([cells])
    evidence = np.random.default_rng(seed).exponential(1e5, len(cells))
    prices = PRICES[: len(cells)]
    pools = find_pools(prices, projection, evidence, width_pct=width_pct, limit=10_000)
    whole = projection.sum() + evidence.sum()
    assert sum(pool.notional_usd for pool in pools) <= whole * (1 + 1e-9)
    for pool in pools:
        assert pool.low <= pool.price * (1 + 1e-12) and pool.price <= pool.high * (1 + 1e-12)
        assert pool.notional_usd == pytest.approx(pool.evidence_usd + pool.projected_usd)


def test_intensity_stays_in_its_range_and_brightens_where_both_speak() -> None:
    projection = np.stack([hump(80, 5e6), hump(300, 2e6)])
    evidence = np.stack([hump(80, 4e4), np.zeros(400)])
    both, alone = blend(projection, evidence), blend(projection, np.zeros((2, 400)))
    assert both.intensity.min() >= 0 and both.intensity.max() <= 1
    assert both.intensity[0, 80] == 1
    assert alone.intensity[0, 80] == pytest.approx(0.65)
    assert np.isnan(alone.evidence_p99_usd)


def test_intensity_of_an_unknown_projection_is_the_evidence_alone() -> None:
    mixed = blend(np.full((2, 400), np.nan), np.stack([hump(80, 4e4), np.zeros(400)]))
    assert mixed.intensity[0, 80] == 1
    assert np.isnan(mixed.projection_p99_usd)

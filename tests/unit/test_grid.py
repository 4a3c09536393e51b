"""Buckets are integers: what a person writes as a price is what comes back, for every step, however far out."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.grid import Grid, Window, rebin

STEPS = (20.0, 1.0, 0.1, 0.01, 0.0001, 0.25, 0.5, 2.5, 50.0, 0.00000001, 7.0)
steps = st.sampled_from(STEPS)


@pytest.mark.finding("H2")
@given(step=steps, bucket=st.integers(1, 2_000_000_000))
def test_a_bucket_survives_the_way_to_its_price_and_back(step: float, bucket: int) -> None:
    grid = Grid.of(step)
    price = grid.price(bucket)
    assert grid.bucket(price) == bucket
    assert price == float(Decimal(repr(step)) * bucket), "the double nearest to the decimal product"


@pytest.mark.finding("H2")
@pytest.mark.parametrize("step", STEPS)
def test_a_long_axis_does_not_drift(step: float) -> None:
    grid = Grid.of(step)
    buckets = np.arange(1, 100_001, dtype=np.int64)
    prices = grid.prices(buckets)
    assert prices.tolist() == [float(Decimal(repr(step)) * int(b)) for b in buckets]
    assert np.array_equal(grid.buckets(prices), buckets)


@pytest.mark.finding("H3")
@pytest.mark.parametrize("step", [0.1, 0.01, 0.0001])
def test_small_steps_give_axes_of_distinct_prices_above_zero(step: float) -> None:
    window = Window.around(Grid.of(step), 1000 * step, 60.0, 8192)
    prices = window.prices()
    assert prices[0] > 0
    assert np.all(np.diff(prices) > 0)
    assert prices[window.cell(1000 * step)] == float(Decimal(repr(step)) * 1000)


@given(step=steps, price=st.floats(1e-6, 1e7))
def test_a_price_lies_within_half_a_step_of_its_bucket(step: float, price: float) -> None:
    grid = Grid.of(step)
    assert abs(grid.price(grid.bucket(price)) - price) <= step / 2 * (1 + 1e-9) + 1e-9 * price
    assert grid.buckets(np.array([price]))[0] == grid.bucket(price)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_step_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match="step"):
        Grid.of(step)


def test_the_window_of_bitcoin_has_the_expected_size() -> None:
    window = Window.around(Grid.of(20.0), 91_000.0, 60.0, 8192)
    assert (window.prices()[0], window.prices()[-1]) == (36_400.0, 145_600.0)
    assert window.count == 5461
    assert not window.capped


@given(step=steps, anchor=st.floats(0.001, 1e6), range_pct=st.floats(5, 95), capacity=st.integers(64, 8192))
def test_a_window_stays_above_zero_within_its_capacity_and_holds_its_anchor(
    step: float, anchor: float, range_pct: float, capacity: int
) -> None:
    window = Window.around(Grid.of(step), anchor, range_pct, capacity)
    assert window.first >= 1
    assert 1 <= window.count <= capacity
    assert not window.capped or window.count == capacity
    if anchor >= step:
        assert 0 <= window.cell(anchor) < window.count


def test_a_window_that_needs_more_than_its_capacity_is_cut_about_the_anchor_and_says_so() -> None:
    window = Window.around(Grid.of(0.1), 151.2, 60.0, 512)
    assert window.capped
    assert window.count == 512
    below, above = window.reach_pct
    assert below == pytest.approx(above, abs=0.2)
    assert below < 60


@pytest.mark.parametrize("anchor", [0.0, -5.0, float("nan")])
def test_a_window_needs_a_price(anchor: float) -> None:
    with pytest.raises(ValueError, match="anchor"):
        Window.around(Grid.of(1.0), anchor, 60.0, 100)


def test_a_window_drifts_when_price_is_a_tenth_away() -> None:
    window = Window.around(Grid.of(20.0), 60_000.0, 60.0, 8192)
    assert not window.drifted(66_000.0, 0.1)
    assert window.drifted(66_001.0, 0.1)
    assert window.drifted(53_999.0, 0.1)


windows = st.builds(
    lambda step, anchor, range_pct: Window.around(Grid.of(step), anchor, range_pct, 4096),
    st.sampled_from((20.0, 7.5, 1.0, 0.5, 0.3)),
    st.floats(50, 900),
    st.floats(5, 90),
)


@given(source=windows, target=windows, seed=st.integers(0, 2**32 - 1))
def test_rebinning_conserves_every_dollar(source: Window, target: Window, seed: int) -> None:
    dollars = np.random.default_rng(seed).exponential(1e6, (2, source.count))
    moved = rebin(dollars, source, target)
    kept = moved.values.sum(axis=-1) + moved.below + moved.above
    assert moved.values.shape == (2, target.count)
    assert np.all(moved.values >= 0)
    assert kept == pytest.approx(dollars.sum(axis=-1), rel=1e-12)


@given(anchor=st.floats(50, 900), other=st.floats(50, 900))
def test_between_windows_of_one_grid_every_cell_moves_whole(anchor: float, other: float) -> None:
    source = Window.around(Grid.of(0.1), anchor, 60.0, 8192)
    target = Window.around(Grid.of(0.1), other, 60.0, 8192)
    dollars = np.arange(1.0, source.count + 1)
    moved = rebin(dollars, source, target)
    by_bucket = dict(zip(range(source.first, source.first + source.count), dollars.tolist(), strict=True))
    expected = [by_bucket.get(bucket, 0.0) for bucket in range(target.first, target.first + target.count)]
    assert moved.values.tolist() == expected


def test_rebinning_to_a_coarser_step_shares_cells_by_overlap() -> None:
    fine = Window(Grid.of(1.0), 10.0, 9, 4)  # covers 8.5 to 12.5
    coarse = Window(Grid.of(2.0), 10.0, 5, 1)  # covers 9 to 11
    moved = rebin(np.array([8.0, 4.0, 2.0, 16.0]), fine, coarse)
    assert moved.values.tolist() == [4.0 + 4.0 + 1.0]
    assert moved.below == 4.0
    assert moved.above == 1.0 + 16.0

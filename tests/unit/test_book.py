"""The order book: keys, best prices, what is complete, what is given up, dollars per bucket."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.book import Book, Level
from liqmap.domain.grid import Grid, Window

TICKS = st.sampled_from(["0.1", "0.01", "0.0001", "0.00000000001", "5"])


def _book(bids: list[tuple[float, float]], asks: list[tuple[float, float]], depth: int | None = None) -> Book:
    book = Book(depth)
    book.replace(bids, asks)
    return book


def test_equal_decimals_are_one_level_however_they_were_spelled() -> None:
    book = _book([(float("43443.70"), 1.0)], [])
    book.apply([(float("43443.7"), 2.0)], [])
    assert book.bids == [(43443.7, 2.0)]
    book.apply([(float("4.34437e4"), 0.0)], [])
    assert book.bids == []


@given(TICKS, st.integers(1, 2_000_000))
def test_every_tick_is_a_level_of_its_own_and_its_removal_leaves_no_ghost(tick: str, number: int) -> None:
    prices = [float(number * Fraction(tick)), float((number + 1) * Fraction(tick))]
    book = _book([], [(price, 1.0) for price in prices])
    assert [price for price, _ in book.asks] == prices
    book.apply([], [(prices[0], 0.0)])
    assert book.asks == [(prices[1], 1.0)]
    book.apply([], [(prices[1], 0.0)])
    assert book.level_counts == (0, 0)


def test_removing_a_level_that_is_not_there_is_normal() -> None:
    book = _book([(99.0, 1.0)], [(101.0, 1.0)])
    book.apply([(50.0, 0.0)], [(150.0, 0.0)])
    assert (book.bids, book.asks) == ([(99.0, 1.0)], [(101.0, 1.0)])


def test_a_snapshot_replaces_everything() -> None:
    book = _book([(99.0, 1.0), (98.0, 1.0)], [(101.0, 1.0)])
    book.replace([(89.0, 2.0)], [(91.0, 3.0)])
    assert (book.bids, book.asks) == ([(89.0, 2.0)], [(91.0, 3.0)])
    assert (book.best_bid, book.best_ask, book.mid) == (89.0, 91.0, 90.0)


changes = st.lists(
    st.tuples(st.booleans(), st.integers(1, 40), st.sampled_from([0.0, 0.0, 1.5, 2.5])), min_size=1, max_size=120
)


@given(changes)
def test_best_prices_are_those_of_a_plain_search_after_any_changes(changes: list[tuple[bool, int, float]]) -> None:
    book = Book()
    plain: tuple[dict[float, float], dict[float, float]] = ({}, {})
    for is_bid, tick, quantity in changes:
        price = tick / 10
        book.apply([(price, quantity)] if is_bid else [], [] if is_bid else [(price, quantity)])
        side = plain[0] if is_bid else plain[1]
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)
        assert book.best_bid == pytest.approx(max(plain[0], default=math.nan), nan_ok=True)
        assert book.best_ask == pytest.approx(min(plain[1], default=math.nan), nan_ok=True)
        assert book.bids == sorted(plain[0].items(), reverse=True)
        assert book.asks == sorted(plain[1].items())


def test_a_crossed_book_says_so_and_has_no_middle() -> None:
    book = _book([(99.0, 1.0)], [(101.0, 1.0)])
    crossed = [book.crossed]
    book.apply([(101.0, 1.0)], [])
    assert [*crossed, book.crossed] == [False, True]
    assert math.isnan(book.mid)


def test_an_empty_side_has_no_best_price_no_middle_and_is_not_crossed() -> None:
    book = _book([(99.0, 1.0)], [])
    assert math.isnan(book.best_ask)
    assert math.isnan(book.mid)
    assert not book.crossed
    assert math.isnan(book.complete[1])


def test_a_snapshot_is_complete_down_to_its_deepest_levels_and_deeper_ones_that_are_touched_change_nothing() -> None:
    book = _book([(99.0, 1.0), (95.0, 1.0)], [(101.0, 1.0), (106.0, 1.0)])
    assert book.complete == (95.0, 106.0)
    book.apply([(90.0, 4.0), (95.0, 0.0)], [(110.0, 4.0)])
    assert book.complete == (95.0, 106.0)
    assert (90.0, 4.0) in book.bids


def test_of_the_best_n_levels_the_deepest_held_one_is_the_end_of_what_is_known() -> None:
    book = _book([(99.0, 1.0), (98.0, 1.0)], [(101.0, 1.0), (102.0, 1.0)], depth=2)
    book.apply([(98.5, 1.0)], [(101.5, 1.0), (101.0, 0.0)])
    assert book.bids == [(99.0, 1.0), (98.5, 1.0)], "what fell out of the window is gone without being told"
    assert book.asks == [(101.5, 1.0), (102.0, 1.0)]
    assert book.complete == (98.5, 102.0)


def test_levels_outside_the_band_are_given_up_counted_and_not_known_when_price_comes_there() -> None:
    book = _book([(100.0, 1.0), (80.0, 1.0)], [(110.0, 1.0), (130.0, 1.0), (140.0, 1.0)])
    assert book.prune(0.1) == 3
    assert book.dropped_levels == 3
    assert book.complete == pytest.approx((90.0, 121.0))
    book.prune(0.5)
    assert book.complete == pytest.approx((90.0, 121.0)), "a wider band brings nothing back"
    assert _book([(99.0, 1.0)], [(101.0, 1.0)]).complete == (99.0, 101.0)
    book.replace([(100.0, 1.0), (80.0, 1.0)], [(110.0, 1.0)])
    assert book.complete == (80.0, 110.0), "a snapshot does"
    assert book.prune(0.1) == 1
    assert book.complete == (90.0, 110.0), "of the asks nothing was given up"


@given(
    bids=st.dictionaries(st.integers(1, 5_000), st.just(1.0), max_size=9),
    asks=st.dictionaries(st.integers(5_001, 99_999), st.just(1.0), max_size=9),
    share=st.floats(0.005, 0.25),
)
def test_what_stands_next_to_price_is_never_given_up_however_wide_the_spread(
    bids: dict[int, float], asks: dict[int, float], share: float
) -> None:
    book = _book(list(bids.items()), list(asks.items()))
    before = book.best_bid, book.best_ask
    book.prune(share)
    assert not book.astray
    assert (book.best_bid, book.best_ask) == pytest.approx(before, nan_ok=True)


@pytest.mark.parametrize("depth", [None, 5])
def test_a_best_price_that_lies_where_levels_were_given_up_is_not_known(depth: int | None) -> None:
    book = _book([(100.0, 1.0), (80.0, 1.0), (60.0, 1.0)], [(101.0, 1.0)], depth)

    def best(bids: list[Level], asks: list[Level]) -> tuple[float, float]:
        book.apply(bids, asks)
        return book.best_bid, book.best_ask

    unknown = pytest.approx((math.nan, 101.0), nan_ok=True)
    assert best([(100.0, 0.0)], []) == (80.0, 101.0), "nothing was given up"
    assert best([(100.0, 1.0)], []) == (100.0, 101.0)
    assert book.prune(0.1) == 2
    assert best([], []) == (100.0, 101.0)
    assert best([(100.0, 0.0), (70.0, 1.0)], []) == unknown, "80 stands there"
    assert math.isnan(book.mid) and book.astray
    assert best([(70.0, 0.0)], []) == unknown, "an empty side that was cut is no empty side"
    assert best([(91.0, 1.0)], []) == (91.0, 101.0), "price came back: nothing is missing down to 90"
    book.replace([(80.0, 1.0)], [(101.0, 1.0)])
    assert best([], []) == (80.0, 101.0)
    assert not book.astray


def test_a_best_price_beyond_what_a_snapshot_told_is_not_known() -> None:
    book = _book([(100.0, 1.0), (99.0, 1.0)], [(101.0, 1.0), (102.0, 1.0)])
    book.apply([(100.0, 0.0), (99.0, 0.0), (90.0, 1.0)], [(91.0, 1.0)])
    assert math.isnan(book.best_bid), "the snapshot said nothing of 98 to 90"
    assert book.best_ask == 91.0, "asks down there are new, and told"
    renewed = _book([(95.0, 1.0), (90.0, 1.0)], [(96.0, 1.0)])
    assert not renewed.agrees_with(book), "the asks do not"
    renewed = _book([(90.5, 1.0), (90.0, 1.0)], [(91.0, 1.0)])
    assert renewed.agrees_with(book), "as far as both know"


def test_an_empty_side_of_a_snapshot_is_empty() -> None:
    book = _book([], [(101.0, 1.0)])
    assert not book.astray
    book.apply([(99.0, 1.0)], [])
    assert (book.best_bid, book.best_ask) == (99.0, 101.0)


def _window(first: int, count: int, step: float = 1.0) -> Window:
    return Window(Grid.of(step), 100.0, first, count)


def test_dollars_per_cell_and_side_with_nan_where_nothing_is_known() -> None:
    book = _book([(99.0, 2.0), (98.6, 1.0), (96.0, 3.0)], [(101.0, 1.0), (103.0, 2.0)])
    book.apply([(92.0, 5.0)], [])
    dollars = book.dollars(_window(91, 15))
    by_price = {91 + cell: tuple(dollars[:, cell]) for cell in range(15)}
    assert by_price[99] == (99.0 * 2.0 + 98.6, 0.0)
    assert by_price[98] == (0.0, 0.0)
    assert by_price[97] == (0.0, 0.0)
    assert by_price[96] == (288.0, 0.0)
    assert math.isnan(by_price[95][0]), "below the deepest level of the snapshot nobody told of anything"
    assert by_price[92][0] == 460.0, "but what was touched there is shown"
    assert by_price[101] == (0.0, 101.0)
    assert by_price[103] == (0.0, 206.0)
    assert math.isnan(by_price[104][1])
    assert by_price[104][0] == 0.0


def test_an_empty_book_knows_nothing() -> None:
    assert np.isnan(Book().dollars(_window(90, 5))).all()


@given(
    st.lists(st.tuples(st.integers(9_000, 9_999), st.floats(0.001, 1e6)), max_size=60),
    st.sampled_from([0.1, 0.25, 1.0, 20.0]),
)
def test_no_dollar_is_lost_in_the_buckets(rows: list[tuple[int, float]], step: float) -> None:
    levels = {tick / 100: quantity for tick, quantity in rows}
    book = _book(list(levels.items()), [])
    grid = Grid.of(step)
    window = Window(grid, 95.0, grid.bucket(89.0), grid.bucket(101.0) - grid.bucket(89.0) + 1)
    assert np.nansum(book.dollars(window)[0]) == pytest.approx(sum(price * qty for price, qty in levels.items()))

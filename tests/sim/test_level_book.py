"""The book that a simulated venue keeps, against a plain dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import TakerSide, Venue
from liqmap.sim.tape import BOOK_CHANGES
from liqmap.sim.venues.books import LevelBook, Side, difference
from liqmap.sim.venues.listings import Listing

LEVELS = st.dictionaries(st.integers(1, 60), st.integers(1, 9), max_size=30)


@given(st.sampled_from([1, -1]), st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5))), st.integers(0, 50))
def test_a_side_is_a_dictionary_that_knows_its_best_levels(
    sign: int, changes: list[tuple[int, int]], count: int
) -> None:
    side, plain = Side(sign), dict[int, int]()
    for tick, lots in changes:
        side.put(tick, lots)
        plain[tick] = lots
        plain = {tick: lots for tick, lots in plain.items() if lots}
    best_first = sorted(plain, key=lambda tick: -sign * tick)
    assert list(side.top(count).items()) == [(tick, plain[tick]) for tick in best_first[:count]]
    assert (len(side), side.lots) == (len(plain), plain)


@given(LEVELS, LEVELS)
def test_the_difference_of_two_windows_turns_one_into_the_other_and_says_nothing_else(
    before: dict[int, int], now: dict[int, int]
) -> None:
    changed = difference(before, now)
    assert {tick: lots for tick, lots in {**before, **changed}.items() if lots} == now
    assert all(before.get(tick, 0) != lots for tick, lots in changed.items())


@given(
    st.sets(st.integers(1, 400), min_size=2, max_size=60), st.integers(0, 60), st.sampled_from([0.01, 0.1, 0.25, 1.0])
)
def test_a_book_in_finer_ticks_than_the_venues_does_not_cross_there(
    ticks: set[int], split: int, venue_tick: float
) -> None:
    ranked = sorted(ticks)
    rows = [(int(TakerSide.BUY), 50.0 + tick * 0.01, 1.0) for tick in ranked[:split]]
    rows += [(int(TakerSide.SELL), 50.0 + tick * 0.01, 1.0) for tick in ranked[split:]]
    book = LevelBook(Listing(Venue.BYBIT, "X", "XUSDT", venue_tick, 2, 0.1, 1))
    book.apply(np.array(rows, dtype=BOOK_CHANGES))
    bid, ask = next(book.in_base(book.bids), None), next(book.in_base(book.asks), None)
    assert (bid is None) == (split == 0)
    if bid is not None and ask is not None:
        assert bid[0] < ask[0]
        assert bid[0] <= 50.0 + ranked[:split][-1] * 0.01 + 1e-9


def test_less_than_a_lot_is_a_lot_and_nothing_is_none() -> None:
    book = LevelBook(Listing(Venue.OKX, "BTC", "BTC-USDT-SWAP", 0.1, 1, 0.01, 2, 0.01, trims_zeros=True))
    rows = [(1, 60_000.0, 0.00001), (1, 59_999.9, 0.5), (2, 60_000.1, 0.25), (1, 59_999.9, 0.0)]
    book.apply(np.array(rows, dtype=BOOK_CHANGES))
    assert book.written(book.bids, book.bids.lots) == [["60000", "0.01"]]
    assert book.best(book.asks) == ("60000.1", "25")
    assert book.written(book.bids, {599_999: 0}) == [["59999.9", "0"]]
    assert list(book.in_base(book.asks)) == [(60_000.1, 0.25)]

"""The simulated market's order books: never crossed, whole ticks and lots, deep, moving, and told completely."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from liqmap.config import parse
from liqmap.domain.enums import TakerSide, Venue
from liqmap.sim.market.booked import BookedMarket
from liqmap.sim.tape import Tape
from liqmap.sim.worlds import open_market
from tests.sim.market_worlds import START_MS, market, small

SYMBOLS = ("BTC", "ETH", "SOL")
Book = tuple[dict[float, float], dict[float, float]]


def booked(symbol: str = "BTC", **table: Any) -> BookedMarket:
    return BookedMarket(market(symbol, **table), small(**table))


def applied(book: Book, tape: Tape, venue: Venue) -> Iterator[Book]:
    """The book after each single change of a step."""
    bids, asks = book
    for side, price, qty in tape.venues[venue].book_changes.tolist():
        levels = bids if side == TakerSide.BUY else asks
        if qty:
            levels[price] = qty
        else:
            levels.pop(price)  # what is removed was there
        yield book


def walked(world: BookedMarket, cuts: list[int]) -> Iterator[tuple[Tape, dict[Venue, Book]]]:
    books: dict[Venue, Book] = {venue: ({}, {}) for venue in (Venue.BINANCE, Venue.BYBIT, Venue.OKX)}
    for to_ms in cuts:
        tape = world.advance(to_ms)
        for venue, book in books.items():
            for _ in applied(book, tape, venue):
                pass
        yield tape, books


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_book_never_crosses_not_even_between_two_changes_of_a_step(symbol: str) -> None:
    seed = random.randrange(2**31)
    world = booked(symbol, seed=seed, preset="lively")
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    for step in range(1, 400):
        changes = world.advance(START_MS + 250 * step).venues[Venue.BINANCE].book_changes.tolist()
        removed = [price for _, price, qty in changes if not qty]
        assert [price for _, price, _ in changes[: len(removed)]] == removed, "removals come first"
        for side, price, qty in changes[: len(removed)]:
            assert qty == 0.0
            del (bids if side == TakerSide.BUY else asks)[price]
        bid, ask = max(bids, default=0.0), min(asks, default=np.inf)
        for side, price, qty in changes[len(removed) :]:
            (bids if side == TakerSide.BUY else asks)[price] = qty
            bid, ask = (max(bid, price), ask) if side == TakerSide.BUY else (bid, min(ask, price))
            assert bid < ask, f"seed {seed}"


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_levels_are_whole_ticks_and_lots_and_reach_beyond_a_tenth_of_the_price_on_both_sides(symbol: str) -> None:
    about = small().symbols[symbol]
    world = booked(symbol)
    for tape, books in walked(world, [START_MS + 100 * step for step in range(1, 30)]):
        for venue, (bids, asks) in books.items():
            assert 300 <= len(bids) <= 1500, venue
            assert 300 <= len(asks) <= 1500, venue
            assert min(bids) < 0.9 * tape.last_price
            assert max(asks) > 1.1 * tape.last_price
            for levels in (bids, asks):
                for unit, values in ((about.price_tick, list(levels)), (about.lot_base, list(levels.values()))):
                    multiples = np.array(values) / unit
                    assert np.allclose(multiples, np.rint(multiples), atol=1e-6)
                assert min(levels.values()) > 0


def test_the_middle_is_where_the_venue_trades() -> None:
    tick = small().symbols["BTC"].price_tick
    world = booked(preset="lively", tick_ms=1000)
    outside = trades = 0
    best: dict[Venue, tuple[float, float]] = {}
    for tape, books in walked(world, [START_MS + 100 * step for step in range(1, 600)]):
        for venue, (bids, asks) in books.items():
            bid, ask = max(bids), min(asks)
            before, best[venue] = best.get(venue), (bid, ask)
            assert ask - bid <= 60 * tick
            assert abs(bid / tape.mark_price - 1.0) < 0.02
            if before is None:
                continue
            low, high = min(bid, before[0]), max(ask, before[1])
            prints = tape.venues[venue]
            ordinary = ~np.isin(prints.trades["price"], prints.liquidations["fill_price"])
            prices = prints.trades["price"][ordinary]
            trades += len(prices)
            outside += int(((prices < low - 1e-9) | (prices > high + 1e-9)).sum())
    assert trades > 300
    assert outside == 0, "prints between two steps lie at or between the best prices before and after"


def test_the_books_do_not_depend_on_how_time_is_cut_nor_disturb_the_market() -> None:
    seed = random.randrange(2**32)
    end_ms = START_MS + 60_000
    cuts = sorted(random.Random(seed).sample(range(START_MS + 1, end_ms), 60))
    *_, (_, whole) = walked(booked(), [end_ms])
    *_, (_, parts) = walked(booked(), [*cuts, end_ms])
    assert parts == whole, f"cuts of seed {seed}"
    plain, with_books = market(preset="lively"), booked(preset="lively")
    for step in range(1, 50):
        bare, full = plain.advance(START_MS + 1000 * step), with_books.advance(START_MS + 1000 * step)
        assert (bare.mark_price, bare.last_price) == (full.mark_price, full.last_price)
        for venue, prints in bare.venues.items():
            assert prints.trades.tobytes() == full.venues[venue].trades.tobytes()
            assert not len(prints.book_changes)


def test_another_seed_and_another_venue_is_another_book_and_the_same_seed_the_same() -> None:
    def first(seed: int) -> dict[Venue, bytes]:
        tape = booked(seed=seed).advance(START_MS + 100)
        return {venue: prints.book_changes.tobytes() for venue, prints in tape.venues.items()}

    one, other = first(1), first(2)
    assert first(1) == one
    assert len({*one.values(), *other.values()}) == 6


def test_a_book_is_dense_in_the_middle_and_moves_there_and_walls_far_out_come_and_go() -> None:
    config = parse({}).sim
    world = BookedMarket(open_market(config, "BTC", START_MS), config)
    near = far = 0
    walls: set[float] = set()
    seen: list[set[float]] = []
    for tape, books in walked(world, [START_MS + 500 * step for step in range(1, 1000)]):
        bids, asks = books[Venue.BINANCE]
        away = np.abs(tape.venues[Venue.BINANCE].book_changes["price"] / tape.last_price - 1.0)
        if len(seen):
            near, far = near + int((away < 0.005).sum()), far + int((away > 0.05).sum())
        typical = float(np.median(list(bids.values())))
        large = {price for levels in (bids, asks) for price, qty in levels.items() if qty > 300 * typical}
        assert all(abs(price / tape.last_price - 1.0) > 0.01 for price in large)
        seen.append(large)
        walls |= large
    within = sum(1 for price in bids if price > 0.995 * tape.last_price)
    assert within > len(bids) / 3
    assert near > 20 * max(far, 1)
    assert walls
    assert any(seen[0] - later for later in seen), "a wall that stood at the start went away"
    assert walls - seen[0], "others came"

"""Order books: an update applied, a book in buckets, a board of three venues painted, memory over many updates."""

import random
import tracemalloc
from collections.abc import Iterator

import numpy as np

from liqmap.domain.book import Book, Level
from liqmap.domain.enums import Venue
from liqmap.domain.grid import Grid, Window
from liqmap.exchanges.adapter import BookRule, BookUpdate
from liqmap.exchanges.booksync import BookSync
from tests.bench.table import Row, in_turns, seconds_each

TICK = 0.1
MID = 60_000.0
LEVELS = 5_000
"""A side of a Binance book within ten percent, after hours."""

Diff = tuple[list[Level], list[Level]]


def rows(effort: float) -> Iterator[Row]:
    """The rows of order books in the table."""
    number = max(20, int(2_000 * effort))
    diffs = _diffs(number)
    book = _book()
    plain: tuple[dict[int, float], dict[int, float]] = ({}, {})

    def applied() -> None:
        for bids, asks in diffs:
            book.apply(bids, asks)

    def by_dict() -> None:
        for changes in diffs:
            for side, levels in zip(plain, changes, strict=True):
                for price, quantity in levels:
                    side[int(price * 1e11 + 0.5)] = quantity

    ours, floor = in_turns(applied, by_dict, 1, 15 if effort >= 1 else 3)
    ours, floor = ours / number, floor / number
    yield Row(
        "order book: apply a diff of 20 levels",
        f"two dicts by whole-number key {floor * 1e6:.1f} µs",
        "≤ 3×",
        f"{ours * 1e6:.1f} µs ({ours / floor:.1f}×), {1 / ours / 1e3:.0f} k/s",
        ours <= 3 * floor,
    )
    stepped = _sync_seconds(diffs)
    yield Row(
        "the same in sequence, never crossed, and shown",
        f"apply {ours * 1e6:.1f} µs",
        "≤ 1.5×",
        f"{stepped * 1e6:.1f} µs ({stepped / ours:.2f}×)",
        stepped <= 1.5 * ours,
    )
    window = Window.around(Grid.of(20.0), MID, 11.5, 2048)
    bucketed = seconds_each(lambda: book.dollars(window), max(1, int(50 * effort)), 3)
    bids, asks = book.level_counts
    yield Row(
        f"dollars per bucket of {bids + asks} levels",
        "",
        "≤ 10 % of a core if nine books were so deep, four times a second",
        f"{bucketed * 1e3:.2f} ms ({bucketed * 36 * 100:.1f} %)",
        bucketed * 36 <= 0.10,
    )
    yield _memory(max(2_000, int(20_000 * effort)))


def _book() -> Book:
    draw = random.Random(3)
    offsets = draw.sample(range(1, 60_000), LEVELS)
    book = Book()
    book.replace(
        [(round(MID - n * TICK, 1), draw.random() * 5) for n in offsets],
        [(round(MID + n * TICK, 1), draw.random() * 5) for n in offsets],
    )
    return book


def _diffs(count: int) -> list[Diff]:
    """Ten levels a side each, most near the middle, a third of them removed."""
    draw = random.Random(5)

    def levels(sign: int) -> list[Level]:
        places = [1 + int(draw.expovariate(1 / 400)) for _ in range(10)]
        return [(round(MID + sign * n * TICK, 1), draw.choice((0.0, 1.0, 2.5))) for n in places]

    return [(levels(-1), levels(1)) for _ in range(count)]


def _sync_seconds(diffs: list[Diff]) -> float:
    """Seconds per update through the state machine."""

    def updates(first: int) -> list[BookUpdate]:
        numbered = enumerate(diffs, start=first)
        return [
            BookUpdate(Venue.OKX, "BTC-USDT-SWAP", "BTC", 0, False, tuple(bids), tuple(asks), n, n - 1)
            for n, (bids, asks) in numbered
        ]

    best = float("inf")
    for _ in range(5):
        sync = BookSync(BookRule.OKX, None, 64)
        start = _book()
        sync.take(BookUpdate(Venue.OKX, "BTC-USDT-SWAP", "BTC", 0, True, tuple(start.bids), tuple(start.asks), 0, None))
        told = updates(1)

        def run(sync: BookSync = sync, told: list[BookUpdate] = told) -> None:
            for update in told:
                sync.take(update)

        best = min(best, seconds_each(run, 1, 1))
        assert sync.shown is not None
    return best / len(diffs)


def _memory(updates: int) -> Row:
    """What a pruned book holds after many updates while price wanders."""
    draw = np.random.default_rng(7)
    book = Book()
    tracemalloc.start()
    peaks: list[int] = []
    mid = MID
    for number in range(updates):
        mid *= 1 + draw.normal(0, 2e-5)
        away = np.round(draw.exponential(0.03, 4) * mid, 1) + TICK
        quantities = draw.choice([0.0, 1.0, 2.5], 4).tolist()
        bids = [(round(mid - d, 1), q) for d, q in zip(away[:2].tolist(), quantities[:2], strict=True)]
        asks = [(round(mid + d, 1), q) for d, q in zip(away[2:].tolist(), quantities[2:], strict=True)]
        book.apply(bids, asks)
        if number % 2_000 == 0:
            book.prune(0.13)
        if number % (updates // 4) == updates // 4 - 1:
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    held = sum(book.level_counts)
    return Row(
        f"memory of a book over {updates} updates",
        "",
        "bounded: ≤ 300 B per level that can stand in the band",
        f"{peaks[-1] / 1e6:.1f} MB at {held} levels ({peaks[-1] / max(held, 1):.0f} B each)",
        peaks[-1] <= 300 * max(held, 1) + 100_000,
    )

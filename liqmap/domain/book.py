"""The order book of one contract at one venue: levels as said, keyed by whole numbers, and how far it is complete.

Levels are (price, qty_base) as the venue's frames said them. The key of a level is its price in units of
1e-11, rounded to a whole number: equal decimals are one key, however they were spelled ("43443.70" and
"43443.7"), so no float ever leaves a ghost level behind. Nothing is summed while updates come, so nothing can drift:
dollars per bucket are computed from the levels when they are asked for.

What a book knows has limits. A snapshot tells of every order down to its deepest level; updates may touch deeper
ones, which are kept and shown, but between them there may be orders nobody told us of. A venue that streams its best
N levels says nothing below the N-th. Levels given up because they lay far out are not known any more.
`complete` names the two prices between which every order is in the book. When price leaves them, better orders may
stand next to it than those that are known: the best price of that side is not known then, and is not shown.
"""

import heapq
import math
from collections.abc import Iterable
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Window

Level = tuple[float, float]
"""Price in quote currency, quantity in base coin; a quantity of 0 removes the level."""

_KEYS_PER_UNIT: Final = 1e11
"""The finest tick of any listed contract is 1e-11 (OKX)."""

_SPARE_HEAP: Final = 64


class _Side:
    """One side of a book. `sign` makes the best level the smallest: -1 for bids, 1 for asks."""

    __slots__ = ("_heap", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[int, Level] = {}
        self._heap: list[int] = []
        """Every key of `levels`, and some that have gone since: cheap to add to, cleaned where it is looked at."""

    def clear(self) -> None:
        self.levels.clear()
        self._heap.clear()

    def apply(self, changes: Iterable[Level]) -> None:
        levels, heap, sign = self.levels, self._heap, self.sign
        for level in changes:
            key = int(level[0] * _KEYS_PER_UNIT + 0.5)
            if level[1] == 0.0:
                levels.pop(key, None)
                continue
            if key not in levels:
                heapq.heappush(heap, sign * key)
            levels[key] = level
        if len(heap) > 2 * len(levels) + _SPARE_HEAP:
            self._rebuild()

    def best(self) -> float:
        """The best price, NaN when nothing stands there."""
        heap, levels, sign = self._heap, self.levels, self.sign
        while heap:
            level = levels.get(sign * heap[0])
            if level is not None:
                return level[0]
            heapq.heappop(heap)
        return math.nan

    def deepest(self) -> float:
        """The price farthest from the middle, NaN when nothing stands there."""
        if not self.levels:
            return math.nan
        return self.levels[max(self.levels) if self.sign > 0 else min(self.levels)][0]

    def keep_best(self, count: int) -> None:
        """Give up what lies behind the `count` best levels."""
        excess = len(self.levels) - count
        if excess > 0:
            worst = heapq.nlargest(excess, self.levels) if self.sign > 0 else heapq.nsmallest(excess, self.levels)
            for key in worst:
                del self.levels[key]

    def give_up_beyond(self, price: float) -> int:
        """Give up levels farther out than `price`; returns how many."""
        sign = self.sign
        beyond = [key for key, level in self.levels.items() if sign * (level[0] - price) > 0]
        for key in beyond:
            del self.levels[key]
        return len(beyond)

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Prices and quantities, in no order."""
        count = len(self.levels)
        flat = np.fromiter(chain.from_iterable(self.levels.values()), np.float64, 2 * count).reshape(count, 2)
        return flat[:, 0], flat[:, 1]

    def in_order(self) -> list[Level]:
        """From the best level outwards."""
        return [self.levels[key] for key in sorted(self.levels, reverse=self.sign < 0)]

    def _rebuild(self) -> None:
        self._heap = [self.sign * key for key in self.levels]
        heapq.heapify(self._heap)


class Book:
    """One venue's book of one contract. `depth`: the venue tells of its best so many levels a side (None: of all)."""

    __slots__ = ("_asks", "_bids", "_cut_high", "_cut_low", "_depth", "_told_high", "_told_low", "dropped_levels")

    def __init__(self, depth: int | None = None) -> None:
        self._depth = depth
        self._bids = _Side(-1)
        self._asks = _Side(1)
        self._told_low = self._told_high = math.nan
        self._cut_low, self._cut_high = 0.0, math.inf
        self.dropped_levels = 0
        """Levels given up by `prune`, since the book was made."""

    def replace(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """A snapshot: what was known before is gone."""
        self.clear()
        self.apply(bids, asks)
        self._told_low, self._told_high = self._bids.deepest(), self._asks.deepest()

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Changes: absolute quantities, 0 removes; removing what is not there is normal."""
        self._bids.apply(bids)
        self._asks.apply(asks)
        if self._depth is not None:
            self._bids.keep_best(self._depth)
            self._asks.keep_best(self._depth)

    def take_beyond(self, other: "Book") -> None:
        """Take over what `other` holds deeper than the snapshot of this book reached."""
        low, high = self._told_low, self._told_high
        self._bids.apply([level for level in other._bids.levels.values() if level[0] < low])
        self._asks.apply([level for level in other._asks.levels.values() if level[0] > high])

    def clear(self) -> None:
        """Nothing is known any more."""
        self._bids.clear()
        self._asks.clear()
        self._told_low = self._told_high = math.nan
        self._cut_low, self._cut_high = 0.0, math.inf

    def prune(self, share: float) -> int:
        """Give up levels farther from the best of their side than `share` of it; returns how many. They are unknown
        from now on."""
        low, high = self._bids.best() * (1 - share), self._asks.best() * (1 + share)
        bids, asks = self._bids.give_up_beyond(low), self._asks.give_up_beyond(high)
        if bids:
            self._cut_low = max(self._cut_low, low)
        if asks:
            self._cut_high = min(self._cut_high, high)
        self.dropped_levels += bids + asks
        return bids + asks

    @property
    def best_bid(self) -> float:
        """The highest bid, NaN when there is none, or when a higher one may stand there that is not known."""
        return math.nan if self._bids_astray else self._bids.best()

    @property
    def best_ask(self) -> float:
        """The lowest ask, NaN when there is none, or when a lower one may stand there that is not known."""
        return math.nan if self._asks_astray else self._asks.best()

    @property
    def crossed(self) -> bool:
        """The best bid stands at or above the best ask: never true of a right book in continuous trading."""
        return self._bids.best() >= self._asks.best()

    @property
    def astray(self) -> bool:
        """Price has left what a side is complete for: orders may stand next to it that nobody told of."""
        return self._bids_astray or self._asks_astray

    @property
    def mid(self) -> float:
        """Half way between the best bid and the best ask; NaN when one is not known, or when the book is crossed."""
        bid, ask = self.best_bid, self.best_ask
        return (bid + ask) / 2 if bid < ask else math.nan

    def agrees_with(self, other: "Book") -> bool:
        """Their best prices are the same, within what both are complete for; that may be none at all."""
        bid_end, ask_end = max(self._bid_end, other._bid_end), min(self._ask_end, other._ask_end)
        bids, asks = ([book._bids.best() for book in (self, other)], [book._asks.best() for book in (self, other)])
        return (bids[0] == bids[1] or not (bids[0] >= bid_end or bids[1] >= bid_end)) and (
            asks[0] == asks[1] or not (asks[0] <= ask_end or asks[1] <= ask_end)
        )

    @property
    def level_counts(self) -> tuple[int, int]:
        """Bid and ask levels that are held."""
        return len(self._bids.levels), len(self._asks.levels)

    @property
    def bids(self) -> list[Level]:
        """From the best bid down."""
        return self._bids.in_order()

    @property
    def asks(self) -> list[Level]:
        """From the best ask up."""
        return self._asks.in_order()

    @property
    def complete(self) -> tuple[float, float]:
        """The two prices between which every order is in the book; NaN where a side is empty."""
        low, high = self._told_low, self._told_high
        if self._depth is not None:
            low, high = self._bids.deepest(), self._asks.deepest()
        # NaN first: max and min return their first argument when a comparison with NaN fails.
        return max(low, self._cut_low), min(high, self._cut_high)

    @property
    def _bid_end(self) -> float:
        """All bids from here up are in the book; of a venue's best N levels that is so wherever price goes."""
        return max(self._cut_low, self._told_low) if self._depth is None else self._cut_low

    @property
    def _ask_end(self) -> float:
        return min(self._cut_high, self._told_high) if self._depth is None else self._cut_high

    @property
    def _bids_astray(self) -> bool:
        end = self._bid_end
        return end > 0.0 and not self._bids.best() >= end

    @property
    def _asks_astray(self) -> bool:
        end = self._ask_end
        return end < math.inf and not self._asks.best() <= end

    def dollars(self, window: Window) -> NDArray[np.float64]:
        """Dollars (price × quantity) of what stands in each cell, shape (2, window.count), side 0 bid and 1 ask.

        NaN: unknown, which is a cell that is not wholly within what the side is complete for, and where nothing is
        known to stand. Beyond the best price of its own side a book is complete: nothing stands there.
        """
        low, high = self.complete
        edges = (2 * np.arange(window.first, window.first + window.count + 1) - 1) * (
            window.grid.numerator / (2 * window.grid.denominator)
        )
        dollars = np.empty((2, window.count))
        for row, side, known in ((0, self._bids, edges[:-1] >= low), (1, self._asks, edges[1:] <= high)):
            prices, quantities = side.arrays()
            cells = window.grid.buckets(prices) - window.first
            inside = (cells >= 0) & (cells < window.count)
            worth = (prices * quantities)[inside]
            dollars[row] = np.bincount(cells[inside], worth, window.count)
            dollars[row, (dollars[row] == 0.0) & ~known] = np.nan
        return dollars

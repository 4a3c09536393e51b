"""At which prices the positions of a minute were entered.

A minute's entries are spread evenly over its range. A change of open interest that covers several minutes (a slow poll,
an hourly close) is booked when it is known, and its entries are spread evenly over the minutes it covers.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Grid
from liqmap.engine.bars import MinuteBar

HISTORY_MINUTES: Final = 240


@dataclass(frozen=True, slots=True)
class EntryProfile:
    """Shares (summing to 1) of the entries by price; prices are centres of buckets, rising, shares above 0."""

    prices: NDArray[np.float64]
    shares: NDArray[np.float64]


class EntryHistory:
    """Ranges of the last minutes."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._ranges: deque[tuple[float, float] | None] = deque(maxlen=HISTORY_MINUTES)
        self._last: tuple[float, float] | None = None

    def append(self, bar: MinuteBar) -> None:
        """The next minute, known or not."""
        self._ranges.append((bar.low, bar.high) if bar.known else None)
        if bar.known:
            self._last = bar.close, bar.close

    def skip(self, minutes: int) -> None:
        """Minutes of which nothing is known."""
        self._ranges.extend([None] * min(minutes, HISTORY_MINUTES))

    def profile(self, spans: tuple[tuple[int, float], ...]) -> EntryProfile | None:
        """Entries of a minute's openings, `spans` being (minutes covered, change) with some change above zero.

        Where no minute of a span has a price, the last known price stands in; None when there never was one.
        """
        if self._last is None:
            return None
        weights: dict[tuple[float, float], float] = {}
        opened = [(minutes, change) for minutes, change in spans if change > 0]
        total = sum(change for _, change in opened)
        for minutes, change in opened:
            ranges = [r for r in list(self._ranges)[-minutes:] if r is not None] or [self._last]
            for one in ranges:
                weights[one] = weights.get(one, 0.0) + change / total / len(ranges)
        return self._spread(weights)

    def _spread(self, weights: dict[tuple[float, float], float]) -> EntryProfile:
        first = self._grid.bucket(min(low for low, _ in weights))
        last = self._grid.bucket(max(high for _, high in weights))
        buckets = np.arange(first, last + 1, dtype=np.int64)
        edges = (
            (2 * np.arange(first, last + 2, dtype=np.int64) - 1) * self._grid.numerator / (2 * self._grid.denominator)
        )
        shares = np.zeros(len(buckets))
        for (low, high), weight in weights.items():
            if high > low:
                passed = np.minimum(np.maximum((edges - low) / (high - low), 0.0), 1.0)
                shares += weight * (passed[1:] - passed[:-1])
            else:
                shares[self._grid.bucket(low) - first] += weight
        held = shares > 0
        return EntryProfile(self._grid.prices(buckets[held]), shares[held])

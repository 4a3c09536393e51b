"""At which prices the positions of a minute were entered.

A minute's entries are spread evenly over its range. A change of open interest is booked when it is known, and entered
where price was while it happened: its entries are spread evenly over the stretch it covers (a slow poll, an hourly
close), which may lie wholly before the minute in which it became known.
"""

import math
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

    def profile(self, spans: tuple[tuple[float, float, float], ...]) -> EntryProfile | None:
        """Entries of a minute's openings; `spans` as in OpenInterestStep, with some change above zero.

        Where no minute of a span has a price, the last known price stands in; None when there never was one.
        """
        if self._last is None:
            return None
        weights: dict[tuple[float, float], float] = {}
        opened = [span for span in spans if span[2] > 0]
        total = sum(change for _, _, change in opened)
        for begin, end, change in opened:
            covered = self._covered(begin, end) or [(self._last, 1.0)]
            parts = sum(part for _, part in covered)
            for one, part in covered:
                weights[one] = weights.get(one, 0.0) + change / total * (part / parts)
        return self._spread(weights)

    def _covered(self, begin: float, end: float) -> list[tuple[tuple[float, float], float]]:
        """Known ranges of the minutes that the stretch touches, oldest first, each with its part of the stretch."""
        found = []
        for back in range(min(math.ceil(begin), len(self._ranges)) - 1, int(end) - 1, -1):
            one = self._ranges[len(self._ranges) - 1 - back]
            part = min(begin, back + 1.0) - max(end, float(back))
            if one is not None and part > 0:
                found.append((one, part))
        return found

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

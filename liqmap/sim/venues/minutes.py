"""Minute bars of one contract: of the past that the market remembers, then of what was simulated.

The past is a line of marks, so its bars run straight from one mark to the next. The minute that is open is a bar like
any other, with what it has so far: that is how venues serve it.
"""

from typing import Final, NamedTuple

import numpy as np

from liqmap.sim.tape import Past

MINUTE_MS: Final = 60_000
_KEPT: Final = 30 * 1440


class Bar(NamedTuple):
    """Prices quote, volumes base."""

    minute_ms: int
    open: float
    high: float
    low: float
    close: float
    bought_base: float
    sold_base: float


class MinuteBars:
    """In order of time."""

    def __init__(self) -> None:
        self._bars: dict[int, Bar] = {}

    def remember(self, past: Past) -> None:
        """What was before the first step; before its first whole minute there is nothing."""
        times = past.times_ms
        first_ms = -(-int(times[0]) // MINUTE_MS) * MINUTE_MS
        edges = np.arange(first_ms, int(times[-1]), MINUTE_MS)
        ends = np.append(edges[1:], times[-1])
        opens, closes = np.interp(edges, times, past.marks), np.interp(ends, times, past.marks)
        highs, lows = np.maximum(opens, closes), np.minimum(opens, closes)
        place = np.searchsorted(edges, times, side="right") - 1
        inside = place >= 0
        np.maximum.at(highs, place[inside], past.marks[inside])
        np.minimum.at(lows, place[inside], past.marks[inside])
        bought, sold = (
            np.interp(ends, times, summed) - np.interp(edges, times, summed)
            for summed in (np.cumsum(past.bought_base), np.cumsum(past.sold_base))
        )
        columns = (edges, opens, highs, lows, closes, bought, sold)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        self._bars = {row[0]: Bar(*row) for row in rows}

    def step(self, price: float, bought_base: float, sold_base: float, now_ms: int) -> None:
        """The price at the end of a step, and what was traded in it."""
        minute_ms = (now_ms - 1) // MINUTE_MS * MINUTE_MS
        bar = self._bars.get(minute_ms)
        if bar is None:
            before = next(reversed(self._bars.values())).close if self._bars else price
            bar = Bar(minute_ms, before, max(before, price), min(before, price), price, 0.0, 0.0)
            if len(self._bars) >= _KEPT:
                del self._bars[next(iter(self._bars))]
        self._bars[minute_ms] = bar._replace(
            high=max(bar.high, price),
            low=min(bar.low, price),
            close=price,
            bought_base=bar.bought_base + bought_base,
            sold_base=bar.sold_base + sold_base,
        )

    def between(self, from_ms: int, to_ms: int, most: int, *, newest: bool) -> list[Bar]:
        """The bars that open in [from_ms, to_ms], at most so many: the newest of them or the oldest, ascending."""
        first = -(-from_ms // MINUTE_MS) * MINUTE_MS
        if self._bars:
            first = max(first, next(iter(self._bars)))
            to_ms = min(to_ms, next(reversed(self._bars)))
        minutes = range(first, to_ms + 1, MINUTE_MS)
        chosen = minutes[-most:] if newest else minutes[:most]
        return [self._bars[minute_ms] for minute_ms in chosen if minute_ms in self._bars]

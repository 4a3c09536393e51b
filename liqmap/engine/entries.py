"""At which prices the positions of a minute were entered.

A minute's entries follow its volume at price: the trades of each second, spread evenly over the range they had in it.
Where no trades are known, or only sums of a minute bar, they are spread over the bar as a triangle with its top at the
typical price (high + low + close) / 3. A change of open interest is booked when it is known, and entered where price
was while it happened: its entries follow the minutes of the stretch it covers (a slow poll, an hourly close), which may
lie wholly before the minute in which it became known.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Grid
from liqmap.engine.bars import MinuteBar, MinuteTape

HISTORY_MINUTES: Final = 240

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EntryProfile:
    """Shares (summing to 1) of the entries by price; prices are centres of buckets, rising, shares above 0."""

    prices: Floats
    shares: Floats


class EntryHistory:
    """Profiles of the last minutes."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._minutes: deque[EntryProfile | None] = deque(maxlen=HISTORY_MINUTES)
        self._last: EntryProfile | None = None

    def append(self, bar: MinuteBar, tape: MinuteTape) -> None:
        """The next minute, known or not."""
        profile = volume_profile(self._grid, bar, tape) if bar.known else None
        self._minutes.extend([profile] * bar.covers_min)
        if profile is not None:
            at_close = self._grid.price(self._grid.bucket(bar.close))
            self._last = EntryProfile(np.array([at_close]), np.ones(1))

    def skip(self, minutes: int) -> None:
        """Minutes of which nothing is known."""
        self._minutes.extend([None] * min(max(minutes, 0), HISTORY_MINUTES))

    @property
    def last_minute(self) -> EntryProfile | None:
        """Entries of the last minute; at the last known price where it had none; None when there never was one."""
        return (self._minutes[-1] if self._minutes else None) or self._last

    def profile(self, spans: tuple[tuple[float, float, float], ...]) -> EntryProfile | None:
        """Entries of a minute's openings; `spans` as in OpenInterestStep.

        Where no minute of a span has a price, the last known price stands in. None: no span opened anything, or there
        never was a price.
        """
        opened = [span for span in spans if span[2] > 0]
        if self._last is None or not opened:
            return None
        weighed: dict[int, tuple[EntryProfile, float]] = {}
        total = sum(change for _, _, change in opened)
        for begin, end, change in opened:
            covered = self._covered(begin, end) or [(self._last, 1.0)]
            parts = sum(part for _, part in covered)
            for profile, part in covered:
                _, weight = weighed.get(id(profile), (profile, 0.0))
                weighed[id(profile)] = profile, weight + change / total * (part / parts)
        profiles = list(weighed.values())
        return profiles[0][0] if len(profiles) == 1 else self._mixed(profiles)

    def _covered(self, begin: float, end: float) -> list[tuple[EntryProfile, float]]:
        """Known minutes that the stretch touches, oldest first, each with its part of the stretch."""
        found = []
        for back in range(min(math.ceil(begin), len(self._minutes)) - 1, int(end) - 1, -1):
            one = self._minutes[len(self._minutes) - 1 - back]
            part = min(begin, back + 1.0) - max(end, float(back))
            if one is not None and part > 0:
                found.append((one, part))
        return found

    def _mixed(self, profiles: list[tuple[EntryProfile, float]]) -> EntryProfile:
        first = self._grid.bucket(min(float(profile.prices[0]) for profile, _ in profiles))
        last = self._grid.bucket(max(float(profile.prices[-1]) for profile, _ in profiles))
        shares = np.zeros(last - first + 1)
        for profile, weight in profiles:
            shares[self._grid.buckets(profile.prices) - first] += weight * profile.shares
        return _held(self._grid, first, shares)


def volume_profile(grid: Grid, bar: MinuteBar, tape: MinuteTape) -> EntryProfile:
    """Entries of one minute with a known price, by the rule of the module's text."""
    low, high, volumes = tape.volume_at_price()
    if len(volumes) == 0:
        return _triangle(grid, bar)
    first, last = grid.bucket(float(low.min())), grid.bucket(float(high.max()))
    edges = _edges(grid, first, last)
    span = high - low
    flat = span <= 0
    span[flat] = 1.0
    passed = np.minimum(np.maximum((edges[None, :] - low[:, None]) / span[:, None], 0.0), 1.0)
    passed[flat] = edges[None, :] > low[flat, None]
    shares = (volumes[:, None] * (passed[:, 1:] - passed[:, :-1])).sum(axis=0) / float(volumes.sum())
    return _held(grid, first, shares)


def _triangle(grid: Grid, bar: MinuteBar) -> EntryProfile:
    low, high = bar.low, bar.high
    first, last = grid.bucket(low), grid.bucket(high)
    if first == last:
        return _held(grid, first, np.ones(1))
    top = min(max((high + low + bar.close) / 3, low), high)
    edges = np.minimum(np.maximum(_edges(grid, first, last), low), high)
    rising, falling = _halves(edges, (low, top, high))
    passed = np.where(edges <= top, rising, falling)
    return _held(grid, first, passed[1:] - passed[:-1])


def _halves(edges: Floats, corners: tuple[float, float, float]) -> tuple[Floats, Floats]:
    """The cumulated triangle left and right of its top; a top at a corner has only the other half."""
    low, top, high = corners
    rising = (edges - low) * (edges - low) / ((high - low) * (top - low)) if top > low else np.zeros(len(edges))
    falling = (
        1.0 - (high - edges) * (high - edges) / ((high - low) * (high - top)) if high > top else np.ones(len(edges))
    )
    return rising, falling


def _edges(grid: Grid, first: int, last: int) -> Floats:
    """Lower edges of the buckets `first` to `last`, and the upper one of the last."""
    doubled = 2 * np.arange(first, last + 2, dtype=np.int64) - 1
    return np.asarray(doubled * grid.numerator / (2 * grid.denominator), dtype=np.float64)


def _held(grid: Grid, first: int, shares: Floats) -> EntryProfile:
    """The buckets that have a share."""
    held = shares > 0
    buckets = np.arange(first, first + len(shares), dtype=np.int64)
    return EntryProfile(grid.prices(buckets[held]), shares[held])

"""Prices as integers: the grid of buckets, windows on it, and moving dollars between windows.

A bucket is a whole number of steps: `bucket = floor(price / step + 0.5)`, `price = bucket * step` rounded to the
decimals of the step. The step is held as a ratio of integers, so `price` is the double nearest to the decimal a
person would write, and the round trip is exact for every step (also 0.1, 0.01, 0.0001): nothing is ever accumulated.
Bucket b covers the prices from (b - 1/2) to (b + 1/2) steps.
"""

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Grid:
    """A step as `numerator / denominator`, the denominator a power of ten. Make it with `Grid.of`."""

    numerator: int
    denominator: int

    @classmethod
    def of(cls, step: float) -> "Grid":
        """The grid of a step as people write it (20, 1, 0.1, 0.0001). Raises ValueError unless positive and finite."""
        if not (math.isfinite(step) and step > 0):
            raise ValueError(f"a price step must be positive and finite, not {step!r}")
        exponent = Decimal(repr(float(step))).normalize().as_tuple().exponent
        decimals = max(0, -int(exponent))
        denominator = 10**decimals
        return cls(int(Decimal(repr(float(step))) * denominator), denominator)

    @property
    def step(self) -> float:
        """The step in quote currency."""
        return self.numerator / self.denominator

    def bucket(self, price: float) -> int:
        """The bucket that holds `price`."""
        return math.floor(price / self.step + 0.5)

    def price(self, bucket: int) -> float:
        """The centre of a bucket."""
        return bucket * self.numerator / self.denominator

    def buckets(self, prices: NDArray[np.float64]) -> NDArray[np.int64]:
        """`bucket` for an array of finite prices."""
        return np.floor(prices / self.step + 0.5).astype(np.int64)

    def prices(self, buckets: NDArray[np.int64]) -> NDArray[np.float64]:
        """`price` for an array of buckets."""
        return np.asarray(buckets * self.numerator / self.denominator, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Window:
    """`count` neighbouring buckets from `first` on, laid around `anchor`; cell i of an array is bucket `first + i`.

    `capped`: the arrays hold fewer buckets than the wanted range needs, so the window is narrower than asked for.
    """

    grid: Grid
    anchor: float
    first: int
    count: int
    capped: bool = False

    @classmethod
    def around(cls, grid: Grid, anchor: float, range_pct: float, capacity: int) -> "Window":
        """The window of +-`range_pct` percent of `anchor`, above zero, at most `capacity` buckets about the anchor.

        Raises ValueError when the anchor is not a positive price.
        """
        if not (math.isfinite(anchor) and anchor > 0):
            raise ValueError(f"a window needs a positive anchor price, not {anchor!r}")
        centre = max(1, grid.bucket(anchor))
        low = max(1, grid.bucket(anchor * (1 - range_pct / 100)))
        high = max(centre, grid.bucket(anchor * (1 + range_pct / 100)))
        capped = high - low + 1 > capacity
        if capped:
            low = max(low, centre - (capacity - 1) // 2)
            high = low + capacity - 1
        return cls(grid, anchor, low, high - low + 1, capped)

    @property
    def low_edge(self) -> float:
        """The lowest price that the window covers."""
        return (2 * self.first - 1) * self.grid.numerator / (2 * self.grid.denominator)

    @property
    def reach_pct(self) -> tuple[float, float]:
        """How far the window really reaches below and above its anchor, in percent."""
        prices = self.prices()
        return 100 * (1 - float(prices[0]) / self.anchor), 100 * (float(prices[-1]) / self.anchor - 1)

    def prices(self) -> NDArray[np.float64]:
        """The centres of the cells, shape (count,)."""
        return self.grid.prices(np.arange(self.first, self.first + self.count, dtype=np.int64))

    def cell(self, price: float) -> int:
        """The cell of a price; negative or >= count when it lies outside."""
        return self.grid.bucket(price) - self.first

    def drifted(self, price: float, share: float) -> bool:
        """Whether `price` is more than `share` of the anchor away from it."""
        return abs(price - self.anchor) > share * self.anchor


@dataclass(frozen=True, slots=True)
class Rebinned:
    """Dollars in another window: `values` (…, cells), and what fell off its lower and its upper edge (…)."""

    values: NDArray[np.float64]
    below: NDArray[np.float64]
    above: NDArray[np.float64]


def rebin(values: NDArray[np.floating], source: Window, target: Window) -> Rebinned:
    """The dollars `values` (…, source.count) in the cells of `target`, each cell shared by overlap.

    Steps and anchors may differ. No dollar is lost: values.sum() + below + above is what it was. Between windows of
    one grid every cell is moved whole, to the bit. Overlaps are whole numbers of a common unit, so cells that only
    touch exchange nothing.
    """
    unit = 2 * math.lcm(source.grid.denominator, target.grid.denominator)
    source_edges, target_edges = _edges(source, unit), _edges(target, unit)
    inside = target_edges[(target_edges > source_edges[0]) & (target_edges < source_edges[-1])]
    pieces = np.union1d(source_edges, inside)
    origin = np.searchsorted(source_edges, pieces[:-1], side="right") - 1
    place = np.searchsorted(target_edges, pieces[:-1], side="right")
    share = np.diff(pieces) / (source_edges[1] - source_edges[0])
    amounts = np.asarray(values, dtype=np.float64)[..., origin] * share
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    moved = np.zeros((*values.shape[:-1], target.count + 2))
    moved[..., place[starts]] = np.add.reduceat(amounts, starts, axis=-1)
    return Rebinned(moved[..., 1:-1].copy(), moved[..., 0].copy(), moved[..., -1].copy())


def _edges(window: Window, unit: int) -> NDArray[np.int64]:
    """The count + 1 edges of the cells in units of 1 / `unit` of the quote currency."""
    doubled = 2 * np.arange(window.first, window.first + window.count + 1, dtype=np.int64) - 1
    return np.asarray(doubled * (window.grid.numerator * (unit // (2 * window.grid.denominator))), dtype=np.int64)

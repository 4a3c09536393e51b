"""Where positions opened at known prices will be liquidated: a tier's distance, smeared.

People add margin, use cross margin and choose leverages between the tiers, so a tier's triggers lie at entry times
(1 -+ distance * z) with z log-normal about 1, WIDTH wide in its logarithm, never in a single bucket. The cumulated
distribution of z is a table; cells take differences of it, so that nothing is lost between them.

What of a position opened in a minute would already have been passed at the end of that minute is not there any more or
was never opened: both models place the minute's openings ahead of its closing price.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Window
from liqmap.engine.entries import EntryProfile
from liqmap.engine.spec import significant

Floats = NDArray[np.float64]

WIDTH: Final = 0.2

LONG_SIGN: Final = +1
SHORT_SIGN: Final = -1
SIGNS: Final = (LONG_SIGN, SHORT_SIGN)
"""By side: longs are liquidated below their entry, shorts above."""

_NEAREST: Final = 0.5
_FARTHEST: Final = 2.0
_Z: Final = np.array([significant(_NEAREST + (_FARTHEST - _NEAREST) * i / 500) for i in range(501)])
_CDF: Final = np.array([significant(0.5 * (1 + math.erf(math.log(z) / (WIDTH * math.sqrt(2))))) for z in _Z])
_CDF[0], _CDF[-1] = 0.0, 1.0


@dataclass(frozen=True, slots=True)
class Smear:
    """Where one unit goes: `shares` of it to the cells from `first` on, the rest `below` and `above` the window."""

    first: int
    shares: Floats
    below: float
    above: float

    @property
    def cells(self) -> slice:
        """The cells it reaches."""
        return slice(self.first, self.first + len(self.shares))

    def add_to(self, cells: Floats, ends: Floats, amount: float) -> None:
        """Put `amount` into the cells of one side and tier, and what lies beyond them into its two ends."""
        cells[self.cells] += amount * self.shares
        ends[0] += amount * self.below
        ends[1] += amount * self.above


@dataclass(frozen=True, slots=True)
class Placement:
    """Where positions opened at one profile of prices are liquidated: `by[side][tier]` of one unit of quantity."""

    mean_price: float
    by: tuple[tuple[Smear, ...], ...]

    @classmethod
    def of(cls, profile: EntryProfile, window: Window, distances: tuple[float, ...]) -> "Placement":
        """The placement of positions entered by `profile` in tiers of these distances."""
        mean_price = float((profile.prices * profile.shares).sum()) / float(profile.shares.sum())
        by = tuple(
            tuple(smear(window, profile.prices, profile.shares, sign, distance) for distance in distances)
            for sign in SIGNS
        )
        return cls(mean_price, by)


def smear(window: Window, entry_prices: Floats, shares: Floats, sign: int, distance: float) -> Smear:
    """Where positions entered at `entry_prices` are liquidated in one tier.

    Entry prices rise, shares are above 0. `sign` is +1 for longs, whose triggers lie below, -1 for shorts; `distance`
    is the tier's share of the entry price. What comes out sums to the sum of `shares`.
    """
    prices, amounts = _coarsened(entry_prices, shares, WIDTH * distance * float(entry_prices[0]))
    step, low_edge = window.grid.step, window.low_edge
    outermost = (_FARTHEST, _NEAREST) if sign > 0 else (-_NEAREST, -_FARTHEST)
    first = math.floor((prices[0] * (1 - distance * outermost[0]) - low_edge) / step)
    last = math.ceil((prices[-1] * (1 - distance * outermost[1]) - low_edge) / step)
    first, last = min(max(first, 0), window.count), min(max(last, 0), window.count)
    edges = low_edge + step * np.arange(first, last + 1)
    if len(prices) == 1:
        below_edge = _passed((edges - prices[0]) * (-sign / (prices[0] * distance)), sign)
        above = float(amounts[0]) * (1.0 - float(below_edge[-1]))
        below_edge *= amounts[0]
    else:
        passed = _passed((edges - prices[:, None]) * (-sign / (prices * distance))[:, None], sign)
        above = float((amounts * (1.0 - passed[:, -1])).sum())
        passed *= amounts[:, None]
        below_edge = passed.sum(axis=0)
    return Smear(first, below_edge[1:] - below_edge[:-1], float(below_edge[0]), above)


def _passed(distances: Floats, sign: int) -> Floats:
    """The share of a unit whose trigger lies below each place, told by its distance from the entry in those of the
    tier."""
    passed: Floats = np.interp(distances, _Z, _CDF)
    if sign > 0:
        np.subtract(1.0, passed, out=passed)
    return passed


def _coarsened(prices: Floats, shares: Floats, width: float) -> tuple[Floats, Floats]:
    """Entries within `width` of each other drawn together, at their weighted price."""
    if len(prices) > 1 and prices[-1] - prices[0] < width:
        total = float(shares.sum())
        return np.array([float((shares * prices).sum()) / total]), np.array([total])
    groups = np.floor((prices - prices[0]) / width)
    new = np.ones(len(groups), dtype=np.bool_)
    np.not_equal(groups[1:], groups[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    if len(starts) == len(prices):
        return prices, shares
    amounts = np.add.reduceat(shares, starts)
    return np.add.reduceat(shares * prices, starts) / amounts, amounts

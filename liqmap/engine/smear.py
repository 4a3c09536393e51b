"""Where positions opened at known prices will be liquidated: a tier's distance, smeared.

People add margin, use cross margin and choose leverages between the tiers, so a tier's triggers lie at entry times
(1 -+ distance * z) with z log-normal about 1, WIDTH wide in its logarithm, never in a single bucket. The cumulated
distribution of z is a table; cells take differences of it, so that no dollar is lost between them.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Window
from liqmap.engine.spec import significant

Floats = NDArray[np.float64]

WIDTH: Final = 0.12

_NEAREST: Final = 0.6
_FARTHEST: Final = 1.65
_Z: Final = np.array([significant(_NEAREST + (_FARTHEST - _NEAREST) * i / 420) for i in range(421)])
_CDF: Final = np.array([significant(0.5 * (1 + math.erf(math.log(z) / (WIDTH * math.sqrt(2))))) for z in _Z])
_CDF[0], _CDF[-1] = 0.0, 1.0


def smear(
    cells: Floats, window: Window, entry_prices: Floats, dollars: Floats, sign: int, distance: float
) -> tuple[float, float]:
    """Add the dollars of positions entered at `entry_prices` to the trigger `cells` of one tier, in place.

    Entry prices rise, dollars are above 0. `sign` is +1 for longs, whose triggers lie below, -1 for shorts; `distance`
    is the tier's share of the entry price. Returns what lies below and above the window: cells + below + above grow by
    the sum of `dollars`.
    """
    prices, amounts = _coarsened(entry_prices, dollars, WIDTH * distance * float(entry_prices[0]) / 2)
    step, low_edge = window.grid.step, window.low_edge
    outermost = (_FARTHEST, _NEAREST) if sign > 0 else (-_NEAREST, -_FARTHEST)
    first = math.floor((prices[0] * (1 - distance * outermost[0]) - low_edge) / step)
    last = math.ceil((prices[-1] * (1 - distance * outermost[1]) - low_edge) / step)
    first, last = min(max(first, 0), window.count), min(max(last, 0), window.count)
    edges = low_edge + step * np.arange(first, last + 1)
    scale = (prices * distance)[:, None]
    passed = np.interp(sign * (prices[:, None] - edges[None, :]) / scale, _Z, _CDF)
    if sign > 0:
        passed = 1.0 - passed
    below_edge = (amounts[:, None] * passed).sum(axis=0)
    cells[first:last] += below_edge[1:] - below_edge[:-1]
    return float(below_edge[0]), float((amounts * (1.0 - passed[:, -1])).sum())


def _coarsened(prices: Floats, dollars: Floats, width: float) -> tuple[Floats, Floats]:
    """Entries within `width` of each other drawn together, at their dollar-weighted price."""
    groups = np.floor((prices - prices[0]) / width)
    starts = np.flatnonzero(np.diff(groups, prepend=-1.0))
    if len(starts) == len(prices):
        return prices, dollars
    amounts = np.add.reduceat(dollars, starts)
    return np.add.reduceat(dollars * prices, starts) / amounts, amounts

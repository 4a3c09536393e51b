"""What every projection model is to the engine: dollars by side, tier and trigger price, moved minute by minute."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Projection
from liqmap.domain.grid import Window
from liqmap.engine.bars import MinuteBar
from liqmap.engine.smear import Placement

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Minute:
    """A minute that closes, as models see it.

    `minutes` is the time since the last one closed (more than one after a hole in the feed). `at_volume` says where
    what is opened in this minute will be liquidated, `at_change` the same of the known change of open interest, by its
    own stretch of time; None: no price was ever known, or no change opened anything. `weights[side, tier]` are the
    shares of new positions in force.
    """

    bar: MinuteBar
    minutes: int
    at_volume: Placement | None
    at_change: Placement | None
    weights: Floats


class ProjectionModel(Protocol):
    """Side 0 is long, 1 short. Arrays are the model's own: read, never written, by others."""

    @property
    def swept_share(self) -> float:
        """What a bucket loses when price passes it."""

    @property
    def projection(self) -> Projection | None:
        """What the numbers are: dollars, densities that compare with each other, None: nothing yet."""

    @property
    def usd(self) -> Floats:
        """(side, tier, cell) dollars that would be liquidated at each price."""

    @property
    def outside_usd(self) -> Floats:
        """(side, tier, end) dollars below and above the window."""

    def coverage(self, open_interest_usd: float, /) -> Floats:
        """By side, the share of the open interest (dollars, one side) whose place is known."""

    def show(self, kept: Floats, shown: NDArray[np.float32]) -> None:
        """Write the dollars into `shown` (side, tier, cell), of each cell the share `kept` (side, cell)."""

    def usd_by_side(self) -> Floats:
        """(side, cell) dollars, all tiers summed."""

    def advance(self, minute: Minute) -> None:
        """Close a minute."""

    def move(self, window: Window) -> None:
        """Look through another window; what falls off goes to `outside_usd`."""


def traversed(prices: Floats, low: float, high: float) -> tuple[slice, slice]:
    """Cells that price has passed when it ranged from `low` to `high`: (of longs, of shorts).

    Longs: everything from the low upwards; shorts: everything from the high downwards.
    """
    return slice(int(np.searchsorted(prices, low, "left")), None), slice(0, int(np.searchsorted(prices, high, "right")))

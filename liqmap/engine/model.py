"""What every projection model is to the engine: dollars by side, tier and trigger price, moved minute by minute."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Window
from liqmap.engine.bars import MinuteBar
from liqmap.engine.entries import EntryHistory


class ProjectionModel(Protocol):
    """Side 0 is long, 1 short. Arrays are the model's own: read, never written, by others."""

    usd: NDArray[np.float64]
    """(side, tier, cell) dollars that would be liquidated at each price."""
    outside_usd: NDArray[np.float64]
    """(side, tier, end) dollars below and above the window."""

    def total_usd(self) -> float:
        """All dollars of both sides, those beyond the window included."""

    def advance(self, bar: MinuteBar, minutes: int, entries: EntryHistory, weights: NDArray[np.float64]) -> None:
        """Close a minute.

        `minutes` is the time since the last one closed (more than one after a hole in the feed), `entries` ends with
        this minute, `weights[side, tier]` are the shares of new positions in force.
        """

    def move(self, window: Window) -> None:
        """Look through another window; what falls off goes to `outside_usd`."""

"""Evidence: dollars that were liquidated, by price and side. Nothing removes them except time."""

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide
from liqmap.domain.grid import Window, rebin
from liqmap.engine.frames import SIDES, Liquidation

LONG, SHORT = 0, 1


def trigger_price(printed: float, side: int, mmr: float, mark_range: tuple[float, float] | None) -> float:
    """Where the mark stood when a position with that printed (bankruptcy or limit) price was liquidated.

    The maintenance margin is taken out of the printed price (exact for high leverage, 0.1 % off at 5x), then the
    range of the mark in the seconds of the event has the last word. Without a known range the estimate stands.
    """
    estimate = printed / (1 - mmr) if side == PositionSide.LONG else printed / (1 + mmr)
    return estimate if mark_range is None else min(max(estimate, mark_range[0]), mark_range[1])


class Evidence:
    """`usd[side, cell]` inside the window and `outside_usd[side, end]` (below, above) beyond its edges."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.usd: NDArray[np.float64] = np.zeros((SIDES, window.count))
        self.outside_usd: NDArray[np.float64] = np.zeros((SIDES, 2))

    def decay(self, factor: float) -> None:
        """Let time pass."""
        self.usd *= factor
        self.outside_usd *= factor

    def add(self, liquidation: Liquidation, factor: float) -> None:
        """One event; `factor` is what time has left of it."""
        place(self.usd, self.outside_usd, self.window, liquidation, factor)

    def move(self, window: Window) -> None:
        """Look through another window; what falls off is kept by end."""
        moved = rebin(self.usd, self.window, window)
        self.usd = moved.values
        self.outside_usd[:, 0] += moved.below
        self.outside_usd[:, 1] += moved.above
        self.window = window


def place(
    usd: NDArray[np.floating], outside_usd: NDArray[np.float64], window: Window, event: Liquidation, factor: float = 1.0
) -> None:
    """Add the dollars of one event to its cell, or to the end it lies beyond."""
    side = LONG if event.side == PositionSide.LONG else SHORT
    cell = window.cell(event.trigger_price)
    if 0 <= cell < window.count:
        usd[side, cell] += factor * event.notional_usd
    else:
        outside_usd[side, int(cell >= 0)] += factor * event.notional_usd

"""The flow model: open interest that comes in is opened at the price of its minute, what price passes is swept.

Per minute, with a known net change of open interest:
  decay      everything by 0.995 per minute of elapsed time;
  close      when it fell, both sides shrink by min(-change / previous open interest, 0.25);
  sweep      what the minute traversed loses 70 %: longs from its low upwards, shorts from its high downwards;
  open       every new contract has one long and one short, so both sides receive change * price, split over the
             tiers by weight, at entry * (1 -+ (1/L - mmr)), smeared;
  forget     what then lies behind the closing price is no longer projected.
No tilt by the aggressor's share: only grades could justify one.
"""

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Projection
from liqmap.domain.grid import Window, rebin
from liqmap.engine.bars import MinuteBar
from liqmap.engine.frames import SIDES
from liqmap.engine.model import Minute, traversed
from liqmap.engine.spec import EngineSpec


class FlowModel:
    """The baseline projection. Implements `ProjectionModel`."""

    def __init__(self, spec: EngineSpec, window: Window) -> None:
        self._spec = spec
        self._window = window
        self._prices = window.prices()
        tiers = len(spec.leverages)
        self.projection: Projection | None = None
        self.usd: NDArray[np.float64] = np.zeros((SIDES, tiers, window.count))
        self.outside_usd: NDArray[np.float64] = np.zeros((SIDES, tiers, 2))

    @property
    def swept_share(self) -> float:
        """What a bucket loses when price passes it."""
        return self._spec.sweep_share

    def show(self, kept: NDArray[np.float64], shown: NDArray[np.float32]) -> None:
        """Write the dollars into `shown` (side, tier, cell), of each cell the share `kept` (side, cell)."""
        np.multiply(self.usd, kept[:, None, :], out=shown, casting="same_kind")

    def usd_by_side(self) -> NDArray[np.float64]:
        """(side, cell) dollars, all tiers summed."""
        return np.asarray(self.usd.sum(axis=1))

    def coverage(self, open_interest_usd: float, /) -> NDArray[np.float64]:
        """By side, the share of the open interest that is projected."""
        usd = self.usd.sum(axis=(1, 2)) + self.outside_usd.sum(axis=(1, 2))
        return np.asarray(np.minimum(usd / open_interest_usd, 1.0))

    def advance(self, minute: Minute) -> None:
        """Close a minute, in the order of the module's text."""
        bar = minute.bar
        if bar.open_interest.level_base == bar.open_interest.level_base:
            self.projection = Projection.DOLLARS
        elif bar.open_interest.change_base == bar.open_interest.change_base:
            self.projection = self.projection or Projection.RELATIVE
        kept = self._spec.decay(minute.minutes) * (1 - self._shrink(bar))
        self.usd *= kept
        self.outside_usd *= kept
        if bar.known:
            longs, shorts = traversed(self._prices, bar.low, bar.high)
            self.usd[0, :, longs] *= 1 - self._spec.sweep_share
            self.usd[1, :, shorts] *= 1 - self._spec.sweep_share
        if bar.open_interest.change_base > 0:
            self._open(minute)
        if bar.known:
            longs, shorts = traversed(self._prices, bar.close, bar.close)
            self.usd[0, :, longs] = 0.0
            self.usd[1, :, shorts] = 0.0

    def move(self, window: Window) -> None:
        """Look through another window."""
        moved = rebin(self.usd, self._window, window)
        self.usd = moved.values
        self.outside_usd[..., 0] += moved.below
        self.outside_usd[..., 1] += moved.above
        self._window, self._prices = window, window.prices()

    def _shrink(self, bar: MinuteBar) -> float:
        """The share of both sides that closed; nothing closes on what is not known."""
        step = bar.open_interest
        if step.change_base < 0 and step.previous_base > 0:
            return min(-step.change_base / step.previous_base, self._spec.shrink_limit)
        return 0.0

    def _open(self, minute: Minute) -> None:
        placement = minute.at_change
        if placement is None:
            return
        dollars = minute.bar.open_interest.change_base * placement.mean_price
        for side, of_side in enumerate(placement.by):
            for tier, smear in enumerate(of_side):
                smear.add_to(self.usd[side, tier], self.outside_usd[side, tier], minute.weights[side, tier] * dollars)

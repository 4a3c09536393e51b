"""The map of one symbol at the end of its last closed minute: a window, the evidence and the projection in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Window
from liqmap.engine.bars import MinuteBar, MinuteTape
from liqmap.engine.entries import EntryHistory
from liqmap.engine.evidence import Evidence, place
from liqmap.engine.flow import FlowModel, traversed
from liqmap.engine.frames import Floats, Liquidation
from liqmap.engine.model import ProjectionModel
from liqmap.engine.spec import MINUTE_MS, EngineSpec


@dataclass(slots=True)
class MapState:
    """Changes only when a minute closes."""

    spec: EngineSpec
    window: Window
    evidence: Evidence
    model: ProjectionModel

    @classmethod
    def around(cls, spec: EngineSpec, price: float) -> "MapState":
        """An empty map around a price."""
        window = spec.window(price)
        return cls(spec, window, Evidence(window), FlowModel(spec, window))

    def roll(
        self, bar: MinuteBar, tape: MinuteTape, minutes: int, entries: EntryHistory, weights: NDArray[np.float64]
    ) -> None:
        """Close a minute that ended `minutes` after the one before."""
        if bar.known and self.window.drifted(bar.close, self.spec.anchor_drift):
            self._move(self.spec.window(bar.close))
        self.evidence.decay(self.spec.decay(minutes))
        for liquidation in tape.liquidations:
            late = -((liquidation.ts_ms - bar.minute_ms) // MINUTE_MS)
            self.evidence.add(liquidation, self.spec.decay(late) if late > 0 else 1.0)
        self.model.advance(bar, minutes, entries, weights)

    def _move(self, window: Window) -> None:
        self.evidence.move(window)
        self.model.move(window)
        self.window = window

    def outside_usd(self, *, with_projection: bool) -> NDArray[np.float64]:
        """Dollars beyond the window by (side, end); without the projection where that is not in dollars."""
        projected = self.model.outside_usd.sum(axis=1) if with_projection else 0.0
        outside: NDArray[np.float64] = self.evidence.outside_usd + projected
        return outside

    def seen_with(
        self, liquidations: tuple[Liquidation, ...], open_range: tuple[float, float] | None, mark: float
    ) -> tuple[Floats, Floats]:
        """Copies of (projection, evidence) with what the open minute has brought so far; the state stays as it is.

        Evidence grows by the open minute's liquidations; of the projection, what was traversed is thinned and what
        lies behind `mark` is left out, as closing the minute now would do.
        """
        evidence = self.evidence.usd.astype(np.float32)
        for liquidation in liquidations:
            place(evidence, np.zeros((2, 2)), self.window, liquidation)
        kept = np.ones((2, self.window.count))
        prices = self.window.prices()
        passed = [(*open_range, 1 - self.spec.sweep_share)] if open_range else []
        for low, high, share in (*passed, (mark, mark, 0.0)):
            longs, shorts = traversed(prices, low, high)
            kept[0, longs] = share
            kept[1, shorts] = share
        return (self.model.usd * kept[:, None, :]).astype(np.float32), evidence

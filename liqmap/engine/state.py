"""The map of one symbol at the end of its last closed minute: a window, the evidence and the projections in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Model, Projection
from liqmap.domain.grid import Window
from liqmap.engine.bars import MinuteBar, MinuteTape
from liqmap.engine.calibration import Calibration
from liqmap.engine.entries import EntryHistory, EntryProfile
from liqmap.engine.evidence import Evidence, place
from liqmap.engine.flow import FlowModel
from liqmap.engine.frames import SIDES, BySide, Floats, Liquidation
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.model import Minute, ProjectionModel, traversed
from liqmap.engine.smear import Placement
from liqmap.engine.spec import MINUTE_MS, EngineSpec
from liqmap.engine.zones import Zones


@dataclass(frozen=True, slots=True)
class KnownShare:
    """What the models know, and what lies beyond the window; rows as in `frames.Facts`."""

    coverage: BySide
    unknown_usd: BySide
    projection: tuple[int, ...]
    evidence_outside_usd: BySide
    projection_outside_usd: tuple[BySide, ...]


_UNKNOWN = float("nan")
_UNKNOWN_BY_SIDE = ((_UNKNOWN,) * SIDES,) * len(Model)
_NOTHING_BY_END = ((0.0, 0.0),) * SIDES
NOTHING_KNOWN = KnownShare(
    _UNKNOWN_BY_SIDE, _UNKNOWN_BY_SIDE, (0,) * len(Model), _NOTHING_BY_END, (_NOTHING_BY_END,) * len(Model)
)
"""Of a map that was not laid out yet."""


@dataclass(slots=True)
class MapState:
    """Changes only when a minute closes."""

    spec: EngineSpec
    window: Window
    evidence: Evidence
    flow: FlowModel
    inventory: InventoryModel
    zones: Zones
    placed: tuple[EntryProfile, Placement] | None = None
    """The last minute's entries and where they went: a reading told at the turn of the minute asks for them again."""

    @classmethod
    def around(cls, spec: EngineSpec, price: float) -> "MapState":
        """An empty map around a price."""
        window = spec.window(price)
        return cls(spec, window, Evidence(window), FlowModel(spec, window), InventoryModel(spec, window), Zones(spec))

    @property
    def models(self) -> tuple[ProjectionModel, ...]:
        """In the order of their numbers (see domain.enums.Model)."""
        return self.flow, self.inventory

    def roll(
        self,
        bar: MinuteBar,
        tape: MinuteTape,
        minutes: int,
        entries: EntryHistory,
        weights: NDArray[np.float64],
        calibration: Calibration | None,
    ) -> None:
        """Close a minute that ended `minutes` after the one before; `calibration` learns of it, None: not all of it was
        heard."""
        if bar.known and self.window.drifted(bar.close, self.spec.anchor_drift):
            self._move(self.spec.window(bar.close))
        self.evidence.decay(self.spec.decay(minutes))
        for liquidation in tape.liquidations:
            late = -((liquidation.ts_ms - bar.minute_ms) // MINUTE_MS)
            self.evidence.add(liquidation, self.spec.decay(late) if late > 0 else 1.0)
        minute = self._minute(bar, minutes, entries, weights)
        if calibration is not None:
            calibration.observe(self.inventory, self.window, bar, tape)
        for model in self.models:
            model.advance(minute)
        if calibration is not None:
            calibration.expect(self.inventory, bar.close - bar.open)

    def follow_zones(self, bar: MinuteBar, tape: MinuteTape, minutes: int, *, heard: bool) -> None:
        """Zones, after everything else of the minute; `heard`: all its liquidations were."""
        self.zones.follow(bar, minutes, tape.liquidations, (self.window, self.inventory, self.evidence), heard=heard)

    def _minute(self, bar: MinuteBar, minutes: int, entries: EntryHistory, weights: NDArray[np.float64]) -> Minute:
        """The minute with the placements of what was opened in it; the models share them."""
        traded, changed = entries.last_minute, entries.profile(bar.open_interest.spans)
        if traded is None:
            return Minute(bar, minutes, None, None, weights)
        before, self.placed = self.placed, (traded, Placement.of(traded, self.window, self.spec.distances))
        for profile, placement in filter(None, (self.placed, before)):
            if profile is changed:
                return Minute(bar, minutes, self.placed[1], placement, weights)
        at_change = Placement.of(changed, self.window, self.spec.distances) if changed is not None else None
        return Minute(bar, minutes, self.placed[1], at_change, weights)

    def _move(self, window: Window) -> None:
        self.evidence.move(window)
        for model in self.models:
            model.move(window)
        self.window, self.placed = window, None

    def known_share(self, open_interest_usd: float) -> KnownShare:
        """How much of the open interest each model can place. Of a map in relative densities nothing is in dollars."""
        outside = [model.outside_usd.sum(axis=1) for model in self.models]
        coverage, unknown_usd = [], []
        for model in self.models:
            in_dollars = model.projection is Projection.DOLLARS and open_interest_usd > 0
            known = model.coverage(open_interest_usd) if in_dollars else np.full(SIDES, np.nan)
            coverage.append(tuple(known.tolist()))
            unknown_usd.append(tuple(((1 - known) * open_interest_usd).tolist()))
        return KnownShare(
            coverage=tuple(coverage),
            unknown_usd=tuple(unknown_usd),
            projection=tuple(int(model.projection or 0) for model in self.models),
            evidence_outside_usd=_rows(self.evidence.outside_usd),
            projection_outside_usd=tuple(
                _rows(usd) if model.projection is Projection.DOLLARS else _NOTHING_BY_END
                for model, usd in zip(self.models, outside, strict=True)
            ),
        )

    def projection_by_side(self) -> NDArray[np.float32]:
        """(model, side, cell) dollars, all tiers summed."""
        return np.stack([model.usd_by_side() for model in self.models]).astype(np.float32)

    def seen_with(
        self, liquidations: tuple[Liquidation, ...], open_range: tuple[float, float] | None, mark: float
    ) -> tuple[Floats, Floats]:
        """Copies of (projections, evidence) with what the open minute has brought so far; the state stays as it is.

        Evidence grows by the open minute's liquidations; of the projections (model, side, tier, cell), what was
        traversed is thinned as each model does it, and what lies behind `mark` is left out.
        """
        evidence = self.evidence.usd.astype(np.float32)
        for liquidation in liquidations:
            place(evidence, np.zeros((2, 2)), self.window, liquidation)
        prices = self.window.prices()
        projections = np.empty((len(Model), SIDES, len(self.spec.leverages), self.window.count), np.float32)
        for model in Model:
            projection = self.models[model - 1]
            kept = np.ones((SIDES, self.window.count))
            passed = [(*open_range, 1 - projection.swept_share)] if open_range else []
            for low, high, share in (*passed, (mark, mark, 0.0)):
                longs, shorts = traversed(prices, low, high)
                kept[0, longs] = share
                kept[1, shorts] = share
            projection.show(kept, projections[model - 1])
        return projections, evidence


def _rows(values: NDArray[np.float64]) -> BySide:
    return tuple(map(tuple, values.tolist()))

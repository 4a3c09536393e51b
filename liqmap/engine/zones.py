"""Zones: pools followed through time. Changes once per closed minute; shared/model.md section 10, docs/model.md.

In a minute, in this order: time passes (weights decay), price touches and sweeps, liquidations are counted against
what was predicted, dollars are read from the grid, pools feed the zones they belong to or make new ones, near zones
merge, forgotten ones expire.

  weight  dollars of the pool over the zone unit, a share of the open interest. It says how important a zone is, and no
          dollars are ever made of it: those are the sum of the grid's cells within the zone.
  feed    a pool within its own width of an active zone belongs to it: the zone takes over the pool's place and gains
          0.3 of what the pool weighs more. Gaining a tenth or more of its weight it counts as reinforced.
  touch   price came within the zone. Its place stands still from then on, so that a zone never runs away from the price
          that eats it; it is active again when price has left it by a pool's width.
  sweep   price passed all of it. What was liquidated in its range and side from the begin of the touching minute until
          5 minutes after that of the sweeping one is held against what stood there when it was touched.

The inventory's dollars are meant, and those of evidence. Without an open interest in dollars there is no unit, and no
new zone. The state is plain data; only + - * /, comparisons and tables are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide, Projection, ZoneChange, ZoneSource, ZoneState
from liqmap.domain.grid import Window
from liqmap.domain.pools import Pool
from liqmap.domain.zone import ACTIVE_ZONES, KEPT_CHANGES, SWEPT_ZONES, ZONE_CHANGE, zone_dtype
from liqmap.engine.bars import MinuteBar
from liqmap.engine.evidence import Evidence
from liqmap.engine.frames import SIDES, Liquidation, ZonesFrame
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.smear import LONG_SIGN, SIGNS
from liqmap.engine.spec import MINUTE_MS, EngineSpec
from liqmap.engine.zone_ground import Ground

Floats = NDArray[np.float64]

LARGEST_WEIGHT: Final = 5.0
GAIN: Final = 0.3
"""Share of what a pool weighs more than its zone, by which the zone grows in a minute."""
TOLD_GAIN: Final = 0.1
"""A gain of less than this share of the weight is no reinforcement worth telling."""
CREATED_WEIGHT: Final = 0.1
"""A lighter pool makes no zone: it would be forgotten within minutes, and made again."""
EXPIRED_WEIGHT: Final = 0.05
UNFED_MS: Final = 240 * MINUTE_MS
FAR: Final = 0.02
"""A zone that nothing feeds for UNFED_MS is given up when it lies this share of the price away."""
MERGED_WITHIN: Final = 0.0005
COUNTED_MS: Final = 5 * MINUTE_MS
ID_ROOM: Final = 256
"""Zones that one minute makes at most; an id is the minute since 1970 times this, and a number."""
CHANGE_ROOM: Final = 4096

_SOURCES: Final = {
    "evidence": ZoneSource.EVIDENCE,
    "projection": ZoneSource.PROJECTION,
    "both": ZoneSource.BOTH,
}
_UNKNOWN: Final = float("nan")


@dataclass(slots=True)
class Zone:
    """One zone. `side` 0 long, 1 short; times are ms, -1 never; see domain.zone for the fields."""

    id: int
    side: int
    price: float
    low: float
    high: float
    weight: float
    source: ZoneSource
    created_ms: int
    created_mark: float
    fed_ms: int
    tiers_usd: Floats
    evidence_usd: float = 0.0
    state: ZoneState = ZoneState.ACTIVE
    reinforced_ms: int = -1
    reinforcements: int = 0
    touched_ms: int = -1
    swept_ms: int = -1
    until_ms: int = -1
    predicted_usd: float = _UNKNOWN
    realised_usd: float = 0.0
    realised: int = 0
    heard: bool = True

    @property
    def notional_usd(self) -> float:
        """Evidence and projection."""
        return self.evidence_usd + float(self.tiers_usd.sum())

    @property
    def bounds(self) -> tuple[float, float]:
        """From and to, prices of the outermost buckets."""
        return self.low, self.high

    def row(self) -> tuple[object, ...]:
        """In the order of `domain.zone.zone_dtype`."""
        projected_usd = float(self.tiers_usd.sum())
        return (
            *(self.id, self.side + 1, int(self.state), int(self.source), self.price, self.low, self.high, self.weight),
            *(self.evidence_usd + projected_usd, self.evidence_usd, projected_usd, self.tiers_usd),
            *(self.created_ms, self.created_mark, self.fed_ms, self.reinforced_ms, self.reinforcements),
            *(self.touched_ms, self.swept_ms, self.until_ms),
            *(self.predicted_usd, self.realised_usd, self.realised, int(self.heard)),
        )


@dataclass(slots=True)
class Side:
    """The zones of one side in the order of their ids, and what became of those that were swept."""

    active: list[Zone] = field(default_factory=list)
    swept: list[Zone] = field(default_factory=list)
    changes: list[int] = field(default_factory=lambda: [0] * len(ZoneChange))
    """How many of each kind, ZoneChange less one."""
    post_mortems: int = 0
    predicted_usd: float = 0.0
    realised_usd: float = 0.0


class Zones:
    """One symbol's zones."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._tiers = len(spec.leverages)
        self.sides: tuple[Side, ...] = tuple(Side() for _ in range(SIDES))
        self.minute_ms = -1
        self.unit_usd = _UNKNOWN
        self._next_id = 0
        self._next_change = 0
        self._news: list[tuple[object, ...]] = []
        self._changes: NDArray[np.void] = np.zeros(0, ZONE_CHANGE)

    def follow(
        self,
        bar: MinuteBar,
        minutes: int,
        liquidations: Sequence[Liquidation],
        ground: tuple[Window, InventoryModel, Evidence],
        *,
        heard: bool,
    ) -> None:
        """Close a minute that ended `minutes` after the one before; `heard`: all liquidations of it were."""
        self.minute_ms = bar.minute_ms
        self._next_id = max(self._next_id, bar.minute_ms // MINUTE_MS * ID_ROOM)
        self._next_change = max(self._next_change, bar.minute_ms // MINUTE_MS * CHANGE_ROOM)
        decay = self._spec.decay(minutes)
        for number, side in enumerate(self.sides):
            for zone in (*side.active, *side.swept):
                zone.weight *= decay
            if bar.known:
                self._meet(number, bar)
            self._count(number, [one for one in liquidations if one.side == number + 1], bar.minute_ms, heard)
            if bar.known:
                self._read_and_feed(number, bar, ground)
            self._forget(number, bar)
        if self._news:
            news = np.array(self._news, ZONE_CHANGE)
            self._changes = np.concatenate((self._changes, news))[-KEPT_CHANGES:]
            self._news = []

    def frame(self) -> ZonesFrame:
        """What is shown of them; copies."""
        rows = [zone.row() for side in self.sides for zone in (*side.active, *side.swept)]
        return ZonesFrame(
            unit_usd=self.unit_usd,
            counts=tuple(tuple(side.changes) for side in self.sides),
            post_mortems=tuple(side.post_mortems for side in self.sides),
            predicted_usd=tuple(side.predicted_usd for side in self.sides),
            realised_usd=tuple(side.realised_usd for side in self.sides),
            zones=np.array(rows, zone_dtype(self._tiers)),
            changes=self._changes,
        )

    # -- price and liquidations ----------------------------------------------------------------------------------

    def _meet(self, number: int, bar: MinuteBar) -> None:
        """Touch, sweep and let go, by the range of the minute; for shorts everything is mirrored."""
        side, sign = self.sides[number], SIGNS[number]
        reached, close = (bar.low, bar.close) if sign == LONG_SIGN else (bar.high, bar.close)
        width = self._spec.zones.width_pct / 100
        swept: list[Zone] = []
        for zone in side.active:
            near, far = (zone.high, zone.low) if sign == LONG_SIGN else (zone.low, zone.high)
            if zone.state is ZoneState.ACTIVE and not _before(near, reached, sign):
                zone.state, zone.touched_ms, zone.predicted_usd = ZoneState.TOUCHED, bar.minute_ms, zone.notional_usd
                zone.realised_usd, zone.realised, zone.heard = 0.0, 0, True
                self._tell(ZoneChange.TOUCHED, zone)
            if zone.state is not ZoneState.TOUCHED:
                continue
            if not _before(far, reached, sign):
                zone.state, zone.swept_ms, zone.until_ms = ZoneState.SWEPT, bar.minute_ms, bar.minute_ms + COUNTED_MS
                self._tell(ZoneChange.SWEPT, zone)
                swept.append(zone)
            elif _before(near * (1 + width) if sign == LONG_SIGN else near * (1 - width), close, sign):
                zone.state, zone.predicted_usd = ZoneState.ACTIVE, _UNKNOWN
        if swept:
            side.active = [zone for zone in side.active if zone.state is not ZoneState.SWEPT]
            side.swept += swept

    def _count(self, number: int, liquidations: list[Liquidation], minute_ms: int, heard: bool) -> None:
        """Hold what was liquidated against what was predicted, and close the accounts that are due."""
        side = self.sides[number]
        half = self._spec.step / 2
        for zone in (*side.active, *side.swept):
            if zone.state is ZoneState.ACTIVE or (zone.until_ms >= 0 and zone.until_ms <= minute_ms):
                continue
            zone.heard &= heard
            until_ms = zone.until_ms if zone.until_ms >= 0 else minute_ms + COUNTED_MS
            for one in liquidations:
                within = zone.low - half <= one.trigger_price <= zone.high + half
                if within and zone.touched_ms <= one.ts_ms < until_ms:
                    zone.realised_usd += one.notional_usd
                    zone.realised += 1
            if 0 <= zone.until_ms <= minute_ms + MINUTE_MS and zone.heard:
                side.post_mortems += 1
                side.predicted_usd += zone.predicted_usd
                side.realised_usd += zone.realised_usd

    # -- the grid ------------------------------------------------------------------------------------------------

    def _read_and_feed(self, number: int, bar: MinuteBar, ground: tuple[Window, InventoryModel, Evidence]) -> None:
        """Dollars from the grid, pools to their zones, near zones into one."""
        side, rules, end_ms = self.sides[number], self._spec.zones, bar.minute_ms + MINUTE_MS
        bounds = [zone.bounds for zone in side.active]
        ahead = Ground.ahead(number, bar.close, rules.range_pct, bounds, *ground)
        known = ground[1].projection is Projection.DOLLARS
        self.unit_usd = bar.open_interest.level_base * bar.close * rules.unit_share if known else _UNKNOWN
        if self.unit_usd > 0:
            unclaimed = list(side.active)
            for pool in ahead.pools(rules, EXPIRED_WEIGHT * self.unit_usd):
                zone = _belongs_to(pool, unclaimed, rules.width_pct / 100)
                if zone is not None:
                    unclaimed.remove(zone)
                    self._feed(zone, pool, end_ms)
                elif pool.notional_usd >= CREATED_WEIGHT * self.unit_usd:
                    self._create(number, pool, bar.close, end_ms)
        self._merge(side, end_ms)
        fed_first = sorted(side.active, key=lambda zone: (zone.state is ZoneState.ACTIVE, -zone.fed_ms, zone.id))
        tiers_usd, evidence_usd = ahead.dollars([zone.bounds for zone in fed_first])
        for place, zone in enumerate(fed_first):
            zone.tiers_usd, zone.evidence_usd = tiers_usd[place], float(evidence_usd[place])
        for zone in side.active:
            if zone.created_ms == end_ms:
                self._tell(ZoneChange.CREATED, zone)
            elif zone.reinforced_ms == end_ms:
                self._tell(ZoneChange.REINFORCED, zone)

    def _create(self, number: int, pool: Pool, close: float, end_ms: int) -> None:
        weight = min(LARGEST_WEIGHT, pool.notional_usd / self.unit_usd)
        zone = Zone(
            id=self._next_id,
            side=number,
            price=pool.price,
            low=pool.low,
            high=pool.high,
            weight=weight,
            source=_SOURCES[pool.source],
            created_ms=end_ms,
            created_mark=close,
            fed_ms=end_ms,
            tiers_usd=np.zeros(self._tiers),
        )
        self._next_id += 1
        self.sides[number].active.append(zone)

    def _feed(self, zone: Zone, pool: Pool, end_ms: int) -> None:
        zone.fed_ms = end_ms
        if zone.state is not ZoneState.ACTIVE:
            return
        zone.price, zone.low, zone.high, zone.source = pool.price, pool.low, pool.high, _SOURCES[pool.source]
        gain = GAIN * (min(LARGEST_WEIGHT, pool.notional_usd / self.unit_usd) - zone.weight)
        if gain > 0:
            told = gain >= TOLD_GAIN * zone.weight
            zone.weight += gain
            if told:
                zone.reinforced_ms, zone.reinforcements = end_ms, zone.reinforcements + 1

    def _merge(self, side: Side, end_ms: int) -> None:
        """Zones that have come within MERGED_WITHIN of each other become one: the heavier, of equals the older."""
        standing = sorted(
            (zone for zone in side.active if zone.state is ZoneState.ACTIVE), key=lambda zone: (zone.price, zone.id)
        )
        gone: set[int] = set()
        for one, other in pairwise(standing):
            if other.price > one.price * (1 + MERGED_WITHIN) or one.id in gone:
                continue
            kept, lost = (one, other) if (one.weight, -one.id) > (other.weight, -other.id) else (other, one)
            kept.weight = min(LARGEST_WEIGHT, kept.weight + GAIN * lost.weight)
            kept.low, kept.high = min(kept.low, lost.low), max(kept.high, lost.high)
            kept.fed_ms = max(kept.fed_ms, lost.fed_ms)
            gone.add(lost.id)
            if lost.created_ms == end_ms:
                self._tell(ZoneChange.CREATED, lost)
            self._tell(ZoneChange.MERGED, lost)
        side.active = [zone for zone in side.active if zone.id not in gone]

    # -- the end -------------------------------------------------------------------------------------------------

    def _forget(self, number: int, bar: MinuteBar) -> None:
        """Expire what is too light or unfed for long and far away, and the lightest where there are too many."""
        side, end_ms = self.sides[number], bar.minute_ms + MINUTE_MS
        expired = [zone for zone in side.active if _is_over(zone, bar.close, end_ms)]
        over = {zone.id for zone in expired}
        standing = [zone for zone in side.active if zone.id not in over]
        if len(standing) > ACTIVE_ZONES:
            expired += sorted(standing, key=lambda zone: (zone.weight, zone.id))[: len(standing) - ACTIVE_ZONES]
        for zone in expired:
            self._tell(ZoneChange.EXPIRED, zone)
        over = {zone.id for zone in expired}
        side.active = [zone for zone in side.active if zone.id not in over]
        kept_ms = self._spec.zones.swept_minutes * MINUTE_MS
        side.swept = [zone for zone in side.swept if end_ms < zone.until_ms or end_ms - zone.swept_ms <= kept_ms]
        side.swept = side.swept[-SWEPT_ZONES:]

    def _tell(self, kind: ZoneChange, zone: Zone) -> None:
        self.sides[zone.side].changes[kind - 1] += 1
        place = (self._next_change, zone.id, self.minute_ms + MINUTE_MS, int(kind), int(PositionSide(zone.side + 1)))
        self._news.append((*place, zone.price, zone.weight, zone.notional_usd))
        self._next_change += 1


def _before(edge: float, price: float, sign: int) -> bool:
    """Whether price has not come to an edge that it reaches by falling (longs) or by rising (shorts)."""
    return price > edge if sign == LONG_SIGN else price < edge


def _belongs_to(pool: Pool, zones: list[Zone], width: float) -> Zone | None:
    """The nearest of the zones that lie within a pool's width of it; a touched one claims what is left of it."""
    near = [zone for zone in zones if abs(pool.price - zone.price) <= width * zone.price]
    return min(near, key=lambda zone: (abs(pool.price - zone.price), zone.id), default=None)


def _is_over(zone: Zone, close: float, end_ms: int) -> bool:
    if zone.weight < EXPIRED_WEIGHT:
        return True
    return end_ms - zone.fed_ms >= UNFED_MS and abs(zone.price - close) > FAR * close

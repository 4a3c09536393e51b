"""What the client hands out: frozen records, arrays that cannot be written, None for unknown."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.client.kept import Kept
from liqmap.client.margins import Margins

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gap:
    """A feed that is missing now. `symbol` None: for all symbols; venue or topic `all`: nothing of it arrives."""

    venue: str
    topic: str
    symbol: str | None
    from_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """When data is from and how much to trust that it is now.

    `age_ms` is wall time since the data was true, also in a replay at any speed; it was measured when the record was
    made. `stale`: older than the instance allows, or made without any price: no venue delivers one, or the replay has
    ended.
    """

    as_of_ms: int
    age_ms: int
    stale: bool
    source: str
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """Which published map something was made from; equal versions are equal bytes. The age is no part of it."""

    generation: int
    sequence: int
    frame: int
    as_of_ns: int
    gaps_version: int
    source: str
    stale: bool


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest map of a symbol without its dollars."""

    version: Version
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class OpenInterestOfVenue:
    """The last reading of one venue: one-sided, base units."""

    base: float
    as_of_ms: int
    age_ms: int
    stale: bool


@dataclass(frozen=True, slots=True)
class OpenInterest:
    """Open interest of one symbol, base units and dollars, one-sided; None where it is unknown.

    `change_base` is of the last closed minute.
    """

    symbol: str
    freshness: Freshness
    version: Version
    open_interest_base: float | None
    open_interest_usd: float | None
    change_base: float | None
    venues: Mapping[str, OpenInterestOfVenue]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The map of one symbol as it was published, cut to a price range.

    The projection is that of `model`. Arrays are read-only. `prices[cell]` rises by `step`.
    `projection_usd[side, tier, cell]` (modelled) and
    `evidence_usd[side, cell]` (observed, decayed) are dollars, side 0 long, 1 short; the projection is NaN where
    its dollars are not known. `projection_shape`, for pictures, is the same but where only relative densities are known
    (`projection_unit`: `usd`, `relative` or None). `leverages[tier]`, `weights[side, tier]`. `low` and `high` bound
    what the whole map covers. `coverage` is the share of the open interest whose place the model knows, the mean of the
    two sides, `unknown_usd` the rest of it on one side; `at_risk_*` what price passed of the inventory since `born_ns`.
    """

    symbol: str
    freshness: Freshness
    version: Version
    model: str
    mark_price: float | None
    mark_source: str | None
    mark_as_of_ms: int | None
    index_price: float | None
    last_price: float | None
    step: float
    low: float
    high: float
    prices: Floats
    leverages: Floats
    weights: Floats
    projection_usd: Floats
    projection_shape: Floats
    projection_unit: str | None
    evidence_usd: Floats
    projection_known: bool
    coverage: float | None
    unknown_usd: float | None
    coverage_by_side: tuple[float | None, ...]
    unknown_by_side_usd: tuple[float | None, ...]
    realisation: float | None
    at_risk_long_usd: float
    at_risk_short_usd: float
    open_interest_base: float | None
    open_interest_usd: float | None
    below_long_usd: float | None
    above_long_usd: float | None
    below_short_usd: float | None
    above_short_usd: float | None
    born_ms: int
    minute_ms: int | None
    minutes: int
    gap_minutes: int
    events: int
    liquidations: int
    liquidated_long_usd: float
    liquidated_short_usd: float
    lost_events: int

    @property
    def as_of_ms(self) -> int:
        """Engine time of the frame, ms UTC."""
        return self.freshness.as_of_ms

    @property
    def age_ms(self) -> int:
        """Wall milliseconds since then, when this was taken."""
        return self.freshness.age_ms

    @property
    def stale(self) -> bool:
        """Older than the instance allows."""
        return self.freshness.stale

    @property
    def long_usd(self) -> Floats:
        """Modelled long dollars per cell, all tiers."""
        return np.asarray(self.projection_usd[0].sum(axis=0), dtype=np.float64)

    @property
    def short_usd(self) -> Floats:
        """Modelled short dollars per cell, all tiers."""
        return np.asarray(self.projection_usd[1].sum(axis=0), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Liquidation:
    """One observed liquidation. `id` rises; prices in quote currency; None where a venue does not say."""

    id: int
    ts_ms: int
    venue: str
    side: str
    printed_price: float | None
    fill_price: float | None
    trigger_price: float | None
    qty_base: float
    notional_usd: float


@dataclass(frozen=True, slots=True)
class Liquidations:
    """Some liquidations, ascending by id, and how far back more can be had."""

    symbol: str
    events: tuple[Liquidation, ...]
    newest_ms: int | None
    newest_id: int | None
    oldest_available_ms: int | None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of the daemon. `exit` is the code of its last death (negative: a signal), None: it has not died."""

    state: str
    pid: int | None
    heartbeat_age_ms: int | None
    restarts: int
    cpu_pct: float | None
    rss_mb: float | None
    exit: int | None
    reason: str
    lag_events: int | None
    errors: int | None


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """One topic of one venue over all symbols: the youngest event, sums, and whether any symbol goes without.

    `gap_ms`: how long the symbol that went without longest was missing in all, the open gap included. `dropped`: frames
    that were given up under load.
    """

    last_event_age_ms: int | None
    events: int
    gaps: int
    silent: bool
    missing: bool
    gap_ms: int
    dropped: int


@dataclass(frozen=True, slots=True)
class VenueStatus:
    """One venue as ingest sees it.

    `clock_offset_ms`: our clock less the venue's, measured by a question that took `round_trip_ms`. `lag_ms`: receipt
    less the venue's own time of its newest facts, a moving mean; it contains the offset: what facts are really on their
    way is `lag_ms - clock_offset_ms`. `budget_used`: share of the tightest request budget that is spent, 0 to 1.
    """

    state: str
    enabled: bool
    delivering: bool
    topics: Mapping[str, TopicStatus]
    reconnects: int
    backoff_s: float
    reason: str
    malformed: int
    refused_instruments: int
    clock_offset_ms: float | None
    round_trip_ms: float | None
    lag_ms: float | None
    budget_used: float

    @property
    def on_its_way_ms(self) -> float | None:
        """How old the newest facts are when they arrive; None while the offset of the clocks is not measured."""
        if self.lag_ms is None or self.clock_offset_ms is None:
            return None
        return self.lag_ms - self.clock_offset_ms


@dataclass(frozen=True, slots=True)
class SymbolStatus:
    """One enabled symbol: `ready` = fresh; the numbers are None when nothing was ever published. `reason` says in
    words why it is not ready, None when it is."""

    ready: bool
    as_of_ms: int | None
    age_ms: int | None
    sequence: int | None
    coverage: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """The whole instance. `status`: ok, degraded or down; `problems` says in words why it is not ok, and what else a
    person should look at."""

    status: str
    source: str | None
    uptime_s: float | None
    processes: Mapping[str, ProcessStatus]
    feeds: Mapping[str, VenueStatus]
    symbols: Mapping[str, SymbolStatus]
    kept: Kept
    margins: Margins
    problems: tuple[str, ...]
    data_problems: tuple[str, ...]
    """Those of `problems` that are about maps and feeds."""

"""What an engine says: minute frames, live frames, and the liquidations it has seen.

Dollars are absolute, NaN is unknown, arrays belong to their frame and are never changed again. Side 0 is long, 1 short.
Field names are those of the shared-memory layout, so that publishing is copying by name.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDES = 2

BySide = tuple[tuple[float, ...], ...]
"""Rows are models (or sides), columns sides (or the two ends of the window)."""


@dataclass(frozen=True, slots=True)
class Liquidation:
    """One observed liquidation. `id` is its event's sequence; `trigger_price` the estimated mark at the trigger."""

    id: int
    ts_ms: int
    receive_ns: int
    venue: int
    side: int
    printed_price: float
    fill_price: float
    trigger_price: float
    qty_base: float
    notional_usd: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What both kinds of frame say beside the map. See `_FRAME_FACTS` in shm/layout.py for every field."""

    as_of_ns: int
    sequence: int
    born_ns: int
    minute_ms: int
    first_bucket: int
    buckets: int
    step: float
    mark_price: float
    mark_source: int
    mark_as_of_ns: int
    index_price: float
    last_price: float
    open_interest_base: float
    open_interest_usd: float
    open_interest_change_base: float
    venue_oi_base: tuple[float, ...]
    venue_oi_as_of_ns: tuple[int, ...]
    venue_oi_stale: tuple[int, ...]
    coverage: BySide
    unknown_usd: BySide
    realisation: float
    projection_known: tuple[int, ...]
    at_risk_usd: tuple[float, ...]
    evidence_outside_usd: BySide
    projection_outside_usd: tuple[BySide, ...]
    events: int
    liquidations: int
    liquidated_long_usd: float
    liquidated_short_usd: float
    venue_mark: tuple[float, ...]
    venue_index: tuple[float, ...]
    venue_mark_as_of_ns: tuple[int, ...]
    venue_last: tuple[float, ...]
    venue_last_as_of_ns: tuple[int, ...]
    venue_mid: tuple[float, ...]
    venue_mid_as_of_ns: tuple[int, ...]
    venue_funding_rate: tuple[float, ...]
    venue_funding_interval_h: tuple[float, ...]
    venue_next_funding_ms: tuple[int, ...]
    venue_funding_as_of_ns: tuple[int, ...]
    venue_long_share: tuple[tuple[float, ...], ...]
    venue_ratio_ms: tuple[tuple[int, ...], ...]
    venue_liquidations: tuple[int, ...]
    venue_liquidated_usd: tuple[tuple[float, ...], ...]
    venue_saturation: tuple[float, ...]
    venue_completeness: tuple[float, ...]
    minutes: int
    gap_minutes: int


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """The map now: the state of the last closed minute, seen with what the open minute has brought so far.

    `projection_usd[model, side, tier, cell]` (domain.enums.Model, less one), `evidence_usd[side, cell]`;
    `weights[side, tier]` are those in force.
    """

    facts: Facts
    leverages: tuple[float, ...]
    weights: NDArray[np.float64]
    projection_usd: Floats
    evidence_usd: Floats


@dataclass(frozen=True, slots=True)
class ZonesFrame:
    """The zones at the end of a minute, active ones before swept ones, longs before shorts.

    `zones` and `changes` are rows of domain.zone; `unit_usd` are the dollars of a weight of 1, NaN: unknown. By side:
    `counts` of each ZoneChange, and of the sweeps whose time of counting is over and was heard whole, how many there
    were, what was predicted and what was liquidated; all since the state began.
    """

    unit_usd: float
    counts: tuple[tuple[int, ...], ...]
    post_mortems: tuple[int, ...]
    predicted_usd: tuple[float, ...]
    realised_usd: tuple[float, ...]
    zones: NDArray[np.void]
    changes: NDArray[np.void]


@dataclass(frozen=True, slots=True)
class MinuteFrame:
    """One closed minute: its bar, its gaps, and the map at its end, `projection_usd[model, side, cell]` (tiers summed).

    `gap_topics` has bit (venue * 16 + topic) set for each feed that was missing for a part of the minute; bit 0 says
    that events were lost between ingest and the worker.
    """

    facts: Facts
    open: float
    high: float
    low: float
    close: float
    taker_buy_base: float
    taker_sell_base: float
    minute_long_usd: float
    minute_short_usd: float
    minute_at_risk_usd: tuple[float, ...]
    gap_topics: int
    projection_usd: Floats
    evidence_usd: Floats
    liquidations: tuple[Liquidation, ...]
    zones: ZonesFrame | None
    """None: no map was laid out yet."""

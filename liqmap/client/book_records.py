"""What the client hands out about order books: frozen records, read-only arrays, NaN or None for unknown."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.client.records import Floats, Freshness, Version


@dataclass(frozen=True, slots=True)
class Missing:
    """A stretch that was asked for and of which nothing is known, with the reason in words."""

    from_ms: int
    to_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class BookColumns:
    """Order books over time: `bid_usd[row, column]`, `ask_usd[row, column]`, dollars in a price cell, NaN unknown.

    Row i is the mean over `interval_ms` from `t_ms[i]` on; rows follow one another without a hole: what is missing is a
    row of NaN and is named in `missing`. Column j is the cell about `prices[j]`, `step` wide. `coverage[row]`: the
    share of its time in which every wanted book was whole; where it is below 1 the dollars are of what was known.
    """

    symbol: str
    freshness: Freshness
    version: Version
    venue: str
    interval_ms: int
    step: float
    t_ms: NDArray[np.int64]
    prices: Floats
    bid_usd: Floats
    ask_usd: Floats
    mid_price: Floats
    coverage: Floats
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class BookMeans:
    """One venue, or all together while all were whole, within one frame; dollars within the band, None unknown.

    Everything between `complete_low` and `complete_high` was always in the book; beyond them only what was touched.
    """

    covered_ms: float
    resyncs: int
    complete_low: float | None
    complete_high: float | None
    total_bid_usd: float | None
    total_ask_usd: float | None
    least_bid_usd: float | None
    least_ask_usd: float | None
    most_bid_usd: float | None
    most_ask_usd: float | None


@dataclass(frozen=True, slots=True)
class BookFrame:
    """The newest order-book frame: one row of columns, and what is known of the venues in it."""

    columns: BookColumns
    samples: int
    mid_open: float | None
    mid_close: float | None
    summed: BookMeans
    venues: Mapping[str, BookMeans]


@dataclass(frozen=True, slots=True)
class BookStanding:
    """The order book of one venue now. Prices are None while it is not whole; counters are since ingest began."""

    state: str
    synced: bool
    as_of_ms: int | None
    age_ms: int | None
    venue_ms: int | None
    sequence: int | None
    best_bid: float | None
    best_ask: float | None
    complete_low: float | None
    complete_high: float | None
    bid_levels: int
    ask_levels: int
    updates: int
    snapshots: int
    resyncs: int
    sequence_gaps: int
    crossed: int
    dropped_levels: int
    dropped_updates: int
    bid_usd: float | None
    ask_usd: float | None


@dataclass(frozen=True, slots=True)
class KeptFrames:
    """What is kept of the past, newest `recent` first-to-last as (t_ms, covered_ms by venue, covered_ms of all)."""

    written: int
    kept: int
    capacity: int
    interval_ms: int | None
    oldest_ms: int | None
    newest_ms: int | None
    bytes: int
    recent: tuple[tuple[int, Mapping[str, float], float], ...]


@dataclass(frozen=True, slots=True)
class BookStandings:
    """The depth board of a symbol now, by venue, and the frames that are kept."""

    symbol: str
    freshness: Freshness
    version: Version
    published: int
    step: float
    low: float | None
    high: float | None
    cells: int
    capacity: int
    bytes: int
    venues: Mapping[str, BookStanding]
    frames: KeptFrames

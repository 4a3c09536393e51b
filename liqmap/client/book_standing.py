"""How each venue's order book stands now, and which frames are kept, as records."""

from types import MappingProxyType
from typing import Any

import numpy as np

from liqmap.client.book_records import BookStanding, BookStandings, KeptFrames
from liqmap.client.book_rows import BooksReader, DepthReader
from liqmap.client.records import Newest
from liqmap.client.timing import Timing
from liqmap.client.words import known, known_ms
from liqmap.domain.enums import BookState, Venue
from liqmap.domain.grid import Grid

NOT_WANTED = "not wanted"


def standings(
    symbol: str,
    board: Any,
    newest: Newest,
    published: int,
    reader: DepthReader,
    frames: KeptFrames,
    timing: Timing,
    unspoken: frozenset[str],
) -> BookStandings:
    """A payload of the depth board as a record. `unspoken`: venues that ingest does not speak for any more: what the
    board says of their books was true once."""
    cells, first, step = int(board["buckets"]), int(board["first_bucket"]), float(board["step"])
    grid = Grid.of(step) if step > 0 else None
    totals = board["usd"][..., :cells]
    return BookStandings(
        symbol=symbol,
        freshness=newest.freshness,
        version=newest.version,
        published=published,
        step=step,
        low=grid.price(first) if grid and cells else None,
        high=grid.price(first + cells - 1) if grid and cells else None,
        cells=cells,
        capacity=reader.buckets,
        bytes=reader.bytes,
        venues=MappingProxyType(
            {
                _name(number): _standing(row, totals[number], timing, left=_name(number) in unspoken)
                for number, row in enumerate(board["venues"])
            }
        ),
        frames=frames,
    )


def kept_frames(reader: BooksReader, recent: int) -> KeptFrames:
    """What is kept, and how much the newest `recent` frames cover."""
    written = reader.written
    heads = reader.heads(recent).rows
    oldest = reader.after(0, 1).rows
    return KeptFrames(
        written=written,
        kept=min(written, reader.capacity),
        capacity=reader.capacity,
        interval_ms=int(heads["interval_ms"][-1]) if len(heads) else None,
        oldest_ms=int(oldest["t_ms"][0]) if len(oldest) else None,
        newest_ms=int(heads["t_ms"][-1]) if len(heads) else None,
        bytes=reader.bytes,
        recent=tuple(
            (
                int(head["t_ms"]),
                MappingProxyType({_name(n): float(row["covered_ms"]) for n, row in enumerate(head["venues"])}),
                float(head["summed"]["covered_ms"]),
            )
            for head in heads
        ),
    )


def _standing(row: Any, usd: Any, timing: Timing, *, left: bool) -> BookStanding:
    state, as_of_ns = int(row["state"]), int(row["as_of_ns"])
    state = BookState.ABSENT if state and left else state
    heard = state and as_of_ns > 0
    bid_usd, ask_usd = (_sum(side) if state == BookState.SYNCED else None for side in usd)
    return BookStanding(
        state=BookState(state).name.lower() if state else NOT_WANTED,
        synced=state == BookState.SYNCED,
        as_of_ms=known_ms(as_of_ns) if heard else None,
        age_ms=timing.age_ms(as_of_ns) if heard else None,
        venue_ms=int(row["venue_ms"]) if heard and row["venue_ms"] > 0 else None,
        sequence=int(row["sequence"]) if heard and row["sequence"] >= 0 else None,
        best_bid=known(row["best_bid"]) if state == BookState.SYNCED else None,
        best_ask=known(row["best_ask"]) if state == BookState.SYNCED else None,
        complete_low=known(row["complete_low"]) if state == BookState.SYNCED else None,
        complete_high=known(row["complete_high"]) if state == BookState.SYNCED else None,
        bid_levels=0 if left else int(row["bid_levels"]),
        ask_levels=0 if left else int(row["ask_levels"]),
        updates=int(row["updates"]),
        snapshots=int(row["snapshots"]),
        resyncs=int(row["resyncs"]),
        sequence_gaps=int(row["sequence_gaps"]),
        crossed=int(row["crossed"]),
        dropped_levels=int(row["dropped_levels"]),
        dropped_updates=int(row["dropped_updates"]),
        bid_usd=bid_usd,
        ask_usd=ask_usd,
    )


def _sum(usd: Any) -> float | None:
    there = usd[~np.isnan(usd)]
    return float(there.sum(dtype=np.float64)) if len(there) else None


def _name(number: int) -> str:
    return Venue(number + 1).name.lower()

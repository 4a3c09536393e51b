"""What an ingest before this one has said already, as its rings and workers still know it: read once, at the start.

Time goes on from where it stood, and a liquidation that OKX plays again to its new subscriber is not told again.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Kind
from liqmap.domain.event import EVENT_DTYPE, MISSING, Event
from liqmap.domain.instrument import Instrument
from liqmap.ingest.merge import Row, row_of
from liqmap.shm.layout import LIQUIDATION, RING_HEADER, SEGMENT_HEADER, segment_name
from liqmap.shm.ring import ring_counters
from liqmap.shm.rows import RowsReader
from liqmap.shm.segment import Segment


def last_written_ns(ring: str) -> int:
    """Receive time of the newest event of the ring of that name, -1 when it is empty."""
    events = _events_of(ring)
    return int(events["receive_ns"][-1]) if len(events) else -1


def liquidations_said(daemon: str, contract: Instrument) -> Iterator[Row]:
    """The liquidations of a contract that are in its symbol's ring, or that the worker has shown lately."""
    symbol = contract.symbol or ""
    events = _events_of(segment_name(daemon, "ring", symbol))
    mine = (events["kind"] == Kind.LIQUIDATION) & (events["instrument"] == contract.number)
    for _, *fields in events[mine].tolist():
        yield row_of(Event(*fields))
    shown = RowsReader.open(segment_name(daemon, "recent", symbol), LIQUIDATION)
    rows = shown.last(shown.capacity)
    for row in rows[rows["venue"] == contract.venue]:
        side, ts_ms, price, qty = (row[name].item() for name in ("side", "ts_ms", "printed_price", "qty_base"))
        yield (Kind.LIQUIDATION, contract.number, side, ts_ms, price, qty, MISSING)


def _events_of(ring: str) -> NDArray[np.void]:
    """A copy of what stands in a ring that nobody writes now, oldest first."""
    with Segment.open_reader(ring) as segment:
        capacity, written = segment.shape[0], ring_counters(segment).written
        view = segment.array(EVENT_DTYPE, SEGMENT_HEADER.itemsize + RING_HEADER.itemsize, capacity)
        first = max(0, written - capacity)
        events: NDArray[np.void] = view[np.arange(first, written) % capacity]
        del view
        return events

"""GAP events that the worker itself puts in front of what it was given, where something is missing."""

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import GapReason, Kind
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.store.journal_reader import Hole

_MS_NS = 1_000_000


def gap_before(events: NDArray[np.void], since_ns: int) -> NDArray[np.void]:
    """One GAP event that says: between `since_ns` (-1: unknown) and the first of `events`, events were lost."""
    first_ns = int(events["receive_ns"][0])
    gap = Event(
        receive_ns=first_ns,
        venue_ms=(since_ns if since_ns >= 0 else first_ns) // _MS_NS,
        detail=first_ns // _MS_NS,
        kind=Kind.GAP,
        side=GapReason.OVERRUN,
    )
    return np.frombuffer(gap.packed(int(events["sequence"][0])), dtype=EVENT_DTYPE)


def gap_of(hole: Hole, sequence: int) -> NDArray[np.void]:
    """One GAP event for what is not in the journal, told at its end, after the event `sequence`."""
    gap = Event(
        receive_ns=hole.to_ns,
        venue_ms=hole.from_ns // _MS_NS,
        detail=hole.to_ns // _MS_NS,
        kind=Kind.GAP,
        side=GapReason.NOT_RECORDED,
    )
    return np.frombuffer(gap.packed(sequence), dtype=EVENT_DTYPE)

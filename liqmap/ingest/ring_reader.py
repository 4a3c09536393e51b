"""How far the reader of a ring is, for writers that could be quicker than it: recorded tables, and histories.

What lives waits for nobody; what was recorded can wait, and nothing of it should be overrun.
"""

from typing import Final, Protocol

from liqmap.ingest.bar_events import Events
from liqmap.shm.ring import RingWriter, ring_counters
from liqmap.shm.segment import Segment

_FILLED: Final = 0.5
"""Share of a ring that may wait for its worker."""


class Watched(Protocol):
    """A ring, with sight of its reader."""

    capacity: int

    def pending(self) -> int:
        """Events that the worker has not taken."""


class WatchedRing:
    """A ring's writer that also sees how far its reader is. Raises as RingWriter.open."""

    def __init__(self, name: str) -> None:
        self._writer = RingWriter.open(name)
        self._segment = Segment.open_reader(name)
        self.capacity = self._writer.capacity

    @property
    def written(self) -> int:
        """Events ever written on this ring, predecessors' included."""
        return self._writer.written

    def write(self, events: Events | bytes) -> int:
        """Append."""
        return self._writer.write(events)

    def pending(self) -> int:
        """Events that the worker has not taken."""
        return ring_counters(self._segment).pending


class Reader:
    """Whether the worker keeps pace. Times are monotonic ns; owned by the ring's writer."""

    def __init__(self, ring: Watched) -> None:
        self._ring = ring
        self._pending_before = -1
        self._moved_ns = 0

    def has_room(self, now_ns: int) -> bool:
        """There is room for some more: half of the ring may wait."""
        pending = self._ring.pending()
        if pending != self._pending_before:
            self._pending_before, self._moved_ns = pending, now_ns
        return pending < self._ring.capacity * _FILLED

    def idle_s(self, now_ns: int) -> float:
        """For how long nothing moved in the ring, as far as `has_room` was asked."""
        return (now_ns - self._moved_ns) / 1e9

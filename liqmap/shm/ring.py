"""The event ring: one writer that never waits, one reader with a cursor that outlives it.

Event i (from 0) stands at i modulo capacity. `written` says how many are whole. A slow reader is overrun, never waited
for: what it missed is counted in `lost`, so that `read + lost + pending == written` at every moment.

The writer says in `writing` how far it is about to write before it touches an event. The reader copies first and looks
at `writing` afterwards: whatever lies before `writing - capacity` may have been overwritten under the copy and is
dropped from it. `written` alone could not tell, because it moves only after the bytes.

The reader names the batch it has taken until it commits. A reader that dies in between comes back to the same events,
cut at the same place; when a second one dies at the same first sequence, the third sets that batch aside and goes on.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.event import EVENT_BYTES, EVENT_DTYPE
from liqmap.shm.faults import LayoutMismatch
from liqmap.shm.layout import RING_HEADER, SEGMENT_HEADER, fingerprint, word_indexes
from liqmap.shm.ordering import fence
from liqmap.shm.segment import Segment

__all__ = [
    "RingCounters",
    "RingReader",
    "RingWriter",
    "TakeOver",
    "create_ring",
    "next_sequence",
    "ring_counters",
    "ring_size",
]

DEATHS_TO_QUARANTINE: Final = 2
SKIP_SHARE: Final = 8
"""After a copy that was overwritten whole, the reader skips another 1/8 of the ring, so that it gets away."""

_HEAD: Final = SEGMENT_HEADER.itemsize // 8
_AT: Final = {name: _HEAD + word for name, word in word_indexes(RING_HEADER).items()}
_WRITTEN, _WRITING, _READ, _LOST = _AT["written"], _AT["writing"], _AT["read"], _AT["lost"]
_BATCH_FIRST, _BATCH_COUNT, _BATCH_DEATHS = _AT["batch_first"], _AT["batch_count"], _AT["batch_deaths"]
_QUARANTINED = _AT["quarantined"]
_EVENTS_AT: Final = SEGMENT_HEADER.itemsize + RING_HEADER.itemsize


def ring_size(capacity: int) -> int:
    """Bytes of the whole segment."""
    return _EVENTS_AT + capacity * EVENT_BYTES


def create_ring(name: str, capacity: int) -> Segment:
    """Create or adopt the segment of a ring of `capacity` events, a power of two. Raises as Segment.create."""
    if capacity < 2 or capacity & (capacity - 1):
        raise ValueError(f"a ring's capacity is a power of two, not {capacity}")
    return Segment.create(
        name,
        (capacity,),
        EVENT_BYTES,
        ring_size(capacity),
        fingerprint=fingerprint(EVENT_DTYPE),
        checksums=False,
    )


def _capacity_of(segment: Segment) -> int:
    capacity = segment.shape[0]
    wanted = (EVENT_BYTES, fingerprint(EVENT_DTYPE), ring_size(capacity))
    if wanted != (segment.item_size, segment.fingerprint, len(segment.view())):
        raise LayoutMismatch(f"shared memory {segment.name} is not a ring of events")
    return capacity


class RingWriter:
    """The one writer (hold a WriterLock). Goes on where a predecessor stopped or died."""

    def __init__(self, segment: Segment) -> None:
        """`segment` from create_ring or Segment.open_writer. Raises LayoutMismatch."""
        self.capacity = _capacity_of(segment)
        self._words = segment.words(0, _EVENTS_AT // 8)
        self._bytes = segment.view()[_EVENTS_AT:]

    @classmethod
    def open(cls, name: str) -> Self:
        """Of the segment of that name. Raises SegmentMissing, LayoutMismatch."""
        with Segment.open_writer(name) as segment:
            return cls(segment)

    @property
    def written(self) -> int:
        """Events ever written on this ring, predecessors' included."""
        return self._words[_WRITTEN]

    def write(self, events: NDArray[Any] | bytes) -> int:
        """Append events, an array of EVENT_DTYPE or its bytes; returns `written`. Never waits, at most two copies.

        More than half the capacity goes in several steps, so that a reader keeps pace or is counted as overrun.
        """
        source = memoryview(events) if isinstance(events, bytes) else _flat(events).data
        if len(source) % EVENT_BYTES:
            raise ValueError(f"{len(source)} bytes are not whole events of {EVENT_BYTES}")
        words = self._words
        written = words[_WRITTEN]
        step = self.capacity // 2 * EVENT_BYTES
        for start in range(0, len(source), step):
            written = self._write_step(written, source[start : start + step])
        return written

    def _write_step(self, written: int, source: memoryview) -> int:
        words = self._words
        after = written + len(source) // EVENT_BYTES
        if after > words[_WRITING]:  # a predecessor may have died further ahead, and has overwritten that far
            words[_WRITING] = after
        fence()
        self._copy_in(written, source)
        fence()
        words[_WRITTEN] = after
        return after

    def _copy_in(self, first: int, source: memoryview) -> None:
        at = first % self.capacity * EVENT_BYTES
        room = len(self._bytes) - at
        if len(source) <= room:
            self._bytes[at : at + len(source)] = source
        else:
            self._bytes[at:] = source[:room]
            self._bytes[: len(source) - room] = source[room:]


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What a reader found when it took a ring over.

    `deaths`: how many readers in a row died in the batch at the cursor. `set_aside`: the events of a batch that was
    quarantined now, EVENT_DTYPE, shape (0,) as a rule; whoever takes over logs them and puts them on disk.
    """

    deaths: int
    set_aside: NDArray[Any]


class RingReader:
    """The one reader (hold a WriterLock too: it writes its cursor). Take, deal with it, commit."""

    def __init__(self, segment: Segment) -> None:
        """`segment` from create_ring or Segment.open_writer. Takes over at the cursor: see `take_over`.

        Raises LayoutMismatch.
        """
        self.capacity = _capacity_of(segment)
        self._words = segment.words(0, _EVENTS_AT // 8)
        self._bytes = segment.view()[_EVENTS_AT:]
        self._taken = 0
        self._retry_count: int | None = None
        self.take_over: Final = self._take_over()
        """What was found at the start."""

    @classmethod
    def open(cls, name: str) -> Self:
        """Of the segment of that name. Raises SegmentMissing, LayoutMismatch."""
        with Segment.open_writer(name) as segment:
            return cls(segment)

    @property
    def read(self) -> int:
        """Events ever consumed (committed), quarantined ones included."""
        return self._words[_READ]

    @property
    def lost(self) -> int:
        """Events overrun before they were read. A rise since the last `take` is a gap in front of its events."""
        return self._words[_LOST]

    @property
    def quarantined(self) -> int:
        """Events set aside because readers died of them."""
        return self._words[_QUARANTINED]

    @property
    def pending(self) -> int:
        """Events written and neither committed nor lost; some may turn out lost."""
        words = self._words
        return words[_WRITTEN] - words[_READ] - words[_LOST]

    def take(self, limit: int) -> NDArray[Any]:
        """The next events, at most `limit`, oldest first: a copy, shape (n,) of EVENT_DTYPE, read-only.

        Empty when there are none, or when the writer overran every attempt (then `lost` has risen). The cursor stays
        until `commit`; a second take without it returns the same events again.
        """
        data: bytes | None = None
        for attempt in range(SKIP_SHARE):
            data = self._copy_valid(limit, skip=attempt * self.capacity // SKIP_SHARE)
            if data is not None:
                break
        events: NDArray[Any] = np.frombuffer(data or b"", EVENT_DTYPE)
        self._name_batch(events)
        return events

    def commit(self) -> None:
        """The events of the last `take` are dealt with: move the cursor behind them."""
        words = self._words
        words[_READ] += self._taken
        words[_BATCH_FIRST] = 0
        self._taken = 0
        self._retry_count = None

    def abandon(self) -> None:
        """Give the last `take` back without a word of death: its events come again (a reader that stops in order)."""
        self._words[_BATCH_FIRST] = 0
        self._taken = 0

    def _copy_valid(self, limit: int, skip: int) -> bytes | None:
        """Copy, then validate; None when all of the copy was overwritten meanwhile."""
        words = self._words
        written = words[_WRITTEN]
        fence()
        cursor = words[_READ] + words[_LOST]
        oldest = min(words[_WRITING] - self.capacity + skip, written)
        if cursor < oldest:
            cursor = self._lose(oldest - cursor)
        if self._retry_count is not None:  # the batch a predecessor died in is cut where it was cut
            limit = min(limit, self._retry_count)
        count = min(written - cursor, limit)
        if count <= 0:
            return b""
        data = self._copy_out(cursor, count)
        fence()
        overwritten = words[_WRITING] - self.capacity - cursor
        if overwritten <= 0:
            return data
        self._lose(min(overwritten, count))
        return data[overwritten * EVENT_BYTES :] or None

    def _copy_out(self, first: int, count: int) -> bytes:
        start = first % self.capacity * EVENT_BYTES
        end = start + count * EVENT_BYTES
        if end <= len(self._bytes):
            return self._bytes[start:end].tobytes()
        return b"".join((self._bytes[start:], self._bytes[: end - len(self._bytes)]))

    def _lose(self, count: int) -> int:
        """Count events as lost, which moves the cursor: returns where it is now."""
        words = self._words
        words[_LOST] += count
        self._retry_count = None  # the batch at the old cursor is gone
        return words[_READ] + words[_LOST]

    def _name_batch(self, events: NDArray[Any]) -> None:
        """Say in the header what is being worked on; `batch_first` last, as it makes the others count."""
        words = self._words
        self._taken = len(events)
        if not self._taken:
            words[_BATCH_FIRST] = 0
            return
        if self._retry_count is None:
            words[_BATCH_FIRST] = 0
            words[_BATCH_DEATHS] = 0
        words[_BATCH_COUNT] = self._taken
        words[_BATCH_FIRST] = int(events["sequence"][0])

    def _take_over(self) -> TakeOver:
        words = self._words
        first, count = words[_BATCH_FIRST], words[_BATCH_COUNT]
        nothing = np.empty(0, EVENT_DTYPE)
        if first == 0:
            return TakeOver(0, nothing)
        data = self._copy_valid(count, skip=0)
        events: NDArray[Any] = np.frombuffer(data or b"", EVENT_DTYPE)
        if not len(events) or int(events["sequence"][0]) != first:  # it was committed, or overrun meanwhile
            words[_BATCH_FIRST] = 0
            return TakeOver(0, nothing)
        deaths = words[_BATCH_DEATHS] + 1
        words[_BATCH_DEATHS] = deaths
        if deaths < DEATHS_TO_QUARANTINE:
            self._retry_count = len(events)
            return TakeOver(deaths, nothing)
        words[_READ] += len(events)  # first the cursor: whoever dies right here must not find the batch again
        words[_QUARANTINED] += len(events)
        words[_BATCH_FIRST] = 0
        return TakeOver(deaths, events)


@dataclass(frozen=True, slots=True)
class RingCounters:
    """The accounts of a ring at one moment, in events."""

    written: int
    read: int
    lost: int
    pending: int
    quarantined: int


def ring_counters(segment: Segment) -> RingCounters:
    """The accounts, for onlookers (any mapping will do). Raises LayoutMismatch."""
    _capacity_of(segment)
    words = segment.words(0, _EVENTS_AT // 8)
    read, lost = words[_READ], words[_LOST]
    written = words[_WRITTEN]  # after the cursor: pending is never negative
    return RingCounters(written, read, lost, written - read - lost, words[_QUARANTINED])


def next_sequence(segment: Segment) -> int:
    """Sequence of the event that the reader will take next; one more than the newest where it has taken all; 0: nothing
    was ever written. For a reader-to-be: changes nothing, names no batch. Raises LayoutMismatch."""
    capacity = _capacity_of(segment)
    words = segment.words(0, _EVENTS_AT // 8)
    numbers = segment.words(_EVENTS_AT, capacity * EVENT_BYTES // 8)
    for attempt in range(SKIP_SHARE):
        written = words[_WRITTEN]
        if written == 0:
            return 0
        fence()
        cursor = words[_READ] + words[_LOST]
        at = min(max(cursor, words[_WRITING] - capacity + attempt * capacity // SKIP_SHARE), written - 1)
        sequence = numbers[at % capacity * EVENT_BYTES // 8]
        fence()
        if at >= words[_WRITING] - capacity:
            break
    return sequence + (cursor >= written)


def _flat(events: NDArray[Any]) -> NDArray[np.uint8]:
    if events.dtype != EVENT_DTYPE:
        raise ValueError(f"a ring holds EVENT_DTYPE, not {events.dtype}")
    return np.ascontiguousarray(events).reshape(-1).view(np.uint8)

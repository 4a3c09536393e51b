"""The way of events into the rings: one lane per symbol, numbered, packed, written once per batch."""

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Kind
from liqmap.domain.event import EVENT_DTYPE, Event

_FLUSH_EVENTS: Final = 2048
"""A batch is written when it is this long, so that a worker can begin while a storm is still being read."""


class RingSink(Protocol):
    """What takes the events of one symbol: a ring writer."""

    def write(self, events: bytes) -> int:
        """Append whole events as bytes."""


class JournalSink(Protocol):
    """What keeps the events of one symbol on disk (`store.journal`)."""

    def append(self, first_sequence: int, events: bytes) -> None:
        """Keep whole events, numbered from `first_sequence` on. Never raises for what a disk does."""


@dataclass(slots=True)
class Lane:
    """One symbol. `next_sequence` rises by one per event and is never reused (see `sequence`).

    What is written goes to the journal first, if there is one: no ring holds an event that the kernel has not got.
    While it is `held`, what comes waits: something older is being written before it (see `backfill`).
    """

    symbol: str
    sink: RingSink
    next_sequence: int
    journal: JournalSink | None = None
    waiting: list[bytes] = field(default_factory=list)
    held: bool = False

    def add(self, event: Event) -> None:
        """Keep it for the next write."""
        self.extend([event.packed(0)])

    def extend(self, records: list[bytes]) -> None:
        """Keep for the next write what is packed already, one record each."""
        self.waiting += records
        if len(self.waiting) >= _FLUSH_EVENTS:
            self.flush()

    def tick(self, receive_ns: int) -> None:
        """Time passes."""
        self.add(Event(receive_ns, kind=Kind.TICK))

    def flush(self) -> None:
        """Number what waits and write it, in one go, unless it is held."""
        if self.waiting and not self.held:
            self.let_go(len(self.waiting))

    def let_go(self, most: int) -> None:
        """Write the oldest of what waits, held or not: at most so many."""
        packed = bytearray().join(self.waiting[:most])
        del self.waiting[:most]
        self._write(packed)

    def put_before(self, events: NDArray[np.void]) -> None:
        """Write these (EVENT_DTYPE) now, ahead of what is held; their numbers are given here."""
        self._write(bytearray(events.tobytes()))

    def _write(self, packed: bytearray) -> None:
        numbers = np.frombuffer(packed, dtype=EVENT_DTYPE)["sequence"]
        after = self.next_sequence + len(numbers)
        numbers[:] = np.arange(self.next_sequence, after, dtype=np.uint64)
        written = bytes(packed)
        if self.journal is not None:
            self.journal.append(self.next_sequence, written)
        self.sink.write(written)
        self.next_sequence = after

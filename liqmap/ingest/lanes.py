"""The way of events into the rings: one lane per symbol, numbered, packed, written once per batch."""

from dataclasses import dataclass, field
from typing import Final, Protocol

from liqmap.domain.enums import Kind
from liqmap.domain.event import Event

_FLUSH_EVENTS: Final = 2048
"""A batch is at most this long, so that a worker can begin while a storm is still being read."""


class RingSink(Protocol):
    """What takes the events of one symbol: a ring writer."""

    def write(self, events: bytes) -> int:
        """Append whole events as bytes."""


@dataclass(slots=True)
class Lane:
    """One symbol. `next_sequence` rises by one per event and is never reused (see `sequence`)."""

    symbol: str
    sink: RingSink
    next_sequence: int
    batch: list[bytes] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Number it and keep it for the next write."""
        self.batch.append(event.packed(self.next_sequence))
        self.next_sequence += 1
        if len(self.batch) >= _FLUSH_EVENTS:
            self.flush()

    def tick(self, receive_ns: int) -> None:
        """Time passes."""
        self.add(Event(receive_ns, kind=Kind.TICK))

    def flush(self) -> None:
        """Write what waits, in one go."""
        if self.batch:
            self.sink.write(b"".join(self.batch))
            self.batch.clear()

"""The only way from a thread that listens to the router that decides: a bounded queue of frozen messages.

The bound counts frames and bytes. When it is full, frames of order books may be dropped (the book resynchronises, and
the drop is counted); facts are never dropped: the listening thread waits, its socket fills, and the venue's side of
TCP feels it. Announcements (opened, changed) are few and always pass. One taker, many givers.
"""

import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from liqmap.domain.enums import GapReason
from liqmap.exchanges.adapter import PollPlan
from liqmap.ingest.frames import BadFrame

_BYTES_PER_FRAME: Final = 1024
"""The queue holds `queue_frames` frames of this size on the mean; order-book snapshots are rarer and larger."""


class LinkState(Enum):
    """Where a link is in its life. The values are the words of /health."""

    CONNECTING = "connecting"
    OPEN = "open"
    UP = "up"
    BACKOFF = "backoff"
    REFUSED = "refused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection was made and asked for its streams."""

    source: str
    connection: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Frames:
    """Messages of one connection, in order, as received at one moment; `dropped`: frames given up before them."""

    source: str
    connection: int
    receive_ns: int
    messages: list[bytes]
    dropped: int = 0

    @property
    def cost(self) -> tuple[int, int]:
        """Frames and bytes that it takes in the queue."""
        return len(self.messages), sum(map(len, self.messages))


@dataclass(frozen=True, slots=True)
class BadFrames:
    """What the framing layer had to throw away; the connection lives on."""

    source: str
    connection: int
    receive_ns: int
    bad: list[BadFrame]

    @property
    def cost(self) -> tuple[int, int]:
        """Frames and bytes that it takes in the queue."""
        return len(self.bad), sum(len(bad.sample) for bad in self.bad)


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection is gone. `last`: the source has no other one open."""

    source: str
    connection: int
    at_ns: int
    reason: str
    gap: GapReason
    last: bool = True


@dataclass(frozen=True, slots=True)
class Changed:
    """A link or a poll changed its state."""

    source: str
    state: LinkState
    at_ns: int
    reason: str = ""
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Polled:
    """The body of a REST reply with status 200. `asked_ns`: when the request left; `plan`: of a request that was made
    once, None for the polls."""

    source: str
    receive_ns: int
    body: bytes
    asked_ns: int = -1
    plan: PollPlan | None = None


@dataclass(frozen=True, slots=True)
class PollFailed:
    """A poll that gave nothing; nothing is written for it. `plan`: of a request that was made once."""

    source: str
    at_ns: int
    reason: str
    gap: GapReason
    delay_s: float
    plan: PollPlan | None = None


Message = Opened | Frames | BadFrames | Ended | Changed | Polled | PollFailed


class Handoff:
    """Bounded by `max_frames` frames and a proportional number of bytes."""

    def __init__(self, max_frames: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_frames * _BYTES_PER_FRAME
        self._items: deque[Message] = deque()
        self._frames = 0
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition(threading.Lock())
        self._waiting_givers = 0

    def announce(self, message: Message) -> None:
        """Hand over something that is no frame; never waits."""
        with self._changed:
            self._items.append(message)
            self._changed.notify_all()

    def give(self, frames: Frames | BadFrames, may_drop: bool = False) -> bool:
        """Hand over frames; waits for room, or drops them if they may be. True when they were taken."""
        count, size = frames.cost
        with self._changed:
            while self._frames and (self._frames + count > self._max_frames or self._bytes + size > self._max_bytes):
                if may_drop or self._closed:
                    return False
                self._waiting_givers += 1
                self._changed.wait()
                self._waiting_givers -= 1
            if self._closed:
                return False
            was_empty = not self._items
            self._items.append(frames)
            self._frames += count
            self._bytes += size
            if was_empty:
                self._changed.notify_all()
        return True

    def take(self, timeout_s: float) -> list[Message]:
        """Everything that waits, in order; an empty list when nothing came for `timeout_s`."""
        with self._changed:
            if not self._items and timeout_s > 0:
                self._changed.wait(timeout_s)
            taken = list(self._items)
            self._items.clear()
            self._frames = 0
            self._bytes = 0
            if self._waiting_givers:
                self._changed.notify_all()
        return taken

    def close(self) -> None:
        """No more frames are taken; givers that wait go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Frames that were handed over and not yet taken."""
        return self._frames

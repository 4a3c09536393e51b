"""The only way from a thread that listens to the router that decides: bounded lines of frozen messages.

Every link has a line of its own, bounded in frames and bytes, in which order is kept. What a line carries decides what
happens under load:

* facts (liquidations, marks, open interest, funding) are taken first and whole, and never dropped. A thread whose line
  of facts is full waits; they are so few that it does not come to that.
* trades are taken a portion at a time. When their line is full, the thread waits, for half a second and a twentieth
  of its time at most (venues cut a client off whose socket stays full for two), then the whole line is given up: one
  gap, and news from then on.
* depth is taken with what room the trades leave, and a little in any case. When its line is full, it is given up whole
  and at once, so that one new beginning of its books repairs it.

What was given up is said by the next frames of the same connection (`Frames.dropped`). Sockets are always drained.
Announcements (opened, changed) are few and always pass. One taker, many givers.
"""

import math
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from liqmap.domain.enums import GapReason, Topic
from liqmap.exchanges.adapter import LinkPlan, PollPlan
from liqmap.ingest.frames import BadFrame

_BYTES_PER_FRAME: Final = 512
"""A line holds `queue_frames` frames of this size on the mean; a trade is half as large."""

_DEPTH_SHARE: Final = 4
"""A line of depth holds so many times fewer bytes and frames than another: what waited long in it is worth nothing."""

TRADES_WAIT_S: Final = 0.5
"""So long a thread waits for room in a line of trades before the line is given up."""

_WAIT_SHARE: Final = 0.05
"""And for no more of its time than this: a line that is full again and again, and each time only for a moment, would
keep its thread from the socket as well as one that stays full."""

READERS_FIRST_S: Final = 0.015
"""So long the taker lets threads go first that say they are behind: one interpreter runs one thread at a time, and a
busy taker would keep them from their sockets until venues cut them off."""

TURN_BYTES: Final = 512 * 1024
"""Trades and depth are taken until this is reached: about four milliseconds of work. So long facts wait at most, and
`READERS_FIRST_S` where a thread is behind."""


class Cargo(Enum):
    """What a line carries, by how dear it is."""

    FACTS = "facts"
    TRADES = "trades"
    DEPTH = "depth"


def cargo_of(plan: LinkPlan) -> Cargo:
    """What a link carries: facts, unless it is there for trades only, or for depth only."""
    topics = {stream.topic for stream in plan.streams}
    return {frozenset({Topic.TRADE}): Cargo.TRADES, frozenset({Topic.DEPTH}): Cargo.DEPTH}.get(
        frozenset(topics), Cargo.FACTS
    )


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
    size: int = -1
    """Bytes of the messages; counted when it is not given."""

    def __post_init__(self) -> None:
        if self.size < 0:
            object.__setattr__(self, "size", sum(map(len, self.messages)))

    @property
    def cost(self) -> tuple[int, int]:
        """Frames and bytes that it takes in the queue."""
        return len(self.messages), self.size


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


class _Line:
    """What waits from one source, in order."""

    def __init__(self, cargo: Cargo, max_frames: int) -> None:
        share = _DEPTH_SHARE if cargo is Cargo.DEPTH else 1
        self.cargo = cargo
        self.items: deque[Message] = deque()
        self.frames = 0
        self.size = 0
        self.patience_s = math.inf
        self.patient_at_s = 0.0
        """How long its thread may still wait for room, as of then: it grows while the thread does not wait."""
        self._dropped: Counter[int] = Counter()
        self._max_frames = max(max_frames // share, 1)
        self._max_bytes = self._max_frames * _BYTES_PER_FRAME

    def has_room(self, frames: Frames | BadFrames) -> bool:
        """One message has room in an empty line, whatever its size."""
        count, size = frames.cost
        return not self.frames or (self.frames + count <= self._max_frames and self.size + size <= self._max_bytes)

    def put(self, frames: Frames | BadFrames) -> None:
        """Behind what waits; what was dropped of its connection is said with it."""
        count, size = frames.cost
        if isinstance(frames, Frames) and frames.connection in self._dropped:
            frames = replace(frames, dropped=frames.dropped + self._dropped.pop(frames.connection))
        self.items.append(frames)
        self.frames += count
        self.size += size

    def pop(self) -> Message:
        """The first in line."""
        message = self.items.popleft()
        if isinstance(message, Frames | BadFrames):
            count, size = message.cost
            self.frames -= count
            self.size -= size
        return message

    def give_up(self) -> None:
        """Drop the frames that wait, good and bad, and remember how many; announcements stay."""
        for message in self.items:
            if isinstance(message, Frames):
                self._dropped[message.connection] += len(message.messages) + message.dropped
            elif isinstance(message, BadFrames):
                self._dropped[message.connection] += len(message.bad)
        self.items = deque(message for message in self.items if not isinstance(message, Frames | BadFrames))
        self.frames = self.size = 0


class Handoff:
    """Each line holds `max_frames` frames and a proportional number of bytes; depth a quarter of that."""

    def __init__(self, max_frames: int, turn_bytes: int = TURN_BYTES, trades_wait_s: float = TRADES_WAIT_S) -> None:
        self._max_frames = max_frames
        self._turn_bytes = turn_bytes
        self._trades_wait_s = trades_wait_s
        self._lines: dict[str, _Line] = {}
        self._words = _Line(Cargo.FACTS, max_frames)
        """Announcements of sources that never handed a frame over. It is emptied before anything else is taken, so
        that the first words of a link stand before its first frames."""
        self._turns: dict[Cargo, deque[_Line]] = {cargo: deque() for cargo in Cargo}
        self._turns[Cargo.FACTS].append(self._words)
        self._items = 0
        self._behind: set[str] = set()
        self._closed = False
        self._changed = threading.Condition(threading.Lock())
        self._waiting_givers = 0

    def announce(self, message: Message) -> None:
        """Hand over something that is no frame, behind the frames of its source; never waits."""
        gone = isinstance(message, Ended)
        with self._changed:
            self._lines.get(message.source, self._words).items.append(message)
            if gone:
                self._note_behind(message.source, behind=False)  # who is gone reads no more
            self._count_in()

    def give(self, frames: Frames | BadFrames, cargo: Cargo = Cargo.FACTS, behind: bool = False) -> bool:
        """Hand over frames; without room the cargo decides what happens. `behind`: more waits in the socket. False:
        closed, nobody takes them."""
        with self._changed:
            line = self._line(frames.source, cargo)
            has_room = line.has_room(frames)
            self._note_behind(frames.source, behind and has_room)
            if not has_room:
                self._make_room(line, frames)
            if self._closed:
                return False
            line.put(frames)
            self._count_in()
        return True

    def take(self, timeout_s: float) -> list[Message]:
        """The next things to deal with: all facts, and a portion of the rest. Order is kept within each source. Empty
        when nothing came for `timeout_s`."""
        with self._changed:
            if not self._items and timeout_s > 0:
                self._changed.wait(timeout_s)
            if self._behind:
                self._changed.wait(READERS_FIRST_S)
                self._behind.clear()  # they had their turn; who still is says so again
            taken: list[Message] = []
            for line in self._turns[Cargo.FACTS]:
                while line.items:
                    taken.append(line.pop())
            room = self._portion(Cargo.TRADES, self._turn_bytes, taken)
            self._portion(Cargo.DEPTH, max(room, 1), taken)
            self._items -= len(taken)
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
        with self._changed:
            return sum(line.frames for line in self._lines.values())

    def _line(self, source: str, cargo: Cargo) -> _Line:
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = _Line(cargo, self._max_frames)
            self._turns[cargo].append(line)
        return line

    def _count_in(self) -> None:
        self._items += 1
        if self._items == 1:
            self._changed.notify_all()

    def _note_behind(self, source: str, behind: bool) -> None:
        if behind:
            self._behind.add(source)
        elif source in self._behind:
            self._behind.discard(source)
            if not self._behind:
                self._changed.notify_all()

    def _make_room(self, line: _Line, frames: Frames | BadFrames) -> None:
        began_s = time.monotonic()
        patience_s = self._patience_s(line, began_s)
        while not self._closed and not line.has_room(frames):
            left_s = None if patience_s is None else began_s + patience_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                before = len(line.items)
                line.give_up()
                self._items -= before - len(line.items)
                break
            self._waiting_givers += 1
            self._changed.wait(left_s)
            self._waiting_givers -= 1
        line.patient_at_s = time.monotonic()
        waited_s = line.patient_at_s - began_s
        line.patience_s = max(line.patience_s - waited_s, -self._trades_wait_s)  # a busy machine wakes threads late

    def _patience_s(self, line: _Line, now_s: float) -> float | None:
        """How long a thread waits for room in that line; None: for ever."""
        if line.cargo is not Cargo.TRADES:
            return None if line.cargo is Cargo.FACTS else 0.0
        grown_s = line.patience_s + _WAIT_SHARE / (1.0 - _WAIT_SHARE) * (now_s - line.patient_at_s)
        line.patience_s = min(grown_s, self._trades_wait_s)
        return line.patience_s

    def _portion(self, cargo: Cargo, room: int, taken: list[Message]) -> int:
        """Messages of the lines in turn until `room` bytes are used up; returns what is left of it."""
        turns = self._turns[cargo]
        idle = 0
        while room > 0 and idle < len(turns):
            line = turns[0]
            turns.rotate(-1)
            if not line.items:
                idle += 1
                continue
            idle = 0
            before = line.size
            taken.append(line.pop())
            room -= before - line.size
        return room

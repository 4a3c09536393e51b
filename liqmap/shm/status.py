"""The status segment: what time it is for this run, and one row per process that shows it is alive.

Every field is one 8-byte store by its owner; a row as a whole is not a snapshot, each word is. The names stand beside
the rows, are only ever appended (by the supervisor, before the process of that name starts) and never change.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from liqmap.domain.enums import Source
from liqmap.shm.faults import LayoutMismatch, UnknownProcess
from liqmap.shm.layout import (
    CLOCK,
    HEARTBEAT,
    PROCESS_NAME,
    SEGMENT_HEADER,
    STATUS_HEADER,
    STATUS_PROCESSES,
    segment_name,
    word_indexes,
)
from liqmap.shm.segment import Segment

__all__ = [
    "Beat",
    "ClockRow",
    "Heartbeat",
    "UnknownProcess",
    "add_process",
    "create_status",
    "processes",
    "read_clock",
    "read_heartbeats",
    "reset_heartbeat",
    "status_name",
    "status_size",
    "supervisor_beat",
    "write_clock",
]

_NAME_BYTES: Final = np.dtype(PROCESS_NAME).itemsize
_COUNT_AT: Final = SEGMENT_HEADER.itemsize
_CLOCK_AT: Final = _COUNT_AT + STATUS_HEADER.itemsize
_NAMES_AT: Final = _CLOCK_AT + CLOCK.itemsize
_BEATS_AT: Final = _NAMES_AT + STATUS_PROCESSES * _NAME_BYTES

_BEAT_WORD: Final = word_indexes(HEARTBEAT)
_CLOCK_WORD: Final = word_indexes(CLOCK)


def status_name(instance: str) -> str:
    """Name of the status segment of an instance."""
    return segment_name(instance, "status")


def status_size() -> int:
    """Bytes of the whole segment."""
    return _BEATS_AT + STATUS_PROCESSES * HEARTBEAT.itemsize


def create_status(instance: str, names: Iterable[str]) -> Segment:
    """Create or adopt the status segment with a row for each process of `names`.

    Raises UnknownProcess (a name too long, or no row left), and as Segment.create.
    """
    segment = Segment.create(status_name(instance), (STATUS_PROCESSES,), HEARTBEAT.itemsize, status_size())
    for name in names:
        add_process(segment, name)
    return segment


def add_process(segment: Segment, name: str) -> int:
    """Give `name` a row, or find the one it has; returns the row's index (supervisor only). Raises UnknownProcess."""
    known = processes(segment)
    if name in known:
        return known.index(name)
    text = name.encode("ascii")
    if not text or len(text) > _NAME_BYTES:
        raise UnknownProcess(f"{name!r}: a process name is 1 to {_NAME_BYTES} letters")
    row = len(known)
    if row == STATUS_PROCESSES:
        raise UnknownProcess(f"{segment.name} has no row left for {name}: {STATUS_PROCESSES} names were used")
    at = _NAMES_AT + row * _NAME_BYTES
    segment.view()[at : at + _NAME_BYTES] = text.ljust(_NAME_BYTES, b"\0")
    _write_beat(segment, row, _NO_BEAT)
    segment.words(_COUNT_AT, 1)[0] = row + 1  # last: names below the count never change
    return row


def processes(segment: Segment) -> tuple[str, ...]:
    """Names of the rows, in order. Raises LayoutMismatch."""
    if len(segment.view()) != status_size() or segment.item_size != HEARTBEAT.itemsize:
        raise LayoutMismatch(f"shared memory {segment.name} is not a status segment")
    count = segment.words(_COUNT_AT, 1)[0]
    names = segment.array(np.dtype(PROCESS_NAME), _NAMES_AT, STATUS_PROCESSES)[:count]
    return tuple(bytes(name).decode("ascii") for name in names)


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat row as read. `beat_ns`: CLOCK_MONOTONIC, 0: never beat. None: unknown or does not apply."""

    pid: int
    beat_ns: int
    ready: bool
    engine_ns: int | None
    sequence: int
    lag_events: int | None
    errors: int
    work: int

    def age_s(self, monotonic_ns: int) -> float | None:
        """Seconds since the last sign of life, None: there was none."""
        return (monotonic_ns - self.beat_ns) / 1e9 if self.beat_ns else None


_NO_BEAT: Final = Beat(pid=0, beat_ns=0, ready=False, engine_ns=None, sequence=0, lag_events=None, errors=0, work=0)


class Heartbeat:
    """The row of this process, which nobody else writes while it lives."""

    def __init__(
        self,
        segment: Segment,
        name: str,
        pid: int | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Claim the row of `name` for process `pid` (None: this one): not ready, not beaten yet.

        Raises UnknownProcess, LayoutMismatch.
        """
        self._row = _row_of(segment, name)
        _write_beat(segment, self._row, _NO_BEAT)
        self._words = segment.words(_BEATS_AT + self._row * HEARTBEAT.itemsize, HEARTBEAT.itemsize // 8, "q")
        self._now = monotonic_ns
        self._words[_BEAT_WORD["pid"]] = os.getpid() if pid is None else pid

    @classmethod
    def open(cls, instance: str, name: str, pid: int | None = None) -> Self:
        """Of the status segment of that instance. Raises SegmentMissing, LayoutMismatch, UnknownProcess."""
        with Segment.open_writer(status_name(instance)) as segment:
            return cls(segment, name, pid)

    def beat(
        self,
        *,
        ready: bool | None = None,
        engine_ns: int | None = None,
        sequence: int | None = None,
        lag_events: int | None = None,
        errors: int | None = None,
        work: int | None = None,
    ) -> None:
        """A sign of life, with whatever is new to say; what is left out stays as it was."""
        words = self._words
        if ready is not None:
            words[_BEAT_WORD["ready"]] = int(ready)
        if engine_ns is not None:
            words[_BEAT_WORD["engine_ns"]] = engine_ns
        if sequence is not None:
            words[_BEAT_WORD["sequence"]] = sequence
        if lag_events is not None:
            words[_BEAT_WORD["lag_events"]] = lag_events
        if errors is not None:
            words[_BEAT_WORD["errors"]] = errors
        if work is not None:
            words[_BEAT_WORD["work"]] = work
        words[_BEAT_WORD["beat_ns"]] = self._now()


def read_heartbeats(segment: Segment) -> dict[str, Beat]:
    """Every process's row by name, in the order of the rows. Raises LayoutMismatch."""
    names = processes(segment)
    words = segment.words(_BEATS_AT, STATUS_PROCESSES * HEARTBEAT.itemsize // 8, "q").tolist()
    width = HEARTBEAT.itemsize // 8
    return {name: _beat(words[row * width : (row + 1) * width]) for row, name in enumerate(names)}


def reset_heartbeat(segment: Segment, name: str) -> None:
    """Blank the row of a process that is dead and reaped (supervisor only). Raises UnknownProcess."""
    _write_beat(segment, _row_of(segment, name), _NO_BEAT)


@dataclass(frozen=True, slots=True)
class ClockRow:
    """What time it is for this run. Engine time at wall time w: engine_origin + (w - wall_origin) x speed."""

    source: Source
    engine_origin_ns: int
    wall_origin_ns: int
    speed: float
    started_ns: int
    supervisor_beat_ns: int
    supervisor_pid: int


def write_clock(segment: Segment, clock: ClockRow) -> None:
    """Write the row (supervisor only, before it starts a child)."""
    words, reals = _clock_words(segment), segment.reals(_CLOCK_AT, CLOCK.itemsize // 8)
    words[_CLOCK_WORD["source"]] = 0  # a reader that comes now sees that the row is not there
    words[_CLOCK_WORD["engine_origin_ns"]] = clock.engine_origin_ns
    words[_CLOCK_WORD["wall_origin_ns"]] = clock.wall_origin_ns
    reals[_CLOCK_WORD["speed"]] = clock.speed
    words[_CLOCK_WORD["started_ns"]] = clock.started_ns
    words[_CLOCK_WORD["supervisor_beat_ns"]] = clock.supervisor_beat_ns
    words[_CLOCK_WORD["supervisor_pid"]] = clock.supervisor_pid
    words[_CLOCK_WORD["source"]] = int(clock.source)


def supervisor_beat(segment: Segment, monotonic_ns: int) -> None:
    """The supervisor's own sign of life, CLOCK_MONOTONIC."""
    _clock_words(segment)[_CLOCK_WORD["supervisor_beat_ns"]] = monotonic_ns


def read_clock(segment: Segment) -> ClockRow | None:
    """The row, None: not written yet. Raises LayoutMismatch."""
    processes(segment)
    words, reals = _clock_words(segment), segment.reals(_CLOCK_AT, CLOCK.itemsize // 8)
    source = words[_CLOCK_WORD["source"]]
    if source == 0:
        return None
    return ClockRow(
        source=Source(source),
        engine_origin_ns=words[_CLOCK_WORD["engine_origin_ns"]],
        wall_origin_ns=words[_CLOCK_WORD["wall_origin_ns"]],
        speed=reals[_CLOCK_WORD["speed"]],
        started_ns=words[_CLOCK_WORD["started_ns"]],
        supervisor_beat_ns=words[_CLOCK_WORD["supervisor_beat_ns"]],
        supervisor_pid=words[_CLOCK_WORD["supervisor_pid"]],
    )


def _clock_words(segment: Segment) -> "memoryview[int]":
    return segment.words(_CLOCK_AT, CLOCK.itemsize // 8, "q")


def _row_of(segment: Segment, name: str) -> int:
    known = processes(segment)
    if name not in known:
        raise UnknownProcess(f"{segment.name} has no row for {name}; it has {', '.join(known) or 'none'}")
    return known.index(name)


def _beat(words: list[int]) -> Beat:
    row = dict(zip(_BEAT_WORD, words, strict=True))
    return Beat(
        pid=row["pid"],
        beat_ns=row["beat_ns"],
        ready=bool(row["ready"]),
        engine_ns=row["engine_ns"] if row["engine_ns"] >= 0 else None,
        sequence=row["sequence"],
        lag_events=row["lag_events"] if row["lag_events"] >= 0 else None,
        errors=row["errors"],
        work=row["work"],
    )


def _write_beat(segment: Segment, row: int, beat: Beat) -> None:
    words = segment.words(_BEATS_AT + row * HEARTBEAT.itemsize, HEARTBEAT.itemsize // 8, "q")
    words[_BEAT_WORD["beat_ns"]] = beat.beat_ns
    words[_BEAT_WORD["ready"]] = int(beat.ready)
    words[_BEAT_WORD["pid"]] = beat.pid
    words[_BEAT_WORD["engine_ns"]] = -1 if beat.engine_ns is None else beat.engine_ns
    words[_BEAT_WORD["sequence"]] = beat.sequence
    words[_BEAT_WORD["lag_events"]] = -1 if beat.lag_events is None else beat.lag_events
    words[_BEAT_WORD["errors"]] = beat.errors
    words[_BEAT_WORD["work"]] = beat.work

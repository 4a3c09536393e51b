"""Segments by name, opened when they are first needed and again when their owner has put them out of use.

Every reading goes through `reading`, which turns what can go wrong with shared memory into the client's own faults.
Safe from several threads: opening is guarded, reading needs no guard, and a mapping lives as long as anyone uses it.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, Self, TypeVar

from liqmap.client.faults import Busy, Incompatible, NotYet
from liqmap.shm.faults import (
    BoardBusy,
    LayoutMismatch,
    NeverPublished,
    SegmentMissing,
    SegmentRetired,
    SharedMemoryFault,
)
from liqmap.shm.segment import Segment

RECHECK_S: Final = 1.0
"""How often, at most, a segment whose data went stale is compared with what its name leads to now."""


class Reader(Protocol):
    """What board, row and status readers have in common."""

    @property
    def generation(self) -> int:
        """Of the segment it reads."""

    @property
    def retired(self) -> bool:
        """Put out of use by its owner."""


R = TypeVar("R", bound=Reader)
T = TypeVar("T")


class Attachment(Generic[R]):
    """One segment name and its present reader."""

    def __init__(self, name: str, make: Callable[[Segment], R]) -> None:
        self.name = name
        self._make = make
        self._reader: R | None = None
        self._lock = threading.Lock()
        self._checked_s = 0.0

    def read(self, take: Callable[[R], T]) -> T:
        """What `take` gets from the reader, reopened once when it turns out to be retired.

        Raises NotYet, Busy, Incompatible.
        """
        try:
            reader = self._reader
            if reader is None or reader.retired:
                reader = self._open(reader)
            try:
                return take(reader)
            except SegmentRetired:
                return take(self._open(reader))
        except NeverPublished as error:
            raise NotYet(f"{self.name} has not been published yet") from error
        except SegmentMissing as error:
            raise NotYet(f"{self.name} does not exist: is the daemon running?") from error
        except BoardBusy as error:
            raise Busy(str(error)) from error
        except LayoutMismatch as error:
            raise Incompatible(str(error)) from error
        except SharedMemoryFault as error:
            raise NotYet(str(error)) from error

    def suspect(self) -> None:
        """The data is old: see whether the name leads elsewhere by now (a daemon that died left no RETIRED mark)."""
        reader, now_s = self._reader, time.monotonic()
        if reader is None or now_s - self._checked_s < RECHECK_S:
            return
        self._checked_s = now_s
        try:
            with Segment.open_reader(self.name) as segment:
                moved = segment.generation != reader.generation
        except SharedMemoryFault:
            return
        if moved:
            self._open(reader)

    def close(self) -> None:
        """Let go of the reader."""
        self._reader = None

    def _open(self, seen: R | None) -> R:
        with self._lock:
            if self._reader is None or self._reader is seen:
                self._reader = None
                self._reader = self._make(Segment.open_reader(self.name))
            return self._reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

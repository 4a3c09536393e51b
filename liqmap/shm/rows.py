"""A ring of rows for many readers: minute columns, recent liquidations. One writer, no locks, no cursor.

Row i (from 0) stands at i modulo capacity, and its version is 2i + 1 while it is written, 2i + 2 when it is whole. A
reader copies a window of rows and looks at their versions afterwards; a row whose version is still its own was not
touched before the copy ended. The writer overwrites the oldest row first, so a window whose oldest row is untouched is
untouched as a whole (one load); otherwise all versions, which lie together, are compared at once, and what was lost is
cut off the old end.

A writer that dies in the middle of a row leaves an odd version; no reader accepts it, and the successor writes the
same row again.
"""

import os
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from liqmap.shm.board import ATTEMPTS, YIELD_AFTER
from liqmap.shm.faults import BoardBusy, LayoutMismatch, SegmentRetired
from liqmap.shm.layout import ROWS_HEADER, SEGMENT_HEADER, SEGMENT_RETIRED, fingerprint
from liqmap.shm.ordering import ORDERED
from liqmap.shm.segment import Segment

__all__ = ["RowsReader", "RowsWriter", "Window", "create_rows", "rows_size"]

_WRITTEN: Final = SEGMENT_HEADER.itemsize // 8
_VERSIONS_AT: Final = SEGMENT_HEADER.itemsize + ROWS_HEADER.itemsize
_LOW_32: Final = 0xFFFFFFFF

Copy = Callable[[NDArray[Any]], NDArray[Any]]
"""From live rows, shape (k,), to a new array whose first axis is k."""


def _rows_at(capacity: int) -> int:
    return _VERSIONS_AT + -(-16 * capacity // 64) * 64


def rows_size(dtype: np.dtype[Any], capacity: int) -> int:
    """Bytes of the whole segment."""
    return _rows_at(capacity) + -(-capacity * dtype.itemsize // 8) * 8


def create_rows(name: str, dtype: np.dtype[Any], capacity: int, *, checksums: bool = not ORDERED) -> Segment:
    """Create or adopt the segment of a row ring of `capacity` rows of `dtype`. Raises as Segment.create."""
    return Segment.create(
        name,
        (capacity,),
        dtype.itemsize,
        rows_size(dtype, capacity),
        fingerprint=fingerprint(dtype),
        checksums=checksums,
    )


def _capacity_of(segment: Segment, dtype: np.dtype[Any]) -> int:
    capacity = segment.shape[0]
    wanted = (dtype.itemsize, fingerprint(dtype), rows_size(dtype, capacity))
    if wanted != (segment.item_size, segment.fingerprint, len(segment.view())):
        raise LayoutMismatch(f"shared memory {segment.name} does not hold rows of the expected type")
    return capacity


class Window(NamedTuple):
    """Rows in order: `rows[k]` is row number `first + k`. `next` is what to ask for the next time."""

    first: int
    rows: NDArray[Any]

    @property
    def next(self) -> int:
        """Number of the row behind the last one."""
        return self.first + len(self.rows)


class RowsWriter:
    """The one writer (hold a WriterLock). Goes on where a predecessor stopped or died."""

    def __init__(self, segment: Segment, dtype: np.dtype[Any]) -> None:
        """`segment` from create_rows or Segment.open_writer. Raises LayoutMismatch."""
        self.capacity = _capacity_of(segment, dtype)
        self._words = segment.words(0, _rows_at(self.capacity) // 8)
        self._rows = segment.array(dtype, _rows_at(self.capacity), self.capacity)
        self._checksums = segment.checksums

    @classmethod
    def open(cls, name: str, dtype: np.dtype[Any]) -> Self:
        """Of the segment of that name. Raises SegmentMissing, LayoutMismatch."""
        with Segment.open_writer(name) as segment:
            return cls(segment, dtype)

    @property
    def written(self) -> int:
        """Rows ever written, predecessors' included."""
        return self._words[_WRITTEN]

    def append(self, fill: Callable[[NDArray[Any]], None]) -> int:
        """Let `fill` write the next row in place, then show it; returns its number.

        `fill` gets a writable 0-d structured array holding an old row: it must write every field. When it raises,
        nothing is shown and the next call writes that row anew.
        """
        words = self._words
        number = words[_WRITTEN]
        slot = number % self.capacity
        at = _VERSIONS_AT // 8 + slot
        words[at] = 2 * number + 1
        row = self._rows[slot : slot + 1].reshape(())
        fill(row)
        if self._checksums:
            words[at + self.capacity] = zlib.crc32(row.tobytes(), (2 * number + 2) & _LOW_32)
        words[at] = 2 * number + 2
        words[_WRITTEN] = number + 1
        return number


class RowsReader:
    """Any number of these, in any process, on a read-only mapping."""

    def __init__(self, segment: Segment, dtype: np.dtype[Any]) -> None:
        """`segment` from Segment.open_reader (or any). Raises LayoutMismatch."""
        self.capacity = _capacity_of(segment, dtype)
        self.name = segment.name
        self.generation = segment.generation
        self.dtype = dtype
        self._words = segment.words(0, _VERSIONS_AT // 8 + self.capacity)
        self._state_at = segment.word("state")
        self._versions = segment.array(np.dtype("<u8"), _VERSIONS_AT, self.capacity)
        self._sums = segment.array(np.dtype("<u8"), _VERSIONS_AT + 8 * self.capacity, self.capacity)
        self._rows = segment.array(dtype, _rows_at(self.capacity), self.capacity)
        self._rows.flags.writeable = False
        self._bytes = segment.view()[_rows_at(self.capacity) :]
        self._checksums = segment.checksums

    @classmethod
    def open(cls, name: str, dtype: np.dtype[Any]) -> Self:
        """Of the segment of that name. Raises SegmentMissing, LayoutMismatch."""
        with Segment.open_reader(name) as segment:
            return cls(segment, dtype)

    @property
    def written(self) -> int:
        """Rows ever written: one load, changes when there is something new."""
        return self._words[_WRITTEN]

    @property
    def retired(self) -> bool:
        """True once the owner has put the segment out of use: reopen by name."""
        return self._words[self._state_at] == SEGMENT_RETIRED

    def last(self, count: int) -> NDArray[Any]:
        """Copies of the newest rows, at most `count`, oldest first; fewer when fewer exist.

        Raises SegmentRetired, BoardBusy (the writer overwrote all of them in every attempt).
        """
        return self._window(lambda written: written - count, count, None).rows

    def after(self, index: int, limit: int) -> Window:
        """Copies of the rows number `index`, `index + 1`, …, at most `limit`.

        When `index` is no longer there the window begins with the oldest row that is: `first - index` were missed.
        Ask with 0 first and with the window's `next` from then on. Raises as `last`.
        """
        return self._window(lambda _: index, limit, None)

    def last_with(self, count: int, copy: Copy) -> Window:
        """Like `last`, for readers that need a part of large rows: `copy(rows)` returns what it needs of them.

        `copy` gets a read-only view of live rows, shape (k,), once or twice per window, and returns a new array whose
        first axis is k. It must not act on what it sees: rows may change under it, and are then dropped.
        With checksums the rows are copied whole first. Raises as `last`.
        """
        return self._window(lambda written: written - count, count, copy)

    def _window(self, begin: Callable[[int], int], limit: int, copy: Copy | None) -> Window:
        for attempt in range(ATTEMPTS):
            if self.retired:
                raise SegmentRetired(f"shared memory {self.name} is retired")
            written = self.written
            first = min(max(begin(written), written - self.capacity, 0), written)
            count = max(min(limit, written - first), 0)
            window = self._copy_valid(first, count, copy)
            if len(window.rows) or not count:
                return window
            if attempt >= YIELD_AFTER:
                os.sched_yield()
        raise BoardBusy(f"{self.name} was overwritten during each of {ATTEMPTS} attempts to read it")

    def _copy_valid(self, first: int, count: int, copy: "Copy | None") -> Window:
        """Copy, then validate row by row, and keep what follows the last row that was touched."""
        slot = first % self.capacity
        head = min(count, self.capacity - slot)
        spans = [slice(slot, slot + head), slice(0, count - head)][: 1 + (count > head)]
        if copy is None or self._checksums:
            rows = self._whole_rows(spans)
        else:
            rows = _joined([copy(self._rows[span]) for span in spans])
        if not self._checksums and (not count or self._words[_VERSIONS_AT // 8 + slot] == 2 * first + 2):
            return Window(first, rows)
        versions = _joined([self._versions[span].copy() for span in spans])
        good = versions == np.arange(2 * first + 2, 2 * (first + count) + 2, 2, dtype=np.uint64)
        if self._checksums:
            good &= self._sums_fit(rows, versions, _joined([self._sums[span].copy() for span in spans]))
        bad = 0 if good.all() else count - int(np.argmin(good[::-1]))
        kept = rows[bad:]
        return Window(first + bad, kept if copy is None or not self._checksums else copy(kept))

    def _whole_rows(self, spans: list[slice]) -> NDArray[Any]:
        """A copy, made as bytes: numpy copies structured rows field by field."""
        size = self.dtype.itemsize
        parts = [self._bytes[span.start * size : span.stop * size] for span in spans]
        return np.frombuffer(parts[0].tobytes() if len(parts) == 1 else b"".join(parts), self.dtype)

    @staticmethod
    def _sums_fit(rows: NDArray[Any], versions: NDArray[Any], sums: NDArray[Any]) -> NDArray[np.bool_]:
        triples = zip(rows, versions, sums, strict=True)
        return np.array([zlib.crc32(row.tobytes(), int(v) & _LOW_32) == s for row, v, s in triples], np.bool_)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

"""A board: the newest payload of one writer, for any number of readers, without a lock between them.

A ring of four slots, each with a version of its own. The version of payload n is 2n - 1 while it is written and 2n when
it is whole; then `latest` says n. A reader asks `latest`, copies that slot, and accepts when the version is still 2n:
it became that before `latest` said so, and no other payload ever has it. So what is read never goes back, also beside
a writer that stands between the two stores. A slot is overwritten only four payloads later, so a reader hardly ever has
to try twice, and a writer killed in the middle leaves the last whole payload where it was.

A writer that dies with 2n stored and `latest` at n - 1 has published nothing: its successor makes it 2n - 1 again. Only
who took n from `latest` could be misled by that, and nobody has.
"""

import os
import zlib
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from liqmap.shm.faults import BoardBusy, LayoutMismatch, NeverPublished, SegmentRetired
from liqmap.shm.layout import (
    BOARD_HEADER,
    BOARD_SLOTS,
    SEGMENT_HEADER,
    SEGMENT_LIVE,
    SEGMENT_RETIRED,
    SLOT_HEADER,
    fingerprint,
    word_indexes,
)
from liqmap.shm.ordering import ORDERED
from liqmap.shm.segment import Segment

__all__ = ["BoardBusy", "BoardReader", "BoardWriter", "NeverPublished", "board_size", "create_board"]

T = TypeVar("T")

ATTEMPTS: Final = 64
"""How often a reader tries before it gives up. With four slots one retry in thousands of reads is normal."""
YIELD_AFTER: Final = 4
"""From this attempt on a reader hands its core to whoever wants it between two attempts."""

_LATEST: Final = SEGMENT_HEADER.itemsize // 8
_STATE: Final = word_indexes(SEGMENT_HEADER)["state"]
_FIRST_SLOT: Final = SEGMENT_HEADER.itemsize + BOARD_HEADER.itemsize
_LOW_32: Final = 0xFFFFFFFF


def slot_stride(dtype: np.dtype[Any]) -> int:
    """Bytes from one slot to the next: its header and the payload, rounded up to whole cache lines."""
    return SLOT_HEADER.itemsize + -(-dtype.itemsize // 64) * 64


def board_size(dtype: np.dtype[Any]) -> int:
    """Bytes of the whole segment."""
    return _FIRST_SLOT + BOARD_SLOTS * slot_stride(dtype)


def create_board(name: str, dtype: np.dtype[Any], *, checksums: bool = not ORDERED) -> Segment:
    """Create or adopt the segment of a board with payloads of `dtype` (owner only). Raises as Segment.create."""
    return Segment.create(
        name,
        (BOARD_SLOTS, slot_stride(dtype)),
        dtype.itemsize,
        board_size(dtype),
        fingerprint=fingerprint(dtype),
        checksums=checksums,
    )


def _slots_of(segment: Segment, dtype: np.dtype[Any]) -> list[int]:
    """Byte offset of each slot's header. Raises LayoutMismatch when the segment is no board of that type."""
    stride = slot_stride(dtype)
    wanted = ((BOARD_SLOTS, stride, 0, 0), dtype.itemsize, fingerprint(dtype), board_size(dtype))
    if wanted != (segment.shape, segment.item_size, segment.fingerprint, len(segment.view())):
        raise LayoutMismatch(f"shared memory {segment.name} is not a board of the expected payload type")
    return [_FIRST_SLOT + number * stride for number in range(BOARD_SLOTS)]


class BoardWriter:
    """The one writer of a board (hold a WriterLock). Takes over wherever a predecessor stopped or died."""

    def __init__(self, segment: Segment, dtype: np.dtype[Any]) -> None:
        """`segment` from create_board or Segment.open_writer. Raises LayoutMismatch."""
        slots = _slots_of(segment, dtype)
        payload_at = [offset + SLOT_HEADER.itemsize for offset in slots]
        self._words = segment.words(0, len(segment.view()) // 8)
        self._version_at = [offset // 8 for offset in slots]
        self._payloads = [segment.array(dtype, offset, 1).reshape(()) for offset in payload_at]
        self._bytes = [segment.view()[offset : offset + dtype.itemsize] for offset in payload_at]
        self._checksums = segment.checksums

    @classmethod
    def open(cls, name: str, dtype: np.dtype[Any]) -> Self:
        """Of the segment of that name. Raises SegmentMissing, LayoutMismatch."""
        with Segment.open_writer(name) as segment:
            return cls(segment, dtype)

    @property
    def published(self) -> int:
        """Payloads ever published on this board, predecessors' included."""
        return self._words[_LATEST]

    def publish(self, fill: Callable[[NDArray[Any]], None]) -> int:
        """Let `fill` write the next payload in place, then show it to readers; returns its number.

        `fill` gets a writable 0-d structured array whose old content is a former payload: it must write every field.
        When it raises, nothing is published and the next call begins the slot anew.
        """
        words = self._words
        latest = words[_LATEST]
        slot = latest % BOARD_SLOTS
        at = self._version_at[slot]
        version = 2 * latest + 2
        words[at] = version - 1
        fill(self._payloads[slot])
        if self._checksums:
            words[at + 1] = zlib.crc32(self._bytes[slot], version & _LOW_32)
        words[at] = version
        words[_LATEST] = latest + 1
        return latest + 1


class BoardReader:
    """Any number of these, in any process, on a read-only mapping; none is noticed by the writer or by another.

    One may be used by several threads: reading changes nothing but the count of retries.
    """

    def __init__(self, segment: Segment, dtype: np.dtype[Any]) -> None:
        """`segment` from Segment.open_reader (or any). Raises LayoutMismatch."""
        slots = _slots_of(segment, dtype)
        payload_at = [offset + SLOT_HEADER.itemsize for offset in slots]
        self.name = segment.name
        self.generation = segment.generation
        self.dtype = dtype
        self.retries = 0
        """Attempts that were overwritten and repeated, since this reader was made."""
        self._words = segment.words(0, len(segment.view()) // 8)
        chunks = [segment.view()[offset : offset + dtype.itemsize] for offset in payload_at]
        views = [_read_only(segment.array(dtype, offset, 1).reshape(())) for offset in payload_at]
        by_slot = list(zip((offset // 8 for offset in slots), chunks, views, strict=True))
        self._slots = by_slot[-1:] + by_slot[:-1]
        """Version index, bytes and array of the slot of payload n, at n modulo BOARD_SLOTS."""
        self._plain = not segment.checksums
        self._quick_while = SEGMENT_LIVE if self._plain else -1
        """The segment state in which the short way of `read` checks all there is to check."""

    @classmethod
    def open(cls, name: str, dtype: np.dtype[Any]) -> Self:
        """Of the segment of that name. Raises SegmentMissing, LayoutMismatch."""
        with Segment.open_reader(name) as segment:
            return cls(segment, dtype)

    def sequence_hint(self) -> int:
        """Number of the newest payload, 0 before the first: one load. Another number means there is something new.

        To label a copy, ask before the read: the copy is then this payload or a newer one, never an older.
        """
        return self._words[_LATEST]

    @property
    def retired(self) -> bool:
        """True once the owner has put the board out of use: reopen by name."""
        return self._words[_STATE] == SEGMENT_RETIRED

    def read(self) -> NDArray[Any]:
        """A copy of the newest payload, 0-d and read-only, untorn.

        Raises NeverPublished, SegmentRetired (reopen by name), BoardBusy (every attempt was overwritten).
        """
        words = self._words
        latest = words[_LATEST]
        at, chunk, _ = self._slots[latest % BOARD_SLOTS]
        copy = chunk.tobytes()
        if words[at] != 2 * latest or not latest or words[_STATE] != self._quick_while:
            self.retries += latest != 0 and words[_STATE] == self._quick_while
            copy = self._insist(_as_bytes)
        return np.ndarray((), self.dtype, copy)

    def read_with(self, copy: Callable[[NDArray[Any]], T]) -> T:
        """What `copy` made of the newest payload, untorn: for readers that need a part of a large one.

        `copy` gets a read-only 0-d view of live memory. It must copy what it returns, and must not act on what it
        sees: the bytes may change under it, in which case its result is thrown away and it is called again.
        Raises as `read`.
        """
        if not self._plain:
            return copy(self.read())  # a checksum proves only the bytes it was taken of
        return self._insist(lambda _, view: copy(view))

    def _insist(self, copy: Callable[[memoryview, NDArray[Any]], T]) -> T:
        """The long way: every check, bounded attempts."""
        words = self._words
        for attempt in range(ATTEMPTS):
            if words[_STATE] == SEGMENT_RETIRED:
                raise SegmentRetired(f"shared memory {self.name} is retired")
            latest = words[_LATEST]
            if latest == 0:
                raise NeverPublished(f"nothing was published on {self.name} yet")
            at, chunk, view = self._slots[latest % BOARD_SLOTS]
            copied = copy(chunk, view)
            if words[at] == 2 * latest and self._fits(at, copied):
                return copied
            self.retries += 1
            if attempt >= YIELD_AFTER:
                os.sched_yield()
        raise BoardBusy(f"{self.name} was overwritten during each of {ATTEMPTS} attempts to read it")

    def _fits(self, at: int, copied: object) -> bool:
        """Whether the bytes copied are the ones the slot's checksum was taken of."""
        words = self._words
        return self._plain or zlib.crc32(cast("bytes", copied), words[at] & _LOW_32) == words[at + 1]


def _as_bytes(chunk: memoryview, _view: NDArray[Any]) -> bytes:
    return chunk.tobytes()


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array

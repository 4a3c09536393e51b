"""One piece of shared memory with a name, an owner and a header; everything else here lays arrays over it.

The supervisor creates segments (or adopts equal ones a predecessor left), holds a file lock on each while it lives,
marks them RETIRED before it unlinks them. Writers map them read-write, readers read-only. Nobody but the owner removes
one: Python's resource tracker, which unlinks what any attaching process or a killed owner leaves behind, never hears
of them.

A mapping is never closed by force: numpy arrays and memoryviews made here keep it alive, and the kernel takes it back
when the last of them is gone. `close()` only lets go of this object's own hold.
"""

import errno
import fcntl
import mmap
import os
import time
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from liqmap.shm.faults import (
    LayoutMismatch,
    SegmentForeign,
    SegmentHeld,
    SegmentMissing,
    SegmentRetired,
    SharedMemoryFull,
    WriterLockHeld,
)
from liqmap.shm.layout import LAYOUT_VERSION, MAGIC, SEGMENT_HEADER, SEGMENT_LIVE, SEGMENT_RETIRED, word_indexes
from liqmap.shm.lock import WriterLock
from liqmap.shm.memory import SHM_DIR, UntrackedMemory, free_bytes, remove_name, segment_bytes, segments_in
from liqmap.shm.ordering import ORDERED

__all__ = [
    "LayoutMismatch",
    "Segment",
    "SegmentForeign",
    "SegmentHeld",
    "SegmentMissing",
    "SegmentRetired",
    "SharedMemoryFull",
    "WriterLock",
    "WriterLockHeld",
    "free_bytes",
    "segment_bytes",
    "segments_in",
]

SHAPE_WORDS: Final = 4

_WORD: Final = word_indexes(SEGMENT_HEADER)


class Segment:
    """A named piece of shared memory behind a SEGMENT_HEADER.

    Made by `create`, `open_writer` or `open_reader`; never by its constructor. A context manager: leaving it closes.
    """

    def __init__(self, name: str, view: memoryview, memory: UntrackedMemory | None) -> None:
        self.name = name
        self._memory = memory
        self._bytes: memoryview | None = view
        self._words = view.cast("Q")
        self.writable = not view.readonly
        self.adopted = False
        """True when `create` found and kept the segment of a predecessor."""

    # -- making and finding --------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        name: str,
        role_shape: tuple[int, ...],
        item_size: int,
        size: int,
        *,
        fingerprint: int = 0,
        checksums: bool = not ORDERED,
    ) -> Self:
        """Make the segment, or adopt one of equal geometry, layout version and user that has no living owner.

        `role_shape`: up to four numbers of the role's geometry; `item_size`: bytes of one payload, row or event;
        `size`: bytes of the whole; `fingerprint`: of the payload's type (`layout.fingerprint`). What cannot be adopted
        is retired, removed and made anew. New memory is all zero behind the header.
        Raises SharedMemoryFull, SegmentHeld, SegmentForeign.
        """
        shape = (*role_shape, *[0] * (SHAPE_WORDS - len(role_shape)))
        expected = (LAYOUT_VERSION, size, shape, item_size, fingerprint, int(checksums))
        found = cls.take_over(name)
        if found is not None:
            if found._geometry() == expected and not found.retired:
                found._put("owner_pid", os.getpid())
                found.adopted = True
                return found
            found.unlink()
            found.close()
        segment = cls._make(name, size)
        for word, number in zip(range(_WORD["shape"], _WORD["shape"] + SHAPE_WORDS), shape, strict=True):
            segment._words[word] = number
        segment._put("layout_version", LAYOUT_VERSION)
        segment._put("generation", time.time_ns())
        segment._put("state", SEGMENT_LIVE)
        segment._put("size", size)
        segment._put("owner_pid", os.getpid())
        segment._put("item_size", item_size)
        segment._put("fingerprint", fingerprint)
        segment._put("checksums", int(checksums))
        segment._put("magic", MAGIC)  # last: until then the segment is "being made"
        return segment

    @classmethod
    def open_writer(cls, name: str) -> Self:
        """Map an existing segment read-write. Raises SegmentMissing, SegmentRetired, LayoutMismatch."""
        try:
            memory = UntrackedMemory(name)
        except (FileNotFoundError, ValueError) as error:  # ValueError: still empty
            raise SegmentMissing(f"shared memory {name} does not exist") from error
        except PermissionError as error:
            raise SegmentForeign(f"shared memory {name} belongs to another user") from error
        return cls._checked(name, memory.mapped(), memory)

    @classmethod
    def open_reader(cls, name: str) -> Self:
        """Map an existing segment read-only. Raises SegmentMissing, SegmentRetired, LayoutMismatch."""
        try:
            with (SHM_DIR / name).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                mapping = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError) as error:
            raise SegmentMissing(f"shared memory {name} does not exist") from error
        except PermissionError as error:
            raise SegmentForeign(f"shared memory {name} belongs to another user") from error
        return cls._checked(name, memoryview(mapping), None)

    @classmethod
    def _make(cls, name: str, size: int) -> Self:
        try:
            memory = UntrackedMemory(name, size)
        except FileExistsError as error:
            raise SegmentHeld(name, 0) from error  # appeared since we looked: somebody else is starting
        try:
            memory.back()
        except OSError as error:
            remove_name(name)
            memory.close()
            if error.errno == errno.ENOSPC:
                raise SharedMemoryFull(name, size, free_bytes()) from error
            raise
        segment = cls(name, memory.mapped(), memory)
        fcntl.flock(memory.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        return segment

    @classmethod
    def take_over(cls, name: str) -> Self | None:
        """What a predecessor left under that name, whatever it is, locked for us (owner only).

        None when there is nothing, or nothing that can be mapped (then the name is removed).
        Raises SegmentHeld, SegmentForeign.
        """
        try:
            if (SHM_DIR / name).stat().st_uid != os.geteuid():
                raise SegmentForeign(f"shared memory {name} belongs to another user; remove it or rename the instance")
            memory = UntrackedMemory(name)
        except FileNotFoundError:
            return None
        except ValueError:  # empty: its owner died before giving it a size
            remove_name(name)
            return None
        if memory.size < SEGMENT_HEADER.itemsize or memory.size % 8:
            memory.close()
            remove_name(name)
            return None
        segment = cls(name, memory.mapped(), memory)
        try:
            fcntl.flock(memory.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = segment.owner_pid
            segment.close()
            raise SegmentHeld(name, pid) from error
        os.fchmod(memory.fileno(), 0o600)
        return segment

    def _geometry(self) -> tuple[object, ...]:
        if self._get("magic") != MAGIC or self._get("size") != len(self.view()):
            return ()
        return (
            self._get("layout_version"),
            self._get("size"),
            self.shape,
            self.item_size,
            self.fingerprint,
            self._get("checksums"),
        )

    @classmethod
    def _checked(cls, name: str, view: memoryview, memory: UntrackedMemory | None) -> Self:
        size = len(view)
        if size < SEGMENT_HEADER.itemsize or size % 8:
            raise LayoutMismatch(f"shared memory {name} is {size} bytes: not a segment")
        segment = cls(name, view, memory)
        if segment._get("magic") != MAGIC:
            raise SegmentMissing(f"shared memory {name} is still being made")
        if segment._get("layout_version") != LAYOUT_VERSION:
            theirs = segment._get("layout_version")
            raise LayoutMismatch(f"shared memory {name} has layout {theirs}, this program has {LAYOUT_VERSION}")
        if segment._get("size") != size:
            raise LayoutMismatch(f"shared memory {name} is {size} bytes, its header says {segment._get('size')}")
        if segment.retired:
            raise SegmentRetired(f"shared memory {name} is retired")
        return segment

    # -- what the header says ------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Wall time of creation, ns: another number is another segment, also under the same name."""
        return self._get("generation")

    @property
    def retired(self) -> bool:
        """True once the owner has put it out of use."""
        return self._get("state") == SEGMENT_RETIRED

    @property
    def owner_pid(self) -> int:
        """The process that created or adopted it last."""
        return self._get("owner_pid")

    @property
    def shape(self) -> tuple[int, ...]:
        """Four numbers of the role's geometry."""
        first = _WORD["shape"]
        return tuple(self._words[first : first + SHAPE_WORDS])

    @property
    def item_size(self) -> int:
        """Bytes of one payload, row or event."""
        return self._get("item_size")

    @property
    def fingerprint(self) -> int:
        """Of the payload's type, 0: none."""
        return self._get("fingerprint")

    @property
    def checksums(self) -> bool:
        """True where payloads carry a checksum."""
        return bool(self._get("checksums"))

    # -- laying arrays over it -----------------------------------------------------------------------------------

    def view(self) -> memoryview:
        """All bytes. Raises ValueError after `close`."""
        if self._bytes is None:
            raise ValueError(f"{self.name} is closed")
        return self._bytes

    def words(self, offset: int, count: int, format: Literal["Q", "q"] = "Q") -> "memoryview[int]":
        """`count` integers of 8 bytes at byte `offset`, unsigned or signed; one item store or load is whole."""
        return self.view()[offset : offset + 8 * count].cast(format)

    def reals(self, offset: int, count: int) -> "memoryview[float]":
        """`count` floats of 8 bytes at byte `offset`; one item store or load is whole."""
        return self.view()[offset : offset + 8 * count].cast("d")

    def array(self, dtype: np.dtype[Any], offset: int, count: int) -> NDArray[Any]:
        """`count` items of `dtype` at byte `offset`, shape (count,); keeps the mapping alive."""
        return np.frombuffer(self.view(), dtype, count, offset)

    def word(self, field: str) -> int:
        """Index of a header field in `words(0, …)`."""
        return _WORD[field]

    # -- its end -------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Tell everybody who has it mapped that it is out of use (owner only)."""
        self._put("state", SEGMENT_RETIRED)

    def unlink(self) -> None:
        """Retire, then take the name away (owner only); who has it mapped keeps the bytes until they let go."""
        if self._get("magic") == MAGIC:
            self.retire()
        remove_name(self.name)

    def close(self) -> None:
        """Let go of this object's hold, and of the owner's lock. Views made before stay valid."""
        self._bytes = None
        if self._memory is not None:
            fcntl.flock(self._memory.fileno(), fcntl.LOCK_UN)  # the mapping has a duplicate of the descriptor
            self._memory.close()
            self._memory = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Segment({self.name!r}, generation={self.generation}, {'rw' if self.writable else 'ro'})"

    def _get(self, field: str) -> int:
        return self._words[_WORD[field]]

    def _put(self, field: str, number: int) -> None:
        self._words[_WORD[field]] = number

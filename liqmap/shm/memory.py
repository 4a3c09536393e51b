"""Memory under /dev/shm as the kernel has it: mapped without Python's resource tracker, listed, measured, unnamed.

`segment.py` gives it a header and a meaning; nothing else uses this directly.
"""

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Final

SHM_DIR: Final = Path("/dev/shm")


class _NoTracker:
    """Stands in for the resource tracker while a segment is mapped."""

    @staticmethod
    def register(name: str, kind: str) -> None:
        """Nothing is registered."""

    @staticmethod
    def unregister(name: str, kind: str) -> None:
        """Nothing was registered."""


class UntrackedMemory(shared_memory.SharedMemory):
    """SharedMemory that the resource tracker never hears of, and that is never unmapped under a view.

    Python 3.13 says this as `track=False`; before that the module's reference to the tracker is replaced for the time
    of the call. The standard `unlink` is also called by a failed mapping of somebody else's segment; here only
    `Segment.unlink` removes names.
    """

    _swap = threading.Lock()
    _fd: int
    _mmap: mmap.mmap | None
    _buf: memoryview | None

    def __init__(self, name: str, size: int = 0) -> None:
        with self._swap:
            tracker = shared_memory.resource_tracker  # type: ignore[attr-defined]
            shared_memory.resource_tracker = _NoTracker  # type: ignore[attr-defined]
            try:
                super().__init__(name, create=size > 0, size=size)
            finally:
                shared_memory.resource_tracker = tracker  # type: ignore[attr-defined]

    def back(self) -> None:
        """Give every page memory now; a full /dev/shm is an OSError here instead of SIGBUS at a later touch."""
        os.posix_fallocate(self._fd, 0, self.size)

    def mapped(self) -> memoryview:
        """The bytes. Each memoryview and array over them keeps the mapping alive."""
        assert self._mmap is not None
        return memoryview(self._mmap)

    def fileno(self) -> int:
        """The descriptor, open until `close`."""
        return self._fd

    def close(self) -> None:
        """Let go; the mapping stays until the last view of it is gone."""
        self._buf = None
        self._mmap = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def unlink(self) -> None:
        """Nothing: names are removed by their owner only."""


def free_bytes() -> int:
    """Bytes that /dev/shm can still back."""
    room = os.statvfs(SHM_DIR)
    return room.f_bavail * room.f_frsize


def segments_in(prefix: str) -> Iterator[str]:
    """Names below /dev/shm that begin with `prefix`."""
    yield from sorted(entry.name for entry in SHM_DIR.iterdir() if entry.name.startswith(prefix))


def segment_bytes(name: str) -> int:
    """Size of what stands under that name, 0: nothing."""
    try:
        return (SHM_DIR / name).stat().st_size
    except FileNotFoundError:
        return 0


def remove_name(name: str) -> None:
    """Take a name away; nothing when it is gone already."""
    with contextlib.suppress(FileNotFoundError):
        (SHM_DIR / name).unlink()

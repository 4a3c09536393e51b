"""Proof that a thing has one writer: a lock on a file, which ends with the process that holds it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from liqmap.shm.faults import WriterLockHeld


class WriterLock:
    """Proof that there is one writer: an exclusive lock on a file, held while the process lives, its pid inside.

    The file stays when the lock goes: removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        """Takes the lock. Raises WriterLockHeld; OSError when the directory cannot be written."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            self._fd = -1
            raise WriterLockHeld(str(path), WriterLock.pid_in(path)) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    @staticmethod
    def pid_in(path: Path) -> int:
        """The pid that the last holder wrote, 0: none."""
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            return 0
        return int(text) if text.isdigit() else 0

    def close(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

"""The thread that looks after the journal's files: syncs what is open, compresses what is closed, deletes what is old.

It is told by messages which files were begun and ended, and tells by messages what stands on disk; it shares nothing
else with anybody, and nobody waits for it. Each file is the old one or the new one at any moment: a compressed file
gets its name when it is whole on disk, and only then the plain one goes.
"""

import gzip
import logging
import os
import queue
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from liqmap.config.records import JournalConfig
from liqmap.logs import fields
from liqmap.store.journal_reader import COMPRESSED, file_hour_ms, journal_files, symbols_in

_LEVEL: Final = 1
_CHUNK: Final = 2**20
_TIDY_S: Final = 5.0
_DAY_MS: Final = 86_400_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """This file is being written from now on."""

    path: Path


@dataclass(frozen=True, slots=True)
class Ended:
    """This file will not be written any more."""

    path: Path


Order = Begun | Ended | None
"""None: sync everything and end."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the keeper knows. `fault`: why the disk does not do as it should, "" when it does. `gone`: files that are
    being written and that somebody removed."""

    size: int = 0
    fault: str = ""
    gone: tuple[Path, ...] = ()


def start_keeper(
    directory: Path, settings: JournalConfig, orders: "queue.SimpleQueue[Order]", reports: "queue.SimpleQueue[Report]"
) -> threading.Thread:
    """Begin to look after the files below `directory`; what a killed predecessor left is taken care of first."""
    left = [path for symbol in symbols_in(directory) for path in sorted((directory / symbol).glob("*.lqj"))]
    keeper = _Keeper(directory, settings, reports, left)
    thread = threading.Thread(target=keeper.run, args=(orders,), name="journal-keeper", daemon=True)
    thread.start()
    return thread


class _Keeper:
    """The thread's own state; nobody else has it."""

    def __init__(
        self, directory: Path, settings: JournalConfig, reports: "queue.SimpleQueue[Report]", left: list[Path]
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._reports = reports
        self._open: dict[Path, int] = {}
        self._closed = left
        self._size = 0
        self._fault = ""
        self._faults: list[str] = []
        self._tidied_s = float("-inf")

    def run(self, orders: "queue.SimpleQueue[Order]") -> None:
        """Until told to end."""
        sync_s = time.monotonic()
        while True:
            try:
                order = orders.get(timeout=max(0.0, sync_s - time.monotonic()))
            except queue.Empty:
                self._turn()
                sync_s = time.monotonic() + self._settings.fsync_s
                continue
            if order is None:
                break
            self._obey(order)
        for path in list(self._open):
            self._end(path)
        self._turn(last=True)

    def _obey(self, order: Begun | Ended) -> None:
        if isinstance(order, Begun):
            self._closed = [path for path in self._closed if path != order.path]
            try:
                self._open[order.path] = os.open(order.path, os.O_RDONLY | os.O_CLOEXEC)
                _sync_directory(order.path.parent)
            except OSError as error:
                self._blame(error, order.path)
        else:
            self._end(order.path)
            if order.path.exists():
                self._closed.append(order.path)

    def _end(self, path: Path) -> None:
        fd = self._open.pop(path, -1)
        if fd >= 0:
            self._sync(path, fd)
            os.close(fd)

    def _turn(self, *, last: bool = False) -> None:
        """Sync; then one closed file, and now and then what is old. The last turn leaves the rest to a successor."""
        for path, fd in self._open.items():
            self._sync(path, fd)
        if self._settings.compress and self._closed and not last:
            path = self._closed.pop(0)
            try:
                compress(path)
            except FileNotFoundError:
                log.warning("a closed hour of the journal is gone: somebody removed it", extra=fields(file=path))
            except OSError as error:
                self._closed.append(path)
                self._blame(error, path)
        if time.monotonic() - self._tidied_s >= _TIDY_S:
            self._tidied_s = time.monotonic()
            try:
                self._size = tidy(self._directory, self._settings, frozenset(self._open))
            except OSError as error:
                self._blame(error, self._directory)
        fault, self._faults = "; ".join(self._faults), []
        if fault != self._fault:
            log.log(
                logging.ERROR if fault else logging.INFO,
                "the journal's disk fails" if fault else "the journal's disk does as it should again",
                extra=fields(reason=fault),
            )
            self._fault = fault
        gone = tuple(path for path in self._open if not path.exists())
        self._reports.put(Report(self._size, fault, gone))

    def _sync(self, path: Path, fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError as error:
            self._blame(error, path)

    def _blame(self, error: OSError, path: Path) -> None:
        self._faults.append(f"{path.name}: {error.strerror}")


def compress(path: Path) -> Path:
    """Replace a closed file by its compressed copy, byte for byte the same content. Raises OSError: then it is kept."""
    target = path.with_name(path.name + COMPRESSED)
    if not target.exists():
        scratch = path.with_name(f".{target.name}.new")
        try:
            with path.open("rb") as plain, scratch.open("wb") as file:
                with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0, filename="") as packed:
                    shutil.copyfileobj(plain, packed, _CHUNK)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(target)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    path.unlink(missing_ok=True)
    return target


def tidy(directory: Path, settings: JournalConfig, in_use: frozenset[Path]) -> int:
    """Delete what is too old or too much, the oldest first, never what is being written; bytes that are left.

    Age counts from the newest hour that was written, not from a clock that may be wrong. Raises OSError.
    """
    files = [path for symbol in symbols_in(directory) for path in journal_files(directory / symbol)]
    files.sort(key=lambda path: (file_hour_ms(path), path.name))
    sizes = {path: path.stat().st_size for path in files}
    total = sum(sizes.values())
    newest_ms = file_hour_ms(files[-1]) if files else 0
    for path in files:
        too_old = newest_ms - file_hour_ms(path) > settings.keep_days * _DAY_MS
        if path in in_use or not (too_old or total > settings.keep_bytes):
            continue
        path.unlink(missing_ok=True)
        total -= sizes[path]
        log.info("an hour of the journal is given up", extra=fields(file=path, bytes=sizes[path]))
    return total


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""Reading journals: every event that is intact, and a word about everything that is not.

A torn tail, or damage in the middle, costs the batches it touches: it is reported with file, offset and loss, and
reading goes on behind it. Whatever is missing between two events comes as a `Hole`, in its place.
"""

import calendar
import gzip
import logging
import os
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.event import EVENT_DTYPE, SEQUENCE_EPOCH_SHIFT
from liqmap.logs import fields
from liqmap.store.journal_format import (
    BATCH_HEADER,
    FILE_HEADER,
    HOLE_RECORD,
    MARK,
    BatchKind,
    Description,
    NoJournal,
    batches_at,
    description_of,
    is_whole,
    read_batch_header,
)

COMPRESSED: Final = ".gz"
_NAME: Final = re.compile(r"(?P<hour>\d{8}T\d{2})-(?P<first>[0-9a-f]{16})\.lqj(?:\.gz)?")
_READING_FAULTS: Final = (EOFError, zlib.error, gzip.BadGzipFile)
_LARGEST_HEADER: Final = 2**20
HOUR_NS: Final = 3_600_000_000_000

log = logging.getLogger(__name__)


class JournalUnreadable(Exception):
    """The file or directory is no journal that this program reads; the text names it and says why."""


class Events(NamedTuple):
    """One batch. `events` (EVENT_DTYPE) is read-only."""

    events: NDArray[np.void]


class Hole(NamedTuple):
    """Events that are not in the journal: between these engine times; `events` -1: nobody knows how many."""

    from_ns: int
    to_ns: int
    events: int


class Loss(NamedTuple):
    """A part of a file that cannot be used: the `size` bytes from `offset` on (of the content, uncompressed)."""

    path: Path
    offset: int
    size: int
    why: str

    def __str__(self) -> str:
        at_least = "at least " if self.path.suffix == COMPRESSED else ""  # nobody can tell what stood behind the damage
        return f"{self.path} at byte {self.offset}: {self.why}, {at_least}{self.size} bytes lost"


@dataclass(frozen=True, slots=True)
class Resume:
    """From where on a journal is read by somebody who knows what was before.

    `after`: the sequence of the last event that is known, at engine time `at_ns`; 0: none is. Events from before
    `since_ns`, and files of another `source`, are not of this market. The journal may be written meanwhile: a torn tail
    is not there yet, and an hour that cannot be read is a loss like any other.
    """

    after: int
    at_ns: int
    since_ns: int
    source: str


@dataclass(frozen=True, slots=True)
class JournalEnd:
    """Where a symbol's journal ended. `asked`: its writer closed it; else it was killed."""

    last_ns: int
    asked: bool
    losses: tuple[Loss, ...]


@dataclass(slots=True)
class JournalFile:
    """One file, to be iterated once. Raises JournalUnreadable, also for the OSErrors of opening it."""

    path: Path
    losses: list[Loss] = field(default_factory=list)
    ended: bool = False
    """True when its writer closed it."""
    description: Description | None = None
    after: int = 0
    """Events up to this sequence are not wanted; batches of them are passed over unread."""
    joins: bool = False
    """Some batch holds the event `after` or begins behind it: nothing is missing in between."""
    growing: bool = False
    """It may be written meanwhile: a torn tail is not there yet."""

    def __iter__(self) -> Iterator[Events | Hole]:
        """Its batches in order."""
        try:
            with _opened(self.path) as stream:
                at = self._read_header(stream)
                yield from self._batches(stream, at)
        except OSError as error:
            raise JournalUnreadable(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _read_header(self, stream: BinaryIO) -> int:
        head, _ = _read(stream, FILE_HEADER.itemsize)
        try:
            at = batches_at(head)
            if not FILE_HEADER.itemsize <= at <= _LARGEST_HEADER:
                raise NoJournal("its header is damaged")
            rest, _ = _read(stream, at - FILE_HEADER.itemsize)
            self.description = description_of(head + rest)
        except NoJournal as error:
            raise JournalUnreadable(f"{self.path}: {error}") from error
        return at

    def _batches(self, stream: BinaryIO, at: int) -> Iterator[Events | Hole]:
        while True:
            head, fault = _read(stream, BATCH_HEADER.itemsize)
            if not head and not fault:
                return
            found = read_batch_header(head)
            payload = b""
            if found is not None and self._is_known(found):
                fault = _pass_over(stream, found["length"])
                if not fault:
                    at += len(head) + found["length"]
                    continue
            if found is not None and not fault:
                payload, fault = _read(stream, found["length"])
            if found is not None and not fault and is_whole(head, found["crc"], payload):
                yield from self._batch(found, payload)
                at += len(head) + len(payload)
                continue
            rest, more = _read(stream, -1)
            yield from self._behind_damage(at, head + payload + rest, fault or more)
            return

    def _is_known(self, found: dict[str, int]) -> bool:
        """Whether nothing of a batch is wanted. (An END holds nothing, and says more than where it stands.)"""
        if found["kind"] == BatchKind.EVENTS:
            last = found["first_sequence"] + found["count"] - 1
            self.joins |= last == self.after
            return last <= self.after
        return found["kind"] == BatchKind.HOLE and found["first_sequence"] <= self.after

    def _batch(self, found: dict[str, int], payload: bytes) -> Iterator[Events | Hole]:
        self.ended = found["kind"] == BatchKind.END
        if found["kind"] == BatchKind.EVENTS:
            first, last = found["first_sequence"], found["first_sequence"] + found["count"] - 1
            self.joins |= first - 1 <= self.after <= last
            events = np.frombuffer(payload, EVENT_DTYPE)
            yield Events(events if first > self.after else events[self.after - first + 1 :])
        elif found["kind"] == BatchKind.HOLE:
            yield Hole(*np.frombuffer(payload, HOLE_RECORD)[0].item())

    def _behind_damage(self, at: int, rest: bytes, fault: str) -> Iterator[Events | Hole]:
        """What is whole in the rest of a file whose batch at offset `at` (the beginning of `rest`) is not."""
        self.ended = False
        begin = 0
        while begin < len(rest) or fault:
            whole = _next_whole(rest, begin)
            end = len(rest) if whole is None else whole
            why = fault if whole is None and fault else "a torn batch" if whole is None else "damaged"
            if (end > begin or (whole is None and fault)) and not (whole is None and self.growing):
                self._lose(at + begin, end - begin, why)
            if whole is None:
                return
            begin = whole
            while (size := _whole_at(rest, begin)) > 0:
                head = rest[begin : begin + BATCH_HEADER.itemsize]
                found = read_batch_header(head)
                assert found is not None
                yield from self._batch(found, rest[begin + len(head) : begin + size])
                begin += size

    def _lose(self, offset: int, size: int, why: str) -> None:
        loss = Loss(self.path, offset, size, why)
        self.losses.append(loss)
        log.warning("a part of the journal is lost", extra=fields(file=self.path, offset=offset, bytes=size, why=why))


class SymbolJournalReader:
    """The journal of one symbol, its files in order. `losses` grows while it is iterated."""

    def __init__(self, directory: Path, resume: Resume | None = None) -> None:
        self.directory = directory
        self.losses: list[Loss] = []
        self.descriptions: list[Description] = []
        self.joins = False
        """It holds the event behind which it was resumed, or the one behind that: nothing is missing in between."""
        self._resume = resume
        self._last_ns = -1
        self._last_sequence = -1

    def __iter__(self) -> Iterator[Events | Hole]:
        """Batches and holes in order. Raises JournalUnreadable, unless it was resumed."""
        self._last_ns = self._last_sequence = -1
        if self._resume is not None and self._resume.after > 0:
            self._last_ns, self._last_sequence = self._resume.at_ns, self._resume.after
        for path in (
            journal_files(self.directory) if self._resume is None else _files_from(self.directory, self._resume)
        ):
            file = JournalFile(path)
            try:
                yield from self._of_file(file)
            except JournalUnreadable as error:
                if self._resume is None:
                    raise
                size = path.stat().st_size if path.exists() else 0
                log.error("an hour of the journal is lost", extra=fields(file=path, reason=str(error)))  # noqa: TRY400
                self.losses.append(Loss(path, 0, size, str(error)))
            self.losses += file.losses
            if file.description is not None:
                self.descriptions.append(file.description)

    def _of_file(self, file: JournalFile) -> Iterator[Events | Hole]:
        if self._resume is not None:
            file.after, file.growing = self._resume.after, file.path.suffix != COMPRESSED
        for item in file:
            self.joins |= file.joins
            if isinstance(item, Hole):
                self._last_sequence = -1
                yield item
                continue
            events = self._wanted(file, item.events)
            if len(events) == 0:
                continue
            hole = self._before(events)
            if hole is not None:
                yield hole
            self._last_ns = int(events["receive_ns"][-1])
            self._last_sequence = int(events["sequence"][-1])
            yield Events(events)
        self.joins |= file.joins

    def _wanted(self, file: JournalFile, events: NDArray[np.void]) -> NDArray[np.void]:
        if self._resume is None:
            return events
        told = file.description.source if file.description is not None else ""
        if told != self._resume.source:
            raise JournalUnreadable(f"{file.path}: it is of a {told or 'nameless'} market")
        if len(events) and int(events["receive_ns"][0]) < self._resume.since_ns:
            return events[events["receive_ns"] >= self._resume.since_ns]
        return events

    def _before(self, events: NDArray[np.void]) -> Hole | None:
        """What is missing before these, when numbers of one epoch do not follow each other. Where another epoch begins
        its ingest tells what is missing, unless what was known before is not in the journal at all."""
        first = int(events["sequence"][0])
        missing = first - self._last_sequence - 1
        same_epoch = first >> SEQUENCE_EPOCH_SHIFT == self._last_sequence >> SEQUENCE_EPOCH_SHIFT
        if self._last_sequence < 0 or missing == 0:
            return None
        if same_epoch:
            return Hole(self._last_ns, int(events["receive_ns"][0]), missing)
        unseen = self._resume is not None and self._last_sequence == self._resume.after and not self.joins
        return Hole(self._last_ns, int(events["receive_ns"][0]), -1) if unseen else None


def _files_from(directory: Path, resume: Resume) -> Iterator[Path]:
    """The files in which something of interest may be; one that was compressed meanwhile by its new name."""
    if not directory.is_dir():
        return
    files = journal_files(directory)
    firsts = [int(path.name.partition("-")[2][:16], 16) for path in files]
    begin = max((place for place, first in enumerate(firsts) if first <= resume.after), default=0)
    for path in files[begin:]:
        if file_hour_ms(path) * 1_000_000 + HOUR_NS <= resume.since_ns:
            continue
        yield path if path.exists() else path.with_name(path.name + COMPRESSED)


def symbols_in(directory: Path) -> list[str]:
    """The symbols that have a journal below `directory`."""
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and journal_files(path))


def journal_files(directory: Path) -> list[Path]:
    """The files of one symbol in the order of their sequence. Where both stand, the compressed one is whole and counts;
    scratch files never do."""
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            found[path.name.removesuffix(COMPRESSED)] = path
    return sorted(found.values(), key=lambda path: path.name.partition("-")[2])


def newest_epoch(directory: Path) -> int:
    """The newest ingest epoch whose events are in the journals below `directory`, 0 when there are none."""
    files = [path for symbol in symbols_in(directory) for path in journal_files(directory / symbol)]
    firsts = [int(path.name.partition("-")[2][:16], 16) for path in files]
    return max(firsts, default=0) >> SEQUENCE_EPOCH_SHIFT


def file_hour_ms(path: Path) -> int:
    """The hour of engine time in a file's name."""
    return calendar.timegm(time.strptime(path.name.partition("-")[0], "%Y%m%dT%H")) * 1000


def journal_end(directory: Path) -> JournalEnd | None:
    """Where the journal of one symbol ended; None when it holds no event. What cannot be read is reported, not raised:
    somebody who begins to write must not be stopped by it."""
    losses: list[Loss] = []
    asked = True
    for path in reversed(journal_files(directory)):
        file = JournalFile(path)
        last: NDArray[np.void] | None = None
        try:
            for item in file:
                if isinstance(item, Events):
                    last = item.events
        except JournalUnreadable as error:
            log.warning("a journal cannot be read", extra=fields(reason=str(error)))
            losses.append(Loss(path, 0, path.stat().st_size, str(error)))
            continue
        losses += file.losses
        asked = asked and file.ended
        if last is not None:
            return JournalEnd(int(last["receive_ns"][-1]), asked, tuple(losses))
    return None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb", buffering=2**20) as file:
        if path.suffix == COMPRESSED:
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream  # type: ignore[misc]
        else:
            yield file


def _read(stream: BinaryIO, size: int) -> tuple[bytes, str]:
    """Up to `size` bytes (-1: all) and, when there were fewer because the compression is damaged, in words why."""
    try:
        if size >= 0:
            return stream.read(size), ""
        pieces: list[bytes] = []
        while piece := stream.read(2**20):
            pieces.append(piece)
    except _READING_FAULTS as error:
        if size >= 0:
            return b"", f"the compressed data is damaged ({error}), all behind it is lost"
        return b"".join(pieces), f"the compressed data is damaged ({error}), all behind it is lost"
    return b"".join(pieces), ""


def _pass_over(stream: BinaryIO, size: int) -> str:
    """Leave out `size` bytes; when the compression is damaged, in words why they are not there."""
    try:
        stream.seek(size, os.SEEK_CUR)
    except _READING_FAULTS as error:
        return f"the compressed data is damaged ({error}), all behind it is lost"
    return ""


def _next_whole(rest: bytes, begin: int) -> int | None:
    """Where the next whole batch begins, None when there is none."""
    while (begin := rest.find(MARK, begin)) >= 0:
        if _whole_at(rest, begin) > 0:
            return begin
        begin += 1
    return None


def _whole_at(rest: bytes, begin: int) -> int:
    """Size of the whole batch there, 0 when there is none."""
    head = rest[begin : begin + BATCH_HEADER.itemsize]
    found = read_batch_header(head)
    if found is None:
        return 0
    payload = rest[begin + len(head) : begin + len(head) + found["length"]]
    fits = len(payload) == found["length"] and is_whole(head, found["crc"], payload)
    return len(head) + found["length"] if fits else 0

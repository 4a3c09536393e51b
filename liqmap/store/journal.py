"""The journal: every event of a symbol on disk, before the ring sees it. One directory per symbol, one file per hour.

    journal/BTC/20261123T18-0000010000000001.lqj        hour of engine time, first sequence; closed ones with .gz

Part of the thread that writes the rings. A batch is one system call that hands it to the kernel; a killed process
loses nothing of it, a power failure what the `journal_keeper` thread has not yet synced. A disk that does not take a
batch costs that batch and stops nobody: it is counted, said once, tried again each second, and once the disk has room
the hole is written down in front of what follows.
"""

import contextlib
import errno
import logging
import os
import queue
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from liqmap import __version__
from liqmap.config.records import JournalConfig
from liqmap.domain.enums import Source
from liqmap.domain.event import EVENT_BYTES
from liqmap.domain.instrument import Instrument
from liqmap.logs import fields
from liqmap.store.journal_format import BatchKind, Contract, Description, batch_header, header_bytes, hole_bytes
from liqmap.store.journal_keeper import Begun, Ended, Order, Report, start_keeper
from liqmap.store.journal_reader import HOUR_NS, JournalEnd, journal_end, symbols_in

SUFFIX: Final = ".lqj"

_LAST_SYNC_S: Final = 5.0
_RETRY_NS: Final = 1_000_000_000

log = logging.getLogger(__name__)


class Standing(NamedTuple):
    """How writing goes, for the feeds board: `state` 0 off, 1 written, 2 the disk does not take it."""

    state: int = 0
    size: int = 0
    """Bytes on disk."""
    lost: int = 0
    """Events (of a capture: frames) that could not be written."""


class _Hole(NamedTuple):
    first_sequence: int
    from_ns: int
    to_ns: int
    events: int


class SymbolJournal:
    """The journal of one symbol. Owned by the thread that owns the lane."""

    def __init__(self, directory: Path, describe: Description, orders: "queue.SimpleQueue[Order]") -> None:
        self._directory = directory
        self._describe = describe
        self._orders = orders
        self._fd = -1
        self._path = directory
        self._hour = -1
        self._size = 0
        self._hole: _Hole | None = None
        self._retry_ns = 0
        self.fault = ""
        """Why the disk did not take the last batch that it did not take."""
        self.unwritten = 0
        self.last_ns = -1
        """Engine time of the last event that was written."""

    @property
    def failing(self) -> bool:
        """The disk did not take the last batch."""
        return self._hole is not None

    def use(self, contracts: tuple[Contract, ...]) -> None:
        """From the next batch on, instrument numbers mean this; a change begins a new file."""
        if contracts != self._describe.contracts:
            self.close()
            self._describe = Description(
                self._describe.instance, self._describe.symbol, self._describe.source, contracts, __version__
            )

    def append(self, first_sequence: int, events: bytes) -> None:
        """Keep a batch (EVENT_DTYPE records). Never raises for what a disk does."""
        first_ns = _receive_ns(events, 0)
        if self._hole is not None and first_ns < self._retry_ns:
            self._lose(first_sequence, events)
            return
        try:
            if self._fd < 0 or first_ns // HOUR_NS != self._hour:
                self._begin(first_ns // HOUR_NS, first_sequence if self._hole is None else self._hole.first_sequence)
            self._put(BatchKind.EVENTS, first_sequence, events)
            self.last_ns = _receive_ns(events, len(events) - EVENT_BYTES)
        except OSError as error:
            self._fail(first_sequence, events, error)

    def leave(self, gone: tuple[Path, ...]) -> None:
        """Somebody removed these files: nobody would read what is written to one. The next batch begins another."""
        if self._fd >= 0 and self._path in gone:
            log.error("a file of the journal was removed while it was written", extra=fields(file=self._path))
            self._let_go()

    def close(self) -> None:
        """End the file properly; the next batch begins another one."""
        if self._fd < 0:
            return
        try:
            self._put(BatchKind.END, 0, b"")
        except OSError as error:
            log.error(  # noqa: TRY400
                "the journal could not be closed properly", extra=fields(file=self._path, reason=error.strerror)
            )
        self._let_go()

    def _begin(self, hour: int, first_sequence: int) -> None:
        self.close()
        self._directory.mkdir(parents=True, exist_ok=True)
        hour_ms = hour * (HOUR_NS // 1_000_000)
        path = self._directory / f"{_hour_name(hour_ms)}-{first_sequence:016x}{SUFFIX}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._path, self._hour, self._size = path, hour, 0
        self._orders.put(Begun(path))
        self._hand_over([header_bytes(self._describe, hour_ms, first_sequence)])

    def _put(self, kind: BatchKind, first_sequence: int, payload: bytes) -> None:
        """One batch, with the hole in front of it if there is one. Raises OSError."""
        count = len(payload) // EVENT_BYTES
        parts = [batch_header(kind, count, first_sequence, payload), payload]
        hole = self._hole
        if hole is not None:
            told = hole_bytes(hole.from_ns, hole.to_ns, hole.events)
            parts = [batch_header(BatchKind.HOLE, 0, hole.first_sequence, told), told, *parts]
        self._hand_over(parts)
        if hole is not None:
            self._hole = None
            log.warning(
                "the journal is written again",
                extra=fields(symbol=self._describe.symbol, events_missing=hole.events, file=self._path),
            )

    def _hand_over(self, parts: list[bytes]) -> None:
        """All of it to the kernel, or nothing: what was taken of a part is cut off again. Raises OSError."""
        whole = sum(map(len, parts))
        if os.writev(self._fd, parts) != whole:
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += whole

    def _fail(self, first_sequence: int, events: bytes, error: OSError) -> None:
        if self._hole is None:
            log.error(
                "the journal cannot be written: events are not kept, everything else goes on",
                extra=fields(symbol=self._describe.symbol, reason=error.strerror, file=self._path),
            )
        self.fault = error.strerror or str(error)
        if self._fd >= 0 and self._size == 0:  # not even its header stands
            with contextlib.suppress(OSError):  # the disk that fails was told already
                self._path.unlink(missing_ok=True)
            self._let_go()
        elif error.errno != errno.ENOSPC:
            self._let_go()
        self._lose(first_sequence, events)
        self._retry_ns = _receive_ns(events, 0) + _RETRY_NS

    def _lose(self, first_sequence: int, events: bytes) -> None:
        count = len(events) // EVENT_BYTES
        self.unwritten += count
        first_ns, last_ns = _receive_ns(events, 0), _receive_ns(events, len(events) - EVENT_BYTES)
        known = self._hole or _Hole(first_sequence, first_ns, last_ns, 0)
        self._hole = known._replace(to_ns=last_ns, events=known.events + count)

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._orders.put(Ended(self._path))


class Journals:
    """The journals of all symbols of one process, and the thread that looks after their files."""

    def __init__(self, directory: Path, settings: JournalConfig, instance: str, source: Source) -> None:
        self._directory = directory
        self._instance = instance
        self._source = source.name.lower()
        self._journals: dict[str, SymbolJournal] = {}
        self._contracts: dict[str, tuple[Contract, ...]] = {}
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._report = Report()
        self.ends: dict[str, JournalEnd] = {}
        """Where the journals of the symbols ended that were here before."""
        for symbol in symbols_in(directory):
            end = journal_end(directory / symbol)
            if end is not None:
                self.ends[symbol] = end
        self._keeper = start_keeper(directory, settings, self._orders, self._reports)

    def of(self, symbol: str) -> SymbolJournal:
        """The journal of a symbol, begun with its first event."""
        if symbol not in self._journals:
            describe = Description(self._instance, symbol, self._source, self._contracts.get(symbol, ()), __version__)
            self._journals[symbol] = SymbolJournal(self._directory / symbol, describe, self._orders)
        return self._journals[symbol]

    def use(self, instruments: Iterable[Instrument]) -> None:
        """From now on the numbers of instruments mean this."""
        table: dict[str, list[Contract]] = {}
        for one in instruments:
            contract = Contract(one.number, one.venue.name.lower(), one.name, one.contract_base)
            table.setdefault(one.symbol or "", []).append(contract)
        self._contracts = {symbol: tuple(contracts) for symbol, contracts in table.items()}
        for symbol, journal in self._journals.items():
            journal.use(self._contracts.get(symbol, ()))

    def standing(self) -> Standing:
        """How it goes."""
        while not self._reports.empty():
            self._report = self._reports.get()
            for journal in self._journals.values():
                journal.leave(self._report.gone)
        failing = bool(self._report.fault) or any(journal.failing for journal in self._journals.values())
        lost = sum(journal.unwritten for journal in self._journals.values())
        return Standing(2 if failing else 1, self._report.size, lost)

    @property
    def fault(self) -> str:
        """Why the disk does not take it, "" when it does."""
        faults = [journal.fault for journal in self._journals.values() if journal.failing]
        return "; ".join(dict.fromkeys(filter(None, [*faults, self._report.fault])))

    def close(self) -> None:
        """End every file properly and wait (not for ever) until the disk has it."""
        for journal in self._journals.values():
            journal.close()
        self._orders.put(None)
        self._keeper.join(_LAST_SYNC_S)


def _receive_ns(events: bytes, offset: int) -> int:
    """The `receive_ns` of the event that begins at `offset`."""
    return int.from_bytes(events[offset + 8 : offset + 16], "little", signed=True)


def _hour_name(hour_ms: int) -> str:

    return time.strftime("%Y%m%dT%H", time.gmtime(hour_ms // 1000))

"""Writing captures: lines in the order in which they are given, gzipped in members of about a second, by a thread.

    capture-20261123T184501Z-0001.jsonl.gz

Whoever gives never waits: what may wait is bounded in bytes, and beyond it frames are left out, counted, and the hole
is written down as a `gap` line. Each file can be read alone: it begins with a header, the configuration, and a
`connect` line (`again`) of every connection that is open. The format is the one that `capture` reads; docs/journal.md
lists the lines. A killed process loses the member that was being filled.
"""

import base64
import contextlib
import errno
import logging
import os
import queue
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from liqmap.config.records import CaptureConfig
from liqmap.logs import fields
from liqmap.store.journal import Standing

FORMAT: Final = "liqmap capture 1"
_MEMBER_S: Final = 1.0
_MEMBER_BYTES: Final = 8 * 2**20
_LEVEL: Final = 1
_GZIP: Final = 31
_LAST_WRITE_S: Final = 10.0
_LINE_BYTES: Final = 128
"""What a line costs beside its data, for the bound."""

log = logging.getLogger(__name__)


class FrameLine(NamedTuple):
    """Messages of one connection that were received together."""

    connection: str
    engine_ns: int
    messages: list[bytes]
    dropped: int


class _Written(NamedTuple):
    """What the thread tells: bytes that wait no more, and how it goes."""

    taken: int
    size: int
    lost_frames: int
    fault: str


_Item = FrameLine | dict[str, Any]


class CaptureWriter:
    """The giver's side. Owned by the router's thread."""

    def __init__(self, directory: Path, settings: CaptureConfig, about: dict[str, Any]) -> None:
        """`about`: what the header of each file says."""
        self._limit = settings.queue_bytes
        self._items: queue.SimpleQueue[tuple[int, _Item] | None] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[_Written] = queue.SimpleQueue()
        self._waiting = 0
        self._size = 0
        self._fault = ""
        self._gap: dict[str, Any] | None = None
        self.frames = 0
        self.dropped = 0
        writer = _Writer(directory, settings, about, self._told)
        self._thread = threading.Thread(target=writer.run, args=(self._items,), name="capture-writer", daemon=True)
        self._thread.start()

    def line(self, **line: Any) -> None:
        """A line about the recording; the few bytes always pass. A reply may be large and is left out like frames."""
        size = _LINE_BYTES + len(line.get("data", ""))
        if line["t"] != "http" or self._has_room(size, line["ns"], 1):
            self._put(size, line)

    def turn(self, wall_ns: int, monotonic_ns: int) -> None:
        """The clocks of a turn; left out while frames are."""
        if self._gap is None:
            self._put(_LINE_BYTES, {"t": "turn", "ns": wall_ns, "mono": monotonic_ns})

    def frames_of(self, line: FrameLine) -> None:
        """Frames; left out when too much waits already."""
        size = sum(map(len, line.messages)) + _LINE_BYTES * len(line.messages)
        if self._has_room(size, line.engine_ns, len(line.messages)):
            self.frames += len(line.messages)
            self._put(size, line)

    def standing(self) -> Standing:
        """How it goes."""
        self._listen()
        return Standing(2 if self._fault or self._gap is not None else 1, self._size, self.dropped)

    @property
    def fault(self) -> str:
        """Why the disk does not take it, "" when it does."""
        return self._fault

    def close(self) -> None:
        """Write what waits and end."""
        if self._gap is not None:
            self._put(_LINE_BYTES, self._gap)
        self._items.put(None)
        self._thread.join(_LAST_WRITE_S)
        self._listen()

    def _put(self, size: int, item: _Item) -> None:
        self._waiting += size
        self._items.put((size, item))

    def _has_room(self, size: int, at_ns: int, frames: int) -> bool:
        """Whether this may wait, too; else it is counted, and before the next that may, the hole is written down."""
        self._listen()
        if self._waiting and self._waiting + size > self._limit:
            if self._gap is None:
                log.error(
                    "the disk is too slow for the capture: frames are left out", extra=fields(bytes=self._waiting)
                )
                self._gap = {"t": "gap", "ns": at_ns, "to_ns": at_ns, "frames": 0}
            self._gap["to_ns"] = at_ns
            self._gap["frames"] += frames
            self.dropped += frames
            return False
        if self._gap is not None:
            log.info("the capture is complete again", extra=fields(frames_missing=self._gap["frames"]))
            self._put(_LINE_BYTES, self._gap)
            self._gap = None
        return True

    def _listen(self) -> None:
        while not self._told.empty():
            told = self._told.get()
            self._waiting -= told.taken
            self.dropped += told.lost_frames
            self._size, self._fault = told.size, told.fault


@dataclass(slots=True)
class _Context:
    """What a new file has to begin with."""

    header: dict[str, Any]
    config: dict[str, Any] | None = None
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, line: dict[str, Any]) -> None:
        """A line that later files depend on."""
        if line["t"] == "connect":
            self.connections[line["conn"]] = {**line, "again": True}
        elif line["t"] == "close":
            self.connections.pop(line["conn"], None)
        elif line["t"] == "config":
            self.config = {**line, "again": True}

    def lines(self) -> list[bytes]:
        """The beginning of a file."""
        about = [self.header, *([self.config] if self.config else []), *self.connections.values()]
        return [_encoded(line) for line in about]


class _Writer:
    """The thread's own state; nobody else has it."""

    def __init__(
        self, directory: Path, settings: CaptureConfig, about: dict[str, Any], told: "queue.SimpleQueue[_Written]"
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._told = told
        self._context = _Context({"t": "header", "format": FORMAT, **about})
        self._fd = -1
        self._path = directory
        self._file_bytes = 0
        self._number = 0
        self._others_bytes = 0
        self._lines: list[bytes] = []
        self._line_bytes = 0
        self._frames = 0
        self._span_ns = (-1, -1)
        self._lost: dict[str, Any] | None = None
        self._before: list[bytes] = self._context.lines()
        self._fault = ""

    def run(self, items: "queue.SimpleQueue[tuple[int, _Item] | None]") -> None:
        """Until told to end."""
        due_s = time.monotonic() + _MEMBER_S
        taken = 0
        while True:
            try:
                given = items.get(timeout=max(0.0, due_s - time.monotonic()))
            except queue.Empty:
                given = (0, {})
            if given is not None and given[1]:
                taken += given[0]
                self._take(given[1])
            if given is None or time.monotonic() >= due_s or self._line_bytes >= _MEMBER_BYTES:
                self._write_member(taken)
                due_s, taken = time.monotonic() + _MEMBER_S, 0
            if given is None:
                break
        self._close_file()

    def _take(self, item: _Item) -> None:
        if isinstance(item, dict):
            self._context.note(item)
            self._keep(_encoded(item))
            return
        self._frames += len(item.messages)
        self._span_ns = (item.engine_ns if self._span_ns[0] < 0 else self._span_ns[0], item.engine_ns)
        for index, raw in enumerate(item.messages):
            line: dict[str, Any] = {"t": "recv", "conn": item.connection, "ns": item.engine_ns}
            if index == 0 and len(item.messages) > 1:
                line["n"] = len(item.messages)
            if index == 0 and item.dropped:
                line["dropped"] = item.dropped
            self._keep(_encoded({**line, **payload(raw)}))

    def _keep(self, line: bytes) -> None:
        self._lines.append(line)
        self._line_bytes += len(line)

    def _write_member(self, taken: int) -> None:
        """Hand what was gathered to the kernel as one gzip member, and say how that went."""
        lost_frames = 0
        if self._lines:
            try:
                self._put_member()
            except OSError as error:
                lost_frames = self._lose(error)
            else:
                if self._fault:
                    log.info("the capture is written again", extra=fields(file=self._path))
                self._fault = ""
                self._lost = None
            self._lines, self._line_bytes, self._frames, self._span_ns = [], 0, 0, (-1, -1)
            self._before = self._context.lines()
        self._told.put(_Written(taken, self._others_bytes + self._file_bytes, lost_frames, self._fault))

    def _put_member(self) -> None:
        lines = self._lines
        if self._fd < 0:
            lines = [*self._begin_file(), *([_encoded(self._lost)] if self._lost else []), *lines]
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        member = packer.compress(b"".join(lines)) + packer.flush()
        if os.write(self._fd, member) != len(member):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file_bytes += len(member)
        os.fdatasync(self._fd)
        if self._file_bytes >= self._settings.file_bytes:
            self._close_file()

    def _begin_file(self) -> list[bytes]:
        """Its first lines: what was known before the lines that wait."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._number += 1
        name = f"capture-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{self._number:04d}.jsonl.gz"
        self._path = self._directory / name
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._others_bytes = _made_room(self._directory, self._path, self._settings)
        self._file_bytes = 0
        return self._before

    def _lose(self, error: OSError) -> int:
        """The member is lost; what follows goes into a new file, which can be read alone."""
        if not self._fault:
            log.error(
                "the capture cannot be written: frames are left out, everything else goes on",
                extra=fields(file=self._path, reason=error.strerror),
            )
        self._fault = error.strerror or str(error)
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # told already; a torn member is read up to its tear
                os.ftruncate(self._fd, self._file_bytes)
                if self._file_bytes == 0:
                    self._path.unlink(missing_ok=True)
            self._close_file()
        first, last = self._span_ns
        known = self._lost or {"t": "gap", "ns": first, "to_ns": last, "frames": 0}
        self._lost = {**known, "to_ns": max(last, known["to_ns"]), "frames": known["frames"] + self._frames}
        return self._frames

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._others_bytes += self._file_bytes
            self._file_bytes = 0


def payload(raw: bytes) -> dict[str, str]:
    """The bytes of a frame as a field of a line: text as `data`, anything else in base64 as `data64`."""
    try:
        return {"data": raw.decode()}
    except UnicodeDecodeError:
        return {"data64": base64.b64encode(raw).decode()}


def _encoded(line: dict[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _made_room(directory: Path, newest: Path, settings: CaptureConfig) -> int:
    """Delete the oldest captures beyond the bound; bytes of the others that are left."""
    others = sorted(path for path in directory.glob("capture-*.jsonl.gz") if path != newest)
    sizes = {path: path.stat().st_size for path in others}
    total = sum(sizes.values())
    for path in others:
        if total + settings.file_bytes <= settings.keep_bytes:
            break
        path.unlink(missing_ok=True)
        total -= sizes[path]
        log.info("a capture is given up", extra=fields(file=path, bytes=sizes[path]))
    return total

"""A recording of our own as what the router acted on, turn by turn; see `capturing` for the lines.

Nothing is lost silently: a line that cannot be used is reported with file and line number, and the rest is used.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from liqmap.config import Config
from liqmap.domain.enums import GapReason
from liqmap.exchanges.adapter import PollPlan
from liqmap.ingest.frames import BadFrame
from liqmap.ingest.handoff import BadFrames, Changed, Ended, Frames, LinkState, Message, Opened, Polled, PollFailed
from liqmap.logs import fields
from liqmap.store.capture_writer import FORMAT
from liqmap.store.lines import read_lines

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_LOSSES_TOLD: Final = 100

log = logging.getLogger(__name__)


class NoRecording(Exception):
    """The file is no recording of liqmap, or of another format; the text names it and says why."""


class Configured(NamedTuple):
    """From here on this configuration holds. Times of the clocks then."""

    config: Config
    engine_ns: int
    monotonic_ns: int
    seed: int = 0


class Turn(NamedTuple):
    """What came before is handled now; the clocks say this."""

    wall_ns: int
    monotonic_ns: int


class Stopped(NamedTuple):
    """The recording was ended."""

    engine_ns: int


class LeftOut(NamedTuple):
    """Frames that the disk did not take."""

    from_ns: int
    to_ns: int
    frames: int


Step = Configured | Turn | Stopped | LeftOut | Message


class _Line(Struct):
    t: str
    conn: str = ""
    ns: int = -1
    mono: int = 0
    n: int = 1
    dropped: int = 0
    data: str = ""
    data64: bytes = b""
    format: str = ""
    config: Any = None
    seed: int = 0
    again: bool = False
    state: str = ""
    reason: str = ""
    why: str = ""
    size: int = 0
    gap: int = 0
    last: bool = True
    delay_s: float = 0.0
    asked: int = -1
    plan: Any = None
    to_ns: int = -1
    frames: int = 0

    @property
    def source(self) -> str:
        return self.conn.rpartition("#")[0] or self.conn

    @property
    def connection(self) -> int:
        return int(self.conn.rpartition("#")[2])

    @property
    def raw(self) -> bytes:
        return self.data.encode() or self.data64


_decode: Final[Callable[[bytes], _Line]] = msgspec.json.Decoder(_Line).decode


def is_recording(path: Path) -> bool:
    """Whether the file begins like a recording of ours. Raises OSError."""
    for line in read_lines(path, MAX_LINE_BYTES):
        return line.text.startswith(b'{"t":"header"') and FORMAT.encode() in line.text
    return False


@dataclass(slots=True)
class RecordedTurns:
    """The files of one recording, in order. `losses` counts what could not be used."""

    paths: Iterable[Path]
    losses: int = 0
    _configured: bool = False
    _open: set[str] = field(default_factory=set)
    _together: list[bytes] = field(default_factory=list)
    _first: _Line | None = None

    def __iter__(self) -> Iterator[Step]:
        """What happened, in order. Raises NoRecording, also for a file that cannot be read."""
        for path in self.paths:
            try:
                yield from self._file(path)
            except OSError as error:
                raise NoRecording(f"{path}: cannot be read: {error.strerror}") from error

    def _file(self, path: Path) -> Iterator[Step]:
        for line in read_lines(path, MAX_LINE_BYTES):
            if line.damage:
                self._lose(path, line.number, line.damage)
                continue
            try:
                read = _decode(line.text)
                if self._first is not None and not self._belongs(read):
                    yield self._gathered(self._first)  # the rest of what came together is lost
                step = self._step(read, path)
            except (msgspec.DecodeError, ValueError) as error:
                self._lose(path, line.number, f"is no line of a recording: {error}")
                continue
            if step is not None:
                yield step

    def _lose(self, path: Path, number: int, why: str) -> None:
        self.losses += 1
        if self.losses <= _LOSSES_TOLD:
            log.warning("a part of the recording is lost", extra=fields(file=path, line=number, why=why))

    def _step(self, line: _Line, path: Path) -> Step | None:
        if line.t == "header":
            if line.format != FORMAT:
                raise NoRecording(f"{path}: it is a recording of format {line.format!r}, this program reads {FORMAT!r}")
            return None
        if line.t == "recv":
            return self._received(line)
        if line.t == "config":
            return self._config(line, path)
        if line.t == "connect":
            known = line.conn in self._open
            self._open.add(line.conn)
            return None if line.again and known else Opened(line.source, line.connection, line.ns)
        if line.t == "close":
            self._open.discard(line.conn)
        make = _STEPS.get(line.t)
        return make(line) if make is not None else None

    def _received(self, line: _Line) -> Step | None:
        """Frames that came together are handled together; the first of them says how many there are."""
        first = self._first = self._first or line
        self._together.append(line.raw)
        return self._gathered(first) if len(self._together) >= first.n else None

    def _belongs(self, line: _Line) -> bool:
        first = self._first
        return first is not None and (line.t, line.conn, line.ns) == ("recv", first.conn, first.ns)

    def _gathered(self, first: _Line) -> Frames:
        messages, self._together, self._first = self._together, [], None
        return Frames(first.source, first.connection, first.ns, messages, first.dropped)

    def _config(self, line: _Line, path: Path) -> Step | None:
        if line.again and self._configured:
            return None
        self._configured = True
        try:
            return Configured(msgspec.convert(line.config, Config), line.ns, line.mono, line.seed)
        except msgspec.ValidationError as error:
            raise NoRecording(
                f"{path}: the configuration it was made with is not one of this program: {error}"
            ) from error


def _bad(line: _Line) -> Message:
    return BadFrames(line.source, line.connection, line.ns, [BadFrame(line.why, line.raw, line.size)])


def _plan(line: _Line) -> PollPlan | None:
    return None if line.plan is None else msgspec.convert(line.plan, PollPlan)


def _ended(line: _Line) -> Message:
    return Ended(line.source, line.connection, line.ns, line.reason, GapReason(line.gap), line.last)


_STEPS: Final[dict[str, Callable[[_Line], Step]]] = {
    "turn": lambda line: Turn(line.ns, line.mono),
    "end": lambda line: Stopped(line.ns),
    "gap": lambda line: LeftOut(line.ns, line.to_ns, line.frames),
    "close": _ended,
    "state": lambda line: Changed(line.conn, LinkState(line.state), line.ns, line.reason, line.delay_s),
    "bad": _bad,
    "http": lambda line: Polled(line.conn, line.ns, line.raw, line.asked, _plan(line)),
    "failed": lambda line: PollFailed(line.conn, line.ns, line.reason, GapReason(line.gap), line.delay_s, _plan(line)),
}

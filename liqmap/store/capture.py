"""Captures: raw frames as venues sent them, recorded with the time of receipt, read as a stream of records.

Two formats, told apart by their first line, plain or gzipped:
* lines `<receive ns> <frame>`, where a frame is what a websocket delivered (a REST order book may stand in between);
* lines `{"t": "header|http|connect|send|recv", "conn", "ts" (s), "url"|"addr", "data": "<raw>"}`. What a recording of
  our own adds is the same with `"ns"` (receive time, exact) instead of `"ts"`.

Nothing is guessed and nothing is lost silently: a line that cannot be read costs that line and is reported with file
and line number; a torn or damaged file is used up to the damage.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from liqmap.domain.enums import Venue
from liqmap.exchanges.registry import ADAPTERS
from liqmap.logs import fields
from liqmap.store.capture_topics import is_served, route_of_address, venue_of_text
from liqmap.store.lines import Line, read_lines

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 16 * 1024 * 1024
_LOSSES_KEPT = 100
_IGNORED_TYPES = (
    *("send", "header", "close", "disconnect", "gap"),
    *("config", "turn", "state", "bad", "failed", "end"),  # of our own recordings: how the router came to act
)


class CaptureUnreadable(Exception):
    """The file is no capture at all, or holds no record; the text says why."""


class RecordKind(Enum):
    """What a record holds."""

    FRAME = "frame"
    """Market data of a topic."""
    CONTROL = "control"
    """An acknowledgement, a pong, a notice: about the connection, not the market."""
    HTTP = "http"
    """The body of a REST answer."""


class Record(NamedTuple):
    """One thing that was received.

    `topic` as the venue server names it (stream, topic, `channel/instrument`), "" for control frames. `instrument` is
    the venue's contract name, "" where the topic covers many. `raw` is what came, byte for byte; `data` is
    that without Binance's combined-stream envelope. `route` is the socket it came by (`linear`, `spot`, `market` …, ""
    when the file does not say); only those that `is_served` names are the market this daemon listens to.
    """

    receive_ns: int
    venue: Venue
    kind: RecordKind
    route: str
    topic: str
    instrument: str
    raw: bytes
    data: bytes
    url: str = ""


class Loss(NamedTuple):
    """Something of the file that could not be used."""

    line: int
    why: str


@dataclass(slots=True)
class Description:
    """What a capture holds. Times are of market frames (of REST answers where there are no frames)."""

    path: Path
    first_ns: int
    last_ns: int
    topics: dict[Venue, dict[str, int]]
    """Frames by venue and topic, of the routes that this daemon listens to."""
    elsewhere: dict[str, int]
    """Frames of other routes (spot, inverse), by `venue route`: never played."""
    instruments: dict[Venue, tuple[str, ...]]
    requests: dict[Venue, dict[str, int]]
    """REST answers by venue and path."""
    records: int
    control_frames: int
    losses: int
    loss_details: tuple[Loss, ...] = field(default=())

    @property
    def venues(self) -> tuple[Venue, ...]:
        """Venues that have market frames."""
        return tuple(venue for venue, topics in self.topics.items() if topics)


class _Entry(msgspec.Struct):
    """A line of the second format."""

    t: str
    data: str = ""
    data64: bytes = b""
    """Of a frame that is no text. msgspec decodes base64."""
    conn: str = ""
    ts: float | None = None
    ns: int | None = None
    url: str = ""
    addr: str = ""
    exchange: str = ""


class Capture:
    """A capture file, to be iterated (each iteration reads it anew). `losses` counts what the latest one lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses = 0
        self.loss_details: list[Loss] = []

    def __iter__(self) -> Iterator[Record]:
        """The records in the order of the file. Raises CaptureUnreadable."""
        self.losses, self.loss_details = 0, []
        reader: _Timed | _Tagged | None = None
        try:
            for line in read_lines(self.path, MAX_LINE_BYTES):
                if line.damage:
                    self._lose(line.number, line.damage)
                    continue
                if not line.text.strip():
                    continue
                reader = reader or self._reader_for(line)
                try:
                    record = reader.record(line.text)
                except _Unusable as error:
                    self._lose(line.number, str(error))
                    continue
                if record is not None:
                    yield record
        except OSError as error:
            raise CaptureUnreadable(f"{self.path}: cannot be read: {error.strerror}") from error

    def _reader_for(self, line: Line) -> "_Timed | _Tagged":
        head = line.text.lstrip()
        if head[:1].isdigit():
            return _Timed()
        if head[:1] == b"{" and b'"t"' in head[:4096]:
            return _Tagged()
        raise CaptureUnreadable(
            f"{self.path}: line {line.number}: neither `<receive ns> <frame>` nor "
            '`{"t": …}`, so this is no capture of raw frames'
        )

    def _lose(self, line: int, why: str) -> None:
        self.losses += 1
        if len(self.loss_details) < _LOSSES_KEPT:
            self.loss_details.append(Loss(line, why))
            log.warning("part of a capture is lost", extra=fields(file=self.path, line=line, why=why))


def describe(path: Path) -> Description:
    """Read the whole file once and say what it holds. Raises CaptureUnreadable, also when there is no record at all."""
    capture = Capture(path)
    topics: dict[Venue, Counter[str]] = {}
    requests: dict[Venue, Counter[str]] = {}
    instruments: dict[Venue, set[str]] = {}
    elsewhere: Counter[str] = Counter()
    times: dict[RecordKind, list[int]] = {}
    counts: Counter[RecordKind] = Counter()
    for record in capture:
        if not is_served(record.venue, record.route):
            elsewhere[f"{record.venue.name.lower()} {record.route}"] += 1
            continue
        counts[record.kind] += 1
        span = times.setdefault(record.kind, [record.receive_ns, record.receive_ns])
        span[:] = min(span[0], record.receive_ns), max(span[1], record.receive_ns)
        if record.kind is RecordKind.FRAME:
            topics.setdefault(record.venue, Counter())[record.topic] += 1
            if record.instrument:
                instruments.setdefault(record.venue, set()).add(record.instrument)
        elif record.kind is RecordKind.HTTP:
            requests.setdefault(record.venue, Counter())[record.url.partition("?")[0]] += 1
    if not counts:
        first = f"; line {capture.loss_details[0].line}: {capture.loss_details[0].why}" if capture.losses else ""
        raise CaptureUnreadable(f"{path}: holds no raw frame{first}")
    span = times.get(RecordKind.FRAME) or times.get(RecordKind.HTTP) or times[RecordKind.CONTROL]
    return Description(
        path=path,
        first_ns=span[0],
        last_ns=span[1],
        elsewhere=dict(elsewhere),
        topics={venue: dict(count) for venue, count in topics.items()},
        instruments={venue: tuple(sorted(names)) for venue, names in instruments.items()},
        requests={venue: dict(count) for venue, count in requests.items()},
        records=counts.total(),
        control_frames=counts[RecordKind.CONTROL],
        losses=capture.losses,
        loss_details=tuple(capture.loss_details),
    )


class _Unusable(Exception):
    """This line cannot be read; the text says why."""


class _Timed:
    """Lines `<receive ns> <frame>`. The venue is known from the shape of the frame."""

    def __init__(self) -> None:
        self._instrument = ""

    def record(self, text: bytes) -> Record:
        stamp, _, frame = text.strip().partition(b" ")
        if not stamp.isdigit() or not frame:
            raise _Unusable("does not read `<receive ns> <frame>`")
        receive_ns = int(stamp)
        if not 10**18 <= receive_ns < 10**19:
            raise _Unusable(f"{receive_ns} is no receive time in nanoseconds")
        if b'"lastUpdateId"' in frame[:64]:
            return self._inline_book(receive_ns, frame)
        venue = venue_of_text(frame)
        if venue is None:
            raise _Unusable("the frame has no venue's shape")
        record = _frame_record(receive_ns, venue, "", frame)
        self._instrument = record.instrument or self._instrument
        return record

    def _inline_book(self, receive_ns: int, frame: bytes) -> Record:
        """A REST order book without its address: it belongs to the contract of the frames around it."""
        _checked(frame)
        url = f"/fapi/v1/depth?limit=1000&symbol={self._instrument}"
        return Record(receive_ns, Venue.BINANCE, RecordKind.HTTP, "", "", self._instrument, frame, frame, url)


class _Tagged:
    """Lines `{"t": …}`; which socket a frame came by is known from the `connect` line of its connection."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Entry)
        self._routes: dict[str, str] = {}
        self._single: dict[str, str] = {}
        self._venue: Venue | None = None

    def record(self, text: bytes) -> Record | None:
        try:
            entry = self._decoder.decode(text)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise _Unusable(f"is not a capture line: {error}") from error
        if entry.t == "connect":
            self._routes[entry.conn], self._single[entry.conn] = route_of_address(entry.addr)
        if entry.t == "header":
            self._venue = _venue_named(entry.exchange)
        if entry.t == "connect" or entry.t in _IGNORED_TYPES:
            return None
        if entry.t not in ("recv", "http"):
            raise _Unusable(f"unknown line type {entry.t!r}")
        receive_ns = self._time(entry)
        venue = _venue_named(entry.conn) or self._venue
        if venue is None:
            raise _Unusable(f"connection {entry.conn!r} belongs to no known venue")
        raw = entry.data.encode() or entry.data64
        if entry.t == "http":
            path = "/" + entry.url.partition("://")[2].partition("/")[2] if "://" in entry.url else entry.url
            return Record(receive_ns, venue, RecordKind.HTTP, "", "", "", raw, raw, path)
        return _frame_record(receive_ns, venue, self._routes.get(entry.conn, ""), raw, self._single.get(entry.conn, ""))

    @staticmethod
    def _time(entry: _Entry) -> int:
        if entry.ns is not None:
            return entry.ns
        if entry.ts is None or not 1e9 <= entry.ts < 1e10:
            raise _Unusable("has no receive time (`ns`, or `ts` in seconds)")
        return round(entry.ts * 1e6) * 1000


def _frame_record(receive_ns: int, venue: Venue, route: str, raw: bytes, single_stream: str = "") -> Record:
    try:
        found = ADAPTERS[venue].envelope.identify(raw, single_stream)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _Unusable(f"the frame is not JSON: {error}") from error
    kind = RecordKind.FRAME if found.topic else RecordKind.CONTROL
    return Record(receive_ns, venue, kind, route, found.topic, found.instrument, raw, found.data)


def _checked(frame: bytes) -> Any:
    try:
        return msgspec.json.decode(frame)
    except msgspec.DecodeError as error:
        raise _Unusable(f"the REST answer is not JSON: {error}") from error


def _venue_named(name: str) -> Venue | None:
    """The venue that a recorder's name of an exchange or connection begins with."""
    return next((venue for venue in Venue if venue and name.upper().startswith(venue.name)), None)

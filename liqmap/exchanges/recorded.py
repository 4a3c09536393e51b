"""What a line of a recording holds, whoever recorded it.

Known are: a frame as it came; `<receive ns> <frame>`; the capture format, one object per line with `t` (`recv` and
`http` carry a frame, the others tell about the recording), `conn`, `ts` (s) or `ns`, and `data`; and
`{"venue", "frame"}`. Pure: reading the file is up to the caller.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Raw, Struct

from liqmap.exchanges.adapter import Malformed
from liqmap.exchanges.wire import DECODING_FAULTS, refuse


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line. `frame` is None for a line about the recording itself, which `note` then names.

    `address`: of the REST request for a reply, of the socket for a `connect`. `venue`: where the line says so.
    """

    frame: bytes | None
    receive_ns: int | None = None
    connection: str = ""
    address: str = ""
    note: str = ""
    venue: str = ""
    reply: bool = False


class _CaptureLine(Struct):
    t: str
    conn: str = ""
    ts: float | None = None
    ns: int | None = None
    url: str = ""
    addr: str = ""
    data: str | None = None
    data64: bytes | None = None


class _NamedFrame(Struct):
    venue: str
    frame: Raw


class _SampledFrame(Struct):
    data: Raw
    timestamp: float | None = None


_capture_line: Callable[[bytes], _CaptureLine] = msgspec.json.Decoder(_CaptureLine).decode
_named_frame: Callable[[bytes], _NamedFrame] = msgspec.json.Decoder(_NamedFrame).decode
_sampled_frames: Callable[[bytes], list[_SampledFrame]] = msgspec.json.Decoder(list[_SampledFrame]).decode

_STAMPED = re.compile(rb"(\d{16,19})[ \t]+(\S.*)", re.DOTALL)
_CAPTURE = re.compile(rb'\{\s*"t"\s*:\s*"(recv|http|connect|send|header|close|gap|config|turn|state|bad|failed|end)"')
_NAMED = re.compile(rb'\{\s*"venue"\s*:\s*"')


def read_line(line: bytes) -> Recorded:
    """What the line holds. Raises Malformed for a line of a capture that is cut off."""
    line = line.strip()
    stamped = _STAMPED.fullmatch(line)
    if stamped:
        return Recorded(stamped[2], receive_ns=int(stamped[1]))
    try:
        if _CAPTURE.match(line):
            return _captured(_capture_line(line))
        if _NAMED.match(line):
            named = _named_frame(line)
            return Recorded(bytes(named.frame), venue=named.venue)
    except DECODING_FAULTS as error:
        refuse(error, line)
    return Recorded(line)


def read_array(text: bytes) -> Iterator[Recorded]:
    """The frames of a file that is one JSON array of `{"timestamp", "data"}`. Raises Malformed."""
    try:
        rows = _sampled_frames(text)
    except DECODING_FAULTS as error:
        refuse(error, text)
    return (Recorded(bytes(row.data), receive_ns=_ns(row.timestamp)) for row in rows)


def _captured(line: _CaptureLine) -> Recorded:
    receive_ns = _ns(line.ts) if line.ns is None else line.ns
    address = line.url or line.addr
    if line.t in ("recv", "http"):
        frame = line.data64 if line.data is None else line.data.encode()
        if frame is None:
            raise Malformed("object missing required field `data`", "data")
        venue, told, _ = line.conn.partition("/")  # our own recordings hold all venues, and say whose a frame is
        return Recorded(frame, receive_ns, line.conn, address, venue=venue if told else "", reply=line.t == "http")
    return Recorded(None, receive_ns, line.conn, address, note=line.t)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None or not 0 < seconds < 1e11 else int(seconds * 1e9)

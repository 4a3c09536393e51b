"""The journal's file format, byte by byte: a header, then batches, nothing else. Pure; see docs/journal.md.

    FILE_HEADER, description (JSON, padded with blanks to a multiple of 8), then again and again: BATCH_HEADER, payload

All numbers little endian. A batch is EVENTS (`count` records of EVENT_DTYPE, numbered from `first_sequence` on), HOLE
(`count` 0, payload HOLE_RECORD: events from `first_sequence` on that the disk did not take) or END (no payload: the
writer closed the file itself; a file without it was being written, or its writer was killed).
Both CRCs are CRC-32 as in zlib: the header's over the header with `crc` 0 and the description, a batch's over the
bytes of its header behind `crc` and its payload.
"""

import struct
import zlib
from enum import IntEnum
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from liqmap.domain.event import EVENT_BYTES, EVENT_DTYPE

MAGIC: Final = b"LQMAPJNL"
MARK: Final = b"LQMB"
VERSION: Final = 1
LARGEST_BATCH: Final = 2**26
"""Bytes of a payload; a header that claims more is damaged."""

EVENT_FINGERPRINT: Final = zlib.crc32(repr(EVENT_DTYPE.descr).encode())
"""Tells event records of another layout apart."""

FILE_HEADER: Final = np.dtype(
    [
        ("magic", "S8"),  # LQMAPJNL
        ("version", "<u4"),
        ("batches_at", "<u4"),  # offset of the first batch
        ("event_bytes", "<u4"),  # of one event
        ("event_fingerprint", "<u4"),  # CRC-32 of the event record's fields
        ("hour_ms", "<i8"),  # engine time at which the hour of this file began
        ("first_sequence", "<u8"),  # of the first event of the file
        ("description_bytes", "<u4"),  # of the JSON without its padding
        ("crc", "<u4"),
        ("reserved", "<u8", (2,)),  # 0
    ]
)
BATCH_HEADER: Final = np.dtype(
    [
        ("mark", "S4"),  # LQMB
        ("crc", "<u4"),
        ("kind", "<u4"),  # 1 events, 2 hole, 3 end
        ("count", "<u4"),  # events in the payload
        ("length", "<u4"),  # bytes of the payload
        ("reserved", "<u4"),  # 0
        ("first_sequence", "<u8"),
    ]
)
HOLE_RECORD: Final = np.dtype(
    [
        ("from_ns", "<i8"),  # engine time of the first event that was not written …
        ("to_ns", "<i8"),  # … and of the last one
        ("events", "<u8"),  # how many
    ]
)
_CRC_AT: Final = 8
_BATCH: Final = struct.Struct("<4sIIIIIQ")
"""BATCH_HEADER, for those who read very many of them."""

assert _BATCH.size == BATCH_HEADER.itemsize


class BatchKind(IntEnum):
    """What a batch holds. Part of the format: never renumber."""

    EVENTS = 1
    HOLE = 2
    END = 3


class Contract(Struct, frozen=True):
    """What an event's `instrument` number means in one file."""

    number: int
    venue: str
    name: str
    contract_base: float


class Description(Struct, frozen=True):
    """The JSON behind the header. `source`: live, simulated or replay."""

    instance: str
    symbol: str
    source: str
    contracts: tuple[Contract, ...]
    liqmap: str


class NoJournal(ValueError):
    """These bytes are no header that this program reads; the text says why."""


def header_bytes(description: Description, hour_ms: int, first_sequence: int) -> bytes:
    """The beginning of a file, up to the first batch."""
    text = msgspec.json.encode(description)
    padded = text + b" " * (-len(text) % 8)
    head = np.zeros((), FILE_HEADER)
    head["magic"], head["version"] = MAGIC, VERSION
    head["batches_at"] = FILE_HEADER.itemsize + len(padded)
    head["event_bytes"], head["event_fingerprint"] = EVENT_BYTES, EVENT_FINGERPRINT
    head["hour_ms"], head["first_sequence"] = hour_ms, first_sequence
    head["description_bytes"] = len(text)
    head["crc"] = zlib.crc32(padded, zlib.crc32(head.tobytes()))
    return head.tobytes() + padded


def batches_at(head: bytes) -> int:
    """Where the first batch begins, told by the first FILE_HEADER.itemsize bytes. Raises NoJournal."""
    if len(head) < FILE_HEADER.itemsize or not head.startswith(MAGIC):
        raise NoJournal("it does not begin like a journal")
    fields = _fields(head, FILE_HEADER)
    if fields["version"] != VERSION:
        raise NoJournal(f"it is of journal version {fields['version']}, this program reads version {VERSION}")
    if fields["event_bytes"] != EVENT_BYTES or fields["event_fingerprint"] != EVENT_FINGERPRINT:
        raise NoJournal("its events have another layout than this program's")
    return int(fields["batches_at"])


def description_of(whole: bytes) -> Description:
    """The description out of everything before the first batch. Raises NoJournal."""
    size = FILE_HEADER.itemsize
    head = np.frombuffer(whole[:size], FILE_HEADER)[0].copy()
    crc, head["crc"] = int(head["crc"]), 0
    if len(whole) != int(head["batches_at"]) or zlib.crc32(whole[size:], zlib.crc32(head.tobytes())) != crc:
        raise NoJournal("its header is damaged")
    return msgspec.json.decode(whole[size : size + int(head["description_bytes"])], type=Description)


def batch_header(kind: BatchKind, count: int, first_sequence: int, payload: bytes) -> bytes:
    """What stands before a payload."""
    covered = b"".join(
        (
            int(kind).to_bytes(4, "little"),
            count.to_bytes(4, "little"),
            len(payload).to_bytes(4, "little"),
            bytes(4),
            first_sequence.to_bytes(8, "little"),
        )
    )
    return MARK + zlib.crc32(payload, zlib.crc32(covered)).to_bytes(4, "little") + covered


def read_batch_header(head: bytes) -> dict[str, int] | None:
    """The fields of a batch header, None when it is none."""
    if len(head) < BATCH_HEADER.itemsize or not head.startswith(MARK):
        return None
    _, crc, kind, count, length, _, first_sequence = _BATCH.unpack_from(head)
    fits = length == count * EVENT_BYTES if kind == BatchKind.EVENTS else True
    if not fits or length > LARGEST_BATCH:
        return None
    return {"crc": crc, "kind": kind, "count": count, "length": length, "first_sequence": first_sequence}


def is_whole(head: bytes, crc: int, payload: bytes) -> bool:
    """Whether header and payload are what was written."""
    return zlib.crc32(payload, zlib.crc32(head[_CRC_AT : BATCH_HEADER.itemsize])) == crc


def hole_bytes(from_ns: int, to_ns: int, events: int) -> bytes:
    """The payload of a HOLE."""
    return np.array((from_ns, to_ns, events), HOLE_RECORD).tobytes()


def _fields(head: bytes, dtype: np.dtype[np.void]) -> dict[str, Any]:
    record = np.frombuffer(head[: dtype.itemsize], dtype)[0]
    return dict(zip(dtype.names or (), record.item(), strict=True))

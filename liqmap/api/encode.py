"""Prepared answers: JSON encoded once, to which the age of the data is added as bytes.

An answer is `{"age_ms":<now>,` and then a body that does not change while its frame is the newest. The gzip form is
built the same way: a stored block for the head, the deflated body kept from before, and the checksum of both.
"""

import gzip
import struct
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

GZIP_FROM_BYTES: Final = 1024
_GZIP_LEVEL: Final = 4
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def encode(value: Mapping[str, Any]) -> bytes:
    """JSON bytes. Numpy arrays and floats are taken as they are; NaN and infinity become null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def whole_dollars(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Dollars rounded to whole ones; unknown (NaN) stays unknown."""
    return np.asarray(np.round(values), dtype=np.float64)


def known(value: float, digits: int | None = None) -> float | None:
    """A float for JSON: None for NaN, rounded when asked."""
    number = float(value)
    if number != number:  # NaN
        return None
    return number if digits is None else round(number, digits)


@dataclass(slots=True)
class Prepared:
    """One encoded answer without its age, and its ETag. The deflated form is made when first asked for."""

    body: bytes
    etag: str
    _deflated: bytes | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def json(self, age_ms: int | None) -> bytes:
        """The answer as JSON."""
        return _head(age_ms) + self.body[1:]

    def gzip(self, age_ms: int | None) -> bytes:
        """The same answer as one gzip member."""
        head = _head(age_ms)
        with self._lock:
            if self._deflated is None:
                deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
                self._deflated = deflate.compress(self.body[1:]) + deflate.flush()
        size = len(head)
        stored = b"\x00" + struct.pack("<HH", size, size ^ 0xFFFF) + head
        checksum = zlib.crc32(memoryview(self.body)[1:], zlib.crc32(head))
        tail = struct.pack("<II", checksum, (size + len(self.body) - 1) & 0xFFFFFFFF)
        return b"".join((_GZIP_HEAD, stored, self._deflated, tail))

    @property
    def worth_gzip(self) -> bool:
        """Whether compressing pays."""
        return len(self.body) >= GZIP_FROM_BYTES


Headings = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class PreparedBytes:
    """An answer that is not JSON: the body goes out as it is, what else is to be said stands in `headings`."""

    body: bytes
    etag: str
    headings: Headings
    _packed: bytes | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def gzip(self) -> bytes:
        """The body as one gzip member, made when first asked for."""
        with self._lock:
            if self._packed is None:
                self._packed = gzip.compress(self.body, _GZIP_LEVEL, mtime=0)
            return self._packed


def _head(age_ms: int | None) -> bytes:
    return b'{"age_ms":null,' if age_ms is None else b'{"age_ms":%d,' % age_ms

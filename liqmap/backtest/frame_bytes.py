"""A frame as bytes, the same on every machine: what a digest of a replay is made of."""

import dataclasses
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from liqmap.engine.frames import MinuteFrame


class FrameDigest:
    """A running sha256 over minute frames: every field in the order of its declaration, little endian."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, frame: MinuteFrame) -> None:
        """The next frame."""
        self._hash.update(b"".join(_bytes_of(frame)))

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()


def _bytes_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, bool | int | np.integer):
        yield struct.pack("<q", value)
    elif value is None:
        yield b"nothing "
    elif isinstance(value, float | np.floating):
        # One bit pattern for unknown: NaNs differ in bits that mean nothing.
        yield struct.pack("<d", float(value)) if value == value else b"unknown "
    elif isinstance(value, np.ndarray):
        yield struct.pack("<q", value.size)
        yield np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    elif isinstance(value, tuple | list):
        yield struct.pack("<q", len(value))
        for item in value:
            yield from _bytes_of(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _bytes_of(getattr(value, field.name))
    else:
        raise TypeError(f"a frame holds a {type(value).__name__}: say here how it is told in bytes")

"""A reader of `format=bin` that knows nothing but docs/api.md: it takes the layout from the table there."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
TYPES = {"4 bytes": "4s", "u32": "I", "u16": "H", "u8": "B", "i64": "q", "f64": "d"}
_ROW = re.compile(r"^\| (\d+) \| ([\w ]+) \| `(\w+)` \|", re.MULTILINE)


@dataclass
class Planes:
    """What was read: the header by name, and `usd[plane][row][column]`, None unknown."""

    header: dict[str, float | int | bytes]
    usd: list[list[list[float | None]]]

    def t_ms(self) -> list[float]:
        """When each row begins."""
        rows, first, last = (self.header[name] for name in ("rows", "first_ms", "last_ms"))
        assert isinstance(rows, int) and isinstance(first, int) and isinstance(last, int)
        return [first + row * (last - first) / max(1, rows - 1) for row in range(rows)]

    def prices(self) -> list[float]:
        """The centre of each column."""
        cols, low, step = (self.header[name] for name in ("cols", "price_min", "step"))
        assert isinstance(cols, int) and isinstance(low, float) and isinstance(step, float)
        return [low + column * step for column in range(cols)]


def documented() -> list[tuple[int, str, str]]:
    """(offset, type, name) of the header, from the document."""
    return [(int(at), TYPES[kind], name) for at, kind, name in _ROW.findall(DOCUMENT.read_text())]


def read(data: bytes) -> Planes:
    """Read an answer. Fails where it is not what the document says."""
    header = {}
    for at, kind, name in documented():
        (header[name],) = struct.unpack_from(f"<{kind}", data, at)
    assert header["magic"] == b"LQM1" and header["encoding"] == 1
    planes, rows, cols = header["planes"], header["rows"], header["cols"]
    assert len(data) == 64 + planes * rows * cols
    lowest, ratio = header["lowest"], header["ratio"]

    def dollars(code: int) -> float | None:
        if code == 255:
            return None
        return 0.0 if code == 0 else lowest * ratio ** (code - 1)

    usd = [
        [[dollars(data[64 + (p * rows + r) * cols + c]) for c in range(cols)] for r in range(rows)]
        for p in range(planes)
    ]
    return Planes(header, usd)

"""docs/layout.md is rendered from the code, and a reader written from the document alone finds the bytes."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.domain.event import EVENT_DTYPE
from liqmap.shm import layout
from liqmap.shm.board import BoardWriter, create_board
from liqmap.shm.document import document
from liqmap.shm.ring import RingWriter, create_ring
from liqmap.shm.rows import RowsWriter, create_rows
from liqmap.shm.segment import Segment
from liqmap.shm.status import Heartbeat, create_status

DOCUMENT = Path(__file__).parents[2] / "docs" / "layout.md"
FORMATS = {"<u8": "<Q", "<i8": "<q", "<f8": "<d", "<f4": "<f", "<u2": "<H", "u1": "<B"}


def test_the_document_is_the_one_the_code_renders() -> None:
    assert DOCUMENT.read_text() == document(), "run `make layout` and review the difference"


def test_every_dtype_of_the_layout_is_in_the_document() -> None:
    text = document()
    for name, thing in vars(layout).items():
        if isinstance(thing, np.dtype) and not name.startswith("_"):
            assert f"### {name} ({thing.itemsize} bytes)" in text


@pytest.fixture
def segments(instance: str) -> Iterator[list[Segment]]:
    made: list[Segment] = []
    yield made
    for segment in made:
        segment.unlink()
        segment.close()


def place(section: str, field: str) -> tuple[int, str]:
    """Offset and struct format of a field, from the text of the document only."""
    body = DOCUMENT.read_text().split(f"### {section} (")[1].split("\n#")[0]
    row = re.search(rf"^\| (\d+) \| (\S+?)(?:×\d+)? \| `{field}` \|", body, re.MULTILINE)
    assert row, f"{section}.{field} is not in the document"
    return int(row[1]), FORMATS[row[2]]


def load(data: bytes, base: int, section: str, field: str, plus: int = 0) -> Any:
    offset, format = place(section, field)
    return struct.unpack_from(format, data, base + offset + plus)[0]


def raw(segment: Segment) -> bytes:
    return (Path("/dev/shm") / segment.name).read_bytes()


def number(pattern: str) -> int:
    found = re.search(pattern, " ".join(DOCUMENT.read_text().split()))
    assert found, pattern
    return int(found[1])


def test_a_board_and_its_rows_are_found_by_the_document_alone(instance: str, segments: list[Segment]) -> None:
    def fill(row: NDArray[Any]) -> None:
        row["count"] = 2
        row["rows"]["step"][1] = 0.25

    board = create_board(f"liqmap.{instance}.directory", layout.DIRECTORY)
    segments.append(board)
    writer = BoardWriter(board, layout.DIRECTORY)
    for _ in range(6):
        writer.publish(fill)
    data = raw(board)
    latest = load(data, number(r"`BOARD_HEADER` stands at byte (\d+)"), "BOARD_HEADER", "latest")
    stride = load(data, 0, "SEGMENT_HEADER", "shape", 8)
    slot = number(r"begins at byte (\d+) \+ n") + (latest - 1) % 4 * stride
    payload = slot + number(r"payload follows (\d+) bytes")
    row = place("DIRECTORY", "count")[0] + 8 + number(r"DIRECTORY_ROW \((\d+) bytes\)")
    assert (latest, load(data, slot, "SLOT_HEADER", "version")) == (6, 2 * latest)
    assert load(data, payload, "DIRECTORY", "count") == 2
    assert load(data, payload + row, "DIRECTORY_ROW", "step") == 0.25
    assert load(data, 0, "SEGMENT_HEADER", "size") == len(data)


def test_an_event_of_a_ring_is_found_by_the_document_alone(instance: str, segments: list[Segment]) -> None:
    ring = create_ring(f"liqmap.{instance}.ring.BTC", 8)
    segments.append(ring)
    events = np.zeros(11, EVENT_DTYPE)
    events["price"] = np.arange(11)
    RingWriter(ring).write(events)
    data = raw(ring)
    written = load(data, number(r"`RING_HEADER` stands at byte (\d+)"), "RING_HEADER", "written")
    capacity = load(data, 0, "SEGMENT_HEADER", "shape")
    at = number(r"the events \(`EVENT_DTYPE`\) at byte (\d+)") + (written - 1) % capacity * 64
    assert (written, load(data, at, "EVENT_DTYPE", "price")) == (11, 10.0)


def test_a_row_is_found_by_the_document_alone(instance: str, segments: list[Segment]) -> None:
    rows = create_rows(f"liqmap.{instance}.recent.BTC", layout.LIQUIDATION, 5)
    segments.append(rows)
    writer = RowsWriter(rows, layout.LIQUIDATION)
    for id in range(7):
        writer.append(lambda row, id=id: row["id"].fill(id + 100))  # type: ignore[misc]
    data = raw(rows)
    written = load(data, number(r"`ROWS_HEADER` stands at byte (\d+)"), "ROWS_HEADER", "written")
    capacity = load(data, 0, "SEGMENT_HEADER", "shape")
    versions = number(r"the versions at byte (\d+)")
    at = (
        versions
        + -(-16 * capacity // 64) * 64
        + (written - 1) % capacity * load(data, 0, "SEGMENT_HEADER", "item_size")
    )
    version = struct.unpack_from("<Q", data, versions + (written - 1) % capacity * 8)[0]
    assert (written, version, load(data, at, "LIQUIDATION", "id")) == (7, 2 * 6 + 2, 106)


def test_a_heartbeat_is_found_by_the_document_alone(instance: str, segments: list[Segment]) -> None:
    status = create_status(instance, ["ingest", "BTC"])
    segments.append(status)
    Heartbeat(status, "BTC", pid=77).beat(work=5)
    data = raw(status)
    names = number(r"names of 16 bytes at byte (\d+)")
    beats = number(r"as many `HEARTBEAT` rows at byte (\d+)")
    assert data[names + 16 : names + 32].rstrip(b"\0") == b"BTC"
    assert load(data, beats + 64, "HEARTBEAT", "pid") == 77
    assert load(data, beats + 64, "HEARTBEAT", "work") == 5

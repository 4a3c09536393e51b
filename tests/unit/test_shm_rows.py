"""Row rings: windows of whole rows, cut at the old end by a fast writer and never torn."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from liqmap.shm.faults import BoardBusy, LayoutMismatch, SegmentRetired
from liqmap.shm.layout import ROWS_HEADER, SEGMENT_HEADER
from liqmap.shm.rows import RowsReader, RowsWriter, create_rows
from liqmap.shm.segment import Segment

CAPACITY = 10
ROW = np.dtype([("number", "<u8"), ("cells", "<f4", (2, 20))])


@pytest.fixture(params=[False, True], ids=["plain", "checksums"])
def segment(instance: str, request: pytest.FixtureRequest) -> Iterator[Segment]:
    made = create_rows(f"liqmap.{instance}.minutes.BTC", ROW, CAPACITY, checksums=request.param)
    yield made
    made.unlink()
    made.close()


@pytest.fixture
def plain(instance: str) -> Iterator[Segment]:
    """Without checksums: with them rows are copied as bytes, which nothing can interrupt within one process."""
    made = create_rows(f"liqmap.{instance}.minutes.BTC", ROW, CAPACITY, checksums=False)
    yield made
    made.unlink()
    made.close()


def filled(number: int) -> Callable[[NDArray[Any]], None]:
    def fill(row: NDArray[Any]) -> None:
        row["number"] = number
        row["cells"][...] = number

    return fill


def append(writer: RowsWriter, count: int) -> None:
    for _ in range(count):
        writer.append(filled(writer.written))


def numbers_of(rows: NDArray[Any]) -> list[int]:
    assert (rows["cells"] == rows["number"][:, None, None]).all(), "torn"
    numbers: list[int] = rows["number"].tolist()
    return numbers


def test_there_are_no_rows_before_the_first(segment: Segment) -> None:
    reader = RowsReader.open(segment.name, ROW)
    assert reader.written == 0
    assert reader.last(5).shape == (0,)
    assert reader.last(5).dtype == ROW
    window = reader.after(0, 5)
    assert (window.first, len(window.rows), window.next) == (0, 0, 0)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 25), st.integers(0, 15), st.integers(0, 120)), max_size=8))
def test_windows_are_the_newest_rows_in_order(segment: Segment, steps: list[tuple[int, int, int]]) -> None:
    writer, reader = RowsWriter(segment, ROW), RowsReader(segment, ROW)
    for count, limit, index in steps:
        append(writer, count)
        end = writer.written
        oldest = max(end - CAPACITY, 0)
        assert numbers_of(reader.last(limit)) == list(range(max(end - limit, oldest), end))
        first = min(max(index, oldest), end)
        window = reader.after(index, limit)
        assert (window.first, window.next) == (first, first + len(window.rows))
        assert numbers_of(window.rows) == list(range(first, min(first + limit, end)))
        part = reader.last_with(limit, lambda rows: rows["cells"][:, 1, 3:5].copy())
        expected = np.arange(max(end - limit, oldest), end, dtype=np.float32)
        assert part.rows.shape == (len(expected), 2)
        assert (part.rows == expected[:, None]).all()


def test_a_cursor_over_after_misses_nothing_it_is_not_told_of(segment: Segment) -> None:
    writer, reader = RowsWriter(segment, ROW), RowsReader(segment, ROW)
    next_row, seen, missed = 0, [], 0
    for count in (3, 0, 10, 1, 27, 4):
        append(writer, count)
        while True:
            window = reader.after(next_row, 4)
            missed += window.first - next_row
            seen += numbers_of(window.rows)
            next_row = window.next
            if not len(window.rows):
                break
    assert missed == 17
    assert seen == [*range(14), *range(31, 45)]


@pytest.mark.finding("M3")
def test_rows_that_are_read_are_copies(segment: Segment) -> None:
    writer, reader = RowsWriter(segment, ROW), RowsReader(segment, ROW)
    append(writer, 8)
    rows = reader.last(8)
    append(writer, 20)
    assert numbers_of(rows) == list(range(8))
    with pytest.raises(ValueError, match="read-only"):
        rows["number"][0] = 5


@pytest.mark.parametrize("meanwhile", range(CAPACITY + 1))
def test_rows_overwritten_under_the_copy_are_cut_off_the_old_end(plain: Segment, meanwhile: int) -> None:
    writer, reader = RowsWriter(plain, ROW), RowsReader(plain, ROW)
    append(writer, CAPACITY + 3)
    calls = 0

    def copy(rows: NDArray[Any]) -> NDArray[Any]:
        nonlocal calls
        calls += 1
        early = rows.copy()
        if calls == 1:
            append(writer, meanwhile)
        return early

    window = reader.last_with(CAPACITY, copy)
    if meanwhile < CAPACITY:
        assert numbers_of(window.rows) == list(range(3 + meanwhile, CAPACITY + 3))
    else:
        assert numbers_of(window.rows) == list(range(CAPACITY + 3, 2 * CAPACITY + 3)), "all were gone: tried again"
    assert window.first == window.rows["number"][0]


def test_a_row_being_written_is_not_part_of_a_window(segment: Segment) -> None:
    writer, reader = RowsWriter(segment, ROW), RowsReader(segment, ROW)
    append(writer, CAPACITY + 2)

    def look(row: NDArray[Any]) -> None:
        row["number"] = 99  # over the oldest row
        assert numbers_of(reader.last(CAPACITY)) == list(range(3, CAPACITY + 2))
        filled(CAPACITY + 2)(row)

    writer.append(look)
    assert numbers_of(reader.last(CAPACITY)) == list(range(3, CAPACITY + 3))


def test_a_reader_whose_every_window_is_overwritten_gives_up(plain: Segment) -> None:
    writer, reader = RowsWriter(plain, ROW), RowsReader(plain, ROW)
    append(writer, CAPACITY)

    def copy(rows: NDArray[Any]) -> NDArray[Any]:
        append(writer, CAPACITY)
        return rows.copy()

    with pytest.raises(BoardBusy):
        reader.last_with(3, copy)


class Killed(BaseException):
    """The writer died here."""


@pytest.mark.parametrize("start", [0, 3, CAPACITY - 1, CAPACITY, 27])
def test_a_successor_writes_the_row_anew_that_its_predecessor_died_in(segment: Segment, start: int) -> None:
    def die(row: NDArray[Any]) -> None:
        row["number"] = 99
        raise Killed

    reader = RowsReader(segment, ROW)
    append(RowsWriter(segment, ROW), start)
    for _ in range(2):
        with pytest.raises(Killed):
            RowsWriter(segment, ROW).append(die)
        assert reader.written == start
        assert numbers_of(reader.last(CAPACITY)) == list(range(max(start - CAPACITY + 1, 0), start))
    append(RowsWriter(segment, ROW), 2)
    assert numbers_of(reader.last(3)) == list(range(max(start - 1, 0), start + 2))


def test_a_row_that_does_not_fit_its_checksum_is_refused(instance: str) -> None:
    made = create_rows(f"liqmap.{instance}.minutes.BTC", ROW, CAPACITY, checksums=True)
    append(RowsWriter(made, ROW), 4)
    reader = RowsReader(made, ROW)
    rows_at = SEGMENT_HEADER.itemsize + ROWS_HEADER.itemsize + 192  # 16 x 10, rounded up to whole 64 bytes
    made.view()[rows_at + ROW.itemsize + 30] ^= 1
    assert numbers_of(reader.last(4)) == [2, 3]
    made.unlink()
    made.close()


def test_readers_of_retired_rows_are_told_to_reopen(segment: Segment) -> None:
    append(RowsWriter.open(segment.name, ROW), 4)
    reader = RowsReader.open(segment.name, ROW)
    segment.retire()
    assert reader.retired
    with pytest.raises(SegmentRetired):
        reader.last(2)


def test_another_row_type_is_refused(segment: Segment) -> None:
    other = np.dtype([("number", "<i8"), ("cells", "<f4", (2, 20))])
    for kind in (RowsReader, RowsWriter):
        with pytest.raises(LayoutMismatch):
            kind(segment, other)

"""Shared memory: what reading costs over a plain copy, ten million reads under fire, events per second."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from liqmap.domain.event import EVENT_DTYPE
from liqmap.shm.board import BoardReader, BoardWriter, create_board
from liqmap.shm.ring import RingReader, RingWriter, create_ring
from liqmap.shm.rows import RowsReader, RowsWriter, create_rows
from liqmap.shm.segment import Segment
from tests.bench.table import Row, in_turns, seconds_each
from tests.fault.shm_actors import payload
from tests.fault.shm_stage import actor

BOARD_BYTES = 16_384
FRAME = np.dtype([("number", "<u8"), ("cells", "<f4", (2, 2047))])
"""A board's payload as it is used: a structured type of 16 KB."""
MINUTE = np.dtype([("minute_ms", "<i8"), ("cells", "<f4", (2, 360))])
WINDOW_ROWS = 360
READS = 10_000_000
BATCH = 64


def rows(effort: float) -> Iterator[Row]:
    """The rows of shared memory in the table."""
    yield board_read(effort)
    yield history_window(effort)
    yield from untorn(effort)
    yield from ring(effort)


@contextmanager
def ended(segment: Segment) -> Iterator[Segment]:
    """The segment, removed afterwards."""
    try:
        yield segment
    finally:
        segment.unlink()
        segment.close()


def name(role: str) -> str:
    """A segment nobody else has."""
    return f"liqmap.bench{os.getpid()}-{secrets.token_hex(3)}.{role}"


def board_read(effort: float) -> Row:
    """One read of a 16 KB board against numpy's copy of the same payload, and against the bare bytes."""
    assert FRAME.itemsize == BOARD_BYTES
    number = max(int(5_000 * effort), 200)
    with ended(create_board(name("board"), FRAME)) as segment:
        BoardWriter(segment, FRAME).publish(lambda frame: frame["cells"].fill(1))
        reader = BoardReader.open(segment.name, FRAME)
        plain, raw = np.zeros((), FRAME), np.zeros(BOARD_BYTES, np.uint8)
        read_s, copy_s = in_turns(reader.read, plain.copy, number)
        raw_s = seconds_each(raw.copy, number)
    today = f"{read_s / copy_s:.2f}x ({read_s * 1e9:.0f} ns; {read_s / raw_s:.1f}x of the bare bytes)"
    return Row("board read, 16 KB", "numpy copy of the payload", "≤ 2x", today, read_s <= 2 * copy_s)


def history_window(effort: float) -> Row:
    """The newest 1 MB of rows, across the end of the ring, against one plain copy of as much of the same memory."""
    number = max(int(300 * effort), 20)
    with ended(create_rows(name("rows"), MINUTE, 2 * WINDOW_ROWS)) as segment:
        writer, reader = RowsWriter(segment, MINUTE), RowsReader.open(segment.name, MINUTE)
        for _ in range(2 * WINDOW_ROWS + WINDOW_ROWS // 2):
            writer.append(lambda row: row["cells"].fill(1))
        size = WINDOW_ROWS * MINUTE.itemsize
        plain = segment.array(np.dtype(np.uint8), len(segment.view()) - size, size)
        assert len(reader.last(WINDOW_ROWS)) == WINDOW_ROWS
        read_s, copy_s = in_turns(lambda: reader.last(WINDOW_ROWS), plain.copy, number)
        del plain
    today = f"{read_s / copy_s:.2f}x ({read_s * 1e6:.0f} us for {size / 1e6:.2f} MB)"
    return Row("history window, 1 MB", "numpy copy of the bytes", "≤ 1.5x", today, read_s <= 1.5 * copy_s)


def untorn(effort: float) -> Iterator[Row]:
    """Ten million reads, every byte of each compared, beside a writer process flat out."""
    dtype = payload(BOARD_BYTES)
    with ended(create_board(name("untorn"), dtype)) as segment:
        BoardWriter(segment, dtype).publish(lambda slot: slot["cells"].fill(1))
        with actor("write_board", segment.name, BOARD_BYTES) as writer:
            writer.line()
            reads = int(READS * effort)
            with actor("read_board", segment.name, BOARD_BYTES, reads, 0) as reader:
                result = reader.result()
        published = BoardReader.open(segment.name, dtype).sequence_hint()
    today = f"{result['torn']} of {result['reads']:.0e}, {result['fresh']:.1e} different, {published:.1e} published"
    yield Row("board, writer flat out: torn reads", "", "0 in 1e7", today, result["torn"] == 0)
    retries = result["retries"] / result["reads"]
    yield Row("board, writer flat out: retries", "", "< 0.001 per read", f"{retries:.6f}", retries < 0.001)


def ring(effort: float) -> Iterator[Row]:
    """Events per second into and out of a ring in batches of 64, each way alone, then both processes at once."""
    number = max(int(20_000 * effort), 200)
    events = np.zeros(BATCH, EVENT_DTYPE)
    events["sequence"] = np.arange(1, BATCH + 1)
    packed = events.tobytes()
    raw = np.frombuffer(packed, np.uint8)
    with ended(create_ring(name("ring"), 1 << 16)) as segment:
        writer, reader = RingWriter(segment), RingReader(segment)

        def fill() -> None:
            for _ in range(writer.capacity // BATCH):
                writer.write(packed)

        def take() -> None:
            reader.take(BATCH)
            reader.commit()

        copy_s = seconds_each(raw.copy, number)
        write_s = seconds_each(lambda: writer.write(packed), number)
        take()  # from here on the ring is never overrun
        while reader.pending:
            take()
        read_s = seconds_each(take, number=writer.capacity // BATCH, before=fill)
        assert reader.pending == 0
    for path, each_s in (("ring, in", write_s), ("ring, out", read_s)):
        rate = BATCH / each_s
        today = f"{rate / 1e6:.1f} M events/s ({each_s / copy_s:.1f}x the copy)"
        yield Row(f"{path}, batches of {BATCH}", "numpy copy of the batch", "≥ 2 M events/s", today, rate >= 2e6)
    yield between_processes(int(20_000_000 * effort) // BATCH * BATCH)


def between_processes(events: int) -> Row:
    """From one process to another, until the last event is accounted for, nothing skipped."""
    with ended(create_ring(name("pipe"), 1 << 16)) as segment, actor("pour", segment.name, events, BATCH) as writer:
        reader = RingReader(segment)
        writer.line()
        seen = 0

        def drain() -> None:
            nonlocal seen
            while reader.read + reader.lost < events:
                seen += len(reader.take(4096))
                reader.commit()

        elapsed_s = seconds_each(drain, number=1, repeat=1)
        lost = reader.lost
    rate = seen / elapsed_s
    today = f"{rate / 1e6:.1f} M events/s seen, {lost / events:.0%} overrun"
    return Row("ring, process to process", "", "≥ 2 M events/s", today, rate >= 2e6)

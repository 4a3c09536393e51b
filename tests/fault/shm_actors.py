"""Processes that play with shared memory for the tests beside this file: `python -m tests.fault.shm_actors ACT …`.

Each act prints one JSON line when it is done; acts that go on until they are killed print `ready` first. Writers killed
at random are forks of one process that has everything loaded, so that a hundred deaths cost seconds.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.config import parse
from liqmap.shm.board import BoardReader, BoardWriter, create_board
from liqmap.shm.faults import SharedMemoryFull
from liqmap.shm.layout import live_dtype
from liqmap.shm.plan import create_all, segments_of
from liqmap.shm.ring import RingReader, RingWriter
from liqmap.shm.rows import RowsReader, RowsWriter
from liqmap.shm.segment import Segment, segments_in
from liqmap.shm.status import Heartbeat
from tests.numbered import FIRST_SEQUENCE, count_on, numbered, torn_events

ROW = np.dtype([("number", "<u8"), ("cells", "<u8", (63,))])


def payload(size: int) -> np.dtype[Any]:
    """A board's payload of `size` bytes, all of it one number, so that a torn one shows."""
    return np.dtype([("cells", "<u8", (size // 8,))])


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def in_portions(cells: NDArray[Any], number: int) -> None:
    """Write in eight steps, so that there are moments between them at which to die."""
    step = max(len(cells) // 8, 1)
    for start in range(0, len(cells), step):
        cells[start : start + step] = number


def write_board(name: str, size: int) -> None:
    """Publish flat out, for ever."""
    writer = BoardWriter.open(name, payload(size))
    ready()
    while True:
        publish_next(writer)


def publish_next(writer: BoardWriter) -> None:
    number = writer.published + 1
    writer.publish(lambda slot: in_portions(slot["cells"], number))


def read_board(name: str, size: int, reads: int, different: int) -> None:
    """Read that often, and until that many different payloads were seen; count torn ones, backward steps, retries."""
    reader = BoardReader.open(name, payload(size))
    done = torn = backward = fresh = newest = 0
    while done < reads or fresh < different:
        done += 1
        data = reader.read().tobytes()
        torn += data[8:] != data[:-8]
        number = int.from_bytes(data[:8], "little")
        backward += number < newest
        fresh += number > newest
        newest = number
    say(reads=done, torn=torn, backward=backward, fresh=fresh, retries=reader.retries)


def read_board_until(name: str, size: int, last: int) -> None:
    """Read until payload `last` is seen: every read must be served, whole."""
    reader = BoardReader.open(name, payload(size))
    reads = torn = backward = newest = 0
    ready()
    while newest < last:
        data = reader.read().tobytes()
        reads += 1
        torn += data[8:] != data[:-8]
        number = int.from_bytes(data[:8], "little")
        backward += number < newest
        newest = number
    say(reads=reads, torn=torn, backward=backward, retries=reader.retries)


def kill_forks(seed: int, kills: int, child: Callable[[], None], after_each: Callable[[], None]) -> None:
    """Fork `child` and SIGKILL it at a random moment, `kills` times."""
    chance = random.Random(seed)
    for _ in range(kills):
        pid = os.fork()
        if pid == 0:
            child()
            os._exit(1)  # it should have been killed
        time.sleep(chance.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        after_each()


def kill_board_writers(name: str, size: int, seed: int, kills: int) -> None:
    """A writer after the other, each killed at a random moment; then one that publishes the last payload."""
    segment = Segment.open_writer(name)
    words = segment.words(0, len(segment.view()) // 8)
    versions = [(192 + slot * segment.shape[1]) // 8 for slot in range(4)]
    mid_write = 0

    def life() -> None:
        writer = BoardWriter(segment, payload(size))
        while True:
            publish_next(writer)

    def look() -> None:
        nonlocal mid_write
        mid_write += any(words[at] & 1 for at in versions)

    kill_forks(seed, kills, life, look)
    last = 2**62
    BoardWriter(segment, payload(size)).publish(lambda slot: slot["cells"].fill(last))
    say(kills=kills, mid_write=mid_write)


def write_ring(name: str, events: int, batch: int) -> None:
    """Write that many events in batches, flat out, from where the ring stands."""
    writer = RingWriter.open(name)
    ready()
    prepared = numbered(writer.written, batch)
    while writer.written < events:
        writer.write(prepared)
        count_on(prepared, batch)
    say(written=writer.written)


def pour(name: str, events: int, batch: int) -> None:
    """Write that many events in batches, the same bytes each time, and stay."""
    writer = RingWriter.open(name)
    data = numbered(0, batch).tobytes()
    ready()
    for _ in range(events // batch):
        writer.write(data)
    sys.stdin.read()


def read_ring(name: str, events: int, limit: int) -> None:
    """Read until all `events` are accounted for; check every one that is seen."""
    reader = RingReader.open(name)
    torn = seen = takes = laps = 0
    while reader.read + reader.lost < events:
        lost = reader.lost
        batch = reader.take(limit)
        laps += reader.lost > lost
        torn += torn_events(batch, reader.read + reader.lost)
        seen += len(batch)
        takes += 1
        reader.commit()
    say(seen=seen, torn=torn, takes=takes, laps=laps, read=reader.read, lost=reader.lost, pending=reader.pending)


def kill_ring_writers(name: str, seed: int, kills: int, events: int) -> None:
    """Writers killed at random moments, then one that brings `written` to `events` (or further)."""
    segment = Segment.open_writer(name)

    def life() -> None:
        writer = RingWriter(segment)
        while True:
            writer.write(numbered(writer.written, 50))

    kill_forks(seed, kills, life, lambda: None)
    writer = RingWriter(segment)
    killed_at = writer.written
    while writer.written < max(events, killed_at + 1000):
        writer.write(numbered(writer.written, 50))
    say(killed_at=killed_at, written=writer.written)


def kill_ring_readers(name: str, seed: int, kills: int) -> None:
    """Readers that tell a pipe what they deal with before they commit, killed at random moments; then a healthy one."""
    segment = Segment.open_writer(name)
    out, into = os.pipe()
    os.set_blocking(out, False)
    seen = bytearray()

    def life() -> None:
        reader = RingReader(segment)
        while True:
            batch = reader.take(40)
            os.write(into, batch["sequence"].tobytes())  # waits while the pipe is full, so that the lives last
            reader.commit()

    def gather() -> None:
        while True:
            try:
                seen.extend(os.read(out, 1 << 16))
            except BlockingIOError:
                return

    kill_forks(seed, kills, life, gather)
    reader = RingReader(segment)
    left_at_last_death = reader.pending
    while len(batch := reader.take(1 << 12)):
        seen.extend(batch["sequence"].tobytes())
        reader.commit()
    os.close(out)
    os.close(into)
    numbers = np.frombuffer(seen, "<u8") - np.uint64(FIRST_SEQUENCE)
    say(
        seen=len(numbers),
        distinct=len(np.unique(numbers)),
        newest=int(numbers.max()),
        left_at_last_death=left_at_last_death,
        read=reader.read,
        lost=reader.lost,
        quarantined=reader.quarantined,
    )


def write_rows(name: str) -> None:
    """Append flat out, for ever."""
    writer = RowsWriter.open(name, ROW)
    ready()
    while True:
        append_next(writer)


def append_next(writer: RowsWriter) -> None:
    number = writer.written

    def fill(row: NDArray[Any]) -> None:
        row["number"] = number
        in_portions(row["cells"], number)

    writer.append(fill)


def read_rows(name: str, windows: int, count: int) -> None:
    """Read windows of `count` rows; every row must be whole and stand in its place."""
    reader = RowsReader.open(name, ROW)
    torn = rows = cut = 0
    for _ in range(windows):
        window = reader.last(count)
        torn += int((window["cells"] != window["number"][:, None]).any(axis=1).sum())
        torn += int((np.diff(window["number"].astype(np.int64)) != 1).sum())
        rows += len(window)
        cut += len(window) < count
    say(windows=windows, rows=rows, torn=torn, cut=cut)


SCALARS = (0x0102030405060708, 0x7A7B7C7D7E7F7071)
"""Two numbers without a byte in common: a store that is not whole shows as a third."""


def beat(instance: str, name: str) -> None:
    """Beat flat out, for ever, with one of two numbers."""
    heartbeat = Heartbeat.open(instance, name)
    ready()
    while True:
        for number in SCALARS:
            heartbeat.beat(ready=True, engine_ns=number, sequence=number, lag_events=number, errors=number, work=number)


def kill_rows_writers(name: str, seed: int, kills: int) -> None:
    """Writers of rows killed at random moments, while this very process reads after each death."""
    segment = Segment.open_writer(name)
    reader = RowsReader.open(name, ROW)
    torn = served = 0

    def life() -> None:
        writer = RowsWriter(segment, ROW)
        while True:
            append_next(writer)

    def look() -> None:
        nonlocal torn, served
        window = reader.last(reader.capacity)
        served += len(window) > 0
        torn += int((window["cells"] != window["number"][:, None]).any(axis=1).sum())

    append_next(RowsWriter(segment, ROW))
    kill_forks(seed, kills, life, look)
    say(kills=kills, served=served, torn=torn, written=reader.written)


def own(name: str, size: int) -> None:
    """Create a board and stay."""
    segment = create_board(name, payload(size))
    BoardWriter(segment, payload(size)).publish(lambda slot: slot["cells"].fill(7))
    ready()
    sys.stdin.read()


def attach(name: str, size: int, how: str, with_tracker: bool) -> None:
    """Attach and exit in order, or stay to be killed; also from a process in which a resource tracker runs."""
    from multiprocessing import resource_tracker, shared_memory

    if with_tracker:
        other = shared_memory.SharedMemory(create=True, size=64)
        other.close()
        other.unlink()
    opened: BoardReader | BoardWriter
    if how == "read":
        opened = BoardReader.open(name, payload(size))
        assert opened.read()["cells"][0] == 7
    else:
        opened = BoardWriter.open(name, payload(size))
        opened.publish(lambda slot: slot["cells"].fill(7))
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    say(tracker=tracker is not None)
    sys.stdin.read()


def fill_up(instance: str, buckets: int) -> None:
    """Start an instance that has no room, then go around the check and ask for the memory itself."""
    config = parse({"daemon": {"instance": instance}, "symbols": {"BTC": {"buckets": buckets}}})
    try:
        create_all(config)
    except SharedMemoryFull as error:
        refused = {"message": str(error), "needed": error.needed_bytes, "free": error.free_bytes}
    left = list(segments_in(f"liqmap.{instance}."))
    backed = ""
    for plan in segments_of(config):
        try:
            plan.create().close()
        except SharedMemoryFull as error:
            backed = str(error)
            unbacked = plan.name
            break
    made = list(segments_in(f"liqmap.{instance}."))
    small = create_board(f"liqmap.{instance}.live.SMALL", live_dtype(2, 64))
    BoardWriter(small, live_dtype(2, 64)).publish(lambda frame: frame["projection_usd"].fill(1))
    say(refused=refused, left=left, backed=backed, unbacked_is_gone=unbacked not in made, served=True)


ACTS: dict[str, Callable[..., None]] = {
    act.__name__: act
    for act in (
        write_board,
        read_board,
        read_board_until,
        kill_board_writers,
        write_ring,
        pour,
        read_ring,
        kill_ring_writers,
        kill_ring_readers,
        write_rows,
        read_rows,
        kill_rows_writers,
        beat,
        own,
        attach,
        fill_up,
    )
}

if __name__ == "__main__":
    ACTS[sys.argv[1]](*json.loads(sys.argv[2]))

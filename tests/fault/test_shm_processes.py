"""Real processes on shared memory: a writer flat out, readers beside it, and deaths at any moment.

The numbers of reads are those the project promises (a million in the suite, ten million in `make bench`); nothing here
depends on how long they take.
"""

from collections.abc import Iterator

import pytest

from liqmap.shm.board import BoardReader, BoardWriter, create_board
from liqmap.shm.ring import RingReader, RingWriter, create_ring, ring_counters
from liqmap.shm.rows import create_rows
from liqmap.shm.segment import Segment
from liqmap.shm.status import create_status, read_heartbeats
from tests.fault.shm_actors import ROW, SCALARS, payload
from tests.fault.shm_stage import actor, seed
from tests.numbered import numbered, torn_events

SUITE_READS = {256: 700_000, 16_384: 400_000}
"""Reads by payload size in bytes: small payloads race the versions, large ones the copy."""

KILLS = 100


@pytest.fixture
def segments() -> Iterator[list[Segment]]:
    made: list[Segment] = []
    yield made
    for segment in made:
        segment.unlink()
        segment.close()


@pytest.mark.parametrize("size", SUITE_READS)
def test_a_million_reads_beside_a_writer_flat_out_and_none_is_torn(
    instance: str, segments: list[Segment], size: int
) -> None:
    board = create_board(f"liqmap.{instance}.live.BTC", payload(size))
    segments.append(board)
    BoardWriter(board, payload(size)).publish(lambda slot: slot["cells"].fill(1))
    many, few = SUITE_READS[size] * 9 // 10, SUITE_READS[size] // 10
    with actor("write_board", board.name, size) as writer:
        assert writer.line() == "ready"
        with (
            actor("read_board", board.name, size, many, 1000) as one,
            actor("read_board", board.name, size, few, 10) as two,
        ):
            results = [one.result(), two.result()]
        assert writer.process.poll() is None, "it wrote until the end"
    assert sum(result["reads"] for result in results) >= SUITE_READS[size]
    assert [(result["torn"], result["backward"]) for result in results] == [(0, 0)] * 2


def test_the_suite_reads_a_million_times() -> None:
    assert sum(SUITE_READS.values()) >= 1_000_000


@pytest.mark.parametrize("size", [256, 16_384])
def test_readers_are_served_while_a_hundred_writers_are_killed(
    instance: str, segments: list[Segment], size: int
) -> None:
    board = create_board(f"liqmap.{instance}.live.BTC", payload(size))
    segments.append(board)
    BoardWriter(board, payload(size)).publish(lambda slot: slot["cells"].fill(1))
    with (
        actor("read_board_until", board.name, size, 2**62) as reader,
        actor("kill_board_writers", board.name, size, seed(), KILLS) as killer,
    ):
        assert reader.line() == "ready"
        killed = killer.result()
        served = reader.result()
    assert killed["kills"] == KILLS
    assert killed["mid_write"] > 0, "some died in the middle of a payload"
    assert (served["torn"], served["backward"]) == (0, 0)
    assert served["reads"] > KILLS


def test_every_event_is_read_or_counted_as_lost_when_a_writer_laps_its_reader(
    instance: str, segments: list[Segment]
) -> None:
    events = 1_500_000 // 64 * 64
    ring = create_ring(f"liqmap.{instance}.ring.BTC", 1024)
    segments.append(ring)
    with (
        actor("read_ring", ring.name, events, 512) as reader,
        actor("write_ring", ring.name, events, 64) as writer,
    ):
        assert writer.line() == "ready"
        while writer.process.poll() is None and (counters := ring_counters(ring)).written < events:
            assert counters.read + counters.lost + counters.pending == counters.written
            assert counters.pending >= 0
        assert writer.result() == {"written": events}
        result = reader.result()
    assert result["torn"] == 0
    assert result["read"] == result["seen"]
    assert result["read"] + result["lost"] + result["pending"] == events
    assert result["pending"] == 0
    assert result["laps"] > 0, "the reader was lapped"
    assert result["seen"] > 0


def test_a_reader_that_keeps_pace_loses_nothing(instance: str, segments: list[Segment]) -> None:
    ring = create_ring(f"liqmap.{instance}.ring.BTC", 1 << 17)
    segments.append(ring)
    events = 100_000 // 64 * 64  # fits the ring, so that no pause of either process can cost an event
    with actor("read_ring", ring.name, events, 4096) as reader, actor("write_ring", ring.name, events, 64):
        result = reader.result()
    assert (result["read"], result["lost"], result["torn"]) == (events, 0, 0)


def test_a_ring_survives_a_hundred_killed_writers(instance: str, segments: list[Segment]) -> None:
    ring = create_ring(f"liqmap.{instance}.ring.BTC", 1024)
    segments.append(ring)
    with actor("kill_ring_writers", ring.name, seed(), KILLS, 100_000) as killer:
        reader = RingReader.open(ring.name)
        torn = 0
        while killer.process.poll() is None and reader.pending + reader.read + reader.lost < 100_000:
            batch = reader.take(256)
            torn += torn_events(batch, reader.read + reader.lost)
            reader.commit()
        result = killer.result()
    while len(batch := reader.take(256)):
        torn += torn_events(batch, reader.read + reader.lost)
        reader.commit()
    assert torn == 0
    assert result["killed_at"] > 0
    assert reader.read + reader.lost == result["written"]


def test_killed_ring_readers_lose_nothing(instance: str, segments: list[Segment]) -> None:
    events, kills = 1 << 17, 14
    ring = create_ring(f"liqmap.{instance}.ring.BTC", events)
    segments.append(ring)
    RingWriter(ring).write(numbered(0, events))
    with actor("kill_ring_readers", ring.name, seed(), kills) as killer:
        result = killer.result()
    assert result["left_at_last_death"] > 0, "there was work left for every one of them"
    assert (result["read"], result["lost"]) == (events, 0)
    assert result["newest"] == events - 1
    assert events - result["distinct"] <= result["quarantined"], "whatever was not seen was set aside"
    assert result["quarantined"] <= 40 * kills // 2
    assert result["seen"] - result["distinct"] <= 40 * kills, "repeated are only batches somebody died in"


def test_windows_of_rows_are_whole_beside_a_writer_flat_out(instance: str, segments: list[Segment]) -> None:
    rows = create_rows(f"liqmap.{instance}.minutes.BTC", ROW, 64)
    segments.append(rows)
    with actor("write_rows", rows.name) as writer:
        assert writer.line() == "ready"
        with actor("read_rows", rows.name, 5_000, 64) as reader:
            result = reader.result()
        assert writer.process.poll() is None
    assert result["torn"] == 0
    assert result["cut"] > 0, "the writer overwrote rows under the copy"
    assert result["rows"] > result["windows"]


def test_rows_survive_a_hundred_killed_writers(instance: str, segments: list[Segment]) -> None:
    rows = create_rows(f"liqmap.{instance}.minutes.BTC", ROW, 64)
    segments.append(rows)
    with actor("kill_rows_writers", rows.name, seed(), KILLS) as killer:
        result = killer.result()
    assert (result["torn"], result["served"]) == (0, KILLS)
    assert result["written"] > KILLS


def test_a_scalar_is_never_seen_half_written_or_zero_in_between(instance: str, segments: list[Segment]) -> None:
    status = create_status(instance, ["BTC"])
    segments.append(status)
    with actor("beat", instance, "BTC") as writer:
        assert writer.line() == "ready"
        seen: set[int | None] = set()
        while len(seen) < 2 and writer.process.poll() is None:  # until both were seen, hence both are being stored
            seen.add(read_heartbeats(status)["BTC"].work)
            seen.discard(0)  # before the first beat
        for _ in range(20_000):
            row = read_heartbeats(status)["BTC"]
            seen |= {row.engine_ns, row.sequence, row.lag_events, row.errors, row.work}
            assert row.pid == writer.process.pid
            assert row.ready
    assert seen == set(SCALARS)


def test_a_reader_in_the_same_process_sees_what_another_process_publishes(
    instance: str, segments: list[Segment]
) -> None:
    board = create_board(f"liqmap.{instance}.live.BTC", payload(256))
    segments.append(board)
    reader = BoardReader.open(board.name, payload(256))
    with actor("write_board", board.name, 256) as writer:
        assert writer.line() == "ready"
        while reader.sequence_hint() < 100 and writer.process.poll() is None:
            pass
    hint = reader.sequence_hint()
    assert int(reader.read()["cells"][5]) >= hint >= 100

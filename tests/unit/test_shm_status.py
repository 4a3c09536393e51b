"""The status segment: what time it is, and who is alive."""

import os
from collections.abc import Iterator

import pytest

from liqmap.domain.enums import Source
from liqmap.shm.faults import LayoutMismatch, UnknownProcess
from liqmap.shm.layout import STATUS_PROCESSES
from liqmap.shm.ring import create_ring
from liqmap.shm.segment import Segment
from liqmap.shm.status import (
    Beat,
    ClockRow,
    Heartbeat,
    add_process,
    create_status,
    processes,
    read_clock,
    read_heartbeats,
    reset_heartbeat,
    status_name,
    supervisor_beat,
    write_clock,
)

NEVER = Beat(pid=0, beat_ns=0, ready=False, engine_ns=None, sequence=0, lag_events=None, errors=0, work=0)


@pytest.fixture
def status(instance: str) -> Iterator[Segment]:
    made = create_status(instance, ["ingest", "api", "BTC"])
    yield made
    made.unlink()
    made.close()


def test_a_process_that_never_beat_is_unknown_not_zero(status: Segment) -> None:
    assert read_heartbeats(status) == {"ingest": NEVER, "api": NEVER, "BTC": NEVER}
    assert NEVER.age_s(10**12) is None


def test_a_beat_says_what_it_is_given_and_keeps_the_rest(status: Segment, instance: str) -> None:
    times = iter([5_000_000_000, 6_000_000_000])
    with Segment.open_writer(status_name(instance)) as mine:
        heartbeat = Heartbeat(mine, "BTC", monotonic_ns=lambda: next(times))
    heartbeat.beat(ready=True, engine_ns=17, sequence=(3 << 40) + 5, lag_events=0, errors=2, work=9)
    heartbeat.beat(work=10)
    with Segment.open_reader(status_name(instance)) as reader:
        beats = read_heartbeats(reader)
    assert beats["BTC"] == Beat(os.getpid(), 6_000_000_000, True, 17, (3 << 40) + 5, 0, 2, 10)
    assert beats["BTC"].age_s(8_500_000_000) == 2.5
    assert beats["ingest"] == NEVER


def test_a_restarted_process_begins_blank(status: Segment) -> None:
    Heartbeat(status, "BTC").beat(ready=True, work=9)
    assert read_heartbeats(status)["BTC"].ready
    again = Heartbeat(status, "BTC", pid=4242)
    assert read_heartbeats(status)["BTC"] == Beat(4242, 0, False, None, 0, None, 0, 0)
    again.beat(ready=False)
    assert read_heartbeats(status)["BTC"].beat_ns > 0
    reset_heartbeat(status, "BTC")
    assert read_heartbeats(status)["BTC"] == NEVER


def test_a_process_without_a_row_is_refused_by_name(status: Segment, instance: str) -> None:
    with pytest.raises(UnknownProcess, match="no row for SOL; it has ingest, api, BTC"):
        Heartbeat.open(instance, "SOL")
    assert add_process(status, "SOL") == 3
    assert add_process(status, "SOL") == 3
    Heartbeat.open(instance, "SOL").beat()
    assert processes(status) == ("ingest", "api", "BTC", "SOL")


def test_rows_are_given_out_until_there_are_none(status: Segment) -> None:
    for number in range(STATUS_PROCESSES - 3):
        add_process(status, f"S{number}")
    with pytest.raises(UnknownProcess, match="no row left"):
        add_process(status, "ONE-TOO-MANY")
    with pytest.raises(UnknownProcess, match="1 to 16 letters"):
        add_process(status, "A" * 17)
    assert len(read_heartbeats(status)) == STATUS_PROCESSES


def test_an_adopted_status_keeps_its_rows(status: Segment, instance: str) -> None:
    Heartbeat(status, "BTC", pid=5).beat(work=1)
    status.close()
    again = create_status(instance, ["ingest", "ETH", "BTC"])
    assert processes(again) == ("ingest", "api", "BTC", "ETH")
    assert read_heartbeats(again)["BTC"].pid == 5
    again.close()


def test_the_clock_row_is_read_as_written(status: Segment, instance: str) -> None:
    clock = ClockRow(Source.REPLAY, 1_707_000_000_000_000_000, 1_790_000_000_000_000_000, 600.5, 17, 18, 19)
    with Segment.open_reader(status_name(instance)) as reader:
        assert read_clock(reader) is None
        write_clock(status, clock)
        assert read_clock(reader) == clock
        supervisor_beat(status, 77)
        seen = read_clock(reader)
    assert seen is not None
    assert (seen.supervisor_beat_ns, seen.speed) == (77, 600.5)


def test_another_segment_is_not_a_status(instance: str) -> None:
    ring = create_ring(f"liqmap.{instance}.ring.BTC", 8)
    with pytest.raises(LayoutMismatch):
        read_heartbeats(ring)
    ring.unlink()
    ring.close()

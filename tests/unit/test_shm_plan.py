"""Which segments a configuration needs, and that owning them is all or nothing."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.config import Config, parse
from liqmap.domain.event import Event
from liqmap.shm.board import BoardReader, BoardWriter
from liqmap.shm.faults import SegmentHeld, SegmentMissing, SegmentRetired, SharedMemoryFull
from liqmap.shm.layout import FEEDS
from liqmap.shm.plan import Role, create_all, retire_all, segments_of, symbol_segments, total_bytes
from liqmap.shm.ring import RingReader, RingWriter
from liqmap.shm.rows import RowsReader, RowsWriter
from liqmap.shm.segment import Segment, segments_in
from liqmap.shm.status import Heartbeat, processes, read_heartbeats
from tests.events import events_array


@pytest.fixture
def config() -> Iterator[Config]:
    small = {"buckets": 64}
    made = parse(
        {
            "daemon": {"instance": f"t{os.getpid()}-{secrets.token_hex(3)}"},
            "symbols": {"BTC": small, "ETH": small},
            "ingest": {"ring_events": 1024},
            "history": {"minute_columns": 8, "recent_liquidations": 256},
        }
    )
    yield made
    with contextlib.suppress(SegmentHeld):
        retire_all(made)
    assert not left_of(made)


def left_of(config: Config) -> list[str]:
    return list(segments_in(f"liqmap.{config.daemon.instance}."))


def test_every_planned_segment_is_made_at_its_planned_size_and_nothing_else(config: Config) -> None:
    holding = create_all(config)
    try:
        assert left_of(config) == sorted(plan.name for plan in segments_of(config))
        for segment, plan in zip(holding, segments_of(config), strict=True):
            assert len(segment.view()) == plan.size
        assert sum(len(segment.view()) for segment in holding) == total_bytes(segments_of(config))
        assert processes(holding[Role.STATUS]) == ("ingest", "api", "BTC", "ETH")
    finally:
        holding.retire_all()
    assert not left_of(config)


def test_what_the_plan_makes_its_writers_and_readers_accept(config: Config) -> None:
    def fill(row: NDArray[Any]) -> None:
        row.view(np.uint8)[...] = 7

    holding = create_all(config)
    try:
        for plan in symbol_segments(config, "BTC"):
            match plan.role:
                case Role.RING:
                    RingWriter.open(plan.name).write(events_array([Event(5)]))
                    assert len(RingReader.open(plan.name).take(10)) == 1
                case Role.LIVE:
                    BoardWriter.open(plan.name, plan.dtype).publish(lambda frame: frame["mark_price"].fill(3.5))
                    assert BoardReader.open(plan.name, plan.dtype).read()["mark_price"] == 3.5
                case Role.DEPTH:
                    BoardWriter.open(plan.name, plan.dtype).publish(lambda books: books["as_of_ns"].fill(7))
                    assert BoardReader.open(plan.name, plan.dtype).read()["as_of_ns"] == 7
                case Role.CALIBRATION:
                    BoardWriter.open(plan.name, plan.dtype).publish(lambda learned: learned["applied"].fill(9))
                    assert BoardReader.open(plan.name, plan.dtype).read()["applied"] == 9
                case Role.ZONES:
                    BoardWriter.open(plan.name, plan.dtype).publish(lambda zones: zones["count"].fill(2))
                    assert BoardReader.open(plan.name, plan.dtype).read()["count"] == 2
                case _:
                    RowsWriter.open(plan.name, plan.dtype).append(lambda row: None)
                    assert len(RowsReader.open(plan.name, plan.dtype).last(5)) == 1
        Heartbeat.open(config.daemon.instance, "BTC").beat(ready=True)
        assert read_heartbeats(holding[Role.STATUS])["BTC"].pid == os.getpid()
    finally:
        holding.retire_all()


def test_a_symbol_comes_and_goes_while_the_rest_stays(config: Config) -> None:
    holding = create_all(config)
    try:
        reader = BoardReader.open(holding[Role.LIVE, "ETH"].name, symbol_segments(config, "ETH")[1].dtype)
        holding.retire_symbol("ETH")
        assert not [name for name in left_of(config) if name.endswith(".ETH")]
        with pytest.raises(SegmentRetired):
            reader.read()
        holding.add_symbol(config, "ETH")
        assert left_of(config) == sorted(plan.name for plan in segments_of(config))
        assert BoardReader.open(reader.name, reader.dtype).generation > reader.generation
    finally:
        holding.retire_all()


def test_a_successor_adopts_everything_and_clears_what_nobody_needs(config: Config) -> None:
    first = create_all(config)
    stranger = Segment.create(f"liqmap.{config.daemon.instance}.live.GONE", (), 8, 1024)
    generations = {segment.name: segment.generation for segment in first}
    BoardWriter(first[Role.FEEDS], FEEDS).publish(lambda feeds: feeds["quarantined"].fill(4))
    stranger.close()
    first.close()
    second = create_all(config)
    try:
        assert {segment.name: segment.generation for segment in second} == generations
        assert all(segment.adopted for segment in second)
        assert BoardReader(second[Role.FEEDS], FEEDS).read()["quarantined"] == 4
        with pytest.raises(SegmentMissing):
            Segment.open_reader(stranger.name)
    finally:
        second.retire_all()


def test_a_second_daemon_of_the_same_instance_is_refused_and_harms_nothing(config: Config) -> None:
    holding = create_all(config)
    try:
        with pytest.raises(SegmentHeld, match=str(os.getpid())):
            create_all(config)
        assert not any(segment.retired for segment in holding)
        assert left_of(config) == sorted(plan.name for plan in segments_of(config))
    finally:
        holding.retire_all()


@pytest.mark.parametrize("room_for", range(12))
def test_when_memory_ends_in_the_middle_what_was_made_is_taken_back(
    config: Config, monkeypatch: pytest.MonkeyPatch, room_for: int
) -> None:
    backed = 0

    def fallocate(fd: int, offset: int, size: int) -> None:
        nonlocal backed
        if backed == room_for:
            raise OSError(errno.ENOSPC, "No space left on device")
        backed += 1

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    with pytest.raises(SharedMemoryFull, match="/dev/shm is full"):
        create_all(config)
    assert left_of(config) == []


def test_without_room_nothing_is_touched(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = total_bytes(segments_of(config))
    monkeypatch.setattr("liqmap.shm.plan.free_bytes", lambda: needed - 1)
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: pytest.fail("it began to make segments"))
    with pytest.raises(SharedMemoryFull) as caught:
        create_all(config)
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (needed, needed - 1)
    assert f"needs {needed} bytes" in str(caught.value)


def test_what_can_be_adopted_needs_no_new_room(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    create_all(config).close()
    monkeypatch.setattr("liqmap.shm.plan.free_bytes", lambda: 0)
    create_all(config).retire_all()

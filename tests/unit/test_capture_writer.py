"""Captures while they are written: bounded, each file readable alone, and every frame that is left out is told."""

import errno
import json
import os
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from liqmap.config.records import CaptureConfig
from liqmap.domain.enums import Venue
from liqmap.ingest.handoff import Frames, Opened
from liqmap.ingest.recorded_turns import LeftOut, NoRecording, RecordedTurns, is_recording
from liqmap.store.capture import Capture, RecordKind
from liqmap.store.capture_writer import CaptureWriter, FrameLine
from tests.waiting import wait_until

NOW_NS = 1_790_000_000_000_000_000
CONNECTION = "bybit/trades#1"
FRAME = b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1790000000000,"data":[]}'


def writer(directory: Path, **settings: Any) -> CaptureWriter:
    made = CaptureWriter(directory, CaptureConfig(enabled=True, **settings), {"source": "simulated"})
    made.line(t="connect", conn=CONNECTION, ns=NOW_NS, addr="wss://stream.bybit.com/v5/public/linear")
    return made


def frames(capture: CaptureWriter, number: int, raw: bytes = FRAME, count: int = 1) -> None:
    capture.frames_of(FrameLine(CONNECTION, NOW_NS + number, [raw] * count, 0))


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("capture-*.jsonl.gz"))


def held(directory: Path) -> list[Frames]:
    """What the files hold so far; a file that is there may still be empty."""
    found = [path for path in files(directory) if path.stat().st_size]
    return [step for step in RecordedTurns(found) if isinstance(step, Frames)] if found else []


def lines(path: Path) -> list[dict[str, Any]]:
    text, rest = b"", path.read_bytes()
    while rest:
        inflate = zlib.decompressobj(31)
        text += inflate.decompress(rest)
        rest = inflate.unused_data
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_given_is_read_back_as_it_was(tmp_path: Path) -> None:
    capture = writer(tmp_path)
    frames(capture, 1, count=3)
    frames(capture, 2, b"\xff\xfe no text \x00")
    capture.close()
    steps = list(RecordedTurns(files(tmp_path)))
    assert steps == [
        Opened("bybit/trades", 1, NOW_NS),
        Frames("bybit/trades", 1, NOW_NS + 1, [FRAME] * 3),
        Frames("bybit/trades", 1, NOW_NS + 2, [b"\xff\xfe no text \x00"]),
    ]
    assert is_recording(files(tmp_path)[0])
    records = [record for record in Capture(files(tmp_path)[0]) if record.kind is RecordKind.FRAME]
    assert [(record.venue, record.route, record.receive_ns) for record in records] == [
        (Venue.BYBIT, "linear", NOW_NS + 1)
    ] * 3


def test_what_a_second_brought_is_on_disk_before_anybody_closes(tmp_path: Path) -> None:
    capture = writer(tmp_path)
    frames(capture, 1)
    wait_until(lambda: files(tmp_path) and len(lines(files(tmp_path)[0])) == 3, "header, connect, frame")
    assert capture.standing().state == 1
    capture.close()


def test_a_full_file_is_closed_and_the_next_can_be_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liqmap.store.capture_writer._MEMBER_BYTES", 2**21)
    capture = writer(tmp_path, file_bytes=2**20, keep_bytes=2**30)
    noise = os.urandom(1_200_000).hex().encode()  # each fills a member: nobody waits for the second to pass
    for number in range(4):
        frames(capture, number, noise)
    capture.close()
    assert len(files(tmp_path)) == 4
    for path in files(tmp_path):
        assert [line["t"] for line in lines(path)][:2] == ["header", "connect"]
    told = [step for step in RecordedTurns(files(tmp_path)) if isinstance(step, Opened | Frames)]
    assert len(told) == 5, "one connection, four frames: what is said again is not played again"
    alone = [step for step in RecordedTurns(files(tmp_path)[1:2]) if isinstance(step, Opened)]
    assert len(alone) == 1


def test_the_oldest_files_are_given_up(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"capture-20200101T00000{number}Z-0001.jsonl.gz").write_bytes(bytes(2**20))
    capture = writer(tmp_path, file_bytes=2**20, keep_bytes=3 * 2**20)
    frames(capture, 1)
    capture.close()
    left = [path.name[8:24] for path in files(tmp_path)][:-1]
    assert left == ["20200101T000003Z", "20200101T000004Z"]


def test_a_slow_disk_costs_frames_that_are_counted_and_stalls_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stuck, release = threading.Event(), threading.Event()
    sync = os.fdatasync

    def slow(fd: int) -> None:
        stuck.set()
        release.wait(30)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    capture = writer(tmp_path, queue_bytes=2**16)
    frames(capture, 0)
    assert stuck.wait(20)
    big = b"x" * 10_000
    for number in range(1, 21):
        frames(capture, number, big)
    standing = capture.standing()
    assert standing.state == 2
    left_out = standing.lost
    assert 10 <= left_out < 20
    release.set()
    wait_until(lambda: capture.standing().state == 2 and capture._waiting < 2**15, "the disk to catch up")
    frames(capture, 30)
    assert capture.standing().state == 1
    capture.close()
    turns = RecordedTurns(files(tmp_path))
    steps = list(turns)
    holes = [step for step in steps if isinstance(step, LeftOut)]
    assert holes == [LeftOut(NOW_NS + 21 - left_out, NOW_NS + 20, left_out)]
    assert sum(len(step.messages) for step in steps if isinstance(step, Frames)) == 22 - left_out
    said = [record.getMessage() for record in caplog.records]
    assert said.count("the disk is too slow for the capture: frames are left out") == 1
    assert said.count("the capture is complete again") == 1


def test_a_full_disk_is_said_once_and_what_follows_stands_in_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    full = threading.Event()
    write = os.write

    def limited(fd: int, data: bytes) -> int:
        if full.is_set() and data.startswith(b"\x1f\x8b"):
            if len(data) < 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(fd, data[: len(data) // 2])
        return write(fd, data)

    monkeypatch.setattr(os, "write", limited)
    capture = writer(tmp_path)
    frames(capture, 1)
    wait_until(lambda: held(tmp_path), "the first member")
    full.set()
    for number in (2, 3):
        lost = capture.standing().lost
        frames(capture, number)
        wait_until(lambda lost=lost: capture.standing().lost == lost + 1, "a lost member")  # type: ignore[misc]
    assert capture.standing().state == 2
    assert capture.fault == "No space left on device"
    full.clear()
    frames(capture, 4)
    wait_until(lambda: capture.standing().state == 1, "room again")
    capture.close()
    steps = list(RecordedTurns(files(tmp_path)))
    assert len(files(tmp_path)) == 2
    assert [step.receive_ns - NOW_NS for step in steps if isinstance(step, Frames)] == [1, 4]
    assert [step for step in steps if isinstance(step, LeftOut)] == [LeftOut(NOW_NS + 2, NOW_NS + 3, 2)]
    said = [record.getMessage() for record in caplog.records]
    assert sum("the capture cannot be written" in line for line in said) == 1
    assert said.count("the capture is written again") == 1


def test_a_file_cut_anywhere_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    capture = writer(tmp_path)
    for number in range(40):
        frames(capture, number)
    capture.close()
    path = files(tmp_path)[0]
    whole = path.read_bytes()
    full = list(RecordedTurns([path]))
    for cut in range(20, len(whole), 7):
        path.write_bytes(whole[:cut])
        turns = RecordedTurns([path])
        steps = list(turns)
        assert steps == full[: len(steps)]
        assert turns.losses == 1


def test_a_foreign_format_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "capture-1.jsonl.gz"
    path.write_text('{"t":"header","format":"liqmap capture 7"}\n')
    with pytest.raises(NoRecording, match="format 'liqmap capture 7', this program reads 'liqmap capture 1'"):
        list(RecordedTurns([path]))

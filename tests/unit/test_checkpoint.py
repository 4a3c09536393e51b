"""Checkpoints on disk: the newest whole one is used, every other is reported with its place, and a kill loses none."""

import errno
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from liqmap.store import checkpoint as room
from liqmap.store.checkpoint import CheckpointStore
from liqmap.store.state_codec import StateCodec

ABOUT = {"symbol": "BTC", "step": "20.0"}


def store(directory: Path, about: dict[str, str] | None = None) -> CheckpointStore:
    return CheckpointStore(directory, "BTC", StateCodec([]), about or ABOUT)


def state(number: int) -> list[Any]:
    return [number, np.full(300, float(number)), {"a": (1.5, None)}]


def number_of(found: room.Checkpoint | None) -> int | None:
    return None if found is None else int(found.state[0])


def test_the_newest_is_read_and_the_one_before_it_kept(tmp_path: Path) -> None:
    kept = store(tmp_path / "checkpoint")
    assert kept.read() == (None, [])
    for number in (1, 2, 3):
        kept.write(state(number), sequence=100 + number, engine_ns=10**18 + number, sync=number == 3)
    found, faults = kept.read()
    assert found is not None and faults == []
    assert (found.state[0], found.sequence, found.engine_ns) == (3, 103, 10**18 + 3)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["BTC.ckpt", "BTC.ckpt.previous"]
    (tmp_path / "checkpoint" / "BTC.ckpt").unlink()
    assert number_of(kept.read()[0]) == 2


@pytest.mark.finding("M25")
@pytest.mark.finding("M31")
@pytest.mark.parametrize("how", ["cut", "flip"])
def test_damage_anywhere_is_reported_and_the_one_before_is_used(tmp_path: Path, how: str) -> None:
    kept = store(tmp_path)
    kept.write(state(1), 1, 1)
    kept.write(state(2), 2, 2)
    newest, previous = tmp_path / "BTC.ckpt", tmp_path / "BTC.ckpt.previous"
    whole, before = newest.read_bytes(), previous.read_bytes()
    places = [*range(200), *range(200, len(whole), 97), len(whole) - 1]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 0x40
        newest.write_bytes(whole[:place] if how == "cut" else changed)
        previous.write_bytes(before)
        found, faults = kept.read()
        assert number_of(found) == 1
        assert len(faults) == 1
        assert str(newest) in str(faults[0]) and "at byte" in str(faults[0])
        assert not newest.exists() and (tmp_path / "BTC.ckpt.refused").exists(), "kept for people to look at"
        assert previous.exists()


@pytest.mark.finding("M25")
def test_when_both_are_damaged_both_are_reported(tmp_path: Path) -> None:
    kept = store(tmp_path)
    for number in (1, 2):
        kept.write(state(number), number, number)
    (tmp_path / "BTC.ckpt").write_bytes(b"")
    (tmp_path / "BTC.ckpt.previous").write_bytes(b"something else altogether, and long enough for a header")
    found, faults = kept.read()
    assert found is None
    assert [fault.path.name for fault in faults] == ["BTC.ckpt", "BTC.ckpt.previous"]
    kept.write(state(3), 3, 3)
    assert number_of(kept.read()[0]) == 3


def test_another_version_or_another_spec_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path).write(state(1), 1, 1)
    found, faults = store(tmp_path, {**ABOUT, "step": "10.0"}).read()
    assert found is None
    assert faults[0].why == "it is of step 20.0, here it is 10.0"
    store(tmp_path).write(state(1), 1, 1)
    monkeypatch.setattr(room, "VERSION", 2)
    found, faults = store(tmp_path).read()
    assert found is None
    assert faults[0].why == "it is of checkpoint version 1, this program reads version 2"


@pytest.mark.finding("M28")
def test_killed_at_any_line_of_a_write_the_old_or_the_new_state_stands(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.write(state(1), 1, 1)
    kept.write(state(2), 2, 2)
    looked: list[int | None] = []

    def look(_frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            sys.settrace(None)
            copy = tmp_path / f"copy{len(looked)}"
            copy.mkdir()
            for path in tmp_path.glob("*.ckpt*"):
                (copy / path.name).write_bytes(path.read_bytes())
            looked.append(number_of(store(copy).read()[0]))
            sys.settrace(look)
        return look

    sys.settrace(look)
    try:
        kept.write(state(3), 3, 3)
    finally:
        sys.settrace(None)
    looked.append(number_of(kept.read()[0]))
    assert len(looked) > 20
    assert set(looked) == {2, 3}


@pytest.mark.finding("H1")
def test_a_full_disk_is_loud_and_costs_nothing_that_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store(tmp_path)
    kept.write(state(1), 1, 1)

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.write(state(2), 2, 2, sync=True)
    assert number_of(kept.read()[0]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["BTC.ckpt"], "and no scratch file is left"


def test_what_a_killed_predecessor_was_writing_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".BTC.ckpt.4711.new").write_bytes(b"half")
    (tmp_path / ".ETH.ckpt.4712.new").write_bytes(b"another's")
    store(tmp_path).read()
    assert [path.name for path in tmp_path.iterdir()] == [".ETH.ckpt.4712.new"]

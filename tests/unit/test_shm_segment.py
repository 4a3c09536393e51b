"""Segments: made, adopted, retired, never taken from under anybody, and locks that prove one writer."""

import multiprocessing.shared_memory
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liqmap.shm.faults import (
    LayoutMismatch,
    SegmentForeign,
    SegmentHeld,
    SegmentMissing,
    SegmentRetired,
    SharedMemoryFault,
    WriterLockHeld,
)
from liqmap.shm.layout import LAYOUT_VERSION, SEGMENT_HEADER
from liqmap.shm.segment import Segment, WriterLock, free_bytes

SIZE = 8192
BODY = SEGMENT_HEADER.itemsize


@pytest.fixture
def name(instance: str) -> str:
    return f"liqmap.{instance}.live.BTC"


def make(name: str, shape: tuple[int, ...] = (4, 9), item_size: int = 16, size: int = SIZE, **more: Any) -> Segment:
    return Segment.create(name, shape, item_size, size, **more)


def end(*segments: Segment) -> None:
    for segment in segments:
        segment.unlink()
        segment.close()


def test_a_new_segment_is_private_backed_by_memory_and_blank(name: str) -> None:
    segment = make(name, fingerprint=99)
    found = (Path("/dev/shm") / name).stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_blocks * 512 >= SIZE == found.st_size
    assert (segment.shape, segment.item_size, segment.fingerprint) == ((4, 9, 0, 0), 16, 99)
    assert (segment.owner_pid, segment.retired, segment.adopted) == (os.getpid(), False, False)
    assert not any(segment.view()[BODY:])
    end(segment)


def test_the_umask_of_the_operator_does_not_open_or_close_a_segment(name: str) -> None:
    former = os.umask(0)
    try:
        segment = make(name)
    finally:
        os.umask(former)
    assert stat.S_IMODE((Path("/dev/shm") / name).stat().st_mode) == 0o600
    end(segment)


def test_a_reader_cannot_write(name: str) -> None:
    segment = make(name)
    with Segment.open_reader(name) as reader:
        assert not reader.writable
        assert not reader.array(np.dtype("<u8"), BODY, 4).flags.writeable
        with pytest.raises(TypeError):
            reader.words(BODY, 4)[0] = 1
        with pytest.raises(TypeError):
            reader.retire()
    end(segment)


def test_a_writer_and_a_reader_see_the_same_bytes(name: str) -> None:
    segment = make(name)
    with Segment.open_writer(name) as writer, Segment.open_reader(name) as reader:
        writer.words(BODY, 2)[1] = 2**63 + 5
        writer.words(BODY + 16, 1, "q")[0] = -7
        writer.reals(BODY + 24, 1)[0] = 0.1
        assert reader.words(BODY, 2)[1] == segment.words(BODY, 2)[1] == 2**63 + 5
        assert reader.words(BODY + 16, 1, "q")[0] == -7
        assert reader.reals(BODY + 24, 1)[0] == 0.1
        assert reader.generation == writer.generation == segment.generation
    end(segment)


def test_an_equal_segment_of_a_predecessor_is_adopted_with_its_content(name: str) -> None:
    first = make(name)
    first.words(BODY, 1)[0] = 42
    first.close()
    second = make(name)
    assert second.adopted
    assert second.generation == first.generation
    assert second.words(BODY, 1)[0] == 42
    end(second)


@pytest.mark.parametrize(
    "other",
    [
        {"shape": (4, 10)},
        {"item_size": 24},
        {"size": SIZE + 64},
        {"fingerprint": 5},
        {"checksums": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_an_unequal_one_is_retired_and_replaced(name: str, other: dict[str, Any]) -> None:
    first = make(name)
    first.words(BODY, 1)[0] = 42
    reader = Segment.open_reader(name)
    first.close()
    second = make(name, **other)
    assert not second.adopted
    assert second.generation > first.generation
    assert not second.words(BODY, 1)[0]
    assert reader.retired
    with Segment.open_reader(name) as reopened:
        assert reopened.generation == second.generation
    end(second)


@pytest.mark.parametrize("field, number", [("layout_version", LAYOUT_VERSION + 1), ("state", 2), ("magic", 0)])
def test_another_layout_a_retired_or_an_unfinished_one_is_not_adopted(name: str, field: str, number: int) -> None:
    first = make(name)
    first.words(0, 16)[first.word(field)] = number
    first.close()
    second = make(name)
    assert not second.adopted
    assert second.generation > first.generation
    end(second)


@pytest.mark.parametrize("left", [b"", b"x" * 100, b"x" * 8191])
def test_rubbish_under_the_name_is_replaced(name: str, left: bytes) -> None:
    (Path("/dev/shm") / name).write_bytes(left)
    with pytest.raises(SharedMemoryFault):
        Segment.open_reader(name)
    with pytest.raises(SharedMemoryFault):
        Segment.open_writer(name)
    segment = make(name)
    assert not segment.adopted
    end(segment)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a segment of another user")
def test_a_segment_of_another_user_is_left_alone(name: str) -> None:
    first = make(name)
    first.close()
    os.chown(Path("/dev/shm") / name, 65534, 65534)
    with pytest.raises(SegmentForeign, match="another user"):
        make(name)
    assert (Path("/dev/shm") / name).exists()
    os.chown(Path("/dev/shm") / name, os.geteuid(), os.getegid())
    end(make(name))


def test_an_owned_segment_is_not_taken_from_its_living_owner(name: str) -> None:
    first = make(name)
    with pytest.raises(SegmentHeld) as caught:
        make(name)
    assert caught.value.pid == os.getpid()
    assert "\n" not in str(caught.value)
    assert not first.retired
    end(first)


@pytest.mark.parametrize("opener", [Segment.open_reader, Segment.open_writer])
def test_opening_says_what_is_wrong(name: str, opener: Any) -> None:
    with pytest.raises(SegmentMissing):
        opener(name)
    segment = make(name)
    words = segment.words(0, 16)
    for field, wrong, fault in [
        ("magic", 0, SegmentMissing),
        ("layout_version", 99, LayoutMismatch),
        ("size", SIZE - 8, LayoutMismatch),
        ("state", 2, SegmentRetired),
    ]:
        right = words[segment.word(field)]
        words[segment.word(field)] = wrong
        with pytest.raises(fault) as caught:
            opener(name)
        assert type(caught.value) is fault
        words[segment.word(field)] = right
    opener(name).close()
    end(segment)


def test_views_outlive_close_unlink_and_the_segment_object(name: str) -> None:
    segment = make(name)
    array = segment.array(np.dtype("<u8"), BODY, 16)
    reader = Segment.open_reader(name)
    seen = reader.array(np.dtype("<u8"), BODY, 16)
    end(segment)
    reader.close()
    del segment, reader
    array[:] = 11  # a mapping closed by force would end the process here
    assert seen.tolist() == [11] * 16


def test_a_closed_segment_gives_no_new_views(name: str) -> None:
    segment = make(name)
    segment.close()
    with pytest.raises(ValueError, match="closed"):
        segment.view()
    end(make(name))


def test_a_failed_mapping_does_not_remove_the_segment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    segment = make(name)
    with monkeypatch.context() as patched:
        patched.setattr(multiprocessing.shared_memory.mmap, "mmap", no_memory)  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="Cannot allocate"):
            Segment.open_writer(name)
    Segment.open_writer(name).close()
    end(segment)


def test_other_users_of_the_standard_module_keep_their_tracker(name: str) -> None:
    tracker = multiprocessing.shared_memory.resource_tracker  # type: ignore[attr-defined]
    end(make(name))
    assert multiprocessing.shared_memory.resource_tracker is tracker  # type: ignore[attr-defined]


def test_free_bytes_is_what_the_file_system_says() -> None:
    room = os.statvfs("/dev/shm")
    assert abs(free_bytes() - room.f_bavail * room.f_frsize) < 2**30


def test_a_lock_names_its_holder_and_refuses_a_second(tmp_path: Path) -> None:
    path = tmp_path / "BTC.lock"
    with WriterLock(path):
        assert WriterLock.pid_in(path) == os.getpid()
        with pytest.raises(WriterLockHeld) as caught:
            WriterLock(path)
        assert caught.value.pid == os.getpid()
        assert str(path) in str(caught.value)
    with WriterLock(path):
        assert path.exists()


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    path = tmp_path / "BTC.lock"
    code = (
        "import sys; from pathlib import Path; from liqmap.shm.segment import WriterLock;"
        "lock = WriterLock(Path(sys.argv[1])); sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(WriterLockHeld) as caught:
            WriterLock(path)
        assert caught.value.pid == holder.pid
        holder.kill()
        holder.wait(30)
    with WriterLock(path):
        assert WriterLock.pid_in(path) == os.getpid()


def test_a_lock_without_a_directory_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WriterLock(tmp_path / "missing" / "BTC.lock")
    assert WriterLock.pid_in(tmp_path / "none.lock") == 0


def test_no_scalar_is_packed_into_memory_that_others_read() -> None:
    """struct.pack_into clears the bytes first: measured, a fifth of the readers of a scalar saw zeros in between."""
    rooms = (Path(__file__).parents[2] / "liqmap" / "shm").glob("*.py")
    assert not [path for path in rooms if "pack_into(" in path.read_text()]

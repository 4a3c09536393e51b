"""Bad frames on disk: readable, bounded, and a full disk is said once."""

import json
import logging
from pathlib import Path

import pytest

from liqmap.store.quarantine import BadFact, Quarantine


def bad(number: int, size: int = 10) -> BadFact:
    return BadFact(number * 10**9, "okx", "facts", "truncated", "data.0.px", b"\xff" * size, size)


def lines(directory: Path) -> list[dict[str, object]]:
    files = [directory / "frames.1.jsonl", directory / "frames.jsonl"]
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def test_a_frame_is_kept_with_why_and_where(tmp_path: Path) -> None:
    Quarantine(tmp_path / "q", 10, 65536).keep(bad(1))
    [line] = lines(tmp_path / "q")
    assert line["why"] == "truncated"
    assert line["field"] == "data.0.px"
    assert str(line["frame"]).encode("latin-1") == b"\xff" * 10


@pytest.mark.parametrize(("max_frames", "max_bytes", "size"), [(20, 10**7, 10), (10**6, 20_000, 900)])
def test_the_newest_are_kept_and_the_bound_holds_also_across_a_restart(
    tmp_path: Path, max_frames: int, max_bytes: int, size: int
) -> None:
    for first in (0, 50):
        quarantine = Quarantine(tmp_path, max_frames, max_bytes)
        for number in range(first, first + 50):
            quarantine.keep(bad(number, size))
    kept = lines(tmp_path)
    assert len(kept) <= max_frames
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= max_bytes
    assert [line["at_ns"] for line in kept] == [n * 10**9 for n in range(100 - len(kept), 100)]


@pytest.mark.parametrize("name", ["frames.jsonl", "frames.1.jsonl"])
@pytest.mark.parametrize(
    "found",
    [b"x" * 100_000, b"\xff\x00\n" * 40_000, b'{"at_ns":1}\n' * 50_000, b'{"at_ns":1}\n{"at_', b"\n" * 70_000, b""],
    ids=["one foreign line", "binary", "an older, looser limit", "torn", "empty lines", "empty"],
)
def test_what_is_found_at_the_start_is_brought_within_the_bounds(tmp_path: Path, name: str, found: bytes) -> None:
    (tmp_path / name).write_bytes(found)
    quarantine = Quarantine(tmp_path, 100, 60_000)
    assert quarantine.size_bytes == len(found)
    for number in range(2, 40):
        quarantine.keep(bad(number, 100))
        files = [file.read_bytes() for file in tmp_path.iterdir()]
        assert sum(map(len, files)) == quarantine.size_bytes <= 60_000
        assert sum(file.count(b"\n") for file in files) <= 100
    assert json.loads((tmp_path / "frames.jsonl").read_text().splitlines()[-1])["at_ns"] == 39 * 10**9
    assert quarantine.kept == 38


def test_a_frame_larger_than_the_bounds_allow_is_counted_only(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, 100, 4_000)
    quarantine.keep(bad(1, 5_000))
    assert (quarantine.kept, quarantine.skipped, quarantine.size_bytes) == (0, 1, 0)


def test_a_flood_is_cut_per_second(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, 10**6, 10**7)
    for _ in range(1000):
        quarantine.keep(bad(7))
    assert quarantine.kept == 200
    assert quarantine.skipped == 800


def test_a_disk_that_takes_nothing_is_said_once_with_its_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "q").write_text("a file where a directory should be")
    quarantine = Quarantine(tmp_path / "q", 10, 65536)
    for number in range(5):
        quarantine.keep(bad(number))
    assert quarantine.failed == 5
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info

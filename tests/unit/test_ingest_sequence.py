"""Sequence numbers are never used twice: the epoch is on disk before its first number."""

import errno
from pathlib import Path

import pytest

from liqmap.ingest import sequence
from liqmap.ingest.sequence import EpochUnreadable, EpochUnwritable, first_sequence, next_epoch


def test_an_epoch_is_on_disk_before_its_first_number_and_never_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "ingest.epoch"
    epochs = [next_epoch(path) for _ in range(3)]
    assert epochs == [1, 2, 3]
    assert path.read_text() == "3\n"
    assert first_sequence(2) - first_sequence(1) == 1 << 40
    assert [entry.name for entry in path.parent.iterdir()] == ["ingest.epoch"]


def test_a_lost_file_does_not_bring_back_numbers_that_stand_in_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "ingest.epoch"
    assert next_epoch(path, beyond=7) == 8
    assert next_epoch(path, beyond=3) == 9
    assert path.read_text() == "9\n"


@pytest.mark.parametrize("content", [b"", b"seven", b"-1", b"16777215", b"\xff"])
def test_an_epoch_file_that_is_no_number_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ingest.epoch"
    path.write_bytes(content)
    with pytest.raises(EpochUnreadable, match=r"ingest\.epoch"):
        next_epoch(path)
    assert path.read_bytes() == content


def test_on_a_full_disk_an_epoch_is_written_over_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ingest.epoch"
    path.write_text("9\n")

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sequence, "write_atomic", full)
    assert (next_epoch(path), next_epoch(path), path.read_text()) == (10, 11, "11\n")
    with pytest.raises(EpochUnwritable, match="No space left"):
        next_epoch(tmp_path / "other.epoch")

"""The epoch of this ingest: a number that was never used before, kept in one small file.

Sequence number of an event = (epoch << 40) + counter, per symbol. A new epoch is on disk before the first number of it
is given out, so no number is ever given twice, whatever dies.
"""

import errno
import os
from pathlib import Path
from typing import Final

from liqmap.domain.event import SEQUENCE_EPOCH_SHIFT
from liqmap.store.atomic import write_atomic

_LARGEST: Final = (1 << (64 - SEQUENCE_EPOCH_SHIFT)) - 1


class EpochUnwritable(Exception):
    """The epoch cannot be written down: without that no number may be given out."""


class EpochUnreadable(Exception):
    """The epoch file says something else than a number: giving out numbers could repeat old ones."""


def next_epoch(path: Path, beyond: int = 0) -> int:
    """Take the next epoch and write it down. `beyond`: the newest epoch that is known to have been used, should the
    file be lost. Raises EpochUnreadable, EpochUnwritable."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = "0"
    except UnicodeDecodeError as error:
        raise EpochUnreadable(f"{path}: not a number") from error
    if not text.isdecimal() or not 0 <= int(text) < _LARGEST:
        raise EpochUnreadable(f"{path}: {text[:40]!r} is not an epoch (0 to {_LARGEST - 1})")
    epoch = max(int(text), beyond) + 1
    content = f"{epoch}\n".encode("ascii")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
    except OSError as error:
        raise EpochUnwritable(f"{path} cannot be written: {error.strerror}") from error
    return epoch


def _write(path: Path, content: bytes) -> None:
    """On a full disk over the old content, where it needs no room: a restart must not fail for a few bytes, and a
    number of a few digits, never shorter than the one before, is not torn by anything short of a dying disk."""
    try:
        write_atomic(path, content)
    except OSError as error:
        if error.errno != errno.ENOSPC or not path.exists():
            raise
        with path.open("r+b") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def first_sequence(epoch: int) -> int:
    """The first sequence number of an epoch."""
    return (epoch << SEQUENCE_EPOCH_SHIFT) + 1

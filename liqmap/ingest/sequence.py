"""The epoch of this ingest: a number that was never used before, kept in one small file.

Sequence number of an event = (epoch << 40) + counter, per symbol. A new epoch is on disk before the first number of it
is given out, so no number is ever given twice, whatever dies.
"""

from pathlib import Path
from typing import Final

from liqmap.domain.event import SEQUENCE_EPOCH_SHIFT
from liqmap.store.atomic import write_atomic

_LARGEST: Final = (1 << (64 - SEQUENCE_EPOCH_SHIFT)) - 1


class EpochUnreadable(Exception):
    """The epoch file says something else than a number: giving out numbers could repeat old ones."""


def next_epoch(path: Path) -> int:
    """Take the next epoch and write it down. Raises OSError, EpochUnreadable."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = "0"
    except UnicodeDecodeError as error:
        raise EpochUnreadable(f"{path}: not a number") from error
    if not text.isdecimal() or not 0 <= int(text) < _LARGEST:
        raise EpochUnreadable(f"{path}: {text[:40]!r} is not an epoch (0 to {_LARGEST - 1})")
    epoch = int(text) + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f"{epoch}\n".encode("ascii"))
    return epoch


def first_sequence(epoch: int) -> int:
    """The first sequence number of an epoch."""
    return (epoch << SEQUENCE_EPOCH_SHIFT) + 1

"""What ingest says about the disk: bad frames set aside and why, the journal, the capture."""

from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from liqmap.client.words import text
from liqmap.domain.enums import Venue

OFF: Final = "off"
WRITTEN: Final = "written"
FAILING: Final = "failing"

_STATES: Final = (OFF, WRITTEN, FAILING)


@dataclass(frozen=True, slots=True)
class BadFrames:
    """Frames of one venue that were set aside for one reason, and when the last one was."""

    venue: str
    why: str
    count: int
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What became of the frames that could not be used: `seen` = `kept` + `skipped` (too many at once, too large)
    + `failed` (the disk did not take them). `bytes` are on disk now; `reasons` begin with the most frequent."""

    seen: int
    kept: int
    skipped: int
    failed: int
    bytes: int
    reasons: tuple[BadFrames, ...]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The journal or the capture: `off`, `written`, or `failing` while the disk does not take it. `lost`: events (of a
    capture: frames) that are not in it since ingest was started."""

    state: str
    bytes: int
    lost: int


@dataclass(frozen=True, slots=True)
class Kept:
    """All of it."""

    quarantine: Quarantine
    journal: OnDisk
    capture: OnDisk

    @property
    def failing(self) -> bool:
        """Something that should be written is not."""
        return FAILING in (self.journal.state, self.capture.state)

    def problems(self) -> list[str]:
        """In words."""
        found = []
        if self.journal.state == FAILING:
            found.append(f"the journal is not written, the disk does not take it: {self.journal.lost} events are lost")
        if self.capture.state == FAILING:
            found.append(f"the capture is not written, the disk does not take it: {self.capture.lost} frames are lost")
        return found


NOTHING_KEPT: Final = Kept(Quarantine(0, 0, 0, 0, 0, ()), OnDisk(OFF, 0, 0), OnDisk(OFF, 0, 0))
"""Ingest has not said anything."""


def decode(board: NDArray[Any]) -> Kept:
    """What a feeds board says about the disk."""
    reasons = tuple(
        BadFrames(
            Venue(int(row["venue"])).name.lower(),
            text(row["why"]),
            int(row["count"]),
            int(row["last_ns"]) // 1_000_000 if row["last_ns"] >= 0 else None,
        )
        for row in board["reasons"][: int(board["reason_count"])]
    )
    return Kept(
        Quarantine(
            seen=int(board["quarantined"]),
            kept=int(board["quarantine_kept"]),
            skipped=int(board["quarantine_skipped"]),
            failed=int(board["quarantine_failed"]),
            bytes=int(board["quarantine_bytes"]),
            reasons=reasons,
        ),
        OnDisk(_STATES[int(board["journal_state"])], int(board["journal_bytes"]), int(board["journal_unwritten"])),
        OnDisk(_STATES[int(board["capture_state"])], int(board["capture_bytes"]), int(board["capture_dropped"])),
    )

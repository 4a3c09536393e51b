"""Where bad frames are kept for a person to look at: one JSON line each, in two files that replace each other.

    {"at_ns", "venue", "link", "why", "field", "size", "frame"}      `frame`: Latin-1 text of its first bytes

Bounded, also together and after any restart: each of the two files holds at most half of `max_frames` and of
`max_bytes`; when the newer is full the older one is given up. What is found at the start counts: a file that is larger
than its half (an older, looser limit; somebody else's) is cut down to its newest whole lines, and a line torn by a
crash is cut off. A disk that does not take a line is logged once, counted, and tried again with the next frame: what
matters, the count, is kept by the caller anyway.
"""

import logging
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from liqmap.logs import fields
from liqmap.store.atomic import write_atomic

_FRAME_BYTES: Final = 4096
_PER_SECOND: Final = 200
"""A flood of bad frames is counted by the caller; two hundred of a second are enough to look at."""

log = logging.getLogger(__name__)


class BadFact(NamedTuple):
    """One frame that was set aside. `field`: dotted path of the culprit, "" for the whole frame."""

    at_ns: int
    venue: str
    link: str
    why: str
    field: str
    frame: bytes
    size: int


class Quarantine:
    """One writer. The directory is made when the first frame comes."""

    def __init__(self, directory: Path, max_frames: int, max_bytes: int) -> None:
        self._newer = directory / "frames.jsonl"
        self._older = directory / "frames.1.jsonl"
        self._max_frames = max_frames // 2
        self._max_bytes = max_bytes // 2
        self._frames: int | None = None
        self._newer_bytes, self._older_bytes = _size(self._newer), _size(self._older)
        self._second = self._in_second = 0
        self.kept = 0
        self.skipped = 0
        self.failed = 0

    @property
    def size_bytes(self) -> int:
        """On disk now."""
        return self._newer_bytes + self._older_bytes

    def keep(self, bad: BadFact) -> None:
        """Write it down, unless there were many in this second or a line of it is larger than the bounds allow. Never
        raises for a disk that is full."""
        second = bad.at_ns // 1_000_000_000
        self._in_second = self._in_second + 1 if second == self._second else 1
        self._second = second
        line = orjson.dumps({**bad._asdict(), "frame": bad.frame[:_FRAME_BYTES].decode("latin-1")}) + b"\n"
        if self._in_second > _PER_SECOND or len(line) > self._max_bytes or not self._max_frames:
            self.skipped += 1
            return
        try:
            self._append(line)
        except OSError as error:
            if self.failed == 0:
                log.exception("quarantine cannot be written", extra=fields(file=str(self._newer), reason=str(error)))
            self.failed += 1
            return
        self.kept += 1

    def _append(self, line: bytes) -> None:
        if self._frames is None:
            self._newer.parent.mkdir(parents=True, exist_ok=True)
            _, self._older_bytes = self._within_bounds(self._older)
            self._frames, self._newer_bytes = self._within_bounds(self._newer)
        if self._frames >= self._max_frames or self._newer_bytes + len(line) > self._max_bytes:
            if self._newer.exists():
                self._newer.replace(self._older)
            self._older_bytes, self._frames, self._newer_bytes = self._newer_bytes, 0, 0
        try:
            with self._newer.open("ab") as file:
                file.write(line)
        except OSError:
            self._frames = None  # nobody knows how much of the line stands: look again before the next one
            raise
        self._frames += 1
        self._newer_bytes += len(line)

    def _within_bounds(self, path: Path) -> tuple[int, int]:
        """Lines and bytes of a file that is there, cut down to the newest whole lines that the bounds allow."""
        if not path.exists():
            return 0, 0
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - self._max_bytes))
            found = file.read(self._max_bytes)
        if size > self._max_bytes:
            found = found[found.find(b"\n") + 1 :]
        lines = found[: found.rfind(b"\n") + 1].splitlines(keepends=True)[-self._max_frames :]
        kept = b"".join(lines)
        if len(kept) != size:
            log.warning("quarantine cut", extra=fields(file=str(path), bytes=size, kept=len(kept)))
            write_atomic(path, kept)
        return len(lines), len(kept)


def _size(path: Path) -> int:
    """Bytes of a file; one that cannot be looked at counts when it is written to."""
    try:
        return path.stat().st_size
    except OSError:
        return 0

"""Where bad frames are kept for a person to look at: one JSON line each, in two files that replace each other.

    {"at_ns", "venue", "link", "why", "field", "size", "frame"}      `frame`: Latin-1 text of its first bytes

Bounded: each of the two files holds at most half of `max_frames` and of `max_bytes`; when the newer is full the older
one is given up. A disk that does not take a line is logged once, counted, and tried again with the next frame: what
matters, the count, is kept by the caller anyway.
"""

import logging
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from liqmap.logs import fields

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
        self._max_frames = max(1, max_frames // 2)
        self._max_bytes = max_bytes // 2
        self._frames: int | None = None
        self._bytes = 0
        self._second = self._in_second = 0
        self.kept = 0
        self.skipped = 0
        self.failed = 0

    def keep(self, bad: BadFact) -> None:
        """Write it down, unless there were many in this second. Never raises for a disk that is full."""
        second = bad.at_ns // 1_000_000_000
        self._in_second = self._in_second + 1 if second == self._second else 1
        self._second = second
        if self._in_second > _PER_SECOND:
            self.skipped += 1
            return
        line = orjson.dumps({**bad._asdict(), "frame": bad.frame[:_FRAME_BYTES].decode("latin-1")}) + b"\n"
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
            known = self._newer.read_bytes() if self._newer.exists() else b""
            self._frames, self._bytes = known.count(b"\n"), len(known)
        if self._frames >= self._max_frames or self._bytes + len(line) > self._max_bytes:
            if self._newer.exists():
                self._newer.replace(self._older)
            self._frames = self._bytes = 0
        with self._newer.open("ab") as file:
            file.write(line)
        self._frames += 1
        self._bytes += len(line)

"""What a killed predecessor may have left behind, and how it is cleared away before anything new is made.

Children die with their supervisor, but it takes them a moment; one that does not go is killed, when it is proved ours:
it holds open a lock file of this instance. The lock of the instance itself is what makes us the only supervisor.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from liqmap.config import Config
from liqmap.domain.enums import Source
from liqmap.logs import fields
from liqmap.shm.faults import LayoutMismatch
from liqmap.shm.layout import segment_name
from liqmap.shm.plan import Role, retire_all
from liqmap.shm.segment import Segment, SegmentMissing, WriterLock, WriterLockHeld
from liqmap.shm.status import read_clock

log = logging.getLogger(__name__)

SUPERVISOR_LOCK: Final = "supervisor"
PATIENCE_S: Final = 3.0


class LeftoverStays(Exception):
    """A child of a predecessor holds its lock and does not go away."""


def clear_children(run_dir: Path) -> None:
    """Wait until no child of a predecessor holds a lock of this instance; kill what does not go. Raises LeftoverStays.

    Only with the lock of the instance in hand: until then the children may belong to a living supervisor.
    """
    for lock in sorted(run_dir.glob("*.lock")):
        if lock.stem != SUPERVISOR_LOCK:
            _clear(lock)


def clear_segments(config: Config, source: Source) -> None:
    """Remove the shared memory of a predecessor whose market was another one: a simulation and a replay always begin
    anew, and live data never continues anything else. What stays is adopted."""
    name = segment_name(config.daemon.instance, Role.STATUS.value)
    try:
        with Segment.open_reader(name) as segment:
            clock = read_clock(segment)
    except (SegmentMissing, LayoutMismatch):
        clock = None
    if source is not Source.LIVE or clock is None or clock.source is not Source.LIVE:
        retire_all(config)


def holders(path: Path) -> Iterator[int]:
    """Pids of our user's processes, other than this one, that hold the file open."""
    wanted = path.stat()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            opened = [link.stat() for link in (entry / "fd").iterdir()]
        except OSError:
            continue  # it has ended, or is not ours to look at
        if any((file.st_dev, file.st_ino) == (wanted.st_dev, wanted.st_ino) for file in opened):
            yield int(entry.name)


def _clear(lock: Path) -> None:
    give_up = time.monotonic() + 2 * PATIENCE_S
    kill_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            WriterLock(lock).close()
            return
        except WriterLockHeld as error:
            held = error
        now = time.monotonic()
        if now >= give_up:
            raise LeftoverStays(f"{lock} is held by process {held.pid}, which does not go away")
        if now >= kill_at:
            for pid in holders(lock):
                log.warning("killing a child of a predecessor", extra=fields(pid=pid, lock=lock.name))
                _kill(pid)
        time.sleep(0.05)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it went by itself

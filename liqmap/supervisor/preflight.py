"""What `liqmapd --check` looks at beside the file itself: can its directories be written, its address be listened on,
its shared memory be had? Tried, then undone; a running daemon of the same instance is left in peace."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from liqmap.config import Config, Paths, paths
from liqmap.shm.plan import segments_of, total_bytes
from liqmap.shm.segment import WriterLock, WriterLockHeld, free_bytes
from liqmap.supervisor.leftovers import SUPERVISOR_LOCK
from liqmap.supervisor.sockets import BindFailed, listen


class DirectoryUnwritable(Exception):
    """A directory of this instance cannot be made or written; the text says which and why."""


def make_directories(where: Paths) -> None:
    """Make the directories of the instance. Raises DirectoryUnwritable."""
    for directory in (where.run_dir, where.log_dir, where.lib_dir):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError as error:
            raise DirectoryUnwritable(f"{directory} cannot be written: {error.strerror}") from error


def faults(config: Config, base_dir: Path) -> Iterator[str]:
    """What stands in the way of starting now, one line each. Nothing, while the instance runs: then the address and
    the memory are its own, and the question is whether it could be reloaded."""
    where = paths(config, str(base_dir))
    try:
        make_directories(where)
    except DirectoryUnwritable as error:
        yield str(error)
        return
    if _is_held(where.lock(SUPERVISOR_LOCK)):
        return
    try:
        listen(config, base_dir).close()
    except BindFailed as error:
        yield str(error)
    needed, free = total_bytes(segments_of(config)), free_bytes()
    if needed > free:
        yield f"/dev/shm has {free} bytes free, {needed} are needed"


def summary(config: Config, base_dir: Path) -> Iterator[str]:
    """What this configuration takes of the machine, for the reader of `--check`."""
    where = paths(config, str(base_dir))
    needed, free = total_bytes(segments_of(config)), free_bytes()
    yield f"run {where.run_dir}, log {where.log_dir}, lib {where.lib_dir}"
    yield f"shared memory: {needed / 2**20:.1f} MiB for {len(config.enabled_symbols)} symbols, {free / 2**20:.1f} free"
    room = os.statvfs(where.lib_dir if where.lib_dir.exists() else base_dir)
    lock = where.lock(SUPERVISOR_LOCK)
    if _is_held(lock):
        pid = WriterLock.pid_in(lock)
        yield f"instance {config.daemon.instance} is running (pid {pid}): its address and memory are not tried"
    yield f"disk: {room.f_bavail * room.f_frsize / 2**30:.1f} GiB free"


def _is_held(lock: Path) -> bool:
    try:
        WriterLock(lock).close()
    except WriterLockHeld:
        return True
    except OSError:
        return False
    return False

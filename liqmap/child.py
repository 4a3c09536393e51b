"""What every child of the supervisor does: take its lock, beat, die with its parent, stop when asked.

    with open_child("ingest", effective_path) as child:
        while not child.should_stop():
            work(child.clock)
            child.beat(ready=True, engine_ns=..., sequence=...)

A child started by hand works the same; it only has no supervisor to die with, and logs to the terminal as well.
Signal handlers do nothing but set flags: the loop of the child decides when it looks at them, so no work is ever cut
in half. Ends the process, with one line, by exit code 78 for a configuration fault and 75 when something outside
stands in the way (another process holds the name, the shared memory is not there).
"""

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from liqmap import logs
from liqmap.clock import ReplayClock, ReplayTime, SystemClock
from liqmap.config import (
    EXIT_CONFIG,
    EXIT_TRY_AGAIN,
    Config,
    ConfigError,
    Effective,
    Paths,
    RunMode,
    load_effective,
    paths,
)
from liqmap.domain.enums import Source
from liqmap.logs import fields
from liqmap.shm.faults import LayoutMismatch, SegmentForeign, SegmentMissing, UnknownProcess, WriterLockHeld
from liqmap.shm.segment import WriterLock
from liqmap.shm.status import Heartbeat

SUPERVISOR_PID: Final = "LIQMAP_SUPERVISOR_PID"
"""Environment variable by which the supervisor tells a child whose child it is (not configuration)."""

_PR_SET_PDEATHSIG: Final = 1

log = logging.getLogger(__name__)


class OrphanError(Exception):
    """The supervisor ended before this child came to life."""


_IN_THE_WAY: Final = (WriterLockHeld, SegmentMissing, LayoutMismatch, SegmentForeign, UnknownProcess, OrphanError)
"""Faults of the surroundings that another try may not meet again."""


class Flag(threading.Event):
    """An Event that a signal handler may set while the same thread is inside `wait` or `clear`.

    The plain one holds an ordinary lock for a moment there, and a handler that wants it then waits for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition(threading.RLock())


class Child:
    """One running child: its configuration, its clock, and the flags its signal handlers set.

    `stop` is set by TERM and INT, `reload` by HUP (the child clears it), USR1 makes the next `beat` reopen the log.
    """

    def __init__(self, name: str, effective: Effective, effective_path: Path) -> None:
        self.name = name
        self.effective = effective
        self.effective_path = effective_path
        self.stop = Flag()
        self.reload = Flag()
        self.clock: SystemClock = clock_of(effective.mode)
        self._reopen = Flag()
        self._parent = os.getppid()
        self._heartbeat: Heartbeat | None = None

    @property
    def config(self) -> Config:
        """The configuration this child was started with (or last re-read)."""
        return self.effective.config

    @property
    def mode(self) -> RunMode:
        """Live, simulated or replay."""
        return self.effective.mode

    @property
    def paths(self) -> Paths:
        """Where this instance keeps its files."""
        return paths(self.config, self.effective.base_dir)

    def reread(self) -> Effective:
        """Read the effective configuration again (after `reload`). Raises ConfigError and then changes nothing."""
        self.reload.clear()
        self.effective = load_effective(self.effective_path)
        return self.effective

    def should_stop(self) -> bool:
        """True when asked to stop, or when the parent has gone and nobody will ask."""
        if os.getppid() != self._parent and not self.stop.is_set():
            log.warning("the parent process is gone, stopping", extra=fields(parent=self._parent))
            self.stop.set()
        return self.stop.is_set()

    def beat(
        self,
        *,
        ready: bool | None = None,
        engine_ns: int | None = None,
        sequence: int | None = None,
        lag_events: int | None = None,
        errors: int | None = None,
        work: int | None = None,
    ) -> None:
        """Sign of life for the supervisor and for /health; at least once a second. See layout.HEARTBEAT.

        What is left out stays as it was. `ready` says that the child does its work; until then silence is measured
        by the start timeout, afterwards by the heartbeat timeout. Call it also during a long recovery.
        """
        if self._reopen.is_set():
            self._reopen.clear()
            reopen_logs()
        if self._heartbeat is not None:
            self._heartbeat.beat(
                ready=ready,
                engine_ns=engine_ns,
                sequence=sequence,
                lag_events=lag_events,
                errors=errors,
                work=work,
            )

    def attach(self, heartbeat: Heartbeat) -> None:
        """Beat into this row from now on."""
        self._heartbeat = heartbeat

    def install_signal_handlers(self) -> None:
        """TERM and INT → stop, HUP → reload, USR1 → reopen the log. Main thread only."""
        for number, flag in (
            (signal.SIGTERM, self.stop),
            (signal.SIGINT, self.stop),
            (signal.SIGHUP, self.reload),
            (signal.SIGUSR1, self._reopen),
        ):
            signal.signal(number, _setter(flag))


@contextmanager
def open_child(name: str, effective_path: Path | str, *, handle_signals: bool = True) -> Iterator[Child]:
    """The surroundings of a child called `name` (its lock, log file and heartbeat row carry that name).

    `handle_signals=False` leaves the signals to whoever already handles them (gunicorn).
    Raises SystemExit with 78 or 75 and one line in the log; everything else that escapes the body is a bug and is
    logged with its traceback.
    """
    with ExitStack() as stack:
        try:
            effective = load_effective(Path(effective_path))
            child = Child(name, effective, Path(effective_path))
            _start_log(child)
            die_with_parent()
            child._parent = os.getppid()
            stack.enter_context(WriterLock(child.paths.lock(name)))
            child.attach(Heartbeat.open(effective.config.daemon.instance, name, os.getpid()))
            if handle_signals:
                child.install_signal_handlers()
            child.beat()
            log.info("started", extra=fields(pid=os.getpid(), source=Source(effective.mode.source).name.lower()))
            yield child
            log.info("ended", extra=fields(pid=os.getpid()))
        except ConfigError as error:
            log.critical(str(error))
            raise SystemExit(EXIT_CONFIG) from None
        except _IN_THE_WAY as error:
            log.critical(str(error))
            raise SystemExit(EXIT_TRY_AGAIN) from None


def clock_of(mode: RunMode) -> SystemClock:
    """Engine time of this run: the recording's in a replay, the machine's otherwise."""
    if mode.source == Source.REPLAY:
        return ReplayClock(ReplayTime(mode.engine_origin_ns, mode.wall_origin_ns, mode.speed))
    return SystemClock()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends. Raises OrphanError when too late.

    Only when a supervisor started it: a child started by hand may outlive its shell. The signal is KILL, because a
    stopped or hung child acts on nothing else, and losing power is a case every child has to survive anyway.
    """
    expected = os.environ.get(SUPERVISOR_PID)
    if expected is None:
        return
    if not signal_at_parents_end(signal.SIGKILL, int(expected)):
        raise OrphanError(f"the supervisor {expected} ended before this process started")


def signal_at_parents_end(number: signal.Signals, parent: int) -> bool:
    """Ask the kernel for that signal when the thread that started this process ends; False: `parent` is gone already.

    Raises OSError where the kernel cannot do it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent


def reopen_logs() -> None:
    """Open the log file anew, and send what is written to stderr (native crashes) there too if it went to a file."""
    logs.reopen()
    for handler in logging.getLogger().handlers:
        stream = getattr(handler, "stream", None)
        if isinstance(handler, logging.FileHandler) and stream is not None and SUPERVISOR_PID in os.environ:
            os.dup2(stream.fileno(), 2)


def _start_log(child: Child) -> None:
    daemon = child.config.daemon
    child.paths.log_dir.mkdir(parents=True, exist_ok=True)
    child.paths.run_dir.mkdir(parents=True, exist_ok=True)
    terminal = None if SUPERVISOR_PID in os.environ else sys.stderr
    file = child.paths.log(child.name)
    logs.setup(child.name, daemon.log_level, file, daemon.log_max_bytes, daemon.log_keep, terminal)


def _setter(flag: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handler(_number: int, _frame: FrameType | None) -> None:
        flag.set()

    return handler

"""The processes of the children: starting them, signalling them, burying them, weighing them.

A child is a fresh interpreter in a session of its own, so that a Ctrl-C on the terminal reaches only the supervisor and
that a whole family (gunicorn and its workers) can be killed at once. What it writes to stderr goes to its log file.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from liqmap.child import SUPERVISOR_PID
from liqmap.config.home import PACKAGE_ROOT
from liqmap.logs import fields

log = logging.getLogger(__name__)

_ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""numpy starts no threads in a child: nothing here needs them, and a worker has none."""

_NOT_FOR_CHILDREN: Final = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "GUNICORN_CMD_ARGS",
    }
)
"""Between the service manager and us; and only the configuration file configures."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one child. `arguments` follow the interpreter; `inherit` are file descriptors it is given."""

    name: str
    arguments: tuple[str, ...]
    log_file: Path
    inherit: tuple[int, ...] = ()
    nice: int = 0
    family: bool = False
    """It has children of its own, whose use of the machine counts as its own."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a child takes of the machine; NaN while it is not known."""

    cpu_pct: float = float("nan")
    rss_mb: float = float("nan")


@dataclass(slots=True)
class _Running:
    launch: Launch
    process: subprocess.Popen[bytes]
    started_ns: int
    """CLOCK_MONOTONIC."""
    members: dict[int, psutil.Process] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


class Children:
    """All living processes, by the name of their child. For the main thread only."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def spawn(self, launch: Launch) -> int:
        """Start a process and return its pid. Raises OSError when the system refuses.

        On the main thread only: the kernel kills the child when the thread that started it ends.
        """
        assert threading.current_thread() is threading.main_thread()
        assert launch.name not in self._running, f"{launch.name} has a process already"
        started_ns = time.monotonic_ns()
        with launch.log_file.open("ab") as log_file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", *launch.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                pass_fds=launch.inherit,
                start_new_session=True,
                env=_environment(),
            )
        self._running[launch.name] = _Running(launch, process, started_ns)
        if launch.nice:
            self._renice(process.pid, launch.nice)
        return process.pid

    def pid(self, name: str) -> int | None:
        """The pid of a living child."""
        running = self._running.get(name)
        return running.process.pid if running else None

    def started_ns(self, name: str) -> int | None:
        """When the living process was started, CLOCK_MONOTONIC."""
        running = self._running.get(name)
        return running.started_ns if running else None

    def usage(self, name: str) -> Usage:
        """The last weighing."""
        running = self._running.get(name)
        return running.usage if running else Usage()

    def send(self, name: str, *signals: signal.Signals) -> None:
        """Signals for the child's main process, in order."""
        running = self._running.get(name)
        if running is not None:
            for number in signals:
                os.kill(running.process.pid, number)  # Popen.send_signal would bury the dead itself

    def kill(self, name: str) -> None:
        """SIGKILL for the whole family."""
        running = self._running.get(name)
        if running is not None:
            _kill_group(running.process.pid)

    def reap(self) -> list[tuple[str, int]]:
        """Bury the dead: names and exit codes (-signal for a signal). What is left of their families is killed first,
        while the pid is still theirs, so that no successor meets a relative of its predecessor."""
        dead = []
        for name, running in list(self._running.items()):
            pid = running.process.pid
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)
            code = running.process.wait()
            del self._running[name]
            dead.append((name, code))
        return dead

    def reap_strangers(self) -> None:
        """Bury orphans that were handed to us because we are process 1 (in a container)."""
        if os.getpid() != 1:
            return
        ours = {running.process.pid for running in self._running.values()}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                return
            os.waitpid(found.si_pid, os.WNOHANG)

    def weigh(self) -> None:
        """Measure CPU (since the last time) and memory of every child."""
        for running in self._running.values():
            try:
                running.usage = _weigh(running)
            except psutil.Error:
                running.usage = Usage()

    @property
    def names(self) -> tuple[str, ...]:
        """Children with a living process."""
        return tuple(self._running)

    def _renice(self, pid: int, nice: int) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, pid, nice)
        except OSError as error:
            log.warning("cannot lower a child's priority", extra=fields(pid=pid, reason=error.strerror))


def _weigh(running: _Running) -> Usage:
    pid = running.process.pid
    leader = running.members.setdefault(pid, psutil.Process(pid))
    family = [leader, *(leader.children(recursive=True) if running.launch.family else ())]
    known = {process.pid: running.members.get(process.pid, process) for process in family}
    running.members = known
    cpu_pct, rss = 0.0, 0
    for process in known.values():
        try:
            cpu_pct += process.cpu_percent(None)
            rss += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return Usage(cpu_pct, rss / 2**20)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    return {**kept, **_ONE_THREAD, SUPERVISOR_PID: str(os.getpid()), "PYTHONPATH": _python_path()}


def _python_path() -> str:
    """Children import the same code as the supervisor."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = [part for part in inherited if part and Path(part).resolve() != PACKAGE_ROOT]
    return os.pathsep.join([str(PACKAGE_ROOT), *rest])


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody is left

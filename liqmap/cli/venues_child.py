"""The simulated venues as a child of a command: three servers on loopback in a process of their own, gone with it."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from liqmap.child import SUPERVISOR_PID
from liqmap.clock import SystemClock
from liqmap.config import Config, Effective, RunMode, paths, write_effective
from liqmap.config.simulation import SIMULATED_VENUES
from liqmap.domain.enums import Source
from liqmap.shm.faults import SegmentForeign, SegmentHeld
from liqmap.shm.memory import segments_in
from liqmap.shm.segment import Segment
from liqmap.shm.status import create_status, read_heartbeats
from liqmap.supervisor.modes import endpoints_at, with_endpoints

_START_S: Final = 120.0
_TURN_S: Final = 0.05
_END_S: Final = 5.0


class VenuesFailed(Exception):
    """The simulated venues did not come up; the text says what they said last."""


@contextmanager
def simulated_venues(config: Config, base_dir: str) -> Iterator[Config]:
    """The configuration whose venues are simulated while the context is open. Raises VenuesFailed, OSError."""
    instance = f"record-{os.getpid()}"
    with ExitStack() as stack:
        var = stack.enter_context(tempfile.TemporaryDirectory(prefix="liqmap-record-"))
        daemon = msgspec.structs.replace(config.daemon, instance=instance, var_dir=var)
        own = msgspec.structs.replace(config, daemon=daemon)
        _clear_what_killed_ones_left()
        status = create_status(instance, ["sim"])
        stack.callback(status.close)
        stack.callback(status.unlink)
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256)) for _ in SIMULATED_VENUES]
        effective = Path(var) / "effective.json"
        write_effective(Effective(own, RunMode(source=int(Source.SIMULATED)), base_dir), effective)
        descriptors = [listening.fileno() for listening in sockets]
        command = [sys.executable, "-m", "liqmap.sim", "--effective", str(effective)]
        command += ["--fds", ",".join(map(str, descriptors))]
        child = subprocess.Popen(
            command,
            pass_fds=descriptors,
            stderr=subprocess.DEVNULL,
            env={**os.environ, SUPERVISOR_PID: str(os.getpid())},
            start_new_session=True,  # Ctrl-C is for the command; it ends its child when it is done
        )
        stack.callback(_end, child)
        deadline_ns = SystemClock().monotonic_ns() + int(_START_S * 1e9)
        while not read_heartbeats(status)["sim"].ready:
            if child.poll() is not None or SystemClock().monotonic_ns() > deadline_ns:
                raise VenuesFailed(_last_line(paths(own, base_dir).log("sim")))
            SystemClock().wait(threading.Event(), _TURN_S)
        ports = {venue: listening.getsockname()[1] for venue, listening in zip(SIMULATED_VENUES, sockets, strict=True)}
        yield with_endpoints(config, endpoints_at(ports))


def _clear_what_killed_ones_left() -> None:
    """A command that was killed could not remove its shared memory."""
    for name in segments_in("liqmap.record-"):
        with contextlib.suppress(SegmentHeld, SegmentForeign):
            left = Segment.take_over(name)
            if left is not None:
                left.unlink()
                left.close()


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _last_line(log: Path) -> str:
    try:
        return log.read_text().strip().splitlines()[-1]
    except (OSError, IndexError):
        return "the simulated venues ended without a word"

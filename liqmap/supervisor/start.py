"""From a run to a living supervisor: everything is acquired in order, and given back in the opposite one.

instance lock → log → what a predecessor left → sockets → effective configuration → shared memory → signals → the loop.
Whatever an operator can put right ends in StartFailed with one clear line and the exit code for it.
"""

import logging
import socket
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from liqmap import logs
from liqmap.config import EXIT_BUG, EXIT_CONFIG, EXIT_TRY_AGAIN, Config, Effective, paths, write_effective
from liqmap.config.simulation import SIMULATED_VENUES
from liqmap.domain.enums import Source, Venue
from liqmap.shm.faults import SegmentForeign, SegmentHeld, SharedMemoryFull, UnknownProcess, WriterLockHeld
from liqmap.shm.segment import WriterLock
from liqmap.supervisor.estate import Estate
from liqmap.supervisor.household import Household
from liqmap.supervisor.leftovers import SUPERVISOR_LOCK, LeftoverStays, clear_children, clear_segments
from liqmap.supervisor.main import Supervisor
from liqmap.supervisor.modes import Run, endpoints_at, with_endpoints
from liqmap.supervisor.notify import Notifier
from liqmap.supervisor.preflight import DirectoryUnwritable, make_directories
from liqmap.supervisor.roster import SIM, Simulation
from liqmap.supervisor.signals import signal_queue
from liqmap.supervisor.sockets import BindFailed, listen, listen_on_loopback, listen_privately

log = logging.getLogger(__name__)


class StartFailed(Exception):
    """The daemon cannot start now. The text is one line for the operator; `exit_code` is 75 or 78."""

    def __init__(self, text: str, exit_code: int = EXIT_TRY_AGAIN) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def serve(run: Run, terminal: logging.Handler | None = None) -> None:
    """Run the daemon until it is asked to stop. `terminal` gets the readable lines; the log file gets everything.

    Raises ConfigError, StartFailed, and after a bug SystemExit with 70 (the traceback is in the log).
    """
    config = run.read()
    where = paths(config, str(run.base_dir))
    with ExitStack() as stack:
        _take_instance(config, run.base_dir, stack)
        _start_log(config, where.log("supervisor"), terminal)
        try:
            clear_children(where.run_dir)
        except LeftoverStays as error:
            raise StartFailed(str(error)) from error
        config, simulation = _venue_servers(config, run, stack)
        try:
            listening = listen(config, run.base_dir)
        except BindFailed as error:
            raise StartFailed(str(error)) from error
        except OSError as error:
            raise StartFailed(f"cannot listen on api.bind = {config.api.bind}: {error}", EXIT_CONFIG) from error
        stack.callback(listening.close)
        effective = Effective(config=config, mode=run.mode, base_dir=str(run.base_dir))
        try:
            write_effective(effective, where.effective)
        except OSError as error:
            raise StartFailed(f"{where.effective} cannot be written: {error.strerror}") from error
        estate = _take_estate(effective, simulation)
        notifier = Notifier()
        stack.callback(notifier.close)
        supervisor = Supervisor(run, effective, estate, listening, simulation, Household(config.supervisor), notifier)
        with _BugsEndIt(estate), signal_queue() as signals:
            supervisor.run(signals)
        estate.retire()
        for left in (where.effective, where.effective.with_suffix(".new")):
            left.unlink(missing_ok=True)


class _BugsEndIt:
    """Whatever escapes the loop is a bug: logged with its traceback, memory left for a successor, exit code 70."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            log.critical("the supervisor has a bug, everything stops", exc_info=error)
            self._estate.leave()
            raise SystemExit(EXIT_BUG) from error


def _take_instance(config: Config, base_dir: Path, stack: ExitStack) -> None:
    """Directories and the lock that makes us the only supervisor of the instance."""
    where = paths(config, str(base_dir))
    try:
        make_directories(where)
        stack.enter_context(WriterLock(where.lock(SUPERVISOR_LOCK)))
    except DirectoryUnwritable as error:
        raise StartFailed(str(error)) from error
    except WriterLockHeld as error:
        instance = config.daemon.instance
        raise StartFailed(f"instance {instance} is already running (pid {error.pid}); see liqmapctl status") from error
    except OSError as error:
        raise StartFailed(f"{where.lock(SUPERVISOR_LOCK)}: {error.strerror}") from error


def _start_log(config: Config, file: Path, terminal: logging.Handler | None) -> None:
    daemon = config.daemon
    try:
        logs.setup("supervisor", daemon.log_level, file, daemon.log_max_bytes, daemon.log_keep, terminal=None)
    except OSError as error:
        raise StartFailed(f"{file} cannot be written: {error.strerror}") from error
    if terminal is not None:
        logging.getLogger().addHandler(terminal)


def _venue_servers(config: Config, run: Run, stack: ExitStack) -> tuple[Config, Simulation | None]:
    """The sockets of the simulated venues, and the configuration that leads to them instead of to the real ones."""
    if not run.venue_servers:
        return config, None
    sockets: dict[Venue, socket.socket] = {venue: listen_on_loopback() for venue in SIMULATED_VENUES}
    for listener in sockets.values():
        stack.callback(listener.close)
    ports = {venue: int(listener.getsockname()[1]) for venue, listener in sockets.items()}
    binance, bybit, okx = (sockets[venue].fileno() for venue in SIMULATED_VENUES)
    where = paths(config, str(run.base_dir)).venues_socket
    try:
        console = listen_privately(where)
    except OSError as error:
        raise StartFailed(f"{where} cannot be listened on: {error.strerror}") from error
    stack.callback(where.unlink, missing_ok=True)
    stack.callback(console.close)
    return with_endpoints(config, endpoints_at(ports)), Simulation((binance, bybit, okx), run.capture, console.fileno())


def _take_estate(effective: Effective, simulation: Simulation | None) -> Estate:
    try:
        clear_segments(effective.config, Source(effective.mode.source))
        return Estate(effective.config, effective.mode, (SIM,) if simulation else ())
    except UnknownProcess as error:
        raise StartFailed(f"symbols: {error}", EXIT_CONFIG) from error
    except (SharedMemoryFull, SegmentHeld, SegmentForeign) as error:
        raise StartFailed(str(error)) from error

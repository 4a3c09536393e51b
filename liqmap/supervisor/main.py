"""The supervisor: one process, one thread, one loop that never waits for anybody.

Each turn it takes the signals that arrived, buries the dead, minds deadlines and heartbeats, serves the control
socket, carries on with what is under way (a change of configuration, an ordered stop), and publishes what it sees.
What it acquires before, and gives back afterwards, stands in `liqmap.supervisor.start`.
"""

import logging
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import msgspec

from liqmap import __version__, logs
from liqmap.config import Config, ConfigError, Effective, paths, prepare_effective
from liqmap.domain.enums import Source
from liqmap.logs import fields
from liqmap.shm.plan import symbol_segments, total_bytes
from liqmap.shm.segment import free_bytes
from liqmap.supervisor.change import Change, Difference, difference
from liqmap.supervisor.control import ControlServer, Outcome
from liqmap.supervisor.estate import Estate
from liqmap.supervisor.household import Household
from liqmap.supervisor.lifecycle import Input, State
from liqmap.supervisor.modes import Run, endpoints_of, with_endpoints
from liqmap.supervisor.notify import Notifier
from liqmap.supervisor.orders import Orders, Refused
from liqmap.supervisor.picture import picture, problems
from liqmap.supervisor.roster import API, INGEST, SIM, Phase, Post, Simulation, roster
from liqmap.supervisor.signals import SignalQueue
from liqmap.supervisor.sockets import BindFailed, Listening, listen
from liqmap.supervisor.venue_line import VenueLine

log = logging.getLogger(__name__)

_NS: Final = 1_000_000_000
TURN_S: Final = 0.2
PUBLISH_NS: Final = _NS // 2
WEIGH_NS: Final = 2 * _NS


class Supervisor:
    """Holds everything together. Made by `liqmap.supervisor.start`; `run` is its life."""

    def __init__(
        self,
        run: Run,
        effective: Effective,
        estate: Estate,
        listening: Listening,
        simulation: Simulation | None,
        household: Household,
        notifier: Notifier,
    ) -> None:
        self.household = household
        self._run = run
        self._effective = effective
        self._estate = estate
        self._listening = listening
        self._simulation = simulation
        self._notifier = notifier
        where = paths(effective.config, effective.base_dir)
        self._venue_line = VenueLine(where.venues_socket) if simulation is not None else None
        self._orders = Orders(self)
        self._change: Change | None = None
        self._change_fault = ""
        self._stop_phases: list[Phase] | None = None
        self._announced = False
        self._had_terminal = _has_terminal()
        self._started_ns = time.monotonic_ns()
        self._published_ns = 0
        self._weighed_ns = 0
        self._fed_ns = 0
        self._problems: list[str] = []
        self._shown: list[tuple[str, State, int | None]] = []

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, signals: SignalQueue) -> None:
        """Start the children and live until the ordered stop is over."""
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(signals, selectors.EVENT_READ, signals)
            where = paths(self._effective.config, self._effective.base_dir)
            control = ControlServer(where.control_socket, selector)
            stack.callback(control.close)
            if self._venue_line is not None:
                self._venue_line.use(selector)
                stack.callback(self._venue_line.close)
            stack.callback(self.household.kill_all)
            self._engage_all()
            while not self._over():
                ready = [(key.data, events) for key, events in selector.select(self._pause_s())]
                self._turn(signals, control, ready, time.monotonic_ns())
            now_ns = time.monotonic_ns()
            for request, answer in self._orders.close():
                control.answer(request, answer, now_ns)
        log.info("stopped", extra=fields(ran_s=(time.monotonic_ns() - self._started_ns) / _NS))

    def _turn(self, signals: SignalQueue, control: ControlServer, ready: list[tuple[object, int]], now_ns: int) -> None:
        for number in signals.take():
            self._signalled(number, now_ns)
        self.household.turn(now_ns, self._estate.beats())
        if self._venue_line is not None:
            self._venue_line.turn(ready, self.household.state(SIM) is State.RUNNING, now_ns)
        for request in control.turn(ready, now_ns):
            answer = self._orders.take(request, now_ns)
            if answer is not None:
                control.answer(request, answer, now_ns)
        self._carry_on(now_ns)
        for request, answer in self._orders.turn(now_ns):
            control.answer(request, answer, now_ns)
        self._publish(now_ns)

    def _carry_on(self, now_ns: int) -> None:
        """The next step of a change, of the ordered stop."""
        if self._change is not None:
            fault = self._change.turn(now_ns)
            if fault is not None:
                self._change, self._change_fault = None, fault
                log.info("the change is done" if not fault else f"the change ended badly: {fault}")
                self._notifier.ready("running")
        if self._stop_phases:
            phase = self._stop_phases[0]
            members = [name for name in self.household.names if self.household.post(name).phase is phase]
            if self.household.ended(members):
                self._stop_phases.pop(0)
                if self._stop_phases:
                    self._stop_phase(self._stop_phases[0], now_ns)

    def _over(self) -> bool:
        return self._stop_phases == []

    def _pause_s(self) -> float:
        """Until something arrives, or a deadline does; at most a turn."""
        due_ns = self.household.next_due_ns()
        if due_ns is None:
            return TURN_S
        return min(max((due_ns - time.monotonic_ns()) / _NS, 0.0), TURN_S)

    # -- beginnings ----------------------------------------------------------------------------------------------

    def _engage_all(self) -> None:
        now_ns = time.monotonic_ns()
        for post in self._posts(self._effective).values():
            self.household.engage(post)
            self.household.give(post.name, Input.START, now_ns)

    def _posts(self, effective: Effective) -> dict[str, Post]:
        return roster(effective, self._listening.socket.fileno(), self._simulation)

    # -- signals and the ordered stop ----------------------------------------------------------------------------

    def _signalled(self, number: signal.Signals, now_ns: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if self.stopping and number == signal.SIGINT:
                log.warning("asked twice: killing whoever is left")
                self.household.kill_all()
            self.shut_down(now_ns)
        elif number == signal.SIGHUP:
            self._hung_up(now_ns)
        elif number == signal.SIGUSR1:
            logs.reopen()
            self.household.tell_all(signal.SIGUSR1)
            log.info("logs reopened")

    def _hung_up(self, now_ns: int) -> None:
        """HUP asks for a reload; but a terminal that closes sends it too, and then nobody is there any more."""
        if self._had_terminal and not _has_terminal():
            self.shut_down(now_ns)
            return
        try:
            log.info("reload: %s", self.reload(now_ns))
        except Refused as error:
            log.error("reload refused, nothing changes: %s", error)  # noqa: TRY400 - the operator's, not a bug

    def shut_down(self, now_ns: int) -> None:
        """Begin the ordered stop: ingest, workers, API, venue servers, each when the ones before have ended."""
        if self.stopping:
            return
        log.info("stopping")
        self._notifier.stopping()
        self._change = None
        self._stop_phases = list(Phase)
        self._stop_phase(self._stop_phases[0], now_ns)

    def _stop_phase(self, phase: Phase, now_ns: int) -> None:
        for name in self.household.names:
            if self.household.post(name).phase is phase:
                self.household.give(name, Input.STOP, now_ns)

    @property
    def stopping(self) -> bool:
        """True once the ordered stop has begun."""
        return self._stop_phases is not None

    @property
    def patience_s(self) -> float:
        """How long an order may take."""
        limits = self._effective.config.supervisor
        return limits.start_timeout_s + limits.stop_timeout_s + limits.abort_grace_s

    # -- changes of the configuration ----------------------------------------------------------------------------

    def reload(self, now_ns: int) -> str:
        """Begin to follow the file; what is being done. Raises Refused, and then everything stays as it is."""
        try:
            config = self._run.read()
        except ConfigError as error:
            raise Refused(str(error)) from error
        return self._begin(with_endpoints_of(config, self._effective.config, self._simulation), now_ns)

    def enable(self, symbol: str, enabled: bool, now_ns: int) -> str:
        """Begin to add or remove a symbol that stands in the file. Raises Refused."""
        config = self._effective.config
        table = config.symbols.get(symbol)
        if table is None:
            raise Refused(f"{symbol or 'that'} does not stand in {self._run.config_file} (reload reads it again)")
        if table.enabled == enabled:
            raise Refused(f"{symbol} is {'enabled' if enabled else 'disabled'} already")
        if config.enabled_symbols == (symbol,):
            raise Refused(f"{symbol} is the only symbol; shutdown stops the daemon")
        symbols = {**config.symbols, symbol: msgspec.structs.replace(table, enabled=enabled)}
        return self._begin(msgspec.structs.replace(config, symbols=symbols), now_ns)

    def change_outcome(self) -> str | None:
        """None while a change is under way, else what became of the last one ("" is done)."""
        return None if self._change is not None else self._change_fault

    def _begin(self, after: Config, now_ns: int) -> str:
        before = self._effective.config
        self._admit(before, after)
        effective = msgspec.structs.replace(self._effective, config=after)
        file = paths(after, effective.base_dir).effective
        try:
            prepared = prepare_effective(effective, file)
        except OSError as error:
            raise Refused(f"{file} cannot be written: {error.strerror}") from error
        listening, old = self._listening, None
        if after.api.bind != before.api.bind:
            try:
                listening, old = listen(after, self._run.base_dir), self._listening
            except BindFailed as error:
                raise Refused(str(error)) from error
        posts = {name: self.household.post(name) for name in self.household.names}
        self._listening = listening
        found = difference(before, after, posts, self._posts(effective))
        self._notifier.reloading()

        def share() -> None:
            prepared.replace(file)
            self._follow(effective, found)
            if old is not None:
                old.close()

        self._change_fault = ""
        self._change = Change(found, share, self.household)
        self._change.begin(now_ns)
        return found.words()

    def _admit(self, before: Config, after: Config) -> None:
        """Raises Refused for what cannot be changed now, or not at all while running."""
        if self._change is not None:
            raise Refused("another change is under way")
        for key in ("instance", "var_dir"):
            if getattr(before.daemon, key) != getattr(after.daemon, key):
                raise Refused(f"daemon.{key} cannot change while the daemon runs: shut down and start again")
        needed = _memory(after) - _memory(before)
        if needed > free_bytes():
            raise Refused(f"/dev/shm has {free_bytes()} bytes free, {needed} more are needed")

    def _follow(self, effective: Effective, found: Difference) -> None:
        """Everybody it concerns has ended: make the new configuration the one in force."""
        before, after = self._effective.config, effective.config
        self._effective = effective
        for name in found.gone:
            self.household.dismiss(name)
        self.household.configure(after.supervisor)
        for post in self._posts(effective).values():
            self.household.engage(post)
        self._estate.change(before, after)
        logging.getLogger().setLevel(after.daemon.log_level)
        for name in found.told:
            self.household.tell(name, signal.SIGHUP)

    # -- simulated venues ----------------------------------------------------------------------------------------

    def tell_venues(self, question: dict[str, Any], now_ns: int) -> Callable[[int], Outcome]:
        """Ask the simulated venues for something; what becomes of it. Raises Refused."""
        line = self._venue_line
        if line is None:
            raise Refused(
                "faults belong to simulated venues (liqmapd --demo); the ones of this daemon are not simulated"
            )
        state = self.household.state(SIM)
        if state is not State.RUNNING:
            raise Refused(f"the simulated venues do not run (sim is {state.value}); see liqmapctl status")
        number = line.ask(question, now_ns)
        return lambda later_ns: line.outcome(number, now_ns, later_ns)

    def _simulated_faults(self) -> tuple[str, ...]:
        return () if self._venue_line is None else self._venue_line.on

    # -- what others see -----------------------------------------------------------------------------------------

    def picture(self, now_ns: int) -> dict[str, Any]:
        """The answer to `status`."""
        uptime_s = (now_ns - self._started_ns) / _NS
        sights, faults = self.household.sights(now_ns), self._simulated_faults()
        return picture(self._effective, sights, self._listening.address, uptime_s, self.stopping, faults)

    def _publish(self, now_ns: int) -> None:
        if now_ns - self._weighed_ns >= WEIGH_NS:
            self._weighed_ns = now_ns
            self.household.weigh()
        sights = self.household.sights(now_ns)
        news = [(sight.name, sight.state, sight.pid) for sight in sights]
        if now_ns - self._published_ns < PUBLISH_NS and news == self._shown:
            return
        self._published_ns, self._shown = now_ns, news
        self._estate.show_processes(sights, now_ns, self._simulated_faults())
        self._announce(now_ns)
        found = problems(sights)
        if found != self._problems:
            self._problems = found
            self._notifier.status("; ".join(found) or "running")
        self._feed_watchdog(now_ns)

    def _announce(self, now_ns: int) -> None:
        """Once: the daemon is up when the API answers."""
        up = self.household.state(API) is State.RUNNING and self.household.state(INGEST) is State.RUNNING
        if self._announced or not up:
            return
        self._announced = True
        source = Source(self._effective.mode.source).name.lower()
        log.info(
            "liqmap %s serves %s (%s) at %s",
            __version__,
            ", ".join(self._effective.config.enabled_symbols),
            self._run.headline,
            self._listening.address,
            extra=fields(source=source, pid=os.getpid(), after_s=(now_ns - self._started_ns) / _NS),
        )
        self._notifier.ready("running")

    def _feed_watchdog(self, now_ns: int) -> None:
        """Only while heartbeats advance: a supervisor that turns, yet lets a running child stay silent, is no help."""
        interval_ns = self._notifier.watchdog_interval_ns
        if interval_ns is None or now_ns - self._fed_ns < interval_ns // 2:
            return
        limit_ns = 2 * self._effective.config.supervisor.heartbeat_timeout_s * _NS
        running = [sight for sight in self.household.sights(now_ns) if sight.state is State.RUNNING]
        if all(sight.beat_age_ns is not None and sight.beat_age_ns < limit_ns for sight in running):
            self._fed_ns = now_ns
            self._notifier.watchdog()


def with_endpoints_of(config: Config, running: Config, simulation: Simulation | None) -> Config:
    """A re-read configuration with the loopback endpoints of the venue servers that run."""
    if simulation is None:
        return config
    return with_endpoints(config, endpoints_of(running))


def _memory(config: Config) -> int:
    """Shared memory of all symbols that run, bytes."""
    return sum(total_bytes(symbol_segments(config, symbol)) for symbol in config.enabled_symbols)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

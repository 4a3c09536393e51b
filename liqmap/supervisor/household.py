"""The children as they are: each one's place in the table, its process, its heartbeat. Does what the table says.

Everything here happens on the main thread, in the supervisor's turn: the dead are buried, deadlines and heartbeats
become inputs, and the actions of the table become processes and signals.
"""

import logging
import random
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from liqmap.config import SupervisorConfig
from liqmap.logs import fields
from liqmap.supervisor.children import Children, Launch, Usage
from liqmap.supervisor.lifecycle import WITH_PROCESS, Action, ChildState, Death, Input, State, describe, step
from liqmap.supervisor.policy import limits_of
from liqmap.supervisor.roster import Post

log = logging.getLogger(__name__)

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat row says. `beat_ns` is CLOCK_MONOTONIC, 0: never."""

    beat_ns: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Sight:
    """One child as a person wants to see it. Times in ns; None: does not apply."""

    name: str
    state: State
    pid: int | None
    started_ns: int | None
    """CLOCK_MONOTONIC."""
    age_ns: int | None
    beat_age_ns: int | None
    restarts: int
    usage: Usage
    exit_code: int | None
    reason: str
    due_in_ns: int | None


class Household:
    """All children of one daemon. `now_ns` is CLOCK_MONOTONIC everywhere."""

    def __init__(self, config: SupervisorConfig, children: Children | None = None) -> None:
        self._config = config
        self._children = children or Children()
        self._posts: dict[str, Post] = {}
        self._states: dict[str, ChildState] = {}
        self._beats: dict[str, Beat] = {}
        self._owed: dict[str, dict[signal.Signals, None]] = {}
        self._dice = random.Random()
        self._last_turn_ns: int | None = None
        self._excused_until_ns = 0

    def engage(self, post: Post) -> None:
        """Make room for a child, or change how it is started the next time; it is not started by this."""
        limits = limits_of(self._config)
        self._posts[post.name] = post
        known = self._states.get(post.name)
        self._states[post.name] = replace(known, limits=limits) if known else ChildState(post.name, limits)

    def dismiss(self, name: str) -> None:
        """Forget a child that has no process."""
        assert self._states[name].state not in WITH_PROCESS
        del self._states[name], self._posts[name]
        self._beats.pop(name, None)

    def configure(self, config: SupervisorConfig) -> None:
        """Watch with these limits from now on."""
        self._config = config
        for post in list(self._posts.values()):
            self.engage(post)

    @property
    def names(self) -> tuple[str, ...]:
        """Every child that has a post, in the order of engagement."""
        return tuple(self._posts)

    def post(self, name: str) -> Post:
        """How a child is started."""
        return self._posts[name]

    def state(self, name: str) -> State:
        """Where a child stands."""
        return self._states[name].state

    def wanted(self, name: str) -> bool:
        """True unless an operator stopped it (or it waits to be stopped)."""
        return self._states[name].wanted

    def reason(self, name: str) -> str:
        """Why a child is where it is, in words; may be empty."""
        return self._states[name].reason

    def ended(self, names: Iterable[str]) -> bool:
        """True when none of them has a process."""
        return all(self._states[name].state not in WITH_PROCESS for name in names)

    def give(self, name: str, given: Input, now_ns: int, death: Death | None = None) -> None:
        """Something happened to a child: ask the table, do what it says."""
        before = self._states[name]
        after, actions = step(before, given, now_ns, death)
        self._states[name] = after
        if after.state is not before.state:
            _tell(before, after, now_ns, self._children.pid(name))
        for action in actions:
            self._do(name, action)
        owed = self._owed.pop(name, {}) if given in (Input.READY, Input.DIED) else {}
        for number in owed if after.state is State.RUNNING else ():
            self._children.send(name, number)

    def turn(self, now_ns: int, beats: Mapping[str, Beat]) -> None:
        """One look at everybody: bury the dead, mind the deadlines, listen to the hearts."""
        self._beats.update((name, beat) for name, beat in beats.items() if name in self._states)
        self._excuse(now_ns)
        for name, code in self._children.reap():
            self.give(name, Input.DIED, now_ns, Death(code, self._dice.random()))
        self._children.reap_strangers()
        for name, child in list(self._states.items()):
            if child.due_ns is not None and now_ns >= child.due_ns:
                self.give(name, Input.DUE, now_ns)
            elif child.state in (State.STARTING, State.RUNNING):
                self._listen(name, child, now_ns)

    def tell_all(self, number: signal.Signals) -> None:
        """Tell every living child something by a signal."""
        for name in self._children.names:
            self.tell(name, number)

    def tell(self, name: str, number: signal.Signals) -> None:
        """Tell a child something by a signal. One that is still starting is told when it is ready: until it has its
        handlers HUP or USR1 would end it. One without a process learns what there is to know when it starts."""
        if self._states[name].state is State.RUNNING:
            self._children.send(name, number)
        elif self._states[name].state is State.STARTING:
            self._owed.setdefault(name, {})[number] = None

    def kill_all(self) -> None:
        """SIGKILL for everybody, when nobody wants to wait any longer."""
        for name in self._children.names:
            self._children.kill(name)

    def weigh(self) -> None:
        """Measure what the children take of the machine."""
        self._children.weigh()

    def next_due_ns(self) -> int | None:
        """The nearest deadline."""
        return min((child.due_ns for child in self._states.values() if child.due_ns is not None), default=None)

    def sights(self, now_ns: int) -> list[Sight]:
        """Everybody, for people and boards."""
        return [self._sight(child, now_ns) for child in self._states.values()]

    def _sight(self, child: ChildState, now_ns: int) -> Sight:
        name = child.name
        started_ns = self._children.started_ns(name)
        beat_ns = self._beat_ns(name)
        return Sight(
            name=name,
            state=child.state,
            pid=self._children.pid(name),
            started_ns=started_ns,
            age_ns=None if started_ns is None else max(now_ns - started_ns, 0),
            beat_age_ns=None if beat_ns is None else max(now_ns - beat_ns, 0),
            restarts=child.restarts,
            usage=self._children.usage(name),
            exit_code=child.exit_code,
            reason=child.reason,
            due_in_ns=None if child.due_ns is None else max(child.due_ns - now_ns, 0),
        )

    def _beat_ns(self, name: str) -> int | None:
        """The last beat of the living process; what its predecessor left in the row does not count."""
        started_ns, beat = self._children.started_ns(name), self._beats.get(name)
        if started_ns is None or beat is None or beat.beat_ns < started_ns:
            return None
        return beat.beat_ns

    def _listen(self, name: str, child: ChildState, now_ns: int) -> None:
        beat_ns = self._beat_ns(name)
        if child.state is State.STARTING and beat_ns is not None and self._beats[name].ready:
            self.give(name, Input.READY, now_ns)
            return
        starting = child.state is State.STARTING
        limit_s = self._config.start_timeout_s if starting else self._config.heartbeat_timeout_s
        last_ns = max(child.since_ns if beat_ns is None else beat_ns, self._excused_until_ns)
        if now_ns - last_ns > limit_s * _NS:
            self.give(name, Input.SILENT, now_ns)

    def _excuse(self, now_ns: int) -> None:
        """When this process itself was held up (a stopped or overloaded machine), the children probably were too:
        their silence counts from now."""
        if self._last_turn_ns is not None and now_ns - self._last_turn_ns > self._config.heartbeat_timeout_s * _NS / 2:
            log.warning("the supervisor was held up", extra=fields(pause_s=(now_ns - self._last_turn_ns) / _NS))
            self._excused_until_ns = now_ns
        self._last_turn_ns = now_ns

    def _do(self, name: str, action: Action) -> None:
        if action is Action.SPAWN:
            self._spawn(name, self._posts[name].launch)
        elif action is Action.TERMINATE:
            self._children.send(name, signal.SIGTERM, signal.SIGCONT)
        elif action is Action.ABORT:
            self._children.send(name, signal.SIGABRT, signal.SIGCONT)
        elif action is Action.KILL:
            log.warning("%s does not end, killing it", name, extra=fields(pid=self._children.pid(name)))
            self._children.kill(name)

    def _spawn(self, name: str, launch: Launch) -> None:
        try:
            pid = self._children.spawn(launch)
        except OSError as error:
            log.exception("%s cannot be started: %s", name, error.strerror)
            self.give(name, Input.DIED, time.monotonic_ns(), Death(None, self._dice.random()))
            return
        log.debug("spawned", extra=fields(child=name, pid=pid))


_GOOD: Final = frozenset({State.STARTING, State.RUNNING, State.STOPPED, State.STOPPING})


def _tell(before: ChildState, after: ChildState, now_ns: int, pid: int | None) -> None:
    """One readable line for each change of state; the file has the fields, a terminal only the sentence."""
    name, reason = after.name, after.reason
    sentence = {
        State.STARTING: f"{name} starts" + (" again" if after.restarts else ""),
        State.RUNNING: f"{name} is ready",
        State.ABORTING: f"{name} is silent: {reason}, aborting it",
        State.STOPPING: f"{name} is asked to stop",
        State.STOPPED: f"{name} has stopped",
        State.FATAL: f"{name} is given up: {reason} (liqmapctl start {name} tries again)",
        State.BACKOFF: f"{name} ended: {reason}; again in {((after.due_ns or now_ns) - now_ns) / _NS:.1f} s",
    }[after.state]
    log.log(
        logging.INFO if after.state in _GOOD else logging.WARNING,
        sentence,
        extra=fields(
            child=name,
            was=before.state.value,
            state=after.state.value,
            pid=pid,
            exit="-" if after.exit_code is None else describe(after.exit_code),
            restarts=after.restarts,
            took_s=(now_ns - before.since_ns) / _NS if before.since_ns else 0.0,
        ),
    )

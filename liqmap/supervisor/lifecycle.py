"""The life of one child, as a table.

A child is always in one of seven states. Something happens to it (an input), and the table says what the next state
is and what has to be done in the world. Nothing here does anything: no process, no clock, no chance. `step` is the
whole interface, and whoever holds a child does what the returned actions say.

    STOPPED ──START──▶ STARTING ──READY──▶ RUNNING
                          │  ▲               │
                        SILENT │ DUE        SILENT      any of STARTING, RUNNING, ABORTING, STOPPING:
                          ▼  │               ▼          DIED → BACKOFF, FATAL, STOPPED or STARTING
                       ABORTING ◀────────────┘
                                                        STOP: TERM, then STOPPING, KILL when it takes too long
    FATAL ──START──▶ STARTING   (only an operator sends START and STOP)

A process exists in STARTING, RUNNING, ABORTING and STOPPING, and in no other state; SPAWN is an action only of
transitions that enter STARTING from a state without a process, or by the very DIED that ended the last one. That is
why there are never two processes for one child.

A missing entry of the table is a bug: it cannot happen while the holder keeps its promises (READY once per life and
only in STARTING, SILENT only while a living child is watched, DUE only when a deadline stands, DIED only for a process
that was there). `step` raises then, and the supervisor ends loudly instead of guessing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from liqmap.supervisor.policy import Limits, backoff_ns, hopeless, recent


class State(Enum):
    """Where a child is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    ABORTING = "aborting"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FATAL = "fatal"


class Input(Enum):
    """What can happen to a child."""

    START = "start"  # it is wanted: by an operator, or by the configuration at start
    READY = "ready"  # its heartbeat row says that it does its work
    DIED = "died"  # its process ended and was reaped
    SILENT = "silent"  # its heartbeat is too old
    DUE = "due"  # the deadline of its state has passed
    STOP = "stop"  # it is no longer wanted


class Action(Enum):
    """What has to be done in the world, in this order."""

    SPAWN = "spawn"
    TERMINATE = "terminate"  # SIGTERM, then SIGCONT: a stopped process has to wake up to obey
    ABORT = "abort"  # SIGABRT, then SIGCONT: leaves a traceback
    KILL = "kill"  # SIGKILL to the whole family


WITH_PROCESS: Final = frozenset({State.STARTING, State.RUNNING, State.ABORTING, State.STOPPING})
"""The states in which a process exists."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended: `exit_code` as the shell's, -signal for a signal, None when it could not be started.

    `chance` in [0, 1) is the random number that spreads the wait before the next start.
    """

    exit_code: int | None
    chance: float = 0.5


@dataclass(frozen=True, slots=True)
class ChildState:
    """All that the table needs to remember of one child. Times in ns of one monotonic clock."""

    name: str
    limits: Limits
    state: State = State.STOPPED
    wanted: bool = False
    since_ns: int = 0
    due_ns: int | None = None
    deaths: tuple[int, ...] = ()
    restarts: int = 0
    exit_code: int | None = None
    reason: str = ""


class NoSuchTransition(Exception):
    """The table has no entry for what happened: a bug of the supervisor."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When an input is given, and the death that comes with DIED."""

    now_ns: int
    death: Death | None = None


Step = tuple[ChildState, tuple[Action, ...]]
Rule = Callable[[ChildState, Moment], Step]


def step(child: ChildState, given: Input, now_ns: int, death: Death | None = None) -> Step:
    """What becomes of `child` when `given` happens at `now_ns`, and what must be done. `death` belongs to DIED.

    Raises NoSuchTransition.
    """
    try:
        rule = TABLE[child.state][given]
    except KeyError:
        raise NoSuchTransition(f"{child.name}: {given.name} in state {child.state.name}") from None
    return rule(child, Moment(now_ns, death))


def _enter(child: ChildState, state: State, now_ns: int, due_in_ns: int | None = None) -> ChildState:
    due_ns = None if due_in_ns is None else now_ns + due_in_ns
    return replace(child, state=state, since_ns=now_ns, due_ns=due_ns)


def _stay(child: ChildState, _moment: Moment) -> Step:
    return child, ()


def _want(child: ChildState, _moment: Moment) -> Step:
    return replace(child, wanted=True), ()


def _unwant(child: ChildState, _moment: Moment) -> Step:
    return replace(child, wanted=False), ()


def _begin(child: ChildState, moment: Moment) -> Step:
    """An operator, or the start of the daemon: past deaths are forgiven."""
    fresh = replace(child, wanted=True, deaths=(), reason="")
    return _enter(fresh, State.STARTING, moment.now_ns), (Action.SPAWN,)


def _again(child: ChildState, moment: Moment) -> Step:
    """The wait is over."""
    return _enter(replace(child, restarts=child.restarts + 1), State.STARTING, moment.now_ns), (Action.SPAWN,)


def _ready(child: ChildState, moment: Moment) -> Step:
    return _enter(replace(child, reason=""), State.RUNNING, moment.now_ns), ()


def _abort(child: ChildState, moment: Moment) -> Step:
    silent = replace(child, reason=f"no sign of life while {child.state.value}")
    return _enter(silent, State.ABORTING, moment.now_ns, child.limits.abort_ns), (Action.ABORT,)


def _terminate(child: ChildState, moment: Moment) -> Step:
    unwanted = replace(child, wanted=False)
    return _enter(unwanted, State.STOPPING, moment.now_ns, child.limits.stop_ns), (Action.TERMINATE,)


def _kill(child: ChildState, moment: Moment) -> Step:
    """Once is enough, yet the deadline is set again: a process in an uninterruptible wait needs another look."""
    return _enter(child, child.state, moment.now_ns, child.limits.abort_ns), (Action.KILL,)


def _rest(child: ChildState, moment: Moment) -> Step:
    return _enter(replace(child, wanted=False, reason=""), State.STOPPED, moment.now_ns), ()


def _ended(child: ChildState, moment: Moment) -> Step:
    """The end that was asked for; a START in the meantime (a restart) begins the next life at once."""
    assert moment.death is not None
    child = replace(child, exit_code=moment.death.exit_code, reason="")
    if child.wanted:
        return _enter(replace(child, restarts=child.restarts + 1), State.STARTING, moment.now_ns), (Action.SPAWN,)
    return _rest(child, moment)


def _died(child: ChildState, moment: Moment) -> Step:
    """The end that nobody asked for."""
    assert moment.death is not None
    deaths = recent((*child.deaths, moment.now_ns), moment.now_ns, child.limits)
    why = describe(moment.death.exit_code)
    if child.state is State.ABORTING:
        why = f"{child.reason}, {why}"
    child = replace(child, exit_code=moment.death.exit_code, deaths=deaths, reason=why)
    if not child.wanted:
        return _rest(child, moment)
    verdict = hopeless(moment.death.exit_code, len(deaths), child.limits)
    if verdict:
        return _enter(replace(child, reason=f"{verdict}; last: {why}"), State.FATAL, moment.now_ns), ()
    return _enter(child, State.BACKOFF, moment.now_ns, backoff_ns(len(deaths), moment.death.chance, child.limits)), ()


def describe(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is None:
        return "could not be started"
    return f"killed by signal {-exit_code}" if exit_code < 0 else f"exited with {exit_code}"


TABLE: Final[dict[State, dict[Input, Rule]]] = {
    State.STOPPED: {
        Input.START: _begin,  # → STARTING
        Input.STOP: _stay,
    },
    State.STARTING: {
        Input.START: _want,
        Input.READY: _ready,  # → RUNNING
        Input.DIED: _died,  # → BACKOFF | FATAL
        Input.SILENT: _abort,  # → ABORTING
        Input.STOP: _terminate,  # → STOPPING
    },
    State.RUNNING: {
        Input.START: _want,
        Input.DIED: _died,  # → BACKOFF | FATAL
        Input.SILENT: _abort,  # → ABORTING
        Input.STOP: _terminate,  # → STOPPING
    },
    State.ABORTING: {
        Input.START: _want,
        Input.DIED: _died,  # → BACKOFF | FATAL | STOPPED
        Input.DUE: _kill,
        Input.STOP: _unwant,
    },
    State.STOPPING: {
        Input.START: _want,
        Input.DIED: _ended,  # → STOPPED | STARTING
        Input.DUE: _kill,
        Input.STOP: _unwant,
    },
    State.BACKOFF: {
        Input.START: _begin,  # → STARTING
        Input.DUE: _again,  # → STARTING
        Input.STOP: _rest,  # → STOPPED
    },
    State.FATAL: {
        Input.START: _begin,  # → STARTING
        Input.STOP: _rest,  # → STOPPED
    },
}

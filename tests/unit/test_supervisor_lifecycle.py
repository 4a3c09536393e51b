"""The life of one child: the arrows of the table one by one, then what must hold whatever happens in whatever order."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from liqmap.config import SupervisorConfig
from liqmap.supervisor.lifecycle import (
    TABLE,
    WITH_PROCESS,
    Action,
    ChildState,
    Death,
    Input,
    NoSuchTransition,
    State,
    step,
)
from liqmap.supervisor.policy import backoff_ns, hopeless, limits_of, recent

S = 1_000_000_000
LIMITS = limits_of(SupervisorConfig())
CRASH, CONFIGURATION = Death(1), Death(78)


def child(state: State, wanted: bool = True, deaths: tuple[int, ...] = ()) -> ChildState:
    return ChildState("BTC", LIMITS, state=state, wanted=wanted, since_ns=50 * S, deaths=deaths)


ARROWS = [
    (State.STOPPED, Input.START, None, State.STARTING, (Action.SPAWN,)),
    (State.STOPPED, Input.STOP, None, State.STOPPED, ()),
    (State.STARTING, Input.START, None, State.STARTING, ()),
    (State.STARTING, Input.READY, None, State.RUNNING, ()),
    (State.STARTING, Input.DIED, CRASH, State.BACKOFF, ()),
    (State.STARTING, Input.DIED, CONFIGURATION, State.FATAL, ()),
    (State.STARTING, Input.SILENT, None, State.ABORTING, (Action.ABORT,)),
    (State.STARTING, Input.STOP, None, State.STOPPING, (Action.TERMINATE,)),
    (State.RUNNING, Input.START, None, State.RUNNING, ()),
    (State.RUNNING, Input.DIED, CRASH, State.BACKOFF, ()),
    (State.RUNNING, Input.DIED, CONFIGURATION, State.FATAL, ()),
    (State.RUNNING, Input.SILENT, None, State.ABORTING, (Action.ABORT,)),
    (State.RUNNING, Input.STOP, None, State.STOPPING, (Action.TERMINATE,)),
    (State.ABORTING, Input.START, None, State.ABORTING, ()),
    (State.ABORTING, Input.DIED, Death(-6), State.BACKOFF, ()),
    (State.ABORTING, Input.DUE, None, State.ABORTING, (Action.KILL,)),
    (State.ABORTING, Input.STOP, None, State.ABORTING, ()),
    (State.STOPPING, Input.DIED, Death(0), State.STARTING, (Action.SPAWN,)),  # wanted again meanwhile: a restart
    (State.STOPPING, Input.START, None, State.STOPPING, ()),
    (State.STOPPING, Input.DUE, None, State.STOPPING, (Action.KILL,)),
    (State.STOPPING, Input.STOP, None, State.STOPPING, ()),
    (State.BACKOFF, Input.START, None, State.STARTING, (Action.SPAWN,)),
    (State.BACKOFF, Input.DUE, None, State.STARTING, (Action.SPAWN,)),
    (State.BACKOFF, Input.STOP, None, State.STOPPED, ()),
    (State.FATAL, Input.START, None, State.STARTING, (Action.SPAWN,)),
    (State.FATAL, Input.STOP, None, State.STOPPED, ()),
]


@pytest.mark.parametrize(("state", "given", "death", "becomes", "actions"), ARROWS)
def test_arrow(state: State, given: Input, death: Death | None, becomes: State, actions: tuple[Action, ...]) -> None:
    after, done = step(child(state), given, 100 * S, death)
    assert (after.state, done) == (becomes, actions)


def test_the_arrows_above_are_the_whole_table() -> None:
    assert {(state, given) for state, given, *_ in ARROWS} == {
        (state, given) for state, row in TABLE.items() for given in row
    }
    assert set(TABLE) == set(State)


def test_a_missing_entry_is_a_bug_and_says_which() -> None:
    for state in State:
        for given in set(Input) - set(TABLE[state]):
            with pytest.raises(NoSuchTransition, match=f"{given.name} in state {state.name}"):
                step(child(state), given, 0)


def test_a_stopped_child_that_dies_of_it_rests() -> None:
    after, actions = step(child(State.STOPPING, wanted=False), Input.DIED, 100 * S, Death(0))
    assert (after.state, actions, after.exit_code, after.deaths) == (State.STOPPED, (), 0, ())


def test_an_aborted_child_that_is_no_longer_wanted_rests() -> None:
    aborting, _ = step(child(State.ABORTING), Input.STOP, 100 * S)
    after, actions = step(aborting, Input.DIED, 101 * S, Death(-6))
    assert (after.state, actions) == (State.STOPPED, ())


def test_too_many_deaths_in_the_window_are_fatal_and_old_ones_are_forgotten() -> None:
    deaths = tuple((100 + n) * S for n in range(LIMITS.fatal_deaths - 1))
    soon, later = 110 * S, 110 * S + LIMITS.fatal_window_ns
    assert step(child(State.RUNNING, deaths=deaths), Input.DIED, soon, CRASH)[0].state is State.FATAL
    assert step(child(State.RUNNING, deaths=deaths), Input.DIED, later, CRASH)[0].state is State.BACKOFF


def test_a_start_by_an_operator_forgives_past_deaths() -> None:
    fatal = replace(child(State.FATAL, deaths=tuple(range(8))), reason="died 8 times")
    after, _ = step(fatal, Input.START, 100 * S)
    assert (after.deaths, after.reason) == ((), "")


def test_the_reason_says_how_it_ended() -> None:
    silent, _ = step(child(State.RUNNING), Input.SILENT, 100 * S)
    after, _ = step(silent, Input.DIED, 101 * S, Death(-6))
    assert after.reason == "no sign of life while running, killed by signal 6"
    again, _ = step(replace(after, state=State.STARTING), Input.DIED, 102 * S, Death(1))
    assert again.reason == "exited with 1"


def test_backoff_doubles_from_the_first_wait_to_the_ceiling() -> None:
    waits = [backoff_ns(deaths, 1.0, LIMITS) for deaths in range(1, 12)]
    assert waits[0] == LIMITS.backoff_first_ns
    assert all(after == min(2 * before, LIMITS.backoff_ceiling_ns) for before, after in itertools.pairwise(waits))
    assert waits[-1] == LIMITS.backoff_ceiling_ns


def test_jitter_takes_at_most_half_of_the_wait() -> None:
    assert backoff_ns(3, 0.0, LIMITS) * 2 == backoff_ns(3, 1.0, LIMITS)
    assert len({backoff_ns(3, chance / 10, LIMITS) for chance in range(10)}) == 10


def test_verdicts() -> None:
    assert "78" in hopeless(78, 1, LIMITS)
    assert "8 times" in hopeless(1, LIMITS.fatal_deaths, LIMITS)
    assert hopeless(1, LIMITS.fatal_deaths - 1, LIMITS) == ""
    assert hopeless(75, 1, LIMITS) == ""


def test_only_recent_deaths_count() -> None:
    now = 1000 * S
    assert recent((now - LIMITS.fatal_window_ns, now - 1), now, LIMITS) == (now - 1,)


class World(RuleBasedStateMachine):
    """A child, the process it may have, and everything that can happen to them in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.child = ChildState("BTC", LIMITS)
        self.processes = 0
        self.now_ns = 1 * S
        self.signalled: list[Action] = []

    def give(self, given: Input, death: Death | None = None) -> None:
        self.child, actions = step(self.child, given, self.now_ns, death)
        for action in actions:
            if action is Action.SPAWN:
                self.processes += 1
            else:
                assert self.processes == 1, "a signal needs a process"
                self.signalled.append(action)

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)

    @rule()
    def operator_starts(self) -> None:
        self.give(Input.START)
        assert self.child.wanted

    @rule()
    def operator_stops(self) -> None:
        self.give(Input.STOP)
        assert not self.child.wanted

    @precondition(lambda self: self.processes == 1)
    @rule(code=st.sampled_from([0, 1, 70, 75, 78, -6, -9, -15]), chance=st.floats(0, 0.999))
    def process_dies(self, code: int, chance: float) -> None:
        self.processes -= 1
        before = self.child
        self.give(Input.DIED, Death(code, chance))
        assert self.child != before, "every death is answered"
        assert self.child.exit_code == code
        if before.wanted and code == 78 and before.state is not State.STOPPING:
            assert self.child.state is State.FATAL

    @precondition(lambda self: self.child.state is State.STARTING)
    @rule()
    def heartbeat_says_ready(self) -> None:
        self.give(Input.READY)

    @precondition(lambda self: self.child.state in (State.STARTING, State.RUNNING))
    @rule()
    def heart_is_silent(self) -> None:
        self.give(Input.SILENT)
        assert self.signalled[-1] is Action.ABORT

    @precondition(lambda self: self.child.due_ns is not None)
    @rule()
    def deadline_passes(self) -> None:
        assert self.child.due_ns is not None
        self.now_ns = max(self.now_ns, self.child.due_ns)
        was_fatal = self.child.state is State.FATAL
        self.give(Input.DUE)
        assert not was_fatal

    @invariant()
    def never_two_processes(self) -> None:
        assert self.processes in (0, 1)
        assert (self.processes == 1) == (self.child.state in WITH_PROCESS)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """A wanted child runs, or a deadline will bring it back, or it is given up; one asked to end has a deadline."""
        if self.child.state in (State.BACKOFF, State.ABORTING, State.STOPPING):
            assert self.child.due_ns is not None
        if self.child.wanted:
            assert self.child.state is not State.STOPPED
        if self.child.state in (State.STOPPED, State.FATAL):
            assert self.child.due_ns is None

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.child.deaths) <= LIMITS.fatal_deaths


World.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyOrder = World.TestCase


def test_fatal_is_left_only_by_an_operator() -> None:
    fatal = child(State.FATAL)
    assert set(TABLE[State.FATAL]) == {Input.START, Input.STOP}
    assert fatal.due_ns is None

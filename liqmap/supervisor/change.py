"""A change of the configuration in force, carried out by difference: only whom it concerns is stopped and started.

Reload, `add SYMBOL` and `remove SYMBOL` are one thing: from the configuration that runs to another one. The steps are
taken over many turns of the loop, which never waits: stop whom it concerns → when they are gone, change what they
share → start them → until they are ready.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from liqmap.config import Config
from liqmap.supervisor.household import Household
from liqmap.supervisor.lifecycle import Input, State
from liqmap.supervisor.roster import Post, concern, learns


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of children: `gone` are no longer asked for, `new` were not there, `changed` need another start,
    `told` learn of it by HUP."""

    gone: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    told: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """True when nothing at all is different for any child."""
        return not (self.gone or self.new or self.changed or self.told)

    def words(self) -> str:
        """For people."""
        parts = (("stopped", self.gone), ("started", self.new), ("restarted", self.changed), ("told", self.told))
        return "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names) or "nothing changed"


def difference(before: Config, after: Config, old: Mapping[str, Post], new: Mapping[str, Post]) -> Difference:
    """Whom a change concerns, in the order of the posts."""
    both = [name for name in old if name in new]
    changed = tuple(
        name
        for name in both
        if concern(old[name], before) != concern(new[name], after)
        or old[name].launch.arguments != new[name].launch.arguments
    )
    told = tuple(name for name in both if name not in changed and learns(new[name], before, after))
    return Difference(
        gone=tuple(name for name in old if name not in new),
        new=tuple(name for name in new if name not in old),
        changed=changed,
        told=told,
    )


@dataclass(slots=True)
class Change:
    """One change under way. `share` is called when everybody it concerns has ended: it rewrites the effective
    configuration, makes and removes segments, engages and dismisses posts, and tells those who are only told."""

    difference: Difference
    share: Callable[[], None]
    household: Household
    shared: bool = False
    starting: tuple[str, ...] = field(default=())

    def begin(self, now_ns: int) -> None:
        """Ask those it concerns to stop; remember who of them should come back."""
        stopping = (*self.difference.gone, *self.difference.changed)
        back = tuple(name for name in self.difference.changed if self.household.wanted(name))
        self.starting = (*self.difference.new, *back)
        for name in stopping:
            self.household.give(name, Input.STOP, now_ns)

    def turn(self, now_ns: int) -> str | None:
        """The next step; None while it is under way, else what became of it: "" is done, anything else a fault."""
        household = self.household
        if not self.shared:
            stopping = (*self.difference.gone, *self.difference.changed)
            for name in filter(household.wanted, stopping):  # somebody started it meanwhile
                household.give(name, Input.STOP, now_ns)
            if not household.ended(stopping):
                return None
            self.share()
            self.shared = True
            for name in self.starting:
                household.give(name, Input.START, now_ns)
        faults = []
        for name in self.starting:
            state = household.state(name)
            if state in (State.STARTING, State.STOPPING):
                return None
            if state is not State.RUNNING:
                faults.append(f"{name}: {household.reason(name) or state.value}")
        return "; ".join(faults)

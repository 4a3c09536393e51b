"""What can be made to go wrong at one venue: state as data, switched by tests in-process or over POST /_sim/fault.

A command is one JSON object `{"fault": NAME, …}`. Switches stay until `{"fault": "clear"}` or their own `"on": false`;
the others, in `control.py`, act once.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from liqmap.sim.venues.feed import Reply


class UnknownFault(ValueError):
    """The command names no fault, or lacks what it needs."""


@dataclass(slots=True)
class RestFault:
    """REST requests whose path begins with `prefix` get `reply`, `left` more times (None: until cleared)."""

    prefix: str
    reply: Reply
    left: int | None = None


@dataclass(slots=True)
class Faults:
    """The switches of one venue. The server reads them, commands change them."""

    refuse: int | None = None
    """New websocket connections are refused with this HTTP status; 0: the TCP connection is reset."""
    silent: set[str] = field(default_factory=set)
    """Patterns (fnmatch) of topics of which nothing is delivered though everything looks alive."""
    half_open: bool = False
    """Every connection, now and later, stays open, sends nothing and answers nothing."""
    stalled: bool = False
    """Messages are held back, and delivered in one burst when the stall ends."""
    drop: dict[str, int] = field(default_factory=dict)
    """The next n messages of topics matching the pattern are lost (a gap in sequences)."""
    open_interest: Literal["fresh", "stale", "failing"] = "fresh"
    rest: list[RestFault] = field(default_factory=list)

    def clear(self) -> None:
        """Everything works again. Connections already half open stay so."""
        self.refuse = None
        self.half_open = False
        self.stalled = False
        self.open_interest = "fresh"
        self.silent.clear()
        self.drop.clear()
        self.rest.clear()

    def loses(self, topic: str) -> bool:
        """Is this message of `topic` lost? Counts down what is to be dropped."""
        if any(fnmatchcase(topic, pattern) for pattern in self.silent):
            return True
        for pattern, left in self.drop.items():
            if left > 0 and fnmatchcase(topic, pattern):
                self.drop[pattern] = left - 1
                return True
        return False

    def rest_reply(self, path: str) -> Reply | None:
        """The faulty answer to a request, None when it is to be served."""
        for fault in self.rest:
            if path.startswith(fault.prefix) and fault.left != 0:
                fault.left = None if fault.left is None else fault.left - 1
                return fault.reply
        return None


def switch(faults: Faults, command: dict[str, Any]) -> bool:
    """Apply a command that only changes switches; False when it is not one of those. Raises UnknownFault."""
    name = command.get("fault")
    on = bool(command.get("on", True))
    if name == "clear":
        faults.clear()
    elif name == "refuse":
        faults.refuse = int(command.get("status", 0)) if on else None
    elif name == "silent":
        (faults.silent.add if on else faults.silent.discard)(_needed(command, "topic"))
    elif name == "half_open":
        faults.half_open = on
    elif name == "drop":
        faults.drop[_needed(command, "topic")] = int(command.get("count", 1))
    elif name == "open_interest":
        faults.open_interest = _choice(command, "state", ("fresh", "stale", "failing"))
    else:
        return False
    return True


def _needed(command: dict[str, Any], key: str) -> str:
    value = command.get(key)
    if not isinstance(value, str) or not value:
        raise UnknownFault(f"{command.get('fault')}: needs a string {key!r}")
    return value


def _choice(command: dict[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
    value = command.get(key)
    if value not in allowed:
        raise UnknownFault(f"{command.get('fault')}: {key} is one of {', '.join(allowed)}")
    return value

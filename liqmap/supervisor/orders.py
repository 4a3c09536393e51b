"""The orders an operator can give over the control socket, and when each of them is done.

An order is one JSON object: `{"do": "restart", "name": "BTC"}`. Answers are `{"ok": true, "said": …}` or
`{"ok": false, "error": why}`; `status` answers with the whole picture. `start`, `stop`, `restart`, `add`, `remove`,
`reload` and `shutdown` answer when the thing has happened, or when it is clear that it did not. `fault` is passed on
to the simulated venues: `{"do": "fault", "venue": "okx", "command": {"fault": "stall", "for_s": 20}}`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from liqmap.supervisor.control import Outcome, Request, refusal
from liqmap.supervisor.household import Household
from liqmap.supervisor.lifecycle import Input, State

_NS: Final = 1_000_000_000

Order = Mapping[str, Any]


class Refused(Exception):
    """The order is not carried out; the text says why."""


class Daemon(Protocol):
    """What orders need of the supervisor beside its household."""

    household: Household

    def picture(self, now_ns: int) -> dict[str, Any]:
        """The answer to `status`."""

    def enable(self, symbol: str, enabled: bool, now_ns: int) -> str:
        """Begin to add or remove a symbol; what is being done. Raises Refused."""

    def reload(self, now_ns: int) -> str:
        """Begin to follow the configuration file; what is being done. Raises Refused."""

    def tell_venues(self, question: dict[str, Any], now_ns: int) -> Callable[[int], Outcome]:
        """Ask the simulated venues for something; what becomes of it. Raises Refused where venues are real."""

    def change_outcome(self) -> str | None:
        """None while a change is under way, else what became of the last one ("" is done)."""

    def shut_down(self, now_ns: int) -> None:
        """Begin the ordered stop."""

    @property
    def stopping(self) -> bool:
        """True once the ordered stop has begun."""

    @property
    def patience_s(self) -> float:
        """How long a start or a stop may take before it is called failed."""


def done(said: str) -> dict[str, Any]:
    """The answer to what was done."""
    return {"ok": True, "said": said}


@dataclass(frozen=True, slots=True)
class _Open:
    """An order that is being carried out."""

    request: Request
    verb: str
    give_up_ns: int
    outcome: Callable[[int], Outcome]


class Orders:
    """Carries out requests, turn by turn."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._open: list[_Open] = []

    def take(self, request: Request, now_ns: int) -> Outcome:
        """Begin with a request; its answer when there is one at once. Never raises for what a client sends."""
        order = request.order
        verb = order.get("do")
        carry_out = self._VERBS.get(verb) if isinstance(verb, str) else None
        if carry_out is None or not isinstance(verb, str):
            return refusal(f"unknown order {verb!r}; known are {', '.join(self._VERBS)}")
        if self._daemon.stopping and verb not in ("status", "shutdown"):
            return refusal("the daemon is stopping")
        try:
            begun = carry_out(self, order, now_ns)
        except Refused as error:
            return refusal(str(error))
        if isinstance(begun, dict):
            return begun
        self._open.append(_Open(request, verb, now_ns + int(self._daemon.patience_s * _NS), begun))
        return None

    def turn(self, now_ns: int) -> list[tuple[Request, dict[str, Any]]]:
        """The orders that are done, or given up, with their answers."""
        answered = []
        for order in list(self._open):
            outcome = order.outcome(now_ns)
            if outcome is None and now_ns >= order.give_up_ns:
                outcome = refusal(f"not done after {self._daemon.patience_s:g} s; it goes on, see liqmapctl status")
            if outcome is not None:
                self._open.remove(order)
                answered.append((order.request, outcome))
        return answered

    def close(self) -> list[tuple[Request, dict[str, Any]]]:
        """The daemon has stopped: what everybody who still waits is told."""
        said = "the daemon has stopped"
        answers = [(order.request, done(said) if order.verb == "shutdown" else refusal(said)) for order in self._open]
        self._open.clear()
        return answers

    def _status(self, _order: Order, now_ns: int) -> dict[str, Any]:
        return self._daemon.picture(now_ns)

    def _start(self, order: Order, now_ns: int) -> dict[str, Any] | Callable[[int], Outcome]:
        child = self._child(order)
        household = self._daemon.household
        if household.state(child) is State.RUNNING:
            return done(f"{child} is running already")
        household.give(child, Input.START, now_ns)
        return lambda _now: self._started(child, "started")

    def _stop(self, order: Order, now_ns: int) -> Callable[[int], Outcome]:
        child = self._child(order)
        household = self._daemon.household
        household.give(child, Input.STOP, now_ns)
        return lambda _now: done(f"{child} has stopped") if household.ended((child,)) else None

    def _restart(self, order: Order, now_ns: int) -> Callable[[int], Outcome]:
        child = self._child(order)
        self._daemon.household.give(child, Input.STOP, now_ns)
        self._daemon.household.give(child, Input.START, now_ns)
        return lambda _now: self._started(child, "restarted")

    def _add(self, order: Order, now_ns: int) -> Callable[[int], Outcome]:
        return self._changed(self._daemon.enable(_name(order).upper(), True, now_ns))

    def _remove(self, order: Order, now_ns: int) -> Callable[[int], Outcome]:
        return self._changed(self._daemon.enable(_name(order).upper(), False, now_ns))

    def _reload(self, _order: Order, now_ns: int) -> Callable[[int], Outcome]:
        return self._changed(self._daemon.reload(now_ns))

    def _shutdown(self, _order: Order, now_ns: int) -> Callable[[int], Outcome]:
        self._daemon.shut_down(now_ns)
        return lambda _now: None  # answered by `close`

    def _fault(self, order: Order, now_ns: int) -> Callable[[int], Outcome]:
        return self._daemon.tell_venues({key: order[key] for key in ("venue", "command") if key in order}, now_ns)

    def _changed(self, said: str) -> Callable[[int], Outcome]:
        def outcome(_now_ns: int) -> Outcome:
            fault = self._daemon.change_outcome()
            if fault is None:
                return None
            return refusal(f"{said}; but {fault}") if fault else done(said)

        return outcome

    def _started(self, child: str, word: str) -> Outcome:
        household = self._daemon.household
        if child not in household.names:
            return refusal(f"{child} was removed meanwhile")
        state = household.state(child)
        if state is State.RUNNING:
            return done(f"{child} {word}")
        if state in (State.STARTING, State.STOPPING, State.ABORTING):
            return None
        return refusal(f"{child} did not stay: {household.reason(child) or state.value}")

    def _child(self, order: Order) -> str:
        """The child that is meant. Raises Refused."""
        name = _name(order)
        names = self._daemon.household.names
        found = _match(name, names)
        if found is None:
            raise Refused(f"there is no {name!r}; there are {', '.join(names)}")
        return found

    _VERBS: Final[dict[str, Callable[["Orders", Order, int], dict[str, Any] | Callable[[int], Outcome]]]] = {
        "status": _status,
        "start": _start,
        "stop": _stop,
        "restart": _restart,
        "add": _add,
        "remove": _remove,
        "reload": _reload,
        "shutdown": _shutdown,
        "fault": _fault,
    }


def _name(order: Order) -> str:
    name = order.get("name")
    return name if isinstance(name, str) else ""


def _match(name: str, names: Iterable[str]) -> str | None:
    """By its exact name, else whatever the case."""
    known = list(names)
    if name in known:
        return name
    return next((candidate for candidate in known if candidate.casefold() == name.casefold()), None)

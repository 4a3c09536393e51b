"""What is wrong at one venue now: the faults that are switched on, as data. Server and feed ask, commands change.

Which faults there are, with their parameters, stands in `fault_table.py`; how commands arrive in `control.py`.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

EVERYTHING = "*"


class UnknownFault(ValueError):
    """The command names no fault, or a parameter that the fault does not have; the text says what is allowed."""


@dataclass(slots=True, eq=False)
class Switched:
    """One fault that is on. `given`: its parameters, every one that has a value."""

    name: str
    given: Mapping[str, Any]
    ends_s: float | None = None
    """On the event loop's clock; None: until somebody ends it."""
    spent: dict[str, int] = field(default_factory=dict)
    """How often it struck, by topic."""

    @property
    def topic(self) -> str:
        """The pattern (fnmatch) of the topics it concerns."""
        return str(self.given.get("topic", EVERYTHING))

    @property
    def is_spent(self) -> bool:
        """It struck as often as it was to, and nothing is left that it could strike: one topic, or so many requests."""
        most, place = self.given.get("times"), ""
        if most is None:
            most, place = self.given.get("count"), self.topic
        return most is not None and not set(place) & set("*?[") and self.spent.get(place, 0) >= most

    @property
    def where(self) -> tuple[str, str, str]:
        """What tells it from others of its venue: switching on the same again replaces it."""
        return (self.name, self.topic, str(self.given.get("path", self.given.get("contract", ""))))

    @property
    def words(self) -> str:
        """`silent *@aggTrade`, `rest kind=429 path=/fapi`: for people."""
        named = [
            f"{key}={value:.12g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.given.items()
            if key not in ("topic", "for_s")
        ]
        topic = [self.topic] if self.topic != EVERYTHING else []
        return " ".join([self.name, *topic, *named])


@dataclass(slots=True)
class Faults:
    """The faults of one venue that are on, in the order in which they were switched on."""

    on: list[Switched] = field(default_factory=list)
    version: int = 0
    """Rises whenever a fault begins or ends."""
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    # --- switched by commands -----------------------------------------------------------------------------------

    def begin(self, fault: Switched) -> None:
        """Switch it on, in place of one that concerns the same."""
        self.on = [other for other in self.on if other.where != fault.where]
        self.on.append(fault)
        self.version += 1

    def end(self, name: str, given: Mapping[str, Any]) -> list[Switched]:
        """Switch off the faults of that name: the one of a given topic or path, without one all. What ended."""
        wanted = {key: given[key] for key in ("topic", "path", "contract") if key in given}
        ended = [
            fault
            for fault in self.on
            if fault.name == name and all(fault.given.get(key) == value for key, value in wanted.items())
        ]
        return self._remove(ended)

    def due(self, now_s: float) -> list[Switched]:
        """Switch off what has lasted as long, or struck as often, as it was to."""
        over = [fault for fault in self.on if fault.is_spent or (fault.ends_s is not None and now_s >= fault.ends_s)]
        return self._remove(over)

    def clear(self) -> list[Switched]:
        """Everything works again (connections that are half open stay so: nobody can revive them). What ended."""
        return self._remove(list(self.on))

    def _remove(self, ended: list[Switched]) -> list[Switched]:
        if ended:
            self.on = [fault for fault in self.on if fault not in ended]
            self.version += 1
        return ended

    # --- asked by the server and the feed -----------------------------------------------------------------------

    def named(self, name: str) -> Iterator[Switched]:
        """Those of that name."""
        return (fault for fault in self.on if fault.name == name)

    def of(self, name: str, topic: str = EVERYTHING) -> Switched | None:
        """The fault of that name that concerns a topic; None when there is none."""
        return next((fault for fault in self.named(name) if fnmatchcase(topic, fault.topic)), None)

    def strikes(self, name: str, topic: str) -> Switched | None:
        """Like `of`, for faults with a `share` or a `count` per topic: this time, or not. Counts."""
        for fault in self.named(name):
            if not fnmatchcase(topic, fault.topic):
                continue
            struck, count = fault.spent.get(topic, 0), fault.given.get("count")
            if count is not None and struck >= count:
                continue
            if self._random.random() < fault.given.get("share", 1.0):
                fault.spent[topic] = struck + 1
                return fault
        return None

    @property
    def open_interest(self) -> Literal["fresh", "stale", "failing"]:
        """How open interest is told."""
        fault = self.of("open_interest")
        return "fresh" if fault is None else fault.given["state"]

    @property
    def skew_ms(self) -> int:
        """How far the venue's clock is ahead of the true time (negative: behind)."""
        fault = self.of("clock_skew")
        return 0 if fault is None else int(fault.given["ms"])

    @property
    def unlisted(self) -> set[str]:
        """The contracts that the venue does not list yet."""
        return {str(fault.given["contract"]) for fault in self.named("unlisted")}

    def rest_fault(self, name: str, path: str) -> Switched | None:
        """The fault of that name which a REST request of `path` meets. Counts `times` down."""
        for fault in self.named(name):
            times, met = fault.given.get("times"), fault.spent.get("", 0)
            if path.startswith(fault.given["path"]) and (times is None or met < times):
                fault.spent[""] = met + 1
                return fault
        return None

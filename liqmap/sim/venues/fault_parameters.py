"""What can be said about a fault, and what is allowed to be said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from liqmap.sim.venues.faults import UnknownFault

Given = Mapping[str, Any]
"""The parameters of one command, checked: those that have a value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that can be said about a fault. `default` None: there is none."""

    name: str
    words: str
    kind: type[str] | type[int] | type[float] = str
    default: str | int | float | None = None
    required: bool = False
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def value(self, fault: str, said: object) -> str | int | float:
        """What was said, as this parameter's kind. Raises UnknownFault with what is allowed."""
        try:
            if isinstance(said, bool) or not isinstance(said, str | int | float):
                raise ValueError
            value = self.kind(said)
            inside = isinstance(value, str) or (
                (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
            )
            if not inside or (self.choices and value not in self.choices) or value == "":
                raise ValueError
        except ValueError:
            raise UnknownFault(f"{fault}: {self.name} is {self.allowed}, not {said!r}") from None
        return value

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is str:
            return "a text"
        noun = "a whole number" if self.kind is int else "a number"
        low = "" if self.least is None else f" from {self.least:.12g}"
        return noun + low + ("" if self.most is None else f" to {self.most:.12g}")


FOR_S: Final = Parameter("for_s", "seconds after which it ends by itself", float, least=0.001, most=86_400.0)

"""Query parameters: one table per path, from which parsing, refusals and the OpenAPI document come.

A table parses a query into a frozen dataclass. That object, not the raw text, is the key of every memo and ETag, so
`range_pct=10`, `10.0` and `1e1` are one answer. What a table does not name is refused; so is a parameter given twice.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Generic, Protocol, TypeVar

from liqmap.api.errors import InvalidParameter, RepeatedParameter, UnknownParameter

MAX_VALUE_LENGTH: Final = 64
_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(?:\.\d{0,18})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_WHOLE: Final = re.compile(r"\d{1,20}", re.ASCII)


class Query(Protocol):
    """What werkzeug's MultiDict offers."""

    def keys(self) -> Iterable[str]:
        """Names, each once."""

    def getlist(self, key: str) -> list[str]:
        """Every value given for a name."""


@dataclass(frozen=True, slots=True)
class Parameter(ABC):
    """What every parameter has. `default` None means: no such condition. `schema` is for the OpenAPI document."""

    name: str
    words: str
    default: object = None

    @abstractmethod
    def parse(self, text: str) -> object:
        """The value of `text`. Raises InvalidParameter saying what is allowed."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the value."""

    def refuse(self, allowed: object) -> InvalidParameter:
        """The refusal of a value, naming the parameter and what is allowed."""
        return InvalidParameter(f"{self.name} must be {_in_words(allowed)}", param=self.name, allowed=allowed)


@dataclass(frozen=True, slots=True)
class Number(Parameter):
    """A decimal number within `low` and `high`, both allowed."""

    low: float = 0.0
    high: float = 1e12

    def parse(self, text: str) -> float:
        """A finite float; minus zero becomes zero."""
        value = float(text) if _NUMBER.fullmatch(text) else None
        if value is None or not self.low <= value <= self.high:
            raise self.refuse({"minimum": self.low, "maximum": self.high})
        return value + 0.0

    def schema(self) -> dict[str, Any]:
        """A number with its range."""
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Whole(Parameter):
    """A whole number within `low` and `high`, both allowed."""

    low: int = 0
    high: int = 2**63 - 1

    def parse(self, text: str) -> int:
        """An int; no sign, no fraction."""
        value = int(text) if _WHOLE.fullmatch(text) else None
        if value is None or not self.low <= value <= self.high:
            raise self.refuse({"minimum": self.low, "maximum": self.high})
        return value

    def schema(self) -> dict[str, Any]:
        """An integer with its range."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Choice(Parameter):
    """One of some words, in any case."""

    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> str:
        """The word in lower case."""
        word = text.lower()
        if word not in self.choices:
            raise self.refuse(list(self.choices))
        return word

    def schema(self) -> dict[str, Any]:
        """An enumeration."""
        return {"type": "string", "enum": list(self.choices)}


@dataclass(frozen=True, slots=True)
class Flag(Parameter):
    """`1` or `0`."""

    def parse(self, text: str) -> bool:
        """True for `1`."""
        if text not in ("0", "1"):
            raise self.refuse(["0", "1"])
        return text == "1"

    def schema(self) -> dict[str, Any]:
        """An enumeration of two."""
        return {"type": "integer", "enum": [0, 1]}


@dataclass(frozen=True, slots=True)
class SymbolName(Parameter):
    """A configured symbol by any of its names: `BTC`, `btc`, `BTCUSDT`."""

    names: Mapping[str, str] | None = None
    """Every accepted spelling in capitals, with the symbol it stands for."""

    def parse(self, text: str) -> str:
        """The symbol as it is configured."""
        known = self.names or {}
        symbol = known.get(text.upper()) if text.isascii() else None  # `ſ` becomes S in capitals
        if symbol is None:
            raise self.refuse(sorted(set(known.values())))
        return symbol

    def schema(self) -> dict[str, Any]:
        """An enumeration of the configured symbols; other spellings are accepted too."""
        return {"type": "string", "examples": sorted(set((self.names or {}).values()))}


T = TypeVar("T")


@dataclass(frozen=True)
class Table(Generic[T]):
    """The parameters of one path and the frozen dataclass they become.

    `check` sees the parsed object and raises InvalidParameter for combinations that make no sense.
    """

    record: Callable[..., T]
    parameters: tuple[Parameter, ...] = ()
    check: Callable[[T], None] | None = None
    _by_name: Mapping[str, Parameter] = field(init=False, repr=False)
    _defaults: Mapping[str, object] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = [each.name for each in fields(self.record)]  # type: ignore[arg-type]
        if names != [parameter.name for parameter in self.parameters]:
            raise ValueError(f"{self.record}: the fields {names} are not the parameters of its table")
        object.__setattr__(self, "_by_name", {each.name: each for each in self.parameters})
        object.__setattr__(self, "_defaults", {each.name: each.default for each in self.parameters})

    def parse(self, query: Query) -> T:
        """The query as one object. Raises UnknownParameter, RepeatedParameter or InvalidParameter."""
        values = dict(self._defaults)
        for name in query.keys():  # noqa: SIM118 (a MultiDict iterates like this)
            parameter = self._by_name.get(name)
            if parameter is None:
                raise self._unknown(name)
            values[name] = _only(parameter, query.getlist(name))
        parsed = self.record(**values)
        if self.check is not None:
            self.check(parsed)
        return parsed

    def _unknown(self, name: str) -> UnknownParameter:
        name = name[:MAX_VALUE_LENGTH]
        return UnknownParameter(f"this path has no parameter {name!r}", param=name, allowed=list(self._by_name))


def _only(parameter: Parameter, texts: list[str]) -> object:
    if len(texts) > 1:
        raise RepeatedParameter(f"{parameter.name} is given {len(texts)} times", param=parameter.name)
    if len(texts[0]) > MAX_VALUE_LENGTH:
        raise InvalidParameter(f"{parameter.name} is longer than {MAX_VALUE_LENGTH} characters", param=parameter.name)
    return parameter.parse(texts[0])


def _in_words(allowed: object) -> str:
    if isinstance(allowed, dict):
        return f"a number from {allowed['minimum']:.15g} to {allowed['maximum']:.15g}"
    if isinstance(allowed, list):
        return "one of " + ", ".join(map(str, allowed))
    return str(allowed)

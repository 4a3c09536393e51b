"""Which classes may stand in a state that is written down, and which fields each of them has.

Fields are the slots of a class, else its dataclass fields, else what its `__init__` sets. They are part of what is
written, so that a state of another version of the program is recognised by the first class that differs, in words.
"""

import dataclasses
import dis
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import FunctionType
from typing import Any, Final

_NO_FIELDS: Final = frozenset({"__dict__", "__weakref__"})


class StateRefused(TypeError):
    """The state holds what cannot be written down: liqmap is wrong. The text names the place in the state."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.place = ""

    def within(self, place: str) -> "StateRefused":
        """The same, seen from further out."""
        self.place = f"{place}.{self.place}" if self.place else place
        return self

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


class StateForeign(ValueError):
    """The bytes were written by another version of the program; the text says what differs."""


class StateDamaged(ValueError):
    """The bytes are no state; the text says where that shows."""


class Form(Enum):
    """How the values of a class are taken apart and put together again."""

    OBJECT = "object"
    NAMED_TUPLE = "named tuple"
    ENUM = "enum"


@dataclass(frozen=True, slots=True)
class StateClass:
    """A class that may stand in a state. `fields` of an enum are its members with their numbers."""

    name: str
    made: type[Any]
    form: Form
    fields: tuple[str, ...]

    @classmethod
    def of(cls, made: type[Any]) -> "StateClass":
        """What there is to know about a class."""
        name = f"{made.__module__}.{made.__qualname__}"
        if issubclass(made, Enum):
            return cls(name, made, Form.ENUM, tuple(f"{key}={one.value!r}" for key, one in made.__members__.items()))
        if issubclass(made, tuple):
            return cls(name, made, Form.NAMED_TUPLE, tuple(getattr(made, "_fields", ())))
        return cls(name, made, Form.OBJECT, tuple(dict.fromkeys(_fields_of(made))))


def classes_in(*packages: str) -> list[type[Any]]:
    """Every class that the modules of these packages define, exceptions left out."""
    found: list[type[Any]] = []
    for package in packages:
        root = importlib.import_module(package)
        names = [info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.")]
        for name in (package, *names):
            module = importlib.import_module(name)
            own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == name]
            found += [one for one in own if not issubclass(one, BaseException)]
    return found


def _fields_of(made: type[Any]) -> Iterator[str]:
    for base in reversed(made.__mro__):
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in _NO_FIELDS:
                yield _mangled(base, slot)
    if dataclasses.is_dataclass(made):
        yield from (field.name for field in dataclasses.fields(made))
        return
    for base in reversed(made.__mro__):
        begin = base.__dict__.get("__init__")
        if isinstance(begin, FunctionType):
            yield from _set_by(begin)


def _mangled(owner: type[Any], name: str) -> str:
    private = name.startswith("__") and not name.endswith("__")
    return f"_{owner.__name__.lstrip('_')}{name}" if private else name


def _set_by(function: FunctionType) -> Iterable[str]:
    return [one.argval for one in dis.get_instructions(function) if one.opname == "STORE_ATTR"]

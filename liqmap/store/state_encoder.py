"""The writing half of `state_codec`: takes an object graph apart, value by value."""

import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from numpy.lib.format import dtype_to_descr
from numpy.typing import NDArray

from liqmap.store.state_classes import Form, StateClass, StateRefused

WRITEABLE: Final = 1
"""Bit of an array's flags."""

_TWO: Final = struct.Struct("<II")
_I64: Final = struct.Struct("<q")
_LETTER_U32: Final = struct.Struct("<cI")
_LETTER_TWO: Final = struct.Struct("<cII")
_LETTER_I64: Final = struct.Struct("<cq")
_LETTER_F64: Final = struct.Struct("<cd")
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class Encoder:
    def __init__(self, classes: dict[type[Any], StateClass]) -> None:
        self.out = bytearray()
        self.classes: list[StateClass] = []
        self.dtypes: list[str] = []
        self._known = classes
        self._class_places: dict[type[Any], int] = {}
        self._dtype_places: dict[np.dtype[Any], int] = {}
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []
        self._unfinished: set[int] = set()
        self._memory: dict[int, list[NDArray[Any]]] = {}

    def put(self, value: Any) -> None:
        """Write one value."""
        write = _WRITERS.get(type(value))
        if write is not None:
            write(self, value)
        elif type(value) in self._known:
            self._instance(value, self._known[type(value)])
        elif isinstance(value, np.generic) and not value.dtype.hasobject:
            self.out += _LETTER_U32.pack(b"G", self._dtype(value.dtype)) + value.tobytes()
        else:
            raise StateRefused(f"a {type(value).__module__}.{type(value).__qualname__} cannot be written down")

    def constant(self, value: bool | None) -> None:
        self.out += b"N" if value is None else b"T" if value else b"F"

    def integer(self, value: int) -> None:
        if _SMALLEST <= value <= _LARGEST:
            self.out += _LETTER_I64.pack(b"i", value)
            return
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        self.out += _LETTER_U32.pack(b"I", len(data)) + data

    def real(self, value: float) -> None:
        self.out += _LETTER_F64.pack(b"f", value)

    def text(self, value: str) -> None:
        data = value.encode("utf-8", "surrogatepass")
        self.out += _LETTER_U32.pack(b"s", len(data)) + data

    def octets(self, value: bytes) -> None:
        self.out += _LETTER_U32.pack(b"b", len(value)) + value

    def sequence(self, value: list[Any] | tuple[Any, ...]) -> None:
        if self._stood_before(value):
            return
        fixed = type(value) is tuple
        self.out += _LETTER_U32.pack(b"t" if fixed else b"l", len(value))
        self._items(value, value if fixed else None)

    def queue(self, value: deque[Any]) -> None:
        if not self._stood_before(value):
            self.out += _LETTER_U32.pack(b"q", len(value)) + _I64.pack(-1 if value.maxlen is None else value.maxlen)
            self._items(value)

    def dictionary(self, value: dict[Any, Any]) -> None:
        if self._stood_before(value):
            return
        self.out += _LETTER_U32.pack(b"d", len(value))
        for key, item in value.items():
            self._key(key)
            try:
                self.put(item)
            except StateRefused as error:
                raise error.within(f"[{key!r}]") from None

    def collection(self, value: set[Any] | frozenset[Any]) -> None:
        if self._stood_before(value):
            return
        self.out += _LETTER_U32.pack(b"S" if type(value) is set else b"Z", len(value))
        for item in value:
            self._key(item)

    def array(self, value: NDArray[Any]) -> None:
        if self._stood_before(value):
            return
        if value.dtype.hasobject:
            raise StateRefused("an array of objects cannot be written down")
        self._alone(value)
        axes = sorted(range(value.ndim), key=lambda axis: -abs(value.strides[axis]))
        laid_out = np.ascontiguousarray(value.transpose(axes)) if value.ndim else value
        flags = int(value.flags.writeable) * WRITEABLE
        self.out += _LETTER_TWO.pack(b"A", self._dtype(value.dtype), value.ndim << 8 | flags)
        for axis in axes:  # in the order in which they lie in memory: sums depend on it
            self.out += _TWO.pack(axis, value.shape[axis])
        self.out += laid_out.reshape(-1).view(np.uint8).data if value.size else b""

    def _items(self, items: Iterable[Any], unfinished: object = None) -> None:
        if unfinished is not None:
            self._unfinished.add(id(unfinished))
        for place, item in enumerate(items):
            try:
                self.put(item)
            except StateRefused as error:
                raise error.within(f"[{place}]") from None
        self._unfinished.discard(id(unfinished))

    def _instance(self, value: Any, known: StateClass) -> None:
        if known.form is Form.ENUM:
            self.out += _LETTER_U32.pack(b"E", self._class(known))
            self.put(value.value)
            return
        if self._stood_before(value):
            return
        if known.form is Form.NAMED_TUPLE:
            self.out += _LETTER_TWO.pack(b"n", self._class(known), len(value))
            self._items(value, value)
            return
        unknown = getattr(value, "__dict__", {}).keys() - set(known.fields)
        if unknown:
            raise StateRefused(f"{known.name} sets {', '.join(sorted(unknown))} outside of its __init__")
        self.out += _LETTER_U32.pack(b"O", self._class(known))
        for name in known.fields:
            item = getattr(value, name, _UNSET)
            if item is _UNSET:
                self.out += b"U"
                continue
            try:
                self.put(item)
            except StateRefused as error:
                raise error.within(name) from None

    def _key(self, value: Any) -> None:
        """What may be hashed before the rest of the graph stands."""
        if (type(value) is tuple and all(_is_plain(item) for item in value)) or _is_plain(value):
            self.put(value)
        else:
            raise StateRefused(f"a {type(value).__qualname__} as a key or member cannot be written down")

    def _stood_before(self, value: object) -> bool:
        """Write where it stands if it does, else give it the next number."""
        number = self._numbers.get(id(value))
        if number is None:
            self._numbers[id(value)] = len(self._numbers)
            self._kept.append(value)  # what a property made must not be freed: its id would be another's
            return False
        if id(value) in self._unfinished:
            raise StateRefused("a tuple that contains itself cannot be written down")
        self.out += _LETTER_U32.pack(b"R", number)
        return True

    def _alone(self, value: NDArray[Any]) -> None:
        """Two arrays over one piece of memory would be torn apart. Raises StateRefused."""
        root = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        for other in self._memory.setdefault(id(root), []):
            if (value.flags.writeable or other.flags.writeable) and np.may_share_memory(value, other):
                raise StateRefused("two arrays over the same memory cannot be written down")
        self._memory[id(root)].append(value)

    def _class(self, known: StateClass) -> int:
        place = self._class_places.setdefault(known.made, len(self.classes))
        if place == len(self.classes):
            self.classes.append(known)
        return place

    def _dtype(self, dtype: np.dtype[Any]) -> int:
        place = self._dtype_places.setdefault(dtype, len(self.dtypes))
        if place == len(self.dtypes):
            self.dtypes.append(repr(dtype_to_descr(dtype)))
        return place


_UNSET: Final = object()
_WRITERS: Final[dict[type[Any], Callable[[Encoder, Any], None]]] = {
    type(None): Encoder.constant,
    bool: Encoder.constant,
    int: Encoder.integer,
    float: Encoder.real,
    str: Encoder.text,
    bytes: Encoder.octets,
    list: Encoder.sequence,
    tuple: Encoder.sequence,
    deque: Encoder.queue,
    dict: Encoder.dictionary,
    set: Encoder.collection,
    frozenset: Encoder.collection,
    np.ndarray: Encoder.array,
}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | bytes)

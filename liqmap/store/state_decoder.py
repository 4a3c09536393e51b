"""The reading half of `state_codec`: puts an object graph together again, value by value."""

import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from liqmap.store.state_classes import StateClass, StateDamaged
from liqmap.store.state_encoder import WRITEABLE

_U32: Final = struct.Struct("<I")
_I64: Final = struct.Struct("<q")
_F64: Final = struct.Struct("<d")


class Decoder:
    def __init__(self, data: bytes, at: int, classes: list[StateClass], dtypes: list[np.dtype[Any]]) -> None:
        self._data = data
        self._at = at
        self._classes = classes
        self._dtypes = dtypes
        self._made: list[Any] = []

    def whole(self) -> Any:
        """The one value, with nothing behind it. Raises StateDamaged."""
        try:
            value = self.get()
        except (struct.error, LookupError, ValueError, TypeError, RecursionError) as error:
            raise StateDamaged(f"at byte {self._at} of the state: {error}") from error
        if self._at != len(self._data):
            raise StateDamaged(f"at byte {self._at} of the state: something follows")
        return value

    def get(self) -> Any:
        letter = self._data[self._at]
        self._at += 1
        return _READERS[letter](self)

    def reference(self) -> Any:
        return self._made[self._number()]

    def integer(self) -> int:
        return int(self._next(_I64))

    def large(self) -> int:
        return int.from_bytes(self._bytes(), "little", signed=True)

    def real(self) -> float:
        return float(self._next(_F64))

    def text(self) -> str:
        return self._bytes().decode("utf-8", "surrogatepass")

    def octets(self) -> bytes:
        return self._bytes()

    def listed(self) -> Any:
        count, made = self._number(), list[Any]()
        self._made.append(made)
        made.extend(self.get() for _ in range(count))
        return made

    def fixed(self) -> Any:
        return self._closed(tuple, self._number())

    def named(self) -> Any:
        known, count = self._classes[self._number()], self._number()
        return self._closed(lambda items: tuple.__new__(known.made, items), count)

    def queue(self) -> Any:
        count, longest = self._number(), self._next(_I64)
        made: deque[Any] = deque(maxlen=None if longest < 0 else longest)
        self._made.append(made)
        made.extend(self.get() for _ in range(count))
        return made

    def dictionary(self) -> Any:
        count, made = self._number(), dict[Any, Any]()
        self._made.append(made)
        for _ in range(count):
            key = self.get()
            made[key] = self.get()
        return made

    def members(self) -> Any:
        count, made = self._number(), set[Any]()
        self._made.append(made)
        made.update(self.get() for _ in range(count))
        return made

    def frozen_members(self) -> Any:
        return self._closed(frozenset, self._number())

    def enum(self) -> Any:
        known = self._classes[self._number()]
        return known.made(self.get())

    def scalar(self) -> Any:
        dtype = self._dtypes[self._number()]
        return np.frombuffer(self._raw(dtype.itemsize), dtype)[0].copy()

    def instance(self) -> Any:
        known = self._classes[self._number()]
        made = object.__new__(known.made)
        self._made.append(made)
        for name in known.fields:
            if self._data[self._at] == ord("U"):
                self._at += 1
            else:
                object.__setattr__(made, name, self.get())
        return made

    def array(self) -> Any:
        dtype, word = self._dtypes[self._number()], self._number()
        axes, shape = [], []
        for _ in range(word >> 8):
            axes.append(self._number())
            shape.append(self._number())
        count = int(np.prod(shape, dtype=np.int64))
        raw = self._raw(count * dtype.itemsize)
        flat = np.frombuffer(raw, dtype).copy() if len(raw) else np.zeros(count, dtype)
        made = flat.reshape(shape).transpose(np.argsort(axes)) if axes else flat.reshape(())
        made.flags.writeable = bool(word & WRITEABLE)
        self._made.append(made)
        return made

    def _closed(self, close: Callable[[Any], Any], count: int) -> Any:
        """What can only be made when all its items are there."""
        place = len(self._made)
        self._made.append(None)
        self._made[place] = close([self.get() for _ in range(count)])
        return self._made[place]

    def _number(self) -> int:
        return int(self._next(_U32))

    def _next(self, layout: struct.Struct) -> Any:
        value = layout.unpack_from(self._data, self._at)[0]
        self._at += layout.size
        return value

    def _bytes(self) -> bytes:
        return bytes(self._raw(self._number()))

    def _raw(self, size: int) -> memoryview:
        if self._at + size > len(self._data):
            raise ValueError("it ends in the middle")
        begin, self._at = self._at, self._at + size
        return memoryview(self._data)[begin : self._at]


_READERS: Final[dict[int, Callable[[Decoder], Any]]] = {
    ord("N"): lambda _: None,
    ord("T"): lambda _: True,
    ord("F"): lambda _: False,
    ord("R"): Decoder.reference,
    ord("i"): Decoder.integer,
    ord("I"): Decoder.large,
    ord("f"): Decoder.real,
    ord("s"): Decoder.text,
    ord("b"): Decoder.octets,
    ord("l"): Decoder.listed,
    ord("t"): Decoder.fixed,
    ord("n"): Decoder.named,
    ord("q"): Decoder.queue,
    ord("d"): Decoder.dictionary,
    ord("S"): Decoder.members,
    ord("Z"): Decoder.frozen_members,
    ord("E"): Decoder.enum,
    ord("G"): Decoder.scalar,
    ord("O"): Decoder.instance,
    ord("A"): Decoder.array,
}

"""An object graph as bytes and back, to the bit: for checkpoints.

Only what was named may stand in it: plain values, the usual containers, numpy arrays, and classes of a list. Whatever
else is met (a function, a file, a class nobody named) is refused when it is written, with the place where it stands.
What two objects share is shared again afterwards. Nothing is ever called by name or run, so bytes from anywhere can at
worst be refused.

    u32 size of the table, table (JSON: classes with their fields, dtypes), one value

A value is a letter and what belongs to it, little endian; lists, arrays, objects and everything else that has an
identity are numbered in the order in which they begin, and `R` names one that stood before.
"""

import ast
import struct
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from numpy.lib.format import descr_to_dtype

from liqmap.store.state_classes import StateClass, StateDamaged, StateForeign
from liqmap.store.state_decoder import Decoder
from liqmap.store.state_encoder import Encoder

_U32: Final = struct.Struct("<I")
_LARGEST_TABLE: Final = 2**22


class StateTable(msgspec.Struct, frozen=True):
    """What stands in front of a state: the classes in it, with their fields, and the dtypes of its arrays."""

    classes: tuple[tuple[str, tuple[str, ...]], ...]
    dtypes: tuple[str, ...]


class StateCodec:
    """Writes and reads states of the classes it is given."""

    def __init__(self, classes: Iterable[type[Any]]) -> None:
        self._by_type = {one.made: one for one in map(StateClass.of, classes)}
        self._by_name = {one.name: one for one in self._by_type.values()}

    def encode(self, state: object) -> bytes:
        """The state as bytes. Raises StateRefused."""
        encoder = Encoder(self._by_type)
        encoder.put(state)
        classes = tuple((one.name, one.fields) for one in encoder.classes)
        table = msgspec.json.encode(StateTable(classes, tuple(encoder.dtypes)))
        return b"".join((_U32.pack(len(table)), table, encoder.out))

    def decode(self, data: bytes) -> Any:
        """The state that was written. Raises StateForeign, StateDamaged."""
        size = _U32.unpack_from(data)[0] if len(data) >= _U32.size else _LARGEST_TABLE
        begin = _U32.size + size
        if size >= _LARGEST_TABLE or begin > len(data):
            raise StateDamaged("its table of classes is cut off")
        try:
            table = msgspec.json.decode(data[_U32.size : begin], type=StateTable)
            dtypes = [descr_to_dtype(ast.literal_eval(one)) for one in table.dtypes]
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, SyntaxError, TypeError) as error:
            raise StateDamaged(f"its table of classes cannot be read: {error}") from error
        decoder = Decoder(data, begin, [self._same(*one) for one in table.classes], dtypes)
        return decoder.whole()

    def _same(self, name: str, fields: tuple[str, ...]) -> StateClass:
        """The class of that name, if it still is what it was. Raises StateForeign."""
        own = self._by_name.get(name)
        if own is None:
            raise StateForeign(f"it holds a {name}, which this program does not have")
        if own.fields != fields:
            more, less = sorted(set(fields) - set(own.fields)), sorted(set(own.fields) - set(fields))
            differs = [f"it has {', '.join(more)}" if more else "", f"it lacks {', '.join(less)}" if less else ""]
            raise StateForeign(f"its {name} is another one: {'; '.join(filter(None, differs)) or 'in another order'}")
        return own

"""States as bytes: what goes in comes out, to the bit and with what it shares; what may not stand in one is refused."""

import dataclasses
import struct
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from liqmap.domain.event import EVENT_DTYPE
from liqmap.store.state_classes import StateDamaged, StateForeign, StateRefused, classes_in
from liqmap.store.state_codec import StateCodec


class Side(IntEnum):
    LONG = 1
    SHORT = 2


class Pair(NamedTuple):
    one: Any
    other: Any


@dataclass(slots=True)
class Slotted:
    value: Any
    more: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value
        self._hidden = [value]


class Empty:
    pass


@dataclass
class Loose:
    value: Any


CLASSES = [Side, Pair, Slotted, Frozen, Plain, Empty, Loose]
CODEC = StateCodec(CLASSES)


def same(one: Any, other: Any) -> bool:
    """Equal to the bit: NaN is NaN, -0.0 is not 0.0, 1 is not True, nor is a tuple a list."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return bool(
            (one.dtype, one.shape, one.flags.writeable) == (other.dtype, other.shape, other.flags.writeable)
            and (one.tobytes() == other.tobytes())
        )
    if isinstance(one, np.generic):
        return bool(one.tobytes() == other.tobytes())
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if hasattr(one, "__dict__") and type(one) in CLASSES:
        return same(vars(one), vars(other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    return bool(one == other)


plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | st.sampled_from(Side)
)
some_array = arrays.arrays(
    st.sampled_from([np.dtype(t) for t in ("f8", "f4", "i8", "u1", "?", "<U3", "M8[ns]")]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.integers() | st.text(max_size=3) | st.tuples(st.integers(), st.text(max_size=2)) | st.sampled_from(Side)
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(lambda items: deque(items, maxlen=4))
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
        | st.builds(Pair, inner, inner)
        | st.builds(Slotted, inner, st.lists(inner, max_size=2))
        | st.builds(Frozen, inner)
        | st.builds(Plain, inner)
        | st.builds(Loose, inner)
        | st.builds(Empty)
    )


graphs = st.recursive(plain | some_array, nested, max_leaves=20)


@given(graphs)
def test_what_goes_in_comes_out(state: Any) -> None:
    assert same(CODEC.decode(CODEC.encode(state)), state)


@given(graphs, st.data())
def test_bytes_that_are_cut_are_refused(state: Any, draw: st.DataObject) -> None:
    """What was changed within is found by the CRC of the checkpoint around it."""
    data = CODEC.encode(state)
    with pytest.raises(StateDamaged):
        CODEC.decode(data[: draw.draw(st.integers(0, len(data) - 1))])


def test_what_is_shared_stays_shared_and_cycles_close() -> None:
    shared, numbers = Slotted(1.5), np.arange(3.0)
    state: dict[str, Any] = {"a": [shared, numbers], "b": Frozen(shared), "c": (numbers,)}
    state["self"] = state
    found = CODEC.decode(CODEC.encode(state))
    assert found["a"][0] is found["b"].value
    assert found["a"][1] is found["c"][0]
    assert found["self"] is found
    found["a"][1][0] = 7.0
    assert found["c"][0][0] == 7.0


def test_arrays_lie_in_memory_as_they_lay() -> None:
    """The order in which a sum is taken, and so its last bits, depends on it."""
    for array in (
        np.asfortranarray(np.random.default_rng(1).random((3, 40, 5))),
        np.random.default_rng(2).random((5, 4, 3)).transpose(2, 0, 1),
        np.random.default_rng(3).random((6, 6))[::2, 1::2],
        np.zeros(3, EVENT_DTYPE),
        np.array(4.0),
    ):
        found = CODEC.decode(CODEC.encode(array))
        assert found.dtype == array.dtype
        assert found.tobytes() == array.tobytes()
        by_stride = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        assert by_stride == sorted(range(array.ndim), key=lambda axis: -found.strides[axis])
        if array.dtype != EVENT_DTYPE:
            assert (
                found.sum(axis=-1 if array.ndim else None).tobytes()
                == array.sum(axis=-1 if array.ndim else None).tobytes()
            )
    frozen = np.arange(3)
    frozen.flags.writeable = False
    assert not CODEC.decode(CODEC.encode(frozen)).flags.writeable


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([1, lambda: 1], r"\[1\]: a builtins.function cannot be written down"),
        (Slotted([].append), r"value: a builtins.builtin_function_or_method cannot be written down"),
        ({"x": Plain(Slotted(open))}, r"\['x'\].value.value: a builtins.builtin_function"),
        (np.array([object()]), "an array of objects cannot be written down"),
        ({Frozen(1): 2}, "a Frozen as a key or member cannot be written down"),
        (type, "a builtins.type cannot be written down"),
        (object(), "a builtins.object cannot be written down"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_place(bad: Any, words: str) -> None:
    with pytest.raises(StateRefused, match=words):
        CODEC.encode(bad)


def test_a_class_that_nobody_named_and_a_field_that_nobody_declared_are_refused() -> None:
    class Stranger:
        pass

    with pytest.raises(StateRefused, match="Stranger cannot be written down"):
        CODEC.encode([Stranger()])
    plain = Plain(1)
    plain.later = 2  # type: ignore[attr-defined]
    with pytest.raises(StateRefused, match="sets later outside of its __init__"):
        CODEC.encode(plain)


def test_two_arrays_over_one_memory_and_a_tuple_in_itself_are_refused() -> None:
    whole = np.zeros(8)
    with pytest.raises(StateRefused, match="over the same memory"):
        CODEC.encode([whole, whole[2:4]])
    CODEC.encode([whole[:4], whole[4:]])
    inside: list[Any] = []
    ring = (inside,)
    inside.append(ring)
    with pytest.raises(StateRefused, match="contains itself"):
        CODEC.encode(ring)


def test_a_state_of_other_classes_is_refused_in_words() -> None:
    def version(*fields: str) -> type[Any]:
        made = dataclasses.make_dataclass("Slotted", fields, slots=True)
        made.__module__, made.__qualname__ = Slotted.__module__, "Slotted"
        return made

    data = CODEC.encode(Slotted(1))
    for other, words in (
        ([version("value", "more", "new")], "it lacks new"),
        ([version("value")], "it has more"),
        ([version("more", "value")], "in another order"),
        ([], "which this program does not have"),
    ):
        with pytest.raises(StateForeign, match=words):
            StateCodec(other).decode(data)
    renumbered = IntEnum("Side", {"LONG": 2, "SHORT": 1})  # type: ignore[misc]
    renumbered.__module__, renumbered.__qualname__ = Side.__module__, "Side"
    with pytest.raises(StateForeign, match="LONG"):
        StateCodec([renumbered]).decode(CODEC.encode(Side.LONG))


def test_something_behind_the_state_and_no_state_at_all_are_damage() -> None:
    data = CODEC.encode([1, 2])
    for broken in (data + b"N", b"", b"\xff" * 64, data[:4] + b"[" + data[5:]):
        with pytest.raises(StateDamaged):
            CODEC.decode(broken)


def test_the_classes_of_the_engine_are_found_with_their_fields() -> None:
    found = {one.__qualname__ for one in classes_in("liqmap.engine", "liqmap.domain")}
    assert {"Engine", "Intake", "Tape", "MinuteTape", "Window", "Grid", "Evidence", "Venue"} <= found

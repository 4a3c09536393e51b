"""The 64-byte event: what goes in comes out, and nothing that was not said becomes a number."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import Kind, PositionSide, Venue
from liqmap.domain.event import EVENT_DTYPE, MISSING, NO_INSTRUMENT, Event
from tests.events import events_array

_int64 = st.integers(-(2**63), 2**63 - 1)
_float = st.floats(allow_nan=False)
_byte = st.integers(0, 255)

events = st.builds(
    Event,
    receive_ns=_int64,
    venue_ms=_int64,
    price=_float,
    quantity=_float,
    extra=_float,
    detail=_int64,
    kind=_byte,
    venue=_byte,
    side=_byte,
    flags=_byte,
    topic=st.integers(0, 65535),
    instrument=st.integers(0, 65535),
)


def test_a_record_is_one_cache_line() -> None:
    assert EVENT_DTYPE.itemsize == 64
    assert EVENT_DTYPE.names == ("sequence", *Event._fields)


@given(st.lists(events, min_size=1, max_size=5), st.integers(0, 2**64 - 10))
def test_packed_fields_are_read_back_unchanged(written: list[Event], first: int) -> None:
    read = events_array(written, first)
    assert [int(n) for n in read["sequence"]] == [first + i for i in range(len(written))]
    for record, event in zip(read, written, strict=True):
        assert Event(*(record[name].item() for name in Event._fields)) == event


def test_what_is_not_said_is_not_a_number() -> None:
    tick = events_array([Event(1, kind=Kind.TICK)])[0]
    assert all(math.isnan(tick[name]) for name in ("price", "quantity", "extra"))
    assert tick["venue_ms"] == tick["detail"] == MISSING
    assert tick["instrument"] == NO_INSTRUMENT


def test_sides_and_venues_have_no_valid_zero_by_accident() -> None:
    assert 0 not in {int(side) for side in PositionSide}
    assert Venue(0) is Venue.UNKNOWN
    assert np.iinfo(EVENT_DTYPE["venue"]).max >= max(Venue)

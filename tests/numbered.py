"""Events whose every field tells their number, so that one that was torn shows."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.event import EVENT_DTYPE

FIRST_SEQUENCE: Final = (7 << 40) + 1
_FIELDS: Final = ("receive_ns", "venue_ms", "price", "quantity", "extra", "detail")
_KINDS: Final = 251


def numbered(first: int, count: int) -> NDArray[Any]:
    """Events number first, first + 1, …"""
    events = np.zeros(count, EVENT_DTYPE)
    numbers = np.arange(first, first + count)
    for field in _FIELDS:
        events[field] = numbers
    events["sequence"] = FIRST_SEQUENCE + numbers
    events["kind"] = numbers % _KINDS
    return events


def count_on(events: NDArray[Any], by: int) -> None:
    """The same events with numbers higher by that many, in place: for writers flat out."""
    for field in (*_FIELDS, "sequence"):
        events[field] += by
    events["kind"] = events["detail"] % _KINDS


def torn_events(events: NDArray[Any], first: int) -> int:
    """How many are not exactly the events number first, first + 1, …"""
    wanted = np.arange(first, first + len(events))
    good = (events["sequence"] == (FIRST_SEQUENCE + wanted).astype(np.uint64)) & (events["kind"] == wanted % _KINDS)
    for field in _FIELDS:
        good &= events[field] == wanted
    return int(len(events) - good.sum())


def numbers_of(events: NDArray[Any]) -> list[int]:
    """The numbers, once every field agrees on them."""
    numbers = (events["sequence"] - np.uint64(FIRST_SEQUENCE)).astype(np.int64)
    for field in _FIELDS:
        assert (events[field] == numbers).all(), f"torn: {field}"
    assert (events["kind"] == numbers % _KINDS).all(), "torn: kind"
    found: list[int] = numbers.tolist()
    return found

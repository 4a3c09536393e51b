"""Delays between tries: full jitter, the venue's wishes, and only data resets them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.exchanges.adapter import Refusal, RefusalKind
from liqmap.ingest.backoff import REGION_S, TOO_FAST_S, Backoff


@pytest.mark.finding("M14")
def test_the_ceiling_doubles_up_to_its_limit() -> None:
    backoff = Backoff(1.0, 32.0, lambda: 0.999999)
    assert [round(backoff.next_s()) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 32, 32]


@pytest.mark.finding("M14")
@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_the_whole_range_below_the_ceiling_is_drawn_from(seed: int) -> None:
    backoff = Backoff(1.0, 32.0, random.Random(seed).random)
    delays = [backoff.next_s() for _ in range(400)][6:]
    assert all(0.05 <= delay <= 32.0 for delay in delays)
    assert min(delays) < 4.0 < 28.0 < max(delays)


def test_a_very_long_outage_does_not_overflow() -> None:
    backoff = Backoff(1.0, 32.0, lambda: 0.5)
    assert [backoff.next_s() for _ in range(2000)][-1] == 16.0


@pytest.mark.finding("M14")
@pytest.mark.parametrize(
    ("kind", "retry_after_s", "least_s"),
    [
        (RefusalKind.RATE_LIMITED, None, TOO_FAST_S),
        (RefusalKind.RATE_LIMITED, 7.0, TOO_FAST_S),
        (RefusalKind.BANNED, 5000.0, 5000.0),
        (RefusalKind.REGION, None, REGION_S),
        (RefusalKind.OVERLOAD, 40.0, 40.0),
        (RefusalKind.SHAPE, None, 0.0),
    ],
)
def test_the_venues_wish_is_obeyed(kind: RefusalKind, retry_after_s: float | None, least_s: float) -> None:
    delay_s = Backoff(1.0, 32.0, lambda: 0.5).next_s(Refusal(kind, retry_after_s, ""))
    assert least_s <= delay_s <= least_s + 1.0


def test_a_reset_begins_anew() -> None:
    backoff = Backoff(1.0, 32.0, lambda: 1.0)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 1.0

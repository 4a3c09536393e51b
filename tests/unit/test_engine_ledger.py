"""Open interest: what is a change, what is a venue's absence, and what must be believed only when told twice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import Projection, Venue
from liqmap.engine.ledger import OpenInterestLedger

SECOND = 1_000_000_000
A, B, C = int(Venue.BINANCE), int(Venue.BYBIT), int(Venue.OKX)


def ledger() -> OpenInterestLedger:
    return OpenInterestLedger(max_age_s=90.0, jump_limit=0.0025)


def test_the_first_reading_is_a_level_and_no_change() -> None:
    book = ledger()
    assert math.isnan(book.total_base)
    assert book.projection is None
    assert book.reading(A, 79_000.0, 0) is None
    assert book.total_base == 79_000.0
    assert book.projection is Projection.DOLLARS


@pytest.mark.finding("M2")
def test_a_change_is_between_two_readings_of_one_venue_and_knows_the_total_before_it() -> None:
    book = ledger()
    book.reading(A, 79_000.0, 0)
    book.reading(B, 45_000.0, SECOND)
    found = book.reading(A, 79_010.0, 10 * SECOND)
    assert found is not None
    assert (found.change_base, found.previous_base, found.span_ns) == (10.0, 124_000.0, 10 * SECOND)
    assert book.total_base == 124_010.0


@pytest.mark.finding("X2")
@given(away_s=st.integers(91, 86_400), moved=st.floats(-0.9, 9.0))
def test_a_venue_that_drops_out_and_returns_changes_nothing(away_s: int, moved: float) -> None:
    book = ledger()
    for second in range(0, 60, 10):
        book.reading(A, 79_000.0, second * SECOND)
        book.reading(B, 45_000.0, second * SECOND)
    returned_ns = (50 + away_s) * SECOND
    assert book.reading(B, 45_000.0 * (1 + moved), returned_ns) is None
    assert book.levels(returned_ns).venue_base[B] == 45_000.0 * (1 + moved)


@pytest.mark.finding("X2")
def test_a_wrong_level_after_an_absence_is_not_booked_when_the_right_one_follows() -> None:
    book = ledger()
    assert book.reading(A, 10.0, 0) is None
    assert book.reading(A, 79_000.0, 10 * SECOND) is None
    assert book.reading(A, 79_001.0, 20 * SECOND) is None
    assert book.total_base == 79_001.0
    found = book.reading(A, 79_003.0, 30 * SECOND)
    assert found is not None
    assert found.change_base == 2.0


def test_a_jump_is_held_back_until_a_second_reading_agrees() -> None:
    book = ledger()
    book.reading(A, 79_000.0, 0)
    book.reading(A, 79_001.0, 10 * SECOND)
    assert book.reading(A, 80_000.0, 20 * SECOND) is None
    assert book.total_base == 79_001.0, "the level waits too"
    found = book.reading(A, 80_010.0, 30 * SECOND)
    assert found is not None
    assert found.change_base == 1_009.0


@pytest.mark.finding("X2")
def test_a_single_wrong_reading_passes_without_a_trace() -> None:
    book = ledger()
    book.reading(A, 79_000.0, 0)
    book.reading(A, 79_001.0, 10 * SECOND)
    assert book.reading(A, 158_000.0, 20 * SECOND) is None
    found = book.reading(A, 79_002.0, 30 * SECOND)
    assert found is not None
    assert found.change_base == 1.0


def test_a_steady_run_beyond_the_limit_is_booked_with_one_reading_of_delay() -> None:
    book = ledger()
    level, booked = 79_000.0, 0.0
    book.reading(A, level, 0)
    book.reading(A, level, 10 * SECOND)
    for turn in range(2, 32):
        level *= 0.998
        found = book.reading(A, level, turn * 10 * SECOND)
        booked += found.change_base if found else 0.0
    assert booked <= -0.9 * (79_000.0 - level)


def test_the_limit_scales_with_the_time_between_the_readings() -> None:
    book = ledger()
    book.reading(A, 79_000.0, 0)
    assert book.reading(A, 79_000.0 + 0.0024 * 79_000.0, 60 * SECOND) is not None
    assert book.reading(A, 79_000.0 + 2 * 0.0024 * 79_000.0, 70 * SECOND) is None


@pytest.mark.finding("M15")
@pytest.mark.parametrize("nothing", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_not_a_positive_number_is_no_reading(nothing: float) -> None:
    book = ledger()
    assert book.reading(A, nothing, 0) is None
    assert book.projection is None
    book.reading(A, 79_000.0, SECOND)
    for second in range(2, 80, 5):
        assert book.reading(A, nothing, second * SECOND) is None
    assert book.total_base == 79_000.0


def test_a_reading_that_covers_an_hour_may_be_an_hour_apart() -> None:
    book = ledger()
    hour = 3600
    assert book.reading(0, 90_000.0, 0, covers_ms=hour * 1000) is None
    found = book.reading(0, 91_000.0, hour * SECOND, covers_ms=hour * 1000)
    assert found is not None
    assert (found.change_base, found.span_ns) == (1_000.0, hour * SECOND)
    assert book.reading(0, 92_000.0, 3 * hour * SECOND, covers_ms=hour * 1000) is None, "one was missing"


def test_levels_name_the_stale_venues_and_keep_their_last_word() -> None:
    book = ledger()
    book.reading(A, 79_000.0, 0)
    book.reading(C, 28_000.0, 100 * SECOND)
    levels = book.levels(120 * SECOND)
    assert levels.total_base == 107_000.0
    assert levels.stale == (0, 1, 0, 0)
    assert levels.as_of_ns == (-1, 0, -1, 100 * SECOND)
    assert math.isnan(levels.venue_base[B])


def test_a_change_series_is_booked_once_its_usual_size_is_known() -> None:
    book = ledger()
    found = [book.change(0, (-1.0) ** minute * 5.0, minute * 60 * SECOND, covers_ms=60_000) for minute in range(20)]
    assert found[:10] == [None] * 10
    assert all(entry is not None for entry in found[10:])
    assert math.isnan(found[10].previous_base) if found[10] else False


@pytest.mark.finding("X2")
def test_in_a_change_series_a_drop_out_of_a_venue_is_not_believed() -> None:
    book = ledger()
    for minute in range(30):
        book.change(0, (-1.0) ** minute * (5.0 + minute % 3), minute * 60 * SECOND)
    assert book.change(0, -28_000.0, 1800 * SECOND) is None
    assert book.change(0, +28_000.0, 1860 * SECOND) is None
    assert book.change(0, 7.0, 1920 * SECOND) is not None


def test_changes_are_refused_while_the_venue_tells_levels() -> None:
    book = ledger()
    for minute in range(20):
        book.change(A, 5.0, minute * 60 * SECOND)
    book.reading(A, 79_000.0, 1200 * SECOND)
    assert book.change(A, 5.0, 1201 * SECOND) is None
    assert book.change(A, 5.0, 1400 * SECOND) is not None

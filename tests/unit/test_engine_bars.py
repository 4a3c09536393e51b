"""What a minute's readings of open interest prove about openings and closings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import Venue
from liqmap.engine.bars import opened_and_closed
from tests.unit.engine_tape import level, mark, quiet, run

changes = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


@given(changes)
def test_openings_less_closings_are_the_net_change_and_neither_is_negative(steps: list[float]) -> None:
    opened, closed = opened_and_closed(steps)
    assert opened - closed == pytest.approx(sum(steps), abs=1e-9)
    assert opened >= max(steps, default=0.0) - 1e-9
    assert opened >= 0.0
    assert closed >= -1e-9


@given(st.floats(-100, 100))
def test_one_reading_a_minute_is_the_change_itself(step: float) -> None:
    assert opened_and_closed([step]) == (max(step, 0.0), max(step, 0.0) - step)


@given(st.floats(1, 100), st.integers(1, 20))
def test_a_reading_that_flickers_counts_once(size: float, times: int) -> None:
    opened, closed = opened_and_closed([size, -size] * times)
    assert opened == pytest.approx(size)
    assert closed == pytest.approx(size)


def test_a_minute_that_falls_in_all_still_shows_what_was_opened_in_it() -> None:
    events = [*quiet(2), *[mark(120 + s, 60_000.0) for s in range(0, 60, 5)]]
    events += [level(120 + s, base) for s, base in ((5, 78_990.0), (20, 78_995.0), (35, 78_980.0), (50, 78_980.0))]
    _, frames = run(events, until_s=185)
    assert frames[2].facts.open_interest_change_base == pytest.approx(-20.0)
    assert frames[2].projection_usd.sum(axis=1).tolist() == [pytest.approx(5 * 60_000.0)] * 2


def test_venues_do_not_cancel_each_other() -> None:
    events = [*quiet(3), *[level(s, 45_000.0, Venue.BYBIT) for s in range(0, 125, 10)]]
    events += [level(165, 79_020.0), level(175, 79_020.0)]
    events += [level(150, 44_980.0, Venue.BYBIT), level(160, 44_980.0, Venue.BYBIT)]
    _, frames = run(events, until_s=185)
    assert frames[2].facts.open_interest_change_base == pytest.approx(0.0)
    assert frames[2].projection_usd.sum(axis=1).tolist() == [pytest.approx(20 * 60_000.0)] * 2

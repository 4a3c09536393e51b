"""Trades that never came are known by their numbers, each loss once; what comes again or begins anew is none."""

from hypothesis import given
from hypothesis import strategies as st

from liqmap.ingest.tape_numbers import TapeNumbers


def test_numbers_in_order_miss_nothing_wherever_they_begin() -> None:
    numbers = TapeNumbers()
    assert [numbers.missing(7, number, number) for number in range(5_000_000_000, 5_000_000_010)] == [0] * 10
    assert numbers.missing(7, 5_000_000_010, 5_000_000_019, 10) == 0
    assert numbers.missing(8, 3, 3) == 0, "another contract counts for itself"


def test_what_is_left_out_is_counted_once_before_and_within_a_run() -> None:
    numbers = TapeNumbers()
    numbers.missing(7, 100, 100)
    assert numbers.missing(7, 104, 104) == 3
    assert numbers.missing(7, 105, 105) == 0
    assert numbers.missing(7, 108, 112, 3) == 4


def test_what_comes_again_is_no_loss() -> None:
    numbers = TapeNumbers()
    numbers.missing(7, 100, 109, 10)
    assert numbers.missing(7, 104, 104) == 0
    assert numbers.missing(7, 110, 110) == 0


def test_after_a_new_beginning_any_number_may_come() -> None:
    numbers = TapeNumbers()
    numbers.missing(7, 100, 100)
    numbers.forget()
    assert numbers.missing(7, 900, 900) == 0


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.data())
def test_however_the_trades_are_cut_into_runs_as_many_are_missing_as_were_left_out(
    came: list[bool], data: st.DataObject
) -> None:
    told = [1000 + index for index, here in enumerate(came) if here]
    numbers, missed = TapeNumbers(), 0
    while told:
        size = data.draw(st.integers(1, len(told)))
        run, told = told[:size], told[size:]
        missed += numbers.missing(1, run[0], run[-1], len(run))
    inner = came[came.index(True) : len(came) - came[::-1].index(True)] if True in came else []
    assert missed == inner.count(False)

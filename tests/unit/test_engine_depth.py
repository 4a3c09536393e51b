"""Order-book frames: what they mean, and that nothing is lost or made up on the way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import BookState
from liqmap.engine.depth import BookFrame, DepthIntegrator, DepthSample
from tests.unit.depth_tape import (
    SECOND_NS,
    SPEC,
    START_NS,
    VENUES,
    WIDE,
    Tape,
    flat,
    mirrored,
    reference,
    run,
    same,
    sample,
    tapes,
)

NS_MS = 1_000_000


def test_a_constant_book_gives_itself() -> None:
    usd = np.random.default_rng(7).uniform(1, 1e7, (VENUES, 2, 30))
    book = [sample(at / 4, usd) for at in range(4 * 60)]
    first, second = run(book)
    assert (first.t_ms, second.t_ms) == (START_NS // NS_MS, START_NS // NS_MS + 30_000)
    assert np.allclose(first.usd, usd.astype(np.float32), rtol=1e-12) and first.first_bucket == 185
    assert first.samples == 120 and first.summed.covered_ms == 30_000 == first.venues[0].covered_ms
    assert first.mid_open == first.mid_mean == first.mid_close == 100.0
    totals = first.summed
    assert np.array_equal(totals.total_usd, totals.total_min_usd) and np.array_equal(
        totals.total_usd, totals.total_max_usd
    )
    assert np.allclose(totals.total_usd, sum(each.total_usd for each in first.venues), rtol=1e-12)
    assert (totals.complete_low, totals.complete_high) == (90.0, 110.0)


def test_odd_times_cover_a_frame_to_the_millisecond() -> None:
    book = [sample(at * 0.2917313, flat()) for at in range(105)]
    (frame,) = run(book, until_s=0)
    assert frame.summed.covered_ms == 30_000 == frame.venues[0].covered_ms


def test_the_mean_is_over_time_not_over_samples() -> None:
    heavy = [sample(0, flat(3000.0)), *[sample(10 + i / 10, flat(0.0)) for i in range(10)], sample(11, flat(0.0))]
    spec = replace(SPEC, hold_ns=60 * SECOND_NS)
    (frame,) = run([*heavy, sample(20, flat(6000.0)), sample(31, flat())], spec, until_s=0)
    assert np.allclose(frame.usd, (10 * 3000 + 10 * 0 + 10 * 6000) / 30)
    assert frame.venues[1].total_min_usd.tolist() == [0.0, 0.0]


def test_a_stall_is_not_integrated_but_told() -> None:
    (frame,) = run([sample(0, flat(100.0)), sample(20, flat(500.0)), sample(20.5, flat(500.0))])
    assert frame.venues[0].covered_ms == 1500 + 500 + 1500
    assert np.allclose(frame.usd, (1.5 * 100 + 2.0 * 500) / 3.5)


SYNCED3 = (BookState.SYNCED,) * VENUES


def frozen_from(silent_s: float, until_s: float, *, anew: bool = False) -> list[DepthSample]:
    """Venue 1 says nothing from `silent_s` on, which is noticed at `until_s`: its book is gone, or begins anew."""
    told = [at / 4 for at in range(4 * 29)]
    return [
        sample(
            at,
            flat(100.0 if at < until_s else 300.0),
            heard_s=(at, min(at, silent_s) if at < until_s else at, at),
            states=SYNCED3 if at < until_s or anew else (BookState.SYNCED, BookState.ABSENT, BookState.SYNCED),
            snapshots=(1, 1 + (at >= until_s), 1),
        )
        for at in told
    ]


def test_the_silence_of_a_book_that_turns_out_to_be_dead_is_taken_back() -> None:
    """A half-open connection is noticed after 15 s: until then its book is shown, but it was not known."""
    (frame,) = run(frozen_from(2.5, 18.0), until_s=60)
    assert frame.venues[1].covered_ms == 2500
    assert frame.venues[0].covered_ms == frame.venues[2].covered_ms == 30_000
    assert frame.summed.covered_ms == 2500, "and the sum of all lacks it for as long"
    assert np.allclose(frame.usd[1], 100.0)


def test_a_book_that_began_anew_between_two_looks_was_not_known_in_its_silence_either() -> None:
    (frame,) = run(frozen_from(2.5, 18.0, anew=True), until_s=60)
    assert frame.venues[1].covered_ms == 2500 + 12_000


def test_a_book_at_rest_that_speaks_again_was_known_all_the_while() -> None:
    book = [sample(at / 4, flat(), heard_s=(at / 4, min(at / 4, 2.5) if at < 80 else at / 4, 1)) for at in range(120)]
    (frame,) = run(book, until_s=60)
    assert [each.covered_ms for each in frame.venues] == [30_000] * 3


def test_a_frame_without_a_sample_is_not_made_up() -> None:
    frames = run([sample(29.9, flat()), sample(95, flat())])
    assert [(frame.t_ms - START_NS // NS_MS) // 1000 for frame in frames] == [0, 90]
    assert run([]) == []


def test_what_is_unknown_stays_unknown_and_empty_is_zero() -> None:
    usd = flat(0.0)
    usd[0, 0, 3] = np.nan
    (frame,) = run([sample(0, usd, states=(BookState.SYNCED, BookState.BROKEN, 0))])
    assert np.isnan(frame.usd[0, 0, 3]) and np.isnan(frame.usd[1:]).all()
    assert np.nansum(frame.usd[0]) == 0.0 and np.isnan(frame.usd[0]).sum() == 1
    assert frame.venues[1].covered_ms == 0 and np.isnan(frame.venues[1].total_usd).all()
    assert frame.summed.covered_ms == 0, "a wanted book was broken"
    assert np.isnan(frame.summed.total_usd).all() and np.isnan(frame.summed.complete_low)


def test_a_book_that_is_not_wanted_keeps_no_sum_from_being_whole() -> None:
    (frame,) = run([sample(0, flat(), states=(BookState.SYNCED, BookState.SYNCED, 0))])
    assert frame.summed.covered_ms == 1500
    assert np.allclose(frame.summed.total_usd, 2 * frame.venues[0].total_usd)


def test_no_whole_book_is_a_frame_that_says_so() -> None:
    (frame,) = run([sample(at, flat(), states=(BookState.SYNCING,) * 3) for at in range(5)])
    assert np.isnan([frame.mid_open, frame.mid_mean, frame.mid_close]).all() and np.isnan(frame.usd).all()
    assert frame.samples == 5


def test_the_totals_are_of_the_band_only() -> None:
    wide = sample(0, flat(1.0, cells=60), first_bucket=170)  # 85 to 114.5, the band is 90 to 110: 41 cells
    (frame,) = run([wide])
    assert frame.venues[0].total_usd.tolist() == [41.0, 41.0] and frame.usd.shape[-1] == 60


def test_a_range_that_moved_away_altogether_is_none() -> None:
    (frame,) = run([sample(0, flat(), complete=(90, 95)), sample(1, flat(), complete=(96, 99))])
    assert np.isnan(frame.summed.complete_low) and np.isnan(frame.venues[2].complete_high)
    (frame,) = run([sample(0, flat(), complete=(90, 97)), sample(1, flat(), complete=(94, 99))])
    assert (frame.venues[2].complete_low, frame.venues[2].complete_high) == (94, 97)
    (frame,) = run([sample(0, flat(), complete=(90, 97)), sample(1, flat(), complete=(np.nan, np.nan))])
    assert np.isnan(frame.venues[2].complete_low), "what is not known for a moment is not known for the frame"


def test_resyncs_are_those_within_the_frame() -> None:
    counts = [(5, 0, 0), (5, 1, 0), (7, 1, 0), (1, 1, 0)]  # ingest began anew before the last one
    first, second = run([sample(at, flat(), resyncs=each) for at, each in zip((0, 1, 2, 31), counts, strict=True)])
    assert [each.resyncs for each in first.venues] == [2, 1, 0] and first.summed.resyncs == 3
    assert [each.resyncs for each in second.venues] == [1, 1, 0]


def test_a_price_that_runs_away_costs_the_far_end_never_the_memory() -> None:
    far = [sample(at, flat(), first_bucket=185 + 1000 * at, mid=100 + 500 * at) for at in range(20)]
    (frame,) = run(far)
    assert frame.usd.shape[-1] <= SPEC.capacity
    last = frame.usd[0, 0, 185 + 19_000 - frame.first_bucket :][:30]
    assert np.array_equal(last, flat()[0, 0])


def test_a_step_of_the_windows_keeps_both_ends() -> None:
    (frame,) = run([sample(0, flat(10.0)), sample(1, flat(30.0), first_bucket=190, mid=102.5)])
    assert frame.first_bucket == 185 and frame.usd.shape[-1] == 35
    assert np.allclose(frame.usd[0, 0, :5], 10.0) and np.allclose(frame.usd[0, 0, 30:], 30.0)
    assert np.allclose(frame.usd[0, 0, 5:30], (1.0 * 10 + 1.5 * 30) / 2.5)


def test_time_that_goes_back_says_nothing() -> None:
    straight = [sample(at, flat(at + 1)) for at in range(5)]
    assert same(run([*straight[:4], sample(1, flat(1e9)), straight[4]]), run(straight))


def test_a_look_closes_only_what_nothing_can_be_said_about_any_more() -> None:
    made = DepthIntegrator(SPEC)
    assert made.look(START_NS) == [] and made.add(sample(29.5, flat())) == []
    assert made.look(START_NS + 31 * SECOND_NS) == [], "a sample of 29.9 may still be on its way"
    (frame,) = made.look(START_NS + 31 * SECOND_NS + SECOND_NS // 2)
    assert frame.samples == 1 and made.look(START_NS + 10**12) == []
    late = made.add(sample(29.9, flat()))
    assert late == [] and not any(each.t_ms == frame.t_ms for each in run_on(made, sample(62, flat())))


def run_on(made: DepthIntegrator, *samples: DepthSample) -> list[BookFrame]:
    """The frames that further samples close."""
    return [frame for each in samples for frame in made.add(each)]


@given(tapes())
def test_dollars_are_what_a_slow_reference_finds(tape: Tape) -> None:
    made, wanted = run(tape.samples, WIDE), reference(tape.samples)
    assert [frame.t_ms * NS_MS for frame in made] == list(wanted)
    for frame, expected in zip(made, wanted.values(), strict=True):
        assert frame.samples == expected["samples"]
        assert [round(each.covered_ms * NS_MS) for each in frame.venues] == expected["covered"]
        found = {
            (venue, side, frame.first_bucket + cell): frame.usd[venue, side, cell]
            for venue, side, cell in zip(*np.nonzero(~np.isnan(frame.usd)), strict=True)
        }
        known = {key: pieces for key, pieces in expected["cells"].items() if sum(w for w, _ in pieces)}
        assert {tuple(int(part) for part in key) for key in found} == set(known)
        for key, pieces in known.items():
            weight = sum(w for w, _ in pieces)
            assert found[key] == pytest.approx(sum(w * usd for w, usd in pieces) / weight, rel=1e-9)


@given(tapes(), st.data())
def test_looks_and_cuts_anywhere_give_the_same_frames(tape: Tape, data: st.DataObject) -> None:
    made = DepthIntegrator(WIDE)
    frames = []
    for here, after in zip(tape.samples, [*tape.samples[1:], None], strict=True):
        frames += made.add(here)
        if after is not None and data.draw(st.booleans()):
            frames += made.look(data.draw(st.integers(here.as_of_ns, after.as_of_ns)))
    frames += made.look(tape.samples[-1].as_of_ns + 2 * WIDE.frame_ns)
    assert same(frames, run(tape.samples, WIDE))


@given(tapes())
def test_means_lie_between_the_least_and_the_most(tape: Tape) -> None:
    for frame in run(tape.samples):
        for means in (frame.summed, *frame.venues):
            known = ~np.isnan(means.total_usd)
            assert (means.total_min_usd[known] <= means.total_usd[known]).all()
            assert (means.total_usd[known] <= means.total_max_usd[known]).all()
            assert 0 <= means.covered_ms <= frame.interval_ms
            assert np.isnan(means.complete_low) == np.isnan(means.complete_high)
            assert not means.complete_low > means.complete_high


@given(tapes())
def test_a_mirrored_book_gives_the_mirrored_frame(tape: Tape) -> None:
    for one, other in zip(run(tape.samples, WIDE), run([mirrored(each) for each in tape.samples], WIDE), strict=True):
        assert np.allclose(one.usd, other.usd[:, ::-1, ::-1], rtol=1e-9, equal_nan=True)
        assert np.isclose(one.mid_mean, 200.0 - other.mid_mean, equal_nan=True)
        for a, b in zip((one.summed, *one.venues), (other.summed, *other.venues), strict=True):
            assert np.allclose(a.total_usd, b.total_usd[::-1], rtol=1e-9, equal_nan=True)
            assert np.allclose(a.total_max_usd, b.total_max_usd[::-1], rtol=1e-9, equal_nan=True)
            assert np.isclose(a.complete_low, 200.0 - b.complete_high, equal_nan=True)

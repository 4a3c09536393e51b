"""The calibration on its own: tallies in, weights and a verdict out. Sums, rails, tiers, shipped priors."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.config import Config
from liqmap.config.records import SHIPPED_SYMBOLS
from liqmap.domain.enums import PositionSide, Venue, Verdict
from liqmap.engine.bars import MinuteBar, MinuteTape, OpenInterestStep
from liqmap.engine.calibration import (
    CARRIED,
    FIRST_DAY_MIN,
    FIRST_DAY_RAILS,
    LONGEST_MIN,
    RAILS,
    SHORTEST_MIN,
    VERDICTS_KEPT,
    Calibration,
)
from liqmap.engine.frames import SIDES, Liquidation
from liqmap.engine.judgement import (
    AGAINST,
    LEAST_EVENTS,
    LEVELS,
    REPEATED,
    Asked,
    Seen,
    VenueShares,
    entropy_of,
    judge,
    largest_allowed,
    least_entropy,
)
from liqmap.engine.spec import EngineSpec
from liqmap.shm.layout import CALIBRATION_WINDOWS
from tests.unit.engine_tape import BTC

LEVEL_BASE = 1000.0
NAN = float("nan")

BAR = MinuteBar(
    0,
    60_000.0,
    60_000.0,
    60_000.0,
    60_000.0,
    math.nan,
    math.nan,
    OpenInterestStep(math.nan, math.nan, (), math.nan, False),
)
"""Any minute that was heard, not made from a bar."""


def spec_with(weights: tuple[float, ...], realisation: float = 1.0) -> EngineSpec:
    """BTC with as many tiers as there are weights."""
    leverages = tuple(5.0 * (tier + 1) for tier in range(len(weights)))
    return replace(BTC, leverages=leverages, weights=weights, mmr=(0.004,) * len(weights), realisation=realisation)


def one(side: int = PositionSide.LONG, qty: float = 1.0, id_: int = 1, venue: int = Venue.BYBIT) -> Liquidation:
    """A liquidation at 60,000."""
    return Liquidation(id_, 1000 * id_, 0, venue, side, 60_000.0, NAN, 60_000.0, qty, qty * 60_000.0)


def told(calibration: Calibration, observed: Any, expected: Any) -> None:
    """A window's tallies, by tier, half of them on each side."""
    calibration.observed_base[:] += np.asarray(observed) / 2
    calibration.expected_base[:] += np.asarray(expected) / 2


def ended(
    calibration: Calibration, weights: np.ndarray, minutes: int = SHORTEST_MIN
) -> tuple[np.ndarray, np.ndarray] | None:
    """The window at its end, and what is to be applied."""
    return calibration.close(60_000 * minutes, minutes, weights, LEVEL_BASE)


def tiled(weights: tuple[float, ...]) -> np.ndarray:
    """By side."""
    return np.tile(np.array(weights), (SIDES, 1))


shares = st.lists(st.floats(0.01, 1.0), min_size=2, max_size=10).map(lambda raw: tuple(x / sum(raw) for x in raw))


@pytest.mark.finding("M4")
@pytest.mark.finding("M5")
@settings(max_examples=150, deadline=None)
@given(prior=shares, seed=st.integers(0, 2**32 - 1), days=st.booleans(), floating=st.booleans())
def test_weights_stay_positive_sum_to_one_and_move_within_the_rails(
    prior: tuple[float, ...], seed: int, days: bool, floating: bool
) -> None:
    rng = np.random.default_rng(seed)
    calibration = Calibration(spec_with(prior, 0.0 if floating else 1.0))
    calibration.minutes = FIRST_DAY_MIN if days else 0
    low, high = RAILS if days else FIRST_DAY_RAILS
    weights, tiers = tiled(prior), len(prior)
    for _ in range(12):
        expected = rng.exponential(20.0, tiers) * (rng.random(tiers) < 0.7)
        told(calibration, expected * rng.lognormal(0, 0.7, tiers), expected)
        before = weights
        applied = ended(calibration, weights)
        if applied is None:
            continue
        weights, factors = applied
        assert (weights > 0).all() and weights.shape == (SIDES, tiers)
        assert weights.sum(axis=1) == pytest.approx([1.0, 1.0], rel=1e-12)
        assert ((factors >= low) & (factors <= high)).all()
        moved = weights / before
        assert np.allclose(moved / moved[:, :1], factors / factors[:, :1], rtol=1e-9), "tiers move by their factors"
        assert (weights <= largest_allowed(calibration.prior)).all()
        assert min(map(entropy_of, weights)) >= least_entropy(calibration.prior)


@pytest.mark.finding("M4")
@pytest.mark.parametrize("tier", range(5))
def test_learning_touches_each_tier_of_the_table_and_no_other(tier: int) -> None:
    prior = (0.2, 0.2, 0.2, 0.2, 0.2)
    calibration, expected = Calibration(spec_with(prior)), np.full(5, 20.0)
    observed = expected.copy()
    observed[tier] = 30.0
    told(calibration, observed, expected)
    applied = ended(calibration, tiled(prior))
    assert applied is not None
    weights, factors = applied
    assert factors.argmax(axis=1).tolist() == [tier, tier] and weights[0, tier] > 0.2
    others = np.delete(factors[0], tier)
    assert others == pytest.approx(np.ones(4))


@pytest.mark.finding("M5")
def test_a_tier_without_weight_gets_none_and_takes_none() -> None:
    prior = (0.25, 0.0, 0.25, 0.25, 0.25)
    calibration = Calibration(spec_with(prior))
    told(calibration, [20.0, 0.0, 15.0, 20.0, 20.0], [20.0, 0.0, 20.0, 20.0, 20.0])
    applied = ended(calibration, tiled(prior))
    assert applied is not None and applied[0][0, 1] == 0.0 and applied[0][0].sum() == pytest.approx(1.0)


def test_observed_over_expected_by_hand() -> None:
    """f = (observed / realisation + a) / (expected + a), a = 0.02 * sum(expected) * prior; w * f ** 0.3, normalised."""
    prior = (0.2, 0.2, 0.3, 0.2, 0.1)
    calibration = Calibration(spec_with(prior, 0.1))
    told(calibration, [1.0, 2.0, 1.0, 2.0, 0.0], [10.0, 20.0, 20.0, 0.0, 0.0])
    applied = ended(calibration, tiled(prior))
    assert applied is not None
    anchor = 0.02 * 50.0 * np.array(prior)
    f = (np.array([10.0, 20.0, 10.0, 20.0, 0.0]) + anchor) / (np.array([10.0, 20.0, 20.0, 0.0, 0.0]) + anchor)
    f = np.clip(f, FIRST_DAY_RAILS[0] ** (1 / 0.3), FIRST_DAY_RAILS[1] ** (1 / 0.3))
    moved = np.array(prior) * f**0.3
    assert applied[1][0] == pytest.approx(f**0.3)
    assert applied[0][1] == pytest.approx(moved / moved.sum())
    shown = calibration.judged[-1]
    assert shown.level == pytest.approx(60.0 / 50.0) and shown.furthest == FIRST_DAY_RAILS[1]
    assert calibration.expected_base.sum() == pytest.approx(CARRIED * 50.0)
    assert calibration.realisation == pytest.approx(6.0 / 50.0), "the long run is measured, whatever is configured"


@settings(max_examples=50, deadline=None)
@given(level=st.floats(0.005, 1.0))
def test_only_the_shape_of_the_first_window_counts_while_the_realisation_is_unknown(level: float) -> None:
    prior = (0.3, 0.3, 0.4)
    applied = []
    for share in (1.0, level):
        calibration = Calibration(spec_with(prior, 0.0))
        told(calibration, share * np.array([9.0, 22.0, 19.0]), [10.0, 20.0, 20.0])
        found = ended(calibration, tiled(prior))
        assert found is not None and calibration.judged[-1].verdict is Verdict.CLEAR
        assert calibration.realisation == pytest.approx(share)
        applied.append(found[0])
    assert applied[0] == pytest.approx(applied[1], rel=1e-9)


def test_nothing_printed_at_all_is_a_level_that_no_market_has() -> None:
    for realisation in (0.0, 0.1, 1.0):
        calibration = Calibration(spec_with((0.5, 0.5), realisation))
        told(calibration, [0.0, 0.0], [30.0, 30.0])
        assert ended(calibration, tiled((0.5, 0.5))) is None
        assert calibration.judged[-1].verdict is Verdict.LEVEL and calibration.judged[-1].level == 0.0


# -- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_lasts_two_hours_at_least_and_is_given_up_after_four() -> None:
    calibration, weights = Calibration(spec_with((0.5, 0.5))), tiled((0.5, 0.5))
    for minute in range(1, LONGEST_MIN + 1):
        assert calibration.close(60_000 * minute, 1, weights, LEVEL_BASE) is None
        assert len(calibration.judged) == (minute == LONGEST_MIN)
    assert calibration.judged[0].verdict is Verdict.TOO_LITTLE and calibration.judged[0].minutes == LONGEST_MIN
    told(calibration, [10.0, 10.0], [10.0, 10.0])
    for minute in range(1, SHORTEST_MIN + 1):
        applied = calibration.close(60_000 * minute, 1, weights, LEVEL_BASE)
        assert (applied is not None) == (minute == SHORTEST_MIN)
    assert calibration.windows == 2 and calibration.applied == 1


def test_without_a_level_there_is_no_enough() -> None:
    calibration = Calibration(spec_with((0.5, 0.5)))
    told(calibration, [10.0, 10.0], [10.0, 10.0])
    assert calibration.close(0, LONGEST_MIN, tiled((0.5, 0.5)), NAN) is None
    assert calibration.judged[-1].verdict is Verdict.TOO_LITTLE


def test_the_history_is_bounded_and_fits_on_the_board() -> None:
    calibration = Calibration(spec_with((0.5, 0.5)))
    for number in range(3 * VERDICTS_KEPT):
        calibration.close(number, LONGEST_MIN, tiled((0.5, 0.5)), LEVEL_BASE)
    assert len(calibration.judged) == VERDICTS_KEPT == CALIBRATION_WINDOWS
    assert calibration.windows == 3 * VERDICTS_KEPT and calibration.judged[-1].end_ms == 3 * VERDICTS_KEPT - 1


def test_what_stands_nowhere_is_unattributed_and_not_observed() -> None:
    def around(side: int, cells: np.ndarray, reach: int) -> np.ndarray:
        return np.zeros((2, len(cells)))

    calibration, window = Calibration(spec_with((0.5, 0.5))), BTC.window(60_000.0)
    nothing = SimpleNamespace(around=around, at_risk_base=np.zeros((2, 2)))
    calibration.observe(nothing, window, BAR, MinuteTape(0, liquidations=[one(qty=2.0)]))  # type: ignore[arg-type]
    calibration.expect(nothing, -1.0)  # type: ignore[arg-type]
    for minute in range(1, 5):
        assert calibration.minutes == 0
        calibration.close(60_000 * minute, 1, tiled((0.5, 0.5)), LEVEL_BASE)
    assert calibration.minutes == 1, "it waited for the gaps that might concern it"
    assert not calibration.observed_base.any() and calibration._seen.unattributed_base == 2.0


# -- judgement --------------------------------------------------------------------------------------------------------


def seen(**changes: Any) -> Seen:
    """A window of a hundred sound liquidations."""
    return Seen(**{"events": 100, "base": 100.0, "venue_base": [0.0, 50.0, 50.0, 0.0], **changes})


def asked(prior: np.ndarray, level: float = 1.0, weights: np.ndarray | None = None) -> Asked:
    """A window that asks for these weights, else for the prior."""
    return Asked(level, 1.0, np.ones(len(prior)), np.tile(prior if weights is None else weights, (SIDES, 1)))


def verdict_of(window: Seen, prior: np.ndarray, venues: VenueShares | None = None, **of: Any) -> Verdict:
    """The verdict."""
    return judge(window, venues or VenueShares(), asked(prior, **of), prior)


UNIFORM = np.full(10, 0.1)


@pytest.mark.finding("M11")
@pytest.mark.parametrize(
    ("window", "of", "verdict"),
    [
        (seen(), {}, Verdict.CLEAR),
        (seen(repeated_base=100 * REPEATED), {}, Verdict.CLEAR),
        (seen(repeated_base=100 * REPEATED + 1), {}, Verdict.REPEATS),
        (seen(repeated_base=90.0, events=LEAST_EVENTS - 1), {}, Verdict.CLEAR),
        (seen(unattributed_base=26.0), {}, Verdict.UNATTRIBUTED),
        (seen(against_base=100 * AGAINST + 1), {}, Verdict.AGAINST_PRICE),
        (seen(against_base=100 * AGAINST + 1, events=LEAST_EVENTS - 1), {}, Verdict.CLEAR),
        (seen(), {"level": LEVELS[0] * 0.99}, Verdict.LEVEL),
        (seen(), {"level": LEVELS[1] * 1.01}, Verdict.LEVEL),
        (seen(), {"level": NAN}, Verdict.LEVEL),
        (seen(), {"weights": np.array([0.36, *[0.64 / 9] * 9])}, Verdict.LARGEST),
        (seen(), {"weights": np.array([0.34, 0.33, 0.32, *[0.01 / 7] * 7])}, Verdict.ENTROPY),
        (seen(repeated_base=90.0), {"level": 99.0, "weights": np.array([1.0, *[0.0] * 9])}, Verdict.REPEATS),
    ],
)
def test_the_first_check_that_fails_is_the_verdict(window: Seen, of: dict[str, Any], verdict: Verdict) -> None:
    assert verdict_of(window, UNIFORM, **of) is verdict


@pytest.mark.finding("M11")
def test_a_venue_is_missed_once_it_is_known_what_is_usual_and_forgotten_when_it_stays_away() -> None:
    shares, alone = VenueShares(), seen(venue_base=[0.0, 100.0, 0.0, 0.0])
    assert verdict_of(alone, UNIFORM, shares) is Verdict.CLEAR
    for _ in range(3):
        shares.learn(seen())
    assert verdict_of(alone, UNIFORM, shares) is Verdict.VENUE_MISSING
    assert verdict_of(seen(venue_base=[0.0, 94.0, 6.0, 0.0]), UNIFORM, shares) is Verdict.CLEAR
    for _ in range(6):
        shares.learn(alone)
    assert verdict_of(alone, UNIFORM, shares) is Verdict.CLEAR


@pytest.mark.finding("X15")
@pytest.mark.parametrize("symbol", SHIPPED_SYMBOLS)
def test_shipped_priors_pass_their_own_checks(symbol: str) -> None:
    prior = np.array(Config().symbols[symbol].weights)
    assert verdict_of(seen(), prior) is Verdict.CLEAR
    assert prior.max() < largest_allowed(prior) and entropy_of(prior) > least_entropy(prior)


@pytest.mark.finding("X15")
@settings(max_examples=200, deadline=None)
@given(prior=shares)
def test_any_prior_passes_its_own_checks(prior: tuple[float, ...]) -> None:
    assert verdict_of(seen(), np.array(prior)) is Verdict.CLEAR
    assert verdict_of(seen(), np.array([1.0, *[0.0] * len(prior)])) is Verdict.CLEAR


@pytest.mark.finding("M8")
def test_the_entropy_is_that_of_the_more_decided_side_in_nats() -> None:
    weights = np.array([[0.25] * 4, [0.5, 0.5, 0.0, 0.0]])
    assert Asked(1.0, 1.0, np.ones(4), weights).entropy == pytest.approx(np.log(2))
    assert Asked(1.0, 1.0, np.ones(4), weights).largest == 0.5


def test_longs_that_are_printed_while_price_rises_are_against_it() -> None:
    window = Seen()
    for move, side, qty in ((-1.0, 1, 1.0), (1.0, 1, 2.0), (1.0, 2, 4.0), (-1.0, 2, 8.0), (0.0, 2, 16.0)):
        window.add([one(side, qty)])
        window.settle(move)
    assert window.against_base == 10.0 and window.base == 31.0 and window.events == 5


def test_exact_repeats_are_counted_and_others_are_not() -> None:
    window = Seen()
    window.add([one(id_=1), one(id_=1), one(id_=2), one(id_=1, qty=2.0), one(id_=1, venue=Venue.OKX)])
    assert window.repeated_base == 1.0


def test_a_venue_that_sends_the_past_once_more_some_minutes_later_repeats_itself() -> None:
    window = Seen()
    for _ in range(2):
        window.add([one(id_=number) for number in range(10)])
        window.settle(-1.0)
    assert window.repeated_base == 10.0 and window.base == 20.0

"""What the calibration shows of itself when a minute closes: tallies, realisation, verdicts, and its guard rails.

Field names are those of `calibration_dtype` in shm/layout.py, so that publishing is copying by name. Arrays are copies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.engine import calibration as rules
from liqmap.engine import judgement
from liqmap.engine.calibration import Calibration
from liqmap.engine.frames import SIDES, Facts
from liqmap.engine.judgement import Judged

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GuardRails:
    """What the next window has to pass; shares 0..1, entropy in nats, times in minutes."""

    factor_low: float
    factor_high: float
    largest_weight: float
    least_entropy: float
    level_low: float
    level_high: float
    repeated_share: float
    unattributed_share: float
    against_price_share: float
    usual_venue_share: float
    venue_left_share: float
    least_events: int
    enough_share: float
    shortest_min: int
    longest_min: int

    @classmethod
    def of(cls, calibration: Calibration) -> "GuardRails":
        """Those in force: the steps are wider on a symbol's first day, the limits of the weights follow the prior."""
        low, high = calibration.rails
        return cls(
            factor_low=low,
            factor_high=high,
            largest_weight=judgement.largest_allowed(calibration.prior),
            least_entropy=judgement.least_entropy(calibration.prior),
            level_low=judgement.LEVELS[0],
            level_high=judgement.LEVELS[1],
            repeated_share=judgement.REPEATED,
            unattributed_share=judgement.UNATTRIBUTED,
            against_price_share=judgement.AGAINST,
            usual_venue_share=judgement.USUAL_SHARE,
            venue_left_share=judgement.LEFT_OF_IT,
            least_events=judgement.LEAST_EVENTS,
            enough_share=rules.ENOUGH,
            shortest_min=rules.SHORTEST_MIN,
            longest_min=rules.LONGEST_MIN,
        )


@dataclass(frozen=True, slots=True)
class CalibrationFrame:
    """The calibration at the end of a closed minute. See `calibration_dtype` for every field."""

    as_of_ns: int
    sequence: int
    learned_minutes: int
    window_minutes: int
    windows: int
    applied: int
    realisation_configured: float
    realisation_long_run: float
    divisor: int
    venue_completeness: tuple[float, ...]
    venue_saturation: tuple[float, ...]
    guard_rails: GuardRails
    judged: tuple[Judged, ...]
    leverages: tuple[float, ...]
    prior: Floats
    weights: Floats
    observed_base: Floats
    expected_base: Floats

    @classmethod
    def of(
        cls, calibration: Calibration, facts: Facts, leverages: tuple[float, ...], weights: Floats
    ) -> "CalibrationFrame":
        """`facts`: of the frame of the minute that closed; `weights`: those in force after it."""
        return cls(
            as_of_ns=facts.as_of_ns,
            sequence=facts.sequence,
            learned_minutes=calibration.minutes,
            window_minutes=calibration.window_min,
            windows=calibration.windows,
            applied=calibration.applied,
            realisation_configured=calibration.configured,
            realisation_long_run=calibration.realisation,
            divisor=int(calibration.divided_by),
            venue_completeness=facts.venue_completeness,
            venue_saturation=facts.venue_saturation,
            guard_rails=GuardRails.of(calibration),
            judged=tuple(calibration.judged),
            leverages=leverages,
            prior=np.tile(calibration.prior, (SIDES, 1)),
            weights=weights.copy(),
            observed_base=calibration.observed_base.copy(),
            expected_base=calibration.expected_base.copy(),
        )

"""Calibration: what was observed over what was expected, tier by tier, moves the weights of new positions.

Observed liquidations over-sample high leverage, so they are never counted as they come, nor attributed by how far they
lie from the price of the moment (that always says "the highest leverage"). Each one is attributed to the tiers by what
the inventory held within REACH cells of its trigger before price passed there; what was expected is what the inventory
lost in the same minute. At the end of a window, both sides together (people choose their leverage alike on either),

    f_i = (observed_i / realisation + a_i) / (expected_i + a_i)        a_i = ANCHOR * sum(expected) * prior_i
    w_i <- w_i * f_i ** ETA, within the guard rails, normalised

and the standing book is re-tiered by the same factors; half of the tallies is carried over. The realisation (c phi) is
the part of what leaves at its trigger that is printed as a liquidation. It is held at its long-run value and never
divided out of one window: the level of observed over expected is the only evidence on tiers that price never reached.

What a window says is judged before anything is applied (`judgement`); whatever is not CLEAR keeps the old weights.
Source: shared/model.md section 7.
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Divisor, Verdict
from liqmap.domain.grid import Window
from liqmap.engine.bars import MinuteBar, MinuteTape
from liqmap.engine.evidence import trigger_price
from liqmap.engine.frames import SIDES, Liquidation
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.judgement import LEVELS, Asked, Judged, Seen, VenueShares, judge
from liqmap.engine.spec import EngineSpec, significant

Floats = NDArray[np.float64]

REACH: Final = 3
"""Cells on either side of a trigger in which its position is looked for."""

ANCHOR: Final = 0.02
ETA: Final = 0.3
CARRIED: Final = 0.5
SHORTEST_MIN: Final = 120
LONGEST_MIN: Final = 240
ENOUGH: Final = 0.005
"""A window is enough once price passed this share of the open interest, both sides together."""

RAILS: Final = (0.85, 1.20)
FIRST_DAY_RAILS: Final = (0.60, 1.60)
FIRST_DAY_MIN: Final = 1440

VERDICTS_KEPT: Final = 64

LONG_RUN_MIN: Final = 7 * 1440
"""Half-life of the long-run realisation."""

_FORGET: Final = significant(0.5 ** (1 / LONG_RUN_MIN))


class Calibration:
    """One symbol. Knows its prior; the weights in force are the engine's and come and go as arguments."""

    def __init__(self, spec: EngineSpec) -> None:
        tiers = len(spec.leverages)
        self.prior: Floats = np.array(spec.weights)
        self.observed_base: Floats = np.zeros((SIDES, tiers))
        """By side and tier, attributed, of the running window and what was carried over."""
        self.expected_base: Floats = np.zeros((SIDES, tiers))
        self.judged: deque[Judged] = deque(maxlen=VERDICTS_KEPT)
        self.windows = 0
        """Windows that were judged."""
        self.applied = 0
        """Of them, those that moved the weights."""
        self.minutes = 0
        """Minutes learned from."""
        self.window_min = 0
        """Age of the running window."""
        self._anchored = spec.realisation
        self._mmr = spec.trigger_mmr
        self._long_observed = 0.0
        self._long_expected = 0.0
        self._seen = Seen()
        self._venues = VenueShares()

    @property
    def realisation(self) -> float:
        """Observed over expected in the long run, NaN: nothing was expected yet."""
        return self._long_observed / self._long_expected if self._long_expected > 0 else float("nan")

    @property
    def configured(self) -> float:
        """The configured realisation, NaN: none is."""
        return self._anchored if self._anchored > 0 else float("nan")

    @property
    def divided_by(self) -> Divisor:
        """By what observed quantities are divided: the configured realisation, else the long-run one."""
        if self._anchored > 0:
            return Divisor.ANCHORED
        return Divisor.LONG_RUN if self._long_observed > 0 else Divisor.OWN

    @property
    def rails(self) -> tuple[float, float]:
        """Between which factors a window may move a tier: wider on the first day."""
        return FIRST_DAY_RAILS if self.minutes < FIRST_DAY_MIN else RAILS

    def observe(self, inventory: InventoryModel, window: Window, bar: MinuteBar, tape: MinuteTape) -> None:
        """Attribute a minute's liquidations. To be called before the inventory loses what price passed.

        In a minute that was made from a bar the range of the bar is the range of the mark about each of them.
        """
        liquidations = tape.liquidations
        for side in range(SIDES):
            mine = [liquidation for liquidation in liquidations if liquidation.side == side + 1]
            if not mine:
                continue
            qty = np.array([liquidation.qty_base for liquidation in mine])
            triggers = np.array([liquidation.trigger_price for liquidation in mine])
            if tape.from_bar:
                triggers = np.clip([self._estimate(liquidation) for liquidation in mine], bar.low, bar.high)
            held = inventory.around(side, window.grid.buckets(triggers) - window.first, REACH)
            sums = held.sum(axis=0)
            found = sums > 0
            self.observed_base[side] += (held[:, found] / sums[found] * qty[found]).sum(axis=1)
            self._seen.unattributed_base += float(qty[~found].sum())
        self._seen.add(liquidations)

    def _estimate(self, liquidation: Liquidation) -> float:
        """The trigger by the printed price alone."""
        if liquidation.printed_price > 0:
            return trigger_price(liquidation.printed_price, liquidation.side, self._mmr, None)
        return liquidation.trigger_price

    def expect(self, inventory: InventoryModel, move: float) -> None:
        """What price passed in the minute that was observed; `move`: close less open, the direction it went."""
        self.expected_base += inventory.at_risk_base
        self._seen.settle(move)
        self.minutes += 1

    def close(self, end_ms: int, minutes: int, weights: Floats, level_base: float) -> tuple[Floats, Floats] | None:
        """End the window if it is time: (weights, factors) to apply, by side and tier, or None.

        `minutes` passed since the last call, `level_base` is the open interest.
        """
        self.window_min += minutes
        if self.window_min < SHORTEST_MIN:
            return None
        expected = float(self.expected_base.sum())
        if not expected > ENOUGH * level_base:
            if self.window_min >= LONGEST_MIN:
                self._record(end_ms, Verdict.TOO_LITTLE, Asked.nothing())
                self.window_min = 0
            return None
        asked = self._asked(weights)
        verdict = judge(self._seen, self._venues, asked, self.prior)
        factors = asked.factors if verdict is Verdict.CLEAR else np.ones(len(self.prior))
        self._record(end_ms, verdict, asked)
        self._begin_again(verdict, asked)
        if verdict is not Verdict.CLEAR:
            return None
        self.applied += 1
        return asked.weights, np.tile(factors, (SIDES, 1))

    def _asked(self, weights: Floats) -> Asked:
        """What the window asks for, within the rails."""
        expected = self.expected_base.sum(axis=0)
        divisor = self._divisor(float(self.observed_base.sum()) / float(expected.sum()))
        observed = self.observed_base.sum(axis=0) / divisor
        anchor = ANCHOR * float(expected.sum()) * self.prior
        anchor = np.where(anchor > 0, anchor, 1e-12 * float(expected.sum()))
        ratio = (observed + anchor) / (expected + anchor)
        low, high = self.rails
        factors = np.array([min(max(significant(one**ETA), low), high) for one in ratio.tolist()])
        moved = weights * factors
        return Asked(
            level=float(observed.sum()) / float(expected.sum()),
            divisor=divisor,
            factors=factors,
            weights=moved / moved.sum(axis=1, keepdims=True),
        )

    def _divisor(self, own: float) -> float:
        """The part of what leaves at its trigger that is printed; `own`: observed over expected of this window."""
        known = {Divisor.ANCHORED: self._anchored, Divisor.LONG_RUN: self.realisation, Divisor.OWN: own}
        divisor = known[self.divided_by]
        return divisor if divisor > 0 else 1.0

    def _record(self, end_ms: int, verdict: Verdict, asked: Asked) -> None:
        clear = verdict is Verdict.CLEAR
        furthest = max(asked.factors.tolist(), key=lambda factor: max(factor, 1 / factor)) if clear else 1.0
        self.windows += 1
        self.judged.append(
            Judged(end_ms, self.window_min, verdict, asked.level, asked.entropy, asked.largest, furthest)
        )

    def _begin_again(self, verdict: Verdict, asked: Asked) -> None:
        """What was corrupt is not carried over, nor does it count in the long run, but as much of it as can be right:
        a level or a venue that is gone for good must not stop the learning for good."""
        if not verdict.is_of_the_stream or verdict is Verdict.LEVEL:
            self._count_in_the_long_run(min(max(asked.level, LEVELS[0]), LEVELS[1]), asked.divisor)
        if not verdict.is_of_the_stream or verdict is Verdict.VENUE_MISSING:
            self._venues.learn(self._seen)
        carried = 0.0 if verdict.is_of_the_stream else CARRIED
        self.observed_base *= carried
        self.expected_base *= carried
        self._seen = Seen()
        self.window_min = 0

    def _count_in_the_long_run(self, level: float, divisor: float) -> None:
        """A window's part of the tallies: what is carried over counts again with the next one."""
        fade = significant(_FORGET**self.window_min)
        expected = (1 - CARRIED) * float(self.expected_base.sum())
        self._long_observed = fade * self._long_observed + level * divisor * expected
        self._long_expected = fade * self._long_expected + expected

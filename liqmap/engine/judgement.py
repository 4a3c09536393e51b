"""Whether a calibration window may move the weights: is the stream sound, and are the weights it asks for sane?

A stream that is corrupt must not teach: liquidations that come twice, that fall where the inventory holds nothing, that
are printed while price runs away from them, a venue that fell silent, a level that no market has. Then the weights that
are asked for: their entropy and their largest, before anything is applied. The first that fails is the verdict.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Venue, Verdict
from liqmap.engine.frames import Liquidation
from liqmap.engine.spec import significant

Floats = NDArray[np.float64]

REPEATED: Final = 0.2
"""Share of the quantity that is exact repeats (venue, side, time, price, quantity)."""
REMEMBERED: Final = 50_000
"""About so many liquidations of a window are compared; a venue that repeats itself does so within minutes."""
UNATTRIBUTED: Final = 0.25
"""Share of the quantity that was printed where the inventory holds nothing."""
AGAINST: Final = 0.7
"""Share of the quantity that was printed in minutes in which price went the other way."""
LEVELS: Final = (0.05, 5.0)
"""Observed over expected, the realisation taken out. Equal weights in a quiet market say seven times too much: that is
to be learned from, not refused."""
USUAL_SHARE: Final = 0.15
LEFT_OF_IT: Final = 0.1
"""A venue that usually prints USUAL_SHARE or more and printed less than LEFT_OF_IT of what is usual was not there."""
SHARES_KNOWN: Final = 2
"""Windows until what is usual is known."""
LEAST_EVENTS: Final = 50
"""Below so many liquidations nothing is concluded from repeats, directions and venues."""
LARGEST_WEIGHT: Final = 0.35
LEAST_ENTROPY: Final = 0.7
"""Share of the entropy that equal weights have; a prior that is more decided than that is its own measure."""

_USUAL_FADE: Final = 0.8


@dataclass(slots=True)
class Seen:
    """What a window saw of the stream, base."""

    events: int = 0
    base: float = 0.0
    repeated_base: float = 0.0
    unattributed_base: float = 0.0
    against_base: float = 0.0
    venue_base: list[float] = field(default_factory=lambda: [0.0] * len(Venue))
    _minute_base: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _known: set[tuple[int, int, int, float, float]] = field(default_factory=set)

    def add(self, liquidations: Sequence[Liquidation]) -> None:
        """The liquidations of one minute."""
        if len(self._known) > REMEMBERED:
            self._known.clear()
        for one in liquidations:
            self.events += 1
            self.base += one.qty_base
            self._minute_base[one.side - 1] += one.qty_base
            if one.venue < len(Venue):
                self.venue_base[one.venue] += one.qty_base
            key = (one.venue, one.side, one.ts_ms, one.printed_price, one.qty_base)
            if key in self._known:
                self.repeated_base += one.qty_base
            self._known.add(key)

    def settle(self, move: float) -> None:
        """Price moved by `move` in that minute: longs are liquidated when it falls."""
        if move != 0:
            self.against_base += self._minute_base[0 if move > 0 else 1]
        self._minute_base = [0.0, 0.0]


@dataclass(slots=True)
class VenueShares:
    """The share of the printed quantity that each venue usually has."""

    usual: list[float] = field(default_factory=lambda: [0.0] * len(Venue))
    windows: int = 0

    def learn(self, seen: Seen) -> None:
        """A window whose stream was sound."""
        if seen.base <= 0:
            return
        kept = _USUAL_FADE if self.windows else 0.0
        self.usual = [
            kept * old + (1 - kept) * new / seen.base for old, new in zip(self.usual, seen.venue_base, strict=True)
        ]
        self.windows += 1

    def miss_one(self, seen: Seen) -> bool:
        """Whether a venue that usually prints much printed next to nothing."""
        if self.windows < SHARES_KNOWN or seen.base <= 0:
            return False
        return any(
            usual >= USUAL_SHARE and now / seen.base < LEFT_OF_IT * usual
            for usual, now in zip(self.usual, seen.venue_base, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a window asks for: observed over expected, what observed was divided by, the factors by tier, and the
    weights by side and tier."""

    level: float
    divisor: float
    factors: Floats
    weights: Floats

    @classmethod
    def nothing(cls) -> "Asked":
        """A window that asks for nothing."""
        return cls(float("nan"), float("nan"), np.ones(1), np.full((1, 1), np.nan))

    @property
    def entropy(self) -> float:
        """The smaller one of the sides, nats: the one number that is checked and shown."""
        return min(entropy_of(side) for side in self.weights)

    @property
    def largest(self) -> float:
        """The largest weight."""
        return float(self.weights.max())


@dataclass(frozen=True, slots=True)
class Judged:
    """One window: when it ended, how long it was, what was decided and by which numbers.

    `level` is observed over expected, `entropy` (nats) and `largest` are those of the weights that were asked for,
    `furthest` the factor farthest from 1 that was applied (1: none). NaN: it did not come to that.
    """

    end_ms: int
    minutes: int
    verdict: Verdict
    level: float
    entropy: float
    largest: float
    furthest: float


def judge(seen: Seen, venues: VenueShares, asked: Asked, prior: Floats) -> Verdict:
    """The verdict on a window."""
    much = seen.events >= LEAST_EVENTS
    checks = (
        (Verdict.REPEATS, much and seen.repeated_base > REPEATED * seen.base),
        (Verdict.UNATTRIBUTED, seen.unattributed_base > UNATTRIBUTED * seen.base),
        (Verdict.AGAINST_PRICE, much and seen.against_base > AGAINST * seen.base),
        (Verdict.VENUE_MISSING, much and venues.miss_one(seen)),
        (Verdict.LEVEL, not LEVELS[0] <= asked.level <= LEVELS[1]),
        (Verdict.LARGEST, asked.largest > largest_allowed(prior)),
        (Verdict.ENTROPY, asked.entropy < least_entropy(prior)),
    )
    return next((verdict for verdict, failed in checks if failed), Verdict.CLEAR)


def largest_allowed(prior: Floats) -> float:
    """No tier may weigh more, unless the prior gave it more."""
    return max(LARGEST_WEIGHT, float(prior.max()))


def least_entropy(prior: Floats) -> float:
    """Nats. Never above what the prior itself has."""
    return min(LEAST_ENTROPY * significant(math.log(len(prior))), 0.9 * entropy_of(prior))


def entropy_of(weights: Floats) -> float:
    """Of one side's weights, nats."""
    held = weights[weights > 0].tolist()
    return significant(-math.fsum(weight * math.log(weight) for weight in held)) if held else float("nan")

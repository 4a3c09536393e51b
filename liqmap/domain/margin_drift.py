"""How far the margin rates that a venue publishes now are from those that the map is made with, tier by tier."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from liqmap.domain.margin import MarginTable, carries, mixed_mmr

TOLERATED: Final = 0.1
"""A tier whose rate differs by a larger share than this is off: at 50x a rate of 0.5 % that is wrong by so much moves
the projection by 0.05 % of price, well within the smear (12 % of a distance of 1.5 %)."""
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class TierDrift:
    """The effective maintenance margin rate of one leverage tier: in use, and published."""

    leverage: float
    used_mmr: float
    published_mmr: float

    @property
    def share(self) -> float:
        """The difference as a share of what is in use; positive: the venue asks for more."""
        return self.published_mmr / self.used_mmr - 1.0

    @property
    def off(self) -> bool:
        """More than is tolerated."""
        return abs(self.share) > TOLERATED + _ROUNDING


@dataclass(frozen=True, slots=True)
class Drift:
    """All tiers that one of the two tables carries. `own`: the file in use has a table of that venue; else the mix of
    the others is what stands for it, and what is compared."""

    tiers: tuple[TierDrift, ...]
    own: bool
    used_as_of: str

    @property
    def largest(self) -> TierDrift | None:
        """The tier that differs by the largest share; None: neither table carries any of the tiers."""
        return max(self.tiers, key=lambda tier: abs(tier.share), default=None)

    @property
    def off(self) -> int:
        """How many tiers differ by more than is tolerated."""
        return sum(tier.off for tier in self.tiers)


def drift(in_use: Sequence[MarginTable], published: MarginTable, leverages: Iterable[float]) -> Drift:
    """Compare what a venue publishes with what is used for it, in each leverage tier.

    A tier that only one of the two carries is compared with the lowest bracket of the other: that is what the map
    would take. One that neither carries says nothing of this venue and is left out.
    """
    of_venue = [table for table in in_use if table.venue is published.venue]
    used = of_venue or list(in_use)
    tiers = tuple(
        TierDrift(leverage, mixed_mmr(used, leverage), mixed_mmr([published], leverage))
        for leverage in leverages
        if carries(used, leverage) or carries([published], leverage)
    )
    return Drift(tiers, bool(of_venue), ", ".join(sorted({table.as_of for table in used})))

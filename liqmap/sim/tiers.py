"""Margin tiers of the simulated venues: what the market liquidates by and the venues publish, in one place.

Shaped like the public tables of the three venues (early 2026, rounded), on purpose not equal to them: the model must
not be graded on the very numbers it uses. One table per venue, for every contract.
"""

from typing import Final, NamedTuple

from liqmap.domain.enums import Venue

TIER_TABLES: Final[dict[Venue, list[tuple[float, float, float]]]] = {
    Venue.BINANCE: [
        (0.0, 0.004, 150.0),
        (300e3, 0.005, 100.0),
        (800e3, 0.0065, 75.0),
        (3e6, 0.01, 50.0),
        (12e6, 0.02, 25.0),
        (70e6, 0.025, 20.0),
        (100e6, 0.05, 10.0),
        (230e6, 0.1, 5.0),
    ],
    Venue.BYBIT: [
        (0.0, 0.005, 100.0),
        (2e6, 0.0056, 90.0),
        (5e6, 0.008, 60.0),
        (10e6, 0.0125, 40.0),
        (25e6, 0.02, 25.0),
        (60e6, 0.04, 12.5),
        (150e6, 0.08, 6.0),
    ],
    Venue.OKX: [
        (0.0, 0.004, 100.0),
        (1.5e6, 0.005, 75.0),
        (4e6, 0.0075, 50.0),
        (10e6, 0.015, 30.0),
        (30e6, 0.025, 20.0),
        (90e6, 0.05, 10.0),
    ],
}
"""By venue, each row: floor of the bracket in USD, maintenance rate, largest leverage."""


class Tier(NamedTuple):
    """One tier as venues publish it. `cap_usd` is inf for the last; `deduction_usd` makes maintenance continuous."""

    floor_usd: float
    cap_usd: float
    maintenance_rate: float
    leverage: float
    deduction_usd: float


def tiers(venue: Venue) -> tuple[Tier, ...]:
    """The table of a venue, from the smallest positions on."""
    rows = TIER_TABLES[venue]
    found: list[Tier] = []
    deduction = 0.0
    for number, (floor_usd, rate, leverage) in enumerate(rows):
        if number:
            deduction += floor_usd * (rate - rows[number - 1][1])
        cap_usd = rows[number + 1][0] if number + 1 < len(rows) else float("inf")
        found.append(Tier(floor_usd, cap_usd, rate, leverage, deduction))
    return tuple(found)

"""Maintenance margin as the simulated venues take it, and the mark price at which a position is liquidated.

Shaped like the public tables of the three venues (early 2026, rounded): Binance and Bybit grade a position by its
value at mark and deduct so that maintenance is continuous; OKX grades it by its size, deducts nothing and counts a
fee. The simulator keeps its own tables on purpose: the model must not be graded on the very numbers it uses.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Venue
from liqmap.sim.tiers import TIER_TABLES

Floats = NDArray[np.float64]
VenueNumbers = NDArray[np.uint8]

_BY_SIZE: Final = int(Venue.OKX)
_SIZE_FEE: Final = 0.0005
_WIDTH: Final = max(len(rows) for rows in TIER_TABLES.values())


def _column(number: int, missing: float) -> Floats:
    """One column of the tables as (venue, bracket), short tables padded with `missing`."""
    padded = np.full((max(TIER_TABLES) + 1, _WIDTH), missing)
    for venue, rows in TIER_TABLES.items():
        padded[venue, : len(rows)] = [row[number] for row in rows]
    return padded


_FLOOR: Final = _column(0, np.inf)
_RATE: Final = _column(1, 0.5)
_LEVERAGE: Final = _column(2, 1.0)
_CEILING: Final = np.concatenate([_FLOOR[:, 1:], np.full((len(_FLOOR), 1), np.inf)], axis=1)


def _deductions() -> Floats:
    """What makes maintenance continuous: at each floor the rate rises by as much as the deduction gives back."""
    sums = np.zeros_like(_FLOOR)
    for venue, rows in TIER_TABLES.items():
        if venue != _BY_SIZE:
            steps = _FLOOR[venue, 1 : len(rows)] * np.diff(_RATE[venue, : len(rows)])
            sums[venue, 1 : len(rows)] = np.cumsum(steps)
    return sums


_DEDUCTION: Final = _deductions()
_EXTRA: Final = np.where(np.arange(len(_FLOOR)) == _BY_SIZE, _SIZE_FEE, 0.0)[:, None]


def leverage_limit(venue: VenueNumbers, notional_usd: Floats) -> Floats:
    """Largest leverage the venues grant to positions of these notionals."""
    bracket = (_FLOOR[venue] <= notional_usd[:, None]).sum(axis=1) - 1
    return np.asarray(_LEVERAGE[venue, bracket])


def maintenance_usd(venue: VenueNumbers, qty_base: Floats, entry: Floats, mark: float) -> Floats:
    """Maintenance margin of positions at a mark price, USD."""
    value = qty_base * mark
    graded = np.where(venue == _BY_SIZE, qty_base * entry, value)
    bracket = (_FLOOR[venue] <= graded[:, None]).sum(axis=1) - 1
    rate = _RATE[venue, bracket] + _EXTRA[venue, 0]
    return np.asarray(value * rate - _DEDUCTION[venue, bracket])


def liquidation_price(venue: VenueNumbers, sign: Floats, qty_base: Floats, entry: Floats, margin_usd: Floats) -> Floats:
    """Mark prices (n,) at which equity equals maintenance margin; sign is +1 long, −1 short.

    LP = (margin + deduction − sign·q·entry) / (q·(rate − sign)), in the bracket that contains q·LP (OKX: q·entry).
    −inf for a long that no price liquidates. Maintenance being continuous in value, exactly one bracket fits.
    """
    sign, qty, entry = sign[:, None], qty_base[:, None], entry[:, None]
    every = (margin_usd[:, None] + _DEDUCTION[venue] - sign * qty * entry) / (
        qty * (_RATE[venue] + _EXTRA[venue] - sign)
    )
    graded = qty * np.where((venue == _BY_SIZE)[:, None], entry, np.maximum(every, 0.0))
    fits = (_FLOOR[venue] <= graded) & (graded < _CEILING[venue])
    price = every[np.arange(len(every)), fits.argmax(axis=1)]
    return np.where(fits.any(axis=1) & (price > 0.0), price, -np.inf)

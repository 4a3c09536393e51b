"""Maintenance margin as the simulated venues take it, and the mark price at which a position is liquidated.

Shaped like the public tables of the three venues (early 2026, rounded): Binance and Bybit grade a position by its
value at mark and deduct so that maintenance is continuous; OKX grades it by its size and deducts nothing. The
simulator keeps its own tables on purpose: the model must not be graded on the very numbers it uses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Venue

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Brackets:
    """`floor_usd[k]` … `floor_usd[k + 1]` is bracket k: its maintenance rate, deduction and largest leverage."""

    floor_usd: Floats
    rate: Floats
    deduction_usd: Floats
    max_leverage: Floats
    by_size: bool

    def leverage_limit(self, notional_usd: Floats) -> Floats:
        """Largest leverage the venue grants to positions of these notionals."""
        return self.max_leverage[self._bracket(notional_usd)]

    def liquidation_price(self, side: Floats, qty_base: Floats, entry: Floats, margin_usd: Floats) -> Floats:
        """Mark prices (n,) at which equity equals maintenance margin; side is +1 long, −1 short.

        LP = (margin + deduction − side·q·entry) / (q·(rate − side)), in the bracket that contains q·LP (OKX: q·entry).
        −inf for a long that no price liquidates.
        """
        if self.by_size:
            bracket = self._bracket(qty_base * entry)
            price = _solve(side, qty_base, entry, margin_usd, self.rate[bracket], self.deduction_usd[bracket])
        else:
            every = _solve(
                side[:, None], qty_base[:, None], entry[:, None], margin_usd[:, None], self.rate, self.deduction_usd
            )
            bracket = self._bracket(qty_base[:, None] * every)
            own = bracket == np.arange(len(self.rate))
            # Maintenance is continuous in value, so at most one solution lies in its own bracket; none: no price > 0.
            price = np.where(own.any(axis=1), every[np.arange(len(every)), own.argmax(axis=1)], -np.inf)
        return np.where(price > 0.0, price, -np.inf)

    def _bracket(self, notional_usd: Floats) -> NDArray[np.intp]:
        return np.maximum(np.searchsorted(self.floor_usd, notional_usd, side="right") - 1, 0)


def _solve(side: Floats, qty: Floats, entry: Floats, margin: Floats, rate: Floats, deduction: Floats) -> Floats:
    price: Floats = (margin + deduction - side * qty * entry) / (qty * (rate - side))
    return price


def _brackets(rows: list[tuple[float, float, float]], by_size: bool, fee: float = 0.0) -> Brackets:
    floor, rate, leverage = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    steps = np.concatenate([[0.0], np.cumsum(floor[1:] * np.diff(rate))])
    deduction = np.zeros(len(floor)) if by_size else steps
    return Brackets(floor, rate + fee, deduction, leverage, by_size)


_BINANCE = [
    (0.0, 0.004, 150.0),
    (300e3, 0.005, 100.0),
    (800e3, 0.0065, 75.0),
    (3e6, 0.01, 50.0),
    (12e6, 0.02, 25.0),
    (70e6, 0.025, 20.0),
    (100e6, 0.05, 10.0),
    (230e6, 0.1, 5.0),
]
_BYBIT = [
    (0.0, 0.005, 100.0),
    (2e6, 0.0056, 90.0),
    (5e6, 0.008, 60.0),
    (10e6, 0.0125, 40.0),
    (25e6, 0.02, 25.0),
    (60e6, 0.04, 12.5),
    (150e6, 0.08, 6.0),
]
_OKX = [
    (0.0, 0.004, 100.0),
    (1.5e6, 0.005, 75.0),
    (4e6, 0.0075, 50.0),
    (10e6, 0.015, 30.0),
    (30e6, 0.025, 20.0),
    (90e6, 0.05, 10.0),
]

BRACKETS: dict[Venue, Brackets] = {
    Venue.BINANCE: _brackets(_BINANCE, by_size=False),
    Venue.BYBIT: _brackets(_BYBIT, by_size=False),
    Venue.OKX: _brackets(_OKX, by_size=True, fee=0.0005),
}
"""The one table of each simulated venue, for every symbol."""

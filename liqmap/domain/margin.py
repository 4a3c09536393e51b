"""Maintenance margin: bracket tables, and the price at which a venue closes an isolated linear position.

Sources: Binance USD-M "liquidation protocol", Bybit "liquidation price (USDT contract)" in its older, entry-based form
and in the mark-based form of its help page of 27 May 2026, OKX "perpetual swaps, isolated margin". Quantities are base,
prices and margins quote; the sign s is +1 for a long and -1 for a short. Fees are ignored unless an argument names one.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from liqmap.domain.enums import PositionSide, Venue

SMALLEST_POSITION_USD = 1e4
LARGEST_POSITION_USD = 1e7
"""Position sizes over which open interest is taken to be spread evenly per decade (see `effective_mmr`)."""


class InvalidMarginTable(ValueError):
    """A bracket table contradicts itself, or a leverage cannot exist under it; the text says where."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """Positions worth `floor_usd` to `cap_usd`: maintenance margin = notional * mmr - deduction_usd."""

    floor_usd: float
    cap_usd: float
    mmr: float
    max_leverage: float
    deduction_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class MarginTable:
    """The brackets of one contract at one venue, lowest first, as of a date.

    `open_interest_share`: the part of the symbol's open interest for which the table speaks (a weight, not a promise).
    """

    venue: Venue
    as_of: str
    source: str
    open_interest_share: float
    brackets: tuple[Bracket, ...]

    @classmethod
    def of(
        cls, venue: Venue, as_of: str, source: str, share: float, rows: Iterable[tuple[float | None, float, float]]
    ) -> "MarginTable":
        """From rows (up to which notional in USD or None for open, mmr, highest leverage), lowest first.

        The deduction that makes the margin continuous at the edges (Binance `cum`, Bybit `mmDeduction`) follows from
        the rates: cum_n = cum_(n-1) + floor_n (mmr_n - mmr_(n-1)). OKX has none: its rate applies to the whole
        position. Raises InvalidMarginTable.
        """
        brackets: list[Bracket] = []
        floor, deduction, previous_mmr = 0.0, 0.0, 0.0
        for cap, mmr, leverage in rows:
            if brackets and venue is not Venue.OKX:
                deduction += floor * (mmr - previous_mmr)
            brackets.append(Bracket(floor, math.inf if cap is None else cap, mmr, leverage, deduction))
            floor, previous_mmr = brackets[-1].cap_usd, mmr
        table = cls(venue, as_of, source, share, tuple(brackets))
        table._check()
        return table

    def _check(self) -> None:
        name = f"{self.venue.name.lower()} as of {self.as_of}"
        if not self.brackets:
            raise InvalidMarginTable(f"{name}: no brackets")
        if not 0 < self.open_interest_share <= 1:
            raise InvalidMarginTable(f"{name}: open_interest_share {self.open_interest_share!r} is not in (0, 1]")
        for bracket in self.brackets:
            if not (0 < bracket.mmr < 1 and bracket.max_leverage >= 1 and bracket.floor_usd < bracket.cap_usd):
                raise InvalidMarginTable(f"{name}: bracket from {bracket.floor_usd:g} USD is impossible: {bracket}")
        for lower, upper in pairwise(self.brackets):
            if upper.mmr < lower.mmr or upper.max_leverage > lower.max_leverage:
                raise InvalidMarginTable(f"{name}: bracket from {upper.floor_usd:g} USD is milder than the one below")


def binance_liquidation_price(
    side: PositionSide, entry: float, qty_base: float, wallet_usd: float, mmr: float, deduction_usd: float
) -> float:
    """LP = (WB + cum - s q EP) / (q (mmr - s)) within one bracket; `wallet_usd` is the isolated wallet balance."""
    s = _sign(side)
    return (wallet_usd + deduction_usd - s * qty_base * entry) / (qty_base * (mmr - s))


def binance_liquidation_price_in(
    brackets: Iterable[Bracket], side: PositionSide, entry: float, qty_base: float, wallet_usd: float
) -> float | None:
    """The same, in the bracket that contains the position's value *at that price*; None: no price liquidates it."""
    for bracket in brackets:
        price = binance_liquidation_price(side, entry, qty_base, wallet_usd, bracket.mmr, bracket.deduction_usd)
        if price > 0 and bracket.floor_usd <= qty_base * price <= bracket.cap_usd:
            return price
    return None


def bybit_liquidation_price_at_entry(
    side: PositionSide, entry: float, qty_base: float, leverage: float, mmr: float, deduction_usd: float = 0.0
) -> float:
    """LP = EP - s (IM - MM) / q with the maintenance margin fixed at entry: MM = q EP mmr - deduction."""
    value = qty_base * entry
    return entry - _sign(side) * (value / leverage - (value * mmr - deduction_usd)) / qty_base


def bybit_liquidation_price_at_mark(
    side: PositionSide, entry: float, qty_base: float, leverage: float, mmr: float, deduction_usd: float = 0.0
) -> float:
    """The form with the maintenance margin at mark: EP (1 - s/L) - s ded/q over 1 - s mmr; 1-2 bp from the other."""
    s = _sign(side)
    return (entry * (1 - s / leverage) - s * deduction_usd / qty_base) / (1 - s * mmr)


def okx_liquidation_price(
    side: PositionSide, entry: float, qty_base: float, margin_usd: float, mmr: float, taker_fee: float
) -> float:
    """LP = (EP - s m/Q) / (1 - s (mmr + fee)): the margin ratio counts the fee of closing."""
    s = _sign(side)
    return (entry - s * margin_usd / qty_base) / (1 - s * (mmr + taker_fee))


def hyperliquid_liquidation_price(
    side: PositionSide, entry: float, qty_base: float, leverage: float, max_leverage: float
) -> float:
    """LP = EP - s (IM - MM) / (q (1 - s l)) with l = 1 / (2 max leverage) of the tier and MM = q EP l.

    Of a venue that is not listened to: it closes the list of formulas that the vectors hold (docs/model.md)."""
    s, rate = _sign(side), 0.5 / max_leverage
    available = qty_base * entry * (1 / leverage - rate)
    return entry - s * available / (qty_base * (1 - s * rate))


def effective_mmr(tables: Iterable[MarginTable], leverage: float) -> float:
    """The maintenance margin rate to use for a whole leverage tier of a symbol: `mixed_mmr`, where it can be.

    Raises InvalidMarginTable when 1/leverage leaves nothing above the rate: such a position is liquidated at birth.
    """
    mmr = mixed_mmr(tables, leverage)
    if mmr >= 1 / leverage:
        raise InvalidMarginTable(
            f"leverage {leverage:g} has an initial margin of {100 / leverage:.3g} %, "
            f"not above the maintenance margin of {100 * mmr:.3g} %"
        )
    return mmr


def carries(tables: Iterable[MarginTable], leverage: float) -> bool:
    """Whether any bracket allows that leverage."""
    return any(bracket.max_leverage >= leverage for table in tables for bracket in table.brackets)


def mixed_mmr(tables: Iterable[MarginTable], leverage: float) -> float:
    """The maintenance margin rate of a leverage over position sizes and tables.

    Dollars of open interest are taken to be spread evenly over the decades of position size between
    SMALLEST_POSITION_USD and LARGEST_POSITION_USD; each bracket that allows `leverage` weighs what of that span it
    covers, with its rate less the deduction at the geometric middle of the span; tables weigh their share of open
    interest. Where no bracket allows it, the lowest ones stand in (the tier was asked for, some venue may have it).
    """
    total = weight_sum = 0.0
    listed = list(tables)
    carried = carries(listed, leverage)
    for table in listed:
        allowed = [b for b in table.brackets if b.max_leverage >= leverage] if carried else [table.brackets[0]]
        spans = [(bracket, _span(bracket)) for bracket in allowed]
        span_sum = math.fsum(span for _, span in spans)
        if span_sum == 0:
            continue
        rate = math.fsum(span * _rate(bracket) for bracket, span in spans) / span_sum
        total += table.open_interest_share * rate
        weight_sum += table.open_interest_share
    return total / weight_sum if weight_sum else listed[0].brackets[0].mmr


def _span(bracket: Bracket) -> float:
    """Decades (natural) of position size that a bracket covers, of those that count."""
    low, high = _limits(bracket)
    return math.log(high / low) if high > low else 0.0


def _rate(bracket: Bracket) -> float:
    """Maintenance margin over notional in the geometric middle of the bracket."""
    low, high = _limits(bracket)
    return bracket.mmr - bracket.deduction_usd / math.sqrt(low * high)


def _limits(bracket: Bracket) -> tuple[float, float]:
    return max(bracket.floor_usd, SMALLEST_POSITION_USD), min(bracket.cap_usd, LARGEST_POSITION_USD)


def _sign(side: PositionSide) -> int:
    return 1 if side is PositionSide.LONG else -1

"""From the lots that changed hands within a tick to the prints of the tape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide, TakerSide
from liqmap.sim.market.positions import Rows
from liqmap.sim.tape import LIQUIDATIONS, TRADES

Trades = NDArray[np.void]

_BUY, _SELL, _LONG = int(TakerSide.BUY), int(TakerSide.SELL), int(PositionSide.LONG)
_SIZE_SPREAD = 1.3
"""Standard deviation of the logarithm of the size of a print."""
_SLIPPAGE = 2e-4
"""Mean distance of a liquidation's fill from the last price, as a share of it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One tick as prints see it."""

    from_ms: int
    to_ms: int
    from_price: float
    to_price: float
    price_tick: float
    lot_base: float

    def price_at(self, ts_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """Last price on the straight line through the tick."""
        along = (ts_ms - self.from_ms) / (self.to_ms - self.from_ms)
        return np.asarray(self.from_price + (self.to_price - self.from_price) * along)

    def printed(self, price: NDArray[np.float64], up: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The next multiple of the price tick, cleared of binary dust: takers buy at the ask and sell at the bid."""
        steps = price / self.price_tick
        steps = np.where(up, np.ceil(steps), np.floor(steps))
        return np.asarray(np.round(np.maximum(steps, 1.0) * self.price_tick, 10))

    def base(self, lots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Lots as base quantities, cleared of binary dust."""
        return np.asarray(np.round(lots * self.lot_base, 10))


def taker_split(matched: int, eager_buys: int, eager_sells: int, tilt: float) -> tuple[int, int]:
    """Matched lots by taker side. Every lot has one taker: where both were eager the share decides, where nobody was,
    `tilt` (0 … 1, the share of buyers)."""
    eager = eager_buys + eager_sells
    if eager > matched:
        buys = matched * eager_buys // eager
    else:
        buys = eager_buys + int((matched - eager) * tilt)
    return buys, matched - buys


def ordinary_prints(
    stretch: Stretch, lots: list[tuple[int, int]], mean_counts: list[float], generator: np.random.Generator
) -> list[Trades]:
    """TRADES of several venues: about `mean_counts` prints each, that sum exactly to its lots bought and sold by
    takers, sorted by time."""
    counts = generator.poisson(mean_counts).tolist()
    totals, pieces = [], []
    for (bought, sold), count in zip(lots, counts, strict=True):
        buys = round(count * bought / max(bought + sold, 1))
        totals += [bought, sold]
        pieces += [_pieces(buys, bought), _pieces(count - buys, sold)]
    number = sum(pieces)
    sizes = _split(totals, pieces, np.exp(_SIZE_SPREAD * generator.standard_normal(number)))
    trades = np.zeros(number, TRADES)
    trades["ts_ms"] = generator.integers(stretch.from_ms + 1, stretch.to_ms + 1, number)
    taker = np.repeat(np.array([_BUY, _SELL] * len(lots), dtype=np.uint8), pieces)
    trades["taker_side"] = taker
    trades["price"] = stretch.printed(stretch.price_at(trades["ts_ms"]), taker == _BUY)
    trades["qty_base"] = stretch.base(sizes)
    ends = np.cumsum(pieces)[1::2].tolist()
    return [_by_time(trades[a:b], sizes[a:b] > 0) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def liquidation_prints(
    rows: Rows, from_mark: float, to_mark: float, stretch: Stretch, generator: np.random.Generator
) -> tuple[Trades, NDArray[np.void]]:
    """TRADES and LIQUIDATIONS of POSITIONs liquidated in the tick: when mark came to them, near the last price then.

    The bankruptcy price is where the margin of what is liquidated is spent: entry ∓ margin / quantity.
    """
    along = np.clip((rows["liquidation"] - from_mark) / ((to_mark - from_mark) or 1.0), 0.0, 1.0)
    ts_ms = stretch.from_ms + 1 + (along * (stretch.to_ms - stretch.from_ms - 1)).astype(np.int64)
    order = np.argsort(ts_ms, kind="stable")
    rows, ts_ms = rows[order], ts_ms[order]
    sign, base = rows["sign"], stretch.base(rows["qty_lots"])
    slip = 1.0 - sign * _SLIPPAGE * generator.exponential(1.0, len(rows))
    fills, forced = np.zeros(len(rows), TRADES), np.zeros(len(rows), LIQUIDATIONS)
    fills["ts_ms"] = forced["ts_ms"] = ts_ms
    fills["qty_base"] = forced["qty_base"] = base
    fills["price"] = forced["fill_price"] = stretch.printed(stretch.price_at(ts_ms) * slip, sign < 0)
    fills["taker_side"] = np.where(sign > 0, _SELL, _BUY)
    forced["position_side"] = rows["side"]
    bankruptcy = rows["entry"] - sign * rows["margin_usd"] / base
    forced["bankruptcy_price"] = stretch.printed(bankruptcy, rows["side"] == _LONG)
    return fills, forced


def merged(ordinary: Trades, fills: Trades) -> Trades:
    """Both in the order of time."""
    both = np.concatenate([ordinary, fills])
    return both[np.argsort(both["ts_ms"], kind="stable")]


def _pieces(wanted: int, lots: int) -> int:
    return min(max(wanted, 1), lots)


def _split(totals: list[int], pieces: list[int], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each total in as many whole parts as `pieces` says, about in the proportions of its weights; sums exactly.

    One rounded running sum over everything, pinned to the totals where one ends and the next begins.
    """
    ends = np.cumsum(pieces)
    sums = np.diff(np.concatenate([[0.0], np.cumsum(weights)])[np.concatenate([[0], ends])])
    scale = np.array(totals) / np.where(sums > 0.0, sums, 1.0)
    running = np.rint(np.cumsum(weights * np.repeat(scale, pieces))).astype(np.int64)
    filled = np.array(pieces) > 0
    running[ends[filled] - 1] = np.cumsum(totals)[filled]
    return np.diff(np.concatenate([[0], np.maximum.accumulate(running)]))


def _by_time(trades: Trades, some: NDArray[np.bool_]) -> Trades:
    trades = trades[some]
    return trades[np.argsort(trades["ts_ms"], kind="stable")]

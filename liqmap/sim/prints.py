"""From the lots that changed hands within a tick to the prints of the tape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import TakerSide
from liqmap.sim.tape import TRADES

SIZE_SPREAD = 1.3
"""Standard deviation of the logarithm of the size of a print."""


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

    def printed(self, price: NDArray[np.float64], buys: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Takers buy at the ask and sell at the bid: the next multiple of the price tick, cleared of binary dust."""
        steps = np.where(buys, np.ceil(price / self.price_tick), np.floor(price / self.price_tick))
        return np.asarray(np.round(np.maximum(steps, 1.0) * self.price_tick, 10))


def taker_split(matched: int, eager_buys: int, eager_sells: int, tilt: float) -> tuple[int, int]:
    """Matched lots by taker side. Every lot has one taker: where both were eager the share decides, where nobody was,
    `tilt` (0 … 1, the share of buyers)."""
    eager = eager_buys + eager_sells
    if eager > matched:
        buys = matched * eager_buys // eager
    else:
        buys = eager_buys + int((matched - eager) * tilt)
    return buys, matched - buys


def prints(
    stretch: Stretch, buy_lots: int, sell_lots: int, mean_count: float, generator: np.random.Generator
) -> NDArray[np.void]:
    """TRADES of about `mean_count` prints that sum exactly to the given lots by taker side, sorted by time."""
    total = buy_lots + sell_lots
    if total == 0:
        return np.zeros(0, TRADES)
    count = int(generator.poisson(mean_count))
    buy_count = min(max(round(count * buy_lots / total), 1), buy_lots)
    sell_count = min(max(count - buy_count, 1), sell_lots)
    weights = np.exp(SIZE_SPREAD * generator.standard_normal(buy_count + sell_count))
    lots = np.concatenate([_split(buy_lots, weights[:buy_count]), _split(sell_lots, weights[buy_count:])])
    buys = np.arange(buy_count + sell_count) < buy_count
    some = np.flatnonzero(lots)
    trades = np.zeros(len(some), TRADES)
    trades["ts_ms"] = generator.integers(stretch.from_ms + 1, stretch.to_ms + 1, len(some))
    trades["taker_side"] = np.where(buys[some], TakerSide.BUY, TakerSide.SELL)
    trades["price"] = stretch.printed(stretch.price_at(trades["ts_ms"]), buys[some])
    trades["qty_base"] = np.round(lots[some] * stretch.lot_base, 10)
    return trades[np.argsort(trades["ts_ms"], kind="stable")]


def _split(total: int, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole lots in about these proportions, by rounding the running sum: exact, and every place alike."""
    if not len(weights):
        return np.zeros(0, np.int64)
    ends = np.rint(np.cumsum(weights) * (total / weights.sum())).astype(np.int64)
    ends[-1] = total
    return np.asarray(np.diff(ends, prepend=0))

"""Market makers: the accounts that take the other side of what people want to trade within a tick.

They first reduce what they hold against it and open positions for the rest, so a burst of liquidations lowers open
interest; between bursts they trade among themselves back to their ordinary inventories. They hold collateral for
half their inventory and top it up at once, so they are never liquidated: their positions count in open interest and
in the truth, with liquidation prices half the price away.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Lots = NDArray[np.int64]

ACCOUNTS = 8
_REDUCE_FIRST = 0.75
COLLATERAL = 0.5
"""USD of collateral per USD of inventory."""


@dataclass(slots=True)
class Makers:
    """Signed inventories of the market makers of one venue, whole lots; `usual` sums to zero."""

    inventory: Lots
    usual: Lots

    @classmethod
    def with_gross(cls, one_side: int, generator: np.random.Generator) -> "Makers":
        """Accounts that hold `one_side` lots long and as many short."""
        half = ACCOUNTS // 2
        longs = shared(one_side, generator.uniform(0.5, 1.5, half))
        shorts = shared(one_side, generator.uniform(0.5, 1.5, half))
        usual = np.concatenate([longs, -shorts])
        return cls(usual.copy(), usual)

    @property
    def long_lots(self) -> int:
        """Whole lots they are long."""
        return int(self.inventory[self.inventory > 0].sum())

    def trade(self, lots: int, generator: np.random.Generator) -> None:
        """Buy `lots` (negative: sell) from people."""
        if lots == 0:
            return
        direction, amount = (1, lots) if lots > 0 else (-1, -lots)
        against = np.maximum(-direction * self.inventory, 0)
        reduced = min(int(amount * _REDUCE_FIRST), int(against.sum()))
        back = against * reduced // max(int(against.sum()), 1)
        rest = shared(amount - int(back.sum()), generator.uniform(0.5, 1.5, ACCOUNTS))
        self.inventory += direction * (back + rest)

    def settle(self, share: float) -> int:
        """Trade among themselves: `share` of the way back to their usual inventories. Returns the lots traded."""
        wanted = (self.usual - self.inventory) * share
        change = np.rint(wanted - wanted.mean()).astype(np.int64)
        change[0] -= change.sum()
        self.inventory += change
        return int(change[change > 0].sum())


def shared(total: int, weights: NDArray[np.float64]) -> Lots:
    """`total` whole lots split about as `weights`; sums exactly to `total`."""
    parts: Lots = np.floor(weights * (total / weights.sum())).astype(np.int64)
    parts[int(weights.argmax())] += total - parts.sum()
    return parts

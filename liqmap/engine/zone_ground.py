"""What zones stand on: the dollars ahead of price on one side, their pools, and whose each cell's dollars are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.grid import Window
from liqmap.domain.pools import Pool, find_pools
from liqmap.engine.evidence import Evidence
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.smear import LONG_SIGN, SIGNS
from liqmap.engine.spec import ZoneRules

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ground:
    """One side ahead of price: `tiers_usd[tier, cell]` modelled and `evidence_usd[cell]` observed, at `prices[cell]`.

    `near` are the cells in which pools are looked for.
    """

    prices: Floats
    tiers_usd: Floats
    evidence_usd: Floats
    near: slice

    @classmethod
    def ahead(
        cls,
        side: int,
        price: float,
        reach_pct: float,
        bounds: Sequence[tuple[float, float]],
        window: Window,
        inventory: InventoryModel,
        evidence: Evidence,
    ) -> "Ground":
        """Of side 0 what lies below `price`, of side 1 above: as far as `reach_pct`, or as any of `bounds` lies."""
        prices = window.prices()
        if SIGNS[side] == LONG_SIGN:
            edge = price * (1 - reach_pct / 100)
            last = int(np.searchsorted(prices, price, "left"))
            near = int(np.searchsorted(prices, edge, "left"))
            first = int(np.searchsorted(prices, min([edge, *(low for low, _ in bounds)]), "left"))
            first, near = min(first, last), min(near, last)
            pools = slice(near - first, last - first)
        else:
            edge = price * (1 + reach_pct / 100)
            first = int(np.searchsorted(prices, price, "right"))
            near = int(np.searchsorted(prices, edge, "right"))
            last = int(np.searchsorted(prices, max([edge, *(high for _, high in bounds)]), "right"))
            pools = slice(0, max(near - first, 0))
        cells = slice(first, max(first, last))
        return cls(prices[cells], inventory.usd_within(side, cells), evidence.usd[side, cells], pools)

    def pools(self, rules: ZoneRules, least_usd: float) -> tuple[Pool, ...]:
        """The pools of at least so many dollars, richest first; tiers are summed in them."""
        return find_pools(
            self.prices[self.near],
            self.tiers_usd[:, self.near].sum(axis=0, keepdims=True),
            self.evidence_usd[self.near],
            width_pct=rules.width_pct,
            limit=rules.pools,
            min_notional_usd=least_usd,
        )

    def dollars(self, bounds: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
        """What stands within each (low, high): (zone, tier) modelled and (zone,) observed dollars.

        A cell that several hold belongs to the first of them, so that no dollar is counted twice.
        """
        tiers, zones = len(self.tiers_usd), len(bounds)
        lows = np.searchsorted(self.prices, [low for low, _ in bounds], "left")
        highs = np.searchsorted(self.prices, [high for _, high in bounds], "right")
        owner = np.zeros(len(self.prices), np.int64)
        for place in range(zones - 1, -1, -1):
            owner[lows[place] : highs[place]] = place + 1
        seen: Floats = np.bincount(owner, weights=self.evidence_usd, minlength=zones + 1)[1:].astype(np.float64)
        modelled = np.empty((zones, tiers))
        for tier in range(tiers):
            modelled[:, tier] = np.bincount(owner, weights=self.tiers_usd[tier], minlength=zones + 1)[1:]
        return modelled, seen

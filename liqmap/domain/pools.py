"""Pools: the peaks of one frame, per side, in dollars.

A pool is seeded at a bucket that holds more dollars than its neighbours; a bucket joins the richest seed within
`width_pct` of that seed's price. Membership is by distance to the seed, never to a neighbour: that would chain a whole
side into one pool. Ranked by dollars; evidence-only pools keep a quarter of the places, because observed liquidations
are always fewer dollars than modelled ones and yet the strongest signal.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
PoolSource = Literal["evidence", "projection", "both"]

NAMED_SHARE: Final = 0.05
"""A source with less than this share of a pool's dollars is not named as its source."""

EVIDENCE_ROOM: Final = 0.25
"""Share of the places (rounded up) that is kept for evidence-only pools, when there are such."""

LEAST_USD: Final = 0.5
"""A bucket with less is shown as empty, so it is."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One peak. `price` is weighted by dollars; `low` and `high` are the outermost buckets that hold any."""

    price: float
    low: float
    high: float
    notional_usd: float
    evidence_usd: float
    projected_usd: float
    by_tier_usd: tuple[float, ...]
    source: PoolSource
    buckets: int
    first_cell: int
    last_cell: int


def find_pools(
    prices: Floats,
    projection_usd: Floats,
    evidence_usd: Floats,
    *,
    width_pct: float,
    limit: int,
    min_notional_usd: float = 0.0,
) -> tuple[Pool, ...]:
    """The at most `limit` pools of one side, richest first.

    `prices[cell]` rises; `projection_usd[tier, cell]` and `evidence_usd[cell]` are dollars, NaN where unknown: what is
    unknown joins no pool. `notional_usd` of a pool is the sum of both; pools below `min_notional_usd` are left out.
    """
    tiers = np.nan_to_num(np.asarray(projection_usd, dtype=np.float64))
    evidence = np.nan_to_num(np.asarray(evidence_usd, dtype=np.float64))
    total = tiers.sum(axis=0) + evidence
    pools = [
        _pool(prices, tiers, evidence, total, members)
        for members in _memberships(np.asarray(prices, dtype=np.float64), total, width_pct / 100)
        if total[members].sum() >= min_notional_usd
    ]
    return rank(pools, limit)


def rank(pools: list[Pool], limit: int) -> tuple[Pool, ...]:
    """The richest `limit` pools, with EVIDENCE_ROOM of the places kept for the richest evidence-only ones."""
    ordered = sorted(pools, key=lambda pool: (-pool.notional_usd, pool.price))
    kept = ordered[:limit]
    room = min(limit, -int(-limit * EVIDENCE_ROOM // 1))
    missing = room - sum(pool.source == "evidence" for pool in kept)
    waiting = [pool for pool in ordered[limit:] if pool.source == "evidence"][: max(missing, 0)]
    for newcomer in waiting:
        poorest = next(i for i in range(len(kept) - 1, -1, -1) if kept[i].source != "evidence")
        kept[poorest : poorest + 1] = []
        kept.append(newcomer)
    return tuple(kept)


def _memberships(prices: NDArray[np.float64], total: NDArray[np.float64], width: float) -> list[NDArray[np.intp]]:
    """Cells of each pool: seeds from the richest local maximum down, each taking what is free within its width."""
    if total.size == 0:
        return []
    left = np.concatenate(([0.0], total[:-1]))
    right = np.concatenate((total[1:], [0.0]))
    peaks = np.flatnonzero((total >= LEAST_USD) & (total >= left) & (total >= right))
    peaks = peaks[np.argsort(-total[peaks], kind="stable")]
    free = total >= LEAST_USD
    pools: list[NDArray[np.intp]] = []
    for seed in peaks:
        if not free[seed]:
            continue
        low, high = prices[seed] * (1 - width), prices[seed] * (1 + width)
        first, last = np.searchsorted(prices, low, "left"), np.searchsorted(prices, high, "right")
        members = first + np.flatnonzero(free[first:last])
        free[members] = False
        pools.append(members)
    return pools


def _pool(
    prices: Floats,
    tiers: NDArray[np.float64],
    evidence: NDArray[np.float64],
    total: NDArray[np.float64],
    members: NDArray[np.intp],
) -> Pool:
    by_tier, dollars = tiers[:, members].sum(axis=1), total[members]
    evidence_usd, projected_usd = float(evidence[members].sum()), float(by_tier.sum())
    notional_usd = evidence_usd + projected_usd
    return Pool(
        price=float((dollars * prices[members]).sum() / dollars.sum()),
        low=float(prices[members[0]]),
        high=float(prices[members[-1]]),
        notional_usd=notional_usd,
        evidence_usd=evidence_usd,
        projected_usd=projected_usd,
        by_tier_usd=tuple(by_tier.tolist()),
        source=_source(evidence_usd, notional_usd),
        buckets=len(members),
        first_cell=int(members[0]),
        last_cell=int(members[-1]),
    )


def _source(evidence_usd: float, notional_usd: float) -> PoolSource:
    share = evidence_usd / notional_usd
    if share < NAMED_SHARE:
        return "projection"
    return "evidence" if share > 1 - NAMED_SHARE else "both"

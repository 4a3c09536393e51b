"""The population that stands at time 0: people who came along a synthetic past and are still there.

A path of the price law is drawn backwards from the start (no order flow in it), people are drawn as they would be
met at time 0, put on the path at the age they have, and those whom the path has liquidated, stopped or paid out are
dropped: what remains has the holes and heaps a real population has. No tick is simulated, so it takes well under a
second. Left out, and gone within the first hours: added margin and partial liquidations of the past.
"""

import numpy as np

from liqmap.config.simulation import SimSymbolConfig
from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.market.brackets import Floats
from liqmap.sim.market.people import Mood, People, liquidation_prices
from liqmap.sim.market.positions import Positions, Rows
from liqmap.sim.market.price import PriceProcess

STEP_MS = 120_000
"""Between two marks of the past."""
_HORIZON_DAYS = 12
_BATCH = 8192


def level_lots(symbol: SimSymbolConfig) -> dict[Venue, int]:
    """Open interest at time 0 by venue, whole lots of one side."""
    return {Venue[name.upper()]: round(base / symbol.lot_base) for name, base in symbol.open_interest_base.items()}


def past_path(price: PriceProcess, start_price: float) -> tuple[Floats, Floats]:
    """Marks of the past, oldest first and ending at `start_price`, and the trend at each. Leaves `price` there."""
    steps = _HORIZON_DAYS * 86_400_000 // STEP_MS
    path, trend = np.empty(steps), np.empty(steps)
    for i in range(steps):
        path[i] = price.step(STEP_MS, 0.0).mark
        trend[i] = price.trend
    price.move_to(start_price)
    return path * (start_price / path[-1]), trend


def populate(
    positions: Positions,
    people: People,
    price: PriceProcess,
    symbol: SimSymbolConfig,
    people_share: float,
    start_ms: int,
    generator: np.random.Generator,
) -> Floats:
    """Fill `positions` with survivors up to `people_share` of each venue's open interest, on each side exactly. Returns
    the path they came along: marks STEP_MS apart, the last one at `start_ms`."""
    path, trend = past_path(price, symbol.start_price)
    lowest = np.minimum.accumulate(path[::-1])[::-1]
    highest = np.maximum.accumulate(path[::-1])[::-1]
    level = level_lots(symbol)
    wanted = {(v, side): int(lots * people_share) for v, lots in level.items() for side in PositionSide}
    chance = np.array([level[v] for v in level], dtype=np.float64)
    numbers = np.array(list(level), dtype=np.uint8)
    while any(wanted.values()):
        plans, age_ms = people.standing(_BATCH)
        step = np.maximum(len(path) - 1 - (age_ms // STEP_MS).astype(np.intp), 0)
        venue = generator.choice(numbers, _BATCH, p=chance / chance.sum())
        entry = path[step] * np.exp(3e-4 * generator.standard_normal(_BATCH))
        rows = people.open(plans, venue, entry, start_ms - age_ms.astype(np.int64), Mood(trend[step], 0.0))
        rows = _still_wanted(rows[_survived(rows, lowest[step], highest[step])], wanted)
        rows["liquidation"] = liquidation_prices(rows, symbol.lot_base)  # the last of a side was cut to size
        positions.add(rows)
    return path


def _survived(rows: Rows, low: Floats, high: Floats) -> np.ndarray:
    """Which rows no barrier has closed between their opening and now (NaN barriers compare false)."""
    long = rows["sign"] > 0
    worst, best = np.where(long, low, high), np.where(long, high, low)
    sign = rows["sign"]
    dead = (sign * worst <= sign * rows["liquidation"]) & np.isfinite(rows["liquidation"])
    dead |= sign * worst <= sign * rows["stop"]
    dead |= sign * best >= sign * rows["target"]
    return np.asarray(~dead)


def _still_wanted(rows: Rows, wanted: dict[tuple[Venue, PositionSide], int]) -> Rows:
    """The rows up to the lots still wanted of each venue and side; the last of a side is cut to fit exactly."""
    keep = np.zeros(len(rows), bool)
    for (venue, side), lots in wanted.items():
        mine = np.flatnonzero((rows["venue"] == venue) & (rows["side"] == side))
        sums = np.cumsum(rows["qty_lots"][mine])
        fits = mine[sums <= lots]
        keep[fits] = True
        left = lots - int(sums[len(fits) - 1]) if len(fits) else lots
        if len(fits) < len(mine) and left:
            last = mine[len(fits)]
            share = left / rows["qty_lots"][last]
            rows["qty_lots"][last] = left
            rows["margin_usd"][last] *= share
            rows["opening_margin_usd"][last] *= share
            keep[last], left = True, 0
        wanted[venue, side] = left
    return rows[keep]

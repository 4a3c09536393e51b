"""What only a simulation knows: every open position and the price that liquidates it.

Rows follow the contract's truth table `ts_ms,position_side,liquidation_price,qty_base`; a position that no price
liquidates keeps its row with an empty (NaN) price, so that each side still sums to the open interest. Market makers are
positions too, one row per account and venue.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.market.makers import COLLATERAL
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.market.tables import SIDE_WORDS, VENUE_WORDS, Table, number

TRUTH = np.dtype(
    [
        ("ts_ms", "<i8"),
        ("position_side", "u1"),
        ("liquidation_price", "<f8"),
        ("qty_base", "<f8"),
        ("venue", "u1"),
        ("entry_price", "<f8"),
        ("leverage", "<f8"),
    ]
)
"""The contract's columns, then extra ones that its readers ignore: NaN where a market maker has no single one."""

TRUTH_COLUMNS = ("ts_ms", "position_side", "liquidation_price", "qty_base", "venue", "entry_price", "leverage")


def truth(market: SimulatedMarket, ts_ms: int) -> NDArray[np.void]:
    """TRUTH of all open positions at `ts_ms`. Raises ValueError unless the market stands exactly there."""
    if ts_ms != market.now_ms:
        raise ValueError(f"the market stands at {market.now_ms}, the end of a tick, not at {ts_ms}")
    people = market.positions.rows
    rows = np.zeros(len(people), TRUTH)
    rows["ts_ms"], rows["position_side"], rows["venue"] = ts_ms, people["side"], people["venue"]
    rows["liquidation_price"] = np.where(np.isfinite(people["liquidation"]), people["liquidation"], np.nan)
    rows["qty_base"] = np.round(people["qty_lots"] * market.lot_base, 10)
    rows["entry_price"], rows["leverage"] = people["entry"], people["leverage"]
    return np.concatenate([rows, *(_makers(market, venue, ts_ms) for venue in market.makers)])


def write_truth(market: SimulatedMarket, ts_ms: int, path: Path) -> None:
    """The truth at `ts_ms` as a table (gzip where the name ends in .gz). Raises OSError."""
    with Table(path, TRUTH_COLUMNS) as table:
        append_truth(market, ts_ms, table)


def append_truth(market: SimulatedMarket, ts_ms: int, table: Table) -> None:
    """Add the truth at `ts_ms` to a table of TRUTH_COLUMNS."""
    for ts, side, liquidation, qty, venue, entry, leverage in truth(market, ts_ms).tolist():
        table.add(
            str(ts),
            SIDE_WORDS[side],
            number(liquidation, 4),
            number(qty, 8),
            VENUE_WORDS[venue],
            number(entry, 4),
            number(leverage, 3),
        )


def _makers(market: SimulatedMarket, venue: Venue, ts_ms: int) -> NDArray[np.void]:
    inventory = market.makers[venue].inventory
    inventory = inventory[inventory != 0]
    rows = np.zeros(len(inventory), TRUTH)
    long = inventory > 0
    rows["ts_ms"], rows["venue"] = ts_ms, venue
    rows["position_side"] = np.where(long, PositionSide.LONG, PositionSide.SHORT)
    rows["liquidation_price"] = market.prices.mark * np.where(long, 1.0 - COLLATERAL, 1.0 + COLLATERAL)
    rows["qty_base"] = np.round(np.abs(inventory) * market.lot_base, 10)
    rows["entry_price"] = rows["leverage"] = np.nan
    return rows

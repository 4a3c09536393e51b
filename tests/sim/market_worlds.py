"""Small simulated markets for tests: few people, coarse steps, the same laws."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.config.simulation import SimConfig, sim_config
from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.tape import Tape

START_MS = 1_767_225_600_000


def small(positions: int = 4000, **table: Any) -> SimConfig:
    """A world of `positions` people per symbol; everything else as the preset and family say."""
    symbols = {name: {"positions": positions} for name in ("BTC", "ETH", "SOL")}
    return sim_config(**{"symbols": symbols, "trades_per_s": 2.0, **table})


def market(symbol: str = "BTC", **table: Any) -> SimulatedMarket:
    """A small market at START_MS."""
    return SimulatedMarket(small(**table), symbol, START_MS)


def ticks(world: SimulatedMarket, count: int, tick_ms: int) -> list[Tape]:
    """The tapes of the next `count` steps."""
    first = world.now_ms
    return [world.advance(first + (i + 1) * tick_ms) for i in range(count)]


def side_lots(world: SimulatedMarket, venue: Venue) -> tuple[int, int]:
    """Lots open long and short at a venue, counted position by position."""
    rows = world.positions.rows
    here = rows[rows["venue"] == venue]
    makers = world.makers[venue].inventory
    longs = int(here["qty_lots"][here["side"] == PositionSide.LONG].sum()) + int(makers[makers > 0].sum())
    shorts = int(here["qty_lots"][here["side"] == PositionSide.SHORT].sum()) - int(makers[makers < 0].sum())
    return longs, shorts


def liquidations(tapes: list[Tape]) -> NDArray[np.void]:
    """All liquidations of these tapes."""
    return np.concatenate([venue.liquidations for tape in tapes for venue in tape.venues.values()])

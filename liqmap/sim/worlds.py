"""Simulated worlds by name: the market of a symbol from the configuration."""

from liqmap.config.simulation import SimConfig
from liqmap.sim.market import SimulatedMarket


class UnknownSymbol(ValueError):
    """The configuration simulates no such symbol: a price and an open interest are never guessed."""


def open_market(config: SimConfig, symbol: str, start_ms: int) -> SimulatedMarket:
    """The market of `symbol` with its standing population, at `start_ms` (ms UTC). Raises UnknownSymbol."""
    if symbol not in config.symbols:
        known = ", ".join(sorted(config.symbols))
        raise UnknownSymbol(f"sim.symbols has no {symbol}; it simulates {known}")
    return SimulatedMarket(config, symbol, start_ms)

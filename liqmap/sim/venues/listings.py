"""The contracts that the simulated venues list: price ticks, lots, contract sizes, and how each venue writes numbers.

Facts of BTC, ETH and SOL are the venues' own (instrument lists of 2026); any other symbol gets ticks from its
configured price step. Foreign contracts are names that the all-market streams carry beside the configured ones.
"""

import math
from dataclasses import dataclass

from liqmap.config import Config, SymbolConfig
from liqmap.domain.enums import Venue


@dataclass(frozen=True, slots=True)
class Listing:
    """One linear USDT perpetual. `lot` is in the venue's unit: base coin, or contracts of `contract_base` coins."""

    venue: Venue
    symbol: str
    name: str
    tick: float
    price_decimals: int
    lot: float
    lot_decimals: int
    contract_base: float = 1.0
    trims_zeros: bool = False

    def price(self, price: float) -> str:
        """A price on the tick, as the venue writes it."""
        return self._written(round(price / self.tick) * self.tick, self.price_decimals)

    def lots(self, qty_base: float) -> int:
        """How many lots a base quantity is: rounded, at least one."""
        return max(1, round(qty_base / self.contract_base / self.lot))

    def size(self, qty_base: float) -> str:
        """A base quantity in the venue's unit on the lot, as the venue writes it."""
        return self.of_lots(self.lots(qty_base))

    def of_lots(self, lots: int) -> str:
        """So many lots, as the venue writes the quantity."""
        return self._written(lots * self.lot, self.lot_decimals)

    def _written(self, value: float, decimals: int) -> str:
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if self.trims_zeros and "." in text else text


_KNOWN: dict[tuple[Venue, str], tuple[float, int, float, int, float]] = {
    (Venue.BINANCE, "BTC"): (0.1, 2, 0.001, 3, 1.0),
    (Venue.BINANCE, "ETH"): (0.01, 2, 0.001, 3, 1.0),
    (Venue.BINANCE, "SOL"): (0.01, 4, 0.01, 2, 1.0),
    (Venue.BYBIT, "BTC"): (0.1, 2, 0.001, 3, 1.0),
    (Venue.BYBIT, "ETH"): (0.01, 2, 0.01, 2, 1.0),
    (Venue.BYBIT, "SOL"): (0.01, 3, 0.1, 1, 1.0),
    (Venue.OKX, "BTC"): (0.1, 1, 0.01, 2, 0.01),
    (Venue.OKX, "ETH"): (0.01, 2, 0.01, 2, 0.1),
    (Venue.OKX, "SOL"): (0.01, 2, 0.01, 2, 1.0),
}
"""(tick, price decimals, lot, lot decimals, base coins per contract) by venue and symbol."""


def listings_of(config: Config, venue: Venue) -> dict[str, Listing]:
    """The contracts of every configured symbol (enabled or not) at `venue`, by contract name."""
    found = {}
    for symbol, table in config.symbols.items():
        name = getattr(table.instruments, venue.name.lower())
        if name is not None:
            found[name] = _listing(venue, symbol, name, table)
    return found


def _listing(venue: Venue, symbol: str, name: str, table: SymbolConfig) -> Listing:
    decimals = max(0, 2 - math.floor(math.log10(table.step)))
    known = _KNOWN.get((venue, symbol), (10.0**-decimals, decimals, 0.01, 2, 1.0))
    tick, price_decimals, lot, lot_decimals, contract_base = known
    return Listing(
        venue, symbol, name, tick, price_decimals, lot, lot_decimals, contract_base, trims_zeros=venue is Venue.OKX
    )


@dataclass(frozen=True, slots=True)
class Foreign:
    """A contract nobody configured that shows up in all-market streams. `kind` is the venue's contract type."""

    name: str
    price: float
    price_decimals: int
    lot_decimals: int
    kind: str


FOREIGN: dict[Venue, tuple[Foreign, ...]] = {
    Venue.BINANCE: (
        Foreign("ILVUSDT", 3.852, 5, 1, "PERPETUAL"),
        Foreign("1000PEPEUSDT", 0.0071, 7, 0, "PERPETUAL"),
        Foreign("DOGEUSDT", 0.0705, 5, 0, "PERPETUAL"),
        Foreign("BTCDOMUSDT", 4512.3, 1, 3, "PERPETUAL"),
        Foreign("币安人生USDT", 0.1217, 4, 0, "PERPETUAL"),
        Foreign("BTCUSDC", 65010.0, 1, 3, "PERPETUAL"),
        Foreign("QQQUSDT", 611.4, 2, 2, "TRADIFI_PERPETUAL"),
        Foreign("BTCUSDT_270326", 65900.0, 1, 3, "CURRENT_QUARTER"),
        Foreign("BTCUSD_PERP", 65005.0, 1, 0, "COIN-M"),
        Foreign("ETHUSD_PERP", 1922.4, 2, 0, "COIN-M"),
    ),
    Venue.BYBIT: (
        Foreign("DOGEUSDT", 0.0705, 5, 0, "LinearPerpetual"),
        Foreign("SHIB1000USDT", 0.0091, 6, 0, "LinearPerpetual"),
        Foreign("BTCPERP", 65010.0, 2, 3, "LinearPerpetual"),
        Foreign("ETHPERP", 1922.4, 2, 2, "LinearPerpetual"),
        Foreign("BTCUSDT-26MAR27", 65900.0, 1, 3, "LinearFutures"),
    ),
    Venue.OKX: (
        Foreign("BTC-USD-SWAP", 65005.0, 1, 0, "inverse"),
        Foreign("ETH-USD-SWAP", 1922.4, 2, 0, "inverse"),
        Foreign("BTC-USDC-SWAP", 65010.0, 1, 0, "linear"),
        Foreign("DOGE-USDT-SWAP", 0.0705, 5, 2, "linear"),
        Foreign("PEPE-USDT-SWAP", 0.0000071, 9, 1, "linear"),
        Foreign("MINA-USDT-SWAP", 0.0986, 5, 0, "linear"),
    ),
}

"""Which contracts a venue lists, and which of them can be counted in base coin.

Only linear perpetual contracts quoted and settled in USDT become instruments. Everything else is refused with a reason
in words: an inverse contract's size is dollars, a USDC contract is another market, a dated future has a basis.
"""

import re
from collections.abc import Iterable
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import Listing

INVERSE: Final = "inverse contract"
DATED: Final = "dated future"
NOT_USDT: Final = "not settled in USDT"
NOT_A_SWAP: Final = "not a perpetual contract"
NOT_TRADING: Final = "not trading"

DATED_NAME: Final = re.compile(r"[_-]\d{2}[A-Z0-9]{2,5}\d*$")
"""How Binance and Bybit end the names of dated futures."""


def listing_of(venue: Venue, rows: Iterable[tuple[str, str | None, float]], cursor: str = "") -> Listing:
    """A list of rows (name, why it is refused or None, base coin per unit)."""
    instruments: dict[str, Instrument] = {}
    refused: dict[str, str] = {}
    for name, fault, contract_base in rows:
        if fault is None:
            instruments[name] = Instrument(venue, name, contract_base)
        else:
            refused[name] = fault
    return Listing(tuple(instruments.values()), refused, cursor)

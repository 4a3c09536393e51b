"""Binance's list of contracts: GET /fapi/v1/exchangeInfo."""

import re
from typing import Final

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Listing
from liqmap.exchanges.listings import DATED, DATED_NAME, INVERSE, NOT_TRADING, NOT_USDT, listing_of
from liqmap.exchanges.wire import DECODING_FAULTS, decoder, refuse


class _Symbol(Struct, gc=False):
    symbol: str
    contractType: str = ""  # noqa: N815
    status: str = ""
    quoteAsset: str = ""  # noqa: N815
    marginAsset: str = ""  # noqa: N815


class _Info(Struct):
    symbols: tuple[_Symbol, ...]


_info = decoder(_Info)
_PERPETUAL: Final = frozenset({"PERPETUAL", "TRADIFI_PERPETUAL"})
_OPEN: Final = frozenset({"TRADING", ""})


def listing(body: bytes) -> Listing:
    """Binance's list: sizes are in base coin already. Raises Malformed."""
    try:
        rows = _info(body).symbols
    except DECODING_FAULTS as error:
        refuse(error, body)
    return listing_of(Venue.BINANCE, ((row.symbol, _fault(row), 1.0) for row in rows))


def _fault(row: _Symbol) -> str | None:
    if row.quoteAsset == "USD":
        return INVERSE
    if row.quoteAsset != "USDT" or row.marginAsset != "USDT":
        return NOT_USDT
    if row.contractType not in _PERPETUAL:
        return DATED if row.contractType else NOT_TRADING
    return None if row.status in _OPEN else NOT_TRADING


def refused_name(name: str) -> str | None:
    """Why a Binance name cannot be a linear USDT perpetual, None when it can."""
    if name.endswith(("_PERP", "USD")):
        return INVERSE
    if DATED_NAME.search(name):
        return INVERSE if re.search(r"USD[_-]", name) else DATED
    return None if len(name) > 4 and name.endswith("USDT") else NOT_USDT

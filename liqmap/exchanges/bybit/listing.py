"""Bybit's list of contracts: GET /v5/market/instruments-info?category=linear, in pages."""

import re
from typing import Final

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Listing
from liqmap.exchanges.listings import DATED, DATED_NAME, INVERSE, NOT_USDT, listing_of
from liqmap.exchanges.wire import DECODING_FAULTS, decoder, refuse


class _Symbol(Struct, gc=False):
    symbol: str
    contractType: str = ""  # noqa: N815
    status: str = ""
    quoteCoin: str = ""  # noqa: N815
    settleCoin: str = ""  # noqa: N815


class _Page(Struct):
    list: tuple[_Symbol, ...]
    nextPageCursor: str = ""  # noqa: N815


class _Info(Struct):
    result: _Page


_info = decoder(_Info)
_PERPETUAL: Final = "LinearPerpetual"


def listing(body: bytes) -> Listing:
    """Bybit's list, one page of it: sizes are in base coin already. Raises Malformed."""
    try:
        page = _info(body).result
    except DECODING_FAULTS as error:
        refuse(error, body)
    rows = ((row.symbol, _fault(row), 1.0) for row in page.list)
    return listing_of(Venue.BYBIT, rows, page.nextPageCursor)


def _fault(row: _Symbol) -> str | None:
    if row.contractType.startswith("Inverse"):
        return INVERSE
    if row.settleCoin != "USDT" or row.quoteCoin != "USDT":
        return NOT_USDT
    return None if row.contractType == _PERPETUAL else DATED


def refused_name(name: str) -> str | None:
    """Why a Bybit name cannot be a linear USDT perpetual, None when it can."""
    if DATED_NAME.search(name):
        return DATED
    if re.search(r"USD([FGHJKMNQUVXZ]\d{2})?$", name):
        return INVERSE
    return None if len(name) > 4 and name.endswith("USDT") else NOT_USDT

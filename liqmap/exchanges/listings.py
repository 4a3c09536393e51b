"""Which contracts a venue lists, and which of them can be counted in base coin.

Only linear perpetual contracts quoted and settled in USDT become instruments. Everything else is refused with a reason
in words: an inverse contract's size is dollars, a USDC contract is another market, a dated future has a basis.
Sources: Binance GET /fapi/v1/exchangeInfo, Bybit GET /v5/market/instruments-info?category=linear,
OKX GET /api/v5/public/instruments?instType=SWAP.
"""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Final

from msgspec import Meta, Struct

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import Listing
from liqmap.exchanges.wire import DECODING_FAULTS, decoder, refuse

INVERSE: Final = "inverse contract"
DATED: Final = "dated future"
NOT_USDT: Final = "not settled in USDT"
NOT_A_SWAP: Final = "not a perpetual contract"
NOT_TRADING: Final = "not trading"

ContractValue = Annotated[float, Meta(gt=0, le=1e12)]


class _BinanceSymbol(Struct, gc=False):
    symbol: str
    contractType: str = ""  # noqa: N815
    status: str = ""
    quoteAsset: str = ""  # noqa: N815
    marginAsset: str = ""  # noqa: N815


class _BinanceInfo(Struct):
    symbols: tuple[_BinanceSymbol, ...]


class _BybitSymbol(Struct, gc=False):
    symbol: str
    contractType: str = ""  # noqa: N815
    status: str = ""
    quoteCoin: str = ""  # noqa: N815
    settleCoin: str = ""  # noqa: N815


class _BybitPage(Struct):
    list: tuple[_BybitSymbol, ...]
    nextPageCursor: str = ""  # noqa: N815


class _BybitInfo(Struct):
    result: _BybitPage


class _OkxContract(Struct, gc=False):
    instId: str  # noqa: N815
    instType: str = ""  # noqa: N815
    ctType: str = ""  # noqa: N815
    settleCcy: str = ""  # noqa: N815
    ctVal: str = ""  # noqa: N815
    ctMult: str = ""  # noqa: N815
    ctValCcy: str = ""  # noqa: N815
    state: str = ""


class _OkxInfo(Struct):
    data: tuple[_OkxContract, ...]


_binance_info = decoder(_BinanceInfo)
_bybit_info = decoder(_BybitInfo)
_okx_info = decoder(_OkxInfo)
_contract_value: Callable[[bytes], float] = decoder(ContractValue)

_BINANCE_PERPETUAL: Final = frozenset({"PERPETUAL", "TRADIFI_PERPETUAL"})
_BINANCE_OPEN: Final = frozenset({"TRADING", ""})
_BYBIT_PERPETUAL: Final = "LinearPerpetual"
_OKX_OPEN: Final = frozenset({"live", "suspend", "preopen", ""})


def binance_listing(body: bytes) -> Listing:
    """Binance's list: sizes are in base coin already. Raises Malformed."""
    try:
        rows = _binance_info(body).symbols
    except DECODING_FAULTS as error:
        refuse(error, body)
    return _listing(Venue.BINANCE, ((row.symbol, _binance_fault(row), 1.0) for row in rows))


def bybit_listing(body: bytes) -> Listing:
    """Bybit's list, one page of it: sizes are in base coin already. Raises Malformed."""
    try:
        page = _bybit_info(body).result
    except DECODING_FAULTS as error:
        refuse(error, body)
    rows = ((row.symbol, _bybit_fault(row), 1.0) for row in page.list)
    return _listing(Venue.BYBIT, rows, page.nextPageCursor)


def okx_listing(body: bytes) -> Listing:
    """OKX's list: a contract is ctVal × ctMult of base coin. Raises Malformed."""
    try:
        rows = _okx_info(body).data
    except DECODING_FAULTS as error:
        refuse(error, body)
    return _listing(Venue.OKX, (_okx_row(row) for row in rows))


def _listing(venue: Venue, rows: Iterable[tuple[str, str | None, float]], cursor: str = "") -> Listing:
    instruments: dict[str, Instrument] = {}
    refused: dict[str, str] = {}
    for name, fault, contract_base in rows:
        if fault is None:
            instruments[name] = Instrument(venue, name, contract_base)
        else:
            refused[name] = fault
    return Listing(tuple(instruments.values()), refused, cursor)


def _binance_fault(row: _BinanceSymbol) -> str | None:
    if row.quoteAsset == "USD":
        return INVERSE
    if row.quoteAsset != "USDT" or row.marginAsset != "USDT":
        return NOT_USDT
    if row.contractType not in _BINANCE_PERPETUAL:
        return DATED if row.contractType else NOT_TRADING
    return None if row.status in _BINANCE_OPEN else NOT_TRADING


def _bybit_fault(row: _BybitSymbol) -> str | None:
    if row.contractType.startswith("Inverse"):
        return INVERSE
    if row.settleCoin != "USDT" or row.quoteCoin != "USDT":
        return NOT_USDT
    return None if row.contractType == _BYBIT_PERPETUAL else DATED


def _okx_row(row: _OkxContract) -> tuple[str, str | None, float]:
    fault = _okx_fault(row)
    if fault is not None:
        return row.instId, fault, 0.0
    try:
        return row.instId, None, _contract_value(row.ctVal.encode()) * _contract_value(row.ctMult.encode())
    except DECODING_FAULTS:
        return row.instId, "no contract size", 0.0


def _okx_fault(row: _OkxContract) -> str | None:
    if row.instType != "SWAP":
        return DATED if row.instType == "FUTURES" else NOT_A_SWAP
    if row.ctType != "linear":
        return INVERSE
    if row.settleCcy != "USDT":
        return NOT_USDT
    if row.ctValCcy != row.instId.partition("-")[0]:
        return "contract not counted in its base coin"
    return None if row.state in _OKX_OPEN else NOT_TRADING


_DATED_NAME = re.compile(r"[_-]\d{2}[A-Z0-9]{2,5}\d*$")


def refused_binance_name(name: str) -> str | None:
    """Why a Binance name cannot be a linear USDT perpetual, None when it can."""
    if name.endswith(("_PERP", "USD")):
        return INVERSE
    if _DATED_NAME.search(name):
        return INVERSE if re.search(r"USD[_-]", name) else DATED
    return None if len(name) > 4 and name.endswith("USDT") else NOT_USDT


def refused_bybit_name(name: str) -> str | None:
    """Why a Bybit name cannot be a linear USDT perpetual, None when it can."""
    if _DATED_NAME.search(name):
        return DATED
    if re.search(r"USD([FGHJKMNQUVXZ]\d{2})?$", name):
        return INVERSE
    return None if len(name) > 4 and name.endswith("USDT") else NOT_USDT


def refused_okx_name(name: str) -> str | None:
    """Why an OKX name cannot be a linear USDT swap, None when it can (its contract size is another question)."""
    parts = name.split("-")
    if len(parts) == 3 and parts[1] == "USDT":
        return None if parts[2] == "SWAP" else DATED
    if len(parts) == 3 and parts[1] == "USD":
        return INVERSE
    if len(parts) == 3:
        return NOT_USDT
    return NOT_A_SWAP

"""OKX's list of contracts: GET /api/v5/public/instruments?instType=SWAP."""

from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta, Struct

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Listing
from liqmap.exchanges.listings import DATED, INVERSE, NOT_A_SWAP, NOT_TRADING, NOT_USDT, listing_of
from liqmap.exchanges.wire import DECODING_FAULTS, decoder, refuse

ContractValue = Annotated[float, Meta(gt=0, le=1e12)]


class _Contract(Struct, gc=False):
    instId: str  # noqa: N815
    instType: str = ""  # noqa: N815
    ctType: str = ""  # noqa: N815
    settleCcy: str = ""  # noqa: N815
    ctVal: str = ""  # noqa: N815
    ctMult: str = ""  # noqa: N815
    ctValCcy: str = ""  # noqa: N815
    state: str = ""


class _Info(Struct):
    data: tuple[_Contract, ...]


_info = decoder(_Info)
_contract_value: Callable[[bytes], float] = decoder(ContractValue)
_OPEN: Final = frozenset({"live", "suspend", "preopen", ""})


def listing(body: bytes) -> Listing:
    """OKX's list: a contract is ctVal × ctMult of base coin. Raises Malformed."""
    try:
        rows = _info(body).data
    except DECODING_FAULTS as error:
        refuse(error, body)
    return listing_of(Venue.OKX, (_row(row) for row in rows))


def _row(row: _Contract) -> tuple[str, str | None, float]:
    fault = _fault(row)
    if fault is not None:
        return row.instId, fault, 0.0
    try:
        return row.instId, None, _contract_value(row.ctVal.encode()) * _contract_value(row.ctMult.encode())
    except DECODING_FAULTS:
        return row.instId, "no contract size", 0.0


def _fault(row: _Contract) -> str | None:
    if row.instType != "SWAP":
        return DATED if row.instType == "FUTURES" else NOT_A_SWAP
    if row.ctType != "linear":
        return INVERSE
    if row.settleCcy != "USDT":
        return NOT_USDT
    if row.ctValCcy != row.instId.partition("-")[0]:
        return "contract not counted in its base coin"
    return None if row.state in _OPEN else NOT_TRADING


def refused_name(name: str) -> str | None:
    """Why an OKX name cannot be a linear USDT swap, None when it can (its contract size is another question)."""
    parts = name.split("-")
    if len(parts) == 3 and parts[1] == "USDT":
        return None if parts[2] == "SWAP" else DATED
    if len(parts) == 3 and parts[1] == "USD":
        return INVERSE
    if len(parts) == 3:
        return NOT_USDT
    return NOT_A_SWAP

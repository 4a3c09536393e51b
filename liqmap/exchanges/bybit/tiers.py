"""Bybit V5 linear: the risk limits of a contract. GET /v5/market/risk-limit?category=linear&symbol=…

Sizes are the value of a position in USDT, the maintenance margin is a share as a decimal string ("0.005"). The
deductions (`mmDeduction`) follow from the rates and are not read. Pages hold whole symbols, so a cursor in the answer
for one symbol says nothing. The rows come in any order; the lowest is the one that `isLowestRisk` marks, where it is
said: without it the beginning of the table would be missing.
"""

from typing import Final

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import InstrumentTable
from liqmap.exchanges.adapter import Malformed, PollPlan, Tiers
from liqmap.exchanges.bybit.plans import Endpoints
from liqmap.exchanges.tiers import TierLeverage, TierRate, TierSize, checked, plans_of
from liqmap.exchanges.wire import DECODING_FAULTS, decoder, refuse

PATH: Final = "/v5/market/risk-limit"


class _Row(Struct, gc=False):
    symbol: str
    riskLimitValue: TierSize  # noqa: N815
    maintenanceMargin: TierRate  # noqa: N815
    maxLeverage: TierLeverage  # noqa: N815
    isLowestRisk: int | None = None  # noqa: N815


class _Head(Struct, gc=False):
    retCode: int  # noqa: N815
    retMsg: str = ""  # noqa: N815


class _Page(Struct, gc=False):
    list: tuple[_Row, ...]


class _Answer(Struct, gc=False):
    result: _Page


_head = decoder(_Head)
_answer = decoder(_Answer)


def tier_plans(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """One request per contract."""
    url = f"{config.rest.rstrip('/')}{PATH}?category=linear&symbol="
    return plans_of(Venue.BYBIT, url, str, config.margins_poll_s, instruments, "rest")


def tiers(asked: PollPlan, body: bytes) -> Tiers:
    """The tiers of the contract that was asked for. Raises Malformed."""
    name = asked.name.partition(".")[2]
    try:
        head = _head(body)
        if head.retCode != 0:  # whatever `result` is then
            raise Malformed(f"refused: {head.retCode} {head.retMsg}", "retCode")
        rows = sorted(_answer(body).result.list, key=lambda row: row.riskLimitValue)
    except DECODING_FAULTS as error:
        refuse(error, body)
    for row in rows:
        if row.symbol != name:
            raise Malformed(f"asked for {name}, answered for {row.symbol}", "result.list.symbol")
    marked = [row.isLowestRisk for row in rows]
    if any(mark is not None for mark in marked) and marked[0] != 1:
        raise Malformed("the lowest tier is missing", "result.list.isLowestRisk")
    table = checked(((row.riskLimitValue, row.maintenanceMargin, row.maxLeverage) for row in rows), "result.list")
    return Tiers(Venue.BYBIT, name, table, in_contracts=False)

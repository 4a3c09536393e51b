"""OKX V5 swaps: the position tiers of a contract. GET /api/v5/public/position-tiers?instType=SWAP&tdMode=isolated

Sizes are contracts, from `minSz` to `maxSz`; "" as the end of the last tier is none. The rate of a tier holds for the
whole position, there is no deduction. The rows come in any order; a hole between two of them is refused.
"""

from itertools import pairwise
from typing import Final

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import InstrumentTable
from liqmap.exchanges.adapter import Malformed, PollPlan, Tiers
from liqmap.exchanges.okx.plans import Endpoints
from liqmap.exchanges.tiers import TierLeverage, TierRate, TierSize, checked, plans_of
from liqmap.exchanges.wire import DECODING_FAULTS, Level, Unsaid, decoder, refuse

PATH: Final = "/api/v5/public/position-tiers"

_ONE_CONTRACT: Final = 1.0
"""A tier may begin one step of size above the end of the one below: at most a contract."""


class _Row(Struct, gc=False):
    instFamily: str  # noqa: N815
    minSz: Level  # noqa: N815
    maxSz: TierSize | Unsaid  # noqa: N815
    mmr: TierRate
    maxLever: TierLeverage  # noqa: N815


class _Head(Struct, gc=False):
    code: str
    msg: str = ""


class _Answer(Struct, gc=False):
    data: tuple[_Row, ...]


_head = decoder(_Head)
_answer = decoder(_Answer)


def tier_plans(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """One request per family of contracts; the family of BTC-USDT-SWAP is BTC-USDT."""
    url = f"{config.rest.rstrip('/')}{PATH}?instType=SWAP&tdMode=isolated&instFamily="
    return plans_of(Venue.OKX, url, _family, config.margins_poll_s, instruments, "tiers")


def tiers(asked: PollPlan, body: bytes) -> Tiers:
    """The tiers of the contract that was asked for, in contracts. Raises Malformed."""
    name = asked.name.partition(".")[2]
    try:
        head = _head(body)
        if head.code != "0":
            raise Malformed(f"refused: {head.code} {head.msg}", "code")
        rows = sorted(_answer(body).data, key=lambda row: row.minSz)
    except DECODING_FAULTS as error:
        refuse(error, body)
    for row in rows:
        if row.instFamily != _family(name):
            raise Malformed(f"asked for {_family(name)}, answered for {row.instFamily}", "data.instFamily")
    _check_whole(rows)
    table = checked(((_end(row), row.mmr, row.maxLever) for row in rows), "data")
    return Tiers(Venue.OKX, name, table, in_contracts=True)


def _check_whole(rows: list[_Row]) -> None:
    """The table begins at nothing, and has no hole."""
    if rows and rows[0].minSz > _ONE_CONTRACT:
        raise Malformed(f"the tiers below {rows[0].minSz:g} contracts are missing", "data.minSz")
    for lower, upper in pairwise(rows):
        end = _end(lower)
        if end is not None and upper.minSz - end > _ONE_CONTRACT:
            raise Malformed(f"a tier is missing from {end:g} to {upper.minSz:g} contracts", "data.minSz")


def _end(row: _Row) -> float | None:
    return row.maxSz if isinstance(row.maxSz, float) else None


def _family(name: str) -> str:
    return name.removesuffix("-SWAP")

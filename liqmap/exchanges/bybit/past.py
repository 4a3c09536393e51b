"""Bybit V5 linear: the public past of a contract's open interest (docs/exchanges.md).

Rows come newest first. `openInterest` counts both sides; `singleOpenInterest` counts one, where a row has it.
"""

from typing import Final
from urllib.parse import quote

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Malformed, Past, PastLevel, PollPlan
from liqmap.exchanges.bybit.plans import Endpoints
from liqmap.exchanges.plans import past_plan, windows
from liqmap.exchanges.wire import DECODING_FAULTS, MaybeLevel, Milliseconds, Quantity, decoder, refuse, said

LEVELS_PATH: Final = "/v5/market/open-interest"
LEVEL_MS: Final = 300_000
MOST_LEVELS: Final = 200
BOTH_SIDES: Final = 2.0


class _Row(Struct, gc=False):
    timestamp: Milliseconds
    openInterest: Quantity  # noqa: N815
    singleOpenInterest: MaybeLevel = None  # noqa: N815


class _Rows(Struct, gc=False):
    symbol: str
    list: tuple[_Row, ...]


class _Answer(Struct, gc=False):
    """Errors come with status 200, and with a result that is empty or anything."""

    result: _Rows


class _Envelope(Struct, gc=False):
    retCode: int  # noqa: N815
    retMsg: str = ""  # noqa: N815


_envelope = decoder(_Envelope)
_answer = decoder(_Answer)


def past_plans(config: Endpoints, instrument: Instrument, from_ms: int, to_ms: int) -> tuple[PollPlan, ...]:
    """See Adapter.past_plans: stretches of the length of a page, so that nobody waits for a cursor."""
    base, name = config.rest.rstrip("/"), quote(instrument.name)
    return tuple(
        past_plan(
            Venue.BYBIT,
            instrument,
            "levels",
            f"{base}{LEVELS_PATH}?category=linear&symbol={name}&intervalTime=5min"
            f"&startTime={first}&endTime={last}&limit={MOST_LEVELS}",
            LEVEL_MS,
        )
        for first, last in windows(from_ms, to_ms, LEVEL_MS, MOST_LEVELS)
    )


def parse_past(plan: PollPlan, body: bytes, instruments: InstrumentTable) -> Past:
    """See Adapter.parse_past. Raises Malformed."""
    asked = plan.name.partition(".")[2]
    contract = instruments.find(Venue.BYBIT, asked)
    unit = 1.0 if contract is None else contract.contract_base
    try:
        envelope = _envelope(body)
        if envelope.retCode != 0:
            raise Malformed(f"refused: {envelope.retCode} {envelope.retMsg}", "retCode")
        rows = _answer(body).result
    except DECODING_FAULTS as error:
        refuse(error, body)
    if rows.symbol != asked:
        raise Malformed(f"asked for {asked}, answered for {rows.symbol}", "result.symbol")
    return Past(levels=tuple(sorted(PastLevel(row.timestamp, _one_side(row) * unit) for row in rows.list)))


def _one_side(row: _Row) -> float:
    single = said(row.singleOpenInterest)
    return single if single > 0 else row.openInterest / BOTH_SIDES

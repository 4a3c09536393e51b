"""OKX V5 swaps: the public past of a contract's open interest (docs/exchanges.md).

Rows are lists of texts, newest first, at most a hundred of them, and the endpoint takes ten requests in two seconds of
one address: levels of every half hour are what seven days of a few symbols can be had in, in seconds.
"""

from dataclasses import replace
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Malformed, Past, PastLevel, PollPlan
from liqmap.exchanges.okx.plans import Endpoints
from liqmap.exchanges.plans import past_plan, windows
from liqmap.exchanges.wire import DECODING_FAULTS, Level, Milliseconds, Quantity, decoder, refuse

LEVELS_PATH: Final = "/api/v5/rubik/stat/contracts/open-interest-history"
LEVEL_MS: Final = 1_800_000
MOST_LEVELS: Final = 100

_Row = tuple[Milliseconds, Quantity, Quantity, Level]
"""Time, contracts, base coin, dollars."""


class _Answer(Struct, gc=False):
    code: str
    data: tuple[_Row, ...] = ()
    msg: str = ""


_answer = decoder(_Answer)


def past_plans(config: Endpoints, instrument: Instrument, from_ms: int, to_ms: int) -> tuple[PollPlan, ...]:
    """See Adapter.past_plans."""
    base, name = config.rest.rstrip("/"), quote(instrument.name)
    plans = (
        past_plan(
            Venue.OKX,
            instrument,
            "levels",
            f"{base}{LEVELS_PATH}?instId={name}&period=30m&begin={first}&end={last}&limit={MOST_LEVELS}",
            LEVEL_MS,
        )
        for first, last in windows(from_ms, to_ms, LEVEL_MS, MOST_LEVELS)
    )
    return tuple(replace(plan, budget="past") for plan in plans)


def parse_past(plan: PollPlan, body: bytes, instruments: InstrumentTable) -> Past:
    """See Adapter.parse_past: contracts are counted by the size that the table has. Raises Malformed."""
    asked = plan.name.partition(".")[2]
    contract = instruments.find(Venue.OKX, asked)
    try:
        answer = _answer(body)
    except DECODING_FAULTS as error:
        refuse(error, body)
    if answer.code != "0":
        raise Malformed(f"refused: {answer.code} {answer.msg}", "code")
    if contract is None:
        return Past()
    levels = sorted(PastLevel(ts_ms, contracts * contract.contract_base) for ts_ms, contracts, _, _ in answer.data)
    return Past(levels=tuple(levels))

"""Binance USD-M futures: the public past of a contract, minute bars and open interest (docs/exchanges.md).

Bars are lists of twelve fields, numbers as text among numbers; the minute that is still open is listed like any other,
so who asks must not ask beyond its end. Open interest is kept for thirty days: asking for more is refused.
"""

from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Malformed, Past, PastBar, PastLevel, PollPlan
from liqmap.exchanges.binance.plans import Endpoints
from liqmap.exchanges.plans import past_plan, windows
from liqmap.exchanges.wire import DECODING_FAULTS, Level, Milliseconds, Price, Quantity, decoder, refuse

BARS_PATH: Final = "/fapi/v1/klines"
LEVELS_PATH: Final = "/futures/data/openInterestHist"
MINUTE_MS: Final = 60_000
LEVEL_MS: Final = 300_000
MOST_BARS: Final = 1500
MOST_LEVELS: Final = 500
BARS_WEIGHT: Final = 10
"""Of a request for more than a thousand bars."""

_Row = tuple[Milliseconds, Price, Price, Price, Price, Level, Milliseconds, Level, int, Level, Level, Any]
"""Open time, open, high, low, close, volume, close time, volume in quote, trades, taker bought in base, in quote."""


class _Level(Struct, gc=False):
    symbol: str
    sumOpenInterest: Quantity  # noqa: N815
    timestamp: Milliseconds


_bars = decoder(tuple[_Row, ...])
_levels = decoder(tuple[_Level, ...])


def past_plans(config: Endpoints, instrument: Instrument, from_ms: int, to_ms: int) -> tuple[PollPlan, ...]:
    """See Adapter.past_plans: the whole minutes of [from_ms, to_ms), and the levels of each five minutes."""
    base, name = config.rest.rstrip("/"), quote(instrument.name)
    bars = (
        past_plan(
            Venue.BINANCE,
            instrument,
            "bars",
            f"{base}{BARS_PATH}?symbol={name}&interval=1m&startTime={first}&endTime={last}&limit={MOST_BARS}",
            MINUTE_MS,
        )
        for first, last in windows(from_ms, to_ms - MINUTE_MS, MINUTE_MS, MOST_BARS)
    )
    levels = (
        past_plan(
            Venue.BINANCE,
            instrument,
            "levels",
            f"{base}{LEVELS_PATH}?symbol={name}&period=5m&startTime={first}&endTime={last}&limit={MOST_LEVELS}",
            LEVEL_MS,
        )
        for first, last in windows(from_ms, to_ms, LEVEL_MS, MOST_LEVELS)
    )
    weighed = (replace(plan, weight=BARS_WEIGHT) for plan in bars)
    return (*weighed, *(replace(plan, budget="data") for plan in levels))


def parse_past(plan: PollPlan, body: bytes, instruments: InstrumentTable) -> Past:
    """See Adapter.parse_past. Raises Malformed."""
    request, _, asked = plan.name.partition(".")
    contract = instruments.find(Venue.BINANCE, asked)
    unit = 1.0 if contract is None else contract.contract_base
    try:
        if request == "bars":
            return Past(bars=tuple(sorted(_bar(index, row, unit) for index, row in enumerate(_bars(body)))))
        rows = _levels(body)
    except DECODING_FAULTS as error:
        refuse(error, body)
    for index, row in enumerate(rows):
        if row.symbol != asked:
            raise Malformed(f"asked for {asked}, answered for {row.symbol}", f"{index}.symbol")
    return Past(levels=tuple(sorted(PastLevel(row.timestamp, row.sumOpenInterest * unit) for row in rows)))


def _bar(index: int, row: _Row, unit: float) -> PastBar:
    minute_ms, first, high, low, last, volume, *_, bought, _quote, _unused = row
    if not low <= min(first, last) <= max(first, last) <= high:
        raise Malformed("a bar whose prices cannot be", str(index))
    if bought > volume:
        raise Malformed("more bought than traded", f"{index}.9")
    return PastBar(minute_ms, first, high, low, last, bought * unit, (volume - bought) * unit)

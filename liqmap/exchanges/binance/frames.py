"""Binance USD-M futures: what its frames and REST replies say (docs/exchanges.md).

Side of a liquidation: `o.S` is the side of the closing order, so SELL closes a LONG. Quantities are base coin.
`st` (since mid-2026) is 1 for USD-M; COIN-M rows leak into all-market streams and count contracts of dollars.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import isnan
from typing import Any, Final, Literal, cast

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.domain.event import NAN
from liqmap.domain.instrument import Contracts, InstrumentTable
from liqmap.exchanges.adapter import (
    BookUpdate,
    Control,
    ControlKind,
    Fact,
    Ignored,
    Malformed,
)
from liqmap.exchanges.binance.listing import refused_name
from liqmap.exchanges.facts import (
    BUY,
    LONG,
    MAX_NOTIONAL_USD,
    SELL,
    SHORT,
    funding,
    liquidation,
    mark_price,
    trade,
)
from liqmap.exchanges.prints import Prints, TradedContracts, pack_print
from liqmap.exchanges.wire import (
    DECODING_FAULTS,
    UNUSED_NAMES,
    Identity,
    Level,
    Levels,
    MaybeLevel,
    MaybeMilliseconds,
    MaybePrice,
    MaybeRate,
    Milliseconds,
    Price,
    Quantity,
    check_utf8,
    decode_any,
    decoder,
    refuse,
    said,
    said_ms,
    said_price,
)

FUNDING_INTERVAL_H: Final = 8.0
"""Of every contract but those that /fapi/v1/fundingInfo lists; frames do not say it."""
USD_M: Final = 1
_LIQUIDATED: Final[Mapping[str, int]] = {"SELL": LONG, "BUY": SHORT}


class AggTrade(Struct, tag_field="e", tag="aggTrade", gc=False):
    """`<s>@aggTrade`: fills of one taker order at one price within 100 ms."""

    s: str
    p: Price
    q: Quantity
    a: Identity
    T: Milliseconds
    m: bool
    st: int = USD_M


class Trade(Struct, tag_field="e", tag="trade", rename={"a": "t"}, gc=False):
    """`<s>@trade`, undocumented: every fill; X tells market fills from the insurance fund's and ADL's."""

    s: str
    p: Level
    q: Level
    a: Identity
    T: Milliseconds
    m: bool
    X: str = "MARKET"
    st: int = USD_M


class MarkPrice(Struct, tag_field="e", tag="markPriceUpdate", gc=False):
    """`<s>@markPrice@1s`; `T` is 0 when no funding is scheduled."""

    s: str
    p: Price
    E: Milliseconds
    i: MaybePrice = None
    r: MaybeRate = None
    T: MaybeMilliseconds = None
    st: int = USD_M


class ForcedOrder(Struct, gc=False):
    """The order of a forceOrder event: `p` its limit, `ap` the average fill, `q` wanted, `z` filled in all."""

    s: str
    S: Literal["BUY", "SELL"]
    p: Price
    q: Quantity
    X: str
    T: Milliseconds
    ap: MaybePrice = None
    z: MaybeLevel = None
    st: int = USD_M


class ForceOrder(Struct, tag_field="e", tag="forceOrder", gc=False):
    """`!forceOrder@arr`: despite its name one object, at most one per symbol and second."""

    o: ForcedOrder
    st: int = USD_M


class DepthUpdate(Struct, tag_field="e", tag="depthUpdate", gc=False):
    """`<s>@depth`: absolute quantities; `pu` must equal the `u` before."""

    s: str
    T: Milliseconds
    U: Identity
    u: Identity
    pu: Identity
    b: Levels
    a: Levels
    st: int = USD_M


Payload = AggTrade | Trade | MarkPrice | ForceOrder | DepthUpdate


class Wrapped(Struct, gc=False):
    """A frame of `/stream`: the payload with the stream's name beside it."""

    data: Payload | list[Payload]


_wrapped: Callable[[bytes], Wrapped] = decoder(Wrapped)
_plain: Callable[[bytes], Payload | list[Payload]] = decoder(Payload | list[Payload])

_USED_EVENTS: Final = frozenset({"aggTrade", "trade", "markPriceUpdate", "forceOrder", "depthUpdate"})
_UNUSED_EVENTS: Final = frozenset(
    {
        "bookTicker",
        "kline",
        "continuous_kline",
        "24hrTicker",
        "24hrMiniTicker",
        "compositeIndex",
        "contractInfo",
        "assetIndexUpdate",
        "tradingSession",
    }
)


@lru_cache(maxsize=UNUSED_NAMES)
def unused_row(name: str, st: int) -> tuple[Fact, ...]:
    """Why a row of that contract says nothing to us."""
    why = refused_name(name) or "unknown instrument" if st == USD_M else "COIN-M row"
    return (Ignored(why, name),)


def _agg_trade(row: AggTrade | Trade, receive_ns: int, contracts: Contracts) -> tuple[Fact, ...]:
    contract = contracts[row.s]
    if contract is None or row.st != USD_M:
        return unused_row(row.s, row.st)
    try:  # m: the buyer was the maker
        return (trade(contract, receive_ns, row.T, row.p, row.q, SELL if row.m else BUY, row.a),)
    except Malformed as fault:
        raise fault.within("q") from None


def _trade(row: Trade, receive_ns: int, contracts: Contracts) -> tuple[Fact, ...]:
    if row.X != "MARKET":
        return (Ignored("not a market fill", row.s),)
    if not (row.p > 0.0 and row.q > 0.0):
        raise Malformed("expected `float` > 0.0", "q" if row.p > 0.0 else "p")
    return _agg_trade(row, receive_ns, contracts)


def _mark_price(row: MarkPrice, receive_ns: int, contracts: Contracts) -> tuple[Fact, ...]:
    contract = contracts[row.s]
    if contract is None or row.st != USD_M:
        return unused_row(row.s, row.st)
    mark = mark_price(contract, receive_ns, row.E, row.p, said_price(row.i))
    rate, next_ms = said(row.r), said_ms(row.T)
    if isnan(rate):
        return (mark,)
    return (mark, funding(contract, receive_ns, row.E, rate, next_ms, FUNDING_INTERVAL_H))


def _force_order(row: ForceOrder, receive_ns: int, contracts: Contracts) -> tuple[Fact, ...]:
    order = row.o
    contract = contracts[order.s]
    if contract is None or order.st != USD_M or row.st != USD_M:
        return unused_row(order.s, row.st if order.st == USD_M else order.st)
    if order.X != "FILLED":
        return (Ignored("liquidation order not filled", order.s),)
    filled = said_price(order.z)
    quantity = order.q if isnan(filled) else filled
    fill_price, side = said_price(order.ap), _LIQUIDATED[order.S]
    try:
        return (liquidation(contract, receive_ns, order.T, order.p, fill_price, quantity, side),)
    except Malformed as fault:
        raise fault.within("o.q") from None


def _depth_update(row: DepthUpdate, _receive_ns: int, contracts: Contracts) -> tuple[Fact, ...]:
    contract = contracts[row.s]
    if contract is None or row.st != USD_M:
        return unused_row(row.s, row.st)
    return (BookUpdate(Venue.BINANCE, row.s, contract.symbol, row.T, False, row.b, row.a, row.u, row.pu, row.U),)


_HANDLERS: Final[Mapping[type, Callable[[Any, int, Contracts], tuple[Fact, ...]]]] = {
    AggTrade: _agg_trade,
    Trade: _trade,
    MarkPrice: _mark_price,
    ForceOrder: _force_order,
    DepthUpdate: _depth_update,
}


class BinanceSession:
    """Frames of one connection. Nothing needs to be remembered."""

    def __init__(self, instruments: InstrumentTable) -> None:
        self.use(instruments)

    def use(self, instruments: InstrumentTable) -> None:
        """Look contracts up in this table from now on."""
        self._contracts = instruments.of(Venue.BINANCE)
        self._traded = TradedContracts(self._contracts)

    def tape(self, frames: Iterator[bytes], receive_ns: int, told: Prints) -> bytes | None:
        """Plain trades, packed; the first frame that is anything else."""
        decode, contracts = _wrapped, self._traded
        for raw in frames:
            if not raw.isascii():
                return raw
            try:
                row = decode(raw).data
            except DECODING_FAULTS:
                return raw
            if type(row) is not AggTrade and not (type(row) is Trade and row.X == "MARKET" and row.q > 0.0):
                return raw
            traded = contracts[row.s]
            if traded is None or row.st != USD_M:
                return raw
            price, base = row.p, row.q * traded.base
            if not 0.0 < price * base <= MAX_NOTIONAL_USD:
                return raw
            ending = traded.sell if row.m else traded.buy  # m: the buyer was the maker
            told[traded.number].append(pack_print(receive_ns, row.T, price, base, NAN, row.a, ending))
        return None

    def parse(self, raw: bytes, receive_ns: int) -> Sequence[Fact]:
        """What the frame said. Raises Malformed."""
        if not raw.isascii():
            check_utf8(raw)
        try:
            payload = _wrapped(raw).data
        except DECODING_FAULTS as error:
            return self._unusual(raw, receive_ns, error)
        handle = _HANDLERS.get(type(payload))
        if handle is None:
            return self._rows(cast(list[Payload], payload), receive_ns, "data.")
        try:
            return handle(payload, receive_ns, self._contracts)
        except Malformed as fault:
            raise fault.within("data.") from None

    def _rows(self, rows: Sequence[Payload], receive_ns: int, at: str) -> Sequence[Fact]:
        facts: list[Fact] = []
        for index, row in enumerate(rows):
            try:
                facts.extend(_HANDLERS[type(row)](row, receive_ns, self._contracts))
            except Malformed as fault:
                raise fault.within(f"{at}{index}.") from None
        return facts or (Ignored("no rows"),)

    def _unusual(self, raw: bytes, receive_ns: int, fault: Exception) -> Sequence[Fact]:
        """Frames without the wrapper, events that are not used, answers to requests, and what is malformed."""
        frame = decode_any(raw)
        if isinstance(frame, dict) and "stream" in frame and "data" in frame:
            return _unused(frame["data"], fault, raw)
        if isinstance(frame, dict) and "e" not in frame:
            control = _control(frame)
            if control is not None:
                return (control,)
        try:
            payload = _plain(raw)
        except DECODING_FAULTS as error:
            return _unused(frame, error, raw)
        if isinstance(payload, list):
            return self._rows(payload, receive_ns, "")
        return _HANDLERS[type(payload)](payload, receive_ns, self._contracts)


def _event_name(payload: Any) -> str:
    first = payload[0] if isinstance(payload, list) and payload else payload
    event = first.get("e") if isinstance(first, dict) else None
    return event if isinstance(event, str) else ""


def _unused(payload: Any, fault: Exception, raw: bytes) -> Sequence[Fact]:
    event = _event_name(payload)
    if event in _UNUSED_EVENTS:
        return (Ignored(f"{event} not used"),)
    if event and event not in _USED_EVENTS:
        return (Ignored("unknown event"),)
    return refuse(fault, raw)


def _control(frame: dict[str, Any]) -> Control | None:
    error = frame.get("error", frame)
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        return Control(ControlKind.ERROR, str(error.get("msg", ""))[:500], str(error["code"]))
    if "id" in frame and "result" in frame:
        return Control(ControlKind.SUBSCRIBED)
    return None

"""Bybit V5 linear: what its frames and REST replies say (docs/exchanges.md).

Side of a liquidation: `S` is the side of the POSITION, so Buy means that a LONG was liquidated; Binance and OKX say
the side of the order. `openInterest` counts long and short, twice the one-sided value of the other venues.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import isnan
from typing import Any, Final, Generic, Literal, TypeVar

from msgspec import Struct

from liqmap.domain.enums import Venue
from liqmap.domain.event import MISSING, NAN
from liqmap.domain.instrument import Contracts, Instrument, InstrumentTable
from liqmap.exchanges.adapter import (
    BookUpdate,
    Control,
    ControlKind,
    Fact,
    Ignored,
    Malformed,
)
from liqmap.exchanges.bybit.listing import refused_name
from liqmap.exchanges.facts import (
    BUY,
    LONG,
    MAX_NOTIONAL_USD,
    SELL,
    SHORT,
    funding,
    liquidation,
    mark_price,
    open_interest,
    trade,
)
from liqmap.exchanges.prints import Prints, TradedContracts, pack_print
from liqmap.exchanges.wire import (
    DECODING_FAULTS,
    UNUSED_NAMES,
    Identity,
    Levels,
    MaybeLevel,
    MaybeMilliseconds,
    MaybePrice,
    MaybeRate,
    Milliseconds,
    Price,
    Quantity,
    Unsaid,
    check_utf8,
    decode_any,
    decoder,
    refuse,
    said,
    said_ms,
    said_price,
)

_TAKER: Final[Mapping[str, int]] = {"Buy": BUY, "Sell": SELL}
_LIQUIDATED: Final[Mapping[str, int]] = {"Buy": LONG, "Sell": SHORT}


class TradeRow(Struct, gc=False):
    """`publicTrade`: one fill; BT is a block trade, agreed off the tape."""

    T: Milliseconds
    s: str
    S: Literal["Buy", "Sell"]
    v: Quantity
    p: Price
    BT: bool = False


class LiquidationRow(Struct, gc=False):
    """`allLiquidation`: `v` executed size, `p` the bankruptcy price of the position."""

    T: Milliseconds
    s: str
    S: Literal["Buy", "Sell"]
    v: Quantity
    p: Price


class Ticker(Struct, gc=False):
    """`tickers`: in a delta an absent key means unchanged."""

    symbol: str
    markPrice: Price | Unsaid = None  # noqa: N815
    indexPrice: MaybePrice = None  # noqa: N815
    openInterest: MaybeLevel = None  # noqa: N815
    singleOpenInterest: MaybeLevel = None  # noqa: N815
    fundingRate: MaybeRate = None  # noqa: N815
    fundingIntervalHour: MaybeLevel = None  # noqa: N815
    nextFundingTime: MaybeMilliseconds = None  # noqa: N815


class Book(Struct, gc=False):
    """`orderbook`: absolute quantities; `u` counts up by one, 1 after a restart of the venue."""

    s: str
    b: Levels
    a: Levels
    u: Identity
    ts: MaybeMilliseconds = None
    cts: MaybeMilliseconds = None


Row = TypeVar("Row")


class Frame(Struct, Generic[Row], gc=False):
    """A frame of a topic. `cts` is the matching engine's time, `ts` the time of publication."""

    topic: str
    data: Row
    ts: Milliseconds
    type: str = ""
    cts: MaybeMilliseconds = None


class Known:
    """What the ticker of one contract said so far on this connection."""

    __slots__ = ("index", "interval_h", "next_ms", "one_sided", "rate")

    def __init__(self) -> None:
        self.index = NAN
        self.rate = NAN
        self.interval_h = NAN
        self.next_ms = MISSING
        self.one_sided: bool | None = None
        """Which field the open interest of this connection comes from; None: neither was said yet."""


@lru_cache(maxsize=UNUSED_NAMES)
def unused_row(name: str) -> Ignored:
    """Why a row of that contract says nothing to us."""
    return Ignored(refused_name(name) or "unknown instrument", name)


def _liquidation(row: LiquidationRow, receive_ns: int, contracts: Contracts, index: int) -> Fact:
    contract = contracts[row.s]
    if contract is None:
        return unused_row(row.s)
    try:
        return liquidation(contract, receive_ns, row.T, row.p, NAN, row.v, _LIQUIDATED[row.S])
    except Malformed as fault:
        raise fault.within(f"data.{index}.v") from None


class BybitSession:
    """Frames of one connection; remembers what the tickers said, because deltas leave out what did not change."""

    def __init__(self, instruments: InstrumentTable) -> None:
        self._known: dict[str, Known] = {}
        self.use(instruments)

    def use(self, instruments: InstrumentTable) -> None:
        """Look contracts up in this table from now on; what the tickers said stays true."""
        self._contracts = instruments.of(Venue.BYBIT)
        self._traded = TradedContracts(self._contracts)

    def tape(self, frames: Iterator[bytes], receive_ns: int, told: Prints) -> bytes | None:
        """Plain trades, packed; the first frame that is anything else."""
        contracts = self._traded
        for raw in frames:
            if not (raw.startswith(_TAPE) and raw.isascii()):
                return raw
            try:
                rows = _tape(raw).data
            except DECODING_FAULTS:
                return raw
            name = rows[0].s if rows else ""
            traded = contracts[name]
            if traded is None:
                return raw
            records = []
            for row in rows:
                price, base = row.p, row.v * traded.base
                if price * base > MAX_NOTIONAL_USD or row.s != name or row.BT:
                    return raw
                ending = traded.sell if row.S == "Sell" else traded.buy
                records.append(pack_print(receive_ns, row.T, price, base, NAN, MISSING, ending))
            told[traded.number] += records
        return None

    def parse(self, raw: bytes, receive_ns: int) -> Sequence[Fact]:
        """What the frame said. Raises Malformed."""
        if not raw.isascii():
            check_utf8(raw)
        topic = _BY_START.get(raw[:START])
        if topic is None:
            return self._unusual(raw, receive_ns)
        prefix, decode, handle = topic
        try:
            frame = decode(raw)
        except DECODING_FAULTS as error:
            refuse(error, raw)
        if not frame.topic.startswith(prefix):
            return self._unusual(raw, receive_ns)
        return handle(self, frame, receive_ns)

    def _unusual(self, raw: bytes, receive_ns: int) -> Sequence[Fact]:
        """Control frames, topics that are not used, and frames spelled in another way than the venue's."""
        message = decode_any(raw)
        if not isinstance(message, dict):
            raise Malformed("neither a topic nor an answer")
        name = message.get("topic")
        if not isinstance(name, str):
            return (_control(message),)
        topic = _TOPICS.get(name.partition(".")[0])
        if topic is None:
            return (Ignored("unknown topic"),)
        _, decode, handle = topic
        try:
            frame = decode(raw)
        except DECODING_FAULTS as error:
            refuse(error, raw)
        return handle(self, frame, receive_ns)

    def _trades(self, frame: Frame[tuple[TradeRow, ...]], receive_ns: int) -> Sequence[Fact]:
        contracts = self._contracts
        facts: list[Fact] = []
        for row in frame.data:
            contract = contracts[row.s]
            if contract is None:
                facts.append(unused_row(row.s))
            elif row.BT:
                facts.append(Ignored("block trade", row.s))
            else:
                try:
                    facts.append(trade(contract, receive_ns, row.T, row.p, row.v, _TAKER[row.S], MISSING))
                except Malformed as fault:
                    raise fault.within(f"data.{len(facts)}.v") from None
        return facts or (Ignored("no rows"),)

    def _liquidations(self, frame: Frame[tuple[LiquidationRow, ...]], receive_ns: int) -> Sequence[Fact]:
        facts = [_liquidation(row, receive_ns, self._contracts, index) for index, row in enumerate(frame.data)]
        return facts or (Ignored("no rows"),)

    def _book(self, frame: Frame[Book], _receive_ns: int) -> Sequence[Fact]:
        book = frame.data
        contract = self._contracts[book.s]
        if contract is None:
            return (unused_row(book.s),)
        snapshot = frame.type == "snapshot" or book.u == 1
        matched_ms = said_ms(frame.cts)
        venue_ms = frame.ts if matched_ms == MISSING else matched_ms
        return (BookUpdate(Venue.BYBIT, book.s, contract.symbol, venue_ms, snapshot, book.b, book.a, book.u, None),)

    def _ticker(self, frame: Frame[Ticker], receive_ns: int) -> Sequence[Fact]:
        ticker = frame.data
        contract = self._contracts[ticker.symbol]
        if contract is None:
            return (unused_row(ticker.symbol),)
        known = self._known.get(ticker.symbol)
        if known is None or frame.type == "snapshot":
            known = self._known[ticker.symbol] = Known()
        return merged(known, ticker, contract, frame.ts, receive_ns) or (Ignored("nothing new"),)


def merged(known: Known, ticker: Ticker, contract: Instrument, venue_ms: int, receive_ns: int) -> list[Fact]:
    """Take the ticker into what is known, and tell what it said; what it left out is unchanged and not told again."""
    facts: list[Fact] = []
    if ticker.indexPrice is not None:
        index = said_price(ticker.indexPrice)
        known.index = known.index if isnan(index) else index
    if isinstance(ticker.markPrice, float):
        facts.append(mark_price(contract, receive_ns, venue_ms, ticker.markPrice, known.index))
    if ticker.openInterest is not None or ticker.singleOpenInterest is not None:
        one_sided = _one_sided(known, ticker)
        if not isnan(one_sided):
            facts.append(open_interest(contract, receive_ns, venue_ms, one_sided * contract.contract_base))
    if ticker.fundingRate is not None or ticker.nextFundingTime is not None or ticker.fundingIntervalHour is not None:
        facts.extend(_funding(known, ticker, contract, venue_ms, receive_ns))
    return facts


def _one_sided(known: Known, ticker: Ticker) -> float:
    """One side's open interest, NaN when this ticker says none: the venue's own one-sided field, else half of both.

    The first that is said decides for the connection, and the other is passed over from then on: were they ever to
    disagree, a ticker that brings one and then the other would look like positions opened and closed.
    """
    single, both = said_price(ticker.singleOpenInterest), said_price(ticker.openInterest)
    if known.one_sided is None and not (isnan(single) and isnan(both)):
        known.one_sided = not isnan(single)
    return single if known.one_sided else both / 2


def _funding(known: Known, ticker: Ticker, contract: Instrument, venue_ms: int, receive_ns: int) -> Sequence[Fact]:
    """What the ticker tells anew of funding, filled up with what is known."""
    rate, next_ms = said(ticker.fundingRate), said_ms(ticker.nextFundingTime)
    interval_h = said_price(ticker.fundingIntervalHour)
    if isnan(rate) and isnan(interval_h) and next_ms == MISSING:
        return ()
    known.rate = known.rate if isnan(rate) else rate
    known.interval_h = known.interval_h if isnan(interval_h) else interval_h
    known.next_ms = known.next_ms if next_ms == MISSING else next_ms
    if isnan(known.rate):
        return ()
    return (funding(contract, receive_ns, venue_ms, known.rate, known.next_ms, known.interval_h),)


def _not_used(_session: BybitSession, frame: Frame[Any], _receive_ns: int) -> Sequence[Fact]:
    return (Ignored(f"{frame.topic.partition('.')[0]} not used"),)


_Handler = Callable[[BybitSession, Any, int], Sequence[Fact]]


def _topic(name: str, data: Any, handler: _Handler) -> tuple[str, Callable[[bytes], Any], _Handler]:
    return f"{name}.", decoder(Frame[data]), handler


_TOPICS: Final = {
    name: _topic(name, data, handler)
    for name, data, handler in (
        ("publicTrade", tuple[TradeRow, ...], BybitSession._trades),
        ("allLiquidation", tuple[LiquidationRow, ...], BybitSession._liquidations),
        ("tickers", Ticker, BybitSession._ticker),
        ("orderbook", Book, BybitSession._book),
        ("kline", Any, _not_used),
    )
}

_TAPE: Final = b'{"topic":"publicTrade.'
_tape: Callable[[bytes], Frame[tuple[TradeRow, ...]]] = _TOPICS["publicTrade"][1]

START: Final = len('{"topic":"') + 5
"""So many bytes tell the topics apart in the venue's usual spelling; every other spelling takes the slower way."""
_BY_START: Final = {f'{{"topic":"{name}'.encode()[:START]: topic for name, topic in _TOPICS.items()}


def _control(message: dict[str, Any]) -> Control:
    """An answer to a request of ours. A pong of the linear stream still calls itself a ping."""
    op, text = str(message.get("op", "")), str(message.get("ret_msg", ""))[:500]
    if op == "pong" or text == "pong" or (op == "ping" and message.get("success", True)):
        return Control(ControlKind.PONG)
    if message.get("success") is False:
        return Control(ControlKind.ERROR, text)
    if op in ("subscribe", "unsubscribe"):
        return Control(ControlKind.SUBSCRIBED if op == "subscribe" else ControlKind.UNSUBSCRIBED, text)
    if op or "success" in message:
        return Control(ControlKind.NOTICE, op or text)
    raise Malformed("neither a topic nor an answer", "topic")

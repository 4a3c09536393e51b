"""OKX V5 swaps: what its frames and REST replies say (docs/exchanges.md).

Side of a liquidation: `side` is the closing order's, so sell closes a LONG; `posSide` must agree. Sizes are contracts:
base = sz × ctVal × ctMult, which the instrument table knows; a contract that is not in it is refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import isnan
from typing import Any, Final

from liqmap.domain.enums import Venue
from liqmap.domain.event import MISSING, NAN
from liqmap.domain.instrument import Contracts, InstrumentTable
from liqmap.exchanges.adapter import (
    BookUpdate,
    Control,
    ControlKind,
    Fact,
    Ignored,
    Malformed,
)
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
from liqmap.exchanges.okx.listing import refused_name
from liqmap.exchanges.okx.rows import (
    BookRow,
    Frame,
    FundingRow,
    IndexRow,
    InterestRow,
    LiquidationDetail,
    LiquidationRow,
    MarkRow,
    TradeRow,
)
from liqmap.exchanges.prints import Prints, TradedContracts, pack_print
from liqmap.exchanges.wire import (
    DECODING_FAULTS,
    UNUSED_NAMES,
    check_utf8,
    decode_any,
    decoder,
    refuse,
    said,
    said_ms,
    said_price,
)

_TAKER: Final[Mapping[str, int]] = {"buy": BUY, "sell": SELL}
_LIQUIDATED: Final[Mapping[tuple[str, str], int]] = {
    ("sell", "long"): LONG,
    ("sell", "net"): LONG,
    ("sell", ""): LONG,
    ("buy", "short"): SHORT,
    ("buy", "net"): SHORT,
    ("buy", ""): SHORT,
}

HOUR_MS: Final = 3_600_000
LONGEST_INTERVAL_H: Final = 24
INDEX_KEPT_NS: Final = 120 * 10**9
"""An index price is told each 100 ms when it changes, else each minute: an older one is told no more."""
SIZE_TOLERANCE: Final = 0.01
"""How far `oi` times the contract size may be from `oiCcy`, as a share, before the contract size is in doubt."""


@lru_cache(maxsize=UNUSED_NAMES)
def unused_row(name: str) -> Ignored:
    """Why a row of that contract says nothing to us."""
    return Ignored(refused_name(name) or "unknown instrument", name)


class OkxSession:
    """Frames of one connection; remembers the index prices, which come in a channel of their own."""

    def __init__(self, instruments: InstrumentTable) -> None:
        self._index: dict[str, tuple[float, int]] = {}
        """Price and time of receipt, by the index's name."""
        self.use(instruments)

    def use(self, instruments: InstrumentTable) -> None:
        """Look contracts up in this table from now on."""
        self._contracts = instruments.of(Venue.OKX)
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
            name = rows[0].instId if rows else ""
            traded = contracts[name]
            if traded is None:
                return raw
            records = []
            for row in rows:
                price, base = row.px, row.sz * traded.base
                if price * base > MAX_NOTIONAL_USD or row.instId != name:
                    return raw
                ending = traded.sell if row.side == "sell" else traded.buy
                records.append(pack_print(receive_ns, row.ts, price, base, NAN, row.tradeId, ending))
            told[traded.number] += records
        return None

    def parse(self, raw: bytes, receive_ns: int) -> Sequence[Fact]:
        """What the frame said. Raises Malformed."""
        if not raw.isascii():
            check_utf8(raw)
        channel = _BY_START.get(raw[:START])
        if channel is None:
            return self._unusual(raw, receive_ns)
        name, decode, handle = channel
        try:
            frame = decode(raw)
        except DECODING_FAULTS as error:
            return self._unusual(raw, receive_ns, error)
        if frame.arg.channel != name:
            return self._unusual(raw, receive_ns)
        return handle(self, frame, receive_ns)

    def _unusual(self, raw: bytes, receive_ns: int, fault: Exception | None = None) -> Sequence[Fact]:
        """Events about the connection, channels that are not used, frames spelled in another way than the venue's."""
        if raw == b"pong":  # the one frame that is not JSON
            return (Control(ControlKind.PONG),)
        message = decode_any(raw)
        if not isinstance(message, dict):
            raise Malformed("neither data nor an event")
        if "event" in message:
            return (_control(message),)
        if fault is not None:
            refuse(fault, raw)
        arg = message.get("arg")
        name = arg.get("channel") if isinstance(arg, dict) else None
        if not isinstance(name, str):
            raise Malformed("neither data nor an event", "arg.channel")
        channel = _CHANNELS.get(name)
        if channel is None:
            return (Ignored("unknown channel"),)
        _, decode, handle = channel
        try:
            frame = decode(raw)
        except DECODING_FAULTS as error:
            refuse(error, raw)
        return handle(self, frame, receive_ns)

    def _trades(self, frame: Frame[TradeRow], receive_ns: int) -> Sequence[Fact]:
        contracts = self._contracts
        facts: list[Fact] = []
        for row in frame.data:
            contract = contracts[row.instId]
            if contract is None:
                facts.append(unused_row(row.instId))
                continue
            try:
                facts.append(trade(contract, receive_ns, row.ts, row.px, row.sz, _TAKER[row.side], row.tradeId))
            except Malformed as fault:
                raise fault.within(f"data.{len(facts)}.sz") from None
        return facts or (Ignored("no rows"),)

    def _liquidations(self, frame: Frame[LiquidationRow], receive_ns: int) -> Sequence[Fact]:
        return liquidations(frame.data, receive_ns, self._contracts) or (Ignored("no rows"),)

    def _marks(self, frame: Frame[MarkRow], receive_ns: int) -> Sequence[Fact]:
        return marks(frame.data, receive_ns, self._contracts, self._index) or (Ignored("no rows"),)

    def _indices(self, frame: Frame[IndexRow], receive_ns: int) -> Sequence[Fact]:
        for row in frame.data:
            if self._contracts[f"{row.instId}-SWAP"] is not None:
                self._index[row.instId] = row.idxPx, receive_ns
        return (Ignored("index price, told with the mark price"),)

    def _interests(self, frame: Frame[InterestRow], receive_ns: int) -> Sequence[Fact]:
        return interests(frame.data, receive_ns, self._contracts) or (Ignored("no rows"),)

    def _fundings(self, frame: Frame[FundingRow], receive_ns: int) -> Sequence[Fact]:
        return fundings(frame.data, receive_ns, self._contracts) or (Ignored("no rows"),)

    def _books(self, frame: Frame[BookRow], _receive_ns: int) -> Sequence[Fact]:
        if frame.action not in ("snapshot", "update"):
            raise Malformed(f"neither snapshot nor update: {frame.action[:40]!r}", "action")
        return books(frame.data, frame.arg.instId, frame.action == "snapshot", self._contracts)


def liquidations(rows: Sequence[LiquidationRow], receive_ns: int, contracts: Contracts) -> list[Fact]:
    """Every liquidation of every row: a burst comes as one frame."""
    return [
        _liquidation(row.instId, detail, receive_ns, contracts, f"data.{index}.details.{place}.")
        for index, row in enumerate(rows)
        for place, detail in enumerate(row.details)
    ]


def _liquidation(name: str, row: LiquidationDetail, receive_ns: int, contracts: Contracts, at: str) -> Fact:
    contract = contracts[name]
    if contract is None:  # all swaps come by one channel: what is odd about others costs nothing of ours
        return unused_row(name)
    side = _LIQUIDATED.get((row.side, row.posSide))
    if side is None:
        raise Malformed(f"a {row.side} order cannot close a {row.posSide} position", f"{at}posSide")
    try:
        return liquidation(contract, receive_ns, row.ts, row.bkPx, NAN, row.sz, side)
    except Malformed as fault:
        raise fault.within(f"{at}sz") from None


def marks(
    rows: Sequence[MarkRow], receive_ns: int, contracts: Contracts, index_prices: Mapping[str, tuple[float, int]]
) -> list[Fact]:
    """Mark prices, with the index price where its channel told one."""
    facts: list[Fact] = []
    for row in rows:
        contract = contracts[row.instId]
        if contract is None:
            facts.append(unused_row(row.instId))
            continue
        index, told_ns = index_prices.get(row.instId.removesuffix("-SWAP"), (NAN, receive_ns))
        index = index if receive_ns - told_ns <= INDEX_KEPT_NS else NAN
        facts.append(mark_price(contract, receive_ns, row.ts, row.markPx, index))
    return facts


def interests(rows: Sequence[InterestRow], receive_ns: int, contracts: Contracts) -> list[Fact]:
    """The venue's own base figure; when it disagrees with the contract size, the size is reported as wrong."""
    facts: list[Fact] = []
    for index, row in enumerate(rows):
        contract = contracts[row.instId]
        if contract is None:
            facts.append(unused_row(row.instId))
            continue
        counted, told = said_price(row.oi) * contract.contract_base, said_price(row.oiCcy)
        base = counted if isnan(told) else told
        if isnan(base):
            raise Malformed("no open interest", f"data.{index}.oi")
        facts.append(open_interest(contract, receive_ns, row.ts, base))
        if abs(counted - base) > SIZE_TOLERANCE * base:
            facts.append(Ignored("contract size disagrees with the venue's own base figure", row.instId))
    return facts


def fundings(rows: Sequence[FundingRow], receive_ns: int, contracts: Contracts) -> list[Fact]:
    """Rates of the coming settlement."""
    facts: list[Fact] = []
    for row in rows:
        contract, rate = contracts[row.instId], said(row.fundingRate)
        if contract is None:
            facts.append(unused_row(row.instId))
        elif isnan(rate):
            facts.append(Ignored("no funding rate", row.instId))
        else:
            settled_ms, after_ms = said_ms(row.fundingTime), said_ms(row.nextFundingTime)
            interval_h = _interval_h(settled_ms, after_ms)
            facts.append(funding(contract, receive_ns, said_ms(row.ts), rate, settled_ms, interval_h))
    return facts


def _interval_h(settled_ms: int, after_ms: int) -> float:
    """Hours from one settlement to the next, NaN where either is not said or they make no sense."""
    hours = (after_ms - settled_ms) / HOUR_MS
    said_both = settled_ms != MISSING and after_ms != MISSING
    return hours if said_both and 0 < hours <= LONGEST_INTERVAL_H else NAN


def books(rows: Sequence[BookRow], name: str, snapshot: bool, contracts: Contracts) -> Sequence[Fact]:
    """Books of one contract, sizes in base coin."""
    contract = contracts[name]
    if contract is None:
        return (unused_row(name),)
    size = contract.contract_base
    return [
        BookUpdate(
            Venue.OKX,
            name,
            contract.symbol,
            row.ts,
            snapshot,
            tuple([(level.price, level.contracts * size) for level in row.bids]),
            tuple([(level.price, level.contracts * size) for level in row.asks]),
            row.seqId,
            None if row.prevSeqId == MISSING else row.prevSeqId,
        )
        for row in rows
    ] or (Ignored("no rows"),)


def _not_used(_session: OkxSession, frame: Frame[Any], _receive_ns: int) -> Sequence[Fact]:
    return (Ignored(f"{frame.arg.channel} not used"),)


_Handler = Callable[[OkxSession, Any, int], Sequence[Fact]]


def _channel(name: str, row: Any, handler: _Handler) -> tuple[str, Callable[[bytes], Any], _Handler]:
    return name, decoder(Frame[row]), handler


_CHANNELS: Final = {
    name: _channel(name, row, handler)
    for name, row, handler in (
        ("trades", TradeRow, OkxSession._trades),
        ("trades-all", TradeRow, OkxSession._trades),
        ("liquidation-orders", LiquidationRow, OkxSession._liquidations),
        ("mark-price", MarkRow, OkxSession._marks),
        ("index-tickers", IndexRow, OkxSession._indices),
        ("open-interest", InterestRow, OkxSession._interests),
        ("funding-rate", FundingRow, OkxSession._fundings),
        ("books", BookRow, OkxSession._books),
        ("tickers", Any, _not_used),
        ("books5", Any, _not_used),
        ("bbo-tbt", Any, _not_used),
    )
}

_TAPE: Final = b'{"arg":{"channel":"trades","instId":"'
_tape: Callable[[bytes], Frame[TradeRow]] = _CHANNELS["trades"][1]

START: Final = len('{"arg":{"channel":"') + 7
"""So many bytes tell the channels apart in the venue's usual spelling; every other spelling takes the slower way."""
_BY_START: Final = {
    f'{{"arg":{{"channel":"{name}","instId'.encode()[:START]: channel for name, channel in _CHANNELS.items()
}


def _control(message: dict[str, Any]) -> Control:
    """Events about the connection; 64008 announces that the server goes away in about a minute."""
    event, code = message["event"], str(message.get("code", ""))[:20]
    text = str(message.get("msg", ""))[:500]
    if event == "subscribe":
        arg = message.get("arg")
        name = str(arg.get("channel", "")) if isinstance(arg, dict) else ""
        return Control(ControlKind.SUBSCRIBED, name[:100])
    if event == "unsubscribe":
        arg = message.get("arg")
        name = f"{arg.get('channel', '')}:{arg.get('instId', '')}" if isinstance(arg, dict) else ""
        return Control(ControlKind.UNSUBSCRIBED, name[:100])
    if event == "error":
        return Control(ControlKind.ERROR, text, code)
    if isinstance(event, str):
        return Control(ControlKind.NOTICE, text or event[:100], code)
    raise Malformed("expected `str`", "event")

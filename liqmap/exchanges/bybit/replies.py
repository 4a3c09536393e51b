"""Bybit V5 linear: what its REST replies say; errors come with status 200 (docs/exchanges.md)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Generic, TypeVar

from msgspec import Meta, Struct

from liqmap.domain.enums import Ratio, Venue
from liqmap.domain.event import MISSING
from liqmap.domain.instrument import Contracts, Instrument, InstrumentTable
from liqmap.exchanges.adapter import BookUpdate, Fact, Ignored, Malformed, PollPlan, VenueTime
from liqmap.exchanges.bybit.frames import Book, Known, Ticker, merged, unused_row
from liqmap.exchanges.facts import ratio
from liqmap.exchanges.wire import DECODING_FAULTS, MaybeMilliseconds, Milliseconds, Share, decoder, refuse, said_ms

Row = TypeVar("Row")


class _Envelope(Struct, gc=False):
    """What every REST reply has; the `result` of a refused request is empty or anything."""

    retCode: int  # noqa: N815
    retMsg: str = ""  # noqa: N815


class _Answer(Struct, Generic[Row], gc=False):
    """A REST reply: errors come with status 200."""

    result: Row | None = None
    time: MaybeMilliseconds = None


class _Tickers(Struct, gc=False):
    list: tuple[Ticker, ...]


class _RatioRow(Struct, gc=False):
    symbol: str
    buyRatio: Share  # noqa: N815
    timestamp: Milliseconds


class _Ratios(Struct, gc=False):
    list: tuple[_RatioRow, ...]


class _Time(Struct, gc=False):
    timeNano: Annotated[str, Meta(pattern=r"^\d{19}$")]  # noqa: N815


_envelope = decoder(_Envelope)
_time_answer = decoder(_Answer[_Time])
_tickers_answer = decoder(_Answer[_Tickers])
_book_answer = decoder(_Answer[Book])
_ratio_answer = decoder(_Answer[_Ratios])

_Reader = Callable[[bytes, str, int, Contracts], Sequence[Fact]]


def _check_accepted(answer: _Envelope) -> None:
    if answer.retCode != 0:
        raise Malformed(f"refused: {answer.retCode} {answer.retMsg}", "retCode")


def _result(answer: _Answer[Row]) -> Row:
    if answer.result is None:
        raise Malformed("object missing required field `result`", "result")
    return answer.result


def _asked_contract(answered: str, asked: str, field: str, contracts: Contracts) -> Instrument | None:
    if asked and answered != asked:
        raise Malformed(f"asked for {asked}, answered for {answered}", field)
    return contracts[answered]


def _read_tickers(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    answer = _tickers_answer(body)
    facts: list[Fact] = []
    for index, ticker in enumerate(_result(answer).list):
        contract = _asked_contract(ticker.symbol, asked, f"result.list.{index}.symbol", contracts)
        if contract is None:
            facts.append(unused_row(ticker.symbol))
        else:
            facts.extend(merged(Known(), ticker, contract, said_ms(answer.time), receive_ns))
    return facts or (Ignored("empty answer", asked),)


def _read_depth(body: bytes, asked: str, _receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    book = _result(_book_answer(body))
    contract = _asked_contract(book.s, asked, "result.s", contracts)
    if contract is None:
        return (unused_row(book.s),)
    venue_ms = said_ms(book.ts if said_ms(book.cts) == MISSING else book.cts)
    return (BookUpdate(Venue.BYBIT, book.s, contract.symbol, venue_ms, True, book.b, book.a, book.u, None),)


def _read_ratios(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    facts: list[Fact] = []
    for row in sorted(_result(_ratio_answer(body)).list, key=lambda row: row.timestamp):
        contract = _asked_contract(row.symbol, asked, "result.list.symbol", contracts)
        if contract is None:
            return (unused_row(row.symbol),)
        facts.append(ratio(contract, receive_ns, row.timestamp, row.buyRatio, Ratio.ACCOUNTS))
    return facts or (Ignored("empty answer", asked),)


def _read_time(body: bytes, _asked: str, _receive_ns: int, _contracts: Contracts) -> Sequence[Fact]:
    return (VenueTime(Venue.BYBIT, int(_result(_time_answer(body)).timeNano) // 1_000_000),)


_REPLIES: Final[Mapping[str, _Reader]] = {
    "tickers": _read_tickers,
    "depth": _read_depth,
    "ratio_accounts": _read_ratios,
    "clock": _read_time,
}

BYBIT_SHAPES: Final = (
    ("depth", frozenset({"retCode", "s", "b", "a", "u"})),
    ("tickers", frozenset({"retCode", "symbol", "markPrice"})),
    ("ratio_accounts", frozenset({"retCode", "buyRatio", "timestamp"})),
    ("instruments", frozenset({"retCode", "contractType", "settleCoin"})),
    ("clock", frozenset({"retCode", "timeSecond", "timeNano"})),
)


def bybit_reply(poll: PollPlan, body: bytes, receive_ns: int, instruments: InstrumentTable) -> Sequence[Fact]:
    """What a REST reply said: see Adapter.parse_reply. Raises Malformed."""
    request, _, asked = poll.name.partition(".")
    try:
        _check_accepted(_envelope(body))
        return _REPLIES[request](body, asked, receive_ns, instruments.of(Venue.BYBIT))
    except DECODING_FAULTS as error:
        refuse(error, body)

"""Binance USD-M futures: what its REST replies say (docs/exchanges.md)."""

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Annotated, Final

from msgspec import Meta, Struct

from liqmap.domain.enums import Ratio, Venue
from liqmap.domain.event import MISSING, NAN
from liqmap.domain.instrument import Contracts, Instrument, InstrumentTable
from liqmap.exchanges.adapter import BookUpdate, Fact, Ignored, Malformed, PollPlan, VenueTime
from liqmap.exchanges.binance.frames import FUNDING_INTERVAL_H, USD_M, unused_row
from liqmap.exchanges.facts import funding, mark_price, open_interest, ratio
from liqmap.exchanges.wire import (
    DECODING_FAULTS,
    Identity,
    Levels,
    MaybeMilliseconds,
    MaybePrice,
    MaybeRate,
    Milliseconds,
    Price,
    Quantity,
    Share,
    decoder,
    refuse,
    said,
    said_ms,
    said_price,
)


class OpenInterestReply(Struct, gc=False):
    """GET /fapi/v1/openInterest: base coin, one side."""

    symbol: str
    openInterest: Quantity  # noqa: N815
    time: Milliseconds


class PremiumIndexReply(Struct, gc=False):
    """GET /fapi/v1/premiumIndex, one symbol."""

    symbol: str
    markPrice: Price  # noqa: N815
    time: Milliseconds
    indexPrice: MaybePrice = None  # noqa: N815
    lastFundingRate: MaybeRate = None  # noqa: N815
    nextFundingTime: MaybeMilliseconds = None  # noqa: N815


class DepthReply(Struct, gc=False):
    """GET /fapi/v1/depth: which book it is, only the request knows."""

    lastUpdateId: Identity  # noqa: N815
    bids: Levels
    asks: Levels
    T: MaybeMilliseconds = None
    E: MaybeMilliseconds = None


class RatioRow(Struct, gc=False):
    """One bar of GET /futures/data/…Ratio; the position endpoint calls its shares accounts, too."""

    symbol: str
    longAccount: Share  # noqa: N815
    timestamp: Milliseconds


class TimeReply(Struct, gc=False):
    """GET /fapi/v1/time."""

    serverTime: Milliseconds  # noqa: N815


class FundingInfoRow(Struct, gc=False):
    """One contract of GET /fapi/v1/fundingInfo, which lists those that are not funded every eight hours or have limits
    of their own."""

    symbol: str
    fundingIntervalHours: Annotated[float, Meta(gt=0, le=24)]  # noqa: N815


_time_reply = decoder(TimeReply)
_funding_info_reply = decoder(tuple[FundingInfoRow, ...])
_open_interest_reply = decoder(OpenInterestReply)
_premium_index_reply = decoder(PremiumIndexReply)
_depth_reply = decoder(DepthReply)
_ratio_reply = decoder(tuple[RatioRow, ...])

Reply = Callable[[bytes, str, int, Contracts], Sequence[Fact]]


def _read_open_interest(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    reply = _open_interest_reply(body)
    contract = _asked_contract(reply.symbol, asked, contracts)
    if contract is None:
        return unused_row(reply.symbol, USD_M)
    return (open_interest(contract, receive_ns, reply.time, reply.openInterest * contract.contract_base),)


def _read_premium_index(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    reply = _premium_index_reply(body)
    contract = _asked_contract(reply.symbol, asked, contracts)
    if contract is None:
        return unused_row(reply.symbol, USD_M)
    mark = mark_price(contract, receive_ns, reply.time, reply.markPrice, said_price(reply.indexPrice))
    rate, next_ms = said(reply.lastFundingRate), said_ms(reply.nextFundingTime)
    if isnan(rate):
        return (mark,)
    return (mark, funding(contract, receive_ns, reply.time, rate, next_ms, FUNDING_INTERVAL_H))


def _read_depth(body: bytes, asked: str, _receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    reply = _depth_reply(body)
    contract = contracts[asked] if asked else None
    if asked and contract is None:
        return unused_row(asked, USD_M)
    symbol = contract.symbol if contract else None
    venue_ms = said_ms(reply.T if said_ms(reply.T) != MISSING else reply.E)
    return (BookUpdate(Venue.BINANCE, asked, symbol, venue_ms, True, reply.bids, reply.asks, reply.lastUpdateId, None),)


def _ratio_reader(which: Ratio) -> Reply:
    def read(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
        facts: list[Fact] = []
        for row in sorted(_ratio_reply(body), key=lambda row: row.timestamp):
            contract = _asked_contract(row.symbol, asked, contracts)
            if contract is None:
                return unused_row(row.symbol, USD_M)
            facts.append(ratio(contract, receive_ns, row.timestamp, row.longAccount, which))
        return facts or (Ignored("empty answer", asked),)

    return read


def _read_time(body: bytes, _asked: str, _receive_ns: int, _contracts: Contracts) -> Sequence[Fact]:
    return (VenueTime(Venue.BINANCE, _time_reply(body).serverTime),)


def _read_funding_info(body: bytes, _asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    """The interval of every contract of ours: what the list does not name is funded at the usual one."""
    listed = {row.symbol: row.fundingIntervalHours for row in _funding_info_reply(body)}
    return [
        funding(contract, receive_ns, MISSING, NAN, interval_h=listed.get(contract.name, FUNDING_INTERVAL_H))
        for contract in contracts.everyone()
    ]


def _asked_contract(answered: str, asked: str, contracts: Contracts) -> Instrument | None:
    if asked and answered != asked:
        raise Malformed(f"asked for {asked}, answered for {answered}", "symbol")
    return contracts[answered]


_REPLIES: Final[Mapping[str, Reply]] = {
    "open_interest": _read_open_interest,
    "premium_index": _read_premium_index,
    "depth": _read_depth,
    "clock": _read_time,
    "funding_info": _read_funding_info,
    "funding_history": lambda _body, asked, _receive_ns, _contracts: (Ignored("funding history not used", asked),),
    "ratio_accounts": _ratio_reader(Ratio.ACCOUNTS),
    "ratio_top_accounts": _ratio_reader(Ratio.TOP_ACCOUNTS),
    "ratio_top_positions": _ratio_reader(Ratio.TOP_POSITIONS),
}

BINANCE_SHAPES: Final = (
    ("depth", frozenset({"lastUpdateId", "bids", "asks"})),
    ("open_interest", frozenset({"symbol", "openInterest", "time"})),
    ("premium_index", frozenset({"symbol", "markPrice", "lastFundingRate", "time"})),
    ("funding_history", frozenset({"symbol", "fundingTime", "fundingRate"})),
    ("funding_info", frozenset({"symbol", "fundingIntervalHours"})),
    ("instruments", frozenset({"symbols", "serverTime"})),
    ("clock", frozenset({"serverTime"})),
)


def binance_reply(poll: PollPlan, body: bytes, receive_ns: int, instruments: InstrumentTable) -> Sequence[Fact]:
    """What a REST reply said: see Adapter.parse_reply. Raises Malformed."""
    request, _, asked = poll.name.partition(".")
    try:
        return _REPLIES[request](body, asked, receive_ns, instruments.of(Venue.BINANCE))
    except DECODING_FAULTS as error:
        refuse(error, body)

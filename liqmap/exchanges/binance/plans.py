"""What to ask Binance USD-M for (docs/exchanges.md): routes, streams, requests and what they cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol
from urllib.parse import quote

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Budget, Limits, LinkPlan, PollPlan, Stream
from liqmap.exchanges.plans import (
    Polled,
    clock_plan,
    configured,
    json_text,
    listing_plan,
    names,
    part_name,
    ratio_plans,
    split,
)


class Endpoints(Polled, Protocol):
    """The routes: the market one carries trades, marks and liquidations, the public one books and raw trades."""

    @property
    def market_ws(self) -> str:
        """Base address of the market route."""

    @property
    def public_ws(self) -> str:
        """Base address of the public route."""

    @property
    def trades(self) -> Literal["aggTrade", "trade"]:
        """Which of the two trade streams."""

    @property
    def depth(self) -> bool:
        """Whether order books are listened to."""

    @property
    def depth_stream(self) -> str:
        """Which stream of a book's changes."""

    @property
    def depth_snapshot_levels(self) -> Literal[100, 500, 1000]:
        """Levels a side of a book's snapshot."""


STREAMS_PER_LINK: Final = 200
"""The venue's documents say 1024, older ones 200; nothing is lost by the smaller number."""
ROTATE_S: Final = 22.5 * 3600
"""Binance cuts every connection at 24 h."""
SNAPSHOT_WEIGHT: Final = {100: 5, 500: 10, 1000: 20}
"""What a snapshot of so many levels costs."""

FUNDING_INFO_S: Final = 3600.0
"""An interval is changed a few times a year, and announced."""

BUDGETS: Final = (Budget("rest", 2400, 60.0), Budget("data", 1000, 300.0), Budget("funding", 500, 300.0))
LIMITS: Final = Limits(messages=Budget("messages", 10, 1.0))
"""Ten texts, pings and pongs a second on one connection. Spot's 300 connections in five minutes are not futures'."""

REQUESTS: Final[Mapping[str, str]] = {
    "clock": "/fapi/v1/time",
    "open_interest": "/fapi/v1/openInterest",
    "premium_index": "/fapi/v1/premiumIndex",
    "depth": "/fapi/v1/depth",
    "funding_history": "/fapi/v1/fundingRate",
    "funding_info": "/fapi/v1/fundingInfo",
    "instruments": "/fapi/v1/exchangeInfo",
    "ratio_accounts": "/futures/data/globalLongShortAccountRatio",
    "ratio_top_accounts": "/futures/data/topLongShortAccountRatio",
    "ratio_top_positions": "/futures/data/topLongShortPositionRatio",
}

_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def links(config: Endpoints, instruments: InstrumentTable) -> tuple[LinkPlan, ...]:
    """Facts, trades and books of the configured contracts, on the routes that carry them."""
    mine = configured(instruments, Venue.BINANCE)
    if not mine:
        return ()
    facts = [Stream("!forceOrder@arr", Topic.LIQUIDATION, tuple(symbol for symbol, _ in mine), quiet=True)]
    trades, books = [], []
    for symbol, instrument in mine:
        name = instrument.name.translate(_ASCII_LOWER)
        facts.append(Stream(f"{name}@markPrice@1s", Topic.MARK_PRICE, (symbol,)))
        facts.append(Stream(f"{name}@markPrice@1s", Topic.FUNDING, (symbol,), quiet=True))
        counted = config.trades == "aggTrade"  # the numbers of `trade` run through fills that are none of the tape
        trades.append(Stream(f"{name}@{config.trades}", Topic.TRADE, (symbol,), counted=counted))
        if config.depth:
            books.append(Stream(f"{name}@{config.depth_stream}", Topic.DEPTH, (symbol,)))
    market, public = f"{config.market_ws.rstrip('/')}/stream", f"{config.public_ws.rstrip('/')}/stream"
    trades_url = market if config.trades == "aggTrade" else public
    return (*_plans("facts", market, facts), *_plans("trades", trades_url, trades), *_plans("depth", public, books))


def _plans(name: str, url: str, streams: Sequence[Stream]) -> Iterator[LinkPlan]:
    for index, part in enumerate(split(streams, lambda _stream: 1, STREAMS_PER_LINK)):
        yield LinkPlan(
            Venue.BINANCE, part_name(name, index), url, part, texts("SUBSCRIBE", part), rotate_after_s=ROTATE_S
        )


def texts(method: Literal["SUBSCRIBE", "UNSUBSCRIBE"], streams: Sequence[Stream]) -> tuple[str, ...]:
    """Control frames for `streams`, at most 200 names in each."""
    asked = names(streams)
    steps = range(0, len(asked), STREAMS_PER_LINK)
    return tuple(
        json_text({"method": method, "params": asked[start : start + STREAMS_PER_LINK], "id": start + 1})
        for start in steps
    )


def polls(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """Open interest has no stream at Binance: one request per contract. And the lists: contracts, those whose funding
    interval is not the usual one."""
    mine = configured(instruments, Venue.BINANCE)
    if not mine:
        return ()
    base = config.rest.rstrip("/")
    url = f"{base}{REQUESTS['open_interest']}?symbol="
    every_s = config.open_interest_poll_s
    readings = (
        PollPlan(Venue.BINANCE, f"open_interest.{i.name}", url + quote(i.name), Topic.OPEN_INTEREST, (symbol,), every_s)
        for symbol, i in mine
    )
    listing = f"{base}{REQUESTS['instruments']}"
    intervals = f"{base}{REQUESTS['funding_info']}"
    return (
        *readings,
        listing_plan(Venue.BINANCE, listing, mine, config.instruments_poll_s),
        PollPlan(Venue.BINANCE, "funding_info", intervals, Topic.FUNDING, (), FUNDING_INFO_S, budget="funding"),
        clock_plan(Venue.BINANCE, config, REQUESTS),
    )


def ratios(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The three positioning ratios of each contract."""
    query = "?period=5m&limit=2&symbol="
    return ratio_plans(Venue.BINANCE, config, REQUESTS, query, instruments, "data")


def book(config: Endpoints, instrument: Instrument) -> PollPlan:
    """The snapshot that bridges the stream of one contract's book. Asked for once, whenever the book must begin anew:
    `every_s` means nothing."""
    return PollPlan(
        Venue.BINANCE,
        f"depth.{instrument.name}",
        f"{config.rest.rstrip('/')}{REQUESTS['depth']}?symbol={quote(instrument.name)}"
        f"&limit={config.depth_snapshot_levels}",
        Topic.DEPTH,
        (instrument.symbol or "",),
        every_s=0.0,
        weight=SNAPSHOT_WEIGHT[config.depth_snapshot_levels],
    )


def book_levels(_config: Endpoints) -> None:
    """Changes of every level are told, also of those that were in no snapshot."""

"""What to ask each venue for: websockets with their streams, and REST requests with their cost.

Facts (liquidations, mark price, open interest, funding) and trades travel on separate links, so that a storm of trades
delays no liquidation. Routes, limits and their sources: docs/exchanges.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import LinkPlan, Malformed, PollPlan, Stream
from liqmap.exchanges.wire import decode_any


class Polled(Protocol):
    """What every venue's section of the configuration says about polls."""

    @property
    def rest(self) -> str:
        """Base address of the REST interface."""

    @property
    def open_interest_poll_s(self) -> float:
        """Seconds between two readings of one contract."""

    @property
    def instruments_poll_s(self) -> float:
        """Seconds between two lists of contracts."""


class BinanceEndpoints(Polled, Protocol):
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


class BybitEndpoints(Polled, Protocol):
    """One socket address for everything linear."""

    @property
    def ws(self) -> str:
        """Address of the linear stream."""


class OkxEndpoints(Polled, Protocol):
    """The public socket."""

    @property
    def public_ws(self) -> str:
        """Address of the public stream."""


RATIO_POLL_S: Final = 300.0
"""The shortest bar of every ratio endpoint is five minutes."""

BINANCE_STREAMS_PER_LINK: Final = 200
"""The venue's documents say 1024, older ones 200; nothing is lost by the smaller number."""
BINANCE_ROTATE_S: Final = 22.5 * 3600
"""Binance cuts every connection at 24 h."""
BYBIT_TOPIC_CHARS_PER_LINK: Final = 20_000
"""Bybit allows 21,000 characters of topics on one connection."""
OKX_ARGS_PER_TEXT: Final = 50
OKX_STREAMS_PER_LINK: Final = 400
"""OKX allows 480 subscriptions and cancellations in an hour of one connection; the rest is for changes."""

BYBIT_PING: Final = '{"op":"ping"}'
OKX_PING: Final = "ping"

BINANCE_REQUESTS: Final[Mapping[str, str]] = {
    "open_interest": "/fapi/v1/openInterest",
    "premium_index": "/fapi/v1/premiumIndex",
    "depth": "/fapi/v1/depth",
    "funding_history": "/fapi/v1/fundingRate",
    "instruments": "/fapi/v1/exchangeInfo",
    "ratio_accounts": "/futures/data/globalLongShortAccountRatio",
    "ratio_top_accounts": "/futures/data/topLongShortAccountRatio",
    "ratio_top_positions": "/futures/data/topLongShortPositionRatio",
}
BYBIT_REQUESTS: Final[Mapping[str, str]] = {
    "tickers": "/v5/market/tickers",
    "depth": "/v5/market/orderbook",
    "instruments": "/v5/market/instruments-info",
    "ratio_accounts": "/v5/market/account-ratio",
}
OKX_REQUESTS: Final[Mapping[str, str]] = {
    "open_interest": "/api/v5/public/open-interest",
    "mark_price": "/api/v5/public/mark-price",
    "funding": "/api/v5/public/funding-rate",
    "liquidations": "/api/v5/public/liquidation-orders",
    "depth": "/api/v5/market/books",
    "instruments": "/api/v5/public/instruments",
    "ratio_accounts": "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract",
    "ratio_top_accounts": "/api/v5/rubik/stat/contracts/long-short-account-ratio-contract-top-trader",
    "ratio_top_positions": "/api/v5/rubik/stat/contracts/long-short-position-ratio-contract-top-trader",
}

_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


# Binance


def binance_links(config: BinanceEndpoints, instruments: InstrumentTable) -> tuple[LinkPlan, ...]:
    """Facts and trades of the configured contracts, on the routes that carry them."""
    mine = _configured(instruments, Venue.BINANCE)
    if not mine:
        return ()
    facts = [Stream("!forceOrder@arr", Topic.LIQUIDATION, tuple(symbol for symbol, _ in mine), quiet=True)]
    trades = []
    for symbol, instrument in mine:
        name = instrument.name.translate(_ASCII_LOWER)
        facts.append(Stream(f"{name}@markPrice@1s", Topic.MARK_PRICE, (symbol,)))
        facts.append(Stream(f"{name}@markPrice@1s", Topic.FUNDING, (symbol,), quiet=True))
        trades.append(Stream(f"{name}@{config.trades}", Topic.TRADE, (symbol,)))
    market, public = f"{config.market_ws.rstrip('/')}/stream", f"{config.public_ws.rstrip('/')}/stream"
    trades_url = market if config.trades == "aggTrade" else public
    return (*_binance_plans("facts", market, facts), *_binance_plans("trades", trades_url, trades))


def _binance_plans(name: str, url: str, streams: Sequence[Stream]) -> Iterator[LinkPlan]:
    for index, part in enumerate(_split(streams, lambda _stream: 1, BINANCE_STREAMS_PER_LINK)):
        texts = binance_texts("SUBSCRIBE", part)
        yield LinkPlan(Venue.BINANCE, _part(name, index), url, part, texts, rotate_after_s=BINANCE_ROTATE_S)


def binance_texts(method: Literal["SUBSCRIBE", "UNSUBSCRIBE"], streams: Sequence[Stream]) -> tuple[str, ...]:
    """Control frames for `streams`, at most 200 names in each."""
    names = _names(streams)
    steps = range(0, len(names), BINANCE_STREAMS_PER_LINK)
    return tuple(
        _json({"method": method, "params": names[start : start + BINANCE_STREAMS_PER_LINK], "id": start + 1})
        for start in steps
    )


def binance_polls(config: BinanceEndpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """Open interest has no stream at Binance: one request per contract. And the list of contracts."""
    mine = _configured(instruments, Venue.BINANCE)
    if not mine:
        return ()
    base = config.rest.rstrip("/")
    url = f"{base}{BINANCE_REQUESTS['open_interest']}?symbol="
    every_s = config.open_interest_poll_s
    readings = (
        PollPlan(Venue.BINANCE, f"open_interest.{i.name}", url + quote(i.name), Topic.OPEN_INTEREST, (symbol,), every_s)
        for symbol, i in mine
    )
    listing = f"{base}{BINANCE_REQUESTS['instruments']}"
    return (*readings, _listing_plan(Venue.BINANCE, listing, mine, config.instruments_poll_s))


def binance_ratios(config: BinanceEndpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The three positioning ratios of each contract."""
    query = "?period=5m&limit=2&symbol="
    return _ratios(Venue.BINANCE, config.rest, BINANCE_REQUESTS, query, instruments, "data")


# Bybit


def bybit_links(config: BybitEndpoints, instruments: InstrumentTable) -> tuple[LinkPlan, ...]:
    """Facts and trades of the configured contracts. Tickers carry mark price, open interest and funding."""
    facts: list[Stream] = []
    trades: list[Stream] = []
    for symbol, instrument in _configured(instruments, Venue.BYBIT):
        ticker = f"tickers.{instrument.name}"
        facts.append(Stream(f"allLiquidation.{instrument.name}", Topic.LIQUIDATION, (symbol,), quiet=True))
        facts.append(Stream(ticker, Topic.MARK_PRICE, (symbol,)))
        facts.append(Stream(ticker, Topic.OPEN_INTEREST, (symbol,)))
        facts.append(Stream(ticker, Topic.FUNDING, (symbol,), quiet=True))
        trades.append(Stream(f"publicTrade.{instrument.name}", Topic.TRADE, (symbol,)))
    return (*_bybit_plans("facts", config.ws, facts), *_bybit_plans("trades", config.ws, trades))


def _bybit_plans(name: str, url: str, streams: Sequence[Stream]) -> Iterator[LinkPlan]:
    parts = _split(streams, lambda stream: len(stream.name) + 3, BYBIT_TOPIC_CHARS_PER_LINK)
    for index, part in enumerate(parts):
        texts = bybit_texts("subscribe", part)
        yield LinkPlan(Venue.BYBIT, _part(name, index), url, part, texts, ping=BYBIT_PING)


def bybit_texts(op: Literal["subscribe", "unsubscribe"], streams: Sequence[Stream]) -> tuple[str, ...]:
    """One request per contract: whether the rest of a batch with one bad topic is subscribed, nobody says."""
    by_contract: dict[str, list[str]] = {}
    for name in _names(streams):
        by_contract.setdefault(name.rpartition(".")[2], []).append(name)
    return tuple(_json({"req_id": contract, "op": op, "args": names}) for contract, names in by_contract.items())


def bybit_polls(config: BybitEndpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The list of contracts; open interest comes by the ticker stream, and one source per series is enough."""
    mine = _configured(instruments, Venue.BYBIT)
    url = f"{config.rest.rstrip('/')}{BYBIT_REQUESTS['instruments']}?category=linear&limit=1000"
    return (_listing_plan(Venue.BYBIT, url, mine, config.instruments_poll_s),) if mine else ()


def bybit_ratios(config: BybitEndpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The accounts' ratio of each contract."""
    query = "?category=linear&period=5min&limit=2&symbol="
    return _ratios(Venue.BYBIT, config.rest, BYBIT_REQUESTS, query, instruments, "rest")


# OKX


def okx_links(config: OkxEndpoints, instruments: InstrumentTable) -> tuple[LinkPlan, ...]:
    """Facts and trades of the configured contracts; one liquidation channel for all swaps."""
    mine = _configured(instruments, Venue.OKX)
    if not mine:
        return ()
    facts = [Stream("liquidation-orders:SWAP", Topic.LIQUIDATION, tuple(symbol for symbol, _ in mine), quiet=True)]
    trades = []
    for symbol, instrument in mine:
        index = instrument.name.removesuffix("-SWAP")
        facts.append(Stream(f"mark-price:{instrument.name}", Topic.MARK_PRICE, (symbol,)))
        facts.append(Stream(f"open-interest:{instrument.name}", Topic.OPEN_INTEREST, (symbol,)))
        facts.append(Stream(f"funding-rate:{instrument.name}", Topic.FUNDING, (symbol,), quiet=True))
        facts.append(Stream(f"index-tickers:{index}", Topic.MARK_PRICE, (symbol,), quiet=True))
        trades.append(Stream(f"trades:{instrument.name}", Topic.TRADE, (symbol,)))
    return (*_okx_plans("facts", config.public_ws, facts), *_okx_plans("trades", config.public_ws, trades))


def _okx_plans(name: str, url: str, streams: Sequence[Stream]) -> Iterator[LinkPlan]:
    for index, part in enumerate(_split(streams, lambda _stream: 1, OKX_STREAMS_PER_LINK)):
        texts = okx_texts("subscribe", part)
        yield LinkPlan(Venue.OKX, _part(name, index), url, part, texts, ping=OKX_PING)


def okx_texts(op: Literal["subscribe", "unsubscribe"], streams: Sequence[Stream]) -> tuple[str, ...]:
    """Requests for `streams`, whose names are `channel:instrument`."""
    args = [_okx_arg(name) for name in _names(streams)]
    steps = range(0, len(args), OKX_ARGS_PER_TEXT)
    return tuple(
        _json({"id": str(start + 1), "op": op, "args": args[start : start + OKX_ARGS_PER_TEXT]}) for start in steps
    )


def _okx_arg(name: str) -> dict[str, str]:
    channel, _, what = name.partition(":")
    return {"channel": channel, "instType" if channel == "liquidation-orders" else "instId": what}


def okx_polls(config: OkxEndpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The list of contracts with their sizes."""
    mine = _configured(instruments, Venue.OKX)
    url = f"{config.rest.rstrip('/')}{OKX_REQUESTS['instruments']}?instType=SWAP"
    return (_listing_plan(Venue.OKX, url, mine, config.instruments_poll_s),) if mine else ()


def okx_ratios(config: OkxEndpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The three positioning ratios of each contract."""
    return _ratios(Venue.OKX, config.rest, OKX_REQUESTS, "?period=5m&limit=2&instId=", instruments, "rubik")


# What the venues have in common


def request_of(
    requests: Mapping[str, str], shapes: Iterable[tuple[str, frozenset[str]]], url: str, body: bytes
) -> str | None:
    """The PollPlan.name that a recorded reply answers: by the path of its URL, without one by the keys it has."""
    if url:
        address = urlsplit(url)
        query = dict(part.partition("=")[::2] for part in address.query.split("&"))
        asked = query.get("symbol") or query.get("instId") or ""
        for request, path in requests.items():
            if address.path == path:
                return f"{request}.{asked}" if asked else request
        return None
    try:
        reply = decode_any(body)
    except Malformed:
        return None
    keys = _keys(reply)
    return next((request for request, needed in shapes if needed <= keys), None)


def _keys(reply: Any) -> frozenset[str]:
    """The keys of a reply, or of its first row, and of what is in its `result`, `data` or `list`."""
    found: set[str] = set()
    while isinstance(reply, dict | list) and reply:
        if isinstance(reply, list):
            reply = reply[0]
        else:
            found.update(reply)
            reply = reply.get("result") or reply.get("data") or reply.get("list")
    return frozenset(found)


def _configured(instruments: InstrumentTable, venue: Venue) -> list[tuple[str, Instrument]]:
    mine = (instrument for instrument in instruments if instrument.venue == venue)
    return [(instrument.symbol, instrument) for instrument in mine if instrument.symbol is not None]


def _listing_plan(venue: Venue, url: str, mine: list[tuple[str, Instrument]], every_s: float) -> PollPlan:
    symbols = tuple(symbol for symbol, _ in mine)
    return PollPlan(venue, "instruments", url, Topic.INSTRUMENTS, symbols, every_s)


def _ratios(
    venue: Venue, rest: str, requests: Mapping[str, str], query: str, instruments: InstrumentTable, budget: str
) -> tuple[PollPlan, ...]:
    return tuple(
        PollPlan(
            venue,
            f"{request}.{instrument.name}",
            f"{rest.rstrip('/')}{path}{query}{quote(instrument.name)}",
            Topic.RATIO,
            (symbol,),
            RATIO_POLL_S,
            budget=budget,
        )
        for symbol, instrument in _configured(instruments, venue)
        for request, path in requests.items()
        if request.startswith("ratio_")
    )


def _names(streams: Sequence[Stream]) -> list[str]:
    """Names without repeats: one ticker carries several topics."""
    return list(dict.fromkeys(stream.name for stream in streams))


def _split(streams: Sequence[Stream], cost: Callable[[Stream], int], limit: int) -> list[tuple[Stream, ...]]:
    """Cut where the names' cost would pass the limit; streams of one name stay together."""
    parts: list[list[Stream]] = []
    spent, last = limit, ""
    for stream in streams:
        price = 0 if stream.name == last else cost(stream)
        if spent + price > limit or not parts:
            parts.append([])
            spent = 0
        parts[-1].append(stream)
        spent, last = spent + price, stream.name
    return [tuple(part) for part in parts]


def _part(name: str, index: int) -> str:
    return name if index == 0 else f"{name}-{index + 1}"


def _json(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()

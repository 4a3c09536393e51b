"""What to ask OKX V5 for (docs/exchanges.md): channels, requests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol

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
    """The public socket."""

    @property
    def public_ws(self) -> str:
        """Address of the public stream."""

    @property
    def margins_poll_s(self) -> float:
        """Seconds between two looks at the margin tiers; 0: never."""

    @property
    def depth(self) -> bool:
        """Whether order books are listened to."""


ARGS_PER_TEXT: Final = 50
STREAMS_PER_LINK: Final = 400
"""OKX allows 480 subscriptions and cancellations in an hour of one connection; the rest is for changes."""
BOOKS_PER_LINK: Final = 25
"""The venue asks for fewer than 30 deep books on one connection."""
BOOK_LEVELS: Final = 400
"""Of the channel `books`."""
PING: Final = "ping"
BUDGETS: Final = (Budget("rest", 20, 2.0), Budget("books", 40, 2.0), Budget("rubik", 5, 2.0), Budget("tiers", 10, 2.0))
"""The venue counts per endpoint: the tightest of the endpoints in use stands for all of a name."""
LIMITS: Final = Limits(connects=Budget("connects", 3, 1.0), operations=Budget("operations", 480, 3600.0))

REQUESTS: Final[Mapping[str, str]] = {
    "clock": "/api/v5/public/time",
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


def links(config: Endpoints, instruments: InstrumentTable) -> tuple[LinkPlan, ...]:
    """Facts, trades and books of the configured contracts; one liquidation channel for all swaps."""
    mine = configured(instruments, Venue.OKX)
    if not mine:
        return ()
    facts = [Stream("liquidation-orders:SWAP", Topic.LIQUIDATION, tuple(symbol for symbol, _ in mine), quiet=True)]
    trades, books = [], []
    for symbol, instrument in mine:
        index = instrument.name.removesuffix("-SWAP")
        facts.append(Stream(f"mark-price:{instrument.name}", Topic.MARK_PRICE, (symbol,)))
        facts.append(Stream(f"open-interest:{instrument.name}", Topic.OPEN_INTEREST, (symbol,)))
        facts.append(Stream(f"funding-rate:{instrument.name}", Topic.FUNDING, (symbol,), quiet=True))
        facts.append(Stream(f"index-tickers:{index}", Topic.MARK_PRICE, (symbol,), quiet=True))
        trades.append(Stream(f"trades:{instrument.name}", Topic.TRADE, (symbol,)))
        if config.depth:
            books.append(Stream(f"books:{instrument.name}", Topic.DEPTH, (symbol,)))
    kinds = (
        ("facts", facts, STREAMS_PER_LINK),
        ("trades", trades, STREAMS_PER_LINK),
        ("depth", books, BOOKS_PER_LINK),
    )
    return tuple(plan for name, streams, most in kinds for plan in _plans(name, config.public_ws, streams, most))


def _plans(name: str, url: str, streams: Sequence[Stream], most: int) -> Iterator[LinkPlan]:
    for index, part in enumerate(split(streams, lambda _stream: 1, most)):
        asked = texts("subscribe", part)
        yield LinkPlan(Venue.OKX, part_name(name, index), url, part, asked, ping=PING)


def texts(op: Literal["subscribe", "unsubscribe"], streams: Sequence[Stream]) -> tuple[str, ...]:
    """Requests for `streams`, whose names are `channel:instrument`."""
    args = [_arg(name) for name in names(streams)]
    steps = range(0, len(args), ARGS_PER_TEXT)
    return tuple(
        json_text({"id": str(start + 1), "op": op, "args": args[start : start + ARGS_PER_TEXT]}) for start in steps
    )


def _arg(name: str) -> dict[str, str]:
    channel, _, what = name.partition(":")
    return {"channel": channel, "instType" if channel == "liquidation-orders" else "instId": what}


def polls(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The list of contracts with their sizes, and the clock."""
    mine = configured(instruments, Venue.OKX)
    url = f"{config.rest.rstrip('/')}{REQUESTS['instruments']}?instType=SWAP"
    if not mine:
        return ()
    return listing_plan(Venue.OKX, url, mine, config.instruments_poll_s), clock_plan(Venue.OKX, config, REQUESTS)


def ratios(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The three positioning ratios of each contract."""
    return ratio_plans(Venue.OKX, config, REQUESTS, "?period=5m&limit=2&instId=", instruments, "rubik")


def book(_config: Endpoints, _instrument: Instrument) -> None:
    """No request: the stream begins with a snapshot."""


def book_levels(_config: Endpoints) -> int:
    """The best levels of the channel `books`."""
    return BOOK_LEVELS

"""What to ask Bybit V5 linear for (docs/exchanges.md): topics, requests."""

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
    """One socket address for everything linear."""

    @property
    def ws(self) -> str:
        """Address of the linear stream."""

    @property
    def margins_poll_s(self) -> float:
        """Seconds between two looks at the margin tiers; 0: never."""

    @property
    def depth(self) -> bool:
        """Whether order books are listened to."""

    @property
    def depth_levels(self) -> Literal[50, 200, 1000]:
        """Levels a side of a book's stream."""


TOPIC_CHARS_PER_LINK: Final = 20_000
"""Bybit allows 21,000 characters of topics on one connection."""
LISTING_PAGE: Final = 1000
"""Contracts on a page of the list, the most that Bybit gives; there were some 700 in 2026."""
PING: Final = '{"op":"ping"}'
BUDGETS: Final = (Budget("rest", 600, 5.0),)
LIMITS: Final = Limits(connects=Budget("connects", 500, 300.0))

REQUESTS: Final[Mapping[str, str]] = {
    "clock": "/v5/market/time",
    "tickers": "/v5/market/tickers",
    "depth": "/v5/market/orderbook",
    "instruments": "/v5/market/instruments-info",
    "ratio_accounts": "/v5/market/account-ratio",
}


def links(config: Endpoints, instruments: InstrumentTable) -> tuple[LinkPlan, ...]:
    """Facts, trades and books of the configured contracts. Tickers carry mark price, open interest and funding."""
    facts: list[Stream] = []
    trades: list[Stream] = []
    books: list[Stream] = []
    for symbol, instrument in configured(instruments, Venue.BYBIT):
        ticker = f"tickers.{instrument.name}"
        facts.append(Stream(f"allLiquidation.{instrument.name}", Topic.LIQUIDATION, (symbol,), quiet=True))
        facts.append(Stream(ticker, Topic.MARK_PRICE, (symbol,)))
        facts.append(Stream(ticker, Topic.OPEN_INTEREST, (symbol,)))
        facts.append(Stream(ticker, Topic.FUNDING, (symbol,), quiet=True))
        trades.append(Stream(f"publicTrade.{instrument.name}", Topic.TRADE, (symbol,)))
        if config.depth:
            books.append(Stream(f"orderbook.{config.depth_levels}.{instrument.name}", Topic.DEPTH, (symbol,)))
    kinds = (("facts", facts), ("trades", trades), ("depth", books))
    return tuple(plan for name, streams in kinds for plan in _plans(name, config.ws, streams))


def _plans(name: str, url: str, streams: Sequence[Stream]) -> Iterator[LinkPlan]:
    parts = split(streams, lambda stream: len(stream.name) + 3, TOPIC_CHARS_PER_LINK)
    for index, part in enumerate(parts):
        asked = texts("subscribe", part)
        yield LinkPlan(Venue.BYBIT, part_name(name, index), url, part, asked, ping=PING)


def texts(op: Literal["subscribe", "unsubscribe"], streams: Sequence[Stream]) -> tuple[str, ...]:
    """One request per contract: whether the rest of a batch with one bad topic is subscribed, nobody says."""
    by_contract: dict[str, list[str]] = {}
    for name in names(streams):
        by_contract.setdefault(name.rpartition(".")[2], []).append(name)
    return tuple(json_text({"req_id": contract, "op": op, "args": names}) for contract, names in by_contract.items())


def polls(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The list of contracts, and the clock; open interest comes by the ticker stream, and one source per series is
    enough."""
    mine = configured(instruments, Venue.BYBIT)
    url = f"{config.rest.rstrip('/')}{REQUESTS['instruments']}?category=linear&limit={LISTING_PAGE}"
    if not mine:
        return ()
    return listing_plan(Venue.BYBIT, url, mine, config.instruments_poll_s), clock_plan(Venue.BYBIT, config, REQUESTS)


def ratios(config: Endpoints, instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The accounts' ratio of each contract."""
    query = "?category=linear&period=5min&limit=2&symbol="
    return ratio_plans(Venue.BYBIT, config, REQUESTS, query, instruments, "rest")


def book(_config: Endpoints, _instrument: Instrument) -> None:
    """No request: the stream begins with a snapshot."""


def book_levels(config: Endpoints) -> int:
    """The best levels of the stream that was chosen."""
    return config.depth_levels

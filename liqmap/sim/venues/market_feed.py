"""What the three feeds of a simulated market share: the latest quote of each contract, cadences, foreign contracts."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.tape import Tape
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message, Reply
from liqmap.sim.venues.listings import FOREIGN, Foreign, Listing

Row = TypeVar("Row", "Trade", "Liquidation")


class Trade(NamedTuple):
    """One row of tape.TRADES."""

    ts_ms: int
    price: float
    qty_base: float
    taker_side: int


class Liquidation(NamedTuple):
    """One row of tape.LIQUIDATIONS."""

    ts_ms: int
    position_side: int
    bankruptcy_price: float
    fill_price: float
    qty_base: float


@dataclass(slots=True)
class Quote:
    """What is known of one contract at one venue now. Before the first step everything is unset (`live` is False)."""

    listing: Listing
    live: bool = False
    mark: float = 0.0
    index: float = 0.0
    last: float = 0.0
    mark_average: float = 0.0
    funding_rate: float = 0.0
    next_funding_ms: int = 0
    open_interest_base: float = 0.0
    """One side, now."""
    served_open_interest_base: float = 0.0
    """One side, as of the venue's last refresh."""
    served_ms: int = 0


class Every:
    """Says once per period of the market's time that it is due."""

    def __init__(self, period_ms: int) -> None:
        self._period_ms = period_ms
        self._last: int | None = None

    def due(self, now_ms: int) -> bool:
        """True when a multiple of the period was reached since the last call."""
        turn = now_ms // self._period_ms
        passed = self._last is not None and turn > self._last
        self._last = turn
        return passed


class MarketFeed(ABC):
    """Turns the tapes of one step into one venue's messages. Seeded: the same tapes give the same messages."""

    venue: ClassVar[Venue]
    open_interest_every_ms: ClassVar[int] = 3000

    def __init__(self, listings: Mapping[str, Listing], faults: Faults, seed: int) -> None:
        self.faults = faults
        self.random = random.Random(f"{seed}/{self.venue.name}")
        self.quotes = {listing.symbol: Quote(listing) for listing in listings.values()}
        self.by_name = {quote.listing.name: quote for quote in self.quotes.values()}
        self.foreign = FOREIGN[self.venue]
        self._refresh = Every(self.open_interest_every_ms)

    def lists(self, name: str) -> bool:
        """Is `name` a configured or a foreign contract of this venue?"""
        return name in self.by_name or any(foreign.name == name for foreign in self.foreign)

    def step(self, tapes: Iterable[Tape], now_ms: int) -> list[Message]:
        """The messages of one step that ends at `now_ms`."""
        prints = []
        for tape in tapes:
            quote, venue_tape = self.quotes.get(tape.symbol), tape.venues.get(self.venue)
            if quote is None or venue_tape is None:
                continue
            self._update(quote, tape, venue_tape.open_interest_base)
            prints.append((quote, _rows(venue_tape.trades, Trade), _rows(venue_tape.liquidations, Liquidation)))
        self._refresh_open_interest(now_ms)
        messages: list[Message] = []
        for quote, trades, liquidations in prints:
            self.write_prints(quote, trades, liquidations, now_ms, messages)
        self.write_states(now_ms, messages)
        return messages

    @abstractmethod
    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """What a new subscriber is sent at once."""

    @abstractmethod
    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """The answer to a GET, None when there is no such endpoint."""

    @abstractmethod
    def write_prints(
        self, quote: Quote, trades: list[Trade], liquidations: list[Liquidation], now_ms: int, out: list[Message]
    ) -> None:
        """Messages of what was printed for one contract."""

    @abstractmethod
    def write_states(self, now_ms: int, out: list[Message]) -> None:
        """Messages of what is sent by the clock."""

    def live_quotes(self) -> list[Quote]:
        """The quotes that have had a step."""
        return [quote for quote in self.quotes.values() if quote.live]

    def foreign_price(self, foreign: Foreign) -> float:
        """A price near the foreign contract's own; contracts of a simulated coin follow its mark."""
        for quote in self.quotes.values():
            if quote.live and foreign.name.startswith((f"{quote.listing.symbol}USD", f"{quote.listing.symbol}-USD")):
                return quote.mark
        return foreign.price * self.random.uniform(0.98, 1.02)

    def foreign_side(self) -> PositionSide:
        """The side of some foreign liquidation."""
        return self.random.choice((PositionSide.LONG, PositionSide.SHORT))

    @staticmethod
    def _update(quote: Quote, tape: Tape, open_interest_base: float) -> None:
        quote.mark_average = tape.mark_price if not quote.live else 0.98 * quote.mark_average + 0.02 * tape.mark_price
        quote.mark = tape.mark_price
        quote.index = tape.index_price
        quote.last = tape.last_price
        quote.funding_rate = tape.funding_rate
        quote.next_funding_ms = tape.next_funding_ms
        quote.open_interest_base = open_interest_base
        quote.live = True

    def _refresh_open_interest(self, now_ms: int) -> None:
        due = self._refresh.due(now_ms)
        for quote in self.live_quotes():
            if (due or not quote.served_ms) and self.faults.open_interest == "fresh":
                quote.served_open_interest_base = quote.open_interest_base
                quote.served_ms = now_ms


def _rows(array: NDArray[np.void], row: type[Row]) -> list[Row]:
    return [row(*values) for values in array.tolist()]


def book_levels(quote: Quote, levels: int) -> tuple[list[list[str]], list[list[str]]]:
    """A small book around the last price, for endpoints that must answer with one; the market itself has none.

    (bids, asks): `levels` levels a side, best first, one tick apart, thicker away from the middle.
    """
    listing = quote.listing
    best_bid = round(quote.last / listing.tick) * listing.tick
    bids, asks = [], []
    for depth in range(levels):
        lots = 3 + (depth * 7919 + int(best_bid)) % 40 + depth
        bids.append([listing.price(best_bid - depth * listing.tick), listing.of_lots(lots)])
        asks.append([listing.price(best_bid + (depth + 1) * listing.tick), listing.of_lots(lots + 2)])
    return bids, asks

"""What the three feeds of a simulated market share: the latest quote of each contract, cadences, foreign contracts."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.tape import Positioning, Tape, VenueTape
from liqmap.sim.venues.books import BookStreams, LevelBook
from liqmap.sim.venues.clockwork import Every
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message, Reply
from liqmap.sim.venues.history import History, Standing, Volume
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
    positioning: Positioning | None = None
    history: History = field(default_factory=History)
    book: LevelBook = field(init=False)

    def __post_init__(self) -> None:
        self.book = LevelBook(self.listing)


class MarketFeed(ABC):
    """Turns the tapes of one step into one venue's messages. Seeded: the same tapes give the same messages."""

    venue: ClassVar[Venue]
    open_interest_every_ms: ClassVar[int] = 3000
    books: BookStreams
    is_followed: Callable[[str], bool]
    """Does anybody follow this topic? Books cost too much to be written for nobody. Whoever serves the feed says it."""

    def __init__(self, listings: Mapping[str, Listing], faults: Faults, seed: int) -> None:
        self.faults = faults
        self.random = random.Random(f"{seed}/{self.venue.name}")
        self.quotes = {listing.symbol: Quote(listing) for listing in listings.values()}
        self.by_name = {quote.listing.name: quote for quote in self.quotes.values()}
        self.foreign = FOREIGN[self.venue]
        self.is_followed = lambda _topic: True
        self._refresh = Every(self.open_interest_every_ms)

    def lists(self, name: str) -> bool:
        """Is `name` a configured or a foreign contract of this venue, listed by now?"""
        known = name in self.by_name or any(foreign.name == name for foreign in self.foreign)
        return known and name not in self.faults.unlisted

    def listed_quotes(self) -> list[Quote]:
        """The quotes of contracts that are listed by now."""
        unlisted = self.faults.unlisted
        return [quote for quote in self.quotes.values() if quote.listing.name not in unlisted]

    def listed_foreign(self) -> list[Foreign]:
        """The foreign contracts that are listed by now."""
        unlisted = self.faults.unlisted
        return [foreign for foreign in self.foreign if foreign.name not in unlisted]

    def step(self, tapes: Iterable[Tape], now_ms: int) -> list[Message]:
        """The messages of one step that ends at `now_ms`."""
        prints, unlisted = [], self.faults.unlisted
        for tape in tapes:
            quote, venue_tape = self.quotes.get(tape.symbol), tape.venues.get(self.venue)
            if quote is None or venue_tape is None:
                continue
            self._update(quote, tape, venue_tape, now_ms)
            if quote.listing.name in unlisted:
                continue
            prints.append((quote, _rows(venue_tape.trades, Trade), _rows(venue_tape.liquidations, Liquidation)))
        self._refresh_open_interest(now_ms)
        messages: list[Message] = []
        for quote, trades, liquidations in prints:
            self.write_prints(quote, trades, liquidations, now_ms, messages)
        self.books.write(now_ms, messages)
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
        """The listed quotes that have had a step."""
        return [quote for quote in self.listed_quotes() if quote.live]

    def quote_named(self, name: str | None) -> Quote | None:
        """The quote of a listed contract that has had a step."""
        quote = self.by_name.get(name or "")
        return quote if quote is not None and quote.live and self.lists(quote.listing.name) else None

    def book_truth(self, contract: str, now_ms: int) -> dict[str, Any] | None:
        """The true book of a contract now, in base coin, and the numbers by which messages name this state of it."""
        quote = self.quote_named(contract)
        if quote is None:
            return None
        sides = {"bids": list(quote.book.in_base(quote.book.bids)), "asks": list(quote.book.in_base(quote.book.asks))}
        return {"contract": contract, "ts_ms": now_ms, "sequence": self.books.sequences(contract), **sides}

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
    def _update(quote: Quote, tape: Tape, venue_tape: VenueTape, now_ms: int) -> None:
        quote.mark_average = tape.mark_price if not quote.live else 0.98 * quote.mark_average + 0.02 * tape.mark_price
        quote.mark = tape.mark_price
        quote.index = tape.index_price
        quote.last = tape.last_price
        quote.funding_rate = tape.funding_rate
        quote.next_funding_ms = tape.next_funding_ms
        quote.open_interest_base = venue_tape.open_interest_base
        quote.positioning = venue_tape.positioning
        quote.live = True
        if venue_tape.past is not None:
            quote.history.remember(venue_tape.past)
        quote.book.apply(venue_tape.book_changes)
        bought = venue_tape.trades["taker_side"] == int(TakerSide.BUY)
        qty = venue_tape.trades["qty_base"]
        standing = Standing(quote.open_interest_base, quote.mark, quote.funding_rate, quote.positioning)
        quote.history.step(standing, Volume(float(qty[bought].sum()), float(qty[~bought].sum())), now_ms)

    def _refresh_open_interest(self, now_ms: int) -> None:
        due = self._refresh.due(now_ms)
        for quote in self.live_quotes():
            if (due or not quote.served_ms) and self.faults.open_interest == "fresh":
                quote.served_open_interest_base = quote.open_interest_base
                quote.served_ms = now_ms


def _rows(array: NDArray[np.void], row: type[Row]) -> list[Row]:
    return [row(*values) for values in array.tolist()]

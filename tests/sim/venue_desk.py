"""One simulated venue's feed over one market, stepped by hand: what it says and what it answers, without sockets."""

import json
from itertools import islice
from typing import Any

from liqmap import config as configuration
from liqmap.config import Config
from liqmap.domain.enums import TakerSide, Venue
from liqmap.sim.market.booked import BookedMarket
from liqmap.sim.tape import Market
from liqmap.sim.venues.binance_feed import BinanceFeed
from liqmap.sim.venues.bybit_feed import BybitFeed
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message
from liqmap.sim.venues.listings import listings_of
from liqmap.sim.venues.market_feed import MarketFeed
from liqmap.sim.venues.okx_feed import OkxFeed
from tests.sim.market_worlds import START_MS as BOOKED_START_MS
from tests.sim.market_worlds import market, small
from tests.sim.venue_client import START_MS

BIDS, ASKS = TakerSide.BUY, TakerSide.SELL
FEEDS: dict[Venue, type[MarketFeed]] = {
    Venue.BINANCE: BinanceFeed,
    Venue.BYBIT: BybitFeed,
    Venue.OKX: OkxFeed,
}


class Desk:
    """`told` is what the last `step` said, by topic. Without a market: a small simulated one of BTC with books."""

    def __init__(
        self,
        venue: Venue,
        world: Market | None = None,
        step_ms: int = 100,
        config: Config | None = None,
        start_ms: int = START_MS,
    ) -> None:
        self.feed: Any = FEEDS[venue](listings_of(config or configuration.parse({}), venue), Faults(), seed=1)
        self.world = world or BookedMarket(market(), small())
        self.step_ms = step_ms
        self.now_ms = start_ms if world is not None else BOOKED_START_MS
        self.told: dict[str, list[Any]] = {}
        self.step()

    def step(self, count: int = 1) -> None:
        """So many steps of market and feed."""
        self.told = {}
        for _ in range(count):
            self.now_ms += self.step_ms
            self.hear(self.feed.step([self.world.advance(self.now_ms)], self.now_ms))

    def hear(self, messages: list[Message]) -> None:
        """Keep messages under their topics."""
        for message in messages:
            self.told.setdefault(message.topic, []).append(json.loads(message.payload))

    def subscribe(self, topic: str) -> Any:
        """The one message that a new subscriber is sent."""
        (message,) = self.feed.on_subscribe(topic, self.now_ms)
        return json.loads(message.payload)

    def body(self, path: str, **query: object) -> bytes:
        """The answer to a GET as it is sent."""
        return bytes(self.feed.answer(path, {name: str(value) for name, value in query.items()}, self.now_ms).body)

    def get(self, path: str, **query: object) -> Any:
        """The answer to a GET."""
        return json.loads(self.body(path, **query))

    def truth(self, contract: str, levels: int) -> dict[TakerSide, list[tuple[float, float]]]:
        """The true book's best levels, in base coin."""
        book = self.feed.by_name[contract].book
        return {side: list(islice(book.in_base(held), levels)) for side, held in ((BIDS, book.bids), (ASKS, book.asks))}

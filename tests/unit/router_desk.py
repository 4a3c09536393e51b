"""A router on a manual clock, with sinks instead of rings, and the Binance frames that tests lay before it."""

import queue
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from liqmap import config as configuration
from liqmap.clock import ManualClock
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.domain.instrument import InstrumentTable, configured_table
from liqmap.exchanges.adapter import LinkPlan, PollPlan, Stream
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.feeds import Feeds, SourceState, VenueState
from liqmap.ingest.feeds_board import painter
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import Frames, Handoff, Opened
from liqmap.ingest.lanes import Lane
from liqmap.ingest.listener import Listener
from liqmap.ingest.replies import Asker
from liqmap.ingest.router import Router
from liqmap.shm.layout import FEEDS
from liqmap.store.quarantine import Quarantine
from tests.listening import ListSink

NAMES = {
    "BTC": {Venue.BINANCE: "BTCUSDT", Venue.BYBIT: "BTCUSDT", Venue.OKX: "BTC-USDT-SWAP"},
    "ETH": {Venue.BINANCE: "ETHUSDT", Venue.BYBIT: "ETHUSDT", Venue.OKX: "ETH-USDT-SWAP"},
}
NOW_MS = ManualClock().now_ns() // 1_000_000


class Desk:
    """A router with one Binance link and two polls."""

    def __init__(self, directory: Path) -> None:
        self.settings = configuration.parse({}).ingest
        self.clock = ManualClock()
        self.handoff = Handoff(1000)
        self.feeds = Feeds(self.settings.silent_after_s)
        self.quarantine = Quarantine(directory, 100, 1_000_000)
        self.router = Router(self.settings, self.clock, self.handoff, self.feeds, self.quarantine)
        self.sinks = {symbol: ListSink() for symbol in NAMES}
        self.table: InstrumentTable = configured_table(NAMES, shipped_instruments())[0]
        self.orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for venue in ADAPTERS:
            self.feeds.venues[venue] = VenueState()
        self.router.use(self.table, {symbol: Lane(symbol, sink, 1) for symbol, sink in self.sinks.items()})
        streams = (
            Stream("btcusdt@markPrice@1s", Topic.MARK_PRICE, ("BTC",)),
            Stream("!forceOrder@arr", Topic.LIQUIDATION, ("BTC",), quiet=True),
            Stream("btcusdt@aggTrade", Topic.TRADE, ("BTC",)),
        )
        plan = LinkPlan(Venue.BINANCE, "facts", "ws://x", streams)
        self.router.listeners["binance/facts"] = Listener(Venue.BINANCE, ADAPTERS[Venue.BINANCE], self.orders, plan)
        carried = [(Feed(Venue.BINANCE, stream.topic, "BTC"), stream.quiet) for stream in streams]
        self.feeds.follow("binance/facts", SourceState(Venue.BINANCE, "facts", True), carried, self.router.time.now_ns)
        for number in (1, 2):
            name = "open_interest.BTCUSDT"
            poll = PollPlan(Venue.BINANCE, name, "http://x", Topic.OPEN_INTEREST, ("BTC",), 10.0)
            source = f"binance/poll-{number}"
            self.router.replies.askers[source] = Asker(poll, ADAPTERS[Venue.BINANCE])
            self.feeds.follow(source, SourceState(Venue.BINANCE, source, False), (), self.router.time.now_ns)

    def open(self, connection: int = 1) -> None:
        self.handoff.announce(Opened("binance/facts", connection, self.clock.now_ns()))

    def frames(self, *frames: dict[str, Any], connection: int = 1, at_ns: int | None = None) -> None:
        raw = [msgspec.json.encode(frame) for frame in frames]
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        self.handoff.give(Frames("binance/facts", connection, at_ns, raw))

    def turn(self) -> None:
        self.router.turn(0)

    def events(self, *kinds: Kind, symbol: str = "BTC") -> Any:
        events = self.sinks[symbol].array()
        return events[np.isin(events["kind"], kinds)] if kinds else events

    def board(self) -> Any:
        record = np.zeros((), dtype=FEEDS)
        painter(self.feeds, self.router.time.now_ns, self.router.set_aside)(record)
        return record


def mark(price: float = 60_000.0, symbol: str = "BTCUSDT", at_ms: int = NOW_MS) -> dict[str, Any]:
    return {"e": "markPriceUpdate", "E": at_ms, "s": symbol, "p": str(price), "i": str(price), "r": "", "T": 0}


def trade(number: int, price: float = 60_000.0, symbol: str = "BTCUSDT") -> dict[str, Any]:
    return {"e": "aggTrade", "E": NOW_MS, "s": symbol, "a": number, "p": str(price), "q": "0.5", "T": NOW_MS, "m": True}


def forced(side: str, at_ms: int = NOW_MS, price: float = 60_000.0, qty: str = "0.1") -> dict[str, Any]:
    order = {
        "s": "BTCUSDT",
        "S": side,
        "q": qty,
        "p": str(price),
        "ap": str(price),
        "X": "FILLED",
        "z": qty,
        "T": at_ms,
    }
    return {"e": "forceOrder", "E": at_ms, "o": order}


def level(base: str, at_ms: int = NOW_MS) -> bytes:
    return msgspec.json.encode({"symbol": "BTCUSDT", "openInterest": base, "time": at_ms})

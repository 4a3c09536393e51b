"""Ingest without its process: the router in the test's own thread, links and polls in theirs, rings as lists.

with listening(venues.config()) as ingest:
    ingest.until(lambda: ingest.events("BTC", Kind.TRADE).size, "a trade")
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.clock import Clock, SystemClock
from liqmap.config import Config
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import BookState, Kind, Venue
from liqmap.domain.event import EVENT_DTYPE
from liqmap.domain.instrument import Instrument
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.feeds_board import painter
from liqmap.ingest.fetcher import RequestsFetcher
from liqmap.ingest.handoff import Handoff
from liqmap.ingest.lanes import Lane
from liqmap.ingest.router import Router
from liqmap.ingest.switchboard import Surroundings, Switchboard
from liqmap.ingest.transport import Connector, WebsocketConnector
from liqmap.shm.layout import FEEDS, depth_dtype
from liqmap.store.quarantine import Quarantine

DEADLINE_S = 20.0


class ListSink:
    """A ring that forgets nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, events: bytes) -> int:
        """Append."""
        self.written.append(events)
        return len(self.written)

    def array(self) -> NDArray[np.void]:
        """Everything that was written."""
        return np.frombuffer(b"".join(self.written), dtype=EVENT_DTYPE)


class DepthSink:
    """A depth board that keeps its newest payload, and says whether every one of them could be trusted."""

    def __init__(self, buckets: int) -> None:
        self.record: Any = np.zeros((), depth_dtype(buckets))
        self.published = 0
        self.watch: Callable[[Any], None] | None = None

    def publish(self, fill: Callable[[NDArray[Any]], None]) -> int:
        """Paint it."""
        fill(self.record)
        self.published += 1
        if self.watch is not None:
            self.watch(self.record)
        return self.published

    def venue(self, venue: Venue) -> Any:
        """The row of a venue's book."""
        return self.record["venues"][int(venue) - 1]

    def synced(self, *venues: Venue) -> bool:
        """These venues' books are whole."""
        return all(self.venue(venue)["state"] == BookState.SYNCED for venue in venues)


class Listening:
    """A running ingest. The test's thread is the router's."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        clock: Clock | None = None,
        connect: Connector | None = None,
        shipped: tuple[Instrument, ...] | None = None,
        handoff: Handoff | None = None,
    ) -> None:
        settings = config.ingest
        self.clock = clock or SystemClock()
        self.sinks: dict[str, ListSink] = {}
        self.depth: dict[str, DepthSink] = {}
        self._config = config
        self.feeds = Feeds(settings.silent_after_s)
        self.handoff = handoff or Handoff(settings.queue_frames)
        self.quarantine = Quarantine(directory, settings.quarantine_frames, settings.quarantine_bytes)
        self.router = Router(settings, self.clock, self.handoff, self.feeds, self.quarantine)
        self.accounts = AccountBook(config, self.clock, directory / "bans.json")
        around = Surroundings(
            clock=self.clock,
            accounts=self.accounts,
            handoff=self.handoff,
            connect=connect
            or WebsocketConnector(settings.connect_timeout_s, settings.max_frame_bytes, self.clock.now_ns),
            fetcher=lambda: RequestsFetcher(settings.connect_timeout_s),
            draw=random.Random(5).random,
            lane=self._lane,
            depth_board=self._depth_board,
        )
        self.switchboard = Switchboard(
            self.router, config, shipped_instruments() if shipped is None else shipped, around
        )
        self.router.replies.take_listing = self.switchboard.take_listing
        self.switchboard.apply(config)

    def _lane(self, symbol: str) -> Lane:
        self.sinks[symbol] = ListSink()
        return Lane(symbol, self.sinks[symbol], 1)

    def _depth_board(self, symbol: str) -> "DepthSink":
        self.depth[symbol] = DepthSink(self._config.depth.buckets)
        return self.depth[symbol]

    def turn(self) -> None:
        """One turn of the main loop."""
        if self.router.turn(min(0.05, self.router.until_tick_s)):
            self.switchboard.check()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Run until the condition holds. Fails after the deadline."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"never came: {what}\n{self.links()}\n{self.missing()}"
            self.turn()

    def events(self, symbol: str, *kinds: Kind) -> NDArray[np.void]:
        """What the ring of a symbol holds, of these kinds."""
        events = self.sinks[symbol].array()
        return events[np.isin(events["kind"], kinds)] if kinds else events

    def board(self) -> NDArray[np.void]:
        """The feeds board as readers would see it."""
        record = np.zeros((), dtype=FEEDS)
        painter(self.feeds, self.router.time.now_ns, self.router.set_aside)(record)
        return record

    def venue(self, number: int) -> Any:
        """A venue's row of the board."""
        board = self.board()
        rows = board["venues"][: int(board["venue_count"])]
        return rows[rows["venue"] == number][0]

    def links(self) -> str:
        """For messages of failures."""
        return "\n".join(f"{name}: {state.state.value} {state.reason}" for name, state in self.feeds.sources.items())

    def missing(self) -> str:
        """For messages of failures."""
        return "\n".join(f"missing: {feed}" for feed, state in self.feeds.feeds.items() if state.missing)

    def all_up(self) -> bool:
        """Every link delivers and nothing is missing."""
        return not any(state.missing for state in self.feeds.feeds.values())

    def close(self) -> None:
        """End every thread."""
        self.switchboard.stop(5.0, lambda: self.router.turn(0.05))
        self.router.stop()


@contextmanager
def listening(
    config: Config,
    *,
    clock: Clock | None = None,
    connect: Connector | None = None,
    shipped: tuple[Instrument, ...] | None = None,
    handoff: Handoff | None = None,
) -> Iterator[Listening]:
    """A running ingest, ended in the end."""
    with tempfile.TemporaryDirectory(prefix="t-ingest-") as directory:
        ingest = Listening(config, Path(directory), clock, connect, shipped, handoff)
        try:
            yield ingest
        finally:
            ingest.close()

"""The three venue servers together: built over a simulated market, started on three listening sockets."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from liqmap.clock import ReplayTime
from liqmap.config import Config
from liqmap.domain.enums import Venue
from liqmap.sim.tape import Market
from liqmap.sim.venues.binance_feed import BinanceFeed
from liqmap.sim.venues.binance_server import BinanceRules, BinanceServer
from liqmap.sim.venues.bybit_feed import BybitFeed
from liqmap.sim.venues.bybit_server import BybitRules, BybitServer
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Feed
from liqmap.sim.venues.listings import listings_of
from liqmap.sim.venues.market_feed import MarketFeed
from liqmap.sim.venues.okx_feed import OkxFeed
from liqmap.sim.venues.okx_server import OkxRules, OkxServer
from liqmap.sim.venues.playback import CaptureFeed, Playback
from liqmap.sim.venues.pump import MarketPump, wall_ms
from liqmap.sim.venues.server import VenueServer
from liqmap.store.capture import describe

VENUES = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)
"""The order of sockets on the command line."""

PATIENCE_S = 10.0
"""A capture waits so long for its listeners."""
_LOOK_S = 0.3


@dataclass(frozen=True, slots=True)
class VenueRules:
    """The limits of each venue."""

    binance: BinanceRules = field(default_factory=BinanceRules)
    bybit: BybitRules = field(default_factory=BybitRules)
    okx: OkxRules = field(default_factory=OkxRules)


def server_of(
    venue: Venue, feed: Feed, faults: Faults, rules: VenueRules, now_ms: Callable[[], int] = wall_ms
) -> VenueServer:
    """The server of a venue over any feed."""
    if venue is Venue.BINANCE:
        return BinanceServer(feed, faults, now_ms, rules.binance)
    if venue is Venue.BYBIT:
        return BybitServer(feed, faults, now_ms, rules.bybit)
    return OkxServer(feed, faults, now_ms, rules.okx)


class MarketVenues:
    """Three servers over one set of simulated markets."""

    def __init__(
        self,
        config: Config,
        markets: Sequence[Market],
        seed: int = 1,
        rules: VenueRules | None = None,
        speed: float = 1.0,
        step_ms: int = 100,
    ) -> None:
        makers: dict[Venue, Callable[..., MarketFeed]] = {
            Venue.BINANCE: BinanceFeed,
            Venue.BYBIT: BybitFeed,
            Venue.OKX: OkxFeed,
        }
        feeds: dict[Venue, MarketFeed] = {
            venue: maker(listings_of(config, venue), Faults(), seed) for venue, maker in makers.items()
        }
        rules = rules or VenueRules()
        self.servers = {venue: server_of(venue, feed, feed.faults, rules) for venue, feed in feeds.items()}
        for venue, feed in feeds.items():
            feed.is_followed = self.servers[venue].is_followed
        pairs = [(feeds[venue], self.servers[venue]) for venue in VENUES]
        self.pump = MarketPump(markets, pairs, speed=speed, step_ms=step_ms)

    @property
    def losses(self) -> int:
        """A market loses nothing."""
        return 0

    async def serve(self, listening: Mapping[Venue, socket.socket], stopped: asyncio.Event) -> None:
        """Serve until `stopped`. The first step is made before anybody can ask for a price."""
        self.pump.step()
        async with running(self.servers, listening):
            await until_stopped(self.pump.run(), stopped)


class CaptureVenues:
    """Three servers over one capture of raw frames. Raises CaptureUnreadable when there is nothing to play."""

    def __init__(
        self,
        config: Config,
        path: Path,
        line: ReplayTime,
        rules: VenueRules | None = None,
        from_ns: int = 0,
        to_ns: int | None = None,
    ) -> None:
        self.held = describe(path)
        feeds = {
            venue: CaptureFeed(venue, {*listings_of(config, venue), *self.held.instruments.get(venue, ())})
            for venue in VENUES
        }
        rules = rules or VenueRules()

        def engine_ms() -> int:
            return line.engine_ns(time.time_ns()) // 1_000_000

        self.servers = {venue: server_of(venue, feed, Faults(), rules, engine_ms) for venue, feed in feeds.items()}
        self.playback = Playback(path, feeds, self.servers, line, from_ns, to_ns)
        self.playback.load_lists()

    @property
    def losses(self) -> int:
        """Damaged places of the capture."""
        return self.held.losses

    async def serve(
        self, listening: Mapping[Venue, socket.socket], stopped: asyncio.Event, begin: asyncio.Event | None = None
    ) -> None:
        """Serve until `stopped`; after the end of the capture the venues stay up and say nothing more.

        `begin`: nothing is played before it is set, whatever the line says. Without it the listeners are waited for:
        what was recorded first may be said only once (the snapshot of a book), and a slow machine begins late.
        """

        async def play() -> None:
            if begin is not None:
                await begin.wait()
            else:
                await self._listened_to()
            await self.playback.run()

        async with running(self.servers, listening):
            await until_stopped(play(), stopped)

    async def _listened_to(self) -> None:
        """Until somebody has subscribed at every venue that the capture holds and nobody adds anything, within
        PATIENCE_S."""
        servers = [self.servers[venue] for venue in self.held.venues]
        latest_s, before = time.monotonic() + PATIENCE_S, -1
        while time.monotonic() < latest_s:
            each = [sum(len(connection.topics) for connection in server.connections.values()) for server in servers]
            if all(each) and sum(each) == before:
                return
            before = sum(each)
            await asyncio.sleep(_LOOK_S)


@contextlib.asynccontextmanager
async def running(
    servers: Mapping[Venue, VenueServer], listening: Mapping[Venue, socket.socket]
) -> AsyncIterator[None]:
    """Servers started on their sockets, and stopped at the end."""
    try:
        for venue, server in servers.items():
            await server.start(listening[venue])
        yield
    finally:
        for server in servers.values():
            await server.stop()


async def until_stopped(work: Coroutine[None, None, None], stopped: asyncio.Event) -> None:
    """Run `work` until it fails, which is passed on, or until `stopped` is set. Work that ends early is waited out."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            await waiting
    finally:
        for task in (working, waiting):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

"""The three simulated venues on free ports, in a thread, over markets that a test scripts: for tests of real links.

with venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues:
    config = venues.config()                       # endpoints filled in
    venues.market("BTC").liquidate(Venue.BYBIT, PositionSide.LONG, price=58_000.0, fill=58_300.0, qty_base=1.5)
    venues.fault(Venue.BINANCE, {"fault": "silent", "topic": "*@aggTrade"})
"""

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from liqmap import config as configuration
from liqmap.clock import ReplayTime
from liqmap.config import Config
from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.tape import BOOK_CHANGES, LIQUIDATIONS, TRADES, Market, Past, Positioning, Tape, VenueTape
from liqmap.sim.venues.running import VENUES, CaptureVenues, MarketVenues, VenueRules
from liqmap.sim.venues.server import VenueServer

T = TypeVar("T")
PULSE_MS = 200
Levels = dict[tuple[TakerSide, float], float]
"""Base quantity by side and price."""


def default_book(price: float, pulse: int = 0) -> Levels:
    """Fifty levels a side around `price`, a basis point apart from half of one on, growing away from the middle. The
    deepest bid beats with `pulse`: a book in which nothing moves is told of by no venue."""
    levels: Levels = {}
    for number in range(50):
        away = price * (number + 0.5) * 1e-4
        levels[TakerSide.BUY, round(price - away, 6)] = levels[TakerSide.SELL, round(price + away, 6)] = (
            1.0 + number / 10
        )
    levels[min(levels, key=lambda level: level[1])] += pulse / 10
    return levels


class ScriptedMarket:
    """A market that prints exactly what a test tells it, at the end of the next step. Safe to call from the test."""

    def __init__(self, symbol: str, price: float, open_interest_base: float = 1000.0) -> None:
        self.symbol = symbol
        self.mark_price = price
        self.index_price = price
        self.last_price = price
        self.funding_rate = 0.0001
        self.open_interest_base = dict.fromkeys(VENUES, open_interest_base)
        self.positioning: dict[Venue, Positioning | None] = dict.fromkeys(VENUES, Positioning(0.6, 0.55, 0.52))
        self.past: Past | None = None
        """What every venue remembers of the time before the first step; nobody looks at it later."""
        self._lock = threading.RLock()
        self._trades: dict[Venue, list[tuple[float, float, int]]] = {venue: [] for venue in VENUES}
        self._liquidations: dict[Venue, list[tuple[int, float, float, float]]] = {venue: [] for venue in VENUES}
        self._book: dict[Venue, Levels | None] = dict.fromkeys(VENUES)
        """What a test made of it; None: the default book around the last price."""
        self._told: dict[Venue, Levels] = {venue: {} for venue in VENUES}
        self._at_ms: int | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is told inside is printed in one step."""
        with self._lock:
            yield

    def trade(self, venue: Venue, price: float, qty_base: float, taker: TakerSide = TakerSide.BUY) -> None:
        """Print a trade."""
        with self._lock:
            self.last_price = price
            self._trades[venue].append((price, qty_base, int(taker)))

    def liquidate(self, venue: Venue, side: PositionSide, price: float, fill: float, qty_base: float) -> None:
        """Liquidate a position: `price` is its bankruptcy price, `fill` where the closing order traded."""
        with self._lock:
            self._liquidations[venue].append((int(side), price, fill, qty_base))

    def book(self, venue: Venue) -> Levels:
        """What stands at that venue."""
        with self._lock:
            scripted = self._book[venue]
            if scripted is not None:
                return dict(scripted)
            return default_book(self.last_price, (self._at_ms or 0) // PULSE_MS % 2)

    def set_book(self, venue: Venue, levels: Levels) -> None:
        """From now on exactly these levels stand there; they no longer follow the price."""
        with self._lock:
            self._book[venue] = dict(levels)

    def set_level(self, venue: Venue, side: TakerSide, price: float, qty_base: float) -> None:
        """From now on so much stands at that price (BUY: a bid), 0 removes it; the rest stays and follows no price."""
        with self._lock:
            levels = self.book(venue)
            levels[side, price] = qty_base
            self._book[venue] = {level: qty for level, qty in levels.items() if qty > 0.0}

    def untold(self, venue: Venue) -> int:
        """Prints that wait for the next step."""
        with self._lock:
            return len(self._trades[venue]) + len(self._liquidations[venue])

    def advance(self, to_ms: int) -> Tape:
        """What was told since the last step."""
        from_ms = to_ms - 100 if self._at_ms is None else self._at_ms
        self._at_ms = to_ms
        with self._lock:
            venues = {venue: self._venue_tape(venue, to_ms) for venue in VENUES}
            self.past = None
        eight_hours_ms = 28_800_000
        return Tape(
            symbol=self.symbol,
            from_ms=from_ms,
            to_ms=to_ms,
            mark_price=self.mark_price,
            index_price=self.index_price,
            last_price=self.last_price,
            funding_rate=self.funding_rate,
            next_funding_ms=to_ms - to_ms % eight_hours_ms + eight_hours_ms,
            venues=venues,
        )

    def _venue_tape(self, venue: Venue, to_ms: int) -> VenueTape:
        trades = np.array([(to_ms, *trade) for trade in self._trades[venue]], dtype=TRADES)
        liquidations = np.array([(to_ms, *row) for row in self._liquidations[venue]], dtype=LIQUIDATIONS)
        self._trades[venue].clear()
        self._liquidations[venue].clear()
        changes = self._book_changes(venue)
        level, held = self.open_interest_base[venue], self.positioning[venue]
        return VenueTape(trades, liquidations, level, changes, held, self.past)

    def _book_changes(self, venue: Venue) -> Any:
        """Since the last step, removals first."""
        told, now = self._told[venue], self.book(venue)
        self._told[venue] = now
        gone = [(int(side), price, 0.0) for side, price in told.keys() - now.keys()]
        new = [(int(side), price, qty) for (side, price), qty in now.items() if told.get((side, price)) != qty]
        return np.array([*gone, *new], dtype=BOOK_CHANGES)


class RunningVenues:
    """Servers that run in their own thread: addresses, faults, state."""

    def __init__(
        self, venues: MarketVenues | CaptureVenues, markets: dict[str, Market], sockets: dict[Venue, socket.socket]
    ) -> None:
        self._venues = venues
        self._markets = markets
        self.ports: dict[Venue, int] = {venue: listening.getsockname()[1] for venue, listening in sockets.items()}
        self._sockets = sockets
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._begin: asyncio.Event | None = None
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="venues", daemon=True)

    @property
    def binance_market_ws(self) -> str:
        """Base of Binance's market route."""
        return f"ws://127.0.0.1:{self.ports[Venue.BINANCE]}/market"

    @property
    def binance_public_ws(self) -> str:
        """Base of Binance's public route."""
        return f"ws://127.0.0.1:{self.ports[Venue.BINANCE]}/public"

    @property
    def bybit_ws(self) -> str:
        """Bybit's linear socket."""
        return f"ws://127.0.0.1:{self.ports[Venue.BYBIT]}/v5/public/linear"

    @property
    def okx_ws(self) -> str:
        """OKX's public socket."""
        return f"ws://127.0.0.1:{self.ports[Venue.OKX]}/ws/v5/public"

    def rest(self, venue: Venue) -> str:
        """Base of a venue's REST addresses."""
        return f"http://127.0.0.1:{self.ports[venue]}"

    def endpoints(self) -> dict[str, Any]:
        """The `venues` table of a configuration that points here."""
        return {
            "binance": {
                "market_ws": self.binance_market_ws,
                "public_ws": self.binance_public_ws,
                "rest": self.rest(Venue.BINANCE),
            },
            "bybit": {"ws": self.bybit_ws, "rest": self.rest(Venue.BYBIT)},
            "okx": {"public_ws": self.okx_ws, "rest": self.rest(Venue.OKX)},
        }

    def config(self, **sections: Any) -> Config:
        """A configuration whose venues are these; `sections` as in the file, `venues` merged per venue. Backfill is off
        unless it is asked for: a scripted market has no past."""
        sections["ingest"] = {"backfill_days": 0.0, **sections.get("ingest", {})}
        venues = self.endpoints()
        for venue, table in sections.pop("venues", {}).items():
            venues[venue].update(table)
        return configuration.parse({**sections, "venues": venues})

    def market(self, symbol: str) -> Any:
        """The market a test handed in."""
        return self._markets[symbol]

    def server(self, venue: Venue) -> VenueServer:
        """The server itself; touch it only through `call`."""
        return self._venues.servers[venue]

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the servers' event loop."""

        async def run() -> T:
            return function()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "concurrent.futures.Future[None]":
        """Have the servers' event loop do something that takes time."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def fault(self, venue: Venue, command: dict[str, Any]) -> dict[str, Any]:
        """Make something go wrong; see liqmap/sim/venues/control.py for the commands."""
        return self.call(lambda: self.server(venue).control.apply(command))

    def state(self, venue: Venue) -> dict[str, Any]:
        """Connections and their topics as the server sees them."""
        return self.call(lambda: self.server(venue).state())

    def begin(self) -> None:
        """Let a capture play, now that whoever is to hear it has subscribed."""
        begin = self._begin
        assert begin is not None, "these venues play no capture"
        self.call(begin.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._up.set()
            raise

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._loop.call_soon(self._up.set)
        if isinstance(self._venues, CaptureVenues):
            self._begin = asyncio.Event()
            await self._venues.serve(self._sockets, self._stopped, self._begin)
        else:
            await self._venues.serve(self._sockets, self._stopped)

    def start(self) -> None:
        """Start the thread; the sockets already listen."""
        self._thread.start()
        assert self._up.wait(timeout=20), "the venue servers did not come up"
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the thread and its servers."""
        if self._loop is not None and self._stopped is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "the venue servers did not stop"


@contextmanager
def venue_servers(
    *markets: Market,
    config: Config | None = None,
    rules: VenueRules | None = None,
    seed: int = 1,
    step_ms: int = 20,
    speed: float = 1.0,
) -> Iterator[RunningVenues]:
    """Three venues over `markets` (BTC scripted at 60,000 when none is given), stopped at the end."""
    given: tuple[Market, ...] = markets or (ScriptedMarket("BTC", 60_000.0),)
    venues = MarketVenues(config or configuration.parse({}), given, seed, rules, speed, step_ms)
    with _running(venues, {market.symbol: market for market in given}) as servers:
        yield servers


@contextmanager
def capture_servers(
    path: Path,
    line: ReplayTime,
    config: Config | None = None,
    rules: VenueRules | None = None,
    from_ns: int = 0,
    to_ns: int | None = None,
) -> Iterator[RunningVenues]:
    """Three venues that play a capture along `line`, but nothing before `begin()`."""
    venues = CaptureVenues(config or configuration.parse({}), path, line, rules, from_ns, to_ns)
    with _running(venues, {}) as servers:
        yield servers


@contextmanager
def _running(venues: MarketVenues | CaptureVenues, markets: dict[str, Market]) -> Iterator[RunningVenues]:
    sockets = {venue: _listening() for venue in VENUES}
    try:
        servers = RunningVenues(venues, markets, sockets)
        servers.start()
        try:
            yield servers
        finally:
            servers.stop()
    finally:
        for listening in sockets.values():
            listening.close()


def _listening() -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    listening.listen(64)
    listening.setblocking(False)
    return listening

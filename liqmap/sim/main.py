"""The process that plays the venues: `python -m liqmap.sim --effective PATH --fds BINANCE,BYBIT,OKX [--capture FILE]`.

The descriptors are listening sockets that were inherited. Without `--fds` (by hand) the process listens on the
loopback addresses that the configuration names as the venues' REST hosts. `--console-fd` is an inherited Unix socket by
which faults are asked for. `--truth DIRECTORY` keeps what only a simulation knows: every `--truth-every-s` seconds a
table of all true positions of each symbol.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from liqmap.child import Child, open_child
from liqmap.clock import ReplayTime
from liqmap.config import Config, ConfigError, RunMode
from liqmap.domain.enums import Venue
from liqmap.logs import fields
from liqmap.sim.market.booked import BookedMarket
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.market.truth import write_truth
from liqmap.sim.venues.console import Console
from liqmap.sim.venues.pump import wall_ms
from liqmap.sim.venues.running import VENUES, CaptureVenues, MarketVenues
from liqmap.sim.worlds import open_market
from liqmap.store.capture import CaptureUnreadable

log = logging.getLogger(__name__)

BEAT_S = 0.25


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m liqmap.sim", description=__doc__)
    parser.add_argument("--effective", required=True, type=Path, help="the validated configuration of this run")
    parser.add_argument("--fds", type=_descriptors, help="three listening sockets: Binance, Bybit, OKX")
    parser.add_argument("--console-fd", type=int, metavar="FD", help="a listening Unix socket, to be asked for faults")
    parser.add_argument("--capture", type=Path, help="raw frames to play instead of a simulated market")
    parser.add_argument("--truth", type=Path, metavar="DIRECTORY", help="where tables of the true positions go")
    parser.add_argument("--truth-every-s", type=_seconds, default=900.0, metavar="SECONDS", help="default: 900")
    given = parser.parse_args(arguments)
    if given.capture and given.truth:
        parser.error("--truth belongs to a simulated market: nobody knows the true positions behind a capture")
    with open_child("sim", given.effective) as child, contextlib.ExitStack() as open_sockets:
        listening = {
            venue: open_sockets.enter_context(listener)
            for venue, listener in zip(VENUES, _sockets(given.fds, child.config), strict=True)
        }
        console = None if given.console_fd is None else open_sockets.enter_context(_inherited(given.console_fd))
        if given.capture:
            asyncio.run(_serve(child, _captured(child, given.capture), listening, console))
        else:
            markets = _markets(child)
            sim = child.config.sim
            booked = [BookedMarket(market, sim) for market in markets.values()]
            venues = MarketVenues(child.config, booked, seed=sim.seed, speed=child.mode.speed)
            truth = TruthTables(markets, given.truth, given.truth_every_s) if given.truth else None
            asyncio.run(_serve(child, venues, listening, console, truth))
    return 0


def line_of(mode: RunMode) -> ReplayTime:
    """Which wall time is which time of the capture."""
    return ReplayTime(mode.engine_origin_ns, mode.wall_origin_ns, mode.speed)


def _captured(child: Child, path: Path) -> CaptureVenues:
    child.beat()
    try:
        venues = CaptureVenues(
            child.config,
            path,
            line_of(child.mode),
            from_ns=(child.mode.from_ms or 0) * 1_000_000,
            to_ns=None if child.mode.to_ms is None else child.mode.to_ms * 1_000_000,
        )
    except CaptureUnreadable as error:
        raise ConfigError(str(error)) from error
    held = venues.held
    frames = sum(sum(topics.values()) for topics in held.topics.values())
    log.info("playing a capture", extra=fields(file=path, frames=frames, losses=held.losses, speed=child.mode.speed))
    return venues


def _markets(child: Child) -> dict[str, SimulatedMarket]:
    config = child.config
    markets: dict[str, SimulatedMarket] = {}
    start_ms = wall_ms()
    for symbol in config.symbols:
        child.beat()
        if symbol not in config.sim.symbols:
            log.warning("no market is simulated for this symbol: sim.symbols has none", extra=fields(symbol=symbol))
            continue
        begun_s = time.monotonic()
        markets[symbol] = open_market(config.sim, symbol, start_ms)
        log.info("market open", extra=fields(symbol=symbol, took_s=round(time.monotonic() - begun_s, 2)))
    if not markets:
        raise ConfigError("none of the symbols stands in sim.symbols, so there is no market to simulate")
    return markets


class TruthTables:
    """Writes the true positions of one symbol after the other, each every `every_s` seconds and into its own file."""

    def __init__(self, markets: Mapping[str, SimulatedMarket], directory: Path, every_s: float) -> None:
        self._turns = itertools.cycle(markets.items())
        self._directory = directory
        self._every_s = every_s / len(markets)
        self._due_s = time.monotonic()
        self.failures = 0

    def write_when_due(self) -> None:
        """At most one table; a failed write is logged, counted, and tried again at the symbol's next turn."""
        if time.monotonic() < self._due_s:
            return
        self._due_s += self._every_s
        symbol, market = next(self._turns)
        path = self._directory / f"truth_{symbol}_{market.now_ms}.csv.gz"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_truth(market, market.now_ms, path)
        except OSError:
            self.failures += 1
            log.exception("the true positions could not be written", extra=fields(file=path))


async def _serve(
    child: Child,
    venues: MarketVenues | CaptureVenues,
    listening: Mapping[Venue, socket.socket],
    console: socket.socket | None,
    truth: TruthTables | None = None,
) -> None:
    stopped = asyncio.Event()
    beating = asyncio.create_task(_beat(child, venues, truth, stopped))
    try:
        async with Console(venues.servers).listening(console):
            await venues.serve(listening, stopped)
    finally:
        stopped.set()
        await beating


async def _beat(
    child: Child, venues: MarketVenues | CaptureVenues, truth: TruthTables | None, stopped: asyncio.Event
) -> None:
    while not stopped.is_set():
        if truth is not None:
            truth.write_when_due()
        child.beat(
            ready=True,
            engine_ns=child.clock.now_ns(),
            errors=venues.losses + (truth.failures if truth is not None else 0),
            work=sum(server.messages for server in venues.servers.values()),
        )
        if child.should_stop():
            stopped.set()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopped.wait(), BEAT_S)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return seconds


def _descriptors(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != len(VENUES):
        raise argparse.ArgumentTypeError(f"{len(VENUES)} descriptors are needed: Binance, Bybit, OKX")
    return numbers


def _sockets(descriptors: tuple[int, ...] | None, config: Config) -> list[socket.socket]:
    if descriptors is not None:
        return [_inherited(number) for number in descriptors]
    venues = config.venues
    addresses = (venues.binance.rest, venues.bybit.rest, venues.okx.rest)
    return [_listen(venue, address) for venue, address in zip(VENUES, addresses, strict=True)]


def _inherited(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(f"the inherited descriptor {descriptor} is no socket: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _listen(venue: Venue, address: str) -> socket.socket:
    key = f"venues.{venue.name.lower()}.rest"
    parts = urlsplit(address)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1") or parts.port is None:
        raise ConfigError(f"{key} = {address!r}: without --fds this must be an address on loopback with a port")
    try:
        listener = socket.create_server((parts.hostname, parts.port), backlog=256)
    except OSError as error:
        raise ConfigError(f"{key} = {address!r}: cannot be listened on: {error.strerror}") from error
    listener.setblocking(False)
    return listener

"""What the API shows of a running ingest: real links, the real router, real workers over shared memory, and the Flask
application, all turned by the test's thread, so that nothing of it can hurry ahead.

with watching(venues, "BTC", silent_after_s=1.5) as seen:
    seen.until_all_up()
    venues.fault(Venue.OKX, {"fault": "silent", "topic": "trades/*"})
    seen.until(lambda: seen.topic("okx", "trade")["silent"], "the silence")
    assert seen.health()["feeds"]["okx"]["state"] == "silent"
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from liqmap.api.app import create_app
from liqmap.child import Child
from liqmap.clock import SystemClock
from liqmap.config import Config, Effective, RunMode
from liqmap.domain.enums import GapReason, Kind, Source, TakerSide, Topic, Venue
from liqmap.engine.engine import Engine
from liqmap.ingest.feeds_board import painter
from liqmap.ingest.handoff import LinkState
from liqmap.ingest.lanes import Lane
from liqmap.ingest.main import depth_board
from liqmap.shm.board import BoardWriter
from liqmap.shm.layout import FEEDS, segment_name
from liqmap.shm.plan import Role, create_all
from liqmap.shm.ring import RingReader, RingWriter
from liqmap.shm.status import supervisor_beat
from liqmap.worker.books import OrderBooks
from liqmap.worker.checkpointing import Checkpointing
from liqmap.worker.loop import Loop, Start
from liqmap.worker.main import spec_of
from liqmap.worker.publication import Publication
from tests.api.stage import Stage, instance_name
from tests.listening import Listening, ListSink
from tests.venue_servers import RunningVenues

VENUES: Final = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)
PATIENCE_S = 30.0
_LOOK_S = 0.1
_SLICE_S = 0.02

FAST: dict[str, Any] = {
    "backoff_first_s": 0.05,
    "backoff_ceiling_s": 0.3,
    "connect_timeout_s": 5.0,
    "max_frame_bytes": 262_144,
    "ring_events": 65_536,
}


class PassingTime(SystemClock):
    """The machine's clock, but for stretches that a test lets pass at once: pauses of minutes that venues ask for."""

    def __init__(self) -> None:
        self._ahead_ns = 0

    def monotonic_ns(self) -> int:
        """With what was let pass."""
        return super().monotonic_ns() + self._ahead_ns

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """In slices, so that who sleeps notices what passed."""
        end_ns = self.monotonic_ns() + int(timeout_s * 1e9)
        while (left_ns := end_ns - self.monotonic_ns()) > 0:
            if event.wait(min(_SLICE_S, left_ns / 1e9)):
                return True
        return event.is_set()

    def let_pass(self, seconds: float) -> None:
        """From now on it is that much later."""
        self._ahead_ns += int(seconds * 1e9)


class _Both(ListSink):
    """The ring that a worker reads, and a list that forgets nothing."""

    def __init__(self, ring: RingWriter) -> None:
        super().__init__()
        self._ring = ring

    def write(self, events: bytes) -> int:
        self._ring.write(events)
        return super().write(events)


class Watched(Listening):
    """One instance in one thread."""

    def __init__(self, venues: RunningVenues, config: Config, directory: Path) -> None:
        self.venues = venues
        self.config = config
        self.passing = PassingTime()
        self._holding = create_all(config)
        self._stage = Stage(config, self._holding)
        self._stage.write_clock(Source.SIMULATED)
        self._stage.write_directory()
        self._stage.write_processes()
        instance = config.daemon.instance
        self._feeds_board = BoardWriter.open(segment_name(instance, "feeds"), FEEDS)
        self._workers = {symbol: _worker(config, symbol, self.passing) for symbol in config.enabled_symbols}
        self._client = self._stage.client()
        self._web = create_app(config, self._client).test_client()
        self._looked_s = 0.0
        self._shown_s = 0.0
        super().__init__(config, directory, clock=self.passing)

    def _lane(self, symbol: str) -> Lane:
        both = _Both(RingWriter.open(segment_name(self.config.daemon.instance, "ring", symbol)))
        self.sinks[symbol] = both
        return Lane(symbol, both, 1)

    def _depth_board(self, symbol: str) -> Any:
        return depth_board(self.config.daemon.instance, symbol, self.config.depth.buckets)

    def turn(self) -> None:
        """One turn of everybody: ingest, the workers, and now and then the boards and the heartbeats."""
        super().turn()
        for worker in self._workers.values():
            while worker.turn():
                pass
        if time.monotonic() - self._shown_s >= _LOOK_S:
            self._shown_s = time.monotonic()
            self._feeds_board.publish(painter(self.feeds, self.router.time.now_ns, self.router.set_aside))
            self._stage.beat()
            supervisor_beat(self._holding[Role.STATUS], time.monotonic_ns())

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Run until the condition holds; it is asked each tenth of a second. Fails after the deadline, and then says
        what /health said."""
        end = time.monotonic() + PATIENCE_S
        while True:
            self.turn()
            if time.monotonic() - self._looked_s < _LOOK_S:
                continue
            self._looked_s = time.monotonic()
            if condition():
                return
            assert time.monotonic() < end, f"never came: {what}\n{self.told()}"

    # -- making the market speak ---------------------------------------------------------------------------------

    def speak(self) -> None:
        """A trade at each venue, and marks that move: venues say nothing of a ticker that stands still."""
        for symbol in self.config.enabled_symbols:
            market = self.venues.market(symbol)
            with market.together():
                market.mark_price += 0.5 if market.mark_price < 60_000.25 else -0.5
                for venue in VENUES:
                    market.trade(venue, market.mark_price, 0.01, TakerSide.BUY)
                    market.open_interest_base[venue] += 0.1 if market.open_interest_base[venue] < 1000.05 else -0.1

    def speaking_until(self, condition: Callable[[], object], what: str) -> None:
        """Like `until`, while every market speaks."""

        def spoken() -> object:
            self.speak()
            return condition()

        self.until(spoken, what)

    def until_all_up(self) -> None:
        """Nothing is missing, and a fresh map of every symbol is shown."""
        self.speaking_until(lambda: self.all_up() and self.health()["status"] == "ok", "everything up")

    def calm(self) -> None:
        """Every fault ends, and everything is up again."""
        for venue in VENUES:
            self.venues.fault(venue, {"fault": "clear"})
        self.until_all_up()
        market = self.venues.market("BTC")
        self.until(lambda: not any(market.untold(venue) for venue in VENUES), "the last words of the market")
        self.venues.call(lambda: None)  # the step that took them is published

    def print_one_by_one(self, venue: Venue, prices: list[float]) -> None:
        """Each trade in a message of its own."""
        market = self.venues.market("BTC")
        for price in prices:
            market.trade(venue, price, 0.01)
            self.until(lambda: not market.untold(venue), "a step of the market")

    def links_up(self, venue: Venue) -> int:
        """How many links of a venue deliver."""
        links = [one for one in self.feeds.sources.values() if one.is_link and one.venue is venue]
        return sum(link.state is LinkState.UP for link in links)

    # -- what the API shows --------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """The JSON of an answer, whatever its status."""
        return self._web.get(path).get_json()

    def health(self) -> Any:
        """The answer of /health."""
        return self.get("/health")

    def feed(self, venue: Venue) -> Any:
        """What /health says of a venue."""
        return self.health()["feeds"][venue.name.lower()]

    def topic(self, venue: Venue, topic: Topic) -> Any:
        """What /health says of one topic of a venue, over all symbols."""
        return self.feed(venue)["topics"][topic.name.lower()]

    def gaps(self, symbol: str = "BTC") -> set[tuple[str, str, str]]:
        """(venue, topic, reason) of what a data answer says is missing."""
        answer = self.get(f"/liq_events?symbol={symbol}")
        return {(gap["venue"], gap["topic"], gap["reason"]) for gap in answer.get("gaps", ())}

    def told(self) -> str:
        """For messages of failures."""
        health = self.health()
        feeds = "\n".join(f"{name}: {feed['state']} {feed['reason']}" for name, feed in health["feeds"].items())
        return "\n".join([*health["problems"], feeds, self.links(), self.missing()])

    # -- what the events say -------------------------------------------------------------------------------------

    def outages(self, venue: Venue, topic: Topic, symbol: str = "BTC") -> list[tuple[GapReason, int, int]]:
        """(reason, from_ms, to_ms) of the closed gaps of a feed, as the GAP events of the ring tell them."""
        rows = self.events(symbol, Kind.GAP)
        rows = rows[(rows["venue"] == venue) & (rows["topic"] == topic) & (rows["detail"] >= 0)]
        return [(GapReason(int(row["side"])), int(row["venue_ms"]), int(row["detail"])) for row in rows]

    def prices(self, venue: Venue, symbol: str = "BTC") -> list[float]:
        """Of every trade of a venue, in the order of the ring."""
        rows = self.events(symbol, Kind.TRADE)
        prices: list[float] = rows["price"][rows["venue"] == venue].tolist()
        return prices

    def close(self) -> None:
        """End every thread and remove the memory."""
        super().close()
        self._client.close()
        self._holding.retire_all()


def _worker(config: Config, symbol: str, clock: SystemClock) -> Loop:
    effective = Effective(config, RunMode(source=int(Source.SIMULATED)), str(Path(__file__).parents[1]))
    child = Child(symbol, effective, Path("unused"))
    child.clock = clock
    ring = RingReader.open(segment_name(config.daemon.instance, "ring", symbol))
    start = Start(Engine(spec_of(effective, symbol)), hole=ring.read > 0, replayed_to=0)
    publication, books = Publication(config, symbol), OrderBooks(config, symbol)
    return Loop(child, start, ring, publication, books, Checkpointing(None))


def begun(venues: RunningVenues, *symbols: str) -> None:
    """Wait until the markets have had a step: a ticker that nobody has moved yet has no snapshot to give."""
    end = time.monotonic() + PATIENCE_S
    while any(venues.market(symbol)._at_ms is None for symbol in symbols):
        assert time.monotonic() < end, "the markets did not begin"
        venues.call(lambda: None)


@contextmanager
def watching(
    venues: RunningVenues,
    *symbols: str,
    polls: dict[str, float] | None = None,
    change: Callable[[Config], Config] = lambda config: config,
    **ingest: Any,
) -> Iterator[Watched]:
    """A running instance over `symbols` (BTC), gone at the end. `polls`: of every venue; `ingest`: its section."""
    symbols = symbols or ("BTC",)
    begun(venues, *symbols)
    rhythm = {"open_interest_poll_s": 0.3, **(polls or {})}
    config = venues.config(
        ingest=FAST | ingest,
        symbols={symbol: {"buckets": 2048} for symbol in symbols},
        history={"minute_columns": 8, "recent_liquidations": 1024},
        daemon={"instance": instance_name()},
        venues=dict.fromkeys(("binance", "bybit", "okx"), rhythm),
    )
    with tempfile.TemporaryDirectory(prefix="t-watched-") as directory:
        watched = Watched(venues, change(config), Path(directory))
        try:
            yield watched
        finally:
            watched.close()

"""Whatever happened to the links, once their venues behave every wanted stream is heard, and counted once.

The real switchboard, router, links, polls and accounts of two venues on a clock of the test; connections that are
refused, hang, end, fall mute or lose a subscription; symbols that come and go, addresses that change, all at any time.
"""

import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from liqmap import config as configuration
from liqmap.config import Config
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Kind, Venue
from liqmap.exchanges.binance import plans as binance
from liqmap.exchanges.bybit import plans as bybit
from liqmap.ingest import remedy
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.fetcher import FetchError, Reply
from liqmap.ingest.handoff import Handoff, LinkState
from liqmap.ingest.lanes import Lane
from liqmap.ingest.link import Rotate
from liqmap.ingest.router import Router
from liqmap.ingest.switchboard import Surroundings, Switchboard
from liqmap.ingest.transport import CannotConnect, ConnectionLost, HandshakeRefused, Received
from liqmap.store.quarantine import Quarantine
from tests.listening import ListSink
from tests.unit.strands import Strands

STEP_S = 0.5
CALM_S = 420.0
"""The wait after a refused handshake, one after another, and two tries to mend a silence."""

SYMBOLS = ("BTC", "ETH", "SOL")


class Socket:
    """One connection to a venue, as both sides see it."""

    def __init__(self, life: "Life", url: str) -> None:
        self.life, self.url = life, url
        self.streams: Counter[str] = Counter()
        self.waiting: list[bytes] = []
        self.ended = self.mute = False

    def receive(self, timeout_s: float) -> Received:
        if not self.waiting and not self.ended:
            self.life.clock.pause(max(timeout_s, STEP_S))
        if self.ended:
            raise ConnectionLost("closed by the venue: 1006", 1006)
        messages, self.waiting = self.waiting, []
        return Received(self.life.clock.now_ns(), messages, [])

    def send(self, text: str) -> None:
        if self.ended:
            raise ConnectionLost("cannot send: broken pipe")
        said = json.loads(text)
        names = said.get("params") or said.get("args") or []
        if names and self.life.loses > 0:
            self.life.loses -= 1
        elif (said.get("method") or said.get("op")).lower() == "unsubscribe":
            self.streams -= Counter(names)
        else:
            self.streams += Counter(names)

    def ping(self) -> None:
        """Nobody answers, nobody waits for it."""

    def close(self) -> None:
        self.ended = True
        self.life.sockets.remove(self)

    def tell(self, at_ms: int, print_number: int) -> None:
        """A frame of each stream that speaks."""
        if not self.mute:
            said = (_frame(name, at_ms, print_number) for name in self.streams)
            self.waiting += [json.dumps(frame).encode() for frame in said if frame is not None]


def _frame(stream: str, at_ms: int, print_number: int) -> dict[str, Any] | None:
    """What a venue says on a stream at that time; None: nothing, it is a quiet one."""
    coin, _, what = stream.partition("@")
    if what.startswith("markPrice"):
        return {"e": "markPriceUpdate", "E": at_ms, "s": coin.upper(), "p": "9", "i": "9", "r": "0.0001", "T": at_ms}
    if what in ("aggTrade", "trade"):
        number = "a" if what == "aggTrade" else "t"
        print_ = {
            "e": what,
            "E": at_ms,
            "s": coin.upper(),
            number: print_number,
            "p": "9",
            "q": "1",
            "T": at_ms,
            "m": True,
        }
        return print_ | ({"X": "MARKET"} if what == "trade" else {})
    topic, _, name = stream.partition(".")
    if topic == "publicTrade":
        row = {"T": at_ms, "s": name, "S": "Buy", "v": "1", "p": "9", "i": str(at_ms), "BT": False}
        return {"topic": stream, "type": "snapshot", "ts": at_ms, "data": [row]}
    if topic == "tickers":
        data = {"symbol": name, "markPrice": "9", "openInterest": "5", "fundingRate": "0.0001"}
        return {"topic": stream, "type": "snapshot", "ts": at_ms, "data": data}
    return None


class NoRest:
    """Nothing is asked for successfully: polls are no part of this."""

    def get(self, url: str) -> Reply:
        raise FetchError(f"no reply from {url}")

    def close(self) -> None:
        """It never was open."""


class Life:
    """An ingest of two venues, with everything that can go wrong with its links."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.draw = random.Random(seed)
        self.clock = Strands(self.draw)
        self.sockets: list[Socket] = []
        self.prints = 0
        self.loses = 0
        """So many of the texts that are sent next reach nobody."""
        self.refusal: Exception | None = None
        self.hangs = False
        self.rings: dict[str, ListSink] = {}
        config = self.config(SYMBOLS)
        self.handoff = Handoff(100_000)
        self.feeds = Feeds(config.ingest.silent_after_s)
        quarantine = Quarantine(directory, 10, 10_000)
        self.router = Router(config.ingest, self.clock, self.handoff, self.feeds, quarantine)
        around = Surroundings(
            clock=self.clock,
            accounts=AccountBook(config, self.clock),
            handoff=self.handoff,
            connect=self.connect,
            fetcher=NoRest,
            draw=random.Random(seed + 1).random,
            lane=self.lane,
            start=self.clock.start,
        )
        self.switchboard = Switchboard(self.router, config, shipped_instruments(), around)
        self.switchboard.apply(config)

    def config(self, symbols: tuple[str, ...], trades: str = "aggTrade", binance_too: bool = True) -> Config:
        return configuration.parse(
            {
                "symbols": {symbol: {} for symbol in symbols},
                "venues": {
                    "binance": {"enabled": binance_too, "trades": trades, "depth": False},
                    "bybit": {"depth": False},
                    "okx": {"enabled": False},
                },
            }
        )

    def lane(self, symbol: str) -> Lane:
        self.rings[symbol] = ListSink()
        return Lane(symbol, self.rings[symbol], 1)

    def connect(self, url: str) -> Socket:
        if self.hangs:
            self.clock.pause(self.draw.choice((0.5, 3.0, 9.0)))
        if self.refusal is not None:
            raise self.refusal
        socket = Socket(self, url)
        self.sockets.append(socket)
        return socket

    def passes(self, seconds: float) -> None:
        """Time, with venues that speak once a second."""
        for turn in range(int(seconds / STEP_S)):
            self.clock.step(STEP_S)
            if turn % 2 == 0:
                self.prints += 1
                for socket in self.sockets:
                    socket.tell(self.clock.now_ns() // 1_000_000, self.prints)
            if self.router.turn(0):
                self.switchboard.check()

    # What happens -------------------------------------------------------------------------------------------------

    def waits(self) -> None:
        self.passes(self.draw.choice((0.5, 0.5, 1.0, 2.0, 5.0, 20.0, 70.0)))

    def ends_some(self) -> None:
        for socket in self.sockets:
            socket.ended |= self.draw.random() < 0.4

    def mutes_one(self) -> None:
        if self.sockets:
            self.draw.choice(self.sockets).mute = True

    def loses_a_text(self) -> None:
        self.loses = self.draw.choice((1, 1, 3))

    def refuses(self) -> None:
        self.refusal = self.draw.choice(
            (CannotConnect("nobody listens"), HandshakeRefused(429, {}, b""), HandshakeRefused(503, {}, b""))
        )

    def lets_us_wait(self) -> None:
        self.hangs = True

    def behaves(self) -> None:
        self.refusal, self.hangs, self.loses = None, False, 0

    def changes_its_plan(self) -> None:
        symbols = tuple(symbol for symbol in SYMBOLS if self.draw.random() < 0.6) or SYMBOLS[:1]
        trades = self.draw.choice(("aggTrade", "aggTrade", "trade"))
        self.switchboard.apply(self.config(symbols, trades, self.draw.random() < 0.8))

    def is_told_to_rotate(self) -> None:
        for listener in self.router.listeners.values():
            if listener.sessions:
                listener.orders.put(Rotate(self.draw.choice(list(listener.sessions)), "notice"))

    def sets_the_clock(self) -> None:
        self.clock.step_wall(self.draw.choice((-3600.0, -5.0, -0.5, 5.0, 3600.0)))

    def goes_wrong(self, times: int) -> None:
        frequent: list[Callable[[], None]] = [self.waits, self.waits, self.behaves]
        rare = [self.ends_some, self.mutes_one, self.loses_a_text, self.refuses, self.lets_us_wait]
        ours = [self.changes_its_plan, self.is_told_to_rotate, self.sets_the_clock]
        for _ in range(times):
            self.draw.choice((*frequent, *rare, *ours))()

    def calms_down(self) -> None:
        """All is wanted that ever was, and the venues behave, but for a text that is lost perhaps."""
        self.behaves()
        for socket in self.sockets:
            socket.mute = False
        self.loses = self.draw.choice((0, 1))
        self.switchboard.apply(self.config(SYMBOLS))
        self.passes(CALM_S)
        for _ in range(60):  # a rotation may be under way
            if len(self.sockets) == len(self.router.listeners):
                break
            self.passes(0.5)

    def close(self) -> None:
        self.switchboard.stop(0.0, lambda: None)
        while not self.clock.idle:
            self.clock.step(STEP_S)


@pytest.fixture(autouse=True)
def _many_small_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few streams on a link that they move between links, and rotations and remedies that come often."""
    monkeypatch.setattr(binance, "STREAMS_PER_LINK", 3)
    monkeypatch.setattr(binance, "ROTATE_S", 90.0)
    monkeypatch.setattr(bybit, "TOPIC_CHARS_PER_LINK", 70)
    for name, seconds in (("_LASTING_NS", 20), ("_AGAIN_NS", 40), ("_MOST_NS", 80)):
        monkeypatch.setattr(remedy, name, seconds * 10**9)


def heard(life: Life) -> None:
    """Every link stands and asks for what it should, every feed of theirs speaks. Of a quiet stream whose subscription
    was lost without a word nobody can know."""
    listeners, feeds = life.router.listeners, life.feeds
    wanted = {stream.name for listener in listeners.values() for stream in listener.plan.streams if not stream.quiet}
    asked: Counter[str] = sum((socket.streams for socket in life.sockets), Counter())
    assert set(asked) >= wanted
    assert len(life.sockets) == len(listeners)
    links = {name: source for name, source in feeds.sources.items() if source.is_link}
    assert {name: source.state for name, source in links.items()} == dict.fromkeys(links, LinkState.UP)
    carried = {feed for source in links.values() for feed in source.feeds}
    assert {feed.venue for feed in carried} == {Venue.BINANCE, Venue.BYBIT}
    assert not [feed for feed in carried if feeds.is_missing(feed) or feeds.is_silent(feed)]
    assert all(feeds.gaps.reason(feed) is None for feed in carried)


def counted_once(life: Life) -> None:
    """Of ten seconds each trade of each venue is in its ring, once."""
    for ring in life.rings.values():
        ring.written.clear()
    life.passes(10.0)
    for ring in life.rings.values():
        events = ring.array()
        trades = events[events["kind"] == Kind.TRADE]
        for venue in (Venue.BINANCE, Venue.BYBIT):
            times = trades[trades["venue"] == venue]["venue_ms"]
            assert len(times) == len(set(times.tolist())) >= 9


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), times=st.integers(0, 60))
def test_every_stream_is_heard_and_counted_once_whatever_happened(seed: int, times: int) -> None:
    with tempfile.TemporaryDirectory(prefix="t-links-") as directory:
        life = Life(seed, Path(directory))
        try:
            life.goes_wrong(times)
            life.calms_down()
            heard(life)
            counted_once(life)
        finally:
            life.close()

"""States that used to lead nowhere: each of these stayed wrong for ever, or as long as the process lived."""

import errno
import queue
import socket
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from liqmap import config as configuration
from liqmap.domain.enums import GapReason, Kind, Ratio, Topic, Venue
from liqmap.domain.event import Event
from liqmap.exchanges.adapter import LinkPlan, Refusal, RefusalKind, Stream
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest import handoff as handoff_room
from liqmap.ingest.accounts import LONGEST_S, Hold
from liqmap.ingest.backoff import Backoff
from liqmap.ingest.feeds import SourceState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import Cargo, Ended, Frames, Handoff, LinkState, PollFailed
from liqmap.ingest.link import Delivering, Rotate
from liqmap.ingest.listener import Listener
from liqmap.ingest.merge import Bars
from liqmap.ingest.replies import Asker
from liqmap.ingest.tape_numbers import TapeNumbers
from liqmap.ingest.transport import CannotConnect, ConnectionLost, HandshakeRefused, Transport, WebsocketConnector
from tests.unit import test_ingest_link as linked
from tests.unit.router_desk import Desk, mark, trade
from tests.unit.test_ingest_link import SETTINGS, data, seconds
from tests.unit.test_ingest_silence import World

S = 10**9
FACTS = "binance/facts"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("topic", [Topic.CLOCK, Topic.INSTRUMENTS])
def test_a_list_or_a_clock_that_answers_again_is_silent_no_more(topic: Topic) -> None:
    world, feed = World("BTC"), Feed(Venue.OKX, topic, "")
    world.link(Venue.OKX, "polled", [(feed, False)], every_s=60.0)
    world.run(60.0, set())
    assert world.run(2000.0, {feed}, step_s=5.0) == {feed}
    world.run(5.0, set())
    assert not world.feeds.is_silent(feed)


def test_open_interest_whose_stream_moved_to_another_link_is_taken_from_there(desk: Desk) -> None:
    """As when a symbol is added and the streams of a venue are cut into links anew."""
    feeds, flow, feed = desk.feeds, desk.router.flow, Feed(Venue.OKX, Topic.OPEN_INTEREST, "BTC")
    number = next(one.number for one in desk.table if one.venue is Venue.OKX and one.symbol == "BTC")
    level = Event(desk.clock.now_ns(), kind=Kind.OPEN_INTEREST, venue=Venue.OKX, topic=Topic.OPEN_INTEREST)
    level = level._replace(instrument=number, quantity=1.0)

    def carries(source: str, *carried: Feed) -> None:
        state = SourceState(Venue.OKX, source, True)
        feeds.follow(source, state, [(one, False) for one in carried], desk.router.time.now_ns)

    carries("okx/facts", feed)
    flow.take(level, "okx/facts")
    carries("okx/facts")
    carries("okx/facts-2", feed)
    desk.router.use(desk.table, desk.router.lanes)
    for source in ("okx/facts", "okx/facts-2", "okx/facts"):  # what was on its way from the old one comes first
        flow.take(level, source)
    assert (flow.events, flow.refused_series, feeds.is_missing(feed)) == (2, 0, False)


def test_a_reader_that_was_behind_when_its_connection_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff_room, "READERS_FIRST_S", 60.0)
    handoff = Handoff(1000)
    handoff.give(Frames("okx/trades", 1, 0, [b"x"]), Cargo.TRADES, behind=True)
    handoff.announce(Ended("okx/trades", 1, 0, "closed", GapReason.DISCONNECTED))
    taken: list[Any] = []
    taker = threading.Thread(target=lambda: taken.extend(handoff.take(0)), daemon=True)
    taker.start()
    taker.join(timeout=10)
    assert [type(message) for message in taken] == [Frames, Ended]


def test_a_rotation_that_is_refused_holds_every_link_of_the_venue_back() -> None:
    binance = replace(linked.ROTATING, venue=Venue.BINANCE)
    refused = HandshakeRefused(429, {"retry-after": "600"}, b"")
    world = linked.World(binance, [seconds(data, 400), *[refused] * 3])
    until_s: list[float] = []

    def notice(world: linked.World) -> list[bytes]:
        world.order(Rotate(1, "notice"))
        world.order(Delivering(1))
        until_s.append(world.link.account.connect(world.clock.monotonic_ns())[0])
        return [b"data"]

    world.lives[0] = [data, notice, *seconds(data, 300), notice, data]
    world.run()
    assert until_s[0] == 0.0
    assert 250.0 < until_s[1] < 600.0, "the others wait, too"
    assert len(world.lives) <= 2, "one handshake was refused while the connection stood, not one every five seconds"


def test_a_rotation_that_succeeds_ends_the_freeze_of_a_country() -> None:
    world = linked.World(linked.ROTATING, [seconds(data, 200), seconds(data, 10)])
    account = world.link.account

    def frozen(world: linked.World) -> list[bytes]:
        account.hold(Hold.REGION, world.clock.monotonic_ns(), 10.0, "not served here", handshake=True)
        return data(world)

    left_s: list[float] = []

    def look(world: linked.World) -> list[bytes]:
        left_s.append(account.requests_held(world.clock.monotonic_ns())[0])
        return data(world)

    world.lives = [[data, frozen, *seconds(data, 200)], [data, look]]
    world.run()
    assert left_s == [0.0]


def test_a_machine_without_an_address_family_uses_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inet6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 9, 0, 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: [inet6])

    def no_such_family(*_args: Any) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", no_such_family)
    with pytest.raises(CannotConnect, match="Address family not supported"):
        WebsocketConnector(1.0, 1000, lambda: 0)("ws://venue")


@pytest.mark.parametrize("kind", list(RefusalKind))
def test_no_answer_makes_us_wait_for_years(kind: RefusalKind) -> None:
    told = Refusal(kind, 999_999_999.0, "come back later")
    assert Backoff(1.0, 32.0, lambda: 0.5).next_s(told) <= LONGEST_S + 32.0


def test_a_link_that_is_left_with_quiet_streams_is_confirmed_by_anything() -> None:
    speaks, quiet = Stream("x", Topic.MARK_PRICE, ("BTC",)), Stream("y", Topic.LIQUIDATION, ("BTC",), quiet=True)
    plan = LinkPlan(Venue.OKX, "facts-2", "ws://x", (speaks, quiet))
    listener = Listener(Venue.OKX, ADAPTERS[Venue.OKX], queue.SimpleQueue(), plan)
    assert listener.probed
    listener.plan = replace(plan, streams=(quiet,))
    assert not listener.probed


def test_a_bar_of_a_time_to_come_does_not_stop_the_bars_of_now() -> None:
    bars, now_ms = Bars(), 1_700_000_000_000

    def bar(at_ms: int) -> Event:
        return Event(
            now_ms * 1_000_000, venue_ms=at_ms, quantity=0.5, kind=Kind.RATIO, side=Ratio.ACCOUNTS, instrument=1
        )

    assert bars.is_news(bar(4_100_000_000_000))
    assert bars.is_news(bar(now_ms))
    assert not bars.is_news(bar(now_ms - 300_000))
    assert not bars.is_news(bar(now_ms))


def test_a_snapshot_that_was_refused_for_a_whole_book_is_no_standing_fault_of_the_venue(desk: Desk) -> None:
    adapter, now_ns = ADAPTERS[Venue.BINANCE], desk.router.time.now_ns
    contract = next(one for one in desk.table if one.venue is Venue.BINANCE and one.symbol == "BTC")
    request = adapter.book_plan(configuration.parse({}).venues.binance, contract)
    assert request is not None
    source, feed = f"binance/{request.name}", Feed(Venue.BINANCE, Topic.DEPTH, "BTC")
    desk.router.replies.askers[source] = Asker(request, adapter)
    desk.feeds.follow(source, SourceState(Venue.BINANCE, request.name, False, LinkState.UP), (), now_ns)
    desk.feeds.follow("binance/depth", SourceState(Venue.BINANCE, "depth", True), [(feed, False)], now_ns)
    failed = PollFailed(source, desk.clock.now_ns(), "timed out", GapReason.NOT_CONNECTED, 1.0, request)
    desk.feeds.note(feed, "binance/depth", now_ns)
    desk.handoff.announce(failed)
    desk.turn()
    assert desk.feeds.sources[source].state is LinkState.UP
    desk.feeds.broke(feed, "binance/depth", now_ns, GapReason.SEQUENCE)
    desk.handoff.announce(failed)
    desk.turn()
    assert desk.feeds.sources[source].state is LinkState.BACKOFF


def rotations(desk: Desk) -> list[Rotate]:
    orders = [desk.orders.get_nowait() for _ in range(desk.orders.qsize())]
    return [order for order in orders if isinstance(order, Rotate)]


def test_a_stream_that_stays_silent_while_its_connection_speaks_is_asked_for_on_another_connection(desk: Desk) -> None:
    desk.open()
    desk.feeds.sources[FACTS].state = LinkState.UP
    desk.frames(mark(), trade(1))
    told: list[float] = []
    for second in range(4 * 3600):
        desk.clock.advance(1.0)
        desk.frames(mark(60_000.0 + second % 2, at_ms=desk.clock.now_ns() // 1_000_000))
        desk.feeds.note(Feed(Venue.OKX, Topic.TRADE, "BTC"), FACTS, desk.router.time.now_ns)  # a witness
        desk.turn()
        told += [second for order in rotations(desk) if order == Rotate(1, "trade BTC is silent", closing=False)]
    silent_s = SETTINGS.silent_after_s * 2
    assert told[0] == pytest.approx(silent_s + 60.0, abs=2.0)
    assert [later - earlier for earlier, later in pairwise(told)][:4] == [600, 1200, 2400, 3600]


def test_a_subscription_that_was_refused_is_asked_for_on_another_connection(desk: Desk) -> None:
    desk.open()
    desk.feeds.sources[FACTS].state = LinkState.UP
    for second in range(63):
        desk.frames({"code": -1, "msg": "too many requests", "id": second})
        desk.clock.advance(1.0)
        desk.frames(mark(60_000.0 + second % 2, at_ms=desk.clock.now_ns() // 1_000_000))
        desk.turn()
    assert rotations(desk) == [Rotate(1, "venue says: -1 too many requests", closing=False)]


def test_what_a_venue_refused_is_told_until_a_connection_takes_over_on_which_it_did_not(desk: Desk) -> None:
    desk.open()
    desk.frames({"code": -1, "msg": "too many requests", "id": 1}, mark())
    desk.turn()
    complaint = desk.feeds.sources[FACTS].complaint
    assert complaint == "venue says: -1 too many requests"
    desk.open(2)
    desk.handoff.announce(Ended(FACTS, 2, desk.clock.now_ns(), "no delivery", GapReason.DISCONNECTED, last=False))
    desk.turn()
    assert desk.feeds.sources[FACTS].complaint == complaint
    desk.open(3)
    desk.frames(mark(60_001.0), connection=3)
    desk.handoff.announce(Ended(FACTS, 1, desk.clock.now_ns(), "rotated", GapReason.DISCONNECTED, last=False))
    desk.turn()
    assert desk.feeds.sources[FACTS].complaint == ""


@pytest.mark.parametrize("successor", [CannotConnect("nobody listens"), [linked.silence] * 1000], ids=["none", "mute"])
def test_a_rotation_for_a_silence_is_tried_once(successor: Exception | list[linked.Step]) -> None:
    """Whoever asks for it asks again, less and less often; nobody reads from the one that stands while it is tried."""
    begun_s: list[float] = []
    tried_s: list[float] = []

    def first(world: linked.World) -> list[bytes]:
        now_s = world.clock.monotonic_ns() / S
        if not begun_s:
            begun_s.append(now_s)
            world.order(Rotate(1, "trade BTC is silent", closing=False))
        world.order(Delivering(1))
        tried_s.extend([now_s - begun_s[0]] * (9 - len(world.lives) - len(tried_s)))
        if now_s > 300.0:
            world.link.stop.set()
        return [b"data"]

    planned = replace(linked.ROTATING, rotate_after_s=200.0)
    world = linked.World(planned, [[first] * 20_000, *[successor] * 9])
    world.run()
    assert tried_s[0] < 1.0
    assert tried_s[1] == pytest.approx(200.0, abs=12.0), "the planned rotation, and no other before"


def test_a_stream_that_is_added_to_an_open_connection_and_never_speaks_is_silent() -> None:
    world, added = World("BTC"), Feed(Venue.OKX, Topic.TRADE, "ETH")
    world.link(Venue.BYBIT, "eth", [(Feed(Venue.BYBIT, Topic.TRADE, "ETH"), False)])
    world.run(60.0, set())
    carried = [(Feed(Venue.OKX, Topic.TRADE, "BTC"), False), (added, False)]
    world.feeds.follow("okx/trade", world.feeds.sources["okx/trade"], carried, world.now_ns)
    assert world.run(60.0, {added}) == {added}


def test_trades_that_are_lost_all_day_do_not_fill_the_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.open()
    desk.router.listeners[FACTS].numbers = TapeNumbers()
    for loss in range(100):
        desk.clock.advance(1.0)
        desk.frames(trade(2 * loss))
        desk.turn()
    lines = [record for record in caplog.records if record.message == "trades are missing"]
    assert [getattr(line, "fields", {}).get("times") for line in lines] == [1, 2, 4, 8, 16, 32, 64]
    assert desk.feeds.feeds[Feed(Venue.BINANCE, Topic.TRADE, "BTC")].gaps == 100, "99, and the time before it came"


def test_a_silence_that_ends_soon_moves_nobody(desk: Desk) -> None:
    desk.open()
    desk.feeds.sources[FACTS].state = LinkState.UP
    for second in range(1200):
        desk.clock.advance(1.0)
        desk.frames(mark(60_000.0 + second % 2, at_ms=desk.clock.now_ns() // 1_000_000))
        if second % 100 == 0:
            desk.frames(trade(second))
        desk.feeds.note(Feed(Venue.OKX, Topic.TRADE, "BTC"), FACTS, desk.router.time.now_ns)
        desk.turn()
        assert not rotations(desk)


def test_a_successor_whose_first_words_fail_takes_nothing_away_from_the_connection_that_stands() -> None:
    class Deaf(linked.ScriptedTransport):
        def send(self, text: str) -> None:
            raise ConnectionLost(f"cannot send: {text}")

    world = linked.World(linked.ROTATING, [seconds(data, 110)])
    first = world.link.connect

    def connect(url: str) -> Transport:
        return first(url) if world.link.connections == 0 else Deaf(world, [])

    def from_the_first(world: linked.World) -> list[bytes]:
        world.order(Delivering(1))
        if world.clock.monotonic_ns() > 105 * S:
            world.link.stop.set()
        return [b"data"]

    world.lives = [[from_the_first] * 1000]
    world.link.connect = connect
    ended = [message for message in world.run() if isinstance(message, Ended)]
    assert [(one.connection, one.last) for one in ended] == [(2, False), (1, True)]

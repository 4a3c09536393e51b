"""The router on a manual clock: numbers, time, gaps, one series per contract, one owner, and the alarm on sides."""

import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from liqmap import config as configuration
from liqmap.clock import ManualClock
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import GapReason, Kind, PositionSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import InstrumentTable, configured_table
from liqmap.exchanges.adapter import LinkPlan, PollPlan, Stream
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.feeds import Feeds, SourceState, VenueState
from liqmap.ingest.feeds_board import painter
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import Changed, Ended, Frames, Handoff, LinkState, Opened, Polled, PollFailed
from liqmap.ingest.lanes import Lane
from liqmap.ingest.link import Delivering, Rotate
from liqmap.ingest.router import Asker, Listener, Router, WrongThread
from liqmap.ingest.sequence import EpochUnreadable, first_sequence, next_epoch
from liqmap.ingest.sides import SideAlarm
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
            self.router.askers[source] = Asker(poll, ADAPTERS[Venue.BINANCE])
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
        painter(self.feeds, self.router.time.now_ns)(record)
        return record


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield Desk(tmp_path)


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


def test_numbers_rise_by_one_per_symbol_and_a_batch_is_one_write(desk: Desk) -> None:
    desk.open()
    desk.turn()
    writes = len(desk.sinks["BTC"].written)
    desk.frames(*[trade(number) for number in range(50)], *[trade(number, symbol="ETHUSDT") for number in range(7)])
    desk.turn()
    assert len(desk.sinks["BTC"].written) == writes + 1
    for symbol in NAMES:
        numbers = desk.events(symbol=symbol)["sequence"]
        assert np.array_equal(numbers, np.arange(1, len(numbers) + 1))
    assert len(desk.events(Kind.TRADE)) == 50
    assert len(desk.events(Kind.TRADE, symbol="ETH")) == 7


def test_an_epoch_is_on_disk_before_its_first_number_and_never_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "ingest.epoch"
    epochs = [next_epoch(path) for _ in range(3)]
    assert epochs == [1, 2, 3]
    assert path.read_text() == "3\n"
    assert first_sequence(2) - first_sequence(1) == 1 << 40
    assert [entry.name for entry in path.parent.iterdir()] == ["ingest.epoch"]


@pytest.mark.parametrize("content", [b"", b"seven", b"-1", b"16777215", b"\xff"])
def test_an_epoch_file_that_is_no_number_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ingest.epoch"
    path.write_bytes(content)
    with pytest.raises(EpochUnreadable, match=r"ingest\.epoch"):
        next_epoch(path)
    assert path.read_bytes() == content


def test_every_symbol_has_a_tick_each_quarter_of_a_second_whatever_comes(desk: Desk) -> None:
    for _ in range(40):
        desk.clock.advance(0.05)
        desk.turn()
    for symbol in NAMES:
        ticks = desk.events(Kind.TICK, symbol=symbol)["receive_ns"]
        assert len(ticks) == 8
        assert set(np.diff(ticks)) == {250_000_000}


def test_a_wall_clock_set_back_neither_turns_time_back_nor_stops_it(desk: Desk) -> None:
    desk.open()
    desk.turn()
    before = desk.router.time.now_ns
    desk.clock.step_wall(-3600.0)
    for _ in range(8):
        desk.clock.advance(0.25)
        desk.frames(mark())
        desk.turn()
    times = desk.events()["receive_ns"]
    assert (np.diff(times) >= 0).all()
    assert 1.7e9 <= times[-1] - before <= 2.1e9


def test_a_wall_clock_set_forward_is_followed(desk: Desk) -> None:
    desk.turn()
    desk.clock.step_wall(86_400.0)
    desk.clock.advance(0.25)
    desk.turn()
    assert np.diff(desk.events(Kind.TICK)["receive_ns"])[-1] == 86_400_250_000_000


def test_frames_stamped_out_of_order_by_two_threads_are_put_in_order(desk: Desk) -> None:
    desk.open()
    now_ns = desk.clock.now_ns()
    desk.frames(mark(), at_ns=now_ns + 5_000_000)
    desk.frames(mark(), at_ns=now_ns + 1_000_000)
    desk.turn()
    assert (np.diff(desk.events()["receive_ns"]) >= 0).all()


def test_an_outage_is_a_gap_from_the_last_fact_until_the_next_in_ring_and_board(desk: Desk) -> None:
    desk.open()
    desk.frames(mark(), trade(1))
    desk.turn()
    desk.clock.advance(3.0)
    lost_ns = desk.clock.now_ns()
    desk.handoff.announce(Ended("binance/facts", 1, lost_ns, "connection broke", GapReason.DISCONNECTED))
    desk.turn()
    desk.clock.advance(7.0)
    desk.open(2)
    desk.frames(mark(), connection=2)
    desk.turn()
    rows = [gap for gap in desk.events(Kind.GAP) if gap["side"] == GapReason.DISCONNECTED]
    marks = [gap for gap in rows if gap["topic"] == Topic.MARK_PRICE]
    assert [int(gap["detail"]) for gap in marks] == [-1, NOW_MS + 10_000]
    assert {int(gap["venue_ms"]) for gap in marks} == {NOW_MS}
    trades = [gap for gap in rows if gap["topic"] == Topic.TRADE]
    assert [int(gap["detail"]) for gap in trades] == [-1], "no trade came yet"
    liquidations = [gap for gap in rows if gap["topic"] == Topic.LIQUIDATION]
    assert [int(gap["detail"]) for gap in liquidations] == [-1, NOW_MS + 10_000], "data on the link confirms them"
    board = desk.board()
    still_open = board["gaps"][: int(board["gap_count"])]
    assert {int(gap["topic"]) for gap in still_open if gap["to_ms"] < 0} == {int(Topic.TRADE)}
    assert int(board["gaps_version"]) > 1


def test_what_has_not_come_yet_is_named_even_when_nothing_stands_against_the_venue(desk: Desk) -> None:
    desk.open()
    desk.frames(mark())
    desk.handoff.announce(Changed("binance/facts", LinkState.UP, desk.clock.now_ns()))
    desk.turn()
    row = desk.board()["venues"][0]
    assert not row["delivering"]
    assert row["reason"] == b"nothing came yet: trade BTC"


def test_the_gap_list_keeps_its_bound_and_its_version_rises(desk: Desk) -> None:
    feed = Feed(Venue.OKX, Topic.TRADE, "BTC")
    versions = []
    for at_ms in range(0, 6000, 10):
        desk.feeds.gaps.open(feed, at_ms, GapReason.DISCONNECTED)
        desk.feeds.gaps.close(feed, at_ms + 5)
        versions.append(desk.feeds.gaps.version)
    assert versions == sorted(set(versions))
    assert int(desk.board()["gap_count"]) == 256


def test_an_end_says_stopped_in_every_ring(desk: Desk) -> None:
    desk.open()
    desk.frames(mark(), trade(1))
    desk.turn()
    desk.router.stop()
    stopped = [int(gap["topic"]) for gap in desk.events(Kind.GAP) if gap["side"] == GapReason.STOPPED]
    assert sorted(stopped) == [Topic.LIQUIDATION, Topic.TRADE, Topic.MARK_PRICE]


def test_market_data_confirms_a_subscription_and_an_acknowledgement_does_not(desk: Desk) -> None:
    desk.open()
    desk.frames({"result": None, "id": 1})
    desk.turn()
    assert desk.orders.empty()
    desk.frames(mark())
    desk.turn()
    assert desk.orders.get_nowait() == Delivering(1)


def test_a_closing_notice_becomes_an_order_to_rotate(desk: Desk) -> None:
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    plan = LinkPlan(Venue.OKX, "facts", "ws://x", (Stream("trades:BTC-USDT-SWAP", Topic.TRADE, ("BTC",)),))
    desk.router.listeners["okx/facts"] = Listener(Venue.OKX, ADAPTERS[Venue.OKX], orders, plan)
    desk.feeds.follow("okx/facts", SourceState(Venue.OKX, "facts", True), (), desk.router.time.now_ns)
    desk.handoff.announce(Opened("okx/facts", 1, desk.clock.now_ns()))
    notice = b'{"event":"notice","code":"64008","msg":"closing soon","connId":"a"}'
    desk.handoff.give(Frames("okx/facts", 1, desk.clock.now_ns(), [notice, b"pong"]))
    desk.turn()
    assert orders.get_nowait() == Rotate(1, "notice 64008")
    assert desk.feeds.quarantined == 0


@pytest.mark.finding("M19")
def test_a_second_source_of_a_contracts_open_interest_is_refused(desk: Desk) -> None:
    for _ in range(3):
        desk.handoff.announce(Polled("binance/poll-1", desk.clock.now_ns(), level("1000")))
        desk.handoff.announce(Polled("binance/poll-2", desk.clock.now_ns(), level("2000")))
    desk.turn()
    assert list(desk.events(Kind.OPEN_INTEREST)["quantity"]) == [1000.0] * 3
    assert desk.router.flow.refused_series == 3


@pytest.mark.finding("M15")
def test_a_poll_that_fails_or_says_nonsense_writes_no_event(desk: Desk) -> None:
    desk.handoff.announce(Polled("binance/poll-1", desk.clock.now_ns(), level("1000")))
    desk.turn()
    for body in (level(""), level("0"), level("-5"), level("NaN"), b"", b"<html>", b'{"code":-1003,"msg":"x"}', b"{}"):
        desk.handoff.announce(Polled("binance/poll-1", desk.clock.now_ns(), body))
    refused = PollFailed("binance/poll-1", desk.clock.now_ns(), "HTTP 500", GapReason.NOT_CONNECTED, 1.0)
    desk.handoff.announce(refused)
    desk.turn()
    assert list(desk.events(Kind.OPEN_INTEREST)["quantity"]) == [1000.0]
    gaps = [gap for gap in desk.events(Kind.GAP) if gap["topic"] == Topic.OPEN_INTEREST]
    assert [int(gap["detail"]) for gap in gaps] == [-1]


@pytest.mark.finding("M13")
def test_a_frame_that_cannot_be_read_is_counted_kept_and_passed_over(desk: Desk) -> None:
    desk.open()
    bad = [b"", b"{", b"\xff\xff", b"null", b'{"e":"aggTrade","s":"BTCUSDT","p":"NaN","q":"1","a":1,"T":1,"m":true}']
    good = msgspec.json.encode(trade(1))
    mixed = [raw for one in bad for raw in (one, good)]
    desk.handoff.give(Frames("binance/facts", 1, desk.clock.now_ns(), mixed))
    desk.turn()
    assert len(desk.events(Kind.TRADE)) == len(bad)
    assert desk.feeds.venues[Venue.BINANCE].malformed == len(bad)
    assert desk.quarantine.kept == len(bad)
    assert int(desk.board()["quarantined"]) == len(bad)


def test_two_connections_of_a_rotation_count_each_row_once_and_real_repeats_as_often_as_they_are(desk: Desk) -> None:
    desk.open(1)
    desk.frames(trade(1), trade(2))
    desk.turn()
    desk.open(2)
    desk.frames(trade(3), forced("SELL"), forced("SELL"))
    desk.frames(trade(3), forced("SELL"), forced("SELL"), trade(4), connection=2)
    desk.frames(trade(4), trade(5))
    desk.handoff.announce(
        Ended("binance/facts", 1, desk.clock.now_ns(), "rotation", GapReason.DISCONNECTED, last=False)
    )
    desk.frames(trade(5), trade(6), connection=2)
    desk.turn()
    assert list(desk.events(Kind.TRADE)["detail"]) == [1, 2, 3, 4, 5, 6]
    assert len(desk.events(Kind.LIQUIDATION)) == 2
    assert not [gap for gap in desk.events(Kind.GAP) if gap["side"] == GapReason.DISCONNECTED]


def test_an_overlap_is_forgotten_some_seconds_after_it_ended(desk: Desk) -> None:
    desk.open(1)
    desk.open(2)
    desk.turn()
    listener = desk.router.listeners["binance/facts"]
    assert listener.overlap is not None
    desk.handoff.announce(
        Ended("binance/facts", 1, desk.clock.now_ns(), "rotation", GapReason.DISCONNECTED, last=False)
    )
    desk.turn()
    assert listener.overlap is not None
    desk.clock.advance(11.0)
    desk.turn()
    assert listener.overlap is None


@pytest.mark.finding("M3")
def test_the_router_belongs_to_one_thread(desk: Desk) -> None:
    desk.turn()
    caught: list[BaseException] = []

    def intrude() -> None:
        for entry in (desk.turn, desk.router.stop, lambda: desk.router.release_series("x")):
            try:
                entry()
            except WrongThread as error:
                caught.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert len(caught) == 3


@pytest.mark.finding("M3")
def test_many_threads_hand_over_while_the_router_counts_and_paints(desk: Desk) -> None:
    sources = [f"binance/link-{number}" for number in range(6)]
    for source in sources:
        plan = LinkPlan(Venue.BINANCE, source, "ws://x", ())
        desk.router.listeners[source] = Listener(Venue.BINANCE, ADAPTERS[Venue.BINANCE], queue.SimpleQueue(), plan)
        desk.feeds.follow(source, SourceState(Venue.BINANCE, source, True), (), desk.router.time.now_ns)
    failures: list[BaseException] = []
    stop, rounds = threading.Event(), 120

    def listen(source: str, first: int) -> None:
        try:
            for connection in range(1, rounds):
                desk.handoff.announce(Opened(source, connection, desk.clock.now_ns()))
                raw = [msgspec.json.encode(trade(first + connection)), msgspec.json.encode(mark())]
                desk.handoff.give(Frames(source, connection, desk.clock.now_ns(), raw))
                desk.handoff.announce(Changed(source, LinkState.BACKOFF, desk.clock.now_ns(), "again", 0.1))
                desk.handoff.announce(Ended(source, connection, desk.clock.now_ns(), "x", GapReason.DISCONNECTED))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=listen, args=(source, i * 10_000)) for i, source in enumerate(sources)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or desk.handoff.waiting:
            desk.router.turn(0.01)
            desk.board()
        desk.router.turn(0)
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(desk.events(Kind.TRADE)) == len(sources) * (rounds - 1)
    assert len(set(desk.events(Kind.TRADE)["detail"])) == len(sources) * (rounds - 1)


def minutes_of_a_market(alarm: SideAlarm, inverted: Venue | None, count: int = 20) -> None:
    """Minutes that fall and rise by half a percent; longs are liquidated in the falling ones."""
    price = 60_000.0
    for number in range(count):
        fell = number % 2 == 0
        at_ns = (1_000_000 + number) * 60 * 10**9
        alarm.note("BTC", Event(at_ns, price=price, kind=Kind.MARK_PRICE, venue=Venue.BYBIT))
        price *= 0.995 if fell else 1.005
        for venue in ADAPTERS:
            truth = PositionSide.LONG if fell else PositionSide.SHORT
            wrong = PositionSide.SHORT if fell else PositionSide.LONG
            for second in range(5):
                side = wrong if venue is inverted else truth
                alarm.note("BTC", Event(at_ns + second, kind=Kind.LIQUIDATION, venue=venue, side=side))
        alarm.note("BTC", Event(at_ns + 10**9, price=price, kind=Kind.MARK_PRICE, venue=Venue.BYBIT))


@pytest.mark.finding("L20")
@pytest.mark.parametrize("venue", list(ADAPTERS), ids=lambda venue: venue.name.lower())
def test_a_venue_whose_sides_contradict_the_price_is_named_and_no_other(venue: Venue) -> None:
    alarm = SideAlarm()
    minutes_of_a_market(alarm, inverted=venue)
    for other in ADAPTERS:
        said = alarm.contradiction(other)
        assert (said is not None) == (other is venue)


@pytest.mark.finding("L20")
def test_the_alarm_on_sides_stands_in_the_venues_reason_and_goes_away(desk: Desk) -> None:
    desk.router.flow.sides = SideAlarm()
    minutes_of_a_market(desk.router.flow.sides, inverted=Venue.BINANCE)
    desk.clock.advance(1.0)
    desk.turn()
    rows = {int(row["venue"]): row for row in desk.board()["venues"]}
    assert b"contradict the price" in rows[int(Venue.BINANCE)]["reason"]
    assert b"contradict" not in rows[int(Venue.OKX)]["reason"]
    desk.router.flow.sides = SideAlarm()
    desk.clock.advance(1.0)
    desk.turn()
    assert b"contradict" not in desk.board()["venues"]["reason"][0]


@pytest.mark.finding("L20")
def test_frames_with_order_sides_fit_the_price_through_the_whole_router(desk: Desk) -> None:
    """SELL orders close longs while price falls: the recorded meaning, watched by the running check."""
    desk.open()
    price = 60_000.0
    for minute in range(12):
        falls = minute % 2 == 0
        desk.frames(mark(price))
        price *= 0.995 if falls else 1.005
        sides = ["SELL" if falls else "BUY"] * 4
        at_ms = desk.clock.now_ns() // 1_000_000
        desk.frames(mark(price), *[forced(side, at_ms + i) for i, side in enumerate(sides)])
        desk.turn()
        desk.clock.advance(60.0)
    assert desk.router.flow.sides.contradiction(Venue.BINANCE) is None
    verdicts = desk.router.flow.sides._verdicts[int(Venue.BINANCE)]
    assert len(verdicts) >= 10
    assert not any(verdicts)


def test_calm_minutes_and_few_liquidations_decide_nothing() -> None:
    alarm = SideAlarm()
    for number in range(50):
        at_ns = number * 60 * 10**9
        alarm.note("BTC", Event(at_ns, price=60_000.0 + number, kind=Kind.MARK_PRICE))
        for _ in range(9):
            alarm.note("BTC", Event(at_ns, kind=Kind.LIQUIDATION, venue=Venue.OKX, side=PositionSide.LONG))
    assert alarm.contradiction(Venue.OKX) is None

"""The router on a manual clock: numbers, time, gaps, one series per contract, one owner."""

import math
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from liqmap.domain.enums import GapReason, Kind, Topic, Venue
from liqmap.exchanges.adapter import LinkPlan, Stream
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.feeds import SourceState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import Changed, Ended, Frames, LinkState, Opened, Polled, PollFailed
from liqmap.ingest.link import Delivering, Rotate
from liqmap.ingest.listener import Listener
from liqmap.ingest.router import WrongThread
from tests.unit.router_desk import NAMES, NOW_MS, Desk, forced, level, mark, trade


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield Desk(tmp_path)


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
    for name in ("poll-1", "poll-2"):
        carried = [(Feed(Venue.BINANCE, Topic.OPEN_INTEREST, "BTC"), False)]
        desk.feeds.follow(f"binance/{name}", SourceState(Venue.BINANCE, name, False), carried, desk.router.time.now_ns)
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
    desk.frames(forced("SELL"), trade(3), forced("SELL"))
    desk.frames(forced("SELL"), trade(3), forced("SELL"), trade(4), connection=2)
    desk.frames(trade(4), trade(5))
    desk.handoff.announce(
        Ended("binance/facts", 1, desk.clock.now_ns(), "rotation", GapReason.DISCONNECTED, last=False)
    )
    desk.frames(trade(5), trade(6), connection=2)
    desk.turn()
    assert list(desk.events(Kind.TRADE)["detail"]) == [1, 2, 3, 4, 5, 6]
    assert len(desk.events(Kind.LIQUIDATION)) == 2
    assert not [gap for gap in desk.events(Kind.GAP) if gap["side"] == GapReason.DISCONNECTED]


def test_a_message_that_a_connection_repeats_at_once_counts_once(desk: Desk) -> None:
    desk.open(1)
    desk.frames(trade(1), trade(1), forced("SELL"), forced("SELL"), trade(2))
    desk.turn()
    desk.frames(trade(2), trade(3))
    desk.turn()
    assert list(desk.events(Kind.TRADE)["detail"]) == [1, 2, 3]
    assert len(desk.events(Kind.LIQUIDATION)) == 1
    assert desk.router.listeners["binance/facts"].repeats.dropped == 3


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
        for entry in (desk.turn, desk.router.stop, lambda: desk.router.use(desk.table, {})):
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
        carried = [(Feed(Venue.BINANCE, topic, "BTC"), False) for topic in (Topic.TRADE, Topic.MARK_PRICE)]
        desk.feeds.follow(source, SourceState(Venue.BINANCE, source, True), carried, desk.router.time.now_ns)
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


def test_a_link_of_trades_reads_runs_and_whatever_stands_between_them(desk: Desk) -> None:
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    streams = tuple(Stream(f"{symbol.lower()}usdt@aggTrade", Topic.TRADE, (symbol,)) for symbol in NAMES)
    plan = LinkPlan(Venue.BINANCE, "trades", "ws://x", streams)
    desk.router.listeners["binance/trades"] = Listener(Venue.BINANCE, ADAPTERS[Venue.BINANCE], orders, plan)
    carried = [(Feed(Venue.BINANCE, Topic.TRADE, symbol), False) for symbol in NAMES]
    desk.feeds.follow("binance/trades", SourceState(Venue.BINANCE, "trades", True), carried, desk.router.time.now_ns)
    wrapped = [
        msgspec.json.encode({"stream": "s", "data": trade(number, symbol=("BTCUSDT", "ETHUSDT")[number % 2])})
        for number in range(8)
    ]
    acknowledged, broken, plain = b'{"result":null,"id":1}', b"{", msgspec.json.encode(trade(8))
    frames = [acknowledged, *wrapped[:3], broken, *wrapped[3:], plain]
    for connection in (1, 2):
        desk.handoff.announce(Opened("binance/trades", connection, desk.clock.now_ns()))
    for connection in (1, 2):
        desk.handoff.give(Frames("binance/trades", connection, desk.clock.now_ns(), frames))
        desk.turn()
    assert list(desk.events(Kind.TRADE)["detail"]) == [0, 2, 4, 6, 8]
    assert list(desk.events(Kind.TRADE, symbol="ETH")["detail"]) == [1, 3, 5, 7], "what two connections say counts once"
    assert desk.feeds.feeds[Feed(Venue.BINANCE, Topic.TRADE, "BTC")].events == 5
    assert desk.feeds.venues[Venue.BINANCE].malformed == 2
    assert orders.get_nowait() == Delivering(1)
    assert not math.isnan(desk.feeds.venues[Venue.BINANCE].lag_ms)


def test_trades_given_up_under_load_are_a_gap_in_the_ring_and_on_the_board_and_are_counted(desk: Desk) -> None:
    desk.open()
    desk.frames(trade(1), mark())
    desk.turn()
    desk.clock.advance(2.0)
    late = [msgspec.json.encode(trade(number)) for number in (900, 901)]
    desk.handoff.give(Frames("binance/facts", 1, desk.clock.now_ns(), late, dropped=898))
    desk.turn()
    rows = [gap for gap in desk.events(Kind.GAP) if gap["side"] == GapReason.OVERRUN]
    trades = [(int(gap["venue_ms"]), int(gap["detail"])) for gap in rows if gap["topic"] == Topic.TRADE]
    assert trades == [(NOW_MS, -1), (NOW_MS, NOW_MS + 2000)]
    board = desk.board()
    link = board["links"][0]
    assert int(link["dropped"]) == 898
    gaps = board["gaps"][: int(board["gap_count"])]
    assert [
        int(gap["to_ms"]) for gap in gaps if gap["topic"] == Topic.TRADE and gap["reason"] == GapReason.OVERRUN
    ] == [NOW_MS + 2000]

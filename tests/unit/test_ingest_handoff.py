"""The hand-off between threads: facts are never lost nor late, depth goes first when there is no room, then trades,
and what was given up is said. Announcements always pass."""

import threading

import pytest

from liqmap.domain.enums import Kind, PositionSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.exchanges.adapter import LinkPlan, Stream
from liqmap.ingest import handoff as handoff_room
from liqmap.ingest.frames import BadFrame
from liqmap.ingest.handoff import BadFrames, Cargo, Changed, Frames, Handoff, LinkState, Message, Opened, cargo_of
from liqmap.ingest.merge import REPLAY_AGE_NS, Overlap, Replays
from tests.waiting import wait_until


def frames(*messages: bytes, source: str = "okx/facts", connection: int = 1) -> Frames:
    return Frames(source, connection, 0, list(messages))


def said(handoff: Handoff) -> list[bytes]:
    return [raw for message in handoff.take(0) if isinstance(message, Frames) for raw in message.messages]


def test_facts_wait_for_room_and_none_is_lost() -> None:
    handoff = Handoff(10)
    taken: list[bytes] = []
    giver = threading.Thread(target=lambda: [handoff.give(frames(b"%d" % i)) for i in range(500)])
    giver.start()
    while len(taken) < 500:
        taken += [raw for message in handoff.take(1.0) if isinstance(message, Frames) for raw in message.messages]
        assert handoff.waiting <= 10
    giver.join()
    assert taken == [b"%d" % i for i in range(500)]


def test_depth_without_room_is_given_up_whole_and_at_once_and_the_next_frames_say_it() -> None:
    handoff = Handoff(8)
    for number in range(3):
        assert handoff.give(frames(b"%d" % number, source="okx/depth"), Cargo.DEPTH)
    (message,) = handoff.take(0)
    assert isinstance(message, Frames)
    assert (message.messages, message.dropped) == ([b"2"], 2)
    assert handoff.give(frames(b"3", source="okx/depth"), Cargo.DEPTH)
    (message,) = handoff.take(0)
    assert isinstance(message, Frames)
    assert message.dropped == 0


def test_both_connections_of_a_rotation_are_told_what_they_lost() -> None:
    handoff = Handoff(8)
    handoff.give(frames(b"old", source="okx/depth", connection=1), Cargo.DEPTH)
    handoff.give(frames(b"new", source="okx/depth", connection=2), Cargo.DEPTH)
    handoff.give(frames(b"new", source="okx/depth", connection=2), Cargo.DEPTH)
    handoff.give(frames(b"old", source="okx/depth", connection=1), Cargo.DEPTH)
    told = [(message.connection, message.dropped) for message in handoff.take(0) if isinstance(message, Frames)]
    assert told == [(2, 1), (1, 1)]


def test_trades_without_room_wait_a_bounded_time_and_are_then_given_up_whole() -> None:
    handoff = Handoff(4, trades_wait_s=0.01)
    line = [frames(b"%d" % number, source="okx/trades") for number in range(6)]
    handoff.announce(Changed("okx/trades", LinkState.OPEN, 0))
    for one in line[:2]:
        handoff.give(one, Cargo.TRADES)
    handoff.announce(Changed("okx/trades", LinkState.UP, 0))
    for one in line[2:]:
        assert handoff.give(one, Cargo.TRADES)
    taken = handoff.take(0)
    assert [message.state for message in taken if isinstance(message, Changed)] == [LinkState.OPEN, LinkState.UP]
    kept = [message for message in taken if isinstance(message, Frames)]
    assert ([raw for message in kept for raw in message.messages], kept[0].dropped) == ([b"4", b"5"], 4)


def test_a_thread_with_trades_goes_on_as_soon_as_there_is_room() -> None:
    handoff = Handoff(1, trades_wait_s=60.0)
    handoff.give(frames(b"0", source="okx/trades"), Cargo.TRADES)
    giver = threading.Thread(target=handoff.give, args=(frames(b"1", source="okx/trades"), Cargo.TRADES))
    giver.start()
    heard: list[bytes] = []
    while len(heard) < 2:
        heard += said(handoff)
    giver.join(timeout=10)
    assert heard == [b"0", b"1"]


def test_a_line_that_is_full_again_and_again_while_its_socket_stays_full_is_given_up() -> None:
    """A taker that is only a little too slow makes room each time before the wait is over: it is the socket that would
    stay full then, until the venue cuts us off."""
    handoff, over = Handoff(4, turn_bytes=1, trades_wait_s=0.3), threading.Event()

    def read() -> None:
        while not over.is_set():
            handoff.give(frames(b"a trade", source="okx/trades"), Cargo.TRADES, behind=True)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        wait_until(lambda: any(isinstance(m, Frames) and m.dropped for m in handoff.take(0.05)), "the line given up")
    finally:
        over.set()
        handoff.close()
        thread.join()


def test_a_wait_that_lasted_longer_than_was_meant_takes_no_more_than_all_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process was stopped meanwhile, say: twenty seconds of calm later its line waits for room as ever."""
    now = [1000.0]
    monkeypatch.setattr("liqmap.ingest.handoff.time.monotonic", lambda: now[0])
    handoff, waits = Handoff(1, trades_wait_s=0.5), list[float]()

    def wait(timeout_s: float) -> None:
        waits.append(timeout_s)
        now[0] += 6.0 if len(waits) == 1 else timeout_s

    monkeypatch.setattr(handoff._changed, "wait", wait)
    for pause_s in (0.0, 0.0, 20.0):
        now[0] += pause_s
        handoff.give(frames(b"a trade", source="okx/trades"), Cargo.TRADES)
    assert waits == pytest.approx([0.5, 0.5])


def test_a_thread_that_is_woken_late_each_time_still_waits_a_twentieth_of_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy interpreter wakes it 20 ms after it asked to be woken, however little it meant to wait."""
    now, waited = [1000.0], [0.0]
    monkeypatch.setattr("liqmap.ingest.handoff.time.monotonic", lambda: now[0])
    handoff = Handoff(1, trades_wait_s=0.5)

    def wait(timeout_s: float) -> None:
        now[0] += timeout_s + 0.02
        waited[0] += timeout_s + 0.02

    monkeypatch.setattr(handoff._changed, "wait", wait)
    for _ in range(20_000):
        now[0] += 0.005
        handoff.give(frames(b"a trade", source="okx/trades"), Cargo.TRADES)
    assert waited[0] < 1.0 + 0.05 * (now[0] - 1000.0)


def test_facts_are_taken_first_and_whole_and_trades_before_depth() -> None:
    handoff = Handoff(1000, turn_bytes=1000)
    for number in range(3):
        handoff.give(frames(b"d" * 400, source="okx/depth"), Cargo.DEPTH)
        handoff.give(frames(b"t" * 400, source="okx/trades"), Cargo.TRADES)
        handoff.give(frames(b"%d" % number * 400, source="okx/facts"))
    assert [raw[:1] for raw in said(handoff)] == [b"0", b"1", b"2", b"t", b"t", b"t", b"d"]
    assert [raw[:1] for raw in said(handoff)] == [b"d", b"d"]
    assert handoff.take(0) == []


def test_lines_of_one_cargo_take_turns() -> None:
    handoff = Handoff(1000, turn_bytes=100)
    for _ in range(4):
        for source in ("binance/trades", "okx/trades"):
            handoff.give(frames(source.encode() + b"." * 90, source=source), Cargo.TRADES)
    order = [said(handoff)[0].partition(b"/")[0] for _ in range(4)]
    assert order in ([b"binance", b"okx"] * 2, [b"okx", b"binance"] * 2)


def test_threads_that_are_behind_with_their_sockets_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff_room, "READERS_FIRST_S", 10.0)
    handoff = Handoff(1000)
    handoff.give(frames(b"0", source="okx/trades"), Cargo.TRADES, behind=True)
    reader = threading.Thread(target=handoff.give, args=(frames(b"1", source="okx/trades"), Cargo.TRADES))
    started = threading.Timer(0.0, reader.start)
    started.start()
    assert said(handoff) == [b"0", b"1"], "the taker waited until nobody was behind"
    started.join()
    reader.join(timeout=10)


def test_a_thread_that_was_behind_and_has_fallen_quiet_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    handoff = Handoff(1000)
    monkeypatch.setattr(handoff._changed, "wait", waits.append)
    handoff.give(frames(b"0", source="okx/trades"), Cargo.TRADES, behind=True)
    assert said(handoff) == [b"0"]
    handoff.give(frames(b"1"))
    assert said(handoff) == [b"1"]
    assert waits == [handoff_room.READERS_FIRST_S]


def test_bytes_are_bounded_too_but_one_large_frame_always_passes() -> None:
    handoff = Handoff(16)
    assert handoff.give(frames(b"x" * 1_000_000, source="okx/depth"), Cargo.DEPTH)
    assert handoff.give(frames(b"y", source="okx/depth"), Cargo.DEPTH)
    assert said(handoff) == [b"y"]


def test_announcements_pass_a_full_line_behind_its_frames() -> None:
    handoff = Handoff(1)
    handoff.give(frames(b"x"))
    handoff.announce(Changed("okx/facts", LinkState.UP, 0))
    assert [type(message) for message in handoff.take(0)] == [Frames, Changed]


def test_the_first_words_of_a_link_stand_before_its_frames() -> None:
    handoff = Handoff(10)
    handoff.announce(Opened("okx/facts", 1, 0))
    handoff.give(frames(b"x"))
    assert [type(message) for message in handoff.take(0)] == [Opened, Frames]


PLANS = [
    ((Topic.TRADE, Topic.TRADE), Cargo.TRADES),
    ((Topic.DEPTH,), Cargo.DEPTH),
    ((Topic.TRADE, Topic.LIQUIDATION), Cargo.FACTS),
    ((Topic.DEPTH, Topic.TRADE), Cargo.FACTS),
    ((), Cargo.FACTS),
]


@pytest.mark.parametrize(("topics", "cargo"), PLANS)
def test_a_link_with_anything_dear_on_it_carries_facts(topics: tuple[Topic, ...], cargo: Cargo) -> None:
    streams = tuple(Stream(f"s{number}", topic, ("BTC",)) for number, topic in enumerate(topics))
    assert cargo_of(LinkPlan(Venue.OKX, "x", "ws://x", streams)) is cargo


def test_closing_frees_a_waiting_giver() -> None:
    handoff = Handoff(1)
    results: list[bool] = []
    handoff.give(frames(b"x"))
    giver = threading.Thread(target=lambda: results.append(handoff.give(frames(b"y"))))
    giver.start()
    handoff.close()
    giver.join(timeout=10)
    assert results == [False]


def liquidation(venue: Venue, at_ms: int, receive_ns: int, price: float = 1.0) -> Event:
    return Event(receive_ns, at_ms, price, 1.0, kind=Kind.LIQUIDATION, venue=venue, side=PositionSide.LONG)


def test_okx_rows_that_are_played_again_count_once_and_history_not_at_all() -> None:
    replays, now_ns = Replays(), 10**18
    fresh = liquidation(Venue.OKX, now_ns // 10**6 - 1000, now_ns)
    assert replays.is_news(fresh)
    assert not replays.is_news(fresh._replace(receive_ns=now_ns + 5 * 10**9))
    old_ms = (now_ns - REPLAY_AGE_NS) // 10**6 - 1
    assert not replays.is_news(liquidation(Venue.OKX, old_ms, now_ns))
    assert replays.dropped == 2
    assert all(replays.is_news(liquidation(Venue.BYBIT, old_ms, now_ns)) for _ in range(3))


def test_rows_seen_once_by_the_old_and_twice_by_the_new_connection_count_twice() -> None:
    overlap, row = Overlap(), liquidation(Venue.BYBIT, 5, 6)
    assert overlap.is_news(1, row)
    assert [overlap.is_news(2, row) for _ in range(2)] == [False, True]
    assert not overlap.is_news(1, row)


def test_bad_frames_wait_for_room_like_good_ones() -> None:
    handoff = Handoff(1)
    bad = BadFrames("okx/trades", 1, 0, [BadFrame("rsv", b"", 1)])
    assert handoff.give(bad)
    giver = threading.Thread(target=handoff.give, args=(bad,))
    giver.start()
    heard: list[Message] = []
    while len(heard) < 2:
        heard += handoff.take(1.0)
    giver.join(timeout=10)
    assert heard == [bad, bad]


@pytest.mark.parametrize("cargo", [Cargo.TRADES, Cargo.DEPTH])
def test_bad_frames_of_a_full_line_are_given_up_and_counted_like_good_ones(cargo: Cargo) -> None:
    handoff = Handoff(16, trades_wait_s=0.0)
    for _ in range(100):
        handoff.give(BadFrames("okx/any", 1, 0, [BadFrame("rsv", b"x" * 400, 1)]), cargo)
        assert handoff.waiting <= 16
    waiting = handoff.waiting
    for _ in range(waiting, 17):
        handoff.give(frames(b"good", source="okx/any"), cargo)
    heard = [message for message in handoff.take(0) if isinstance(message, Frames)]
    assert sum(message.dropped for message in heard) >= 100 - waiting

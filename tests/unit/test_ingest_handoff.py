"""The hand-off between threads: facts wait and are never lost, books may be dropped, announcements always pass."""

import threading

from liqmap.domain.enums import Kind, PositionSide, Venue
from liqmap.domain.event import Event
from liqmap.ingest.frames import BadFrame
from liqmap.ingest.handoff import BadFrames, Changed, Frames, Handoff, LinkState
from liqmap.ingest.merge import REPLAY_AGE_NS, Overlap, Replays


def frames(*messages: bytes) -> Frames:
    return Frames("okx/trades", 1, 0, list(messages))


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


def test_order_books_are_dropped_when_there_is_no_room_and_it_is_said() -> None:
    handoff = Handoff(2)
    given = [handoff.give(frames(b"book"), may_drop=True) for _ in range(5)]
    assert given == [True, True, False, False, False]


def test_bytes_are_bounded_too_but_one_large_frame_always_passes() -> None:
    handoff = Handoff(4)
    assert handoff.give(frames(b"x" * 1_000_000), may_drop=True)
    assert not handoff.give(frames(b"y"), may_drop=True)


def test_announcements_pass_a_full_queue() -> None:
    handoff = Handoff(1)
    handoff.give(frames(b"x"))
    handoff.announce(Changed("okx/trades", LinkState.UP, 0))
    assert len(handoff.take(0)) == 2


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
    assert not handoff.give(bad, may_drop=True)

"""Venues' clocks: the offset is that of the quickest answers, and a person is told when it is large."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.exchanges.adapter import PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.feeds import SourceState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import Polled
from liqmap.ingest.replies import Asker
from liqmap.ingest.venue_clock import ALARM_MS, VenueClock
from tests.unit.router_desk import Desk, mark

MS = 10**6


def ask(clock: VenueClock, at_ms: int, ahead_ms: float, there_ms: float, back_ms: float) -> None:
    """One question; our clock is `ahead_ms` ahead of the venue's."""
    asked_ns = at_ms * MS
    received_ns = asked_ns + int((there_ms + back_ms) * MS)
    clock.answered(asked_ns, received_ns, round(at_ms + there_ms - ahead_ms))


def test_nothing_is_known_before_the_first_answer() -> None:
    clock = VenueClock()
    assert clock.offset_ms != clock.offset_ms and clock.round_trip_ms != clock.round_trip_ms
    assert clock.alarm() is None


@given(
    ahead_ms=st.integers(-5000, 5000),
    ways=st.lists(st.tuples(st.floats(1, 400), st.floats(1, 400)), min_size=1, max_size=20),
)
def test_the_error_is_never_more_than_half_of_the_round_trip(ahead_ms: int, ways: list[tuple[float, float]]) -> None:
    clock = VenueClock()
    for number, (there_ms, back_ms) in enumerate(ways):
        ask(clock, 1_700_000_000_000 + number * 60_000, ahead_ms, there_ms, back_ms)
    assert abs(clock.offset_ms - ahead_ms) <= clock.round_trip_ms / 2 + 1.0


def test_answers_that_took_long_are_not_believed() -> None:
    clock = VenueClock()
    for number in range(3):
        ask(clock, 1_700_000_000_000 + number, 40.0, 10.0, 10.0)
    for number in range(2):
        ask(clock, 1_700_000_100_000 + number, 40.0, 2000.0, 10.0)
    assert clock.offset_ms == pytest.approx(40.0, abs=1.0)
    assert clock.round_trip_ms == pytest.approx(20.0)


def test_a_clock_that_was_set_is_followed_within_five_answers() -> None:
    clock = VenueClock()
    for number in range(10):
        ask(clock, 1_700_000_000_000 + number, 0.0, 10.0, 10.0)
    for number in range(5):
        ask(clock, 1_700_000_100_000 + number, 9000.0, 10.0, 10.0)
    assert clock.offset_ms == pytest.approx(9000.0, abs=1.0)


def test_a_question_during_which_our_clock_was_set_back_tells_nothing() -> None:
    clock = VenueClock()
    clock.answered(1_700_000_000_000 * MS, 1_699_999_990_000 * MS, 1_700_000_000_000)
    assert clock.offset_ms != clock.offset_ms


@pytest.mark.parametrize(("ahead_ms", "word"), [(ALARM_MS + 100, "ahead of"), (-ALARM_MS - 100, "behind"), (400, None)])
def test_a_large_offset_is_said_in_words(ahead_ms: float, word: str | None) -> None:
    clock = VenueClock()
    ask(clock, 1_700_000_000_000, ahead_ms, 10.0, 10.0)
    said = clock.alarm()
    assert (said is None) if word is None else (said is not None and word in said and f"{abs(ahead_ms):.0f} ms" in said)


def test_through_the_router_the_offset_is_shown_said_aloud_and_refuses_no_data(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    plan = PollPlan(Venue.BINANCE, "clock", "http://x", Topic.CLOCK, (), 60.0)
    desk.router.replies.askers["binance/clock"] = Asker(plan, ADAPTERS[Venue.BINANCE])
    state = SourceState(Venue.BINANCE, "clock", False)
    desk.feeds.follow("binance/clock", state, [(Feed(Venue.BINANCE, Topic.CLOCK, ""), False)], desk.router.time.now_ns)
    desk.open()

    def look() -> object:
        desk.clock.advance(1.0)
        desk.frames(mark(at_ms=desk.clock.now_ns() // MS + ahead_ms))
        desk.turn()
        return desk.board()["venues"][0]

    def told(ahead_ms: int) -> None:
        now_ns = desk.clock.now_ns()
        body = msgspec.json.encode({"serverTime": (now_ns - 20 * MS) // MS + ahead_ms})
        desk.handoff.announce(Polled("binance/clock", now_ns, body, now_ns - 40 * MS))

    ahead_ms = 3_600_000  # the venue's; ours is an hour behind
    for _ in range(3):
        told(ahead_ms)
    row: object = look()
    assert row["clock_offset_ms"] == pytest.approx(-3_600_000, abs=1)  # type: ignore[index]
    assert row["round_trip_ms"] == pytest.approx(40.0)  # type: ignore[index]
    assert b"our clock is 3600000 ms behind the venue's" in row["reason"]  # type: ignore[index]
    assert row["lag_ms"] == pytest.approx(-3_600_000, abs=1000)  # type: ignore[index]
    assert len(desk.events(Kind.MARK_PRICE)) == 1, "an hour of difference refuses no data"
    topics = desk.board()["topics"]
    assert topics[topics["topic"] == Topic.CLOCK]["events"][0] == 3
    for _ in range(5):
        told(0)
    assert b"our clock" not in look()["reason"]  # type: ignore[index]

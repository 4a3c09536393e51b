"""Polls on a manual clock: rhythm, budgets, refusals, and that a failed one hands nothing over."""

import threading
from itertools import pairwise

import pytest

from liqmap.clock import ManualClock
from liqmap.config import IngestConfig
from liqmap.domain.enums import GapReason, Topic, Venue
from liqmap.exchanges.adapter import PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.accounts import Hold, VenueAccount
from liqmap.ingest.fetcher import FetchError, Reply
from liqmap.ingest.handoff import Handoff, Message, Polled, PollFailed
from liqmap.ingest.poller import Poller, poll_forever

JSON = {"content-type": "application/json"}
GOOD = Reply(200, JSON, b'{"symbol":"BTCUSDT","openInterest":"1","time":1700000000000}')


def plan(name: str, every_s: float = 10.0, weight: int = 1) -> PollPlan:
    return PollPlan(Venue.BINANCE, name, f"http://x/{name}", Topic.OPEN_INTEREST, ("BTC",), every_s, weight)


class World:
    """A scripted venue. `replies` by URL, the last one for ever; ends after `seconds`."""

    def __init__(self, replies: dict[str, list[Reply | Exception]], seconds: float) -> None:
        self.clock = ManualClock()
        self.replies = replies
        self.end_ns = self.clock.monotonic_ns() + int(seconds * 1e9)
        self.asked: list[tuple[float, str]] = []
        self.closed = False
        self.handoff = Handoff(1000)
        self.begin_ns = self.clock.monotonic_ns()
        self.poller = Poller(
            venue=Venue.BINANCE,
            adapter=ADAPTERS[Venue.BINANCE],
            settings=IngestConfig(),
            clock=self.clock,
            fetcher=self,
            handoff=self.handoff,
            account=VenueAccount(ADAPTERS[Venue.BINANCE]),
            draw=lambda: 0.5,
            stop=threading.Event(),
        )

    def get(self, url: str) -> Reply:
        self.asked.append(((self.clock.monotonic_ns() - self.begin_ns) / 1e9, url.rpartition("/")[2]))
        script = self.replies[url.rpartition("/")[2]]
        reply = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self.closed = True

    def run(self, *plans: PollPlan) -> list[Message]:
        self.poller.replan(plans)

        class Ending(threading.Event):
            def is_set(event) -> bool:  # noqa: N805
                return self.clock.monotonic_ns() >= self.end_ns

        self.poller.stop = Ending()
        poll_forever(self.poller)
        return self.handoff.take(0)

    def times(self, name: str) -> list[float]:
        return [at_s for at_s, asked in self.asked if asked == name]


def test_each_poll_keeps_its_rhythm_and_the_session_is_closed() -> None:
    world = World({"a": [GOOD], "b": [GOOD]}, seconds=100)
    said = world.run(plan("a", 10.0), plan("b", 25.0))
    assert len(world.times("a")) == 10
    assert len(world.times("b")) == 4
    assert sum(isinstance(message, Polled) for message in said) == 14
    assert world.closed


@pytest.mark.finding("M15")
@pytest.mark.parametrize(
    "failure",
    [
        FetchError("cannot resolve x"),
        Reply(500, {}, b""),
        Reply(503, {"content-type": "text/html"}, b"<html>0</html>"),
        Reply(200, JSON, b'{"code":-1003,"msg":"Too many"}'),
        Reply(400, JSON, b'{"code":-1121,"msg":"Invalid symbol."}'),
    ],
    ids=["fetch", "500", "html", "code in a 200", "400"],
)
def test_a_failed_poll_hands_over_its_reason_and_no_body(failure: Reply | Exception) -> None:
    said = World({"a": [failure]}, seconds=5).run(plan("a"))
    assert said
    assert all(isinstance(message, PollFailed) and message.reason for message in said)


@pytest.mark.finding("M14")
@pytest.mark.finding("M16")
def test_the_computed_delay_of_a_poll_is_waited_and_success_resets_it() -> None:
    world = World({"a": [FetchError("x"), FetchError("x"), FetchError("x"), GOOD, FetchError("x"), GOOD]}, seconds=25)
    world.run(plan("a", 10.0))
    times = world.times("a")
    waits = [round(after - before, 2) for before, after in pairwise(times)]
    assert waits[:5] == [0.5, 1.0, 2.0, 10.0, 0.5]


@pytest.mark.finding("M14")
def test_a_rate_limit_stops_every_poll_of_the_venue_for_as_long_as_it_asks() -> None:
    limited = Reply(429, JSON | {"retry-after": "200"}, b'{"code":-1003,"msg":"x"}')
    world = World({"a": [limited, GOOD], "b": [GOOD]}, seconds=300)
    said = world.run(plan("a", 10.0), plan("b", 10.0))
    first = world.times("a")[0]
    assert not [at_s for at_s, _ in world.asked if first + 1 < at_s < first + 200]
    failed = [message for message in said if isinstance(message, PollFailed)]
    assert {message.source for message in failed} == {"binance/a", "binance/b"}
    assert [message.gap for message in failed] == [GapReason.REFUSED] * 2


def test_a_country_refusal_freezes_the_venue_for_an_hour() -> None:
    world = World({"a": [Reply(451, {}, b"")], "b": [GOOD]}, seconds=4000)
    world.run(plan("a", 10.0), plan("b", 10.0))
    assert len(world.times("a")) == 2
    first = world.times("a")[0]
    assert not [at_s for at_s, _ in world.asked if first + 1 < at_s < first + 3600]
    assert world.poller.account.requests_held(world.clock.monotonic_ns())[0] > 0


def test_a_changed_plan_keeps_the_rhythm_of_what_stays() -> None:
    world = World({"a": [GOOD], "b": [GOOD]}, seconds=20)
    world.run(plan("a", 8.0))
    world.end_ns += int(20e9)
    world.run(plan("a", 8.0), plan("b", 8.0))
    assert len(world.times("b")) in (2, 3)


def test_what_is_asked_for_rarely_is_asked_again_rarely_when_nobody_answers() -> None:
    world = World({"a": [FetchError("x")], "b": [FetchError("x")]}, seconds=21_600)
    world.run(plan("a", 21_600.0), plan("b", 10.0))
    rare = [after - before for before, after in pairwise(world.times("a"))]
    assert max(rare) <= 900.5
    assert rare[:4] == pytest.approx([0.5, 1.0, 2.0, 4.0], abs=0.1)
    assert len(rare) < 70
    assert max(after - before for before, after in pairwise(world.times("b"))) <= 32.5


def test_a_request_that_is_made_once_is_not_repeated_and_names_its_plan() -> None:
    world = World({"a": [GOOD], "once": [GOOD]}, seconds=60)
    for _ in range(3):
        world.poller.ask(plan("once", 0.0, weight=20))
    said = world.run(plan("a", 10.0))
    assert len(world.times("once")) == 1
    [answer] = [message for message in said if isinstance(message, Polled) and message.plan is not None]
    assert answer.plan == plan("once", 0.0, weight=20)
    assert len(world.times("a")) == 6


@pytest.mark.parametrize("failure", [FetchError("x"), Reply(503, {}, b""), Reply(400, JSON, b'{"code":-1121}')])
def test_a_request_that_is_made_once_and_fails_says_so_and_is_given_up(failure: Reply | Exception) -> None:
    world = World({"once": [failure]}, seconds=60)
    world.poller.ask(plan("once"))
    [failed] = world.run()
    assert isinstance(failed, PollFailed)
    assert failed.plan == plan("once")
    assert len(world.asked) == 1


def test_requests_that_are_made_once_spend_from_the_budget_of_the_polls_and_wait_for_it() -> None:
    world = World({f"once{number}": [GOOD] for number in range(100)}, seconds=59)
    for number in range(100):
        world.poller.ask(plan(f"once{number}", weight=20))
    world.run()
    assert len(world.asked) == 60, "half of 2400 in a minute, 20 each"


def test_a_request_that_is_made_once_waits_out_a_ban() -> None:
    world = World({"a": [GOOD], "once": [GOOD]}, seconds=600)
    world.poller.account.hold(Hold.REQUESTS, world.clock.monotonic_ns(), 400.0, "banned")
    world.poller.ask(plan("once"))
    world.run(plan("a", 10.0))
    assert world.times("once") == [pytest.approx(400.0, abs=1.0)]


def test_what_follows_bars_is_asked_a_minute_after_each_was_closed() -> None:
    ratio = PollPlan(Venue.BINANCE, "a", "http://x/a", Topic.RATIO, ("BTC",), 300.0, after_s=60.0)
    world = World({"a": [GOOD]}, seconds=1500)
    begin_s = world.clock.now_ns() / 1e9
    world.run(ratio)
    after_bar_s = [(begin_s + at_s) % 300 for at_s in world.times("a")[1:]]
    assert len(after_bar_s) in (4, 5)
    assert all(60.0 <= at_s <= 76.0 for at_s in after_bar_s)


@pytest.mark.finding("M14")
def test_only_one_asks_for_the_venue_when_a_country_freeze_is_over() -> None:
    world = World({"a": [Reply(451, {}, b""), Reply(451, {}, b""), GOOD], "b": [GOOD]}, seconds=7400)
    world.run(plan("a", 10.0), plan("b", 10.0))
    again = [at_s for at_s, _ in world.asked if 3000 < at_s < 4000]
    assert len(again) == 1

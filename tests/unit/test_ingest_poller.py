"""Polls on a manual clock: rhythm, budgets, refusals, and that a failed one hands nothing over."""

import threading
from itertools import pairwise

import pytest

from liqmap.clock import ManualClock
from liqmap.config import IngestConfig
from liqmap.domain.enums import GapReason, Topic, Venue
from liqmap.exchanges.adapter import Budget, PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.freeze import VenueFreeze
from liqmap.ingest.handoff import Handoff, Message, Polled, PollFailed
from liqmap.ingest.poller import FetchError, Poller, Reply, Spending, poll_forever

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
            freeze=VenueFreeze(),
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
    assert [message.gap for message in said if isinstance(message, PollFailed)] == [GapReason.REFUSED]


def test_a_country_refusal_freezes_the_venue_for_an_hour() -> None:
    world = World({"a": [Reply(451, {}, b"")], "b": [GOOD]}, seconds=4000)
    world.run(plan("a", 10.0), plan("b", 10.0))
    assert len(world.times("a")) == 2
    first = world.times("a")[0]
    assert not [at_s for at_s, _ in world.asked if first + 1 < at_s < first + 3600]
    assert world.poller.freeze.left(world.clock.monotonic_ns())[0] > 0


def test_a_changed_plan_keeps_the_rhythm_of_what_stays() -> None:
    world = World({"a": [GOOD], "b": [GOOD]}, seconds=20)
    world.run(plan("a", 8.0))
    world.end_ns += int(20e9)
    world.run(plan("a", 8.0), plan("b", 8.0))
    assert len(world.times("b")) in (2, 3)


def test_half_of_the_budget_is_never_passed_in_any_window() -> None:
    spending, spent, now_ns = Spending(Budget("rest", 100, 60.0)), [], 0
    while now_ns < 300 * 10**9:
        wait_s = spending.wait_s(now_ns, 7)
        if wait_s == 0.0:
            spending.spend(now_ns, 7)
            spent.append(now_ns)
        now_ns += int(wait_s * 1e9) + 10**8
    for at_ns in spent:
        assert sum(7 for other in spent if at_ns <= other < at_ns + 60 * 10**9) <= 50
    assert len(spent) >= 28

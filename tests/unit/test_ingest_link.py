"""The life of a link on a manual clock: what it waits, what it says, what keeps it alive."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import pytest

from liqmap.clock import ManualClock
from liqmap.config import IngestConfig
from liqmap.domain.enums import GapReason, Topic, Venue
from liqmap.exchanges.adapter import LinkPlan, Stream
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.accounts import Hold, VenueAccount
from liqmap.ingest.frames import BadFrame
from liqmap.ingest.handoff import BadFrames, Changed, Ended, Frames, Handoff, LinkState, Message, Opened
from liqmap.ingest.link import Delivering, Link, Order, Replan, Rotate, hold
from liqmap.ingest.transport import (
    CannotResolve,
    ConnectionLost,
    HandshakeRefused,
    Received,
    Transport,
    TransportError,
)

PLAN = LinkPlan(
    Venue.BYBIT,
    "facts",
    "ws://venue",
    (
        Stream("tickers.BTCUSDT", Topic.MARK_PRICE, ("BTC",)),
        Stream("allLiquidation", Topic.LIQUIDATION, ("BTC",), True),
    ),
    ('{"op":"subscribe"}',),
    ping='{"op":"ping"}',
    ping_every_s=20.0,
)
QUIET = replace(PLAN, streams=PLAN.streams[1:])
SETTINGS = IngestConfig()

Step = Callable[["World"], list[bytes]]


class World:
    """A scripted venue and the clock. Each receive takes a quarter of a second and runs the script's next step."""

    def __init__(self, plan: LinkPlan, lives: Sequence[Exception | list[Step]], settings: IngestConfig = SETTINGS):
        self.clock = ManualClock()
        self.lives = list(lives)
        self.sent: list[str] = []
        self.closed = 0
        self.handoff = Handoff(100_000)
        self.link = Link(
            plan=plan,
            adapter=ADAPTERS[plan.venue],
            settings=settings,
            clock=self.clock,
            connect=self._connect,
            handoff=self.handoff,
            account=VenueAccount(ADAPTERS[plan.venue]),
            draw=lambda: 0.5,
            orders=queue.SimpleQueue(),
            stop=threading.Event(),
        )

    def _connect(self, url: str) -> Transport:
        if not self.lives:
            self.link.stop.set()
            raise TransportError("the script ended")
        life = self.lives.pop(0)
        if isinstance(life, Exception):
            raise life
        return ScriptedTransport(self, life)

    def order(self, order: Order) -> None:
        self.link.orders.put(order)

    def run(self) -> list[Message]:
        """Hold the link until the script is over; everything it handed over."""
        hold(self.link)
        return self.handoff.take(0)

    @property
    def waits_s(self) -> list[float]:
        return self.clock.waits_s


class ScriptedTransport:
    def __init__(self, world: World, life: list[Step]) -> None:
        self._world = world
        self._life = list(life)

    def receive(self, timeout_s: float) -> Received:
        self._world.clock.advance(timeout_s)
        if not self._life:
            raise ConnectionLost("closed by the venue: 1000", 1000)
        return Received(self._world.clock.now_ns(), self._life.pop(0)(self._world), [])

    def send(self, text: str) -> None:
        self._world.sent.append(text)

    def ping(self) -> None:
        self._world.sent.append("<ping>")

    def close(self) -> None:
        self._world.closed += 1


def silence(_world: World) -> list[bytes]:
    return []


def data(world: World) -> list[bytes]:
    world.order(Delivering(world.link.connections))
    return [b"data"]


def pong(_world: World) -> list[bytes]:
    return [b'{"ret_msg":"pong"}']


def seconds(step: Step, count: float) -> list[Step]:
    return [step] * int(count * 4)


@pytest.mark.finding("M14")
@pytest.mark.finding("M16")
def test_the_delay_that_is_computed_is_the_delay_that_is_waited() -> None:
    world = World(PLAN, [CannotResolve("cannot resolve venue")] * 7)
    said = [message for message in world.run() if isinstance(message, Changed) and message.state is LinkState.BACKOFF]
    assert world.waits_s[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0]
    assert [message.delay_s for message in said][:7] == world.waits_s[:7]
    assert said[0].reason == "cannot resolve venue"


@pytest.mark.finding("M14")
def test_a_handshake_does_not_reset_the_backoff_but_sustained_data_does() -> None:
    short = [*seconds(data, 2)]
    long = [*seconds(data, SETTINGS.sustained_s + 2)]
    world = World(PLAN, [short, short, short, long, short])
    world.run()
    assert world.waits_s[:5] == [0.5, 1.0, 2.0, 0.5, 1.0]


@pytest.mark.finding("M14")
def test_retry_after_of_a_refused_handshake_is_obeyed() -> None:
    headers = {"retry-after": "300", "content-type": "application/json"}
    binance = replace(PLAN, venue=Venue.BINANCE)
    body = b'{"code":-1003,"msg":"Too many requests"}'
    world = World(binance, [HandshakeRefused(429, headers, body), HandshakeRefused(418, {}, b"")])
    ended = world.run()
    assert 300.0 <= world.waits_s[0] <= 301.0
    assert 120.0 <= world.waits_s[1] <= 122.0
    refused = [message for message in ended if isinstance(message, Changed) and message.state is LinkState.REFUSED]
    assert len(refused) == 2


def test_a_country_refusal_freezes_this_venue_for_an_hour_and_no_other() -> None:
    binance = replace(PLAN, venue=Venue.BINANCE)
    world, other = World(binance, [HandshakeRefused(451, {}, b"")]), World(PLAN, [seconds(data, 1)])
    world.run()
    other.run()
    assert 3600.0 <= world.waits_s[0] <= 3602.0
    assert world.link.account.connect(1_000_000_000)[0] > 3600.0
    assert sum(other.waits_s) < 2.0


def test_a_frozen_venue_is_not_asked_before_the_time() -> None:
    world = World(PLAN, [])
    world.link.account.hold(Hold.REGION, world.clock.monotonic_ns(), 1800.0, "unavailable from this location")
    said = world.run()
    assert world.waits_s[0] >= 1800.0
    assert isinstance(said[0], Changed)
    assert (said[0].state, said[0].reason) == (LinkState.REFUSED, "unavailable from this location")


def test_any_close_that_nobody_asked_for_means_reconnect() -> None:
    world = World(PLAN, [[silence], [silence], [silence]])
    said = world.run()
    assert sum(isinstance(message, Opened) for message in said) == 3
    assert all(message.gap is GapReason.DISCONNECTED for message in said if isinstance(message, Ended))
    assert world.closed == 3


def test_no_data_in_time_is_a_dead_connection_even_when_pongs_come() -> None:
    world = World(PLAN, [seconds(pong, 3600)])
    said = world.run()
    [ended] = [message for message in said if isinstance(message, Ended)]
    assert ended.reason == f"no market data for {SETTINGS.probe_timeout_s:g} s"
    assert not any(message.state is LinkState.UP for message in said if isinstance(message, Changed))


def test_quiet_topics_never_trip_the_liveness_check() -> None:
    steps: list[Step] = []
    for _ in range(60):
        steps += [*seconds(silence, 14), pong]
    world = World(QUIET, [steps])
    said = world.run()
    [ended] = [message for message in said if isinstance(message, Ended)]
    assert "closed by the venue" in ended.reason


def test_quiet_topics_beside_a_probe_do_not_matter() -> None:
    steps: list[Step] = []
    for _ in range(60):
        steps += [data, *seconds(silence, 10)]
    world = World(PLAN, [steps])
    [ended] = [message for message in world.run() if isinstance(message, Ended)]
    assert "closed by the venue" in ended.reason


def test_the_venues_ping_is_sent_in_time_and_not_more_often() -> None:
    world = World(PLAN, [seconds(data, 100)])
    world.run()
    assert world.sent.count('{"op":"ping"}') in (4, 5)
    assert world.sent[0] == '{"op":"subscribe"}'


@pytest.mark.finding("M12")
def test_every_change_of_state_is_one_line_with_venue_reason_and_delay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(PLAN, [CannotResolve("cannot resolve venue"), seconds(data, 2)])
    world.run()
    told = [record.__dict__["fields"] for record in caplog.records if record.message == "link"]
    assert all(line["venue"] == "bybit" and line["link"] == "facts" for line in told)
    assert [line["state"] for line in told] == ["backoff", "open", "up", "backoff", "backoff", "stopped"]
    assert told[0]["reason"] == "cannot resolve venue"
    assert float(told[0]["delay_s"]) == world.waits_s[0]
    assert told[3]["reason"] == "closed by the venue: 1000"
    assert float(told[3]["delay_s"]) == world.waits_s[1]


@pytest.mark.finding("M12")
def test_the_same_failure_is_said_less_and_less_often_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    world = World(PLAN, [CannotResolve("cannot resolve venue")] * 100)
    world.run()
    told = [record.__dict__["fields"]["times"] for record in caplog.records if record.levelno == logging.WARNING]
    assert told[:7] == ["1", "2", "4", "8", "16", "32", "64"]


def test_what_is_received_is_handed_over_in_order() -> None:
    def step(number: int) -> Step:
        return lambda _world: [b"%d" % number]

    counted = [step(i) for i in range(20)]
    said = World(PLAN, [counted]).run()
    assert [raw for message in said if isinstance(message, Frames) for raw in message.messages] == [
        b"%d" % i for i in range(20)
    ]


def test_a_changed_plan_is_told_on_the_open_connection_and_kept_for_the_next() -> None:
    def order(world: World) -> list[bytes]:
        world.order(Replan(replace(PLAN, subscribe=("subscribe-more",)), ("also-this",)))
        return []

    world = World(PLAN, [[data, order, data], [data]])
    world.run()
    assert world.sent == ['{"op":"subscribe"}', "also-this", "subscribe-more"]


ROTATING = replace(PLAN, rotate_after_s=100.0, ping=None)


def test_a_planned_rotation_opens_the_next_connection_before_it_closes_the_old_one() -> None:
    world = World(ROTATING, [seconds(data, 2000), [silence, data, *seconds(silence, 5)]])
    said = [message for message in world.run() if isinstance(message, Opened | Ended)]
    assert [type(message) for message in said] == [Opened, Opened, Ended, Ended]
    assert isinstance(said[2], Ended)
    assert (said[2].connection, said[2].last, said[2].reason) == (1, False, "planned rotation")
    lived_s = (said[1].at_ns - said[0].at_ns) / 1e9
    assert 94.0 <= lived_s <= 100.0


def test_a_successor_that_does_not_deliver_is_given_up_and_the_old_one_lives_on() -> None:
    settings = msgspec.structs.replace(SETTINGS, probe_timeout_s=5.0)

    def first(world: World) -> list[bytes]:
        world.order(Delivering(1))
        return [b"data"]

    world = World(ROTATING, [[*seconds(first, 98), *([first] * 2000)], [silence] * 100_000], settings)
    said = [message for message in world.run() if isinstance(message, Ended)]
    assert (said[0].connection, said[0].last) == (2, False)
    assert said[1].connection == 1
    assert said[1].last


def test_a_closing_notice_rotates_at_once() -> None:
    def notice(world: World) -> list[bytes]:
        world.order(Rotate(1, "notice 64008"))
        return []

    world = World(PLAN, [[data, notice, *seconds(data, 5)], [data, data]])
    said = [message for message in world.run() if isinstance(message, Ended)]
    assert (said[0].connection, said[0].reason, said[0].last) == (1, "notice 64008", False)


def test_frames_that_the_framing_refused_are_reported_beside_the_good_ones() -> None:
    class OneBad(ScriptedTransport):
        def receive(self, timeout_s: float) -> Received:
            received = super().receive(timeout_s)
            return received._replace(bad=[BadFrame("too large", b"x", 10**9)])

    world = World(PLAN, [])
    world.lives = [[data]]
    world.link.connect = lambda url: OneBad(world, [data]) if world.lives and world.lives.pop() else world._connect(url)
    said = world.run()
    assert any(isinstance(message, BadFrames) for message in said)
    assert any(isinstance(message, Frames) for message in said)

"""More than can be dealt with, from venues that cut a client off whose socket stays full for two seconds.

The router is made slow instead of the venues fast: it takes its next portion only when they have sent twice what it has
dealt with, so the burst is twice what is sustained on every machine. Lines and kernel buffers are small: on both sides
of a real connection they would swallow minutes of such a flow.
"""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from liqmap.domain.enums import GapReason, Kind, PositionSide, TakerSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.exchanges.adapter import Session
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest import desk, transport
from liqmap.ingest.handoff import Handoff
from liqmap.sim.venues.binance_server import BinanceRules
from liqmap.sim.venues.bybit_server import BybitRules
from liqmap.sim.venues.feed import Message
from liqmap.sim.venues.okx_server import OkxRules
from liqmap.sim.venues.running import VenueRules
from liqmap.sim.venues.server import VenueServer
from tests.fault.test_ingest_sockets import config_of
from tests.fault.test_order_books import quick, shows_what_stands, until
from tests.listening import DEADLINE_S, Listening, listening
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

VENUES = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)
BUFFER = 32 * 1024
TURN_BYTES = 12 * 1024
LINE_FRAMES = 200
TRADES_PER_STEP = 8
LEVELS = 200
"""That change in every step of a book."""
BURST_FRAMES = 6_000
DEAR = frozenset({Kind.LIQUIDATION, Kind.MARK_PRICE, Kind.OPEN_INTEREST})

Row = tuple[int, int, int, int, float | None, float | None]


def rules() -> VenueRules:
    """A client with a full socket is cut off after two seconds."""
    slow: dict[str, Any] = {"slow_after_s": 2.0, "max_buffer_bytes": BUFFER}
    return VenueRules(BinanceRules(**slow), BybitRules(**slow), OkxRules(**slow))


class Sent:
    """What the venues say they sent beside trades and books, as the events it should become."""

    def __init__(self, venues: RunningVenues, ingest: Listening) -> None:
        self._sessions: dict[Venue, Session] = {
            venue: adapter.session(ingest.router.instruments) for venue, adapter in ADAPTERS.items()
        }
        self.messages: dict[Venue, list[Message]] = {venue: [] for venue in VENUES}
        self._venues = venues
        for venue in VENUES:
            venues.call(lambda venue=venue: self._listen(venue))  # type: ignore[misc]

    def _listen(self, venue: Venue) -> None:
        server, kept = self._venues.server(venue), self.messages[venue]
        publish = server.publish

        def recorded(messages: Any) -> None:
            told = list(messages)
            kept.extend(message for message in told if self._is_dear(server, message.topic))
            publish(told)

        server.publish = recorded  # type: ignore[method-assign]

    @staticmethod
    def _is_dear(server: VenueServer, topic: str) -> bool:
        return bool(server._subscribers.get(topic)) and not any(word in topic for word in _CHEAP)

    def rows(self) -> Counter[Row]:
        """As events, of the kinds that must not be lost."""
        facts = (
            fact
            for venue, told in self.messages.items()
            for message in told
            for fact in self._sessions[venue].parse(self._venues.server(venue).envelope(message, True), 0)
        )
        return Counter(row_of(fact) for fact in facts if isinstance(fact, Event) and fact.kind in DEAR)


_CHEAP = ("trade", "Trade", "depth", "orderbook", "books")


def row_of(event: Any) -> Row:
    """What the venue said, without our reception."""
    numbers = [None if np.isnan(number) else float(number) for number in (event.price, event.quantity)]
    return (int(event.kind), int(event.instrument), int(event.side), int(event.venue_ms), numbers[0], numbers[1])


def heard(ingest: Listening) -> Counter[Row]:
    """The same of the ring."""
    return Counter(row_of(event.view(np.recarray)) for event in ingest.events("BTC", *DEAR))


def storm(venues: RunningVenues, step: int) -> None:
    """One step's worth of everything, at every venue."""
    market = venues.market("BTC")
    with market.together():
        for venue in VENUES:
            if market.untold(venue):
                continue
            for number in range(TRADES_PER_STEP):
                market.trade(venue, 60_000.0 + number / 10, 0.5 + step / 1000, TakerSide.BUY)
            market.liquidate(venue, PositionSide.LONG, 59_000.0, 59_100.0, 0.01 * (1 + step))
            for number in range(LEVELS):
                market.set_level(venue, TakerSide.SELL, 61_000.0 + number, 1.0 + (step + number) % 50)
        market.mark_price = 60_000.0 + step / 10
        market.open_interest_base = dict.fromkeys(VENUES, 1000.0 + step)


@contextmanager
def small_sockets(venues: RunningVenues, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the kernel holds for a connection, on both sides."""
    monkeypatch.setattr(transport, "_SOCKET_BUFFER", BUFFER)
    for listening_socket in venues._sockets.values():
        listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    yield


def connections(venues: RunningVenues) -> dict[tuple[Venue, int], int]:
    """Every connection that stands, and the frames that were sent on it."""
    return {
        (venue, each["number"]): int(each["frames_sent"])
        for venue in VENUES
        for each in venues.state(venue)["connections"]
    }


def test_a_burst_of_twice_what_is_sustained_loses_no_fact_and_no_link_and_counts_what_it_loses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Acknowledgements of new subscriptions are given up with everything else: what is waited for them is shortened.
    monkeypatch.setattr(desk, "_PATIENCE_NS", 1_000_000_000)
    monkeypatch.setattr(desk, "_ACKNOWLEDGED_NS", 200_000_000)
    market, handoff = ScriptedMarket("BTC", 60_000.0), Handoff(LINE_FRAMES, turn_bytes=TURN_BYTES)
    with (
        venue_servers(market, rules=rules()) as venues,
        small_sockets(venues, monkeypatch),
        listening(quick(config_of(venues, "BTC")), handoff=handoff) as ingest,
    ):
        until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books")
        stood, sent = connections(venues).keys(), Sent(venues, ingest)
        most_waiting = burst(ingest, venues)
        links = {name: state for name, state in ingest.feeds.sources.items() if state.is_link}

        def accounted_for() -> bool:
            dealt_with = sum(state.frames + state.dropped for state in links.values())
            return dealt_with == sum(connections(venues).values()) and not sent.rows() - heard(ingest)

        ingest.until(accounted_for, "every fact that was sent, and every frame handled or counted")
        assert connections(venues).keys() == stood, "somebody was cut off"
        assert not any(state.reconnects for state in links.values())
        assert most_waiting <= 9 * LINE_FRAMES
        assert sum(count for row, count in sent.rows().items() if row[0] == Kind.LIQUIDATION) > 50
        for venue in VENUES:
            dropped = {name: links[f"{venue.name.lower()}/{name}"].dropped for name in ("facts", "trades", "depth")}
            assert dropped["facts"] == 0
            assert min(dropped["trades"], dropped["depth"]) > 0, f"the burst was none: {dropped}"
            assert overruns(ingest, venue) == {Topic.TRADE, Topic.DEPTH}
        until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books again")
        for venue in VENUES:
            until(ingest, venues, lambda venue=venue: shows_what_stands(ingest, venues, "BTC", venue), "the true book")


def burst(ingest: Listening, venues: RunningVenues) -> int:
    """Storms; the router deals with half of them as they come. The most frames that ever waited."""
    ends_s, most, step = time.monotonic() + DEADLINE_S, 0, 0
    began, handled = sum(connections(venues).values()), ingest.router.frames
    while (offered := sum(connections(venues).values()) - began) < BURST_FRAMES:
        assert time.monotonic() < ends_s, f"the venues sent {offered} frames only"
        storm(venues, step)
        step += 1
        most = max(most, ingest.handoff.waiting)
        if offered >= 2 * (ingest.router.frames - handled):
            ingest.turn()
    return most


def overruns(ingest: Listening, venue: Venue) -> set[Topic]:
    """Topics of the venue that the ring says were overrun."""
    rows = ingest.events("BTC", Kind.GAP)
    mine = rows[(rows["venue"] == venue) & (rows["side"] == GapReason.OVERRUN)]
    return {Topic(int(topic)) for topic in mine["topic"]}

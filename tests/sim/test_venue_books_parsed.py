"""The simulated venues' order books, read by the adapters of the real ones and followed by the project's own rules."""

import random
from typing import Any

import numpy as np
import pytest

from liqmap import config as configuration
from liqmap.domain.enums import BookState, Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import BookUpdate
from liqmap.exchanges.booksync import BookSync, Wish
from liqmap.exchanges.registry import ADAPTERS
from liqmap.sim.venues.feed import Message
from tests.sim.venue_desk import ASKS, BIDS, Desk

TOPICS = {
    Venue.BINANCE: "btcusdt@depth@100ms",
    Venue.BYBIT: "orderbook.1000.BTCUSDT",
    Venue.OKX: "books/BTC-USDT-SWAP",
}
NAMES = {Venue.BINANCE: "BTCUSDT", Venue.BYBIT: "BTCUSDT", Venue.OKX: "BTC-USDT-SWAP"}
STEP_MS = 200
"""Every cadence tells each step, so what was told last is the truth of that step."""
COMPARED = 300
"""Levels a side: fewer than any venue's window, and than Binance's snapshot after price has moved."""


class Follower:
    """One connection to a venue: its frames go through the adapter into a book; a share of them is lost on the way."""

    def __init__(self, venue: Venue, lost_share: float = 0.0, seed: int = 0) -> None:
        self.venue = venue
        self.name = NAMES[venue]
        contract_base = 0.01 if venue is Venue.OKX else 1.0
        (self.contract,) = table = InstrumentTable([Instrument(venue, self.name, contract_base, "BTC", 0)])
        self.table = table
        adapter = ADAPTERS[venue]
        self.session = adapter.session(table)
        self.sync = BookSync(adapter.book_rule, {Venue.BYBIT: 1000, Venue.OKX: 400}.get(venue), 1000)
        self.lost_share = lost_share
        self.random = random.Random(seed)
        self.lost = 0
        self.heard = False
        self.checked = 0
        self.frames: list[Message] = []
        self.desk = Desk(venue, step_ms=STEP_MS)
        self.desk.feed.is_followed = lambda topic: topic == TOPICS[venue]
        step = self.desk.feed.step

        def overheard(tapes: Any, now_ms: int) -> list[Message]:
            messages = list(step(tapes, now_ms))
            self.frames += [message for message in messages if message.topic == TOPICS[venue]]
            return messages

        self.desk.feed.step = overheard
        self.subscribe()

    def subscribe(self) -> None:
        """What the stream begins with."""
        for message in self.desk.feed.on_subscribe(TOPICS[self.venue], self.desk.now_ms):
            self.take(message.payload)

    def take(self, payload: bytes) -> None:
        """A frame arrived."""
        for fact in self.session.parse(payload, 1):
            assert isinstance(fact, BookUpdate)
            self.sync.take(fact)

    def grant(self) -> None:
        """Do what the book needs."""
        if self.sync.wish is Wish.RESUBSCRIBE:
            self.sync.granted()
            self.subscribe()
        elif self.sync.wish is Wish.SNAPSHOT:
            self.sync.granted()
            plan = ADAPTERS[self.venue].book_plan(configuration.parse({}).venues.binance, self.contract)
            assert plan is not None
            body = self.desk.body("/fapi/v1/depth", symbol=self.name, limit=1000)
            (snapshot,) = ADAPTERS[self.venue].parse_reply(plan, body, 1, self.table)
            assert isinstance(snapshot, BookUpdate)
            self.sync.take(snapshot)
            if self.sync.state is not BookState.SYNCED:
                self.sync.failed()

    def step(self) -> None:
        """One step of the venue; a book that is shown and was told of is the true one."""
        self.frames.clear()
        self.desk.step()
        heard = False
        for message in self.frames:
            if self.random.random() < self.lost_share:
                self.lost += 1
                heard = False
            else:
                heard = True
                self.take(message.payload)
        self.grant()
        book = self.sync.shown
        if book is not None and heard:
            truth = self.desk.truth(self.name, COMPARED)
            assert np.array(book.bids[:COMPARED]) == pytest.approx(np.array(truth[BIDS]), rel=1e-12)
            assert np.array(book.asks[:COMPARED]) == pytest.approx(np.array(truth[ASKS]), rel=1e-12)
            self.checked += 1


@pytest.mark.parametrize("venue", list(TOPICS))
def test_the_projects_rules_follow_a_simulated_book_exactly(venue: Venue) -> None:
    follower = Follower(venue)
    for _ in range(100):
        follower.step()
    assert follower.checked > 90
    assert follower.sync.counts.sequence_gaps == 0
    assert follower.sync.counts.crossed == 0


@pytest.mark.parametrize("venue", list(TOPICS))
def test_every_lost_message_is_noticed_and_nothing_wrong_is_shown(venue: Venue) -> None:
    seed = random.randrange(2**31)
    follower = Follower(venue, lost_share=0.1, seed=seed)
    for _ in range(150):
        follower.step()
    follower.lost_share = 0.0
    for _ in range(5):
        follower.step()
    assert follower.lost > 0, f"seed {seed}"
    assert follower.sync.counts.sequence_gaps > 0
    assert follower.sync.state is BookState.SYNCED
    assert follower.checked > 60


@pytest.mark.parametrize("venue", list(TOPICS))
@pytest.mark.parametrize("what", ["restart", "reset_sequence"])
def test_a_restart_and_a_reset_of_the_numbers_leave_the_book_right(venue: Venue, what: str) -> None:
    follower = Follower(venue)
    for number in range(60):
        if number in (20, 40):
            getattr(follower.desk.feed.books, what)()
        follower.step()
    assert follower.sync.state is BookState.SYNCED
    assert follower.checked > 45


def test_a_snapshot_older_than_the_stream_is_asked_for_again_until_it_fits() -> None:
    follower = Follower(Venue.BINANCE)
    follower.desk.feed.books.hold_snapshots(5000)
    follower.desk.step(3)
    states = []
    for _ in range(60):
        follower.step()
        states.append(follower.sync.state)
    assert states[5] is not BookState.SYNCED
    assert states[-1] is BookState.SYNCED
    assert follower.sync.counts.sequence_gaps == 0

"""Whatever happened to a book, it becomes whole again once its venue behaves: no state is a dead end. And whatever
happens, the best prices that are shown meanwhile are the venue's."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from liqmap.domain.enums import BookState, GapReason
from liqmap.exchanges.adapter import BookRule, BookUpdate
from tests.unit.book_updates import VENUE_OF, ReferenceVenue
from tests.unit.test_depth_desk import NAMES, SECOND, Stage

CALM_S = 90.0
"""The longest backoff, and the patience with an answer that never came, each with room."""
REACH = 5
"""So many levels a side a snapshot by REST tells of."""


class Life:
    """One book of one venue and up to two connections to it, with everything that can go wrong."""

    def __init__(self, rule: BookRule, seed: int) -> None:
        self.rule, self.venue = rule, VENUE_OF[rule]
        self.stage, self.draw = Stage(draw=0.5), random.Random(seed)
        self.reference = ReferenceVenue(rule, seed + 1)
        self.source = f"{self.venue.name.lower()}/depth"
        self.open: list[int] = []
        self.unheard: set[int] = set()
        """Connections whose subscription was cancelled: the venue tells them nothing."""
        self.connections = 0
        self.old: list[BookUpdate] = [self._snapshot()]
        self.connect()

    def _named(self, update: BookUpdate) -> BookUpdate:
        return replace(update, instrument=NAMES["BTC"][self.venue])

    def _snapshot(self) -> BookUpdate:
        told = self._named(self.reference.snapshot())
        if self.rule is BookRule.BINANCE:
            told = replace(told, bids=tuple(sorted(told.bids)[-REACH:]), asks=tuple(sorted(told.asks)[:REACH]))
        return told

    def agrees(self) -> None:
        """The best prices on the board are those that stood there after the update of that number."""
        row = self.stage.row(self.venue)
        if row["state"] == BookState.SYNCED:
            bids, asks = self.reference.books[int(row["sequence"])]
            assert math.isnan(row["best_bid"]) or row["best_bid"] == max(bids)
            assert math.isnan(row["best_ask"]) or row["best_ask"] == min(asks)

    # What happens -------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """A rotation, or the first one; the stream begins with a snapshot where it brings them."""
        if len(self.open) < 2:
            self.connections += 1
            self.open.append(self.connections)
            if self.rule is not BookRule.BINANCE:
                self.stage.take(self._snapshot(), self.connections)

    def end(self) -> None:
        if self.open:
            number = self.open.pop(self.draw.randrange(len(self.open)))
            self.unheard.discard(number)
            self.stage.desk.ended(self.source, number, GapReason.DISCONNECTED, self.stage.now_ns)

    def tell(self, *, calm: bool = False) -> None:
        """An update, to every connection that listens; some lose it, some get it twice."""
        update = self._named(self.reference.step(calm=calm))
        for number in self.open:
            if number not in self.unheard:
                for _ in range(1 if calm else self.draw.choice((0, 2, *14 * (1,)))):
                    self.stage.take(update, number)

    def rotate_in_vain(self) -> None:
        """The new connection's book is whole, and then it is the new one that ends."""
        if len(self.open) == 1:
            self.connect()
            for happens in (self.tell, self.wait, lambda: self.answer(calm=True)):
                happens()
            newest = self.open.pop()
            self.stage.desk.ended(self.source, newest, GapReason.DISCONNECTED, self.stage.now_ns)

    def lose(self) -> None:
        if self.open:
            self.stage.desk.dropped(self.source, self.draw.choice(self.open), 3, self.stage.now_ns)

    def keep_a_snapshot(self) -> None:
        self.old.append(self._snapshot())

    def answer(self, *, calm: bool = False) -> None:
        """The oldest request: with the book of now or of once, with a refusal, or not at all."""
        if not self.stage.asked:
            return
        request = self.stage.asked.pop(0)
        fate = "now" if calm else self.draw.choice(("now", "once", "refused", "never"))
        if fate == "refused":
            self.stage.desk.refused(request, self.draw.choice((0.0, 3.0)), self.stage.now_ns)
        elif fate != "never":
            update = self._snapshot() if fate == "now" else self.draw.choice(self.old)
            self.stage.desk.snapshot(request, update, self.stage.now_ns)

    def obey(self, *, calm: bool = False) -> None:
        """The oldest order to a link, if its connection stands and the venue cares to hear it."""
        if not self.stage.said:
            return
        _, order = self.stage.said.pop(0)
        if order.connection not in self.open or (not calm and self.draw.random() < 0.2):
            return
        for text in order.texts:
            if "unsubscribe" in text:
                self.unheard.add(order.connection)
                if calm or self.draw.random() < 0.8:
                    stream = f"books:{NAMES['BTC'][self.venue]}"
                    self.stage.desk.acknowledged(self.source, order.connection, stream, self.stage.now_ns)
            else:
                self.unheard.discard(order.connection)
                self.stage.take(self._snapshot(), order.connection)

    def wait(self) -> None:
        self.stage.passes(self.draw.choice((0.05, 0.25, 1.0, 6.0, 20.0)))

    def renew(self) -> None:
        for shelf in self.stage.desk._shelves.values():
            shelf.renew()

    def goes_wrong(self, times: int) -> None:
        rare = (self.connect, self.end, self.rotate_in_vain, self.lose, self.keep_a_snapshot, self.renew)
        frequent: list[Callable[[], None]] = [self.wait, self.answer, self.obey, self.tell, self.tell]
        for _ in range(times):
            self.draw.choice((*rare, *3 * frequent))()
            self.agrees()

    def calms_down(self) -> None:
        """After a last harm one connection stands, updates come four times a second, and every answer at once."""
        while len(self.open) > 1:
            self.end()
        self.lose()
        if not self.open:
            self.connect()
        end_ns = self.stage.now_ns + int(CALM_S * SECOND)
        while self.stage.now_ns < end_ns:
            self.tell(calm=True)
            while self.stage.asked:
                self.answer(calm=True)
            while self.stage.said:
                self.obey(calm=True)
            self.stage.passes(0.25)
            self.agrees()


@pytest.mark.parametrize("rule", list(BookRule))
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), times=st.integers(0, 150))
def test_a_book_becomes_whole_again_whatever_happened_to_it(rule: BookRule, seed: int, times: int) -> None:
    life = Life(rule, seed)
    life.goes_wrong(times)
    life.calms_down()
    row = life.stage.row(life.venue)
    assert row["state"] == BookState.SYNCED
    assert (row["best_bid"], row["best_ask"]) == (max(life.reference.bids), min(life.reference.asks))

"""The depth desk: keeps every contract's order book in step with its venue. Part of the router, in its thread.

Books are told apart by contract and connection, so one that breaks concerns no other. What a book wishes for goes out
as a request to the venue's poller (a snapshot, charged to the venue's account like every request) or as an order to
the link (a new subscription). Each wish waits a jittered, doubling time, and snapshots are spread over time so that
many books that begin together do not spend the minute's weight at once. A book that is not whole is a gap of
Topic.DEPTH, from the moment it broke until it is whole again, and none of it is shown meanwhile.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from liqmap.config import DepthConfig, IngestConfig
from liqmap.domain.enums import GapReason, Kind, Topic, Venue
from liqmap.domain.event import Event
from liqmap.exchanges.adapter import BookUpdate, PollPlan
from liqmap.exchanges.booksync import Wish
from liqmap.ingest.backoff import Backoff
from liqmap.ingest.depth_board import DepthBoard
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.flow import EventFlow
from liqmap.ingest.link import Say
from liqmap.ingest.shelf import NEVER, Shelf, WantedBook
from liqmap.logs import fields

_PATIENCE_NS: Final = 15_000_000_000
"""A wish that was granted and brought no whole book in this time stands again."""
_ACKNOWLEDGED_NS: Final = 5_000_000_000
"""A cancellation that is not acknowledged in this time is taken for done."""
_PRUNE_NS: Final = 5_000_000_000
"""How often levels outside the band are given up."""
_RENEWAL_NS: Final = 30_000_000_000
_NEAR_AN_END: Final = 0.25
"""A book is renewed when price is nearer than this share of what it is complete for to an end of it, but not again
within that time."""
_PRESSING_NS: Final = 3_000_000_000
"""When price has left it altogether, so much must lie between two renewals."""
_ASTRAY_NS: Final = 1_000_000_000
"""A book that cannot be renewed begins anew when price has left it for so long: a sweep may be over sooner."""

_SHARE_FOR_SNAPSHOTS: Final = 0.25
"""Of a venue's request budget, in the long run."""
_BURST_NS: Final = 20_000_000_000
"""So much of that share may be spent at once."""

log = logging.getLogger(__name__)

Teller = Callable[[str, Say], None]
"""Gives an order to the link of that name."""
Asker = Callable[[PollPlan], None]
"""Hands a request to the venue's poller."""


class DepthDesk:
    """Owned by the router. `draw` returns a uniform number in [0, 1)."""

    def __init__(self, feeds: Feeds, flow: EventFlow, tell: Teller) -> None:
        self._feeds = feeds
        self._flow = flow
        self._tell = tell
        self._shelves: dict[tuple[Venue, str], Shelf] = {}
        self._boards: dict[str, DepthBoard] = {}
        self._heard: dict[str, set[int]] = {}
        """By link: the connections that have spoken."""
        self._settings = DepthConfig()
        self._sustained_ns = 0
        self._ask: Asker = _nobody_asks
        self._next_publish_ns = self._next_prune_ns = 0
        self._free_ns: dict[Venue, int] = {}

    def use(
        self,
        settings: tuple[DepthConfig, IngestConfig],
        wanted: Iterable[WantedBook],
        boards: Mapping[str, DepthBoard],
        ask: Asker,
        draw: Callable[[], float],
    ) -> None:
        """From now on keep these books. One that was kept already goes on."""
        depth, ingest = settings
        self._settings = depth
        self._sustained_ns = int(ingest.sustained_s * 1e9)
        self._ask = ask
        shelves: dict[tuple[Venue, str], Shelf] = {}
        for book in wanted:
            key = (book.instrument.venue, book.instrument.name)
            known = self._shelves.get(key)
            if known is not None and known.goes_on_as(book):
                known.wanted = book
                shelves[key] = known
            else:
                if known is not None and known.book is not None:
                    self._feeds.broke(known.feed, book.source, known.heard[0], GapReason.SEQUENCE)
                backoff = Backoff(ingest.backoff_first_s, ingest.backoff_ceiling_s, draw)
                shelves[key] = Shelf(book, depth.buffer_updates, backoff)
        self._shelves = shelves
        self._boards = dict(boards)

    # What comes in ------------------------------------------------------------------------------------------------

    def take(self, update: BookUpdate, source: str, connection: int, now_ns: int) -> bool:
        """An update that a connection brought. True when that connection may stand for its link: no book that is
        whole by another connection would be lost with that one."""
        shelf = self._shelves.get((update.venue, update.instrument))
        if shelf is None or shelf.wanted.source != source:
            return True
        heard = self._heard.setdefault(source, set())
        heard.add(connection)
        shelf.take(update, connection, now_ns)
        self._follow(shelf, now_ns, GapReason.SEQUENCE, spoke=True)
        return len(heard) < 2 or not any(
            other.would_lose_by(connection) for other in self._shelves.values() if other.wanted.source == source
        )

    def dropped(self, source: str, connection: int, count: int, now_ns: int) -> None:
        """Frames of that connection were given up under load before anybody read them."""
        for shelf in self._shelves.values():
            sync = shelf.syncs.get(connection)
            if shelf.wanted.source == source and sync is not None:
                sync.lose(count)
                shelf.settle()
                shelf.version += 1
                self._follow(shelf, now_ns, GapReason.OVERRUN)

    def ended(self, source: str, connection: int, gap: GapReason, now_ns: int) -> None:
        """That connection is gone, and the books it told of with it."""
        self._heard.get(source, set()).discard(connection)
        for shelf in self._shelves.values():
            if shelf.wanted.source == source and shelf.syncs.pop(connection, None) is not None:
                shelf.version += 1
                shelf.settle()
                self._follow(shelf, now_ns, gap)

    def acknowledged(self, source: str, connection: int, stream: str, now_ns: int) -> None:
        """The venue has cancelled a subscription that we gave back."""
        for shelf in self._shelves.values():
            wanted = shelf.wanted
            if wanted.source == source and wanted.stream.name == stream and shelf.acknowledged_by == connection:
                self._subscribe(shelf, connection, now_ns)

    def snapshot(self, request: PollPlan, update: BookUpdate, now_ns: int) -> None:
        """The answer to a request for a snapshot. One that was not asked for that contract is nobody's."""
        shelf = self._shelves.get((update.venue, update.instrument))
        if shelf is None or shelf.wanted.request is None or shelf.wanted.request.name != request.name:
            log.warning("snapshot of nobody's book", extra=fields(asked=request.name, instrument=update.instrument))
            return
        for connection, sync in shelf.syncs.items():
            if sync.shown is None or sync.renewing:
                shelf.take(update, connection, now_ns)
        shelf.asked_ns = now_ns  # also one that the stream has yet to come to is not waited for for ever
        shelf.settle()
        self._follow(shelf, now_ns, GapReason.SEQUENCE)

    def refused(self, request: PollPlan, delay_s: float, now_ns: int) -> None:
        """A request for a snapshot gave nothing; the next one may be made after `delay_s` at the earliest."""
        for shelf in self._shelves.values():
            if shelf.wanted.request is not None and shelf.wanted.request.name == request.name:
                self._give_up(shelf)
                shelf.next_ask_ns = now_ns + int(max(delay_s, shelf.backoff.next_s()) * 1e9)

    # What follows -------------------------------------------------------------------------------------------------

    def _follow(self, shelf: Shelf, now_ns: int, reason: GapReason, spoke: bool = False) -> None:
        """Tell the feeds whether the book is there, and each change of it once."""
        was_whole = shelf.whole_since_ns != NEVER
        whole = shelf.choose()
        source = shelf.wanted.source
        if whole:
            self._feeds.note(shelf.feed, source, now_ns)
        elif spoke:
            self._feeds.spoke_in_part(shelf.feed, source, now_ns)
        if whole == was_whole:
            return
        said = {"venue": shelf.feed.venue.name.lower(), "instrument": shelf.wanted.instrument.name}
        if whole:
            shelf.whole_since_ns = now_ns
            shelf.next_ask_ns = NEVER
            shelf.settle()
            log.info("order book is whole", extra=fields(**said))
        else:
            shelf.whole_since_ns = NEVER
            shelf.told_mid = float("nan")
            self._feeds.broke(shelf.feed, source, now_ns, reason)
            said["reason"] = reason.name.lower()
            if reason in (GapReason.SEQUENCE, GapReason.OVERRUN):
                log.warning("order book is broken", extra=fields(**said))
            else:
                log.info("order book is gone", extra=fields(**said))

    def turn(self, now_ns: int) -> None:
        """Grant what is wished for and may be; tell middles and paint boards when it is time."""
        due = []
        for shelf in self._shelves.values():
            shelf.hush(self._feeds.is_silent(shelf.feed))
            if self._attend(shelf, now_ns):
                due.append(shelf)
        for shelf in sorted(due, key=lambda shelf: shelf.next_ask_ns):
            self._grant(shelf, now_ns)
        if now_ns < self._next_publish_ns:
            return
        self._next_publish_ns = now_ns + self._settings.publish_ms * 1_000_000
        if now_ns >= self._next_prune_ns:
            self._next_prune_ns = now_ns + _PRUNE_NS
            for shelf in self._shelves.values():
                self._prune(shelf)
                self._renew(shelf, now_ns)
        for shelf in self._shelves.values():
            self._mend_astray(shelf, now_ns)
            self._tell_mid(shelf, now_ns)
        for symbol, board in self._boards.items():
            board.look(now_ns, [shelf for shelf in self._shelves.values() if shelf.feed.symbol == symbol])

    def _attend(self, shelf: Shelf, now_ns: int) -> bool:
        """Whether a wish of that book is due."""
        if shelf.whole_since_ns != NEVER and now_ns - shelf.whole_since_ns > self._sustained_ns:
            shelf.backoff.reset()
        if shelf.acknowledged_by is not None and now_ns - shelf.asked_ns > _ACKNOWLEDGED_NS:
            self._subscribe(shelf, shelf.acknowledged_by, now_ns)
        elif shelf.asked_ns != NEVER and now_ns - shelf.asked_ns > _PATIENCE_NS:
            self._give_up(shelf)
        if shelf.asked_ns != NEVER or all(sync.wish is Wish.NOTHING for sync in shelf.syncs.values()):
            return False
        if shelf.next_ask_ns == NEVER:
            renewal = shelf.whole_since_ns != NEVER  # which has its pace from elsewhere
            shelf.next_ask_ns = now_ns + (0 if renewal else int(shelf.backoff.next_s() * 1e9))
        return now_ns >= shelf.next_ask_ns

    def _grant(self, shelf: Shelf, now_ns: int) -> None:
        for connection, sync in shelf.syncs.items():
            if sync.wish is Wish.RESUBSCRIBE:
                self._resubscribe(shelf, connection, now_ns)
                return
        request = shelf.wanted.request
        if request is None or not self._may_ask(shelf, request, now_ns):
            return
        for sync in shelf.syncs.values():
            if sync.wish is Wish.SNAPSHOT:
                sync.granted()
        shelf.asked_ns, shelf.next_ask_ns = now_ns, NEVER
        self._ask(request)

    def _may_ask(self, shelf: Shelf, request: PollPlan, now_ns: int) -> bool:
        """Spread snapshots: a burst may go out at once, then as many as their share of the budget allows. Renewals
        leave half of the burst to books that are not there at all."""
        budget = next(budget for budget in shelf.wanted.adapter.budgets if budget.name == request.budget)
        cost_ns = int(request.weight * budget.per_s / (budget.limit * _SHARE_FOR_SNAPSHOTS) * 1e9)
        free_ns = max(self._free_ns.get(request.venue, 0), now_ns - _BURST_NS)
        kept_ns = 0 if shelf.whole_since_ns == NEVER else _BURST_NS // 2
        if free_ns + kept_ns > now_ns:
            return False
        self._free_ns[request.venue] = free_ns + cost_ns
        return True

    def _resubscribe(self, shelf: Shelf, connection: int, now_ns: int) -> None:
        shelf.syncs[connection].granted()
        shelf.asked_ns, shelf.next_ask_ns = now_ns, NEVER
        wanted = shelf.wanted
        self._tell(wanted.source, Say(connection, wanted.adapter.unsubscribe_texts([wanted.stream])))
        if wanted.adapter.resubscribes_once_acknowledged:
            shelf.acknowledged_by = connection
        else:
            self._subscribe(shelf, connection, now_ns)

    def _subscribe(self, shelf: Shelf, connection: int, now_ns: int) -> None:
        shelf.acknowledged_by, shelf.asked_ns = None, now_ns
        wanted = shelf.wanted
        self._tell(wanted.source, Say(connection, wanted.adapter.subscribe_texts([wanted.stream])))

    def _give_up(self, shelf: Shelf) -> None:
        shelf.asked_ns, shelf.acknowledged_by = NEVER, None
        for sync in shelf.syncs.values():
            if sync.shown is None or sync.renewing:
                sync.failed()

    # What goes out ------------------------------------------------------------------------------------------------

    def _prune(self, shelf: Shelf) -> None:
        book = shelf.book
        board = self._boards.get(shelf.feed.symbol)
        if book is not None and board is not None and not book.crossed:
            shelf.dropped_levels += book.prune(board.reach)

    def _mend_astray(self, shelf: Shelf, now_ns: int) -> None:
        """Price has left what the book is complete for: it hides its best price, and what stands there is asked for."""
        book = shelf.book
        if book is None or not book.astray:
            shelf.astray_ns = NEVER
        elif shelf.wanted.request is not None:
            if now_ns - shelf.renewed_ns >= _PRESSING_NS:
                shelf.renewed_ns = now_ns
                shelf.renew()
        elif shelf.astray_ns == NEVER:
            shelf.astray_ns = now_ns
        elif now_ns - shelf.astray_ns >= _ASTRAY_NS:
            shelf.astray_ns = NEVER
            shelf.syncs[shelf.shown_by].break_off()
            shelf.version += 1
            self._follow(shelf, now_ns, GapReason.SEQUENCE)

    def _renew(self, shelf: Shelf, now_ns: int) -> None:
        """A snapshot reaches a few tenths of a percent at Binance: ask for another one before price has left it."""
        book = shelf.book
        if book is None or shelf.wanted.request is None or now_ns - shelf.renewed_ns < _RENEWAL_NS:
            return
        low, high = book.complete
        if min(book.mid - low, high - book.mid) < _NEAR_AN_END * (high - low):
            shelf.renewed_ns = now_ns
            shelf.renew()

    def _tell_mid(self, shelf: Shelf, now_ns: int) -> None:
        """At most one event per book and publication, and only what changed."""
        book = shelf.book
        mid = float("nan") if book is None else book.mid
        if not mid > 0 or mid == shelf.told_mid:
            return
        shelf.told_mid = mid
        event = Event(
            receive_ns=now_ns,
            venue_ms=shelf.heard[1],
            price=mid,
            kind=Kind.MID_PRICE,
            venue=shelf.feed.venue,
            topic=Topic.DEPTH,
            instrument=shelf.wanted.instrument.number,
        )
        self._flow.take(event, shelf.wanted.source)


def _nobody_asks(_request: PollPlan) -> None:
    """No books are kept yet."""

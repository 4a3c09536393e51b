"""What polls bring: bodies of REST replies, and polls that gave nothing. Part of the router, in the router's thread."""

from dataclasses import dataclass
from typing import Protocol

from liqmap.domain.enums import GapReason, Topic
from liqmap.domain.event import Event
from liqmap.domain.instrument import InstrumentTable
from liqmap.exchanges.adapter import Adapter, BookUpdate, Fact, Malformed, PollPlan, VenueTime
from liqmap.ingest.desk import DepthDesk
from liqmap.ingest.engine_time import EngineTime
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.flow import EventFlow
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import LinkState, Polled, PollFailed
from liqmap.ingest.set_aside import SetAside


class ListingTaker(Protocol):
    """Takes lists of contracts."""

    def __call__(self, asked: PollPlan, body: bytes, *, first: bool) -> None:
        """The first page of a list, or a later one; `asked` is the poll of the first. Raises Malformed."""


class TierTaker(Protocol):
    """Takes margin tiers."""

    def __call__(self, asked: PollPlan, body: bytes, now_ns: int) -> None:
        """What a venue said of its tiers, at engine time `now_ns`. Raises Malformed."""


@dataclass(slots=True)
class Asker:
    """The router's side of one poll."""

    plan: PollPlan
    adapter: Adapter


def _untaken(asked: PollPlan, body: bytes, *, first: bool) -> None:
    """Nobody keeps instrument lists."""
    del asked, body, first


def _tiers_untaken(asked: PollPlan, body: bytes, now_ns: int) -> None:
    """Nobody compares margin tiers."""
    del asked, body, now_ns


class Replies:
    """Owned by the router."""

    def __init__(self, feeds: Feeds, time: EngineTime, flow: EventFlow, set_aside: SetAside, desk: DepthDesk) -> None:
        self._feeds = feeds
        self._time = time
        self._flow = flow
        self._set_aside = set_aside
        self._desk = desk
        self._instruments = InstrumentTable(())
        self.take_listing: ListingTaker = _untaken
        self.take_tiers: TierTaker = _tiers_untaken
        self.askers: dict[str, Asker] = {}

    def use(self, instruments: InstrumentTable) -> None:
        """From now on read replies with these contracts."""
        self._instruments = instruments

    def polled(self, message: Polled) -> None:
        """A reply with status 200."""
        asker = self.askers[message.source]
        now_ns = self._time.at(message.receive_ns)
        source = self._feeds.sources[message.source]
        source.frames += 1
        source.size += len(message.body)
        source.last_frame_ns = now_ns
        try:
            facts = self._facts(asker, message, now_ns)
        except Malformed as error:
            self._set_aside.take(message.source, now_ns, error.why, error.field, message.body, len(message.body))
            if asker.plan.topic is Topic.DEPTH:
                self._desk.refused(asker.plan, 0.0, now_ns)
            elif asker.plan.topic is Topic.MARGINS:
                self._margins_untold(asker.plan, error.why)
            return
        source.state, source.reason, source.delay_s = LinkState.UP, "", 0.0
        self._feeds.heard(message.source, now_ns)
        for fact in facts:
            if isinstance(fact, Event):
                if asker.plan.symbols:
                    self._flow.take(fact, message.source)
                else:
                    self._flow.pass_on(fact, message.source)
            elif isinstance(fact, VenueTime):
                self._feeds.venues[fact.venue].clock.answered(message.asked_ns, message.receive_ns, fact.time_ms)
                self._answered(message.source, now_ns)
            elif isinstance(fact, BookUpdate):
                self._desk.snapshot(asker.plan, fact, now_ns)

    def _facts(self, asker: Asker, message: Polled, now_ns: int) -> tuple[Fact, ...]:
        """What the reply says. Raises Malformed."""
        if asker.plan.topic is Topic.INSTRUMENTS:
            self.take_listing(asker.plan, message.body, first=message.plan is None)
        elif asker.plan.topic is Topic.MARGINS:
            self.take_tiers(asker.plan, message.body, now_ns)
        else:
            return tuple(asker.adapter.parse_reply(asker.plan, message.body, now_ns, self._instruments))
        self._answered(message.source, now_ns)
        return ()

    def _answered(self, source: str, now_ns: int) -> None:
        """A poll whose answer is no event has spoken, too."""
        for feed in self._feeds.sources[source].feeds:
            self._feeds.note(feed, source, now_ns)

    def failed(self, message: PollFailed) -> None:
        """A poll that gave nothing: what it should have told is missing."""
        now_ns = self._time.at(message.at_ns)
        plan = self.askers[message.source].plan
        if plan.topic is Topic.MARGINS:
            self._margins_untold(plan, message.reason)
            return  # no map is worse for it: the age of what was told before says all
        if plan.topic is Topic.DEPTH:
            self._desk.refused(plan, message.delay_s, now_ns)
            book = self._feeds.feeds.get(Feed(plan.venue, Topic.DEPTH, plan.symbols[0]))
            if book is not None and not book.missing:
                return  # of a book that is whole: nothing is missing, and nobody may ask again and withdraw it
        source = self._feeds.sources[message.source]
        refused = message.gap is GapReason.REFUSED
        source.state = LinkState.REFUSED if refused else LinkState.BACKOFF
        source.reason, source.delay_s = message.reason, message.delay_s
        self._feeds.lost(message.source, message.gap, now_ns)

    def _margins_untold(self, plan: PollPlan, reason: str) -> None:
        """Nothing was compared: what was found before stands, with its age."""
        standing = self._feeds.margins.get((plan.venue, plan.symbols[0]))
        if standing is not None:
            standing.reason = reason

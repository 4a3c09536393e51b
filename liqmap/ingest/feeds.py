"""What is known of every feed: freshness, silence, gaps, and why. The router's thread owns it, `feeds_board` paints it.

A *source* is a link or a poll; a *feed* is one topic of one symbol at one venue, carried by a source. A feed that
should speak and does not, on a connection that stands, while others speak, is **silent**: the failure that no
reconnect announces. Quiet feeds (liquidations) are never silent by themselves, but they are missing when everything
else on their source is silent.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from liqmap.domain.enums import GapReason, Topic, Venue
from liqmap.ingest.gaps import Feed, GapList
from liqmap.ingest.handoff import LinkState
from liqmap.ingest.margin_standing import MarginStanding
from liqmap.ingest.venue_clock import VenueClock
from liqmap.ingest.witnesses import Witnesses
from liqmap.store.journal import Standing

_SLOWNESS: Final = {
    Topic.TRADE: 2.0,
    Topic.OPEN_INTEREST: 4.0,
    Topic.FUNDING: 10.0,
    Topic.RATIO: 30.0,
    Topic.INSTRUMENTS: 60.0,
}
"""How many times `silent_after_s` a topic may rest, from the cadences at which venues speak; 1 for the others."""

_BOOK_AT_REST: Final = 2.5
"""The same of an order book where nothing is traded: OKX tells of one at rest once a minute."""

_GRAVER: Final = {
    GapReason.NOT_CONNECTED: frozenset({GapReason.REFUSED}),
    GapReason.DISCONNECTED: frozenset({GapReason.REFUSED}),
    GapReason.SEQUENCE: frozenset({GapReason.NOT_CONNECTED, GapReason.DISCONNECTED, GapReason.REFUSED}),
    GapReason.OVERRUN: frozenset({GapReason.NOT_CONNECTED, GapReason.DISCONNECTED, GapReason.REFUSED}),
}
"""What an open gap is called anew for. Silence stays silence while the link tries again and again."""

_STANDING: Final = (LinkState.UP, LinkState.OPEN)
"""A connection is open: what it carries should speak."""

_MS: Final = 1_000_000


@dataclass(slots=True)
class FeedState:
    """One feed. Times are engine ns, -1: never."""

    source: str
    quiet: bool
    since_ns: int
    every_s: float = 0.0
    """Of a poll: its rhythm."""
    events: int = 0
    last_event_ns: int = -1
    gaps: int = 0
    silent: bool = False
    missing: bool = False
    heard_ns: int = -1
    """Since its last event, when a connection (or a reply) first stood that should have carried it."""
    lost_by: set[str] = field(default_factory=set)
    """Sources of it that are gone or gave nothing. Several polls may carry one feed (three ratios are one topic): it is
    back when all of them are."""


@dataclass(slots=True)
class SourceState:
    """One link or poll."""

    venue: Venue
    name: str
    is_link: bool
    state: LinkState = LinkState.CONNECTING
    reason: str = ""
    complaints: dict[int, str] = field(default_factory=dict)
    """What the venue said about a subscription, in its words, by connection."""
    delay_s: float = 0.0
    reconnects: int = 0
    frames: int = 0
    size: int = 0
    dropped: int = 0
    opened_ns: int = -1
    last_frame_ns: int = -1
    feeds: dict[Feed, None] = field(default_factory=dict)
    """In order: the gaps of a recording that is played again must come in the order in which they came."""

    @property
    def complaint(self) -> str:
        """Of the newest connection that has one."""
        return self.complaints[max(self.complaints)] if self.complaints else ""


@dataclass(slots=True)
class VenueState:
    """What is counted per venue."""

    enabled: bool = True
    malformed: int = 0
    refused_rows: Counter[str] = field(default_factory=Counter)
    """Configured instruments whose contract size nobody told us, with the rows refused for it so far."""
    problems: dict[str, str] = field(default_factory=dict)
    """Standing problems in words, by a key that lets them be withdrawn."""
    lag_ms: float = float("nan")
    clock: VenueClock = field(default_factory=VenueClock)
    budget_used: float = 0.0
    """Share of the tightest request budget that is spent now."""


class Feeds:
    """All of it. Nothing here asks for the time: `now_ns` is engine time and comes from the caller."""

    def __init__(self, silent_after_s: float) -> None:
        self._silent_after_s = silent_after_s
        self.feeds: dict[Feed, FeedState] = {}
        self.sources: dict[str, SourceState] = {}
        self.venues: dict[Venue, VenueState] = {}
        self.gaps = GapList()
        self.kept_until: dict[str, tuple[int, GapReason]] = {}
        """By symbol, until when (engine ns) an ingest before this one kept its events, and why not longer."""
        self._told_before: dict[Feed, int] = {}
        """Until when a feed was kept before this ingest, where that was told: it is told once."""
        self.journal = Standing()
        self.capture = Standing()
        self.margins: dict[tuple[Venue, str], MarginStanding] = {}
        """What venues publish of their margin tiers, against what is in use."""
        self.quarantined = 0
        self.finished = False

    def follow(
        self, source: str, state: SourceState, feeds: Iterable[tuple[Feed, bool]], now_ns: int, every_s: float = 0.0
    ) -> None:
        """A source is to carry these (feed, quiet); what is new begins as not connected, what is gone is forgotten."""
        known = self.sources.setdefault(source, state)
        wanted: dict[Feed, bool] = {}
        for feed, quiet in feeds:  # several streams may carry one feed: it may be quiet only if all of them may
            wanted[feed] = quiet and wanted.get(feed, True)
        for feed in known.feeds.keys() - wanted.keys():
            self._leave(feed, source, now_ns)
        for feed, quiet in wanted.items():
            if feed not in known.feeds:
                self._begin(feed, source, quiet, now_ns, every_s)
        known.feeds = dict.fromkeys(wanted)

    def unfollow(self, source: str, now_ns: int) -> None:
        """A source is no longer wanted."""
        state = self.sources.pop(source, None)
        for feed in state.feeds if state else ():
            self._leave(feed, source, now_ns)

    def _leave(self, feed: Feed, source: str, now_ns: int) -> None:
        """A source no longer carries a feed; if no other one does, it is no longer wanted."""
        others = [name for name, other in self.sources.items() if name != source and feed in other.feeds]
        state = self.feeds.get(feed)
        if others and state is not None:
            state.lost_by.discard(source)
            state.source = others[0]
        else:
            self.drop(feed, now_ns)

    def drop(self, feed: Feed, now_ns: int) -> None:
        """A feed is no longer wanted."""
        if self.feeds.pop(feed, None) is not None:
            self.gaps.forget(feed, now_ns // _MS)

    def _begin(self, feed: Feed, source: str, quiet: bool, now_ns: int, every_s: float) -> None:
        if feed not in self.feeds:
            stands = self.sources[source].state in _STANDING  # no opening will come that it could be heard from
            self.feeds[feed] = FeedState(source, quiet, now_ns, every_s, heard_ns=now_ns if stands else -1)
            if feed.symbol:
                self._missed_before(feed, now_ns)
                self._miss(feed, GapReason.NOT_CONNECTED)
        if feed.symbol:
            self.feeds[feed].lost_by.add(source)

    def _missed_before(self, feed: Feed, now_ns: int) -> None:
        """What went by between an ingest before this one and now is a gap of its own, known from its end to its end."""
        until_ns, reason = self.kept_until.get(feed.symbol, (now_ns, GapReason.STOPPED))
        if until_ns < now_ns and self._told_before.get(feed) != until_ns:
            self._told_before[feed] = until_ns
            self.gaps.open(feed, until_ns // _MS, reason)
            self.gaps.close(feed, now_ns // _MS)

    def state_of(self, feed: Feed, source: str, now_ns: int) -> FeedState:
        """The state of a feed. One that nobody announced (a stream may carry several) is followed from here."""
        state = self.feeds.get(feed)
        if state is None:
            state = self.feeds[feed] = FeedState(source, True, now_ns)
            self.sources[source].feeds[feed] = None
        return state

    def note(self, feed: Feed, source: str, now_ns: int, events: int = 1) -> None:
        """Facts came by it."""
        state = self.state_of(feed, source, now_ns)
        state.events += events
        state.last_event_ns = now_ns
        state.heard_ns = -1
        if state.missing:
            self._back(feed, state, source, now_ns)
        else:
            state.silent = False  # of no symbol (a list, the clock): never missing, yet silent

    def repeated(self, feed: Feed, source: str, now_ns: int) -> None:
        """What came by it was known already: it is there, but it is no news, and silence is not broken by it."""
        state = self.state_of(feed, source, now_ns)
        if state.missing and not state.silent:
            self._back(feed, state, source, now_ns)

    def _back(self, feed: Feed, state: FeedState, source: str, now_ns: int) -> None:
        """One of its sources speaks again."""
        state.lost_by.discard(source)
        if not state.lost_by:
            self._found(feed, state, now_ns)

    def _found(self, feed: Feed, state: FeedState, now_ns: int) -> None:
        state.missing = state.silent = False
        self.gaps.close(feed, now_ns // _MS)

    def broke(self, feed: Feed, source: str, now_ns: int, reason: GapReason) -> None:
        """What came by it adds up to nothing any more (an order book out of sequence): missing until the next fact."""
        if self.state_of(feed, source, now_ns).missing:
            return
        self._miss(feed, reason)

    def spoke_in_part(self, feed: Feed, source: str, now_ns: int) -> None:
        """Something came by it that is no whole fact (an update of a book that is not whole): it is not silent, and as
        missing as before."""
        state = self.state_of(feed, source, now_ns)
        if state.silent:
            state.silent = False
            self._miss(feed, GapReason.SEQUENCE)
        state.events += 1
        state.last_event_ns = now_ns
        state.heard_ns = -1

    def confirmed(self, source: str, now_ns: int) -> None:
        """Market data came on the source: its quiet feeds are listened to again."""
        for feed in self.sources[source].feeds:
            state = self.feeds[feed]
            if state.quiet and state.missing:
                self._back(feed, state, source, now_ns)

    def heard(self, source: str, now_ns: int) -> None:
        """The source stands (a connection opened, a reply came): from now on its feeds should speak."""
        for feed in self.sources[source].feeds:
            state = self.feeds[feed]
            if state.heard_ns < 0:
                state.heard_ns = now_ns

    def lost(self, source: str, reason: GapReason, now_ns: int) -> None:
        """The source is gone or gave nothing: everything it carries is missing since it last spoke."""
        for feed in self.sources[source].feeds:
            if not feed.symbol:
                continue
            self.feeds[feed].lost_by.add(source)
            known = self.gaps.reason(feed)
            if known is None or reason in _GRAVER.get(known, ()):
                self._miss(feed, reason, now_ns)

    def overran(self, source: str, now_ns: int) -> None:
        """Frames of the source were given up under load: what it carries was not listened to since its last frame.
        Order books are left out: whether one is whole is known by its sequence."""
        known = self.sources[source]
        for feed in known.feeds:
            if feed.topic is not Topic.DEPTH and feed.symbol:
                self._was_missing(feed, known.last_frame_ns, now_ns, GapReason.OVERRUN)

    def skipped(self, feed: Feed, now_ns: int) -> None:
        """Facts of it were lost on a connection that stands, as the numbers of what came show: since its last one."""
        self._was_missing(feed, self.feeds[feed].last_event_ns, now_ns, GapReason.SEQUENCE)

    def _was_missing(self, feed: Feed, from_ns: int, until_ns: int, reason: GapReason) -> None:
        """A gap that is over as soon as it is known; one that is open already tells of it."""
        state = self.feeds[feed]
        if not state.missing:
            self.gaps.open(feed, max(from_ns, state.since_ns) // _MS, reason)
            self.gaps.close(feed, until_ns // _MS)
            state.gaps += 1

    def _miss(self, feed: Feed, reason: GapReason, now_ns: int = -1) -> None:
        state = self.feeds[feed]
        from_ns = max(state.last_event_ns, state.since_ns)
        if state.quiet and now_ns >= 0:
            # Silence of a quiet feed was listened to up to now.
            from_ns = max(from_ns, self.sources[state.source].last_frame_ns)
        state.missing = True
        if self.gaps.open(feed, from_ns // _MS, reason):
            state.gaps += 1

    def stopped(self, now_ns: int) -> None:
        """We end: nothing is listened to from here."""
        for source in self.sources:
            self.lost(source, GapReason.STOPPED, now_ns)

    def look(self, now_ns: int) -> list[Feed]:
        """Find feeds that became silent; returns them."""
        witnesses = Witnesses(
            (feed, self.sources[state.source].is_link)
            for feed, state in self.feeds.items()
            if state.source in self.sources and self._spoke(state, now_ns)
        )
        news = []
        # Probes first: whether a quiet feed is missing depends on them.
        for feed, state in sorted(self.feeds.items(), key=lambda item: item[1].quiet):
            if not state.silent and self._is_silent(feed, state, now_ns, witnesses):
                state.silent = True
                if feed.symbol:
                    self._miss(feed, GapReason.SILENT)
                news.append(feed)
        return news

    def _spoke(self, state: FeedState, now_ns: int) -> bool:
        return state.last_event_ns >= 0 and now_ns - state.last_event_ns <= self._silent_after_s * 1e9

    def _is_silent(self, feed: Feed, state: FeedState, now_ns: int, witnesses: Witnesses) -> bool:
        if state.heard_ns < 0 and state.last_event_ns < 0:
            return False
        if state.quiet:
            return self._probes_are_silent(state, now_ns)
        source = self.sources.get(state.source)
        if source is None or (state.heard_ns < 0 and source.state not in _STANDING):
            return False
        slowness = _BOOK_AT_REST if feed.topic is Topic.DEPTH and not witnesses.trades(feed) else None
        return self._rests(feed, state, now_ns, slowness) and witnesses.expect(feed)

    def _rests(self, feed: Feed, state: FeedState, now_ns: int, slowness: float | None = None) -> bool:
        """It says nothing for longer than the pauses between its words are."""
        times = _SLOWNESS.get(feed.topic, 1.0) if slowness is None else slowness
        patience_s = max(self._silent_after_s * times, 3.0 * state.every_s)
        return now_ns - max(state.heard_ns, state.last_event_ns) > patience_s * 1e9

    def _probes_are_silent(self, state: FeedState, now_ns: int) -> bool:
        """Of what should speak on the source something is silent, and nothing else of it spoke lately."""
        source = self.sources.get(state.source)
        probes = {feed: self.feeds[feed] for feed in source.feeds if not self.feeds[feed].quiet} if source else {}
        return any(probe.silent for probe in probes.values()) and all(
            self._rests(feed, probe, now_ns) for feed, probe in probes.items()
        )

    def gap_ms(self, feed: Feed, now_ns: int) -> int:
        """How long it was missing in all."""
        return self.gaps.total_ms(feed, now_ns // _MS)

    def is_silent(self, feed: Feed) -> bool:
        """Whether it says nothing although it should; one that nobody follows does not."""
        state = self.feeds.get(feed)
        return state is not None and state.silent

    def is_missing(self, feed: Feed) -> bool:
        """Not delivering now."""
        return self.feeds[feed].missing

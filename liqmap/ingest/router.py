"""The router: the one place where frames become numbered events, and the one thread that owns what is mutable.

Links and polls listen in threads of their own and hand over frozen messages; whatever is decided, counted or written
is decided, counted and written here, in order of arrival. What a link has to know comes back to it as an order through
its own queue. Calling the router from a second thread raises `WrongThread` at once: it would be a bug, not a race.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from liqmap.clock import Clock
from liqmap.config import IngestConfig
from liqmap.domain.enums import GapReason, Kind, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import InstrumentTable
from liqmap.exchanges.adapter import (
    BookUpdate,
    Control,
    ControlKind,
    Fact,
    Ignored,
    Malformed,
    Session,
)
from liqmap.exchanges.prints import Prints, event_of
from liqmap.ingest.desk import DepthDesk
from liqmap.ingest.engine_time import EngineTime
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.flow import EventFlow
from liqmap.ingest.handoff import (
    BadFrames,
    Changed,
    Ended,
    Frames,
    Handoff,
    LinkState,
    Message,
    Opened,
    Polled,
    PollFailed,
)
from liqmap.ingest.lanes import Lane
from liqmap.ingest.link import Delivering, Rotate
from liqmap.ingest.listener import Listener
from liqmap.ingest.merge import Overlap
from liqmap.ingest.remarks import heed
from liqmap.ingest.remedy import Remedy
from liqmap.ingest.replies import Replies
from liqmap.ingest.set_aside import SetAside
from liqmap.logs import fields
from liqmap.store.quarantine import Quarantine

_REMIND_NS: Final = 1_000_000_000
"""A link is told at most once in this time that it delivers."""

_LOOK_NS: Final = 250_000_000

_OVERLAP_NS: Final = 10_000_000_000
"""How long after the old connection of a rotation was closed the new one may still bring what the old one brought."""

log = logging.getLogger(__name__)


class WrongThread(RuntimeError):
    """Two threads touched the router."""


class FrameLog(Protocol):
    """What writes down everything the router acts on, in the order in which it does (`capturing`): each message before
    it is handled, and the clocks of each turn. Played again, it makes the same events."""

    def took(self, message: Message, engine_ns: int) -> None:
        """This message is handled now."""

    def turned(self, wall_ns: int, monotonic_ns: int) -> None:
        """What waited is handled; the clocks say this."""


class Router:
    """Owned by one thread: the first that calls `turn` (or anything else)."""

    def __init__(
        self,
        settings: IngestConfig,
        clock: Clock,
        handoff: Handoff,
        feeds: Feeds,
        quarantine: Quarantine,
        speed: float = 1.0,
    ) -> None:
        """`speed`: of engine time against the wall, other than 1 in a replay of frames."""
        self._settings = settings
        self._clock = clock
        self._handoff = handoff
        self.feeds = feeds
        self._speed = speed
        self.lanes: dict[str, Lane] = {}
        self.listeners: dict[str, Listener] = {}
        self._instruments = InstrumentTable(())
        self.time = EngineTime(clock.now_ns(), clock.monotonic_ns())
        self.flow = EventFlow(feeds, self.time)
        self.set_aside = SetAside(feeds, quarantine)
        self.desk = DepthDesk(feeds, self.flow, lambda source, order: self.listeners[source].orders.put(order))
        self.replies = Replies(feeds, self.time, self.flow, self.set_aside, self.desk)
        self._remedy = Remedy()
        self._next_tick_ns = self._next_look_ns = 0
        self.frame_log: FrameLog | None = None
        self._owner: int | None = None
        self.frames = 0

    def use(self, instruments: InstrumentTable, lanes: dict[str, Lane]) -> None:
        """From now on: these instruments, these symbols. Open connections go on with the new table."""
        self._own()
        self._instruments = instruments
        self.lanes = lanes
        self.flow.use(instruments, lanes)
        self.replies.use(instruments)
        for listener in self.listeners.values():
            listener.begin_anew()
            for session in listener.sessions.values():
                session.use(instruments)

    @property
    def instruments(self) -> InstrumentTable:
        """Those in use."""
        return self._instruments

    # The loop -----------------------------------------------------------------------------------------------------

    def turn(self, timeout_s: float) -> bool:
        """Deal with everything that waits (at most `timeout_s` of waiting for it). True when the feeds were looked at.

        The rings are written once per symbol for all of it; a TICK follows when it is due.
        """
        self._own()
        for message in self._handoff.take(timeout_s):
            if self.frame_log is not None:
                self.frame_log.took(message, self.time.now_ns)
            self._handle(message)
        wall_ns, monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        if self.frame_log is not None:
            self.frame_log.turned(wall_ns, monotonic_ns)
        now_ns = self._look_at_clocks(wall_ns, monotonic_ns)
        self.desk.turn(now_ns)
        looked = monotonic_ns >= self._next_look_ns
        if looked:
            self._next_look_ns = monotonic_ns + _LOOK_NS
            self._look(now_ns)
        for lane in self.lanes.values():
            lane.flush()
        return looked

    def stop(self) -> None:
        """Everything that is listened to ends here: say so in every ring."""
        self._own()
        self.feeds.stopped(self.time.now_ns)
        self._tell_gaps(self.time.now_ns)
        for lane in self.lanes.values():
            lane.flush()

    @property
    def until_tick_s(self) -> float:
        """Seconds until the next TICK is due."""
        return max(0.0, (self._next_tick_ns - self.time.now_ns) / 1e9 / self._speed)

    def _own(self) -> None:
        caller = threading.get_ident()
        if self._owner is None:
            self._owner = caller
        elif self._owner != caller:
            raise WrongThread("the router belongs to the thread that began with it")

    def _look_at_clocks(self, wall_ns: int, monotonic_ns: int) -> int:
        now_ns = self.time.look(wall_ns, monotonic_ns)
        if now_ns >= self._next_tick_ns:
            tick_ns = self._settings.tick_ms * 1_000_000
            in_step = now_ns - self._next_tick_ns < tick_ns
            self._next_tick_ns = (self._next_tick_ns if in_step else now_ns) + tick_ns
            for lane in self.lanes.values():
                lane.tick(now_ns)
        return now_ns

    def _look(self, now_ns: int) -> None:
        for feed in self.feeds.look(now_ns):
            log.warning(
                "feed is silent",
                extra=fields(venue=feed.venue.name.lower(), topic=feed.topic.name.lower(), symbol=feed.symbol),
            )
        for source, why in self._remedy.look(self.feeds, now_ns):
            connection = max(self.listeners[source].sessions, default=0)
            self.listeners[source].orders.put(Rotate(connection, why, closing=False))
        for listener in self.listeners.values():
            if listener.overlap is not None and listener.overlap.is_over(now_ns):
                listener.overlap = None
        for venue in self.feeds.venues:
            self.standing(venue, "sides", self.flow.sides.contradiction(venue))
            self.standing(venue, "clock", self.feeds.venues[venue].clock.alarm())
        self._tell_gaps(now_ns)

    def standing(self, venue: Venue, key: str, problem: str | None) -> None:
        """Raise or withdraw a standing problem of a venue; each change is one log line."""
        problems = self.feeds.venues[venue].problems
        if problem is None:
            if problems.pop(key, None) is not None:
                log.info("problem is over", extra=fields(venue=venue.name.lower(), problem=key))
            return
        if key not in problems:
            log.error("problem", extra=fields(venue=venue.name.lower(), problem=key, reason=problem))
        problems[key] = problem

    def _tell_gaps(self, now_ns: int) -> None:
        for gap in self.feeds.gaps.news():
            lane = self.lanes.get(gap.feed.symbol)
            if lane is not None:
                lane.add(gap.event(self.time.at(now_ns)))

    # Messages -----------------------------------------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        """One message of a thread that listens; sources that are no longer wanted are passed over."""
        if message.source in self.feeds.sources:
            if isinstance(message, Frames):
                self._frames(message)
            else:
                self._rare(message)
            if self.feeds.gaps.has_news:
                self._tell_gaps(self.time.now_ns)

    def _rare(self, message: Message) -> None:
        match message:
            case Opened():
                self._opened(message)
            case Ended():
                self._ended(message)
            case Changed():
                self._changed(message)
            case BadFrames():
                for bad in message.bad:
                    self.set_aside.take(message.source, message.receive_ns, bad.why, "", bad.sample, bad.size)
            case Polled():
                self.replies.polled(message)
            case PollFailed():
                self.replies.failed(message)

    def _opened(self, message: Opened) -> None:
        listener = self.listeners[message.source]
        listener.sessions[message.connection] = listener.adapter.session(self._instruments)
        listener.begin_anew()
        if len(listener.sessions) > 1:
            listener.overlap = listener.overlap or Overlap()
            listener.overlap.ends_ns = None
        source = self.feeds.sources[message.source]
        if len(listener.sessions) == 1:
            source.complaints.clear()  # of a connection that ended, kept as the likely reason of its end
        source.opened_ns = self.time.at(message.at_ns)
        self.feeds.heard(message.source, self.time.now_ns)

    def _ended(self, message: Ended) -> None:
        listener = self.listeners[message.source]
        listener.sessions.pop(message.connection, None)
        listener.told_ns.pop(message.connection, None)
        listener.repeats.forget(message.connection)
        self.desk.ended(message.source, message.connection, message.gap, self.time.at(message.at_ns))
        if listener.overlap is not None and len(listener.sessions) == 1:
            listener.overlap.ends_ns = self.time.now_ns + _OVERLAP_NS
        if message.last:
            listener.overlap = None
            self.feeds.lost(message.source, message.gap, self.time.at(message.at_ns))
        else:
            self.feeds.sources[message.source].complaints.pop(message.connection, None)

    def _changed(self, message: Changed) -> None:
        source = self.feeds.sources[message.source]
        source.state, source.delay_s = message.state, message.delay_s
        if message.state in (LinkState.BACKOFF, LinkState.REFUSED):
            source.reconnects += 1
            source.reason = message.reason
            if message.state is LinkState.REFUSED:
                self.feeds.lost(message.source, GapReason.REFUSED, self.time.at(message.at_ns))
        elif message.state is LinkState.UP:
            source.reason = ""

    def _frames(self, message: Frames) -> None:
        listener = self.listeners[message.source]
        session = listener.sessions.get(message.connection)
        if session is None:
            return
        now_ns = self.time.at(message.receive_ns)
        source = self.feeds.sources[message.source]
        source.frames += len(message.messages)
        if message.dropped:
            source.dropped += message.dropped
            listener.begin_anew()
            self.feeds.overran(message.source, now_ns)
            self.desk.dropped(message.source, message.connection, message.dropped, now_ns)
        source.size += message.size
        source.last_frame_ns = now_ns
        self.frames += len(message.messages)
        newest, data = self._read(message, listener, session, now_ns)
        if newest is not None:
            self.flow.note_lag(listener.venue, newest)
        if data or newest is not None or not listener.probed:
            self._delivers(message, listener, now_ns)

    def _read(self, message: Frames, listener: Listener, session: Session, now_ns: int) -> tuple[Event | None, bool]:
        """What the frames said, into the lanes: the newest event, and whether there was other market data.

        A link of trades reads them in runs; every frame that ends a run is read like those of other links.
        """
        frames, told = iter(listener.repeats.news(message.connection, message.messages)), Prints(list)
        newest: Event | None = None
        data = False
        for raw in iter(partial(session.tape, frames, now_ns, told), None) if listener.is_tape else frames:
            newest = self._tell_prints(told, message, listener) or newest
            try:
                facts = session.parse(raw, now_ns)
            except Malformed as error:
                for _ in range(listener.repeats.times(message.connection, raw)):
                    self.set_aside.take(message.source, now_ns, error.why, error.field, raw, len(raw))
                continue
            for fact in facts:
                if type(fact) is Event:
                    if fact.kind == Kind.TRADE:
                        self._look_for_lost({fact.instrument: [fact.packed(0)]}, message, listener)
                    self.flow.take(fact, message.source, listener.overlap, message.connection)
                    newest = fact
                else:
                    data |= self._no_event(fact, message, listener)
        return self._tell_prints(told, message, listener) or newest, data

    def _tell_prints(self, told: Prints, message: Frames, listener: Listener) -> Event | None:
        """Hand over the prints of a run; one of the newest."""
        if not told:
            return None
        self._look_for_lost(told, message, listener)
        self.flow.take_prints(told, message.source, listener.overlap, message.connection)
        newest = event_of(next(reversed(told.values()))[-1])
        told.clear()
        return newest

    def _look_for_lost(self, told: Mapping[int, Sequence[bytes]], message: Frames, listener: Listener) -> None:
        """Before they are handed over: whether the numbers of these prints leave any out."""
        for contract, count in listener.lost(told):
            self.flow.skipped(contract, message.source, count)

    def _delivers(self, message: Frames, listener: Listener, now_ns: int) -> None:
        """Market data came: the link should know (now and then), quiet feeds of the link are being listened to."""
        told_ns = listener.told_ns.get(message.connection)
        if told_ns is not None and now_ns - told_ns < _REMIND_NS:
            return
        listener.told_ns[message.connection] = now_ns
        listener.orders.put(Delivering(message.connection))
        self.feeds.confirmed(message.source, now_ns)

    def _no_event(self, fact: Fact, message: Frames, listener: Listener) -> bool:
        """Anything a frame can say that is no event; True when it is market data."""
        if isinstance(fact, BookUpdate):
            return self.desk.take(fact, message.source, message.connection, self.time.now_ns)
        if isinstance(fact, Control):
            if fact.kind is ControlKind.UNSUBSCRIBED:
                self.desk.acknowledged(message.source, message.connection, fact.text, self.time.now_ns)
            source, closing = self.feeds.sources[message.source], listener.adapter.closing_notices
            heed(fact, message.source, message.connection, source, listener.orders, closing)
        elif isinstance(fact, Ignored):
            refused = self.feeds.venues[listener.venue].refused_rows
            if fact.instrument in refused:
                refused[fact.instrument] += 1
        return False

"""Plays recorded tables into the rings, at the speed of the replay's clock, instead of listening to venues.

Pacing decides only when an event is written, never what it says: whole minutes are made by `table_tape`, and written
up to the replay's time, always whole instants. A ring that its worker does not empty holds the player back (nothing
of a replay should be overrun) for as long as the worker shows life. An ingest that died goes on where its ring ends.
"""

import logging
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from liqmap.clock import Clock
from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.ingest.bar_events import MS, Events
from liqmap.ingest.feeds import Feeds, SourceState, VenueState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import LinkState
from liqmap.ingest.ring_reader import Reader, Watched
from liqmap.ingest.table_tape import TableTape
from liqmap.logs import fields

SOURCE: Final = "tables"
_PATIENCE_S: Final = 10.0
"""A worker that takes nothing for this long no longer holds the replay back."""

_UNCOUNTED: Final = (int(Kind.TICK), int(Kind.GAP))

log = logging.getLogger(__name__)


class ReplayRing(Watched, Protocol):
    """The ring of one symbol, with sight of its reader."""

    def write(self, events: Events) -> int:
        """Append."""


@dataclass(slots=True)
class Track:
    """One symbol being played. `skip_ns`: what an ingest before this one has written already."""

    tape: TableTape
    ring: ReplayRing
    next_sequence: int
    skip_ns: int = -1
    events: Events | None = None
    at: int = 0
    said_faults: int = 0
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(self.ring)

    def due(self, events: Events, until_ns: int) -> Events:
        """Those of the loaded minute's `events` whose time has come; they count as taken."""
        end = int(np.searchsorted(events["receive_ns"], until_ns, side="right"))
        due = events[self.at : end]
        self.at = end
        if end == len(events):
            self.events = None
        return due


class TablePlayer:
    """Owns its tracks; one thread. `to_ms`: where the replay ends, at the latest with the last bar."""

    def __init__(self, tracks: list[Track], feeds: Feeds, clock: Clock, to_ms: int | None) -> None:
        self._tracks = tracks
        self._feeds = feeds
        self._clock = clock
        last_ms = max((track.tape.end_ms for track in tracks), default=0)
        self._end_ms = last_ms if to_ms is None else min(to_ms, last_ms)
        self.engine_ns = -1
        self.written = 0
        feeds.venues[Venue.UNKNOWN] = VenueState()
        feeds.sources[SOURCE] = SourceState(Venue.UNKNOWN, SOURCE, is_link=False, state=LinkState.UP)

    @property
    def finished(self) -> bool:
        """Everything was played."""
        return self._feeds.finished

    def turn(self) -> None:
        """Write what is due by now."""
        if self.finished:
            return
        now_ns = self._clock.now_ns()
        for track in self._tracks:
            self._advance(track, now_ns)
        reached = min((self._reached_ns(track) for track in self._tracks), default=now_ns)
        self.engine_ns = max(self.engine_ns, reached)
        if all(track.events is None and self._ended(track) for track in self._tracks):
            self._feeds.finished = True
            log.info("the replay came to its end", extra=fields(events=self.written, to_ms=self.engine_ns // MS))

    def _advance(self, track: Track, now_ns: int) -> None:
        while True:
            events = track.events
            if events is None:
                if self._ended(track) or track.tape.minute_ms * MS > now_ns:
                    return
                events = self._load(track)
            if not self._has_room(track):
                return
            self._write(track, track.due(events, now_ns))
            if track.events is not None:
                return

    def _load(self, track: Track) -> Events:
        minute = track.tape.next_minute()
        track.events, track.at = minute.events, 0
        for gap in minute.gaps:
            if gap.to_ms < 0:
                self._feeds.gaps.open(gap.feed, gap.from_ms, gap.reason)
            else:
                self._feeds.gaps.close(gap.feed, gap.to_ms)
            state = self._feeds.state_of(gap.feed, SOURCE, minute.minute_ms * MS)
            state.missing = gap.to_ms < 0
            state.gaps += state.missing
        self._feeds.gaps.news()
        if len(track.tape.faults) > track.said_faults:
            track.said_faults = len(track.tape.faults)
            self._complain(track)
        return minute.events

    def _complain(self, track: Track) -> None:
        """A table could not be read to its end: the rows before are used, and everybody is told."""
        texts = [str(fault) for fault in track.tape.faults]
        self._feeds.venues[Venue.UNKNOWN].problems[track.tape.symbol] = "; ".join(texts)
        log.error("a table is broken, the rows before are used", extra=fields(symbol=track.tape.symbol, reason=texts))

    def _has_room(self, track: Track) -> bool:
        """False while the worker is behind and alive."""
        now_ns = self._clock.monotonic_ns()
        return track.reader.has_room(now_ns) or track.reader.idle_s(now_ns) > _PATIENCE_S

    def _write(self, track: Track, due: Events) -> None:
        if track.skip_ns >= 0:
            due = due[due["receive_ns"] > track.skip_ns]
        if not len(due):
            return
        due = due.copy()
        due["sequence"] = np.arange(track.next_sequence, track.next_sequence + len(due), dtype=np.uint64)
        track.next_sequence += len(due)
        track.ring.write(due)
        self.written += len(due)
        self._count(track.tape.symbol, due)

    def _count(self, symbol: str, due: Events) -> None:
        facts = due[~np.isin(due["kind"], _UNCOUNTED)]
        keys = facts["venue"].astype(np.int64) << 16 | facts["topic"]
        for key in np.unique(keys).tolist():
            mine = facts["receive_ns"][keys == key]
            feed = Feed(Venue(key >> 16), Topic(key & 0xFFFF), symbol)
            self._feeds.venues.setdefault(feed.venue, VenueState())
            state = self._feeds.state_of(feed, SOURCE, int(mine[0]))
            state.events += len(mine)
            state.last_event_ns = int(mine[-1])

    def _ended(self, track: Track) -> bool:
        """Nothing more of it is to be played; all symbols end together."""
        return track.tape.minute_ms >= self._end_ms

    def _reached_ns(self, track: Track) -> int:
        if track.events is None:
            return track.tape.minute_ms * MS - 1
        return int(track.events["receive_ns"][track.at])

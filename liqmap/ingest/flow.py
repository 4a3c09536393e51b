"""What happens to one event on its way from a parser to its ring: is it news, may this source say it, who counts it.

Part of the router, in the router's thread. The order of the questions matters: a row that comes twice must not be
counted once by the feeds and once by the alarm on sides.
"""

import logging
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.domain.event import MISSING, Event
from liqmap.domain.instrument import InstrumentTable
from liqmap.exchanges.prints import Prints, event_of
from liqmap.ingest.engine_time import EngineTime
from liqmap.ingest.feeds import Feeds, FeedState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.lanes import Lane
from liqmap.ingest.merge import Bars, Overlap, Replays
from liqmap.ingest.sides import SideAlarm
from liqmap.logs import fields

# Plain integers: looking a member of an enum up costs as much as anything else here does.
_LIQUIDATION: Final = int(Kind.LIQUIDATION)
_TRADES: Final = int(Topic.TRADE)
_OPEN_INTEREST: Final = int(Kind.OPEN_INTEREST)
_RATIO: Final = int(Kind.RATIO)
_WATCHED: Final = frozenset({int(Kind.MARK_PRICE), _LIQUIDATION})
_LAG_KINDS: Final = frozenset({int(Kind.TRADE), int(Kind.MARK_PRICE)})
_LAG_WEIGHT: Final = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Path:
    """Where the events of one contract and topic go, and what is counted for them."""

    lane: Lane
    feed: Feed
    state: FeedState


class EventFlow:
    """Owned by the router."""

    def __init__(self, feeds: Feeds, time: EngineTime) -> None:
        self._feeds = feeds
        self._time = time
        self._lane_of: dict[int, Lane] = {}
        self._paths: defaultdict[str, dict[int, _Path]] = defaultdict(dict)
        """By source; only of what that source carries."""
        self._series: dict[Feed, str] = {}
        self._losses: Counter[Feed] = Counter()
        self.replays = Replays()
        self.bars = Bars()
        self.sides = SideAlarm()
        self.marks: dict[int, float] = {}
        """The last mark price by number of the contract."""
        self.events = 0
        self.refused_series = 0

    def use(self, instruments: InstrumentTable, lanes: dict[str, Lane]) -> None:
        """From now on these contracts go these ways."""
        self._lane_of = {
            instrument.number: lanes[instrument.symbol] for instrument in instruments if instrument.symbol in lanes
        }
        self._paths.clear()
        self.replays.use(instruments)
        self.marks.clear()
        self.bars = Bars()  # by numbers that are given anew; a bar told once more is no harm

    def take(self, event: Event, source: str, overlap: Overlap | None = None, connection: int = 0) -> None:
        """An event that `source` said, on that connection of several if there is an overlap."""
        path = self._paths[source].get(event.instrument << 16 | event.topic) or self._carried(event, source)
        if path is None:
            return
        kind = event.kind
        if kind == _OPEN_INTEREST and not self._owns_series(path.feed, source):
            return
        if overlap is not None and not overlap.is_news(connection, event):
            return
        if kind == _RATIO and not self.bars.is_news(event):
            self._feeds.repeated(path.feed, source, self._time.now_ns)
            return
        if kind in _WATCHED:
            if kind != _LIQUIDATION:
                self.replays.clock(event)
                if event.price > 0:  # an index price may come alone
                    self.marks[event.instrument] = event.price
            elif not self.replays.is_news(event):
                return
            self.sides.note(path.lane.symbol, event)
        self._count(path, source, 1)
        path.lane.add(event)

    def take_prints(self, told: Prints, source: str, overlap: Overlap | None = None, connection: int = 0) -> None:
        """Prints that `source` said: counted contract by contract, not one by one.

        Order is kept within each contract, and a venue has one contract of a symbol: so within each lane, too.
        """
        for number, records in told.items():
            path = self._paths[source].get(number << 16 | _TRADES) or self._carried(event_of(records[0]), source)
            if path is None:
                continue
            if overlap is not None:
                for record in records:
                    self.take(event_of(record), source, overlap, connection)
                continue
            self._count(path, source, len(records))
            path.lane.extend(records)

    def skipped(self, contract: int, source: str, count: int) -> None:
        """So many trades of it were lost before those that came now. Said the 1st, 2nd, 4th, 8th … time."""
        path = self._paths[source].get(contract << 16 | _TRADES)
        if path is None:
            return
        self._losses[path.feed] += 1
        times = self._losses[path.feed]
        if times & (times - 1) == 0:
            said = {"source": source, "symbol": path.feed.symbol, "trades": count, "times": times}
            log.warning("trades are missing", extra=fields(**said))
        self._feeds.skipped(path.feed, self._time.now_ns)

    def pass_on(self, event: Event, source: str) -> None:
        """A fact that another source than its feed's own adds to it: it says nothing of how that feed does."""
        path = self._path_of(event, source)
        if path is not None:
            path.lane.add(event)
            self.events += 1

    def _count(self, path: _Path, source: str, events: int) -> None:
        state = path.state
        if state.missing or state.heard_ns >= 0:
            self._feeds.note(path.feed, source, self._time.now_ns, events)
        else:  # what `note` does, for the many facts of a feed in good health
            state.events += events
            state.last_event_ns = self._time.now_ns
        self.events += events

    def _path_of(self, event: Event, source: str) -> _Path | None:
        """Where events of this contract and topic go; None when no symbol owns the contract."""
        lane = self._lane_of.get(event.instrument)
        if lane is None:
            return None
        feed = Feed(Venue(event.venue), Topic(event.topic), lane.symbol)
        return _Path(lane, feed, self._feeds.state_of(feed, source, self._time.now_ns))

    def _carried(self, event: Event, source: str) -> _Path | None:
        """The way of what this source carries. None for the rest: a stream that moved to another link is told by both
        of them for a moment, and for long when the venue did not hear our cancellation."""
        path = self._path_of(event, source)
        if path is None or path.feed not in self._feeds.sources[source].feeds:
            return None
        self._paths[source][event.instrument << 16 | event.topic] = path
        return path

    def _owns_series(self, feed: Feed, source: str) -> bool:
        """Open interest of a contract comes from one source: a second one would be counted twice, so it is refused for
        as long as the first one carries it (contracts move between links when symbols come and go)."""
        owner = self._series.get(feed, source)
        carrying = self._feeds.sources.get(owner)
        if owner == source or carrying is None or feed not in carrying.feeds:
            self._series[feed] = source
            return True
        self.refused_series += 1
        if self.refused_series & (self.refused_series - 1) == 0:
            log.error(
                "second source of open interest refused",
                extra=fields(owner=owner, refused=source, symbol=feed.symbol, times=self.refused_series),
            )
        return False

    def note_lag(self, venue: Venue, event: Event) -> None:
        """How late the newest fact of a read came; a moving mean."""
        if event.kind not in _LAG_KINDS or event.venue_ms == MISSING:
            return
        state = self._feeds.venues[venue]
        lag_ms = event.receive_ns / 1e6 - event.venue_ms
        state.lag_ms = lag_ms if math.isnan(state.lag_ms) else state.lag_ms + _LAG_WEIGHT * (lag_ms - state.lag_ms)

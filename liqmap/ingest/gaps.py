"""The list of outages: what was missing, from when to when, and why. Pure bookkeeping of the router.

A gap opens when a feed is known to be absent and closes with its next fact. Both moments become GAP events of the
symbol and rows of the feeds board; `version` rises with every change.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final

from liqmap.domain.enums import GapReason, Kind, Topic, Venue
from liqmap.domain.event import MISSING, Event

_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Feed:
    """One topic of one symbol at one venue: what can be fresh, silent or missing. `symbol` "": of no symbol."""

    venue: Venue
    topic: Topic
    symbol: str


@dataclass(frozen=True, slots=True)
class Gap:
    """One outage; `to_ms` -1 while it lasts."""

    feed: Feed
    from_ms: int
    reason: GapReason
    to_ms: int = MISSING

    def event(self, receive_ns: int) -> Event:
        """The GAP event that says so."""
        return Event(
            receive_ns=receive_ns,
            venue_ms=self.from_ms,
            detail=self.to_ms,
            kind=Kind.GAP,
            venue=self.feed.venue,
            side=self.reason,
            topic=self.feed.topic,
        )


class GapList:
    """Open gaps by feed, and the newest closed ones."""

    def __init__(self) -> None:
        self._open: dict[Feed, Gap] = {}
        self._closed: deque[Gap] = deque(maxlen=_KEPT)
        self._news: list[Gap] = []
        self._closed_ms: Counter[Feed] = Counter()
        self.version = 1

    def open(self, feed: Feed, from_ms: int, reason: GapReason) -> bool:
        """The feed is missing since `from_ms`. An open gap only takes the new reason. True when it was not open."""
        known = self._open.get(feed)
        if known is not None and known.reason is reason:
            return False
        gap = Gap(feed, from_ms, reason) if known is None else replace(known, reason=reason)
        self._open[feed] = gap
        self._tell(gap)
        return known is None

    def close(self, feed: Feed, to_ms: int) -> None:
        """The feed is back; nothing happens when it was not missing."""
        known = self._open.pop(feed, None)
        if known is not None:
            closed = replace(known, to_ms=max(to_ms, known.from_ms))
            self._closed.append(closed)
            self._closed_ms[feed] += closed.to_ms - closed.from_ms
            self._tell(closed)

    def forget(self, feed: Feed, now_ms: int) -> None:
        """The feed is no longer wanted: what nobody asks for is not missing, so an open gap ends here."""
        self.close(feed, now_ms)
        self._closed_ms.pop(feed, None)

    def reason(self, feed: Feed) -> GapReason | None:
        """Why the feed is missing now; None when it is not."""
        known = self._open.get(feed)
        return None if known is None else known.reason

    def total_ms(self, feed: Feed, now_ms: int) -> int:
        """How long the feed was missing since it is wanted, the gap that is open included."""
        known = self._open.get(feed)
        return self._closed_ms[feed] + (0 if known is None else max(0, now_ms - known.from_ms))

    @property
    def has_news(self) -> bool:
        """Something opened or closed since the last `news`."""
        return bool(self._news)

    def news(self) -> list[Gap]:
        """What opened or closed since the last call."""
        news, self._news = self._news, []
        return news

    def rows(self, limit: int) -> Iterator[Gap]:
        """Open gaps, then closed ones from the newest, at most `limit`."""
        yield from islice(chain(self._open.values(), reversed(self._closed)), limit)

    def _tell(self, gap: Gap) -> None:
        self._news.append(gap)
        self.version += 1

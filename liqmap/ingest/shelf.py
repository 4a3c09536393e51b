"""The books of one contract: one per connection that tells of it, of which one is shown.

Usually there is one connection. While a link is rotated there are two, and the old one's book is shown until the new
one is whole. Pure bookkeeping of the depth desk, in the router's thread.
"""

import math
from dataclasses import dataclass, replace

from liqmap.domain.book import Book
from liqmap.domain.enums import BookState, Topic
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import Adapter, BookUpdate, PollPlan, Stream
from liqmap.exchanges.booksync import BookCounts, BookSync
from liqmap.ingest.backoff import Backoff
from liqmap.ingest.gaps import Feed

NEVER: int = -1


@dataclass(frozen=True, slots=True)
class WantedBook:
    """A book to be kept. `source`: the link that carries its `stream`; `levels`: how many a side that stream tells of
    (None: of all); `request`: asks for its snapshot, None where the stream brings it."""

    instrument: Instrument
    adapter: Adapter
    source: str
    stream: Stream
    levels: int | None
    request: PollPlan | None

    @property
    def symbol(self) -> str:
        """Whose book it is."""
        return self.stream.symbols[0]


class Shelf:
    """Times are engine ns, NEVER: not yet."""

    def __init__(self, wanted: WantedBook, buffer_updates: int, backoff: Backoff) -> None:
        self.wanted = wanted
        self.feed = Feed(wanted.instrument.venue, Topic.DEPTH, wanted.symbol)
        self.backoff = backoff
        self.counts = BookCounts()
        self.dropped_levels = 0
        self.syncs: dict[int, BookSync] = {}
        self.shown_by = 0
        """The connection whose book is shown; 0: none is whole."""
        self.whole_since_ns = NEVER
        self.next_ask_ns = NEVER
        """When the present wish may be granted; NEVER: nothing is wished for."""
        self.renewed_ns = NEVER
        self.astray_ns = NEVER
        """Since when price has been beyond what the book is complete for; NEVER: it is not."""
        self.asked_ns = NEVER
        self.acknowledged_by: int | None = None
        """The connection whose cancelled subscription the venue has not acknowledged yet."""
        self.silent = False
        """Its venue says nothing of it while others speak: what stands in it is not known to stand there now."""
        self._heard: dict[int, tuple[int, int, int]] = {}
        """By connection: when it spoke last, the venue's time of that, and its number."""
        self.told_mid = math.nan
        self.version = 0
        """Rises with everything that a reader of the book could notice."""
        self._buffer_updates = buffer_updates

    def take(self, update: BookUpdate, connection: int, now_ns: int) -> None:
        """What that connection says."""
        sync = self.syncs.get(connection)
        if sync is None:
            sync = self.syncs[connection] = BookSync(
                self.wanted.adapter.book_rule, self.wanted.levels, self._buffer_updates, self.counts
            )
            self._heard = {number: heard for number, heard in self._heard.items() if number in self.syncs}
        awaited = sync.awaits
        sync.take(update)
        if awaited and not sync.awaits:
            self.settle()
        self.version += 1
        last = sync.last or update
        self._heard[connection] = now_ns, last.ts_ms, last.sequence

    @property
    def heard(self) -> tuple[int, int, int]:
        """Engine ns, venue's ms and number of what was said last of the book that is shown, else of the newest."""
        never = (NEVER, NEVER, NEVER)
        return self._heard.get(self.shown_by) or self._heard.get(max(self._heard, default=0), never)

    @property
    def book(self) -> Book | None:
        """The one to be shown, None while none is whole."""
        sync = self.syncs.get(self.shown_by)
        return None if sync is None or self.silent else sync.shown

    @property
    def state(self) -> BookState:
        """Of the book that is shown, else of the newest connection's; ABSENT while it is silent."""
        if self.silent:
            return BookState.ABSENT
        sync = self.syncs.get(self.shown_by) or self.syncs.get(max(self.syncs, default=0))
        return BookState.ABSENT if sync is None else sync.state

    def choose(self) -> bool:
        """Show the newest connection's book that is whole; True when there is one."""
        whole = [number for number, sync in self.syncs.items() if sync.state is BookState.SYNCED]
        chosen = max(whole, default=0)
        if chosen != self.shown_by:
            self.shown_by = chosen
            self.version += 1
        return chosen > 0

    def goes_on_as(self, wanted: WantedBook) -> bool:
        """Whether that is this book, but for its contract's number: those are given anew when symbols come and go."""
        number = self.wanted.instrument.number
        return self.wanted == replace(wanted, instrument=replace(wanted.instrument, number=number))

    def settle(self) -> None:
        """Wishes may be granted again, unless one of the connections still waits for what it was granted."""
        if self.acknowledged_by not in self.syncs:
            self.acknowledged_by = None
        if self.acknowledged_by is None and not any(sync.awaits for sync in self.syncs.values()):
            self.asked_ns = NEVER

    def hush(self, silent: bool) -> None:
        """Its feed is silent, or speaks (again)."""
        if silent != self.silent:
            self.silent = silent
            self.version += 1

    def renew(self) -> None:
        """Let the book that is shown be renewed around the present price."""
        sync = self.syncs.get(self.shown_by)
        if sync is not None:
            sync.renew()

    def would_lose_by(self, connection: int) -> bool:
        """Whether showing that connection instead of the present one would be a loss: its book is not whole yet."""
        if self.shown_by in (0, connection):
            return False
        sync = self.syncs.get(connection)
        return sync is None or sync.state is not BookState.SYNCED

"""How one connection's stream of updates becomes a book that can be trusted: a state machine per venue's rule, no I/O.

    ABSENT ──update──> SYNCING ──a snapshot that fits──> SYNCED ──an update is missing──> BROKEN ──> (as SYNCING)

`take` is given whatever the stream and the REST interface say; `wish` is what has to be done about it: nothing, ask for
a snapshot, or subscribe anew. Whoever grants a wish says so (`granted`); when nothing came of it he says that, too
(`failed`), and the wish stands again. How often wishes are granted is his affair.

A Binance book that is whole may be renewed (`renew`): its snapshot told of so many levels, and price leaves them. The
new snapshot is joined to the updates since it was wished for, beside the book that is shown, and takes its place if
both agree on the best prices they know. If they do not, one of them is wrong, and the book begins anew.

The book can be seen only while it is SYNCED: `shown` is None otherwise. The rules are rows of `_RULES`; their sources
and the traps they avoid are told in docs/exchanges.md, "Order books".
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from liqmap.domain.book import Book
from liqmap.domain.enums import BookState
from liqmap.domain.event import MISSING
from liqmap.exchanges.adapter import BookRule, BookUpdate


class Wish(Enum):
    """What a book needs to be whole."""

    NOTHING = "nothing"
    SNAPSHOT = "a snapshot by REST"
    RESUBSCRIBE = "a new subscription"


@dataclass(slots=True)
class BookCounts:
    """What happened to a book. The connections that tell of one contract may count together."""

    updates: int = 0
    """Applied, snapshots not counted."""
    snapshots: int = 0
    resyncs: int = 0
    """New beginnings that were asked for after the book had been whole."""
    sequence_gaps: int = 0
    dropped_updates: int = 0
    """Given up because too many waited, or under load before they came here."""
    crossed: int = 0
    """Times the book was found crossed after an update."""


class BookSync:
    """The book of one contract as one connection tells it.

    `depth`: levels a side of the subscription where the venue streams its best N, else None. `buffer_updates`: how
    many updates may wait for their snapshot; the oldest are given up first.
    """

    def __init__(
        self, rule: BookRule, depth: int | None, buffer_updates: int, counts: BookCounts | None = None
    ) -> None:
        self._take = _RULES[rule]
        self._needs = Wish.SNAPSHOT if rule is BookRule.BINANCE else Wish.RESUBSCRIBE
        self._granted = False
        self._state = BookState.ABSENT
        self.book = Book(depth)
        self.buffer: deque[BookUpdate] = deque(maxlen=buffer_updates)
        self.pending: BookUpdate | None = None
        """A snapshot that the stream has not reached yet."""
        self.last: BookUpdate | None = None
        """What was applied last."""
        self.renewing = False
        """The book is whole, and a snapshot is wished for that reaches around the present price."""
        self.counts = counts or BookCounts()

    @property
    def state(self) -> BookState:
        """How far the book can be trusted now."""
        return self._state

    @property
    def shown(self) -> Book | None:
        """The book while it is whole, else None."""
        return self.book if self._state is BookState.SYNCED else None

    @property
    def wish(self) -> Wish:
        """What has to be done, until it is granted."""
        if self._granted or self._state is BookState.ABSENT:
            return Wish.NOTHING
        if self._state is BookState.SYNCED:
            return Wish.SNAPSHOT if self.renewing and self.pending is None else Wish.NOTHING
        if self._needs is Wish.SNAPSHOT and (self.pending is not None or not self.buffer):
            return Wish.NOTHING  # a snapshot asked for before the stream speaks could be older than all it will say
        return self._needs

    @property
    def awaits(self) -> bool:
        """A wish was granted and is not fulfilled yet, or the stream has yet to come to the snapshot."""
        return self._granted or self.pending is not None

    def granted(self) -> None:
        """The wish was passed on to the venue."""
        self._granted = True

    def failed(self) -> None:
        """Nothing came of it in time, also of a snapshot that the stream never reached."""
        self._granted = False
        self.pending = None
        self.end_renewal()

    def renew(self) -> None:
        """Wish for a snapshot around the present price. Changes nothing for a book that is not whole."""
        self.renewing = self._state is BookState.SYNCED and self._needs is Wish.SNAPSHOT

    def take(self, update: BookUpdate) -> None:
        """An update of the stream, or the snapshot that was asked for."""
        self._take(self, update)

    def lose(self, count: int) -> None:
        """So many frames of the connection were given up before they were read: nobody knows which."""
        self.counts.dropped_updates += count
        if self._state is not BookState.ABSENT:
            self.break_off()

    # For the rules ------------------------------------------------------------------------------------------------

    def break_off(self) -> None:
        """Something is missing: all that is known is thrown away, also a snapshot that waited to be reached. One that
        is still on its way is worth waiting for."""
        self.counts.resyncs += self._state is BookState.SYNCED
        if self._needs is Wish.RESUBSCRIBE or self.pending is not None:
            self._granted = False
        self.book.clear()
        self.buffer.clear()
        self.pending = self.last = None
        self.renewing = False
        self._state = BookState.BROKEN

    def missed(self) -> None:
        """The sequence says that an update is missing."""
        self.counts.sequence_gaps += 1
        self.break_off()

    def begin(self, snapshot: BookUpdate) -> None:
        """The book is this snapshot."""
        self.book.replace(snapshot.bids, snapshot.asks)
        self.last = snapshot
        self.counts.snapshots += 1
        self._granted = False
        self._state = BookState.SYNCED

    def apply(self, update: BookUpdate) -> None:
        """The next update in order."""
        self.book.apply(update.bids, update.asks)
        self.last = update
        self.counts.updates += 1
        self.counts.crossed += self.book.crossed

    def keep(self, update: BookUpdate) -> None:
        """It waits for the snapshot."""
        if len(self.buffer) == self.buffer.maxlen:
            self.counts.dropped_updates += 1
        self.buffer.append(update)
        if self._state is BookState.ABSENT:
            self._state = BookState.SYNCING

    def wait(self) -> None:
        """An update that nothing can be done with before the new beginning."""
        if self._state is BookState.ABSENT:
            self._state = BookState.SYNCING

    def adopt(self, book: Book) -> None:
        """This book, renewed, takes the place of the one that is shown."""
        book.take_beyond(self.book)
        self.book = book
        self.counts.snapshots += 1
        self._granted = False
        self.end_renewal()

    def end_renewal(self) -> None:
        """What is shown stays as it is."""
        if self.renewing:
            self.renewing = False
            self.pending = None
            self.buffer.clear()

    def ask_anew(self) -> None:
        """The snapshot does not fit: another one, what waits is kept."""
        self.pending = None
        self._granted = False

    def refuse_snapshot(self) -> None:
        """The snapshot fits by its number, yet cannot be of this book."""
        self.book.clear()
        self.last = None
        self._state = BookState.SYNCING
        self.ask_anew()


# Binance: a REST snapshot bridges the buffered stream -------------------------------------------------------------


def _binance(sync: BookSync, update: BookUpdate) -> None:
    if update.snapshot:
        if sync.renewing or sync.state is not BookState.SYNCED:
            sync.pending = update
            _join(sync)
        return
    if sync.state is not BookState.SYNCED:
        if sync.buffer and not _follows(sync.buffer[-1], update):
            if _repeats(sync.buffer[-1], update):
                return
            sync.counts.sequence_gaps += 1
            sync.counts.dropped_updates += len(sync.buffer)
            sync.buffer.clear()
            if sync.pending is not None:
                sync.ask_anew()  # of the numbers before: the stream may never come to it
        sync.keep(update)
        _join(sync)
    elif sync.last is not None and _follows(sync.last, update):
        sync.apply(update)
        if sync.renewing:
            sync.keep(update)
            _join(sync)
    elif sync.last is None or not _repeats(sync.last, update):
        sync.missed()
        sync.keep(update)


def _follows(known: BookUpdate, update: BookUpdate) -> bool:
    """It is the next one. Numbers that were set back are no order, also where each names the one before."""
    return update.previous_sequence == known.sequence <= update.sequence


def _join(sync: BookSync) -> None:
    """Join the pending snapshot and what waits, if they meet: the first update behind it must hold its number."""
    snapshot, waiting = sync.pending, sync.buffer
    if snapshot is None or not waiting:
        return
    while len(waiting) > 1 and waiting[0].sequence < snapshot.sequence:
        waiting.popleft()
    if waiting[0].sequence < snapshot.sequence:
        return  # ahead of the stream, which will come to it
    first = waiting[0]
    begins = first.sequence if first.first_sequence is None else first.first_sequence
    older = begins > snapshot.sequence and first.previous_sequence != snapshot.sequence
    if sync.renewing:
        _renew(sync, None if older else snapshot)
    elif older:
        sync.ask_anew()
    else:
        _bridge(sync, snapshot)


def _bridge(sync: BookSync, snapshot: BookUpdate) -> None:
    """The book begins with this snapshot and what waits."""
    sync.pending = None
    sync.begin(snapshot)
    for update in sync.buffer:
        sync.apply(update)
    if sync.book.crossed:
        sync.refuse_snapshot()
    else:
        sync.buffer.clear()


def _renew(sync: BookSync, snapshot: BookUpdate | None) -> None:
    """Beside the book that is shown, make the same one of the new snapshot; None: it is too old, another time."""
    if snapshot is None:
        sync.failed()
        return
    book = Book()
    book.replace(snapshot.bids, snapshot.asks)
    for update in sync.buffer:
        book.apply(update.bids, update.asks)
    if not book.agrees_with(sync.book):
        sync.missed()
    elif book.astray and not sync.book.astray:
        sync.failed()  # price has left what it tells already
    else:
        sync.adopt(book)


# Bybit: a snapshot by stream at any time, then one after the other ------------------------------------------------


def _bybit(sync: BookSync, update: BookUpdate) -> None:
    if update.snapshot or update.sequence == 1:
        sync.begin(update)
    elif sync.last is None:
        sync.wait()
    elif update.sequence == sync.last.sequence + 1:
        sync.apply(update)
    elif not _repeats(sync.last, update):
        sync.missed()


# OKX: a snapshot by stream, then each update names the one before -------------------------------------------------


def _okx(sync: BookSync, update: BookUpdate) -> None:
    if update.snapshot:
        sync.begin(update)
    elif sync.last is None:
        sync.wait()
    elif update.previous_sequence == sync.last.sequence != MISSING:
        sync.apply(update)  # also a number that goes down (maintenance) or stays (nothing changed)
    elif update.sequence == MISSING or not _repeats(sync.last, update):
        sync.missed()


def _repeats(known: BookUpdate, update: BookUpdate) -> bool:
    """The same update a second time."""
    return (known.sequence, known.previous_sequence, known.bids, known.asks) == (
        update.sequence,
        update.previous_sequence,
        update.bids,
        update.asks,
    )


_RULES: Final[Mapping[BookRule, Callable[[BookSync, BookUpdate], None]]] = {
    BookRule.BINANCE: _binance,
    BookRule.BYBIT: _bybit,
    BookRule.OKX: _okx,
}

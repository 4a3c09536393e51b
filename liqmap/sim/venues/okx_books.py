"""OKX's order books: `books` (400 levels, snapshot and updates), `books5` and `bbo-tbt` (whole each time).

Every update names the one before it (`prevSeqId`); a snapshot has none (−1). About a minute without a change brings an
update of no levels with equal ids. After maintenance an id may be smaller than the one before, once. `checksum` is
retired and always 0. Sizes are contracts; a level is [price, size, "0", orders].
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from liqmap.sim.venues.books import LevelBook, Levels, Side, difference
from liqmap.sim.venues.clockwork import Every
from liqmap.sim.venues.feed import Message

if TYPE_CHECKING:
    from liqmap.sim.venues.market_feed import Quote
    from liqmap.sim.venues.okx_feed import OkxFeed

LEVELS: Final = {"books": 400, "books5": 5, "bbo-tbt": 1}
CADENCE_MS: Final = {"books": 100, "books5": 100, "bbo-tbt": 10}
HEARTBEAT_MS: Final = 60_000
REST_LEVELS: Final = 400
_FIRST_SEQUENCE = 123_456_789_000
_SET_BACK = 1000
"""An id after maintenance is that part of the one before."""


@dataclass(slots=True)
class _Topic:
    """What the followers of one channel of one contract have been told."""

    quote: "Quote"
    channel: str
    sequence: int
    told_ms: int = 0
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)


class OkxBooks:
    """See the module; implements `BookStreams`."""

    def __init__(self, feed: "OkxFeed") -> None:
        self._feed = feed
        self._topics: dict[str, _Topic] = {}
        """Those that somebody followed at the last step."""
        self._sequences: dict[str, int] = {}
        """Of each contract."""
        self._due = {channel: Every(period_ms) for channel, period_ms in CADENCE_MS.items()}
        self._begin_anew = False
        self._hold = Every(1)
        self._holding = False
        self._held: dict[str, dict[str, Any]] = {}

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """The book as the other followers of the channel have been told so far."""
        channel, _, name = topic.partition("/")
        quote = self._feed.quote_named(name)
        if quote is None or channel not in LEVELS:
            return
        followed = self._topics.get(topic)
        if followed is None:
            followed = self._topics[topic] = _Topic(quote, channel, self._sequence(name), now_ms)
            followed.bids, followed.asks = self._window(followed)
        yield self._whole(followed, now_ms)

    def restart(self) -> None:
        """See BookStreams."""
        self._begin_anew = True

    def reset_sequence(self) -> None:
        """See BookStreams. The next update is valid all the same: its `prevSeqId` is the id before."""
        for name in self._sequences:
            self._sequences[name] //= _SET_BACK

    def hold_snapshots(self, period_ms: int) -> None:
        """See BookStreams."""
        self._held.clear()
        self._holding = period_ms > 0
        self._hold = Every(max(period_ms, 1))

    def sequences(self, contract: str) -> dict[str, Any]:
        """See BookStreams."""
        told = {topic: followed.sequence for topic, followed in self._topics.items() if topic.endswith(f"/{contract}")}
        return {"rest": self._sequence(contract), **told}

    def write(self, now_ms: int, out: list[Message]) -> None:
        """Updates of the channels that somebody follows and whose time has come."""
        due = {channel for channel, every in self._due.items() if every.due(now_ms)}
        if self._holding and self._hold.due(now_ms):
            self._held.clear()
        for quote in self._feed.live_quotes():
            changed = len(quote.book.changed_bids) + len(quote.book.changed_asks)
            if changed:
                name = quote.listing.name
                self._sequences[name] = self._sequence(name) + changed + self._feed.random.randrange(9)
        for topic, followed in list(self._topics.items()):
            if not self._feed.is_followed(topic):
                del self._topics[topic]
            elif self._begin_anew:
                followed.bids, followed.asks = self._window(followed)
                followed.sequence, followed.told_ms = self._sequence(followed.quote.listing.name), now_ms
                out.append(self._whole(followed, now_ms))
            elif followed.channel in due:
                self._tell(followed, now_ms, out)
        self._begin_anew = False

    def rest(self, quote: "Quote", levels: int, now_ms: int) -> dict[str, Any]:
        """The row of GET /api/v5/market/books."""
        name, book = quote.listing.name, quote.book
        whole = self._held.get(name)
        if whole is None:
            whole = {
                "asks": _rows(book, book.asks, book.asks.top(REST_LEVELS)),
                "bids": _rows(book, book.bids, book.bids.top(REST_LEVELS)),
                "ts": str(now_ms),
                "seqId": self._sequence(name),
            }
            if self._holding:
                self._held[name] = whole
        return {**whole, "asks": whole["asks"][:levels], "bids": whole["bids"][:levels]}

    def _tell(self, followed: _Topic, now_ms: int, out: list[Message]) -> None:
        before = followed.sequence
        bids, asks = self._window(followed)
        changed = difference(followed.bids, bids), difference(followed.asks, asks)
        if any(changed):
            followed.sequence, followed.told_ms = self._sequence(followed.quote.listing.name), now_ms
            followed.bids, followed.asks = bids, asks
            if followed.channel == "books":
                out.append(self._push(followed, "update", changed, before, now_ms))
            else:
                out.append(self._whole(followed, now_ms))
        elif followed.channel == "books" and now_ms - followed.told_ms >= HEARTBEAT_MS:
            followed.told_ms = now_ms
            out.append(self._push(followed, "update", ({}, {}), before, now_ms))

    def _whole(self, followed: _Topic, now_ms: int) -> Message:
        action = "snapshot" if followed.channel == "books" else None
        return self._push(followed, action, (followed.bids, followed.asks), -1, now_ms)

    def _push(
        self, followed: _Topic, action: str | None, levels: tuple[Levels, Levels], previous: int, now_ms: int
    ) -> Message:
        book, name, (bids, asks) = followed.quote.book, followed.quote.listing.name, levels
        row: dict[str, Any] = {"asks": _rows(book, book.asks, asks), "bids": _rows(book, book.bids, bids)}
        row["ts"] = str(now_ms)
        body: dict[str, Any] = {"arg": {"channel": followed.channel, "instId": name}}
        if action is None:
            row |= {"instId": name, "seqId": followed.sequence}
        else:
            body["action"] = action
            row |= {"checksum": 0, "seqId": followed.sequence, "prevSeqId": previous}
        return Message(f"{followed.channel}/{name}", orjson.dumps({**body, "data": [row]}))

    @staticmethod
    def _window(followed: _Topic) -> tuple[Levels, Levels]:
        levels, book = LEVELS[followed.channel], followed.quote.book
        return book.bids.top(levels), book.asks.top(levels)

    def _sequence(self, name: str) -> int:
        return self._sequences.setdefault(name, _FIRST_SEQUENCE)


def _rows(book: LevelBook, side: Side, levels: Levels) -> list[list[str]]:
    return [
        [price, size, "0", "0" if size == "0" else str(1 + len(size) % 4)] for price, size in book.written(side, levels)
    ]

"""Binance's order books: diffs at four cadences with `U`, `u`, `pu`, partial books, and REST snapshots.

Update ids belong to the book, every cadence tells its own stretch of them: `pu` is the `u` before in the same stream,
and `U` is seldom `pu` + 1. A snapshot holds at most 1000 levels a side; diffs tell of levels beyond.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from liqmap.sim.venues.books import LevelBook, Levels
from liqmap.sim.venues.clockwork import Every
from liqmap.sim.venues.feed import Message

if TYPE_CHECKING:
    from liqmap.sim.venues.binance_feed import BinanceFeed
    from liqmap.sim.venues.market_feed import Quote

CADENCES: Final = {"@depth@0ms": 0, "@depth@100ms": 100, "@depth": 250, "@depth@500ms": 500}
PARTIAL: Final = {"@100ms": 100, "": 250, "@500ms": 500}
PARTIAL_LEVELS: Final = (5, 10, 20)
SNAPSHOT_LEVELS: Final = 1000
_SET_BACK = 10_000_000_000
_MATCHED_BEFORE_MS = 3
"""`T` is that much before `E`."""


@dataclass(slots=True)
class _Told:
    """One cadence of one contract: what its next event will say."""

    last_id: int
    first_id: int = 0
    bids: set[int] = field(default_factory=set)
    asks: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Ids:
    """Update ids of one contract's book; 0 before its first change."""

    last: int = 0
    last_ms: int = 0
    streams: dict[str, _Told] = field(default_factory=dict)


@dataclass(slots=True)
class Snapshot:
    """A book as REST serves it."""

    last_id: int
    at_ms: int
    matched_ms: int
    bids: Levels
    asks: Levels


class BinanceBooks:
    """See the module; implements `BookStreams`."""

    def __init__(self, feed: "BinanceFeed") -> None:
        self._feed = feed
        self._next_id = 5_123_107_852_948
        self._ids: dict[str, _Ids] = {}
        self._due = {suffix: Every(period_ms) for suffix, period_ms in CADENCES.items() if period_ms}
        self._hold = Every(1)
        self._holding = False
        self._held: dict[str, Snapshot] = {}
        self._best: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {}

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """Nothing: the snapshot comes by REST."""
        return ()

    def restart(self) -> None:
        """These streams know no snapshot: a restart shows in the ids alone."""
        self.reset_sequence()

    def reset_sequence(self) -> None:
        """See BookStreams. `pu` of the next event is not the `u` before: whoever follows must begin anew."""
        self._next_id -= _SET_BACK
        for ids in self._ids.values():
            for told in ids.streams.values():
                told.last_id -= _SET_BACK

    def hold_snapshots(self, period_ms: int) -> None:
        """See BookStreams."""
        self._held.clear()
        self._holding = period_ms > 0
        self._hold = Every(max(period_ms, 1))
        if self._holding:
            self._held = {quote.listing.name: self._now(quote, 0) for quote in self._feed.live_quotes()}

    def sequences(self, contract: str) -> dict[str, Any]:
        """See BookStreams."""
        ids = self._ids.get(contract, _Ids())
        return {"rest": ids.last, **{suffix[1:]: told.last_id for suffix, told in ids.streams.items()}}

    def snapshot(self, quote: "Quote", levels: int, now_ms: int) -> Snapshot:
        """What REST answers, cut to so many levels a side."""
        kept = self._held.get(quote.listing.name) or self._now(quote, now_ms)
        return Snapshot(
            kept.last_id, kept.at_ms or now_ms, kept.matched_ms, _cut(kept.bids, levels), _cut(kept.asks, levels)
        )

    def write(self, now_ms: int, out: list[Message]) -> None:
        """Diffs of every cadence that is due, partial books and best prices where somebody listens."""
        due = {suffix: suffix not in self._due or self._due[suffix].due(now_ms) for suffix in CADENCES}
        for quote in self._feed.live_quotes():
            changed = self._number(quote, now_ms)
            for suffix, told in self._ids[quote.listing.name].streams.items():
                if due[suffix] and told.first_id:
                    self._tell(quote, suffix, told, now_ms, out)
            if changed:
                self._tell_best(quote, now_ms, out)
        if self._holding and self._hold.due(now_ms):
            self._held = {quote.listing.name: self._now(quote, now_ms) for quote in self._feed.live_quotes()}

    def _number(self, quote: "Quote", now_ms: int) -> bool:
        """Give the changes of this step their ids."""
        book, name = quote.book, quote.listing.name
        count = len(book.changed_bids) + len(book.changed_asks)
        ids = self._ids.get(name)
        if ids is None:
            ids = self._ids[name] = _Ids(self._next_id, now_ms, {suffix: _Told(self._next_id) for suffix in CADENCES})
        if not count:
            return False
        first = self._next_id + self._feed.random.randrange(1, 400)
        self._next_id = first + count + self._feed.random.randrange(400)
        ids.last, ids.last_ms = self._next_id, now_ms
        for told in ids.streams.values():
            told.first_id = told.first_id or first
            told.bids.update(book.changed_bids)
            told.asks.update(book.changed_asks)
        return True

    def _tell(self, quote: "Quote", suffix: str, told: _Told, now_ms: int, out: list[Message]) -> None:
        ids, book, stream = self._ids[quote.listing.name], quote.book, quote.listing.name.lower()
        head = _head(quote, ids, now_ms, told.first_id, told.last_id)
        if self._feed.is_followed(f"{stream}{suffix}"):
            bids = book.written(book.bids, {tick: book.bids.lots.get(tick, 0) for tick in told.bids})
            asks = book.written(book.asks, {tick: book.asks.lots.get(tick, 0) for tick in told.asks})
            out.append(Message(f"{stream}{suffix}", orjson.dumps({**head, "b": bids, "a": asks})))
        for ending in (ending for ending, period_ms in PARTIAL.items() if period_ms == CADENCES[suffix]):
            self._tell_partial(quote, f"{stream}@depth", ending, head, out)
        told.last_id, told.first_id = ids.last, 0
        told.bids.clear()
        told.asks.clear()

    def _tell_partial(self, quote: "Quote", stream: str, ending: str, head: dict[str, Any], out: list[Message]) -> None:
        for levels in PARTIAL_LEVELS:
            topic = f"{stream}{levels}{ending}"
            if self._feed.is_followed(topic):
                bids, asks = _both(quote.book, levels)
                out.append(Message(topic, orjson.dumps({**head, "b": bids, "a": asks})))

    def _tell_best(self, quote: "Quote", now_ms: int, out: list[Message]) -> None:
        book, name = quote.book, quote.listing.name
        best = book.best(book.bids), book.best(book.asks)
        if best == self._best.get(name) or "" in (best[0][0], best[1][0]):
            return
        self._best[name] = best
        if not (self._feed.is_followed(f"{name.lower()}@bookTicker") or self._feed.is_followed("!bookTicker")):
            return
        (bid, bid_size), (ask, ask_size) = best
        row = {"e": "bookTicker", "u": self._ids[name].last, "s": name, "ps": name, "b": bid, "B": bid_size}
        row |= {"a": ask, "A": ask_size, "T": now_ms - _MATCHED_BEFORE_MS, "E": now_ms, "st": 1}
        payload = orjson.dumps(row)
        out.extend((Message(f"{name.lower()}@bookTicker", payload), Message("!bookTicker", payload)))

    def _now(self, quote: "Quote", now_ms: int) -> Snapshot:
        ids, book = self._ids.get(quote.listing.name, _Ids()), quote.book
        matched_ms = ids.last_ms - _MATCHED_BEFORE_MS
        bids, asks = book.bids.top(SNAPSHOT_LEVELS), book.asks.top(SNAPSHOT_LEVELS)
        return Snapshot(ids.last, now_ms or ids.last_ms, matched_ms, bids, asks)


def _head(quote: "Quote", ids: _Ids, now_ms: int, first_id: int, previous_id: int) -> dict[str, Any]:
    name = quote.listing.name
    return {
        "e": "depthUpdate",
        "E": now_ms,
        "T": ids.last_ms - _MATCHED_BEFORE_MS,
        "s": name,
        "ps": name,
        "U": first_id,
        "u": ids.last,
        "pu": previous_id,
        "st": 1,
    }


def _both(book: LevelBook, levels: int) -> tuple[list[list[str]], list[list[str]]]:
    return book.written(book.bids, book.bids.top(levels)), book.written(book.asks, book.asks.top(levels))


def _cut(levels: Levels, count: int) -> Levels:
    """The first `count`: levels are kept the best first."""
    return dict(list(levels.items())[:count])

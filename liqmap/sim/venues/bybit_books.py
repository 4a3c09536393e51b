"""Bybit's order books: a topic per depth, each a window of that many levels a side.

A subscriber is first sent a snapshot, then deltas whose `u` counts up by one within the topic; levels that fall out of
the window are deleted, levels that come into it are inserted. One level is snapshots only, repeated with the same `u`
after three seconds without a change. After a restart of the service a snapshot with `u` 1 comes in mid-stream.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from liqmap.sim.venues.books import Levels, difference
from liqmap.sim.venues.clockwork import Every
from liqmap.sim.venues.feed import Message

if TYPE_CHECKING:
    from liqmap.sim.venues.bybit_feed import BybitFeed
    from liqmap.sim.venues.market_feed import Quote

DEPTHS_MS: Final = {1: 10, 50: 20, 200: 100, 1000: 200}
"""Cadence of each depth, where the market's step is not longer."""
REPEAT_MS: Final = 3000
REST_LEVELS: Final = 1000
_FIRST_UPDATE = 18_521_288
_MATCHED_BEFORE_MS = 3


@dataclass(slots=True)
class _Topic:
    """What the followers of one topic have been told."""

    quote: "Quote"
    depth: int
    update_id: int
    told_ms: int = 0
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)


class BybitBooks:
    """See the module; implements `BookStreams`."""

    def __init__(self, feed: "BybitFeed") -> None:
        self._feed = feed
        self._topics: dict[str, _Topic] = {}
        """Those that somebody followed at the last step."""
        self._counters: dict[str, int] = {}
        self._due = {depth: Every(period_ms) for depth, period_ms in DEPTHS_MS.items()}
        self._begin_anew = False
        self._hold = Every(1)
        self._holding = False
        self._held: dict[str, dict[str, Any]] = {}

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """The snapshot of a book: what the other followers of the topic have been told so far."""
        kind, _, name = topic.rpartition(".")
        depth = kind.removeprefix("orderbook.")
        quote = self._feed.quote_named(name)
        if quote is None or not depth.isdigit() or int(depth) not in DEPTHS_MS:
            return
        followed = self._topics.get(topic)
        if followed is None:
            update_id = self._counters.get(topic, _FIRST_UPDATE) + 1
            followed = self._topics[topic] = _Topic(quote, int(depth), update_id, now_ms)
            followed.bids, followed.asks = quote.book.bids.top(int(depth)), quote.book.asks.top(int(depth))
            self._counters[topic] = update_id
        yield self._message(topic, followed, "snapshot", (followed.bids, followed.asks), now_ms)

    def restart(self) -> None:
        """See BookStreams."""
        self._begin_anew = True

    def reset_sequence(self) -> None:
        """See BookStreams. Here it is a gap like any other: `u` is not the one before plus one."""
        for topic, followed in self._topics.items():
            followed.update_id = followed.update_id // 2 + 1
            self._counters[topic] = followed.update_id

    def hold_snapshots(self, period_ms: int) -> None:
        """See BookStreams."""
        self._held.clear()
        self._holding = period_ms > 0
        self._hold = Every(max(period_ms, 1))

    def sequences(self, contract: str) -> dict[str, Any]:
        """See BookStreams."""
        return {topic: number for topic, number in self._counters.items() if topic.endswith(f".{contract}")}

    def write(self, now_ms: int, out: list[Message]) -> None:
        """Deltas of the topics that somebody follows and whose time has come."""
        due = {depth for depth, every in self._due.items() if every.due(now_ms)}
        if self._holding and self._hold.due(now_ms):
            self._held.clear()
        for topic, followed in list(self._topics.items()):
            if not self._feed.is_followed(topic):
                del self._topics[topic]
            elif self._begin_anew:
                followed.update_id = 0
                self._tell(topic, followed, now_ms, out)
            elif followed.depth in due:
                self._tell(topic, followed, now_ms, out)
        self._begin_anew = False

    def _tell(self, topic: str, followed: _Topic, now_ms: int, out: list[Message]) -> None:
        book = followed.quote.book
        bids, asks = book.bids.top(followed.depth), book.asks.top(followed.depth)
        changed = difference(followed.bids, bids), difference(followed.asks, asks)
        if followed.update_id and not any(changed):
            if followed.depth == 1 and now_ms - followed.told_ms >= REPEAT_MS:
                followed.told_ms = now_ms
                out.append(self._message(topic, followed, "snapshot", (bids, asks), now_ms))
            return
        whole = followed.depth == 1 or not followed.update_id
        followed.update_id += 1
        followed.bids, followed.asks, followed.told_ms = bids, asks, now_ms
        self._counters[topic] = followed.update_id
        told = ("snapshot", (bids, asks)) if whole else ("delta", changed)
        out.append(self._message(topic, followed, *told, now_ms))

    def _message(self, topic: str, followed: _Topic, kind: str, levels: tuple[Levels, Levels], now_ms: int) -> Message:
        """Keys in one order or the other: no client may count on it."""
        data = self._data(followed.quote, levels, followed.update_id)
        body = {"topic": topic, "ts": now_ms, "type": kind, "data": data, "cts": now_ms - _MATCHED_BEFORE_MS}
        if self._feed.random.random() < 0.25:
            body = dict(reversed(body.items()))
        return Message(topic, orjson.dumps(body))

    def _data(self, quote: "Quote", levels: tuple[Levels, Levels], update_id: int) -> dict[str, Any]:
        book, (bids, asks) = quote.book, levels
        return {
            "s": quote.listing.name,
            "b": book.written(book.bids, bids),
            "a": book.written(book.asks, asks),
            "u": update_id,
            "seq": self._feed.next_sequence(),
        }

    def rest(self, quote: "Quote", levels: int, now_ms: int) -> dict[str, Any]:
        """The result of GET /v5/market/orderbook; `u` is that of the 1000-level topic."""
        name, book = quote.listing.name, quote.book
        whole = self._held.get(name)
        if whole is None:
            update_id = self._counters.get(f"orderbook.{REST_LEVELS}.{name}", _FIRST_UPDATE)
            whole = self._data(quote, (book.bids.top(REST_LEVELS), book.asks.top(REST_LEVELS)), update_id)
            whole |= {"ts": now_ms, "cts": now_ms - _MATCHED_BEFORE_MS}
            if self._holding:
                self._held[name] = whole
        return {**whole, "b": whole["b"][:levels], "a": whole["a"][:levels]}

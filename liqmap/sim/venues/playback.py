"""Plays a capture of raw frames through the venue servers, frame by frame as it was received, at the replay's pace.

Topics stay what was recorded: a subscriber of `btcusdt@aggTrade` gets nothing from a capture of `btcusdt@trade`. REST
requests are answered with what had been recorded by that time, else with the venue's error for an unknown path; lists
of contracts are answered from the start, because a recorder asks for them before anything else.
"""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from liqmap.clock import ReplayTime
from liqmap.domain.enums import Venue
from liqmap.logs import fields
from liqmap.sim.venues.feed import Message, Reply, json_reply
from liqmap.sim.venues.server import VenueServer
from liqmap.store.capture import Capture, Record, RecordKind
from liqmap.store.capture_topics import is_served, key_of_request

log = logging.getLogger(__name__)

SORTED_RECORDS: Final = 20_000
SORTED_BYTES: Final = 64 * 1024 * 1024
"""Recorders write one connection after another now and then: this much is held to put records in order of time."""
BATCH: Final = 500
BACKLOG_FRAMES: Final = 20_000
BACKLOG_BYTES: Final = 16 * 1024 * 1024
_LISTS: Final = ("/fapi/v1/exchangeInfo", "/v5/market/instruments-info", "/api/v5/public/instruments")
_BEGINS_WITH_SNAPSHOT: Final = ("tickers.", "orderbook.", "books")
_ENVELOPE_BYTES: Final = 300
"""The type of a message stands this near to one of its ends."""


class CaptureFeed:
    """One venue's share of a capture, as the data behind its server."""

    def __init__(self, venue: Venue, names: Iterable[str]) -> None:
        self._venue = venue
        self._names = frozenset(names)
        self._replies: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
        self._backlogs: dict[str, list[Message]] = {}
        self._backlog_bytes: dict[str, int] = {}

    def lists(self, name: str) -> bool:
        """Contracts that are configured or occur in the capture."""
        return name in self._names

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """A late subscriber of a topic that builds on a snapshot gets everything since the latest one."""
        return tuple(self._backlogs.get(topic, ()))

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """The latest recorded answer to that request; the time is never a recorded one."""
        if path == "/fapi/v1/ping":
            return json_reply({})
        if path in _TIMES:
            return Reply(200, _TIMES[path](now_ms))
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        body = self._replies.get(key_of_request(f"{path}?{asked}"))
        if body is None and path in _LISTS:
            body = next((kept for key, kept in self._replies.items() if key[0] == path), None)
        return None if body is None else Reply(200, body)

    def book_truth(self, contract: str, now_ms: int) -> dict[str, Any] | None:
        """Nobody knows the true books behind a capture."""
        return None

    def standing(self) -> Iterator[Message]:
        """What everybody has to know where the playing begins in the middle: all since each topic's snapshot."""
        return itertools.chain.from_iterable(self._backlogs.values())

    def take_reply(self, record: Record) -> None:
        """From now on this is the answer to that request."""
        self._replies[key_of_request(record.url)] = record.raw

    def take_frame(self, record: Record) -> Message:
        """The message of a frame, remembered while its topic builds on it."""
        message = Message(record.topic, record.data, record.raw if record.raw is not record.data else None)
        if record.topic.startswith(_BEGINS_WITH_SNAPSHOT):
            self._remember(message)
        return message

    def _remember(self, message: Message) -> None:
        topic = message.topic
        if b'"snapshot"' in message.payload[:_ENVELOPE_BYTES] + message.payload[-_ENVELOPE_BYTES:]:
            self._backlogs[topic], self._backlog_bytes[topic] = [], 0
        backlog = self._backlogs.get(topic)
        if backlog is None:
            return
        backlog.append(message)
        self._backlog_bytes[topic] += len(message.payload)
        if len(backlog) > BACKLOG_FRAMES or self._backlog_bytes[topic] > BACKLOG_BYTES:
            del self._backlogs[topic]


class Playback:
    """The capture against the clock. `line` maps receive times of the capture to wall time.

    Of what was received before `from_ns` only what is still good then is used (answers, books, tickers); what was
    received from `to_ns` on is not played.
    """

    def __init__(
        self,
        path: Path,
        feeds: Mapping[Venue, CaptureFeed],
        servers: Mapping[Venue, VenueServer],
        line: ReplayTime,
        from_ns: int = 0,
        to_ns: int | None = None,
    ) -> None:
        """`servers` are those of `feeds`; the capture's records of any other venue would have nowhere to go."""
        self._capture = Capture(path)
        self._feeds = feeds
        self._servers = servers
        self._line = line
        self._from_ns = from_ns
        self._to_ns = to_ns
        self.played = 0
        self.ended = False

    def load_lists(self) -> None:
        """Read the capture once for the lists of contracts, which are to be had from the start."""
        for record in self._capture:
            if record.kind is RecordKind.HTTP and record.url.partition("?")[0] in _LISTS:
                self._feeds[record.venue].take_reply(record)

    async def run(self) -> None:
        """Play to the end, then say so."""
        for server in self._servers.values():
            server.notes["capture"] = "playing"
        batch: dict[Venue, list[Message]] = {venue: [] for venue in self._servers}
        waiting = 0
        records = in_time_order(self._capture)
        for record in self._skipped(records):
            due_ns = self._line.wall_ns(record.receive_ns)
            if waiting >= BATCH or (due_ns > time.time_ns()):
                self._publish(batch)
                waiting = 0
                await self._sleep_until(due_ns)
            if record.kind is RecordKind.HTTP:
                self._feeds[record.venue].take_reply(record)
            elif record.kind is RecordKind.FRAME:
                batch[record.venue].append(self._feeds[record.venue].take_frame(record))
                waiting += 1
        self._publish(batch)
        self.ended = True
        for server in self._servers.values():
            server.notes["capture"] = "ended"
        log.info(
            "the capture is played to its end",
            extra=fields(file=self._capture.path, frames=self.played, losses=self._capture.losses),
        )

    def _skipped(self, records: Iterator[Record]) -> Iterator[Record]:
        """The records of the wished stretch, after taking in what lies before it."""
        skipping = self._from_ns > 0
        for record in records:
            if skipping and record.receive_ns >= self._from_ns:
                skipping = False
                for venue, server in self._servers.items():
                    server.publish(self._feeds[venue].standing())
            if self._to_ns is not None and record.receive_ns >= self._to_ns:
                return
            if not skipping:
                yield record
            elif record.kind is RecordKind.HTTP:
                self._feeds[record.venue].take_reply(record)
            else:
                self._feeds[record.venue].take_frame(record)

    def _publish(self, batch: Mapping[Venue, list[Message]]) -> None:
        for venue, messages in batch.items():
            if messages:
                self._servers[venue].publish(messages)
                self.played += len(messages)
                messages.clear()

    @staticmethod
    async def _sleep_until(due_ns: int) -> None:
        """At least give the servers a turn."""
        await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))


def in_time_order(records: Iterable[Record]) -> Iterator[Record]:
    """Records of served routes sorted by receive time within a bounded window; beyond it a late one comes late."""
    heap: list[tuple[int, int, Record]] = []
    held_bytes = 0
    numbers = itertools.count()
    for record in records:
        if record.kind is RecordKind.CONTROL or not is_served(record.venue, record.route):
            continue
        heapq.heappush(heap, (record.receive_ns, next(numbers), record))
        held_bytes += len(record.raw)
        while len(heap) > SORTED_RECORDS or held_bytes > SORTED_BYTES:
            first = heapq.heappop(heap)[2]
            held_bytes -= len(first.raw)
            yield first
    while heap:
        yield heapq.heappop(heap)[2]


_TIMES: Final = {
    "/fapi/v1/time": lambda now_ms: orjson.dumps({"serverTime": now_ms}),
    "/v5/market/time": lambda now_ms: orjson.dumps(
        {
            "retCode": 0,
            "retMsg": "OK",
            "result": {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)},
            "retExtInfo": {},
            "time": now_ms,
        }
    ),
    "/api/v5/public/time": lambda now_ms: orjson.dumps({"code": "0", "data": [{"ts": str(now_ms)}], "msg": ""}),
}

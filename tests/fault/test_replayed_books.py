"""Recorded order books through the whole ingest: venue servers that play the capture, real links, the depth board."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liqmap.clock import ReplayClock, ReplayTime
from liqmap.domain.enums import BookState, Kind, Venue
from liqmap.exchanges.booksync import BookSync
from liqmap.exchanges.registry import ADAPTERS
from liqmap.store.capture import describe
from liqmap.supervisor.modes import held_config
from tests.listening import Listening, listening
from tests.shared_data import shared
from tests.venue_servers import RunningVenues, capture_servers
from tests.wire.test_books_recorded import updates

SPEED = 10.0
FAST = {"backoff_first_s": 0.05, "backoff_ceiling_s": 0.4, "probe_timeout_s": 600.0}
"""A capture that has come to its end is silent: nobody is to begin anew for that while the last frames are read."""


def subscribed(venues: RunningVenues, venue: Venue, topic: str) -> bool:
    return any(topic in connection["topics"] for connection in venues.state(venue)["connections"])


def book_at_the_end(venue: Venue, file: str, depth: int | None, to_ns: int, route: str) -> BookSync:
    """What the recording itself says, without sockets."""
    sync = BookSync(ADAPTERS[venue].book_rule, depth, 4096)
    for record, update in updates(venue, file, ("BTCUSDT",), route):
        if record.receive_ns < to_ns:
            sync.take(update)
    return sync


@pytest.mark.parametrize(
    ("venue", "file", "topic", "depth", "route"),
    [
        (Venue.BINANCE, "binance_usdm_btcusdt_20240808.gz", "btcusdt@depth@0ms", None, ""),
        (Venue.BYBIT, "bybit_capture.jsonl.gz", "orderbook.200.BTCUSDT", 200, "linear"),
    ],
)
def test_a_replayed_capture_shows_the_recorded_book(
    venue: Venue, file: str, topic: str, depth: int | None, route: str
) -> None:
    path = shared(f"data/wire/{file}")
    held = describe(Path(path))
    to_ns = held.first_ns + 25 * 10**9
    line = ReplayTime(held.first_ns - int(2 * SPEED * 1e9), time.time_ns(), SPEED)
    with capture_servers(path, line, to_ns=to_ns) as venues:
        config = held_config(venues.config(ingest=FAST), held, "BTC")
        assert config == held_config(config, held, "BTC")
        with listening(config, clock=ReplayClock(line)) as ingest:
            sink = ingest.depth["BTC"]
            seen: list[Any] = []
            sink.watch = lambda record: seen.append(record["venues"][int(venue) - 1].copy())
            ingest.until(lambda: subscribed(venues, venue, topic), "the subscription")
            venues.begin()
            expected = book_at_the_end(venue, file, depth, to_ns, route)
            last = -1 if expected.last is None else expected.last.sequence

            def whole_to_the_end() -> bool:  # on a busy machine the snapshot comes when all updates have
                row = sink.venue(venue)
                return bool(row["state"] == BookState.SYNCED and row["sequence"] == last)

            ingest.until(whole_to_the_end, "the last recorded update, and the snapshot that it builds on")
            check(ingest, venue, expected, seen)


def check(ingest: Listening, venue: Venue, expected: BookSync, seen: list[Any]) -> None:
    row = ingest.depth["BTC"].venue(venue)
    assert (row["best_bid"], row["best_ask"]) == (expected.book.best_bid, expected.book.best_ask)
    assert (row["sequence_gaps"], row["crossed"], row["resyncs"]) == (0, 0, 0)
    whole = [row for row in seen if row["state"] == BookState.SYNCED]
    assert whole
    assert all(row["best_bid"] < row["best_ask"] for row in whole)
    assert all(np.isnan(row["best_bid"]) for row in seen if row["state"] != BookState.SYNCED)
    mids = ingest.events("BTC", Kind.MID_PRICE)["price"]
    assert np.isclose(mids[-1], expected.book.mid)

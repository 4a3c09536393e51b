"""Faults of order books and of clocks: what the API showed during and after. A book that cannot be vouched for shows no
number; one that is shown again is whole."""

from collections.abc import Iterator
from typing import Any

import pytest

from liqmap.domain.enums import GapReason, Kind, PositionSide, Topic, Venue
from tests.venue_servers import venue_servers
from tests.watched import VENUES, Watched, watching

DEPTH = {Venue.BINANCE: "*@depth*", Venue.BYBIT: "orderbook.*", Venue.OKX: "books/*"}
each_venue = pytest.mark.parametrize("venue", VENUES, ids=lambda venue: venue.name.lower())


@pytest.fixture(scope="module")
def shared() -> Iterator[Watched]:
    """One instance for all tests here; each leaves it calm."""
    with (
        venue_servers() as venues,
        watching(venues, polls={"clock_poll_s": 0.5}, silent_after_s=8.0, probe_timeout_s=8.0) as watched,
    ):
        yield watched


@pytest.fixture
def seen(seen: Watched) -> Watched:
    """With whole books, too."""
    seen.speaking_until(lambda: all(book(seen, venue)["synced"] for venue in VENUES), "whole books")
    return seen


def book(seen: Watched, venue: Venue) -> Any:
    """What the API says of one venue's book."""
    return seen.get("/orderbook_heatmap_stats")["venues"][venue.name.lower()]


def others_synced(seen: Watched, venue: Venue) -> bool:
    """The books of the other venues are whole."""
    return all(book(seen, other)["synced"] for other in VENUES if other is not venue)


def whole_and_right(seen: Watched, venue: Venue) -> None:
    """The book is shown again, and it is the venue's: the best prices move with it."""
    market = seen.venues.market("BTC")
    market.mark_price = price = 60_000.0 + 10.0 * (1 + market.mark_price % 5)
    for each in VENUES:
        market.trade(each, price, 0.01)

    def right() -> bool:
        shown = book(seen, venue)
        sides = market.book(venue)
        best = [max(price for side, price in sides if side == 1), min(price for side, price in sides if side == 2)]
        return bool(shown["synced"]) and [shown["best_bid"], shown["best_ask"]] == pytest.approx(best, abs=0.15)

    seen.until(right, "the book as it stands at the venue")


@each_venue
def test_gap_in_a_book(seen: Watched, venue: Venue) -> None:
    before, known = book(seen, venue), len(seen.outages(venue, Topic.DEPTH))
    seen.venues.fault(venue, {"fault": "gap", "topic": DEPTH[venue], "count": 1})
    seen.speaking_until(lambda: book(seen, venue)["gaps"] > before["gaps"], "the hole noticed")
    assert others_synced(seen, venue)
    seen.speaking_until(lambda: book(seen, venue)["synced"], "the book whole again")
    seen.calm()
    assert book(seen, venue)["resyncs"] > before["resyncs"]
    reason, from_ms, to_ms = seen.outages(venue, Topic.DEPTH)[known]
    assert reason is GapReason.SEQUENCE and to_ms >= from_ms
    whole_and_right(seen, venue)


def test_stale_snapshot(seen: Watched) -> None:
    """Binance serves an old snapshot: the book is asked for again and again, and shows nothing until one bridges."""
    venue, known = Venue.BINANCE, len(seen.outages(Venue.BINANCE, Topic.DEPTH))
    seen.venues.fault(venue, {"fault": "stale_snapshot", "period_s": 600})
    ticks = seen.events("BTC", Kind.TICK).size
    seen.speaking_until(lambda: seen.events("BTC", Kind.TICK).size > ticks + 3, "time that makes it old")
    seen.venues.fault(venue, {"fault": "gap", "topic": DEPTH[venue], "count": 3})
    seen.speaking_until(lambda: not book(seen, venue)["synced"], "the broken book")
    asked = seen.router.frames
    seen.speaking_until(lambda: seen.router.frames > asked + 40, "a while")
    shown = book(seen, venue)
    assert not shown["synced"] and shown["best_bid"] is None and shown["best_ask"] is None
    assert {("binance", "depth", "sequence")} == seen.gaps() and others_synced(seen, venue)
    assert seen.health()["status"] == "degraded" and seen.feed(venue)["topics"]["trade"]["missing"] is False
    seen.venues.fault(venue, {"fault": "clear"})
    seen.speaking_until(lambda: book(seen, venue)["synced"], "the book whole again")
    seen.calm()
    assert len(seen.outages(venue, Topic.DEPTH)) > known
    whole_and_right(seen, venue)


@each_venue
@pytest.mark.parametrize("fault", ["sequence_reset", "book_restart"])
def test_books_that_begin_anew(seen: Watched, venue: Venue, fault: str) -> None:
    """Numbers set back, snapshots in mid-stream: each venue's rule says whether that breaks the book (OKX allows the
    first once, Bybit and OKX the second); afterwards it is the venue's in any case."""
    before, messages = book(seen, venue), seen.feed(venue)["topics"]["depth"]["events"]
    assert seen.venues.fault(venue, {"fault": fault})["reached"] > 0
    seen.speaking_until(
        lambda: seen.feed(venue)["topics"]["depth"]["events"] > messages + 3 and book(seen, venue)["synced"],
        "the book after it",
    )
    seen.calm()
    assert others_synced(seen, venue)
    harmless = venue is Venue.OKX or (venue is Venue.BYBIT and fault == "book_restart")
    assert (book(seen, venue)["gaps"] == before["gaps"]) is harmless
    whole_and_right(seen, venue)


@each_venue
def test_reorder_and_duplicate_in_a_book(seen: Watched, venue: Venue) -> None:
    """Updates that change places are a hole, and mended; updates that come twice are nothing."""
    before = book(seen, venue)["gaps"]
    seen.venues.fault(venue, {"fault": "duplicate", "topic": DEPTH[venue], "count": 5})
    messages = seen.feed(venue)["topics"]["depth"]["events"]
    seen.speaking_until(lambda: seen.feed(venue)["topics"]["depth"]["events"] > messages + 5, "updates")
    assert book(seen, venue)["gaps"] == before
    seen.venues.fault(venue, {"fault": "clear"})
    seen.venues.fault(venue, {"fault": "reorder", "topic": DEPTH[venue], "count": 1})
    seen.speaking_until(lambda: book(seen, venue)["gaps"] > before, "the swap noticed")
    seen.calm()
    seen.speaking_until(lambda: book(seen, venue)["synced"], "the book whole again")
    assert others_synced(seen, venue)
    whole_and_right(seen, venue)


@pytest.mark.finding("M13")
@each_venue
def test_malformed_in_a_book(seen: Watched, venue: Venue) -> None:
    """A broken message between good ones costs itself; the connection of the books stays."""
    link = f"{venue.name.lower()}/depth"
    opened, before = seen.feeds.sources[link].opened_ns, seen.feed(venue)["malformed"]
    kinds = ("truncated", "bad_utf8", "not_json", "garbage")
    for kind in kinds:
        assert seen.venues.fault(venue, {"fault": "malformed", "kind": kind, "topic": DEPTH[venue]})["reached"] == 1
    seen.venues.fault(venue, {"fault": "oversized", "bytes": 1_000_000, "topic": DEPTH[venue]})
    seen.speaking_until(lambda: seen.feed(venue)["malformed"] >= before + len(kinds) + 1, "every bad message counted")
    seen.calm()
    assert seen.feeds.sources[link].opened_ns == opened
    whole_and_right(seen, venue)


@each_venue
@pytest.mark.parametrize("skew_s", [-700, 5])
def test_clock_skew(seen: Watched, venue: Venue, skew_s: int) -> None:
    """A venue whose clock is wrong: that is said aloud, and nothing it tells is refused for it."""
    name, market = venue.name.lower(), seen.venues.market("BTC")
    seen.venues.fault(venue, {"fault": "clock_skew", "ms": skew_s * 1000})
    seen.speaking_until(
        lambda: abs((seen.feed(venue)["clock_offset_ms"] or 0.0) + skew_s * 1000) < 1000, "the offset shown"
    )
    word = "ahead of" if skew_s < 0 else "behind"
    seen.speaking_until(
        lambda: any(line.startswith(f"{name}: our clock is") and word in line for line in seen.health()["problems"]),
        "the alarm in words",
    )
    assert seen.feed(venue)["delivering"] and not seen.get("/liq_events")["stale"]
    assert all(abs(seen.feed(other)["clock_offset_ms"]) < 500 for other in VENUES if other is not venue)
    printed: list[float] = [53_000.0 + 100 * venue + skew_s % 10]

    def told() -> bool:
        if len(printed) < 30:
            printed.append(printed[-1] + 0.5)
            market.liquidate(venue, PositionSide.LONG, printed[-1], 58_300.0, 3.501)
        rows = seen.events("BTC", Kind.LIQUIDATION)
        return any(price in printed for price in rows["price"][rows["venue"] == venue])

    seen.speaking_until(told, "a liquidation from there")
    seen.venues.fault(venue, {"fault": "clear"})
    seen.speaking_until(lambda: abs(seen.feed(venue)["clock_offset_ms"]) < 500, "the offset gone")
    seen.speaking_until(
        lambda: not any(line.startswith(f"{name}: our clock is") for line in seen.health()["problems"]),
        "the alarm over",
    )
    seen.calm()

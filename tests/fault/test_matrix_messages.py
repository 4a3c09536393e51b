"""Faults in what a venue says: lost, repeated, swapped, broken, far too long. What the API showed during and after."""

import json
from collections.abc import Callable, Iterator

import pytest

from liqmap.domain.enums import GapReason, Kind, PositionSide, Topic, Venue
from tests.watched import VENUES, Watched

TRADES = {Venue.BINANCE: "*@aggTrade", Venue.BYBIT: "publicTrade.*", Venue.OKX: "trades/*"}
LIQUIDATIONS = {Venue.BINANCE: "!forceOrder@arr", Venue.BYBIT: "allLiquidation.*", Venue.OKX: "liquidation-orders/*"}
ON_LINKS = ("truncated", "wrong_types", "bad_utf8", "not_json", "nested", "garbage")
LOST_TRADES = {(Venue.BINANCE, Topic.TRADE, GapReason.SEQUENCE)}
each_venue = pytest.mark.parametrize("venue", VENUES, ids=lambda venue: venue.name.lower())


@pytest.fixture
def undisturbed(seen: Watched) -> Iterator[Watched]:
    """Whatever is said, no link may be torn down for it, and nothing may be called missing but numbered trades."""
    links = {name: source.opened_ns for name, source in seen.feeds.sources.items() if source.is_link}
    gaps = len(seen.events("BTC", Kind.GAP))
    yield seen
    seen.calm()
    assert {name: source.opened_ns for name, source in seen.feeds.sources.items() if source.is_link} == links
    assert lost(seen, gaps) <= LOST_TRADES


def lost(seen: Watched, known: int) -> set[tuple[Venue, Topic, GapReason]]:
    """What the gaps behind the first so many say."""
    rows = seen.events("BTC", Kind.GAP)[known:]
    return {(Venue(row["venue"]), Topic(int(row["topic"])), GapReason(int(row["side"]))) for row in rows}


def trades_told(seen: Watched, low: float) -> Callable[[Venue], list[float]]:
    """The prices from `low` on that a venue's trades had, in the order of the ring."""
    return lambda venue: [price for price in seen.prices(venue) if price >= low]


@each_venue
def test_gap(undisturbed: Watched, venue: Venue) -> None:
    """What the venue lost is lost, and the rest is exact. Binance numbers its trades: there the loss is told."""
    seen, low = undisturbed, 100_000.0 * (1 + venue)
    gaps, known = len(seen.events("BTC", Kind.GAP)), len(seen.outages(venue, Topic.TRADE))
    seen.venues.fault(venue, {"fault": "gap", "topic": TRADES[venue], "count": 2})
    seen.print_one_by_one(venue, [low, low + 1, low + 2, low + 3])
    seen.until(lambda: low + 3 in seen.prices(venue), "the last trade")
    assert trades_told(seen, low)(venue) == [low + 2, low + 3]
    assert lost(seen, gaps) == (LOST_TRADES if venue is Venue.BINANCE else set())
    for reason, from_ms, to_ms in seen.outages(venue, Topic.TRADE)[known:]:
        assert reason is GapReason.SEQUENCE and to_ms >= from_ms
    assert seen.health()["status"] == "ok", "it is over as soon as it is known"


def test_drop(undisturbed: Watched) -> None:
    """A share of the trades is lost: what comes is right, and the venue counts as delivering."""
    seen, low = undisturbed, 1_000_000.0
    seen.venues.fault(Venue.OKX, {"fault": "drop", "topic": "trades/*", "share": 0.5})
    prices = [low + number for number in range(20)]
    seen.print_one_by_one(Venue.OKX, prices)
    seen.venues.fault(Venue.OKX, {"fault": "clear"})
    seen.print_one_by_one(Venue.OKX, [low + 20])
    seen.until(lambda: low + 20 in seen.prices(Venue.OKX), "the last trade")
    told = trades_told(seen, low)(Venue.OKX)
    assert 3 < len(told) < 20 and told == sorted(set(told))
    assert seen.feed(Venue.OKX)["delivering"]


@each_venue
def test_duplicate(undisturbed: Watched, venue: Venue) -> None:
    """What comes twice counts once: trades and liquidations alike, at every venue."""
    seen, low = undisturbed, 2_000_000.0 * (1 + venue)
    market, printed = seen.venues.market("BTC"), [57_000.0 + 100 * venue]
    seen.venues.fault(venue, {"fault": "duplicate"})
    prices = [low + number for number in range(5)]
    seen.print_one_by_one(venue, prices)
    seen.until(lambda: prices[-1] in seen.prices(venue), "the last trade")

    def liquidated() -> list[float]:
        rows = seen.events("BTC", Kind.LIQUIDATION)
        return [float(price) for price in rows["price"][rows["venue"] == venue] if price >= 57_000.0 + 100 * venue]

    def told() -> list[float]:
        if not market.untold(venue) and len(printed) < 20:  # Binance shows one a second, and none that is half filled
            printed.append(printed[-1] + 1.0)
            market.liquidate(venue, PositionSide.LONG, printed[-1], 58_300.0, 3.501)
        return liquidated()

    seen.until(told, "a liquidation")
    seen.venues.fault(venue, {"fault": "clear"})
    seen.print_one_by_one(venue, [low + 5])
    seen.until(lambda: low + 5 in seen.prices(venue), "a trade after it")
    assert trades_told(seen, low)(venue) == [*prices, low + 5]
    assert len(set(liquidated())) == len(liquidated())
    shown = [row["printed_price"] for row in seen.get("/liq_events?limit=5000")["events"]]
    assert sorted(price for price in shown if price in printed) == sorted(liquidated())


@each_venue
def test_reorder(undisturbed: Watched, venue: Venue) -> None:
    """Neighbours change places: every trade is there, once."""
    seen, low = undisturbed, 10_000_000.0 * (1 + venue)
    seen.venues.fault(venue, {"fault": "reorder", "topic": TRADES[venue]})
    prices = [low + number for number in range(6)]
    seen.print_one_by_one(venue, prices)
    seen.venues.fault(venue, {"fault": "clear"})
    told = trades_told(seen, low)
    seen.until(lambda: len(told(venue)) >= 6, "every trade")
    assert told(venue) == [low + 1, low, low + 3, low + 2, low + 5, low + 4]


@pytest.mark.finding("M13")
@each_venue
def test_malformed(undisturbed: Watched, venue: Venue) -> None:
    """A bad message on any connection costs that message: it is counted, kept with its reason, and shown."""
    seen, name = undisturbed, venue.name.lower()
    links = [source for source, listener in seen.router.listeners.items() if listener.venue is venue]
    before, quarantined = seen.feed(venue)["malformed"], seen.feeds.quarantined
    for kind in ON_LINKS:
        for topic in (TRADES[venue], LIQUIDATIONS[venue]):
            reached = seen.venues.fault(venue, {"fault": "malformed", "kind": kind, "topic": topic})["reached"]
            assert reached == 1
        seen.speak()
    least = 2 * len(ON_LINKS) - 2  # of wrong types only those in a field that somebody reads are a fault
    seen.speaking_until(lambda: seen.feed(venue)["malformed"] >= before + least, "every bad message counted")
    assert seen.health()["status"] == "ok" and seen.feed(venue)["delivering"]
    assert seen.feeds.quarantined > quarantined
    kept = [json.loads(line) for line in seen.quarantine._newer.read_text().splitlines()]
    assert all(row["why"] for row in kept) and name in {row["venue"] for row in kept}
    assert len(links) >= 2


@each_venue
def test_corrupt(seen: Watched, venue: Venue) -> None:
    """Every message of the trades arrives broken: trades are missing for as long as that lasts, and nothing else."""
    links = {name: source.opened_ns for name, source in seen.feeds.sources.items() if source.is_link}
    low = 50_000_000.0 * (1 + venue)
    before = seen.feed(venue)["malformed"]
    seen.venues.fault(venue, {"fault": "corrupt", "topic": TRADES[venue], "kind": "truncated"})
    seen.print_one_by_one(venue, [low, low + 1, low + 2])
    seen.until(lambda: seen.feed(venue)["malformed"] >= before + 3, "three bad messages counted")
    assert trades_told(seen, low)(venue) == []
    seen.venues.fault(venue, {"fault": "clear"})
    seen.print_one_by_one(venue, [low + 3])
    seen.until(lambda: low + 3 in seen.prices(venue), "a good one after them")
    assert trades_told(seen, low)(venue) == [low + 3]
    seen.calm()
    assert {name: source.opened_ns for name, source in seen.feeds.sources.items() if source.is_link} == links


@pytest.mark.finding("M13")
def test_oversized(undisturbed: Watched) -> None:
    seen = undisturbed
    before = {venue: seen.feed(venue)["malformed"] for venue in VENUES}
    for venue in VENUES:
        seen.venues.fault(venue, {"fault": "oversized", "bytes": 2_000_000, "count": 2})
    least = {venue: len([1 for one in seen.router.listeners.values() if one.venue is venue]) * 2 for venue in VENUES}
    seen.speaking_until(
        lambda: all(seen.feed(venue)["malformed"] >= before[venue] + least[venue] for venue in VENUES),
        "every oversized message counted",
    )
    assert seen.health()["status"] == "ok"
    kept = seen.quarantine._newer.read_text()
    assert "262144" in kept and len(kept) < 1_000_000, "of a huge message the beginning is kept"

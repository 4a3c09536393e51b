"""Faults by which a venue says less, later or nothing while its connection stands: what the API showed during and
after each of them."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from liqmap.config import Config
from liqmap.domain.enums import GapReason, Kind, PositionSide, Topic, Venue
from tests.venue_servers import ScriptedMarket, venue_servers
from tests.watched import VENUES, Watched, watching

PROBE_S = 2.6
SILENT_S = 2.0

OF_TOPIC = {
    (Venue.BINANCE, Topic.TRADE): "*@aggTrade",
    (Venue.BINANCE, Topic.MARK_PRICE): "*@markPrice*",
    (Venue.OKX, Topic.MARK_PRICE): "mark-price/*",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Watched]:
    """One instance for all tests here; each leaves it calm."""
    with venue_servers() as venues, watching(venues, silent_after_s=SILENT_S, probe_timeout_s=PROBE_S) as watched:
        yield watched


@pytest.mark.parametrize(("venue", "topic"), OF_TOPIC, ids=lambda value: value.name.lower())
def test_silent(seen: Watched, venue: Venue, topic: Topic) -> None:
    known, name, word = len(seen.outages(venue, topic)), venue.name.lower(), topic.name.lower()
    others = [other for other in VENUES if other is not venue]
    seen.venues.fault(venue, {"fault": "silent", "topic": OF_TOPIC[venue, topic]})
    gap = (name, word, "silent")

    def named_alone() -> bool:  # on a busy machine another may pause for as long, and speak again
        return gap in seen.gaps() and all(seen.feed(other)["delivering"] for other in others)

    seen.speaking_until(named_alone, f"the silence of {word} named, and no other")
    assert seen.topic(venue, topic)["silent"]
    health = seen.health()
    assert health["status"] == "degraded", "what else speaks keeps the map fresh"
    assert health["feeds"][name]["state"] == "silent"
    assert f"{word} BTC" in health["feeds"][name]["reason"]
    said = [line for line in health["problems"] if line.endswith(f"from {name} for BTC: silent")]
    assert len(said) == 1 and word.replace("_", " ") in said[0]
    assert not seen.get("/liq_events")["stale"]

    seen.venues.fault(venue, {"fault": "clear"})
    seen.until_all_up()
    assert gap not in seen.gaps() and not seen.topic(venue, topic)["silent"]
    reason, from_ms, to_ms = seen.outages(venue, topic)[known]
    assert reason is GapReason.SILENT
    assert to_ms - from_ms >= SILENT_S * 1000, "it begins with the last fact, not with the alarm"


def test_half_open(seen: Watched) -> None:
    """Only the connection that carries the facts: the one of the trades is not touched."""
    known, before = len(seen.outages(Venue.OKX, Topic.LIQUIDATION)), seen.feed(Venue.OKX)["reconnects"]
    trades = seen.feeds.sources["okx/trades"].opened_ns
    seen.venues.fault(Venue.OKX, {"fault": "half_open", "topic": "mark-price/*"})
    why = f"no market data for {PROBE_S:g} s"
    seen.speaking_until(lambda: why in seen.feed(Venue.OKX)["reason"], "the dead connection noticed")
    assert not seen.feed(Venue.OKX)["delivering"]
    assert {gap[0] for gap in seen.gaps()} == {"okx"} and "trade" not in {gap[1] for gap in seen.gaps()}
    assert seen.health()["status"] == "degraded"
    seen.calm()
    assert seen.feed(Venue.OKX)["reconnects"] > before
    assert seen.feeds.sources["okx/trades"].opened_ns == trades
    outages = seen.outages(Venue.OKX, Topic.LIQUIDATION)[known:]
    assert len(outages) == 1 and outages[0][2] > outages[0][1], "the quiet topic was missing, too, until it came back"


def test_stall(seen: Watched) -> None:
    """Shorter than anybody's patience: everything comes, once and in order, and nothing was ever missing."""
    gaps, market = len(seen.events("BTC", Kind.GAP)), seen.venues.market("BTC")
    for venue in VENUES:
        seen.venues.fault(venue, {"fault": "stall", "for_s": 0.6})
    wanted = [70_000.0 + number for number in range(5)]
    for price in wanted:
        with market.together():
            for venue in VENUES:
                market.trade(venue, price, 0.01)
            market.liquidate(Venue.BYBIT, PositionSide.LONG, 58_000.0, 58_300.0, price - 69_998.999)
        seen.until(lambda: not any(market.untold(venue) for venue in VENUES), "a step of the market")

    def told(venue: Venue) -> list[float]:
        return [price for price in seen.prices(venue) if 70_000.0 <= price < 70_005.0]

    seen.until(lambda: all(len(told(venue)) >= 5 for venue in VENUES), "everything, late")
    assert all(told(venue) == wanted for venue in VENUES)
    rows = seen.events("BTC", Kind.TRADE)
    first = rows[(rows["venue"] == Venue.OKX) & (rows["price"] == 70_000.0)][0]
    assert first["receive_ns"] / 1e6 - first["venue_ms"] > 100, "it was held back"

    def liquidated() -> list[float]:
        rows = seen.events("BTC", Kind.LIQUIDATION)
        return sorted(rows["quantity"][rows["venue"] == Venue.BYBIT])

    seen.until(lambda: len(liquidated()) >= 5, "every liquidation")
    seen.until_all_up()
    assert liquidated() == [1.001, 2.001, 3.001, 4.001, 5.001], "odd lots: Bybit tells some even ones in halves"
    assert len(seen.events("BTC", Kind.GAP)) == gaps


def test_slow(seen: Watched) -> None:
    """A venue whose messages come a second late goes on delivering, and its lag says so."""
    gaps = len(seen.events("BTC", Kind.GAP))
    seen.venues.fault(Venue.OKX, {"fault": "slow", "latency_s": 1.0})
    seen.speaking_until(lambda: seen.feed(Venue.OKX)["lag_ms"] > 200, "the lag shown")
    assert seen.feed(Venue.OKX)["delivering"] and seen.feed(Venue.BYBIT)["lag_ms"] < 200
    seen.venues.fault(Venue.OKX, {"fault": "clear"})
    seen.speaking_until(lambda: seen.feed(Venue.OKX)["lag_ms"] < 150, "the lag gone")
    assert len(seen.events("BTC", Kind.GAP)) == gaps


def test_trickle(seen: Watched) -> None:
    """Frames in pieces, and a line that carries less than there is to say: late, but whole and in order."""
    malformed = seen.feed(Venue.BINANCE)["malformed"]
    seen.venues.fault(Venue.BINANCE, {"fault": "trickle", "bytes_per_s": 1500})
    market = seen.venues.market("BTC")
    wanted = [80_000.0 + number for number in range(15)]
    for price in wanted:
        market.trade(Venue.BINANCE, price, 0.01)
        seen.until(lambda: not market.untold(Venue.BINANCE), "a step of the market")
    seen.until(lambda: 80_000.0 in seen.prices(Venue.BINANCE), "the first ones")
    seen.venues.fault(Venue.BINANCE, {"fault": "trickle", "on": False})
    seen.until(lambda: wanted[-1] in seen.prices(Venue.BINANCE), "the rest")
    assert [price for price in seen.prices(Venue.BINANCE) if price >= 80_000.0] == wanted
    assert seen.feed(Venue.BINANCE)["malformed"] == malformed


@pytest.mark.finding("X12")
def test_the_retired_route_of_binance_connects_acknowledges_and_stays_silent() -> None:
    """The worst failure of 2026: everything looks alive, and nothing comes but books."""
    with venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues:
        legacy = f"ws://127.0.0.1:{venues.ports[Venue.BINANCE]}"

        def retired(config: Config) -> Config:  # the file would not be accepted: the route is checked there, too
            binance = replace(config.venues.binance, market_ws=legacy)
            return replace(config, venues=replace(config.venues, binance=binance))

        with watching(venues, change=retired, silent_after_s=SILENT_S, probe_timeout_s=PROBE_S) as seen:
            silent = {("binance", topic, "silent") for topic in ("mark_price", "trade", "liquidation")}
            seen.speaking_until(lambda: silent <= seen.gaps(), "the silence of every market stream named")
            health = seen.health()
            assert health["status"] == "degraded" and health["symbols"]["BTC"]["ready"], "others carry the map"
            assert health["feeds"]["binance"]["state"] == "silent"
            assert not health["feeds"]["binance"]["delivering"]
            assert "mark_price BTC" in health["feeds"]["binance"]["reason"]
            assert seen.feeds.sources["binance/facts"].opened_ns > 0, "it did connect"
            assert {gap for gap in seen.gaps() if gap[0] != "binance"} == set()

"""Faults by which a venue says less or nothing while its connection stands: what the API showed during and after each
of them."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from liqmap.config import Config
from liqmap.domain.enums import GapReason, Topic, Venue
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


def test_half_open(seen: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """Only the connection that carries the facts: the one of the trades is not touched. New ones are refused until we
    have looked, so that what the API shows meanwhile stands however fast this machine is."""
    known, before = len(seen.outages(Venue.OKX, Topic.LIQUIDATION)), seen.feed(Venue.OKX)["reconnects"]
    trades = seen.feeds.sources["okx/trades"].opened_ns
    seen.venues.fault(Venue.OKX, {"fault": "half_open", "topic": "mark-price/*"})
    seen.venues.fault(Venue.OKX, {"fault": "refuse", "kind": "503"})
    seen.speaking_until(lambda: "temporarily unavailable" in seen.feed(Venue.OKX)["reason"], "it, given up")
    assert any(f"no market data for {PROBE_S:g} s" in str(vars(line)) for line in caplog.records)
    assert not seen.feed(Venue.OKX)["delivering"]
    assert {gap[0] for gap in seen.gaps()} == {"okx"} and "trade" not in {gap[1] for gap in seen.gaps()}
    assert seen.health()["status"] == "degraded"
    seen.calm()
    assert seen.feed(Venue.OKX)["reconnects"] > before
    assert seen.feeds.sources["okx/trades"].opened_ns == trades
    outages = seen.outages(Venue.OKX, Topic.LIQUIDATION)[known:]
    assert len(outages) == 1 and outages[0][2] > outages[0][1], "the quiet topic was missing, too, until it came back"


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

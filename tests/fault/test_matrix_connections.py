"""Faults of connections: closed with every code, reset, announced, refused. What the API showed during and after."""

import pytest

from liqmap.domain.enums import GapReason, PositionSide, Topic, Venue
from liqmap.ingest.handoff import LinkState
from tests.watched import VENUES, Watched

CODES = (1000, 1001, 1006, 1008, 1009, 1011, 4004)
each_venue = pytest.mark.parametrize("venue", VENUES, ids=lambda venue: venue.name.lower())

REFUSALS = {
    (Venue.BINANCE, "reset"): ("backoff", "handshake with"),
    (Venue.BINANCE, "429"): ("refused", "Too many requests"),
    (Venue.BINANCE, "451"): ("refused", "restricted location"),
    (Venue.BYBIT, "403_too_frequent"): ("refused", "access too frequent"),
    (Venue.BYBIT, "403_country"): ("refused", "could not be satisfied"),
    (Venue.OKX, "50011"): ("refused", "Rate limit reached"),
    (Venue.OKX, "403_country"): ("refused", "not available in your region"),
}


@pytest.mark.parametrize("code", CODES)
def test_disconnect(seen: Watched, code: int) -> None:
    """Whatever the code: the venue is missing with that reason, the others are not, and it comes back by itself."""
    venue = VENUES[CODES.index(code) % len(VENUES)]
    name, topics = venue.name.lower(), (Topic.TRADE, Topic.LIQUIDATION, Topic.MARK_PRICE)
    known = {topic: len(seen.outages(venue, topic)) for topic in topics}
    before = seen.feed(venue)["reconnects"]
    # The next ones are refused for a moment, so that the outage can be looked at.
    seen.venues.fault(venue, {"fault": "refuse", "kind": "503"})
    seen.venues.fault(venue, {"fault": "disconnect", "code": code, "reason": "bye"})
    seen.speaking_until(lambda: (name, "trade", "disconnected") in seen.gaps(), "the outage")
    assert {(name, topic.name.lower(), "disconnected") for topic in topics} <= seen.gaps()
    assert {gap[0] for gap in seen.gaps()} == {name}
    health = seen.health()
    assert health["status"] == "degraded" and health["symbols"]["BTC"]["ready"]
    assert health["feeds"][name]["state"] in ("backoff", "connecting") and not health["feeds"][name]["delivering"]
    assert any(line.startswith(f"{name} does not deliver") for line in health["problems"])
    seen.calm()
    assert seen.feed(venue)["reconnects"] >= before + 2
    for topic in topics:
        (reason, from_ms, to_ms), *more = seen.outages(venue, topic)[known[topic] :]
        assert (reason, more) == (GapReason.DISCONNECTED, [])
        assert to_ms >= from_ms


def test_the_close_code_and_its_words_are_shown(seen: Watched) -> None:
    seen.venues.fault(Venue.OKX, {"fault": "refuse"})
    seen.venues.fault(Venue.OKX, {"fault": "disconnect", "code": 4004, "reason": "No data received in 30s."})
    said: set[str] = set()

    def told() -> bool:
        said.add(seen.feed(Venue.OKX)["reason"])
        return any("4004 No data received in 30s." in reason for reason in said)

    seen.speaking_until(told, "the venue's words")


@pytest.mark.finding("M14")
@pytest.mark.finding("M16")
def test_retries_come_later_and_later_by_as_much_as_is_shown(seen: Watched) -> None:
    """Full jitter below a doubling ceiling, on real links: what is waited is what is shown, and no storm."""
    link = seen.feeds.sources["bybit/trades"]
    seen.venues.fault(Venue.BYBIT, {"fault": "refuse", "kind": "503"})
    seen.venues.fault(Venue.BYBIT, {"fault": "disconnect", "topic": "publicTrade.*"})
    tries: list[tuple[float, int]] = []

    def tried() -> bool:
        if link.state is LinkState.BACKOFF and (
            not tries or tries[-1][1] != link.reconnects
        ):  # it waits at this moment
            tries.append((link.delay_s, link.reconnects))
        return len(tries) >= 6

    seen.speaking_until(tried, "several tries")
    assert all(0.05 <= delay_s <= 0.35 for delay_s, _ in tries), tries
    assert len({round(delay_s, 4) for delay_s, _ in tries}) > 2, "they are drawn"
    assert seen.feed(Venue.BYBIT)["backoff_s"] > 0
    seen.calm()
    assert seen.feed(Venue.BYBIT)["backoff_s"] == 0


def test_restart(seen: Watched) -> None:
    """OKX says that it will close: the next connection stands before the old one ends; nothing is lost, nothing
    twice, and nothing was missing for a moment."""
    links = ("okx/facts", "okx/trades")
    opened = {name: seen.feeds.sources[name].opened_ns for name in links}
    known, tries = len(seen.outages(Venue.OKX, Topic.TRADE)), seen.feed(Venue.OKX)["reconnects"]
    market, told = seen.venues.market("BTC"), [0]
    seen.venues.fault(Venue.OKX, {"fault": "restart", "after_s": 2.0})

    def moved() -> bool:
        told[0] += 1
        market.mark_price += 0.5
        market.trade(Venue.OKX, 500_000.0 + told[0], 1.0)
        if told[0] % 5 == 0:
            market.liquidate(Venue.OKX, PositionSide.LONG, 58_000.0, 58_300.0, float(told[0]))
        return all(
            seen.feeds.sources[name].opened_ns > opened[name] and len(seen.router.listeners[name].sessions) == 1
            for name in links
        )

    seen.until(moved, "new connections in place of the old")
    seen.until(lambda: 500_000.0 + told[0] in seen.prices(Venue.OKX), "the last trade")
    numbered = [price - 500_000.0 for price in seen.prices(Venue.OKX) if price > 500_000.0]
    assert numbered == [float(number) for number in range(1, told[0] + 1)]
    assert len(seen.outages(Venue.OKX, Topic.TRADE)) == known
    assert seen.feed(Venue.OKX)["reconnects"] == tries
    shown = [row["qty_base"] for row in seen.get("/liq_events?limit=5000&venue=okx")["events"]]
    assert shown == [float(number) for number in range(5, told[0] + 1, 5)]


@pytest.mark.parametrize(("venue", "kind"), REFUSALS, ids=lambda value: getattr(value, "name", value))
def test_refuse(seen: Watched, venue: Venue, kind: str) -> None:
    """A refused handshake: what it means is told in the venue's words, and waited for as the venue wants."""
    state, words = REFUSALS[venue, kind]
    name, others = venue.name.lower(), [other for other in VENUES if other is not venue]
    seen.venues.fault(venue, {"fault": "refuse", "kind": kind})
    seen.venues.fault(venue, {"fault": "disconnect"})
    seen.speaking_until(
        lambda: seen.feed(venue)["state"] == state and words in seen.feed(venue)["reason"], "the refusal named"
    )
    feed = seen.feed(venue)
    assert not feed["delivering"]
    if state == "refused":
        assert feed["backoff_s"] > 60, "seconds that the venue wants, not ours"
        seen.speaking_until(lambda: (name, "trade", "refused") in seen.gaps(), "the gap called by its reason")
    assert all(seen.feed(other)["delivering"] for other in others), "no other venue notices"
    seen.venues.fault(venue, {"fault": "clear"})
    if state == "refused":
        seen.passing.let_pass(min(seen.feed(venue)["backoff_s"] + 5.0, 3610.0))
        seen.speaking_until(lambda: seen.links_up(venue), "one link that was let in")
        seen.passing.let_pass(61.0)  # after a refusal of the country one asks, and the others wait for what it learns
    seen.until_all_up()
    seen.speaking_until(lambda: seen.feed(venue)["reason"] == "", "nothing stands against the venue")
    assert seen.gaps() == set()

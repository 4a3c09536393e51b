"""Faults by which a venue says everything, but later: what the API showed during and after each of them."""

from collections.abc import Iterator

import pytest

from liqmap.domain.enums import Kind, PositionSide, Venue
from tests.venue_servers import venue_servers
from tests.watched import VENUES, Watched, watching


@pytest.fixture(scope="module")
def shared() -> Iterator[Watched]:
    """One instance for all tests here, which nothing that is late makes impatient; each leaves it calm."""
    with venue_servers() as venues, watching(venues) as watched:
        yield watched


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

    def late_alone() -> bool:  # a busy machine delays everybody for a moment, this venue alone for good
        return bool(seen.feed(Venue.OKX)["lag_ms"] > 500 and seen.feed(Venue.BYBIT)["lag_ms"] < 200)

    seen.speaking_until(late_alone, "the lag shown")
    assert seen.feed(Venue.OKX)["delivering"]
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

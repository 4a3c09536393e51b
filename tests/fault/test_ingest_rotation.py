"""A venue that ends every connection after a while: ours are replaced before, and nothing is lost or told twice."""

import pytest

from liqmap.domain.enums import GapReason, Kind, PositionSide, Venue
from liqmap.exchanges.binance import plans
from liqmap.sim.venues.binance_server import BinanceRules
from liqmap.sim.venues.running import VenueRules
from tests.fault.test_ingest_sockets import config_of, wait_until_up
from tests.listening import listening
from tests.venue_servers import venue_servers

LIFE_S = 8.0
ROTATE_S = 3.0


def test_connections_are_rotated_before_their_venue_ends_them_and_each_row_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plans, "ROTATE_S", ROTATE_S)
    rules = VenueRules(binance=BinanceRules(life_s=LIFE_S))
    with venue_servers(rules=rules) as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        market, number = venues.market("BTC"), 0
        before = {feed: state.gaps for feed, state in ingest.feeds.feeds.items() if feed.venue is Venue.BINANCE}
        links = {name: source.opened_ns for name, source in ingest.feeds.sources.items() if source.is_link}
        mine = [name for name in links if name.startswith("binance/")]
        connections = venues.state(Venue.BINANCE)["opened"]

        def turned_twice() -> bool:
            nonlocal number
            number += 1
            with market.together():
                market.trade(Venue.BINANCE, 60_000.0 + number, 1.0)
                if number % 8 == 0:  # one in a second: the venue tells no more
                    at = 50_000.0 + number
                    market.liquidate(Venue.BINANCE, PositionSide.LONG, price=at, fill=at, qty_base=1.0)
            return bool(venues.state(Venue.BINANCE)["opened"] >= connections + 2 * len(mine))

        ingest.until(turned_twice, "every connection replaced twice")
        market.trade(Venue.BINANCE, 1.0, 1.0)

        def prices(kind: Kind) -> list[float]:
            rows = ingest.events("BTC", kind)
            return [float(price) for price in rows[rows["venue"] == Venue.BINANCE]["price"]]

        ingest.until(lambda: 1.0 in prices(Kind.TRADE), "the last trade")
        numbered = [price - 60_000.0 for price in prices(Kind.TRADE) if price > 60_000.0]
        assert numbered == [float(n) for n in range(1, number + 1)], "each trade once, in order"
        liquidations = prices(Kind.LIQUIDATION)
        assert liquidations and len(liquidations) == len(set(liquidations)), "no liquidation twice"
        gaps = {feed: ingest.feeds.feeds[feed].gaps for feed in before}
        assert gaps == before, "nothing was missing meanwhile, the order book neither"
        assert all(ingest.feeds.sources[name].reconnects == 0 for name in mine), "nobody was thrown out"
        assert not [gap for gap in ingest.feeds.gaps.rows(256) if gap.reason is GapReason.DISCONNECTED]

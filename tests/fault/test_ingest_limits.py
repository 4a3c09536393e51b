"""Limits and refusals over real sockets: venues with small limits never have to refuse us, and when one does for
reasons of its own, it costs what it must and nothing else."""

import json
import queue
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from liqmap.clock import SystemClock
from liqmap.config import Config, IngestConfig
from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.exchanges.adapter import Budget, Limits, LinkPlan, PollPlan, Stream
from liqmap.exchanges.bybit import plans as bybit_plans
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.accounts import VenueAccount
from liqmap.ingest.fetcher import Reply, RequestsFetcher
from liqmap.ingest.handoff import Handoff, LinkState
from liqmap.ingest.link import Link, Order, Replan, hold
from liqmap.ingest.poller import Poller, poll_forever
from liqmap.ingest.transport import Transport, WebsocketConnector
from liqmap.sim.venues.binance_server import BinanceRules
from liqmap.sim.venues.running import VenueRules
from tests.fault.test_ingest_process import daemon
from tests.fault.test_ingest_sockets import config_of, count, trade_everywhere, wait_until_up
from tests.listening import Listening, listening
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers
from tests.waiting import wait_until

DEADLINE_S = 30.0


class Watched:
    """A fetcher that remembers how it was answered."""

    def __init__(self) -> None:
        self.inner = RequestsFetcher(5.0)
        self.statuses: list[int] = []

    def get(self, url: str) -> Reply:
        reply = self.inner.get(url)
        self.statuses.append(reply.status)
        return reply

    def close(self) -> None:
        self.inner.close()


def test_a_burst_of_requests_is_spread_so_that_a_venue_with_a_small_budget_never_refuses() -> None:
    rules = VenueRules(binance=BinanceRules(weight_per_minute=40, minute_s=1.0))
    adapter = replace(ADAPTERS[Venue.BINANCE], budgets=(Budget("rest", 40, 1.0),))
    with venue_servers(rules=rules) as venues:
        fetcher, clock = Watched(), SystemClock()
        poller = Poller(
            *(Venue.BINANCE, adapter, IngestConfig(), clock, fetcher, Handoff(1000), VenueAccount(adapter)),
            *(lambda: 0.5, threading.Event()),
        )
        thread = threading.Thread(target=poll_forever, args=(poller,))
        thread.start()
        try:
            for number in range(60):
                url = f"{venues.rest(Venue.BINANCE)}/fapi/v1/openInterest?symbol=BTCUSDT&n={number}"
                poller.ask(PollPlan(Venue.BINANCE, f"wish{number}", url, Topic.OPEN_INTEREST, ("BTC",), 0.0))
            wait_until(lambda: len(fetcher.statuses) == 60, "every wish came true")
        finally:
            poller.stop.set()
            thread.join()
    assert set(fetcher.statuses) == {200}


def link_of(venue: Venue, url: str, number: int, account: VenueAccount, connect: Any, limits: Limits) -> Link:
    stream = Stream("trades:BTC-USDT-SWAP", Topic.TRADE, ("BTC",), quiet=True)
    adapter = replace(ADAPTERS[venue], limits=limits)
    plan = LinkPlan(venue, f"link{number}", url, (stream,), adapter.subscribe_texts((stream,)), ping="ping")
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    settings = IngestConfig(backoff_first_s=0.05, backoff_ceiling_s=0.1)
    return Link(
        *(plan, adapter, settings, SystemClock(), connect, Handoff(10_000), account),
        *(lambda: 0.5, orders, threading.Event()),
    )


def test_links_that_died_together_come_back_within_the_allowance_of_the_venue() -> None:
    made: list[float] = []

    with venue_servers() as venues:
        connector = WebsocketConnector(5.0, 1 << 20, time.time_ns)

        def connect(url: str) -> Transport:
            made.append(time.monotonic())
            return connector(url)

        limits = Limits(connects=Budget("connects", 6, 0.5))
        account = VenueAccount(replace(ADAPTERS[Venue.OKX], limits=limits))
        links = [link_of(Venue.OKX, venues.okx_ws, number, account, connect, limits) for number in range(10)]
        threads = [threading.Thread(target=hold, args=(link,)) for link in links]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(venues.state(Venue.OKX)["connections"]) == 10, "every link has come")
            venues.fault(Venue.OKX, {"fault": "disconnect"})
            wait_until(lambda: len(made) >= 20, "every link has come again")
            wait_until(lambda: len(venues.state(Venue.OKX)["connections"]) == 10, "and stands")
        finally:
            for link in links:
                link.stop.set()
            for thread in threads:
                thread.join()
    for first in made:
        assert sum(first <= at < first + 0.5 for at in made) <= 6


def test_a_burst_of_changes_is_said_as_slowly_as_the_venue_wants_to_hear_it() -> None:
    rules = VenueRules(binance=BinanceRules(messages_per_s=10, ping_every_s=0.2))
    with venue_servers(rules=rules) as venues:
        account = VenueAccount(ADAPTERS[Venue.BINANCE])
        connect = WebsocketConnector(5.0, 1 << 20, time.time_ns)
        url = f"{venues.binance_market_ws}/stream"
        link = link_of(Venue.BINANCE, url, 1, account, connect, ADAPTERS[Venue.BINANCE].limits)
        names = [f"x{number}usdt@aggTrade" for number in range(25)]
        texts = tuple(json.dumps({"method": "SUBSCRIBE", "params": [name], "id": 1}) for name in names)
        link.plan = replace(link.plan, subscribe=(), ping=None)
        link.orders.put(Replan(link.plan, texts))
        thread = threading.Thread(target=hold, args=(link,))
        thread.start()
        try:

            def subscribed() -> set[str]:
                return {topic for one in venues.state(Venue.BINANCE)["connections"] for topic in one["topics"]}

            wait_until(lambda: subscribed() >= set(names), "every change was made")
            assert venues.state(Venue.BINANCE)["opened"] == 1, "nobody threw us out"
        finally:
            link.stop.set()
            thread.join()


# Refusals ---------------------------------------------------------------------------------------------------------


def asking(venues: RunningVenues) -> Config:
    """A configuration that asks Binance often."""
    config = config_of(venues, "BTC")
    binance = msgspec.structs.replace(config.venues.binance, open_interest_poll_s=0.5)
    return msgspec.structs.replace(config, venues=msgspec.structs.replace(config.venues, binance=binance))


def standing_links(ingest: Listening) -> dict[str, int]:
    return {name: source.opened_ns for name, source in ingest.feeds.sources.items() if source.is_link}


@pytest.mark.parametrize("kind", ["418", "429"])
def test_a_ban_of_requests_leaves_websockets_alone_and_is_kept_for_the_next_ingest(kind: str) -> None:
    with venue_servers() as venues, listening(asking(venues)) as ingest:
        wait_until_up(ingest, venues, "BTC")
        links = standing_links(ingest)
        venues.fault(Venue.BINANCE, {"fault": "rest", "path": "/", "kind": kind})
        source = ingest.feeds.sources["binance/open_interest.BTCUSDT"]
        config = ingest.switchboard._config
        ingest.until(lambda: source.state is LinkState.REFUSED, "the refusal")
        venues.fault(Venue.BINANCE, {"fault": "clear"})
        trades = count(ingest, "BTC", Kind.TRADE)

        def goes_on() -> bool:
            trade_everywhere(venues, "BTC")
            return count(ingest, "BTC", Kind.TRADE) > trades + 20

        ingest.until(goes_on, "trades during the ban")
        assert standing_links(ingest) == links, "no websocket was torn down"
        asked = source.frames
        ingest.accounts.save()
        after = AccountBook(config, SystemClock(), ingest.accounts._path)
        held_s, why = after[Venue.BINANCE].requests_held(time.monotonic_ns())
        assert held_s > 60.0 and why
        assert after[Venue.BYBIT].requests_held(time.monotonic_ns()) == (0.0, "")
        assert after[Venue.BINANCE].connect(time.monotonic_ns()) == (0.0, "")
        assert source.frames == asked, "nobody asked"


def test_a_country_refusal_of_a_request_names_the_venue_and_stops_new_connections_too() -> None:
    with venue_servers() as venues, listening(asking(venues)) as ingest:
        wait_until_up(ingest, venues, "BTC")
        venues.fault(Venue.BINANCE, {"fault": "rest", "path": "/", "kind": "451"})
        ingest.until(lambda: ingest.venue(Venue.BINANCE)["state"] == b"refused", "the refusal")
        assert ingest.accounts[Venue.BINANCE].connect(time.monotonic_ns())[0] > 3500.0
        assert b"restricted location" in ingest.venue(Venue.BINANCE)["reason"]
        for other in (Venue.BYBIT, Venue.OKX):
            assert ingest.accounts[other].connect(time.monotonic_ns()) == (0.0, "")


def test_the_clock_of_a_venue_is_measured_and_shown_when_it_is_wrong() -> None:
    with venue_servers() as venues:
        config = config_of(venues, "BTC")
        with listening(config) as ingest:
            wait_until_up(ingest, venues, "BTC")
            ingest.until(lambda: abs(ingest.venue(Venue.OKX)["clock_offset_ms"]) < 400, "the offset")
            assert b"clock" not in ingest.venue(Venue.OKX)["reason"]
    with venue_servers() as venues:
        venues.fault(Venue.OKX, {"fault": "clock_skew", "ms": -90_000})
        with listening(config_of(venues, "BTC")) as ingest:
            wait_until_up(ingest, venues, "BTC")
            said = b"ms ahead of the venue's"
            ingest.until(lambda: said in ingest.venue(Venue.OKX)["reason"], "the alarm")
            row = ingest.venue(Venue.OKX)
            assert row["clock_offset_ms"] == pytest.approx(90_000, abs=500)
            assert row["lag_ms"] > 80_000, "the offset is in the lag"
            assert row["delivering"], "a wrong clock refuses no data"


def test_positioning_of_three_venues_is_asked_for_and_told_once_a_bar() -> None:
    with venue_servers() as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        told = ingest.events("BTC", Kind.RATIO)
        assert set(told["venue"]) == {Venue.BINANCE, Venue.BYBIT, Venue.OKX}
        rows = [(row["venue"], row["side"], row["venue_ms"]) for row in told]
        assert len(rows) == len(set(rows))
        assert {(venue, side) for venue, side, _ in rows} == {
            *((venue, side) for venue in (Venue.BINANCE, Venue.OKX) for side in (1, 2, 3)),
            (Venue.BYBIT, 1),
        }
        assert all(0.0 <= share <= 1.0 for share in told["quantity"])


def test_a_list_in_pages_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bybit_plans, "LISTING_PAGE", 2)
    markets = [ScriptedMarket(symbol, 100.0) for symbol in ("BTC", "ETH", "SOL")]
    with venue_servers(*markets) as venues, listening(config_of(venues, "SOL"), shipped=()) as ingest:
        ingest.until(lambda: len(ingest.router.instruments) == 3, "the contract of every venue listed")
        assert ingest.feeds.sources["bybit/instruments"].frames >= 2, "it was not on the first page"
        wait_until_up(ingest, venues, "SOL")
        assert b"not in the venue's list" not in ingest.venue(Venue.BYBIT)["reason"]


def test_what_is_spent_is_shown() -> None:
    with venue_servers() as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        ingest.until(lambda: 0.0 < ingest.venue(Venue.BINANCE)["budget_used"] < 0.5, "the share of the budget")


def test_an_ingest_that_is_killed_during_a_ban_does_not_ask_when_it_comes_back(tmp_path: Path) -> None:
    with venue_servers() as venues, daemon(asking(venues), tmp_path) as stage:
        stage.start()

        def held() -> bool:
            file = stage.paths.lib_dir / "bans.json"
            return file.exists() and b"requests" in file.read_bytes()

        stage.until(lambda: stage.events("BTC", Kind.OPEN_INTEREST).size, "open interest")
        venues.fault(Venue.BINANCE, {"fault": "rest", "path": "/", "kind": "418"})
        stage.until(held, "the ban written down")
        stage.signal(signal.SIGKILL)
        stage.ended()
        venues.fault(Venue.BINANCE, {"fault": "clear"})  # it would answer now; we are not to find out
        stage.start()
        stage.until(stage.ready, "ready")
        seen = stage.events("BTC", Kind.OPEN_INTEREST)
        readings = int((seen["venue"] == Venue.BINANCE).sum())
        stage.until(lambda: "banned until" in stage.reason(Venue.BINANCE), "the ban in words")

        def others() -> bool:
            told = stage.events("BTC", Kind.OPEN_INTEREST)
            return int((told["venue"] == Venue.OKX).sum()) > int((seen["venue"] == Venue.OKX).sum())

        stage.until(others, "open interest of another venue")
        told = stage.events("BTC", Kind.OPEN_INTEREST)
        assert int((told["venue"] == Venue.BINANCE).sum()) == readings
        stage.until(lambda: Venue.BINANCE in stage.events("BTC", Kind.MARK_PRICE)["venue"], "its websockets speak")

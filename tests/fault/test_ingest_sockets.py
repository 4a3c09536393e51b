"""Real links over real sockets against the simulated venues, and what they survive."""

import json
import time
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from liqmap.config import Config
from liqmap.domain.enums import GapReason, Kind, PositionSide, TakerSide, Topic, Venue
from liqmap.ingest.handoff import LinkState
from tests.listening import Listening, listening
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

FAST = {"backoff_first_s": 0.05, "backoff_ceiling_s": 0.4, "max_frame_bytes": 65536, "connect_timeout_s": 5.0}
TRADED = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)


def trade_everywhere(venues: RunningVenues, *symbols: str, price: float = 100.0) -> None:
    """A trade at each venue, and a mark that moves: venues say nothing of a ticker that stands still."""
    for symbol in symbols:
        market = venues.market(symbol)
        market.mark_price = market.mark_price + (0.5 if market.mark_price < 60_000.25 else -0.5)
        for venue in TRADED:
            venues.market(symbol).trade(venue, price, 1.0, TakerSide.BUY)


def config_of(venues: RunningVenues, *symbols: str, **ingest: Any) -> Config:
    """A configuration, once the markets have begun: a ticker that nobody has moved yet has no snapshot to give."""
    end = time.monotonic() + 10.0
    while any(venues.market(symbol)._at_ms is None for symbol in symbols):
        assert time.monotonic() < end, "the markets did not begin"
        venues.call(lambda: None)
    venues.call(lambda: None)
    return venues.config(ingest=FAST | ingest, symbols={symbol: {} for symbol in symbols})


def wait_until_up(ingest: Listening, venues: RunningVenues, *symbols: str) -> None:
    """Every feed of these symbols has spoken."""

    def up() -> bool:
        trade_everywhere(venues, *symbols)
        return ingest.all_up()

    ingest.until(up, "all feeds")


def count(ingest: Listening, symbol: str, kind: Kind) -> int:
    return int(ingest.events(symbol, kind).size)


def test_facts_of_three_venues_arrive_with_sides_units_and_numbers() -> None:
    market = ScriptedMarket("BTC", 60_000.0, open_interest_base=1234.5)
    with venue_servers(market) as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        for venue in TRADED:
            market.liquidate(venue, PositionSide.LONG, price=58_000.0, fill=58_300.0, qty_base=1.5)
        ingest.until(lambda: count(ingest, "BTC", Kind.LIQUIDATION) == 3, "three liquidations")
        rows = ingest.events("BTC", Kind.LIQUIDATION)
        assert sorted(rows["venue"]) == [1, 2, 3]
        assert set(rows["side"]) == {int(PositionSide.LONG)}
        assert np.allclose(rows["quantity"], 1.5)
        assert np.allclose(ingest.events("BTC", Kind.OPEN_INTEREST)["quantity"], 1234.5)
        events = ingest.events("BTC")
        assert np.array_equal(events["sequence"], np.arange(1, len(events) + 1))
        assert (np.diff(events["receive_ns"]) >= 0).all()


@pytest.mark.finding("M13")
@pytest.mark.parametrize("venue", TRADED, ids=lambda venue: venue.name.lower())
def test_a_bad_frame_costs_that_frame_and_the_link_stays(venue: Venue) -> None:
    with venue_servers() as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        opened = {name: source.opened_ns for name, source in ingest.feeds.sources.items() if source.is_link}
        bad_kinds = ("truncated", "wrong_types", "bad_utf8", "not_json", "garbage")
        for kind in bad_kinds:
            venues.fault(venue, {"fault": "malformed", "kind": kind})
        venues.fault(venue, {"fault": "oversized", "bytes": 3_000_000})
        # Two links each; wrong types in a field that nobody reads are no fault.
        least = 2 * len(bad_kinds)
        ingest.until(lambda: ingest.feeds.venues[venue].malformed >= least, "every bad frame counted")
        before = count(ingest, "BTC", Kind.TRADE)
        venues.market("BTC").trade(venue, 61_000.0, 2.0)
        ingest.until(lambda: count(ingest, "BTC", Kind.TRADE) > before, "a trade after the bad frames")
        for name, at_ns in opened.items():
            assert ingest.feeds.sources[name].opened_ns == at_ns, f"{name} was torn down"
            assert ingest.feeds.sources[name].reconnects == 0
        kept = (ingest.quarantine._newer.read_text()).splitlines()
        assert len(kept) == ingest.feeds.quarantined
        assert {json.loads(line)["venue"] for line in kept} == {venue.name.lower()}
        assert any("65536" in json.loads(line)["why"] for line in kept)


@pytest.mark.finding("M13")
def test_a_flood_of_oversized_frames_costs_neither_the_link_nor_memory() -> None:
    import resource

    with venue_servers() as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        venues.fault(Venue.OKX, {"fault": "oversized", "bytes": 1_000_000})
        ingest.until(lambda: ingest.feeds.venues[Venue.OKX].malformed >= 1, "the first one counted")
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(20):
            venues.fault(Venue.OKX, {"fault": "oversized", "bytes": 1_000_000})
        ingest.until(lambda: ingest.feeds.venues[Venue.OKX].malformed >= 42, "all counted")
        assert ingest.feeds.sources["okx/facts"].state is LinkState.UP
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


@pytest.mark.finding("C1")
def test_with_every_feed_of_btc_dead_eth_and_sol_go_on() -> None:
    markets = [ScriptedMarket(symbol, 100.0) for symbol in ("BTC", "ETH", "SOL")]
    with venue_servers(*markets) as venues, listening(config_of(venues, "BTC", "ETH", "SOL")) as ingest:
        wait_until_up(ingest, venues, "BTC", "ETH", "SOL")
        for venue in TRADED:
            for pattern in ("*btcusdt*", "*BTCUSDT*", "*BTC-USDT*"):
                venues.fault(venue, {"fault": "silent", "topic": pattern})
            venues.fault(venue, {"fault": "rest", "path": "/fapi/v1/openInterest", "status": 500})
        marks = {symbol: count(ingest, symbol, Kind.MARK_PRICE) for symbol in ("BTC", "ETH", "SOL")}
        ticks = {symbol: count(ingest, symbol, Kind.TICK) for symbol in ("BTC", "ETH", "SOL")}

        def gone_on() -> bool:
            trade_everywhere(venues, "ETH", "SOL")
            return all(count(ingest, symbol, Kind.MARK_PRICE) >= marks[symbol] + 3 for symbol in ("ETH", "SOL"))

        ingest.until(gone_on, "marks of ETH and SOL")
        # One mark of BTC may have been on its way when the feeds died.
        assert count(ingest, "BTC", Kind.MARK_PRICE) <= marks["BTC"] + len(TRADED)
        for symbol in ("BTC", "ETH", "SOL"):
            ingest.until(lambda s=symbol: count(ingest, s, Kind.TICK) > ticks[s], f"time of {symbol}")  # type: ignore[misc]


@pytest.mark.finding("X12")
def test_a_socket_that_connects_acknowledges_and_stays_silent_is_named() -> None:
    with venue_servers() as venues:
        config = config_of(venues, "BTC", silent_after_s=2.5, probe_timeout_s=2.0)
        legacy = f"ws://127.0.0.1:{venues.ports[Venue.BINANCE]}"
        binance = msgspec.structs.replace(config.venues.binance, market_ws=legacy)
        config = msgspec.structs.replace(config, venues=msgspec.structs.replace(config.venues, binance=binance))
        with listening(config) as ingest:

            def named() -> bool:
                trade_everywhere(venues, "BTC")
                return b"silent" in bytes(ingest.venue(Venue.BINANCE)["reason"])

            ingest.until(named, "the silence of Binance named")
            row = ingest.venue(Venue.BINANCE)
            assert row["state"] == b"silent"
            assert not row["delivering"]
            assert b"mark_price BTC" in row["reason"]
            assert ingest.feeds.sources["binance/facts"].opened_ns > 0, "it did connect"
            board = ingest.board()
            gaps = board["gaps"][: int(board["gap_count"])]
            silent = gaps[(gaps["venue"] == Venue.BINANCE) & (gaps["reason"] == GapReason.SILENT)]
            assert Topic.LIQUIDATION in silent["topic"], "a quiet feed on a silent socket is missing, too"
            assert ingest.venue(Venue.BYBIT)["delivering"]


def test_a_silent_topic_is_named_while_its_siblings_speak_and_comes_back() -> None:
    with venue_servers() as venues, listening(config_of(venues, "BTC", silent_after_s=2.5)) as ingest:
        wait_until_up(ingest, venues, "BTC")
        venues.fault(Venue.OKX, {"fault": "silent", "topic": "*mark-price*"})

        def named() -> bool:
            trade_everywhere(venues, "BTC")
            return b"mark_price BTC" in ingest.venue(Venue.OKX)["reason"]

        ingest.until(named, "the silent topic named")
        silent = {feed for feed, state in ingest.feeds.feeds.items() if state.silent}
        assert {(feed.venue, feed.topic) for feed in silent} == {(Venue.OKX, Topic.MARK_PRICE)}
        venues.fault(Venue.OKX, {"fault": "clear"})

        def back() -> bool:
            trade_everywhere(venues, "BTC")
            return bool(ingest.venue(Venue.OKX)["delivering"])

        ingest.until(back, "the topic back")
        assert ingest.venue(Venue.OKX)["reason"] == b""


def test_after_a_disconnection_there_is_a_gap_from_the_last_fact_to_the_next() -> None:
    with venue_servers() as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        seen = len(ingest.events("BTC", Kind.GAP))
        venues.fault(Venue.BYBIT, {"fault": "disconnect", "code": 1000})
        ingest.until(lambda: not ingest.all_up(), "the outage")
        wait_until_up(ingest, venues, "BTC")
        gaps = ingest.events("BTC", Kind.GAP)[seen:]
        assert set(gaps["venue"]) == {int(Venue.BYBIT)}
        opened, closed = gaps[gaps["detail"] < 0], gaps[gaps["detail"] >= 0]
        assert set(opened["topic"]) == set(closed["topic"])
        assert {Topic.LIQUIDATION, Topic.TRADE, Topic.MARK_PRICE} <= set(opened["topic"])
        assert (opened["side"] == GapReason.DISCONNECTED).all()
        assert (closed["detail"] >= closed["venue_ms"]).all()


def test_a_closing_notice_moves_over_without_losing_or_doubling_a_trade() -> None:
    with venue_servers() as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        before = {name: source.opened_ns for name, source in ingest.feeds.sources.items()}
        told = 0

        def moved() -> bool:
            nonlocal told
            told += 1
            venues.market("BTC").trade(Venue.OKX, 50_000.0 + told, 1.0)
            links = ("okx/facts", "okx/trades")
            return all(
                ingest.feeds.sources[name].opened_ns > before[name] and len(ingest.router.listeners[name].sessions) == 1
                for name in links
            )

        venues.fault(Venue.OKX, {"fault": "restart", "after_s": 600})
        ingest.until(moved, "new connections in place of the old")
        venues.market("BTC").trade(Venue.OKX, 40_000.0, 1.0)

        def trades() -> Any:
            rows = ingest.events("BTC", Kind.TRADE)
            return rows[rows["venue"] == Venue.OKX]["price"]

        ingest.until(lambda: 40_000.0 in trades(), "the last trade")
        prices = trades()
        numbered = prices[prices > 50_000.0] - 50_000.0
        assert np.array_equal(numbered, np.arange(1, told + 1)), "each trade once, in order"
        assert all(ingest.feeds.sources[name].reconnects == 0 for name in before)


@pytest.mark.finding("M15")
def test_polls_that_fail_write_nothing_and_are_a_gap() -> None:
    with venue_servers() as venues:
        config = config_of(venues, "BTC")
        binance = msgspec.structs.replace(config.venues.binance, open_interest_poll_s=0.1)
        config = msgspec.structs.replace(config, venues=msgspec.structs.replace(config.venues, binance=binance))
        with listening(config) as ingest:
            wait_until_up(ingest, venues, "BTC")
            venues.fault(Venue.BINANCE, {"fault": "rest", "path": "/fapi/v1/openInterest", "status": 500})

            def is_missing() -> bool:
                board = ingest.board()
                topics = board["topics"][: int(board["topic_count"])]
                row = topics[(topics["venue"] == Venue.BINANCE) & (topics["topic"] == Topic.OPEN_INTEREST)]
                return bool(row["missing"][0])

            ingest.until(is_missing, "the gap of open interest")

            def levels() -> Any:
                rows = ingest.events("BTC", Kind.OPEN_INTEREST)
                return rows[rows["venue"] == Venue.BINANCE]["quantity"]

            before = len(levels())
            source = ingest.feeds.sources["binance/open_interest.BTCUSDT"]
            ingest.until(lambda: source.delay_s > 0.1, "several failed polls")
            assert len(levels()) == before
            assert (levels() > 0).all()
            venues.fault(Venue.BINANCE, {"fault": "clear"})
            ingest.until(lambda: len(levels()) > before and not is_missing(), "open interest back")


def test_a_rate_limit_stops_every_poll_of_the_venue_and_of_no_other() -> None:
    with venue_servers() as venues:
        config = config_of(venues, "BTC")
        binance = msgspec.structs.replace(config.venues.binance, open_interest_poll_s=0.05)
        config = msgspec.structs.replace(config, venues=msgspec.structs.replace(config.venues, binance=binance))
        with listening(config) as ingest:
            wait_until_up(ingest, venues, "BTC")
            venues.fault(Venue.BINANCE, {"fault": "rest", "path": "/fapi", "kind": "429"})
            source = ingest.feeds.sources["binance/open_interest.BTCUSDT"]
            ingest.until(lambda: source.state is LinkState.REFUSED, "the refusal")
            assert source.delay_s >= 120.0
            assert ingest.venue(Venue.BINANCE)["state"] == b"refused"
            assert ingest.venue(Venue.BYBIT)["delivering"]
            assert ingest.venue(Venue.OKX)["delivering"]


def test_a_country_refusal_freezes_that_venue_only() -> None:
    with venue_servers() as venues:
        venues.fault(Venue.BINANCE, {"fault": "refuse", "status": 451})
        with listening(config_of(venues, "BTC")) as ingest:

            def others_up() -> bool:
                trade_everywhere(venues, "BTC")
                return bool(ingest.venue(Venue.BYBIT)["delivering"] and ingest.venue(Venue.OKX)["delivering"])

            ingest.until(others_up, "the other venues")
            ingest.until(lambda: ingest.venue(Venue.BINANCE)["state"] == b"refused", "the refusal")
            assert ingest.venue(Venue.BINANCE)["backoff_s"] >= 3590.0
            board = ingest.board()
            gaps = board["gaps"][: int(board["gap_count"])]
            assert GapReason.REFUSED in gaps[gaps["venue"] == Venue.BINANCE]["reason"]


def test_a_half_open_connection_is_noticed_and_replaced() -> None:
    with venue_servers() as venues, listening(config_of(venues, "BTC", probe_timeout_s=1.5)) as ingest:
        wait_until_up(ingest, venues, "BTC")
        venues.fault(Venue.OKX, {"fault": "half_open"})
        venues.fault(Venue.OKX, {"fault": "half_open", "on": False})
        facts = ingest.feeds.sources["okx/facts"]
        ingest.until(lambda: facts.reconnects > 0, "the dead connection noticed")
        ingest.until(lambda: facts.state is LinkState.UP, "a new one")


def test_symbols_come_and_go_without_disturbing_the_others() -> None:
    markets = [ScriptedMarket(symbol, 100.0) for symbol in ("BTC", "ETH")]
    with venue_servers(*markets) as venues, listening(config_of(venues, "BTC")) as ingest:
        wait_until_up(ingest, venues, "BTC")
        opened = {name: source.opened_ns for name, source in ingest.feeds.sources.items() if source.is_link}
        ingest.switchboard.apply(config_of(venues, "BTC", "ETH"))
        wait_until_up(ingest, venues, "BTC", "ETH")

        def eth_liquidated() -> bool:  # again, should a connection have been away for a moment: a print is told once
            venues.market("ETH").liquidate(Venue.BINANCE, PositionSide.SHORT, price=110.0, fill=109.0, qty_base=3.0)
            return count(ingest, "ETH", Kind.LIQUIDATION) > 0

        ingest.until(eth_liquidated, "a liquidation of the new symbol")
        ingest.switchboard.apply(config_of(venues, "ETH"))
        assert not any(feed.symbol == "BTC" for feed in ingest.feeds.feeds)
        before = count(ingest, "BTC", Kind.TRADE)
        eth = count(ingest, "ETH", Kind.TRADE)

        def eth_goes_on() -> bool:
            trade_everywhere(venues, "BTC", "ETH")
            return count(ingest, "ETH", Kind.TRADE) > eth + 5

        ingest.until(eth_goes_on, "trades of the symbol that stays")
        assert count(ingest, "BTC", Kind.TRADE) == before
        for name, at_ns in opened.items():
            assert ingest.feeds.sources[name].opened_ns == at_ns, f"{name} was disturbed"


@pytest.mark.finding("L10")
def test_a_contract_nobody_sized_is_refused_and_named_until_the_venue_lists_it() -> None:
    with venue_servers() as venues:
        venues.fault(Venue.OKX, {"fault": "rest", "path": "/api/v5/public/instruments", "status": 500})
        shipped = tuple(entry for entry in _shipped() if entry.venue is not Venue.OKX)
        with listening(config_of(venues, "BTC"), shipped=shipped) as ingest:

            def others_up() -> bool:
                trade_everywhere(venues, "BTC")
                return ingest.all_up()

            ingest.until(others_up, "the other venues")
            assert not (ingest.events("BTC")["venue"] == Venue.OKX).any()
            assert ingest.venue(Venue.OKX)["refused_instruments"] == 1
            assert b"BTC-USDT-SWAP" in ingest.venue(Venue.OKX)["reason"]
            assert not ingest.venue(Venue.OKX)["delivering"]
            venues.fault(Venue.OKX, {"fault": "clear"})

            def okx_trades() -> Any:
                rows = ingest.events("BTC", Kind.TRADE)
                return rows[rows["venue"] == Venue.OKX]

            def heard() -> bool:
                trade_everywhere(venues, "BTC")
                return bool(okx_trades().size)

            ingest.until(heard, "trades of the contract, now that its size is known")
            venues.market("BTC").trade(Venue.OKX, 777.0, 2.5)
            ingest.until(lambda: 777.0 in okx_trades()["price"], "one more trade")
            assert okx_trades()[okx_trades()["price"] == 777.0]["quantity"] == pytest.approx(2.5)
            assert ingest.venue(Venue.OKX)["refused_instruments"] == 0


def _shipped() -> Any:
    from liqmap.config.shipped import shipped_instruments

    return shipped_instruments()


def test_without_a_network_every_feed_has_its_reason() -> None:
    with venue_servers() as venues:
        config = config_of(venues, "BTC")
        nowhere = msgspec.structs.replace(
            config.venues.binance, market_ws="ws://no-such-host.invalid/market", rest="http://no-such-host.invalid"
        )
        config = msgspec.structs.replace(config, venues=msgspec.structs.replace(config.venues, binance=nowhere))
        with listening(config) as ingest:
            reason = b"cannot resolve no-such-host.invalid"
            ingest.until(lambda: reason in ingest.venue(Venue.BINANCE)["reason"], "the reason of Binance")
            links = [ingest.feeds.sources[name] for name in ("binance/facts", "binance/trades")]
            ingest.until(lambda: all(link.reconnects >= 2 for link in links), "further tries")
            assert replace(next(iter(ingest.feeds.gaps.rows(1)))).reason is GapReason.NOT_CONNECTED

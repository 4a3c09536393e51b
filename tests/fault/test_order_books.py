"""Order books with real links over real sockets: whole, broken, and whole again; and what is shown meanwhile."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from liqmap.config import Config
from liqmap.domain.enums import BookState, GapReason, Kind, PriceSource, TakerSide, Topic, Venue
from liqmap.engine.engine import Engine
from liqmap.ingest.link import Rotate
from tests.fault.test_ingest_sockets import config_of
from tests.listening import Listening, listening
from tests.unit.engine_tape import BTC
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

VENUES = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)
STREAMS = {
    Venue.BINANCE: "btcusdt@depth@100ms",
    Venue.BYBIT: "orderbook.1000.BTCUSDT",
    Venue.OKX: "books/BTC-USDT-SWAP",
}
PRICE = 60_000.0


def quick(config: Config) -> Config:
    """Middles and boards ten times as often as shipped."""
    return msgspec.structs.replace(config, depth=msgspec.structs.replace(config.depth, publish_ms=50))


def stir(venues: RunningVenues, *symbols: str) -> None:
    """Something changes in every book, not at its best prices."""
    for symbol in symbols:
        market = venues.market(symbol)
        for venue in VENUES:
            book = market.book(venue)
            lowest = min(price for side, price in book if side is TakerSide.BUY)
            market.set_level(venue, TakerSide.BUY, lowest, book[TakerSide.BUY, lowest] % 7.0 + 1.0)


def until(ingest: Listening, venues: RunningVenues, condition: Any, what: str, *symbols: str) -> None:
    """Run until it holds, while the books live."""

    def lively() -> bool:
        stir(venues, *(symbols or ("BTC",)))
        return bool(condition())

    ingest.until(lively, what)


def shows_what_stands(ingest: Listening, venues: RunningVenues, symbol: str, venue: Venue) -> bool:
    """The board's best prices and dollars are those of the venue's book."""
    sink, book = ingest.depth[symbol], venues.market(symbol).book(venue)
    row = sink.venue(venue)
    bids = [price for side, price in book if side is TakerSide.BUY]
    asks = [price for side, price in book if side is TakerSide.SELL]
    if (row["best_bid"], row["best_ask"]) != (max(bids), min(asks)):
        return False
    told = np.nansum(sink.record["usd"][int(venue) - 1])
    stands = sum(price * quantity for (_, price), quantity in book.items())
    return bool(abs(told / stands - 1) < 1e-3)


class Watch:
    """Every payload of a depth board: a book that is not whole shows no number, one that is whole is not crossed."""

    def __init__(self, ingest: Listening, symbol: str = "BTC") -> None:
        self.states: dict[Venue, list[int]] = {venue: [] for venue in VENUES}
        ingest.depth[symbol].watch = self.look

    def look(self, record: Any) -> None:
        for venue in VENUES:
            row, usd = record["venues"][int(venue) - 1], record["usd"][int(venue) - 1]
            self.states[venue].append(int(row["state"]))
            if row["state"] == BookState.SYNCED:
                assert row["best_bid"] < row["best_ask"]
                assert np.isfinite(usd).any()
            else:
                assert np.isnan([row["best_bid"], row["best_ask"], row["complete_low"], row["complete_high"]]).all()
                assert np.isnan(usd).all()


def gaps(ingest: Listening, symbol: str, venue: Venue) -> Any:
    rows = ingest.events(symbol, Kind.GAP)
    return rows[(rows["topic"] == Topic.DEPTH) & (rows["venue"] == venue)]


def test_books_of_three_venues_become_whole_and_show_what_stands_at_the_venue() -> None:
    with venue_servers() as venues, listening(quick(config_of(venues, "BTC"))) as ingest:
        watch = Watch(ingest)
        until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books")
        for venue in VENUES:
            venues.market("BTC").set_level(venue, TakerSide.BUY, PRICE + 1.0, 3.5)
        for venue in VENUES:
            ingest.until(lambda v=venue: shows_what_stands(ingest, venues, "BTC", v), "the same book")  # type: ignore[misc]
        record = ingest.depth["BTC"].record
        assert record["step"] == 20.0
        low = record["first_bucket"] * 20.0
        high = low + (record["buckets"] - 1) * 20.0
        assert (low < PRICE * 0.9, high > PRICE * 1.1) == (True, True), "ten percent either way, with room to move"
        assert all(BookState.SYNCED in states for states in watch.states.values()), "the boards were looked at"
        for venue in VENUES:
            assert gaps(ingest, "BTC", venue)["side"].tolist()[-1] == GapReason.NOT_CONNECTED
            assert gaps(ingest, "BTC", venue)["detail"][-1] >= 0
            assert ingest.depth["BTC"].venue(venue)["resyncs"] == 0


def test_middles_are_events_of_every_venue_and_only_when_they_change() -> None:
    with venue_servers() as venues, listening(quick(config_of(venues, "BTC"))) as ingest:
        until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books")
        for step in range(4):
            price = PRICE + 0.5 + step
            for venue in VENUES:
                venues.market("BTC").set_level(venue, TakerSide.BUY, price, 1.0)
            mids = [(price + PRICE * (1 + 0.5e-4)) / 2 for _ in VENUES]

            def told(wanted: float = mids[0]) -> bool:
                rows = ingest.events("BTC", Kind.MID_PRICE)
                return all(np.isclose(rows["price"][rows["venue"] == venue][-1:], wanted).any() for venue in VENUES)

            until(ingest, venues, told, "the middle of each")
        rows = ingest.events("BTC", Kind.MID_PRICE)
        for venue in VENUES:
            mine = rows[rows["venue"] == venue]
            assert (np.diff(mine["price"]) != 0).all(), "a middle that stays is not told again"
            assert (np.diff(mine["receive_ns"]) >= 50_000_000).all()
            assert set(mine["topic"]) == {int(Topic.DEPTH)}
            assert (mine["venue_ms"] > 1_600_000_000_000).all()
        assert set(rows["instrument"]) == {contract.number for contract in ingest.router.instruments}


@pytest.mark.parametrize("venue", VENUES)
def test_a_missing_update_breaks_the_book_until_it_is_right_again_and_no_other(venue: Venue) -> None:
    with venue_servers() as venues, listening(quick(config_of(venues, "BTC"))) as ingest:
        until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books")
        watch, sink = Watch(ingest), ingest.depth["BTC"]
        before = len(gaps(ingest, "BTC", venue))
        venues.fault(venue, {"fault": "gap", "topic": STREAMS[venue]})
        until(ingest, venues, lambda: sink.venue(venue)["sequence_gaps"] == 1, "the hole noticed")
        until(ingest, venues, lambda: sink.synced(venue), "whole again")
        venues.market("BTC").set_level(venue, TakerSide.SELL, PRICE + 2.0, 2.0)
        ingest.until(lambda: shows_what_stands(ingest, venues, "BTC", venue), "right again")
        assert BookState.BROKEN in watch.states[venue]
        assert sink.venue(venue)["resyncs"] == 1
        opened, closed = gaps(ingest, "BTC", venue)[before:]
        assert (opened["side"], opened["detail"]) == (GapReason.SEQUENCE, -1)
        assert closed["detail"] >= opened["venue_ms"]
        for other in set(VENUES) - {venue}:
            assert set(watch.states[other]) == {int(BookState.SYNCED)}
        assert ingest.feeds.sources[f"{venue.name.lower()}/depth"].reconnects == 0


def test_a_broken_book_of_one_symbol_touches_no_other_symbol() -> None:
    markets = [ScriptedMarket("BTC", PRICE), ScriptedMarket("ETH", 3_000.0)]
    with venue_servers(*markets) as venues, listening(quick(config_of(venues, "BTC", "ETH"))) as ingest:
        both = ("BTC", "ETH")
        until(ingest, venues, lambda: all(ingest.depth[s].synced(*VENUES) for s in both), "whole books", *both)
        watch = Watch(ingest, "BTC")
        venues.fault(Venue.BINANCE, {"fault": "rest", "path": "/fapi/v1/depth", "status": 503})
        venues.fault(Venue.BINANCE, {"fault": "gap", "topic": "ethusdt@depth*"})
        eth = ingest.depth["ETH"]
        failing = ingest.feeds.sources["binance/depth.ETHUSDT"]
        until(ingest, venues, lambda: failing.reason != "", "its snapshot refused", *both)
        assert eth.venue(Venue.BINANCE)["state"] == BookState.BROKEN
        assert eth.synced(Venue.BYBIT, Venue.OKX)
        published = len(watch.states[Venue.BINANCE])
        until(ingest, venues, lambda: len(watch.states[Venue.BINANCE]) > published + 5, "BTC going on", *both)
        venues.fault(Venue.BINANCE, {"fault": "clear"})
        until(ingest, venues, lambda: eth.synced(*VENUES), "whole again", *both)
        assert all(set(states) == {int(BookState.SYNCED)} for states in watch.states.values())


@pytest.mark.finding("X4")
def test_a_snapshot_of_another_contract_is_never_shown() -> None:
    markets = [ScriptedMarket("BTC", PRICE), ScriptedMarket("ETH", 3_000.0)]
    with venue_servers(*markets) as venues:
        config = quick(config_of(venues, "BTC", "ETH"))
        answer = venues.call(lambda: venues.server(Venue.BINANCE).feed.answer("/fapi/v1/depth", ETHEREUM, 1))
        wrong = {"fault": "rest", "path": "/fapi/v1/depth", "status": 200, "content_type": "application/json"}
        assert answer is not None
        assert json.loads(answer.body)["bids"]
        venues.fault(Venue.BINANCE, wrong | {"body": answer.body.decode()})
        with listening(config) as ingest:
            watch = Watch(ingest, "BTC")
            asked = ingest.feeds.sources
            both = ("BTC", "ETH")
            until(ingest, venues, lambda: asked["binance/depth.BTCUSDT"].frames > 1, "the wrong answer, twice", *both)
            assert int(BookState.SYNCED) not in watch.states[Venue.BINANCE]
            venues.fault(Venue.BINANCE, {"fault": "clear"})
            until(ingest, venues, lambda: ingest.depth["BTC"].synced(Venue.BINANCE), "its own", *both)
            assert ingest.depth["BTC"].venue(Venue.BINANCE)["best_bid"] > 50_000


ETHEREUM = {"symbol": "ETHUSDT", "limit": "1000"}


def test_during_a_rotation_the_old_book_is_shown_until_the_new_one_is_whole() -> None:
    with venue_servers() as venues, listening(quick(config_of(venues, "BTC"))) as ingest:
        sink = ingest.depth["BTC"]
        until(ingest, venues, lambda: sink.synced(*VENUES), "whole books")
        watch = Watch(ingest)
        venues.fault(Venue.BINANCE, {"fault": "rest_slow", "path": "/fapi/v1/depth", "latency_s": 0.7})
        before = {}
        for venue in VENUES:
            name = f"{venue.name.lower()}/depth"
            before[name] = ingest.feeds.sources[name].opened_ns
            ingest.router.listeners[name].orders.put(Rotate(1, "a test wants it"))

        def moved() -> bool:
            return all(
                ingest.feeds.sources[name].opened_ns > at and set(ingest.router.listeners[name].sessions) == {2}
                for name, at in before.items()
            )

        until(ingest, venues, moved, "new connections in place of the old")
        published = len(watch.states[Venue.BINANCE])
        until(ingest, venues, lambda: len(watch.states[Venue.BINANCE]) > published + 3, "a few boards more")
        assert all(set(states) == {int(BookState.SYNCED)} for states in watch.states.values())
        assert all(sink.venue(venue)["snapshots"] == 2 for venue in VENUES)
        assert all(ingest.feeds.sources[name].reconnects == 0 for name in before)


@pytest.mark.parametrize("venue", VENUES)
def test_a_lost_connection_takes_its_book_with_it_and_the_next_brings_it_back(venue: Venue) -> None:
    with venue_servers() as venues, listening(quick(config_of(venues, "BTC"))) as ingest:
        sink = ingest.depth["BTC"]
        until(ingest, venues, lambda: sink.synced(*VENUES), "whole books")
        watch = Watch(ingest)
        venues.fault(venue, {"fault": "disconnect", "topic": STREAMS[venue]})
        until(ingest, venues, lambda: int(BookState.ABSENT) in watch.states[venue], "no book")
        until(ingest, venues, lambda: sink.synced(venue), "whole again")
        reasons = gaps(ingest, "BTC", venue)["side"].tolist()
        assert reasons[-2:] == [GapReason.DISCONNECTED, GapReason.DISCONNECTED]
        for other in set(VENUES) - {venue}:
            assert set(watch.states[other]) == {int(BookState.SYNCED)}


def test_a_symbol_that_is_added_gets_its_books_and_disturbs_nobodys() -> None:
    markets = [ScriptedMarket("BTC", PRICE), ScriptedMarket("ETH", 3_000.0)]
    with venue_servers(*markets) as venues, listening(quick(config_of(venues, "BTC"))) as ingest:
        until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books")
        watch = Watch(ingest)
        ingest.switchboard.apply(quick(config_of(venues, "BTC", "ETH")))
        until(ingest, venues, lambda: ingest.depth["ETH"].synced(*VENUES), "its books", "BTC", "ETH")
        venues.market("ETH").set_level(Venue.OKX, TakerSide.BUY, 3_000.0, 5.0)
        ingest.until(lambda: shows_what_stands(ingest, venues, "ETH", Venue.OKX), "contracts as coins")
        assert all(set(states) == {int(BookState.SYNCED)} for states in watch.states.values())
        ingest.switchboard.apply(quick(config_of(venues, "ETH")))
        until(ingest, venues, lambda: ingest.depth["ETH"].synced(*VENUES), "still whole", "ETH")


def test_books_that_are_not_wanted_are_not_listened_to() -> None:
    with venue_servers() as venues:
        off = {name: {"depth": False} for name in ("binance", "bybit", "okx")}
        with listening(venues.config(symbols={"BTC": {}}, venues=off)) as ingest:
            ingest.until(lambda: ingest.depth["BTC"].published > 0, "a board")
            assert not any(feed.topic is Topic.DEPTH for feed in ingest.feeds.feeds)
            assert not any("depth" in source for source in ingest.feeds.sources)
            assert (ingest.depth["BTC"].record["venues"]["state"] == 0).all()


def test_a_book_of_which_nothing_comes_any_more_is_silent_like_every_busy_topic() -> None:
    with venue_servers() as venues:
        config = quick(config_of(venues, "BTC", silent_after_s=1.0))
        with listening(config) as ingest:
            until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books")
            venues.fault(Venue.OKX, {"fault": "silent", "topic": STREAMS[Venue.OKX]})
            until(ingest, venues, lambda: b"depth BTC" in ingest.venue(Venue.OKX)["reason"], "its silence named")
            assert gaps(ingest, "BTC", Venue.OKX)[-1]["side"] == GapReason.SILENT
            venues.fault(Venue.OKX, {"fault": "clear"})
            until(ingest, venues, lambda: ingest.depth["BTC"].synced(Venue.OKX) and back(ingest), "whole again")


def back(ingest: Listening) -> bool:
    return not any(state.missing for feed, state in ingest.feeds.feeds.items() if feed.topic is Topic.DEPTH)


@pytest.mark.finding("C1")
def test_with_every_mark_dead_the_engine_goes_by_the_middles_of_real_books() -> None:
    with venue_servers() as venues, listening(quick(config_of(venues, "BTC"))) as ingest:
        until(ingest, venues, lambda: ingest.depth["BTC"].synced(*VENUES), "whole books")
        until(ingest, venues, lambda: len(ingest.events("BTC", Kind.MID_PRICE)) >= 3, "middles")
        until(ingest, venues, lambda: len(ingest.events("BTC", Kind.TICK)) >= 8, "two seconds")
    events = ingest.events("BTC")
    without_marks = events[events["kind"] != Kind.MARK_PRICE]
    engine = Engine(BTC)
    engine.apply(without_marks)
    frame = engine.live()
    assert frame is not None
    assert frame.facts.mark_source == PriceSource.MID
    assert abs(frame.facts.mark_price - PRICE) < 1.0

"""The depth desk: what it asks for and when, what it shows, what it counts. Venues here are a few updates by hand."""

import math
from typing import Any

import numpy as np
import pytest

from liqmap import config as configuration
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import BookState, GapReason, Kind, Topic, Venue
from liqmap.domain.instrument import Instrument, InstrumentTable, configured_table
from liqmap.exchanges.adapter import BookUpdate, PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.depth_board import DepthBoard
from liqmap.ingest.desk import DepthDesk
from liqmap.ingest.engine_time import EngineTime
from liqmap.ingest.feeds import Feeds, SourceState
from liqmap.ingest.flow import EventFlow
from liqmap.ingest.gaps import Feed
from liqmap.ingest.lanes import Lane
from liqmap.ingest.link import Say
from liqmap.ingest.shelf import WantedBook
from tests.listening import DepthSink, ListSink

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
BIDS, ASKS = ((59_990.0, 1.0), (59_980.0, 2.0)), ((60_010.0, 1.0), (60_020.0, 2.0))
NAMES = {
    symbol: {Venue.BINANCE: f"{symbol}USDT", Venue.BYBIT: f"{symbol}USDT", Venue.OKX: f"{symbol}-USDT-SWAP"}
    for symbol in ("BTC", "ETH")
}


class Stage:
    """A desk over these contracts, the time in the test's hands; `asked` and `said` are what went out."""

    def __init__(self, table: InstrumentTable | None = None, draw: float = 0.0) -> None:
        self.config = configuration.parse({})
        self.table = table or configured_table(NAMES, shipped_instruments())[0]
        self.feeds = Feeds(30.0)
        self.time = EngineTime(START, 0)
        self.flow = EventFlow(self.feeds, self.time)
        self.said: list[tuple[str, Say]] = []
        self.asked: list[PollPlan] = []
        self.desk = DepthDesk(self.feeds, self.flow, lambda source, order: self.said.append((source, order)))
        symbols = {contract.symbol for contract in self.table if contract.symbol is not None}
        self.sinks = {symbol: ListSink() for symbol in symbols}
        self.lanes = {symbol: Lane(symbol, sink, 1) for symbol, sink in self.sinks.items()}
        self.flow.use(self.table, self.lanes)
        self.boards = {symbol: DepthSink(2048) for symbol in symbols}
        painters = {symbol: DepthBoard(sink, 20.0, self.config.depth) for symbol, sink in self.boards.items()}
        wanted = [self.wanted(contract) for contract in self.table]
        for book in wanted:
            feed = Feed(book.instrument.venue, Topic.DEPTH, book.symbol)
            self.feeds.follow(book.source, SourceState(feed.venue, "depth", True), [(feed, False)], START)
        self.desk.use((self.config.depth, self.config.ingest), wanted, painters, self.asked.append, lambda: draw)
        self.now_ns = START

    def wanted(self, contract: Instrument) -> WantedBook:
        adapter, section = ADAPTERS[contract.venue], getattr(self.config.venues, contract.venue.name.lower())
        (link,) = [plan for plan in adapter.link_plans(section, InstrumentTable([contract])) if plan.name == "depth"]
        source = f"{contract.venue.name.lower()}/depth"
        levels, request = adapter.book_levels(section), adapter.book_plan(section, contract)
        return WantedBook(contract, adapter, source, link.streams[0], levels, request)

    def take(self, update: BookUpdate, connection: int = 1) -> bool:
        return self.desk.take(update, f"{update.venue.name.lower()}/depth", connection, self.now_ns)

    def answer(self, sequence: int, name: str = "BTCUSDT", asked: str = "BTCUSDT") -> None:
        plan = next(plan for plan in self.asked if plan.name == f"depth.{asked}")
        self.desk.snapshot(plan, book(Venue.BINANCE, sequence, snapshot=True, name=name), self.now_ns)

    def passes(self, seconds: float) -> None:
        """Time goes on in turns of 50 ms."""
        end_ns = self.now_ns + int(seconds * SECOND)
        while self.now_ns < end_ns:
            self.now_ns += SECOND // 20
            self.desk.turn(self.time.look(self.now_ns, self.now_ns))

    def row(self, venue: Venue, symbol: str = "BTC") -> Any:
        return self.boards[symbol].venue(venue)

    def mids(self, symbol: str = "BTC") -> Any:
        self.lanes[symbol].flush()
        rows = self.sinks[symbol].array()
        return rows[rows["kind"] == Kind.MID_PRICE]

    def whole(self, venue: Venue, sequence: int = 100, connection: int = 1) -> None:
        """That connection's book of BTC."""
        self.take(book(venue, sequence, sequence - 1, snapshot=venue is not Venue.BINANCE), connection)
        if venue is Venue.BINANCE:
            self.passes(0.1)
            self.answer(sequence)


def book(
    venue: Venue,
    sequence: int,
    previous: int | None = None,
    *,
    snapshot: bool = False,
    bids: Any = BIDS,
    asks: Any = ASKS,
    name: str = "",
) -> BookUpdate:
    contract = name or ("BTC-USDT-SWAP" if venue is Venue.OKX else "BTCUSDT")
    told = None if snapshot or venue is Venue.BYBIT else previous
    return BookUpdate(venue, contract, contract[:3], START // 1_000_000, snapshot, bids, asks, sequence, told, sequence)


def test_a_snapshot_is_asked_for_when_the_stream_speaks_and_only_once() -> None:
    stage = Stage()
    stage.passes(3.0)
    assert stage.asked == [], "before that it could be older than everything the stream will say"
    stage.take(book(Venue.BINANCE, 100, 90))
    stage.passes(3.0)
    assert [plan.name for plan in stage.asked] == ["depth.BTCUSDT"]
    stage.answer(100)
    stage.passes(30.0)
    assert len(stage.asked) == 1
    assert stage.row(Venue.BINANCE)["state"] == BookState.SYNCED


FALLEN = ((59_990.0, 0.0), (59_980.0, 0.0), (49_000.0, 1.0)), ((50_010.0, 1.0),)
"""A fall to where a bid of 50,000 stands that was given up, for it lay far below."""


@pytest.mark.parametrize("connections", [(1,), (1, 2)])
@pytest.mark.parametrize("venue", [Venue.BYBIT, Venue.OKX])
def test_a_best_price_next_to_levels_that_were_given_up_is_not_shown_and_the_book_begins_anew(
    venue: Venue, connections: tuple[int, ...]
) -> None:
    """What stands far below is given up every five seconds; next to a price that falls there it is missing."""
    stage, deep = Stage(), ((50_000.0, 3.0),)
    for connection in connections:
        stage.take(book(venue, 100, snapshot=True, bids=(*BIDS, *deep)), connection)
        stage.passes(6.0)
    for connection in connections:
        stage.take(book(venue, 101, 100, bids=FALLEN[0], asks=FALLEN[1]), connection)
    stage.passes(0.3)
    row = stage.row(venue)
    assert (row["state"], row["best_ask"]) == (BookState.SYNCED, 50_010.0)
    assert np.isnan(row["best_bid"])
    stage.passes(4.0)
    assert stage.row(venue)["state"] == BookState.BROKEN
    assert stage.said, "a new subscription"
    newest = connections[-1]
    stage.take(book(venue, 102, snapshot=True, bids=((50_000.0, 3.0), (49_000.0, 1.0)), asks=FALLEN[1]), newest)
    stage.passes(6.0)
    row = stage.row(venue)
    assert (row["state"], row["best_bid"], row["best_ask"]) == (BookState.SYNCED, 50_000.0, 50_010.0)
    assert stage.mids()["price"].tolist() == [60_000.0, 50_005.0]


def test_a_sweep_into_what_was_given_up_that_is_over_at_once_costs_no_book() -> None:
    stage = Stage()
    stage.take(book(Venue.BYBIT, 100, snapshot=True, bids=(*BIDS, (50_000.0, 3.0))))
    stage.passes(6.0)
    stage.take(book(Venue.BYBIT, 101, bids=((59_990.0, 0.0), (59_980.0, 0.0)), asks=()))
    stage.passes(0.5)
    assert np.isnan(stage.row(Venue.BYBIT)["best_bid"])
    stage.take(book(Venue.BYBIT, 102, bids=((59_985.0, 1.0),), asks=()))
    stage.passes(5.0)
    row = stage.row(Venue.BYBIT)
    assert (row["best_bid"], row["resyncs"], row["state"]) == (59_985.0, 0, BookState.SYNCED)


def test_a_crossed_book_is_not_pruned_by_what_crosses_it() -> None:
    """OKX opens with call auctions, in which books are crossed for a while."""
    stage = Stage()
    stage.whole(Venue.OKX)
    stage.take(book(Venue.OKX, 101, 100, bids=((72_000.0, 1.0),), asks=()))
    stage.passes(12.0)
    stage.take(book(Venue.OKX, 102, 101, bids=((72_000.0, 0.0),), asks=()))
    stage.passes(3.0)
    row = stage.row(Venue.OKX)
    assert (row["best_bid"], row["bid_levels"], row["resyncs"]) == (59_990.0, 2, 0)


@pytest.mark.parametrize("asks", [((120.0, 1.0), (121.0, 1.0)), ((1_000.0, 1.0),)])
def test_a_book_with_a_wide_spread_is_a_book(asks: tuple[tuple[float, float], ...]) -> None:
    stage, bids = Stage(), ((80.0, 1.0), (79.0, 1.0))
    stage.take(book(Venue.BYBIT, 100, snapshot=True, bids=bids, asks=asks))
    stage.passes(60.0)
    row = stage.row(Venue.BYBIT)
    assert (row["state"], row["best_bid"], row["best_ask"]) == (BookState.SYNCED, 80.0, asks[0][0])
    assert (row["bid_levels"], row["resyncs"], stage.said) == (2, 0, [])


def test_a_best_price_beyond_what_the_snapshot_told_is_not_shown_until_the_book_is_renewed() -> None:
    """Binance tells of a thousand levels; below them a bid of 59,500 stands, which nobody has told us of."""
    stage = Stage()
    stage.whole(Venue.BINANCE)
    stage.passes(1.0)
    dollars = float(np.nansum(stage.boards["BTC"].record["usd"]))
    fall = ((59_990.0, 0.0), (59_980.0, 0.0), (59_000.0, 1.0)), ((59_510.0, 1.0),)
    stage.take(book(Venue.BINANCE, 110, 100, bids=fall[0], asks=fall[1]))
    stage.passes(2.0)
    row = stage.row(Venue.BINANCE)
    assert (row["state"], row["best_ask"], len(stage.asked)) == (BookState.SYNCED, 59_510.0, 2)
    assert np.isnan(row["best_bid"])
    assert float(np.nansum(stage.boards["BTC"].record["usd"])) != dollars, "what is known is shown"
    stage.take(book(Venue.BINANCE, 120, 110, bids=(), asks=()))
    bids = ((59_500.0, 1.0), (59_490.0, 1.0))
    snapshot = book(Venue.BINANCE, 120, snapshot=True, bids=bids, asks=((59_510.0, 1.0), (59_520.0, 1.0)))
    stage.desk.snapshot(stage.asked[1], snapshot, stage.now_ns)
    stage.passes(1.0)
    row = stage.row(Venue.BINANCE)
    assert (row["best_bid"], row["resyncs"], row["snapshots"]) == (59_500.0, 0, 2)
    assert stage.mids()["price"].tolist() == [60_000.0, 59_505.0]


def test_a_price_that_leaves_every_snapshot_at_once_is_followed_without_haste() -> None:
    stage = Stage()
    stage.whole(Venue.BINANCE)
    bids: tuple[tuple[float, float], ...] = BIDS
    for number in range(60):
        sequence, gone = 101 + number, tuple((price, 0.0) for price, _ in bids)
        below = bids[-1][0] - 100.0
        stage.take(book(Venue.BINANCE, sequence, sequence - 1, bids=(*gone, (below, 1.0)), asks=((below + 1, 1.0),)))
        bids, asked = ((below, 1.0),), len(stage.asked)
        stage.passes(1.0)
        for request in stage.asked[asked:]:
            told = book(Venue.BINANCE, sequence, snapshot=True, bids=bids, asks=((below + 1, 1.0),))
            stage.desk.snapshot(request, told, stage.now_ns)
    assert 15 <= len(stage.asked) <= 21, "every three seconds"
    assert stage.row(Venue.BINANCE)["resyncs"] == 0


def test_what_came_to_nothing_is_asked_for_again_after_growing_times_and_what_the_venue_says() -> None:
    stage = Stage(draw=0.999)
    stage.take(book(Venue.BINANCE, 100, 90))
    delays = []
    for _ in range(5):
        before, asked = stage.now_ns, len(stage.asked)
        while len(stage.asked) == asked:
            stage.passes(0.05)
        delays.append((stage.now_ns - before) / SECOND)
        stage.desk.refused(stage.asked[-1], 0.0, stage.now_ns)
    assert delays == sorted(delays)
    assert delays[0] <= 1.05
    assert 8.0 < delays[4] <= 16.1
    stage.desk.refused(stage.asked[-1], 120.0, stage.now_ns)
    count = len(stage.asked)
    stage.passes(119.0)
    assert len(stage.asked) == count, "the venue asked for two minutes"
    stage.passes(2.0)
    assert len(stage.asked) == count + 1


def test_an_answer_that_never_comes_is_not_waited_for_for_ever() -> None:
    stage = Stage()
    stage.take(book(Venue.BINANCE, 100, 90))
    stage.passes(40.0)
    assert 2 <= len(stage.asked) <= 3


def test_a_snapshot_that_the_stream_never_comes_to_is_not_waited_for_for_ever() -> None:
    stage = Stage()
    stage.take(book(Venue.BINANCE, 100, 90))
    stage.passes(1.0)
    stage.answer(9_999_999)
    for sequence in range(101, 141):
        stage.passes(0.5)
        stage.take(book(Venue.BINANCE, sequence, sequence - 1))
    assert len(stage.asked) == 2


def test_a_request_for_one_connection_is_none_for_another_that_breaks_later() -> None:
    """During a rotation: the old connection's book was whole when the new one's was asked for, and had to stay."""
    stage = Stage()
    stage.whole(Venue.BINANCE, 100, connection=1)
    stage.whole(Venue.BINANCE, 100, connection=2)
    stage.desk.ended("binance/depth", 2, GapReason.DISCONNECTED, stage.now_ns)
    count = len(stage.asked)
    stage.take(book(Venue.BINANCE, 300, 290), connection=1)
    stage.passes(3.0)
    assert len(stage.asked) == count + 1


def test_a_loss_of_one_connection_does_not_end_the_wait_of_the_other() -> None:
    """Nobody would ask again for it: it believes that its answer is on its way."""
    stage = Stage()
    for connection in (1, 2):
        stage.take(book(Venue.BINANCE, 100, 90), connection)
    stage.passes(1.0)
    stage.answer(150)
    stage.desk.dropped("binance/depth", 2, 3, stage.now_ns)
    stage.take(book(Venue.BINANCE, 120, 110), connection=2)
    while len(stage.asked) < 2:
        stage.passes(1.0)
    stage.desk.dropped("binance/depth", 1, 3, stage.now_ns)
    for sequence in range(121, 221):
        stage.passes(0.5)
        stage.take(book(Venue.BINANCE, sequence, sequence - 1), connection=2)
    assert len(stage.asked) > 2


def test_many_books_that_begin_together_do_not_spend_the_minutes_weight_at_once() -> None:
    names = [f"C{number:02}" for number in range(60)]
    stage = Stage(InstrumentTable(Instrument(Venue.BINANCE, f"{n}USDT", 1.0, n, i) for i, n in enumerate(names)))
    for name in names:
        stage.take(book(Venue.BINANCE, 100, 90, name=f"{name}USDT"))
    weights = []
    for _ in range(30):
        stage.passes(2.0)
        weights.append(sum(plan.weight for plan in stage.asked))
        for plan in stage.asked:
            stage.desk.snapshot(plan, book(Venue.BINANCE, 100, snapshot=True, name=plan.name[6:]), stage.now_ns)
    assert weights[0] <= 10 * 20 + 40
    assert weights[-1] <= 1200, "half of the venue's budget is never passed within a minute"
    assert weights[-1] >= 600


def test_books_that_price_leaves_share_the_budget_and_leave_room_for_one_that_breaks() -> None:
    names = [f"C{number}" for number in range(6)]
    stage = Stage(InstrumentTable(Instrument(Venue.BINANCE, f"{n}USDT", 1.0, n, i) for i, n in enumerate(names)))
    below = dict.fromkeys(names, 59_000.0)

    def tell(name: str, sequence: int) -> None:
        if sequence == 100 or name == "C5":
            stage.take(book(Venue.BINANCE, sequence, sequence - 1, bids=(), asks=(), name=f"{name}USDT"))
            return
        price = below[name] = below[name] - 100.0
        falls = ((price, 1.0), (price + 100.0, 0.0), *((bid, 0.0) for bid, _ in BIDS))
        stage.take(book(Venue.BINANCE, sequence, sequence - 1, bids=falls, asks=(), name=f"{name}USDT"))

    def answer(asked: int, sequence: int) -> None:
        for plan in stage.asked[asked:]:
            name = plan.name[6:]
            bids = BIDS if name[:2] == "C5" else ((below[name[:2]], 1.0),)
            told = book(Venue.BINANCE, sequence, snapshot=True, bids=bids, name=name)
            stage.desk.snapshot(plan, told, stage.now_ns)

    asked = 0
    for sequence in range(100, 250):
        for name in names:
            if (name, sequence) != ("C5", 170):
                tell(name, sequence)
        answer(asked, sequence)
        asked = len(stage.asked)
        stage.passes(1.0)
        if sequence == 172:
            assert "depth.C5USDT" in [plan.name for plan in stage.asked[-12:]]
    counts = [sum(plan.name == f"depth.{name}USDT" for plan in stage.asked) for name in names]
    assert counts[5] == 2, "a beginning, and one after the break"
    assert min(counts[:5]) > max(counts[:5]) / 2 > 4


@pytest.mark.finding("X4")
def test_a_snapshot_of_another_contract_than_was_asked_for_is_nobodys() -> None:
    stage = Stage()
    for name in ("BTCUSDT", "ETHUSDT"):
        stage.take(book(Venue.BINANCE, 100, 90, name=name))
    stage.passes(1.0)
    stage.answer(100, name="ETHUSDT", asked="BTCUSDT")
    stage.passes(1.0)
    for symbol in ("BTC", "ETH"):
        assert stage.row(Venue.BINANCE, symbol)["state"] == BookState.SYNCING
    stage.answer(100, name="ETHUSDT", asked="ETHUSDT")
    stage.passes(1.0)
    assert stage.row(Venue.BINANCE, "ETH")["state"] == BookState.SYNCED
    assert stage.row(Venue.BINANCE, "BTC")["state"] == BookState.SYNCING


def test_bybit_is_subscribed_anew_at_once_okx_when_it_has_let_go() -> None:
    stage = Stage()
    for venue, stream in ((Venue.BYBIT, "orderbook.1000.BTCUSDT"), (Venue.OKX, "books:BTC-USDT-SWAP")):
        stage.whole(venue)
        stage.take(book(venue, 105, 103))
        stage.said.clear()
        stage.passes(1.0)
        ops = [[("unsubscribe" in text, "subscribe" in text) for text in order.texts] for _, order in stage.said]
        if venue is Venue.BYBIT:
            assert ops == [[(True, True)], [(False, True)]]
        else:
            assert ops == [[(True, True)]]
            stage.desk.acknowledged("okx/depth", 1, "books:ETH-USDT-SWAP", stage.now_ns)
            assert len(stage.said) == 1, "another book's"
            stage.desk.acknowledged("okx/depth", 1, stream, stage.now_ns)
            assert len(stage.said) == 2
        assert {source for source, _ in stage.said} == {f"{venue.name.lower()}/depth"}
        stage.take(book(venue, 300, snapshot=True))
        stage.passes(1.0)
        assert stage.row(venue)["state"] == BookState.SYNCED
        assert (stage.row(venue)["resyncs"], stage.row(venue)["sequence_gaps"]) == (1, 1)


def test_okx_is_subscribed_anew_also_when_it_never_says_that_it_let_go() -> None:
    stage = Stage()
    stage.whole(Venue.OKX)
    stage.take(book(Venue.OKX, 105, 103))
    stage.passes(7.0)
    assert len(stage.said) == 2


def test_okx_is_not_subscribed_anew_before_it_let_go_also_when_frames_are_lost_meanwhile() -> None:
    stage = Stage()
    stage.whole(Venue.OKX)
    stage.take(book(Venue.OKX, 105, 103))
    while not stage.said:
        stage.passes(0.05)
    stage.desk.dropped("okx/depth", 1, 3, stage.now_ns)
    stage.passes(3.0)
    assert len(stage.said) == 1
    stage.desk.acknowledged("okx/depth", 1, "books:BTC-USDT-SWAP", stage.now_ns)
    assert len(stage.said) == 2


@pytest.mark.parametrize("venue", [Venue.BYBIT, Venue.OKX])
def test_what_a_connection_that_ended_waited_for_is_not_waited_for_by_the_other(venue: Venue) -> None:
    stage = Stage()
    for connection in (1, 2):
        stage.whole(venue, connection=connection)
    for connection in (1, 2):
        stage.take(book(venue, 105, 103), connection)
    while not stage.said:
        stage.passes(0.05)
    granted = stage.said[0][1].connection
    stage.desk.ended(f"{venue.name.lower()}/depth", granted, GapReason.DISCONNECTED, stage.now_ns)
    stage.said.clear()
    stage.passes(3.0)
    assert {order.connection for _, order in stage.said} == {3 - granted}


@pytest.mark.parametrize("venue", list(ADAPTERS))
def test_a_book_that_breaks_is_a_gap_until_it_is_whole_and_shows_nothing(venue: Venue) -> None:
    stage = Stage()
    stage.whole(venue)
    stage.passes(0.3)
    feed = Feed(venue, Topic.DEPTH, "BTC")
    assert stage.feeds.gaps.reason(feed) is None
    stage.take(book(venue, 105, 103))
    assert stage.feeds.gaps.reason(feed) is GapReason.SEQUENCE
    stage.passes(0.3)
    row = stage.row(venue)
    assert row["state"] == BookState.BROKEN
    assert np.isnan([row["best_bid"], row["best_ask"], row["complete_low"], row["complete_high"]]).all()
    assert np.isnan(stage.boards["BTC"].record["usd"]).all()
    told = len(stage.mids())
    stage.whole(venue, 300)
    stage.passes(0.3)
    assert stage.feeds.gaps.reason(feed) is None
    assert len(stage.mids()) == told + 1, "the middle is told anew, also when it is what it was"


def test_frames_given_up_under_load_break_the_books_of_that_link_only() -> None:
    stage = Stage()
    for venue in ADAPTERS:
        stage.whole(venue)
    stage.desk.dropped("bybit/depth", 1, 7, stage.now_ns)
    stage.passes(0.3)
    assert stage.row(Venue.BYBIT)["state"] == BookState.BROKEN
    assert (stage.row(Venue.BYBIT)["dropped_updates"], stage.row(Venue.BYBIT)["sequence_gaps"]) == (7, 0)
    assert stage.feeds.gaps.reason(Feed(Venue.BYBIT, Topic.DEPTH, "BTC")) is GapReason.OVERRUN
    for venue in (Venue.BINANCE, Venue.OKX):
        assert stage.row(venue)["state"] == BookState.SYNCED


def test_an_update_that_speaks_keeps_a_broken_book_from_being_called_silent() -> None:
    stage = Stage()
    stage.whole(Venue.OKX)
    stage.whole(Venue.BYBIT)
    stage.take(book(Venue.OKX, 105, 103))
    for sequence in range(101, 170):
        stage.passes(1.0)
        stage.take(book(Venue.BYBIT, sequence))
        stage.take(book(Venue.OKX, 1000 + sequence, 999 + sequence))
        assert stage.feeds.look(stage.now_ns) == []
    assert stage.feeds.gaps.reason(Feed(Venue.OKX, Topic.DEPTH, "BTC")) is GapReason.SEQUENCE


def test_a_new_connection_is_shown_when_it_is_whole_and_may_stand_for_the_link_only_then() -> None:
    stage = Stage()
    stage.whole(Venue.BINANCE)
    stage.passes(0.3)
    assert not stage.take(book(Venue.BINANCE, 205, 200, bids=((59_995.0, 1.0),)), connection=2)
    stage.passes(0.3)
    assert stage.row(Venue.BINANCE)["best_bid"] == 59_990.0, "the old one's"
    stage.answer(205)
    assert stage.take(book(Venue.BINANCE, 206, 205, bids=()), connection=2)
    stage.passes(0.3)
    assert stage.row(Venue.BINANCE)["best_bid"] == 59_995.0
    stage.desk.ended("binance/depth", 1, GapReason.DISCONNECTED, stage.now_ns)
    stage.passes(0.3)
    assert stage.row(Venue.BINANCE)["state"] == BookState.SYNCED
    stage.desk.ended("binance/depth", 2, GapReason.DISCONNECTED, stage.now_ns)
    stage.passes(0.3)
    assert stage.row(Venue.BINANCE)["state"] == BookState.ABSENT
    assert stage.row(Venue.BINANCE)["updates"] == 3, "what was counted stays counted"


def test_middles_are_told_once_per_publication_and_only_when_they_change() -> None:
    stage = Stage()
    stage.whole(Venue.OKX, 100)
    for sequence in range(101, 141):
        stage.take(book(Venue.OKX, sequence, sequence - 1, bids=((59_990.0 + sequence / 100, 1.0),), asks=()))
        stage.passes(0.05)
    mids = stage.mids()
    assert 8 <= len(mids) <= 9, "two seconds at four a second"
    assert (np.diff(mids["receive_ns"]) >= 250_000_000).all()
    stage.passes(5.0)
    assert len(stage.mids()) <= len(mids) + 1
    assert set(mids["instrument"]) == {next(c.number for c in stage.table if c.name == "BTC-USDT-SWAP")}


def test_a_crossed_book_has_no_middle_and_is_counted() -> None:
    stage = Stage()
    stage.whole(Venue.BYBIT)
    stage.passes(0.3)
    told = len(stage.mids())
    stage.take(book(Venue.BYBIT, 101, bids=((60_015.0, 1.0),), asks=()))
    stage.passes(1.0)
    assert len(stage.mids()) == told
    assert (stage.row(Venue.BYBIT)["crossed"], stage.row(Venue.BYBIT)["state"]) == (1, BookState.SYNCED)


def test_the_board_is_published_when_something_changed_and_once_a_second_at_least() -> None:
    stage = Stage()
    stage.whole(Venue.OKX, 100)
    stage.passes(1.0)
    before = stage.boards["BTC"].published
    stage.passes(10.0)
    quiet = stage.boards["BTC"].published - before
    assert 9 <= quiet <= 10
    for sequence in range(101, 201):
        stage.take(book(Venue.OKX, sequence, sequence - 1, bids=((59_000.0, float(sequence)),), asks=()))
        stage.passes(0.05)
    assert 18 <= stage.boards["BTC"].published - before - quiet <= 21, "five seconds at four a second"
    assert stage.boards["BTC"].record["as_of_ns"] > START


def test_the_window_has_room_to_move_and_moves_when_price_has_gone_one_percent() -> None:
    stage = Stage()
    stage.whole(Venue.OKX)
    stage.passes(0.3)
    record = stage.boards["BTC"].record
    first = int(record["first_bucket"])
    assert first * 20 < 60_000 * 0.9
    assert (first + int(record["buckets"]) - 1) * 20 > 60_000 * 1.1

    def move(price: float, sequence: int) -> None:
        levels = (((price - 10, 1.0),), ((price + 10, 1.0),))
        stage.take(book(Venue.OKX, sequence, snapshot=True, bids=levels[0], asks=levels[1]))
        stage.passes(0.3)

    move(60_500.0, 200)
    assert record["first_bucket"] == first
    move(61_000.0, 300)
    assert record["first_bucket"] > first
    assert math.isclose(float(np.nansum(record["usd"])), 2 * 61_000.0, rel_tol=1e-6)


def test_levels_outside_the_band_are_given_up_and_counted() -> None:
    stage = Stage()
    stage.whole(Venue.BINANCE)
    stage.take(book(Venue.BINANCE, 110, 100, bids=((30_000.0, 5.0), (55_000.0, 1.0)), asks=((90_000.0, 5.0),)))
    stage.passes(6.0)
    assert stage.row(Venue.BINANCE)["dropped_levels"] == 2
    assert stage.row(Venue.BINANCE)["bid_levels"] == 3
    assert stage.row(Venue.BINANCE)["complete_low"] == 59_980.0


def test_a_book_whose_price_leaves_what_it_is_complete_for_is_renewed_but_not_all_the_time() -> None:
    stage = Stage()
    stage.whole(Venue.BINANCE)
    stage.passes(20.0)
    assert len(stage.asked) == 1, "price stands in the middle of it"
    stage.take(book(Venue.BINANCE, 110, 100, bids=((60_015.0, 1.0),), asks=((60_010.0, 0.0),)))
    stage.passes(12.0)
    assert len(stage.asked) == 2
    stage.take(book(Venue.BINANCE, 120, 110, bids=(), asks=()))
    wide = book(Venue.BINANCE, 120, snapshot=True, bids=((60_015.0, 1.0), (59_900.0, 1.0)), asks=((60_020.0, 2.0),))
    stage.desk.snapshot(stage.asked[1], wide, stage.now_ns)
    stage.passes(1.0)
    row = stage.row(Venue.BINANCE)
    assert (row["complete_low"], row["complete_high"]) == (59_900.0, 60_020.0)
    assert (row["resyncs"], row["snapshots"], row["state"]) == (0, 2, BookState.SYNCED)
    stage.passes(15.0)
    assert len(stage.asked) == 2, "half a minute lies between two"
    stage.passes(30.0)
    assert len(stage.asked) == 3


def test_streams_and_wishes_of_a_symbol_taken_away_are_forgotten() -> None:
    stage = Stage()
    stage.take(book(Venue.BINANCE, 100, 90))
    stage.desk.use((stage.config.depth, stage.config.ingest), [], {}, stage.asked.append, lambda: 0.0)
    stage.passes(5.0)
    assert stage.asked == []
    assert stage.take(book(Venue.BINANCE, 101, 100)), "it is market data all the same"


def test_a_book_carried_by_another_link_now_begins_anew() -> None:
    stage = Stage()
    stage.whole(Venue.OKX)
    wanted = [stage.wanted(contract) for contract in stage.table if contract.venue is Venue.OKX]
    moved = [WantedBook(w.instrument, w.adapter, "okx/depth-2", w.stream, w.levels, w.request) for w in wanted]
    stage.feeds.follow("okx/depth-2", SourceState(Venue.OKX, "depth-2", True), [], START)
    stage.desk.use((stage.config.depth, stage.config.ingest), moved, {}, stage.asked.append, lambda: 0.0)
    stage.take(book(Venue.OKX, 101, 100))
    stage.desk.take(book(Venue.OKX, 102, 101), "okx/depth-2", 1, stage.now_ns)
    stage.passes(1.0)
    assert [source for source, _ in stage.said] == ["okx/depth-2"], "what the old link said counts for nothing"

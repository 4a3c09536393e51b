"""A cold start over loopback venues: the past before the present, and the present whatever becomes of the past."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from liqmap.config import Config
from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.domain.event import EVENT_BYTES, EVENT_DTYPE, FLAG_BACKFILLED
from liqmap.ingest import backfill as backfills
from liqmap.ingest.backfill import Backfill
from liqmap.ingest.fetcher import RequestsFetcher
from liqmap.ingest.past_requests import PastRequests
from liqmap.sim.tape import Past
from liqmap.sim.venues.running import VENUES
from tests.listening import Listening, listening
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
MINUTE, DAY = 60_000, 86_400_000
KLINES, LEVELS = "/fapi/v1/klines", "/futures/data/openInterestHist"


def minutes_told(marks: Any) -> int:
    """How many minutes the bars of these marks stand for: four marks a bar."""
    return int(np.where(marks["detail"] > 0, marks["detail"] // MINUTE, 1).sum()) // 4


def remembered(days: float, price: float = 60_000.0, level: float = 1000.0) -> Past:
    """A market that went up and down by a per cent and traded as much in each two minutes."""
    end_ms = time.time_ns() // 1_000_000
    times = np.arange(end_ms - int(days * DAY), end_ms + 1, 2 * MINUTE)
    wave = np.sin(np.arange(len(times)) / 50.0)
    marks = price * (1.0 + 0.01 * wave)
    same = np.full(len(times), 2.0)
    return Past(times, marks, level * (1.0 + 0.01 * wave), same, same / 2)


def markets(days: float, *symbols: str) -> list[ScriptedMarket]:
    found = [ScriptedMarket(symbol, price) for symbol, price in zip(symbols, (60_000.0, 3000.0), strict=False)]
    for market in found:
        market.past = remembered(days, market.mark_price)
    return found


@dataclass
class Worker:
    """The reader of a ring, as slow as a test wants."""

    capacity: int = 1 << 16
    waiting: int = 0

    def pending(self) -> int:
        return self.waiting


@dataclass
class Slow(Worker):
    """One that is behind what is `written` by what it has not `taken`."""

    written: Callable[[], int] = int
    taken: int = 0

    def pending(self) -> int:
        return self.written() - self.taken


class Cold:
    """An ingest that begins with nothing. `worker`: of every symbol."""

    def __init__(self, ingest: Listening, config: Config, worker: Worker) -> None:
        self.ingest = ingest
        self.worker = worker

        def fetcher() -> RequestsFetcher:
            return RequestsFetcher(config.ingest.connect_timeout_s)

        requests = PastRequests(config.ingest, ingest.clock, ingest.accounts, fetcher, random.Random(3).random)
        self.backfill = Backfill(ingest.clock, requests, lambda _symbol: worker)
        self.began_ns = ingest.router.time.now_ns
        router = ingest.router
        self.backfill.begin(config, router.lanes, router.instruments, self.began_ns)

    def until(self, condition: Callable[[], object], what: str) -> None:
        def turned() -> object:
            self.backfill.turn()
            return condition()

        self.ingest.until(turned, what)

    def until_live(self) -> None:
        self.until(lambda: not self.backfill.busy, "live")

    def past(self, *kinds: Kind, symbol: str = "BTC") -> Any:
        events = self.ingest.events(symbol, *kinds)
        return events[events["flags"] & FLAG_BACKFILLED != 0]

    def live(self, *kinds: Kind, symbol: str = "BTC") -> Any:
        events = self.ingest.events(symbol, *kinds)
        return events[events["flags"] & FLAG_BACKFILLED == 0]

    def check_order(self, symbol: str = "BTC") -> None:
        """One stretch of time, numbered without a hole: the past, then the present."""
        events = self.ingest.events(symbol)
        assert list(events["sequence"]) == list(range(1, len(events) + 1))
        assert (np.diff(events["receive_ns"]) >= 0).all()
        flagged = events["flags"] & FLAG_BACKFILLED != 0
        assert not (np.diff(flagged.astype(int)) > 0).any(), "nothing of the past behind the present"

    def gap_ms(self, venue: Venue, topic: Topic, symbol: str = "BTC") -> int:
        """How long the feed was missing in the past, by what was told when gaps closed."""
        rows = self.past(Kind.GAP, symbol=symbol)
        rows = rows[(rows["venue"] == venue) & (rows["topic"] == topic) & (rows["detail"] >= 0)]
        return int((rows["detail"] - rows["venue_ms"]).sum())


@contextmanager
def cold(venues: RunningVenues, worker: Worker | None = None, *symbols: str, **ingest: Any) -> Iterator[Cold]:
    settings = {"backfill_days": 1.0, "backoff_first_s": 0.05, **ingest}
    config = venues.config(symbols={symbol: {} for symbol in symbols or ("BTC",)}, ingest=settings)
    with listening(config) as running:
        stage = Cold(running, config, worker or Worker())
        try:
            yield stage
        finally:
            stage.backfill.end("the test is over")


def test_the_past_comes_before_the_present_in_one_rising_stretch() -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues, cold(venues) as stage:
        stage.until_live()
        stage.until(lambda: len(set(stage.live(Kind.MARK_PRICE)["venue"])) == 3, "every venue live")
        stage.check_order()
        marks = stage.past(Kind.MARK_PRICE)
        assert minutes_told(marks) in (1439, 1440, 1441)
        assert set(marks["venue"]) == {BINANCE}
        assert abs(marks["price"] / 60_000.0 - 1.0).max() == pytest.approx(0.01, abs=1e-4)
        trades = stage.past(Kind.TRADE)
        assert trades["quantity"].sum() == pytest.approx(3.0 * 720, rel=0.01), "three base in each two minutes"
        levels = stage.past(Kind.OPEN_INTEREST)
        assert set(levels["venue"]) == set(VENUES)
        assert {int(row["detail"]) for row in levels if row["venue"] != OKX} == {300_000}
        assert (levels["quantity"] < 1010.1).all()
        assert (levels["quantity"] > 989.9).all(), "one side, base coin, at every venue"
        assert (levels["venue_ms"] * 1_000_000 == levels["receive_ns"]).all()
        assert stage.past()["receive_ns"].max() <= stage.began_ns
        assert stage.live()["receive_ns"].min() >= stage.began_ns


def test_no_level_is_known_before_its_time_and_every_minute_has_a_tick() -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues, cold(venues) as stage:
        stage.until_live()
        ticks = stage.past(Kind.TICK)
        assert set(np.diff(ticks["receive_ns"])) == {MINUTE * 1_000_000, 5 * MINUTE * 1_000_000}
        assert 1430 <= int(ticks["receive_ns"][-1] - ticks["receive_ns"][0]) // (MINUTE * 1_000_000) <= 1440
        assert set(np.diff(ticks["receive_ns"])[-200:]) == {MINUTE * 1_000_000}, "the last hours minute by minute"
        assert stage.gap_ms(BINANCE, Topic.TRADE) < 2 * MINUTE, "but for the minute that is open"
        for venue in VENUES:
            assert stage.gap_ms(venue, Topic.LIQUIDATION) >= DAY
            assert stage.gap_ms(venue, Topic.OPEN_INTEREST) == 0


def test_what_is_heard_meanwhile_is_held_and_nothing_of_it_is_lost() -> None:
    worker = Worker(waiting=1 << 16)
    with venue_servers(*markets(1.5, "BTC")) as venues, cold(venues, worker) as stage:
        lane, links = stage.ingest.router.lanes["BTC"], stage.ingest.feeds.sources
        stage.until(lambda: links["binance/trades"].opened_ns > 0 and links["binance/facts"].frames > 0, "links")

        def held(kind: Kind) -> bool:
            return any(np.frombuffer(record, EVENT_DTYPE)["kind"][0] == kind for record in lane.waiting)

        def traded() -> bool:
            venues.market("BTC").trade(BINANCE, 60_123.0, 0.25)
            return held(Kind.TRADE)

        stage.until(traded, "a trade that is held")
        assert held(Kind.TICK)
        assert stage.ingest.events("BTC").size == 0, "the worker took nothing: nothing is written"
        worker.waiting = 0
        stage.until_live()
        assert (stage.live(Kind.TRADE)["price"] == 60_123.0).any()
        stage.check_order()


@pytest.mark.parametrize("capacity", [1024, 4096])
def test_the_ring_is_never_overrun_however_slow_the_worker(capacity: int) -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues:
        worker = Slow(capacity)
        with cold(venues, worker) as stage:
            worker.written = lambda: sum(map(len, stage.ingest.sinks["BTC"].written)) // EVENT_BYTES

            def slowly() -> bool:
                assert worker.pending() <= worker.capacity, "overrun"
                worker.taken = min(worker.written(), worker.taken + capacity // 8)
                return not stage.backfill.busy

            stage.until(slowly, "live")
            assert minutes_told(stage.past(Kind.MARK_PRICE)) > 1400
            stage.check_order()


def test_a_worker_that_takes_nothing_gets_a_gap_and_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "PATIENCE_S", 0.5)
    with venue_servers(*markets(1.5, "BTC")) as venues, cold(venues, Worker(waiting=1 << 16)) as stage:
        stage.until_live()
        stage.until(lambda: stage.live(Kind.MARK_PRICE).size, "a mark")
        assert set(stage.past()["kind"]) == {Kind.GAP}
        assert stage.gap_ms(BINANCE, Topic.TRADE) >= DAY
        stage.check_order()


def test_too_much_that_is_held_ends_the_past_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "HELD_MOST", 30)
    with venue_servers(*markets(1.5, "BTC")) as venues, cold(venues, Worker(waiting=1 << 16)) as stage:
        stage.until_live()
        stage.check_order()
        assert set(stage.past()["kind"]) == {Kind.GAP}


def test_ended_in_the_middle_the_rest_is_a_gap_and_the_present_follows() -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues:
        worker = Slow(4096)
        with cold(venues, worker) as stage:
            worker.written = lambda: sum(map(len, stage.ingest.sinks["BTC"].written)) // EVENT_BYTES
            stage.until(lambda: worker.written() > 1000, "some of the past")
            written_ms = int(stage.ingest.events("BTC")["receive_ns"][-1]) // 1_000_000
            stage.backfill.end("a reload")
            assert not stage.backfill.busy
            stage.until(lambda: stage.live(Kind.MARK_PRICE).size, "a mark")
            stage.check_order()
            gaps = stage.past(Kind.GAP)
            closed = gaps[(gaps["topic"] == Topic.TRADE) & (gaps["venue"] == BINANCE) & (gaps["detail"] >= 0)]
            assert [int(row["venue_ms"]) for row in closed] == [written_ms]
            assert int(closed["detail"][0]) == stage.began_ns // 1_000_000


@pytest.mark.parametrize("status", [429, 418, 500, 451])
def test_a_venue_that_refuses_leaves_a_gap_and_the_others_their_part(status: int) -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues:
        venues.fault(BINANCE, {"fault": "rest", "status": status, "path": KLINES})
        with cold(venues) as stage:
            stage.until_live()
            stage.check_order()
            assert stage.past(Kind.MARK_PRICE).size == 0
            assert stage.gap_ms(BINANCE, Topic.TRADE) >= DAY
            assert stage.gap_ms(BINANCE, Topic.LIQUIDATION) >= DAY
            stage.until(lambda: stage.live(Kind.MARK_PRICE).size, "a mark")


def test_a_venue_that_fails_now_and_then_is_asked_again() -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues:
        venues.fault(BINANCE, {"fault": "rest", "status": 500, "path": KLINES, "times": 1})
        venues.fault(BYBIT, {"fault": "rest", "status": 503, "path": "/v5/market/open-interest", "times": 1})
        with cold(venues) as stage:
            stage.until_live()
            assert stage.gap_ms(BINANCE, Topic.TRADE) < 2 * MINUTE
            assert stage.gap_ms(BYBIT, Topic.OPEN_INTEREST) == 0
            stage.check_order()


def test_levels_that_cannot_be_had_are_a_gap_beside_bars_that_can() -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues:
        venues.fault(BINANCE, {"fault": "rest", "status": 500, "path": LEVELS})
        with cold(venues) as stage:
            stage.until_live()
            stage.check_order()
            levels = stage.past(Kind.OPEN_INTEREST)
            assert set(levels["venue"]) == {BYBIT, OKX}
            assert stage.gap_ms(BINANCE, Topic.OPEN_INTEREST) >= DAY


def test_a_venue_that_never_answers_is_not_waited_for_beyond_the_limit() -> None:
    with venue_servers(*markets(1.5, "BTC", "ETH")) as venues:
        venues.fault(BYBIT, {"fault": "rest_slow", "path": "/v5/market/open-interest", "latency_s": 60.0})
        began = time.monotonic()
        with cold(venues, None, "BTC", "ETH", backfill_limit_s=1.5) as stage:
            stage.until_live()
            assert time.monotonic() - began < 10.0
            for symbol in ("BTC", "ETH"):
                stage.check_order(symbol)
                assert minutes_told(stage.past(Kind.MARK_PRICE, symbol=symbol)) > 1250
                assert stage.gap_ms(BYBIT, Topic.OPEN_INTEREST, symbol) >= DAY
                assert stage.gap_ms(BINANCE, Topic.OPEN_INTEREST, symbol) == 0


def test_a_market_younger_than_asked_begins_when_it_began() -> None:
    with venue_servers(*markets(0.25, "BTC")) as venues, cold(venues) as stage:
        stage.until_live()
        stage.check_order()
        assert 350 <= minutes_told(stage.past(Kind.MARK_PRICE)) <= 361
        assert stage.gap_ms(BINANCE, Topic.TRADE) == pytest.approx(0.75 * DAY, abs=5 * MINUTE)


def test_a_market_without_any_past_goes_live_with_a_gap() -> None:
    with venue_servers() as venues, cold(venues) as stage:
        stage.until_live()
        stage.until(lambda: stage.live(Kind.MARK_PRICE).size, "a mark")
        stage.check_order()
        assert stage.past(Kind.MARK_PRICE).size <= 4
        assert stage.gap_ms(BINANCE, Topic.TRADE) >= DAY - 2 * MINUTE


def test_two_symbols_each_have_their_past() -> None:
    with venue_servers(*markets(1.5, "BTC", "ETH")) as venues, cold(venues, None, "BTC", "ETH") as stage:
        stage.until_live()
        for symbol, price in (("BTC", 60_000.0), ("ETH", 3000.0)):
            stage.check_order(symbol)
            marks = stage.past(Kind.MARK_PRICE, symbol=symbol)
            assert abs(marks["price"] / price - 1.0).max() < 0.02
            assert minutes_told(marks) > 1250


def test_switched_off_nothing_is_asked_for() -> None:
    with venue_servers(*markets(1.5, "BTC")) as venues, cold(venues, backfill_days=0.0) as stage:
        assert not stage.backfill.busy
        stage.until(lambda: stage.live(Kind.MARK_PRICE).size, "a mark")
        assert stage.past().size == 0

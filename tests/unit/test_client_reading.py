"""The reader library against real shared memory, written by a test instead of a daemon."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from liqmap.client import Client, Incompatible, NotYet, UnknownSymbol
from liqmap.client.maps import geometry_of
from liqmap.clock import ManualClock
from liqmap.domain.enums import Source, Topic, Venue
from liqmap.shm.layout import fingerprint, live_dtype
from liqmap.shm.plan import create_all, retire_all
from tests.api.stage import MARKS, STALE_AFTER_MS, Stage, config_of, instance_name, stage

SECOND_NS = 1_000_000_000


@pytest.fixture
def set_() -> Iterator[Stage]:
    """A healthy instance."""
    with stage() as made:
        made.write_all()
        yield made


def test_by_hand_one_line_is_enough(set_: Stage) -> None:
    snapshot = Client(set_.config.daemon.instance).snapshot("BTC")
    assert snapshot.mark_price == MARKS["BTC"]
    assert snapshot.freshness.source == "simulated"
    assert not snapshot.stale and snapshot.age_ms < STALE_AFTER_MS
    assert len(snapshot.prices) == snapshot.evidence_usd.shape[1] == snapshot.projection_usd.shape[2]


def test_only_the_range_that_is_asked_for_is_handed_out(set_: Stage) -> None:
    with set_.client() as client:
        for symbol, mark in MARKS.items():
            step = set_.config.symbols[symbol].step
            cut = client.snapshot(symbol, range_pct=2)
            assert cut.prices[0] >= mark * 0.98 - 1e-9 and cut.prices[0] - step < mark * 0.98
            assert cut.prices[-1] <= mark * 1.02 + 1e-9 and cut.prices[-1] + step > mark * 1.02
            whole = client.snapshot(symbol)
            first = int(np.searchsorted(whole.prices, cut.prices[0]))
            assert np.array_equal(whole.prices[first : first + len(cut.prices)], cut.prices)
            assert np.array_equal(whole.projection_usd[:, :, first : first + len(cut.prices)], cut.projection_usd)
            between = client.snapshot(symbol, low=cut.prices[0], high=cut.prices[-1])
            assert np.array_equal(between.prices, cut.prices)
        assert client.snapshot("BTC", range_pct=99).low == client.snapshot("BTC").prices[0]


@pytest.mark.finding("M23")
@pytest.mark.finding("M3")
def test_a_snapshot_cannot_be_changed_and_does_not_change(set_: Stage) -> None:
    with set_.client() as client:
        before = client.snapshot("BTC", range_pct=5)
        kept = before.evidence_usd.copy()
        for array in (before.prices, before.projection_usd, before.evidence_usd, before.weights, before.leverages):
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.mark_price = 1.0  # type: ignore[misc]
        for _ in range(8):  # every slot of the board is written anew
            set_.write_frame("BTC", evidence_usd=7.0)
        assert np.array_equal(before.evidence_usd, kept)
        assert client.snapshot("BTC", range_pct=5).evidence_usd.max() == 7.0


def test_unknown_is_none_or_nan_never_zero(set_: Stage) -> None:
    set_.write_frame("BTC", projection_known=False, mark_price=float("nan"), mark_source=0)
    set_.write_frame("ETH", projection_known=False, open_interest_base=float("nan"))
    with set_.client() as client:
        btc, eth = client.snapshot("BTC"), client.snapshot("ETH", range_pct=5)
        assert btc.mark_price is None and btc.mark_source is None and btc.mark_as_of_ms is None
        assert btc.coverage is None and btc.unknown_usd is None
        assert np.isnan(eth.projection_usd).all() and np.isnan(eth.long_usd).all()
        assert not np.isnan(eth.evidence_usd).any()
        assert client.open_interest("ETH").open_interest_base is None
        assert "okx" not in client.open_interest("ETH").venues
        assert len(client.snapshot("BTC", range_pct=5).prices) == 0


def test_a_map_that_knows_no_price_is_not_ready_and_says_why(set_: Stage) -> None:
    set_.write_frame("BTC", mark_price=float("nan"), mark_source=0)
    with set_.client() as client:
        status = client.status()
        assert not status.symbols["BTC"].ready and status.symbols["ETH"].ready
        assert status.symbols["BTC"].reason == "BTC has no price yet: no mark, mid or last trade has arrived"
        assert status.status == "degraded"
        assert "no price yet" in (client.why_not("BTC") or "")
        set_.write_frame("BTC")
        assert client.status().symbols["BTC"].ready and client.why_not("BTC") is None


def test_age_is_measured_and_old_is_stale(set_: Stage) -> None:
    clock = ManualClock(time.time_ns())
    set_.write_frame("BTC", clock.now_ns())
    with set_.client(clock=clock) as client:
        assert client.snapshot("BTC").age_ms == 0
        clock.advance(STALE_AFTER_MS / 1000)
        assert not client.snapshot("BTC").stale
        clock.advance(0.1)
        snapshot = client.snapshot("BTC")
        assert snapshot.stale and snapshot.age_ms == STALE_AFTER_MS + 100
        assert not client.status().symbols["BTC"].ready


@pytest.mark.parametrize("speed", [1.0, 10.0, 600.0])
def test_ages_are_true_in_a_replay_at_any_speed(set_: Stage, speed: float) -> None:
    """Wall time since the recording reached the frame, however fast the recording runs."""
    wall_ns = 1_790_000_000 * SECOND_NS
    recorded_ns = 1_770_000_000 * SECOND_NS
    set_.write_clock(Source.REPLAY, engine_origin_ns=recorded_ns, wall_origin_ns=wall_ns, speed=speed)
    clock = ManualClock(wall_ns + 100 * SECOND_NS)
    set_.write_frame("BTC", recorded_ns + int((100 - 3) * SECOND_NS * speed))  # reached three wall seconds ago
    with set_.client(clock=clock) as client:
        snapshot = client.snapshot("BTC")
        assert snapshot.freshness.source == "replay"
        assert abs(snapshot.age_ms - 3000) <= 1
        assert snapshot.as_of_ms == (recorded_ns + int(97 * SECOND_NS * speed)) // 1_000_000
        clock.advance(3)
        assert client.snapshot("BTC").stale


def test_a_daemon_that_is_not_there_is_not_yet_and_is_seen_when_it_comes() -> None:
    config = config_of(instance_name())
    client = Client(config.daemon.instance, expected=("BTC",))
    for read in (client.snapshot, client.newest, client.open_interest, client.liquidations):
        with pytest.raises(NotYet, match="daemon"):
            read("BTC")
    status = client.status()
    assert status.status == "down" and not status.symbols["BTC"].ready and status.source is None
    assert any("BTC has not published" in problem for problem in status.problems)
    with stage(config) as set_:
        with pytest.raises(NotYet, match="has not been published"):
            client.snapshot("BTC")
        set_.write_all()
        assert client.snapshot("BTC").mark_price == MARKS["BTC"]


def test_a_successor_under_the_same_name_is_found() -> None:
    """Retired segments are left at once, segments of a daemon that died without a word when their data is old."""
    config = config_of(instance_name())
    clock = ManualClock(time.time_ns())
    first = create_all(config)
    try:
        Stage(config, first).write_all()
        client = Client(config.daemon.instance, stale_after_ms=STALE_AFTER_MS, clock=clock)
        before = client.newest("BTC").version
        first.retire_all()
        with pytest.raises(NotYet):
            client.snapshot("BTC")
        second = create_all(config)
        Stage(config, second).write_all()
        after = client.newest("BTC").version
        assert after.generation != before.generation
        assert client.snapshot("BTC").version.generation == after.generation
        second.close()
    finally:
        retire_all(config)


def test_a_name_that_is_no_symbol_touches_nothing(set_: Stage) -> None:
    with set_.client() as client:
        for name in ("../x", "btc", "", "A" * 16, "BTC.X"):
            with pytest.raises(UnknownSymbol):
                client.snapshot(name)


def test_the_geometry_of_a_board_is_told_by_its_segment() -> None:
    for tiers, buckets in ((1, 64), (8, 8192), (10, 5461), (64, 65536)):
        dtype = live_dtype(tiers, buckets)
        assert geometry_of(dtype.itemsize, fingerprint(dtype)) == (tiers, buckets)
    with pytest.raises(Incompatible):
        geometry_of(live_dtype(3, 100).itemsize, 12345)


def test_gaps_are_the_feeds_that_are_missing_now(set_: Stage) -> None:
    missing = ((Venue.BYBIT, Topic.TRADE, "BTC"), (Venue.OKX, Topic.OPEN_INTEREST, "ETH"))
    with set_.client() as client:
        assert client.gaps() == ()
        before = client.newest("BTC").version
        set_.write_feeds(missing=missing)
        assert [(gap.venue, gap.topic, gap.symbol, gap.reason) for gap in client.gaps()] == [
            ("bybit", "trade", "BTC", "disconnected"),
            ("okx", "open_interest", "ETH", "disconnected"),
        ]
        assert [gap.venue for gap in client.gaps("BTC")] == ["bybit"]
        assert client.gaps("SOL") == ()
        assert client.newest("BTC").version.gaps_version != before.gaps_version
        set_.write_feeds()
        assert client.gaps() == ()


def test_when_ingest_is_silent_everything_is_missing(set_: Stage) -> None:
    clock = ManualClock(time.time_ns())
    set_.write_feeds(clock.now_ns())
    with set_.client(clock=clock) as client:
        assert client.gaps("BTC") == ()
        clock.advance(STALE_AFTER_MS / 1000 + 1)
        assert {(gap.venue, gap.topic, gap.reason) for gap in client.gaps("BTC")} == {
            (venue, "all", "stopped") for venue in ("binance", "bybit", "okx")
        }
        assert client.status().status == "down"


def test_open_interest_by_venue_with_ages(set_: Stage) -> None:
    clock = ManualClock(time.time_ns())
    set_.write_frame("BTC", clock.now_ns(), open_interest_change_base=-3.5)
    with set_.client(clock=clock) as client:
        oi = client.open_interest("BTC")
        assert (oi.open_interest_base, oi.open_interest_usd, oi.change_base) == (1000.0, 1000.0 * MARKS["BTC"], -3.5)
        assert oi.venues["binance"].base == 600.0 and oi.venues["binance"].age_ms == 2000
        assert not oi.venues["binance"].stale and oi.venues["bybit"].stale


@pytest.mark.parametrize(
    ("states", "frames", "not_delivering", "expected"),
    [
        ({}, ("BTC", "ETH", "SOL"), (), "ok"),
        ({}, ("BTC", "ETH"), (), "degraded"),
        ({}, ("BTC", "ETH", "SOL"), (Venue.OKX,), "degraded"),
        ({}, (), (), "down"),
        ({"api": "BACKOFF"}, ("BTC", "ETH", "SOL"), (), "ok"),
    ],
    ids=["all well", "one symbol stale", "one venue down", "no symbol", "a restart alone"],
)
def test_the_verdict(
    states: dict[str, str], frames: tuple[str, ...], not_delivering: tuple[Venue, ...], expected: str
) -> None:
    with stage() as set_:
        set_.write_clock()
        set_.write_directory()
        set_.write_processes(**states)
        set_.write_feeds(not_delivering=not_delivering)
        for symbol in frames:
            set_.write_frame(symbol)
        with set_.client() as client:
            status = client.status()
            assert status.status == expected
            assert bool(status.problems) == (expected != "ok" or bool(states))
            assert set(status.symbols) == {"BTC", "ETH", "SOL"}


def test_problems_are_words_that_name_what_is_wrong(set_: Stage) -> None:
    set_.write_processes(ETH="FATAL")
    topics = (Topic.LIQUIDATION, Topic.TRADE, Topic.MARK_PRICE, Topic.OPEN_INTEREST)
    nothing = tuple((Venue.OKX, topic, symbol) for topic in topics for symbol in ("BTC", "ETH", "SOL"))
    set_.write_feeds(missing=((Venue.BYBIT, Topic.LIQUIDATION, "BTC"), *nothing), not_delivering=(Venue.OKX,))
    set_.write_frame("ETH", time.time_ns() - 60 * SECOND_NS)
    with set_.client() as client:
        problems = "\n".join(client.status().problems)
    assert "process ETH is fatal, it ended with exit code 78: bad configuration" in problems
    assert "ETH is stale: its newest map is 60." in problems
    assert "okx does not deliver: connection refused" in problems
    assert "no liquidation arrives from bybit for BTC: disconnected" in problems


@pytest.mark.parametrize(
    ("offset_ms", "lag_ms", "seconds"),
    [(-2.0, 10_098.0, "10.1"), (600_000.0, 630_000.0, "30.0"), (600_000.0, 600_050.0, None), (np.nan, 30_000.0, None)],
    ids=["late", "late and another clock", "another clock alone", "not known which of the two"],
)
def test_a_venue_whose_facts_are_old_when_they_come_is_late(
    set_: Stage, offset_ms: float, lag_ms: float, seconds: str | None
) -> None:
    def said(board: Any) -> None:
        board["venues"][1]["clock_offset_ms"], board["venues"][1]["lag_ms"] = offset_ms, lag_ms

    set_.write_feeds(kept=said)
    with set_.client() as client:
        status = client.status()
    told = [] if seconds is None else [f"bybit is late: what it tells is {seconds} s old when it arrives"]
    assert list(status.problems) == told
    assert status.status == ("degraded" if told else "ok")


def test_a_venue_of_which_something_arrives_is_not_said_to_deliver_nothing(set_: Stage) -> None:
    set_.write_feeds(missing=((Venue.OKX, Topic.TRADE, "BTC"),), not_delivering=(Venue.OKX,))
    with set_.client() as client:
        problems = client.status().problems
    assert "okx does not deliver everything: connection refused" in problems


def test_a_venue_that_is_gone_is_one_sentence_however_many_topics_and_symbols_it_carried(set_: Stage) -> None:
    topics = (Topic.TRADE, Topic.MARK_PRICE, Topic.OPEN_INTEREST)
    set_.write_feeds(missing=tuple((Venue.OKX, topic, symbol) for topic in topics for symbol in ("BTC", "ETH")))
    with set_.client() as client:
        said = [problem for problem in client.status().problems if "arrives" in problem]
    assert said == ["no mark price, open interest or trade arrives from okx for BTC or ETH: disconnected"]


def test_threads_may_share_one_client(set_: Stage) -> None:
    client = set_.client()
    torn: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            cells = client.snapshot("BTC", range_pct=5).evidence_usd
            if cells.min() != cells.max():
                torn.append(f"{cells.min()} {cells.max()}")

    set_.write_frame("BTC", evidence_usd=1.0)
    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(2, 150):
        set_.write_frame("BTC", evidence_usd=float(number))
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []

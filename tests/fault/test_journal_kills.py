"""A real ingest, under load, killed at moments nobody chose: nothing that is in a ring is missing in the journal, and
what went by between a death and the next start is told."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from liqmap.config import Config
from liqmap.domain.enums import GapReason, Kind, TakerSide
from liqmap.domain.event import SEQUENCE_EPOCH_SHIFT
from liqmap.store.journal_reader import Events, Hole, SymbolJournalReader
from tests.fault.test_ingest_process import Daemon, daemon, more_than
from tests.fault.test_ingest_sockets import FAST, TRADED
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

KILLS = 20


@contextmanager
def storm(venues: RunningVenues) -> Iterator[None]:
    """Trades at all venues, in a thread, some thousands a second."""
    over = threading.Event()

    def print_them() -> None:
        market = venues.market("BTC")
        while not over.wait(0.01):
            market.mark_price = 60_000.0 + (time.monotonic_ns() // 10**7) % 50
            with market.together():
                for venue in TRADED:
                    for _ in range(20):
                        market.trade(venue, 60_000.0, 0.5, TakerSide.BUY)

    thread = threading.Thread(target=print_them, name="storm")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def listening_to(venues: RunningVenues, **sections: Any) -> Config:
    return venues.config(ingest=FAST, symbols={"BTC": {}}, **sections)


def epochs(events: Any) -> Any:
    return events["sequence"] >> SEQUENCE_EPOCH_SHIFT


def journalled(stage: Daemon) -> tuple[Any, list[Hole], SymbolJournalReader]:
    reader = SymbolJournalReader(stage.paths.lib_dir / "journal" / "BTC")
    items = list(reader)
    events = np.concatenate([item.events for item in items if isinstance(item, Events)])
    return events, [item for item in items if isinstance(item, Hole)], reader


@pytest.mark.finding("M28")
def test_killed_at_any_moment_the_journal_has_what_the_ring_has_and_the_hole_is_told(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    with (
        venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues,
        storm(venues),
        daemon(listening_to(venues), tmp_path) as stage,
    ):
        for _ in range(KILLS):
            stage.start()
            seen = len(stage.events("BTC"))
            stage.until(partial(more_than, stage, seen + 200), "events under load")
            time.sleep(draw.random() * 0.2)  # not waiting for anything: the moment is what is drawn
            stage.signal(signal.SIGKILL)
            stage.ended()
        stage.start()
        stage.until(stage.ready, "the last one")
        stage.signal(signal.SIGTERM)
        assert stage.ended() == 0
        ring = stage.events("BTC")
        log = stage.paths.log("ingest").read_text()
        journal, holes, reader = journalled(stage)
    assert len(set(epochs(ring).tolist())) == KILLS + 1
    held = {row.tobytes() for row in journal}
    missing = [row for row in ring if row.tobytes() not in held]
    assert missing == [], f"in the ring and not in the journal (seed {seed})"
    assert holes == [] and reader.losses == []
    assert (np.diff(journal["sequence"].astype(np.int64)) > 0).all(), "nothing twice, nothing out of order"
    told = journal[(journal["kind"] == Kind.GAP) & (journal["side"] == GapReason.NOT_RECORDED)]
    for epoch in sorted(set(epochs(journal).tolist()))[1:]:
        before = journal[epochs(journal) < epoch]
        ended_ms = int(before["receive_ns"][-1]) // 10**6
        mine = told[epochs(told) == epoch]
        assert set(mine["venue_ms"].tolist()) == {ended_ms}, "each gap begins where the journal ended"
        assert {1, 2, 3} <= set(mine["venue"].tolist())
        begun_ms = int(journal[epochs(journal) == epoch]["receive_ns"][0]) // 10**6
        closed = mine[mine["detail"] >= 0]["detail"]
        assert len(closed) and (np.abs(closed - begun_ms) < 30_000).all()
    assert log.count("nothing was recorded since ingest was killed") == KILLS


def test_asked_to_stop_is_told_apart_from_killed(tmp_path: Path) -> None:
    with (
        venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues,
        storm(venues),
        daemon(listening_to(venues), tmp_path) as stage,
    ):
        for _ in range(2):
            stage.start()
            seen = len(stage.events("BTC"))
            stage.until(partial(more_than, stage, seen + 200), "events")
            stage.signal(signal.SIGTERM)
            assert stage.ended() == 0
        journal, _, _ = journalled(stage)
        log = stage.paths.log("ingest").read_text()
    second = journal[epochs(journal) == epochs(journal)[-1]]
    gaps = second[(second["kind"] == Kind.GAP) & (second["detail"] >= 0)]
    ended_ms = int(journal[epochs(journal) < epochs(journal)[-1]]["receive_ns"][-1]) // 10**6
    assert GapReason.STOPPED in set(gaps[gaps["venue_ms"] == ended_ms]["side"].tolist())
    assert "nothing was recorded since ingest was stopped" in log
    assert "was killed" not in log


def test_a_journal_that_cannot_be_written_stops_nobody_and_is_on_the_board(tmp_path: Path) -> None:
    with (
        venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues,
        storm(venues),
        daemon(listening_to(venues), tmp_path) as stage,
    ):
        (stage.paths.lib_dir / "journal").write_text("a file stands where the directory should")
        stage.start()
        stage.until(lambda: len(stage.events("BTC", Kind.TRADE)) > 500, "trades all the same")
        stage.until(lambda: stage.feeds()["journal_state"] == 2, "the state on the board")
        stage.until(lambda: stage.feeds()["journal_unwritten"] > 500, "the count on the board")
        (stage.paths.lib_dir / "journal").unlink()
        stage.until(lambda: stage.feeds()["journal_state"] == 1, "it is written again by itself")
        stage.signal(signal.SIGTERM)
        assert stage.ended() == 0
        unwritten = int(stage.feeds()["journal_unwritten"])
        ring = stage.events("BTC")
        journal, holes, _ = journalled(stage)
    assert sum(hole.events for hole in holes) == unwritten
    assert len(journal) + unwritten == len(ring)


def test_a_capture_is_written_when_asked_for(tmp_path: Path) -> None:
    with venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues, storm(venues):
        config = listening_to(venues)
        config = msgspec.structs.replace(config, capture=msgspec.structs.replace(config.capture, enabled=True))
        with daemon(config, tmp_path) as stage:
            stage.start()
            stage.until(lambda: len(stage.events("BTC", Kind.TRADE)) > 100, "trades")
            stage.until(lambda: stage.feeds()["capture_bytes"] > 0, "bytes of the capture")
            assert stage.feeds()["capture_state"] == 1
            stage.signal(signal.SIGTERM)
            assert stage.ended() == 0
            assert stage.feeds()["capture_dropped"] == 0
            assert len(list((stage.paths.lib_dir / "capture").iterdir())) == 1


def test_a_symbol_taken_away_and_brought_back_goes_on_counting_and_its_absence_is_a_gap(tmp_path: Path) -> None:
    markets = [ScriptedMarket(symbol, price) for symbol, price in (("BTC", 60_000.0), ("ETH", 3_000.0))]
    with venue_servers(*markets) as venues:
        both = venues.config(ingest=FAST, symbols={"BTC": {}, "ETH": {}})
        one = venues.config(ingest=FAST, symbols={"BTC": {}, "ETH": {"enabled": False}})
        with daemon(both, tmp_path) as stage:
            own = stage.config.daemon

            def reload(config: Config) -> None:
                stage.write(msgspec.structs.replace(config, daemon=own))
                stage.signal(signal.SIGHUP)

            def listened(least: int) -> None:
                stage.until(lambda: len(stage.events("ETH", Kind.MARK_PRICE)) >= least, "marks of ETH")

            stage.start()
            listened(3)
            reload(one)
            stage.until(lambda: "symbols=BTC\n" in stage.paths.log("ingest").read_text(), "taken away")
            seen = len(stage.events("ETH", Kind.MARK_PRICE))
            reload(both)
            listened(seen + 3)
            stage.signal(signal.SIGTERM)
            assert stage.ended() == 0
            reader = SymbolJournalReader(stage.paths.lib_dir / "journal" / "ETH")
            events = np.concatenate([item.events for item in reader if isinstance(item, Events)])
            ring = stage.events("ETH")
    assert events.tobytes() == ring.tobytes()
    assert (np.diff(events["sequence"].astype(np.int64)) == 1).all(), "no number twice"
    away = events[(events["kind"] == Kind.GAP) & (events["side"] == GapReason.STOPPED) & (events["detail"] >= 0)]
    assert len(away), "what went by in between is told"

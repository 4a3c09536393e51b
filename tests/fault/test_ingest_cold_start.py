"""The ingest process on an empty disk: seven days of a simulated market before the present, and never a second time."""

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liqmap import config as configuration
from liqmap.domain.enums import Kind, Venue
from liqmap.domain.event import FLAG_BACKFILLED
from liqmap.sim.worlds import open_market
from liqmap.store.journal_reader import journal_files
from tests.fault.test_ingest_process import Daemon, daemon
from tests.venue_servers import ScriptedMarket, venue_servers

DAY_NS = 86_400_000_000_000


def flagged(events: Any) -> Any:
    return events["flags"] & FLAG_BACKFILLED != 0


def live_marks(stage: Daemon) -> int:
    marks = stage.events("BTC", Kind.MARK_PRICE)
    return int((~flagged(marks)).sum())


def live_levels(stage: Daemon) -> dict[int, float]:
    """The first live level of each venue."""
    levels = stage.events("BTC", Kind.OPEN_INTEREST)
    return {int(row["venue"]): float(row["quantity"]) for row in levels[~flagged(levels)][::-1]}


def check_stretch(events: Any) -> None:
    assert (np.diff(events["sequence"].astype(np.int64)) == 1).all()
    assert (np.diff(events["receive_ns"]) >= 0).all()
    assert not (np.diff(flagged(events).astype(int)) > 0).any(), "nothing of the past behind the present"


def test_seven_days_come_before_the_present_and_never_again(tmp_path: Path) -> None:
    sim = configuration.parse({}).sim
    market = open_market(sim, "BTC", time.time_ns() // 1_000_000)
    with venue_servers(market, step_ms=100) as venues:
        config = venues.config(symbols={"BTC": {}}, ingest={"backfill_days": 7.0})
        with daemon(config, tmp_path) as stage:
            stage.start()
            stage.until(stage.ready, "ready")
            stage.until(lambda: live_marks(stage), "a live mark")
            events = stage.events("BTC")
            check_stretch(events)
            past = events[flagged(events)]
            assert past["receive_ns"][-1] - past["receive_ns"][0] > 6.99 * DAY_NS
            marks = past[past["kind"] == Kind.MARK_PRICE]
            told_min = int(np.where(marks["detail"] > 0, marks["detail"] // 60_000, 1).sum()) // 4
            assert told_min > 7 * 1440 - 5
            assert set(past[past["kind"] == Kind.OPEN_INTEREST]["venue"]) == {Venue.BINANCE, Venue.BYBIT, Venue.OKX}
            stage.until(lambda: len(live_levels(stage)) == 3, "a live level of each venue")
            for venue, level in live_levels(stage).items():
                levels = past[(past["kind"] == Kind.OPEN_INTEREST) & (past["venue"] == venue)]
                assert level == pytest.approx(float(levels["quantity"][-1]), rel=0.02), "the levels join"
            marks = events[events["kind"] == Kind.MARK_PRICE]
            first = int(np.argmin(flagged(marks)))
            assert marks["price"][first] == pytest.approx(marks["price"][first - 1], rel=0.005), "the prices join"
            assert len(journal_files(stage.paths.lib_dir / "journal" / "BTC")) >= 168

            stage.signal(signal.SIGTERM)
            assert stage.ended() == 0
            before = len(stage.events("BTC"))
            stage.start()
            stage.until(lambda: len(stage.events("BTC", Kind.TICK)[-1:]) and live_marks(stage) > 3, "live again")
            stage.until(lambda: (~flagged(stage.events("BTC")[before:])).sum() > 20, "live events of the second start")
            assert not flagged(stage.events("BTC")[before:]).any()


def test_a_journal_alone_is_enough_to_know_the_symbol(tmp_path: Path) -> None:
    """The machine was started anew: the rings are empty, the disk is not."""
    with venue_servers(ScriptedMarket("BTC", 60_000.0)) as venues:
        config = venues.config(symbols={"BTC": {}}, ingest={"backfill_days": 1.0})
        with daemon(config, tmp_path) as stage:
            stage.start()
            stage.until(lambda: live_marks(stage) > 2, "live marks")
            assert flagged(stage.events("BTC", Kind.GAP)).any(), "there was no past to be had, and that is said"
            stage.signal(signal.SIGTERM)
            assert stage.ended() == 0
        again = Daemon(stage.config, stage.mode)
        try:
            again.start()
            again.until(lambda: live_marks(again) > 2, "live marks")
            assert not flagged(again.events("BTC")).any()
        finally:
            again.close()


def test_killed_in_the_middle_of_its_past_it_goes_live_with_a_gap(tmp_path: Path) -> None:
    market = open_market(configuration.parse({}).sim, "BTC", time.time_ns() // 1_000_000)
    with venue_servers(market, step_ms=100) as venues:
        config = venues.config(symbols={"BTC": {}}, ingest={"backfill_days": 7.0, "ring_events": 4096})
        with daemon(config, tmp_path) as stage:
            stage.start()
            stage.until(lambda: len(stage.events("BTC")) > 500, "the first of the past")  # and the ring is full again
            stage.signal(signal.SIGKILL)
            stage.ended()
            before = len(stage.events("BTC"))
            assert flagged(stage.events("BTC")).all()
            stage.start()
            stage.until(lambda: live_marks(stage), "a live mark")
            events = stage.events("BTC")
            assert (np.diff(events["receive_ns"]) >= 0).all()
            assert not flagged(events[before:]).any()
            gaps = events[before:][events[before:]["kind"] == Kind.GAP]
            told = gaps[gaps["venue_ms"] * 1_000_000 <= events[before - 1]["receive_ns"] + 10**9]
            assert len(told), "from where the past ends until now nothing is known"

"""/health says what is, in words; live and ready are other questions."""

import os
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from liqmap import __version__
from liqmap.api.app import create_app
from liqmap.client import Client
from liqmap.clock import ManualClock
from liqmap.domain.enums import Source, Topic, Venue
from tests.api.stage import Stage, config_of, instance_name, stage


def test_every_field_of_the_contract(web: FlaskClient) -> None:
    body = web.get("/health").get_json()
    assert set(body) == {
        *("ok", "status", "version", "uptime_s", "source", "processes", "feeds", "symbols", "problems"),
        *("quarantine", "journal", "capture", "margins"),
    }
    assert (body["ok"], body["status"], body["version"], body["source"]) == (True, "ok", __version__, "simulated")
    assert set(body["processes"]) == {"ingest", "api", "BTC", "ETH", "SOL"}
    process = body["processes"]["BTC"]
    assert {"state", "pid", "heartbeat_age_ms", "restarts", "cpu_pct", "rss_mb", "exit"} <= set(process)
    assert process["state"] == "RUNNING" and process["heartbeat_age_ms"] >= 0 and process["exit"] is None
    feed = body["feeds"]["bybit"]
    assert {"state", "topics", "reconnects", "backoff_s", "reason"} <= set(feed)
    assert {"last_event_age_ms", "events", "gaps", "silent"} <= set(feed["topics"]["liquidation"])
    assert feed["topics"]["liquidation"]["last_event_age_ms"] == 1000
    assert feed["topics"]["trade"]["events"] == 30
    symbol = body["symbols"]["ETH"]
    assert set(symbol) == {"ready", "as_of_ms", "age_ms", "sequence", "coverage", "reason"}
    assert (
        symbol["reason"] is None and symbol["ready"] is True and symbol["sequence"] > 0 and symbol["coverage"] is None
    )
    assert body["problems"] == []


def test_what_a_venue_says_of_its_clock_its_budget_and_its_topics(web: FlaskClient, set_: Stage) -> None:
    def said(board: Any) -> None:
        row = board["venues"][0]
        row["clock_offset_ms"], row["round_trip_ms"], row["lag_ms"], row["budget_used"] = -3.5, 21.0, 40.0, 0.25
        row["reason"] = b"our clock is 3 ms behind the venue's"
        mine = (board["topics"]["venue"] == Venue.BINANCE) & (board["topics"]["topic"] == Topic.TRADE)
        board["topics"]["gap_ms"][mine] = (100, 2500, 0)
        board["topics"]["dropped"][mine] = 7

    set_.write_feeds(kept=said)
    body = web.get("/health").get_json()
    feed = body["feeds"]["binance"]
    assert (feed["clock_offset_ms"], feed["round_trip_ms"], feed["lag_ms"], feed["budget_used"]) == (-3.5, 21, 40, 0.25)
    assert (feed["topics"]["trade"]["gap_ms"], feed["topics"]["trade"]["dropped"]) == (2500, 7)
    assert body["feeds"]["okx"]["clock_offset_ms"] is None
    assert body["problems"] == ["binance: our clock is 3 ms behind the venue's"] and body["status"] == "ok"


def test_what_was_set_aside_and_why(web: FlaskClient, set_: Stage) -> None:
    def kept(board: Any) -> None:
        board["quarantined"], board["quarantine_kept"], board["quarantine_skipped"] = 12, 9, 2
        board["quarantine_failed"], board["quarantine_bytes"], board["reason_count"] = 1, 4096, 2
        board["reasons"][0] = (Venue.OKX, 11, 1_770_000_000 * 10**9, b"not JSON")
        board["reasons"][1] = (Venue.BYBIT, 1, -1, b"absurd size")

    set_.write_feeds(kept=kept)
    assert web.get("/health").get_json()["quarantine"] == {
        "seen": 12,
        "kept": 9,
        "skipped": 2,
        "failed": 1,
        "bytes": 4096,
        "reasons": [
            {"venue": "okx", "why": "not JSON", "count": 11, "last_ms": 1_770_000_000_000},
            {"venue": "bybit", "why": "absurd size", "count": 1, "last_ms": None},
        ],
    }


@pytest.mark.finding("H1")
@pytest.mark.parametrize("what", ["journal", "capture"])
def test_a_disk_that_does_not_take_what_should_be_written_is_a_problem_in_words(
    web: FlaskClient, set_: Stage, what: str
) -> None:
    def kept(state: int) -> Any:
        def fill(board: Any) -> None:
            board[f"{what}_state"], board[f"{what}_bytes"] = state, 1000
            board["journal_unwritten"] = board["capture_dropped"] = 55

        return fill

    set_.write_feeds(kept=kept(1))
    body = web.get("/health").get_json()
    assert body[what] == {"state": "written", "bytes": 1000, "lost": 55}
    assert (body["status"], body["problems"]) == ("ok", [])
    set_.write_feeds(kept=kept(2))
    body = web.get("/health").get_json()
    assert body[what]["state"] == "failing" and body["status"] == "degraded"
    [problem] = body["problems"]
    assert what in problem and "disk" in problem and "55" in problem


def test_ages_of_feeds_are_wall_time_in_a_replay_too(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    recorded_ns = 1_770_000_000 * 10**9
    set_.write_clock(Source.REPLAY, engine_origin_ns=recorded_ns, wall_origin_ns=clock.now_ns(), speed=600.0)
    clock.advance(1)  # the clock row is not read at every request
    set_.write_feeds(recorded_ns + 600 * 10**9)
    body = web.get("/health").get_json()
    assert body["source"] == "replay"
    assert body["feeds"]["okx"]["topics"]["trade"]["last_event_age_ms"] == pytest.approx(1000 / 600, abs=1)


def test_health_is_200_whatever_is_wrong(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_processes(SOL="FATAL")
    set_.write_feeds(clock.now_ns(), missing=((Venue.OKX, Topic.LIQUIDATION, "BTC"),), not_delivering=(Venue.OKX,))
    answer = web.get("/health")
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    body = answer.get_json()
    assert (body["ok"], body["status"]) == (False, "degraded")
    assert len(body["problems"]) == 3 and all(" " in problem for problem in body["problems"])
    clock.advance(60)
    body = web.get("/health").get_json()
    assert body["status"] == "down" and not any(symbol["ready"] for symbol in body["symbols"].values())


def test_without_any_daemon_everything_still_answers() -> None:
    config = config_of(instance_name())
    web = create_app(config, Client(config.daemon.instance, expected=config.enabled_symbols)).test_client()
    body = web.get("/health").get_json()
    assert body["status"] == "down" and body["source"] is None and body["uptime_s"] is None
    assert set(body["symbols"]) == {"BTC", "ETH", "SOL"} and body["problems"]
    assert web.get("/health/live").status_code == 200
    assert web.get("/symbols").get_json()["symbols"][0]["enabled"] is True


@pytest.mark.finding("L15")
@pytest.mark.parametrize("path", ["/liq_heatmap_v2", "/liq_events", "/oi", "/v2/liq_heatmap?symbol=SOL"])
def test_never_published_is_503_with_a_reason_and_nothing_else(path: str) -> None:
    with stage() as set_:
        set_.write_clock()
        set_.write_directory()
        set_.write_processes()
        web = create_app(set_.config, set_.client()).test_client()
        answer = web.get(path)
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        body = answer.get_json()
        assert set(body) == {"error"} and body["error"]["code"] == "warming_up"
        assert (
            "has not published a map yet: no market data has arrived (its process is running)"
            in body["error"]["message"]
        )


def test_ready_says_why_not(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    assert web.get("/health/ready").get_json() == {"ready": True, "symbols": ["BTC", "ETH", "SOL"]}
    clock.advance(10)
    set_.write_frame("ETH", clock.now_ns())
    set_.write_processes(BTC="BACKOFF")
    assert web.get("/health/ready").get_json() == {"ready": True, "symbols": ["ETH"]}
    assert web.get("/health/ready?symbol=ethusdt").status_code == 200
    answer = web.get("/health/ready?symbol=BTC")
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    body = answer.get_json()
    assert body["ready"] is False
    assert body["reason"] == "BTC is stale: its newest map is 10.0 s old (its process is backoff)"
    assert body["error"]["code"] == "not_ready"
    clock.advance(10)
    assert web.get("/health/ready").status_code == 503


PRICES = (Topic.TRADE, Topic.MARK_PRICE)


@pytest.mark.finding("M15")
def test_a_symbol_without_any_price_is_stale_while_its_frames_go_on(web: FlaskClient, set_: Stage) -> None:
    venues = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)
    fresh = web.get("/liq_heatmap_v2")
    assert fresh.get_json()["stale"] is False
    set_.write_feeds(missing=tuple((venue, topic, "BTC") for venue in venues for topic in PRICES))
    answer = web.get("/liq_heatmap_v2", headers={"If-None-Match": fresh.headers["ETag"]})
    assert answer.status_code == 200 and answer.get_json()["stale"] is True
    assert answer.get_json()["long_usd"] == fresh.get_json()["long_usd"]
    assert web.get("/liq_heatmap_v2?symbol=ETH").get_json()["stale"] is False
    refused = web.get("/health/ready?symbol=BTC")
    assert refused.status_code == 503 and "no venue delivers a price" in refused.get_json()["reason"]
    body = web.get("/health").get_json()
    assert body["status"] == "degraded" and not body["symbols"]["BTC"]["ready"] and body["symbols"]["ETH"]["ready"]


def test_one_venue_s_price_is_enough(web: FlaskClient, set_: Stage) -> None:
    missing = tuple((venue, topic, "BTC") for venue in (Venue.BINANCE, Venue.BYBIT) for topic in PRICES)
    set_.write_feeds(missing=(*missing, (Venue.OKX, Topic.TRADE, "BTC")))
    assert web.get("/liq_heatmap_v2").get_json()["stale"] is False


def test_the_end_of_a_replay_is_said_in_words(web: FlaskClient, set_: Stage) -> None:
    set_.write_feeds(finished=True)
    body = web.get("/health").get_json()
    assert body["status"] == "down" and "the replay has ended" in body["problems"][0]
    assert all("the replay has ended" in symbol["reason"] for symbol in body["symbols"].values())
    assert web.get("/liq_heatmap_v2").get_json()["stale"] is True


def test_a_dead_process_keeps_neither_pid_nor_heartbeat(web: FlaskClient, set_: Stage) -> None:
    set_.write_processes(SOL="BACKOFF")
    dead = web.get("/health").get_json()["processes"]["SOL"]
    assert (dead["state"], dead["pid"], dead["heartbeat_age_ms"]) == ("BACKOFF", None, None)


def test_one_problem_names_all_symbols_it_concerns(web: FlaskClient, set_: Stage) -> None:
    set_.write_feeds(missing=tuple((Venue.OKX, Topic.LIQUIDATION, symbol) for symbol in ("BTC", "ETH", "SOL")))
    problems = web.get("/health").get_json()["problems"]
    assert problems == ["no liquidation arrives from okx for BTC, ETH or SOL: disconnected"]


def test_a_symbol_that_is_not_enabled_says_so() -> None:
    config = config_of(instance_name(), symbols={"BTC": {}, "ETH": {"enabled": False}})
    with stage(config) as set_:
        set_.write_all()
        web = create_app(config, set_.client()).test_client()
        for path in ("/liq_heatmap_v2?symbol=ETH", "/health/ready?symbol=ETH"):
            answer = web.get(path)
            assert answer.status_code == 503 and "ETH is not enabled" in answer.get_json()["error"]["message"]


def test_a_full_disk_is_told(web: FlaskClient, set_: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert web.get("/health").get_json()["problems"] == []
    seeing = create_app(set_.config, set_.client(), tmp_path).test_client()
    there = os.statvfs(tmp_path)
    full = os.statvfs_result([*there[:4], 10, *there[5:]])
    monkeypatch.setattr("liqmap.api.health.os.statvfs", lambda _path: full)
    problems = seeing.get("/health").get_json()["problems"]
    assert len(problems) == 1 and "is full" in problems[0] and str(tmp_path) in problems[0]
    assert any("cannot be looked at" in each for each in _gone(set_, tmp_path / "gone", monkeypatch))


def _gone(set_: Stage, directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.undo()
    problems: list[str] = (
        create_app(set_.config, set_.client(), directory).test_client().get("/health").get_json()["problems"]
    )
    return problems

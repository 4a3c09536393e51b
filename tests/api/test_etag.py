"""ETags: equal data, equal tag, in every process; and a map that has gone stale is not the fresh one."""

import gzip
import json
import subprocess
import sys

import pytest
from flask.testing import FlaskClient

from liqmap.api.app import create_app
from liqmap.clock import ManualClock
from liqmap.domain.enums import Topic, Venue
from tests.api.process import ROOT
from tests.api.stage import STALE_AFTER_MS, Stage

DATA_PATHS = (
    *("/liq_heatmap", "/liq_heatmap_v2", "/liq_zones", "/liq_zones_summary", "/liq_zones_heatmap"),
    *("/liq_events", "/oi", "/market_data", "/trader_ratios", "/liq_stats"),
)


def tag(web: FlaskClient, path: str) -> str:
    """The ETag of an answer."""
    return web.get(path).headers["ETag"]


def status(web: FlaskClient, path: str, known: str) -> int:
    """What an asker who knows `known` is told."""
    answer = web.get(path, headers={"If-None-Match": known})
    assert (answer.data == b"") == (answer.status_code == 304)
    assert answer.headers["ETag"]
    return answer.status_code


@pytest.mark.parametrize("path", DATA_PATHS)
def test_the_same_frame_is_304_however_old_while_it_is_fresh(web: FlaskClient, clock: ManualClock, path: str) -> None:
    first = web.get(path)
    clock.advance(STALE_AFTER_MS / 2000)
    second = web.get(path)
    assert second.get_json()["age_ms"] == first.get_json()["age_ms"] + STALE_AFTER_MS // 2
    assert second.headers["ETag"] == first.headers["ETag"]
    for known in (first.headers["ETag"], first.headers["ETag"][2:], "*", f'"other", {first.headers["ETag"]}'):
        assert status(web, path, known) == 304
    assert status(web, path, '"other"') == 200


@pytest.mark.parametrize("path", DATA_PATHS)
def test_a_stale_map_is_never_a_304_of_the_fresh_one(web: FlaskClient, clock: ManualClock, path: str) -> None:
    fresh = tag(web, path)
    clock.advance(STALE_AFTER_MS / 1000 + 0.001)
    answer = web.get(path, headers={"If-None-Match": fresh})
    assert answer.status_code == 200 and answer.get_json()["stale"] is True
    assert status(web, path, answer.headers["ETag"]) == 304


@pytest.mark.parametrize("path", DATA_PATHS)
def test_a_new_frame_and_a_new_gap_are_new_answers(
    web: FlaskClient, set_: Stage, clock: ManualClock, path: str
) -> None:
    tags = [tag(web, path)]
    set_.write_frame("BTC", clock.now_ns())
    tags.append(tag(web, path))
    set_.write_feeds(clock.now_ns(), missing=((Venue.BYBIT, Topic.TRADE, "BTC"),))
    tags.append(tag(web, path))
    assert len(set(tags)) == 3
    assert [status(web, path, each) for each in tags] == [200, 200, 304]


def test_a_new_liquidation_is_a_new_answer(web: FlaskClient, set_: Stage) -> None:
    before = tag(web, "/liq_events")
    set_.write_liquidation("ETH", 1, 1_790_000_000_000)
    assert status(web, "/liq_events", before) == 304
    set_.write_liquidation("BTC", 2, 1_790_000_000_000)
    assert status(web, "/liq_events", before) == 200
    assert [event["id"] for event in web.get("/liq_events").get_json()["events"]] == [2]


@pytest.mark.finding("L12")
def test_tags_and_memo_follow_what_was_meant_not_how_it_was_written(web: FlaskClient) -> None:
    same = {
        tag(web, path)
        for path in (
            "/liq_heatmap_v2?range_pct=10&tiers=0",
            "/liq_heatmap_v2?tiers=0&range_pct=1e1",
            "/v2/liq_heatmap?symbol=btcusdt&range_pct=10.0",
            "/liq_heatmap_v2",
        )
    }
    assert len(same) == 1
    assert tag(web, "/liq_heatmap_v2?range_pct=11") not in same
    assert tag(web, "/liq_heatmap_v2?symbol=ETH") not in same


def test_every_process_gives_the_same_tag(set_: Stage) -> None:
    """Workers share no memory but the boards; a tag of one is good for the other."""
    code = (
        "import sys; from liqmap.api.app import create_app; from liqmap.client import Client\n"
        "from liqmap.config import parse\n"
        "config = parse({'daemon': {'instance': sys.argv[1]}, 'ingest': {'ring_events': 1024}})\n"
        "client = Client(sys.argv[1], stale_after_ms=10**9)\n"
        "sys.stdout.write(create_app(config, client).test_client().get('/liq_heatmap_v2').headers['ETag'])\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, set_.config.daemon.instance],
        capture_output=True,
        check=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
    ).stdout
    here = create_app(set_.config, set_.client(stale_after_ms=10**9)).test_client()
    assert here.get("/liq_heatmap_v2").headers["ETag"] == other


def test_gzip_is_the_same_answer(web: FlaskClient, clock: ManualClock) -> None:
    plain = web.get("/liq_heatmap_v2")
    packed = web.get("/liq_heatmap_v2", headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.data) == plain.data and len(packed.data) < len(plain.data) / 2
    assert packed.headers["ETag"] == plain.headers["ETag"]
    assert "Accept-Encoding" in packed.headers["Vary"]
    clock.advance(0.25)
    later = web.get("/liq_heatmap_v2", headers={"Accept-Encoding": "gzip"})
    assert json.loads(gzip.decompress(later.data))["age_ms"] == plain.get_json()["age_ms"] + 250
    assert "Content-Encoding" not in web.get("/oi", headers={"Accept-Encoding": "gzip"}).headers


def test_nothing_is_encoded_twice(web: FlaskClient, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    web.get("/liq_heatmap_v2?range_pct=3")
    monkeypatch.setattr("liqmap.api.answers.encode", lambda body: pytest.fail("encoded again"))
    clock.advance(0.5)
    assert web.get("/liq_heatmap_v2?range_pct=3").get_json()["age_ms"] == 500


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("GZIP", True),
        ("br;q=1, gzip;q=0.1", True),
        ("gzip;q=0", False),
        ("identity, gzip;q=0.0", False),
        ("xgzip", False),
        ("*;q=0", False),
        ("gzip;q=", True),
        ("", False),
        ("é,;;=", False),
    ],
)
def test_gzip_only_for_who_takes_it(web: FlaskClient, accepted: str, packed: bool) -> None:
    answer = web.get("/liq_heatmap_v2", headers={"Accept-Encoding": accepted})
    assert ("Content-Encoding" in answer.headers) is packed

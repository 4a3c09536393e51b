"""/calibration and its short form in /liq_stats: what the worker's board says, in words and numbers, and null."""

from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from liqmap.api.app import create_app
from liqmap.clock import ManualClock
from liqmap.domain.enums import Divisor, Venue, Verdict
from tests.api.stage import Stage, config_of, instance_name, stage

NAN = float("nan")
FIELDS = {
    *("symbol", "as_of_ms", "age_ms", "stale", "source", "gaps"),
    *("tiers", "prior", "weights", "window", "realisation", "completeness", "verdicts", "counters", "guard_rails"),
}
ROWS = (
    (1_790_000_000_000, 240, Verdict.TOO_LITTLE, NAN, NAN, NAN, 1.0),
    (1_790_007_200_000, 120, Verdict.AGAINST_PRICE, 0.9, 1.8, 0.24, 1.0),
    (1_790_014_400_000, 120, Verdict.CLEAR, 1.1, 1.9, 0.23, 0.85),
)


def ask(web: FlaskClient, path: str = "/calibration", **query: Any) -> dict[str, Any]:
    """The answer, which must be one."""
    answer = web.get(path, query_string=query)
    assert answer.status_code == 200, answer.data
    body: dict[str, Any] = answer.get_json()
    return body


def test_before_anything_was_learned(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    as_of_ns = set_.write_calibration("BTC", clock.now_ns())
    body, table = ask(web), set_.config.symbols["BTC"]
    assert set(body) == FIELDS
    assert body["as_of_ms"] == as_of_ns // 10**6 and body["age_ms"] == 0 and not body["stale"]
    assert body["tiers"] == list(table.leverages)
    assert body["prior"] == body["weights"] == {"long": list(table.weights), "short": list(table.weights)}
    assert body["realisation"] == {"configured": None, "long_run": None, "divided_by": "own"}
    assert set(body["window"]["observed_over_expected"]) == {None}
    assert body["verdicts"] == [] and body["counters"] == {"windows": 0, "applied": 0, "learned_minutes": 0}
    assert set(body["completeness"]) == {"binance", "bybit", "okx"}
    assert ask(web, "/liq_stats")["calibration"] == {
        "windows": 0,
        "applied": 0,
        "last_verdict": None,
        "realisation": body["realisation"],
    }


def test_what_was_learned_and_decided(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    tiers = len(set_.config.symbols["BTC"].leverages)
    weights = np.tile(np.linspace(0.05, 0.15, tiers), (2, 1))
    observed, expected = np.zeros((2, tiers)), np.zeros((2, tiers))
    observed[:, 1], expected[:, 1] = (1.0, 2.0), (20.0, 40.0)
    set_.write_calibration(
        "BTC",
        clock.now_ns(),
        judged=ROWS,
        weights=weights,
        observed_base=observed,
        expected_base=expected,
        realisation_long_run=0.04,
        divisor=Divisor.LONG_RUN,
        windows=70,
        applied=41,
        learned_minutes=9000,
        window_minutes=17,
        venue_completeness=[0.4 if venue is Venue.BINANCE else NAN for venue in Venue],
    )
    body = ask(web)
    assert body["weights"]["short"] == [round(weight, 6) for weight in weights[1].tolist()]
    assert body["window"]["minutes"] == 17
    assert body["window"]["observed_base"]["long"][1] == 1.0 and body["window"]["expected_base"]["short"][1] == 40.0
    assert body["window"]["observed_over_expected"][:3] == [None, 0.05, None]
    assert body["realisation"] == {"configured": None, "long_run": 0.04, "divided_by": "long_run"}
    assert body["completeness"]["binance"] == {"completeness": 0.4, "saturation": None}
    assert body["counters"] == {"windows": 70, "applied": 41, "learned_minutes": 9000}
    assert [each["verdict"] for each in body["verdicts"]] == ["too_little", "against_price", "clear"]
    assert body["verdicts"][0] == {
        "end_ms": 1_790_000_000_000,
        "minutes": 240,
        "verdict": "too_little",
        "level": None,
        "entropy": None,
        "largest": None,
        "furthest": 1.0,
    }
    short = ask(web, "/liq_stats")["calibration"]
    assert short["last_verdict"] == body["verdicts"][-1] and short["applied"] == 41
    assert short["realisation"] == body["realisation"]


def test_a_configured_realisation_divides(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_calibration("BTC", clock.now_ns(), realisation_configured=0.1, divisor=Divisor.ANCHORED)
    assert ask(web)["realisation"] == {"configured": 0.1, "long_run": None, "divided_by": "anchored"}


def test_it_is_stale_once_the_next_minute_is_overdue(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_calibration("BTC", clock.now_ns())
    clock.advance(62)
    set_.write_feeds(clock.now_ns())
    set_.write_frame("BTC", clock.now_ns())
    assert (ask(web)["age_ms"], ask(web)["stale"]) == (62_000, False)
    clock.advance(4)
    set_.write_feeds(clock.now_ns())
    assert ask(web)["stale"] is True


def test_the_etag_changes_with_the_board_and_not_with_the_age(
    web: FlaskClient, set_: Stage, clock: ManualClock
) -> None:
    set_.write_calibration("BTC", clock.now_ns())
    first = web.get("/calibration").headers["ETag"]
    clock.advance(0.5)
    assert web.get("/calibration", headers={"If-None-Match": first}).status_code == 304
    set_.write_calibration("BTC", clock.now_ns(), applied=1)
    assert web.get("/calibration").headers["ETag"] != first


def test_each_symbol_has_its_own(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_calibration("ETH", clock.now_ns(), applied=3)
    assert ask(web, symbol="eth")["counters"]["applied"] == 3
    assert len(ask(web, symbol="ETH")["tiers"]) == len(set_.config.symbols["ETH"].leverages)
    assert ask(web, symbol="SOL")["counters"]["applied"] == 0


def test_before_a_minute_is_closed_it_is_a_503_and_null_in_the_statistics(clock: ManualClock) -> None:
    with stage(config_of(instance_name())) as made:
        made.write_clock()
        made.write_directory()
        made.write_feeds()
        made.write_frame("BTC")
        browser = create_app(made.config, made.client()).test_client()
        answer = browser.get("/calibration")
        assert answer.status_code == 503 and answer.headers["Retry-After"]
        assert ask(browser, "/liq_stats")["calibration"] is None


def test_every_verdict_is_lower_case_words(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    rows = tuple((number, 120, verdict, NAN, NAN, NAN, 1.0) for number, verdict in enumerate(Verdict))
    set_.write_calibration("BTC", clock.now_ns(), judged=rows)
    words = [each["verdict"] for each in ask(web)["verdicts"]]
    assert words == [verdict.name.lower() for verdict in Verdict]


def test_what_the_client_hands_out_cannot_be_written(set_: Stage) -> None:
    with set_.client() as client:
        found = client.calibration("BTC")
        for name in ("leverages", "prior", "weights", "observed_base", "expected_base"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(found, name)[...] = 0


def test_coverage_by_side_is_in_the_heatmap(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_frame("BTC", clock.now_ns(), coverage=[[0.1, 0.2], [0.6, 0.8]])
    body = ask(web, "/liq_heatmap_v2", model="inventory")
    assert (body["coverage_long"], body["coverage_short"], body["coverage"]) == (0.6, 0.8, pytest.approx(0.7))
    body = ask(web, "/liq_heatmap_v2", model="flow")
    assert (body["coverage_long"], body["coverage_short"]) == (0.1, 0.2)

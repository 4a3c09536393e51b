"""Every path: its alias, its refusals, its envelope; and how fields are named."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from liqmap.api.app import create_app, resources, serving_of
from liqmap.api.parameters import Number, Parameter, Whole
from liqmap.clock import ManualClock
from tests.api.stage import Stage, application, config_of, stage

CONFIG = config_of("tables")
RESOURCES = resources(serving_of(CONFIG))
ALIASES = {
    "/health": "/v1/health",
    "/liq_heatmap": "/v1/liq_heatmap",
    "/liq_heatmap_v2": "/v2/liq_heatmap",
    "/liq_zones": "/v3/liq_zones",
    "/liq_zones_summary": "/v3/liq_zones_summary",
    "/liq_zones_heatmap": "/v3/liq_heatmap",
    "/liq_events": "/v2/liq_events",
    "/oi": "/v2/oi",
    "/market_data": "/v2/market_data",
    "/trader_ratios": "/v2/trader_ratios",
    "/liq_stats": "/v2/liq_stats",
    "/calibration": "/v2/calibration",
}
AGE = re.compile(rb'"(?:age_ms|uptime_s|[a-z_]+_age_ms)":[0-9.]+')


@pytest.fixture(scope="module")
def web() -> Iterator[FlaskClient]:
    """One instance for the whole module: nothing here writes to it."""
    with stage() as made:
        made.write_all()
        yield application(made, ManualClock(time.time_ns()))


@pytest.mark.finding("L24")
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each.path)
def test_every_path_has_an_alias_that_answers_the_same(web: FlaskClient, resource: Any) -> None:
    assert resource.alias != resource.path
    assert resource.alias == ALIASES.get(resource.path, resource.alias)
    one, other = web.get(resource.path), web.get(resource.alias)
    assert one.status_code == other.status_code == 200
    assert AGE.sub(b"", one.data) == AGE.sub(b"", other.data)
    assert one.headers.get("ETag") == other.headers.get("ETag")


def test_the_page_about_http_has_every_path_and_every_parameter() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    rows = [row.split("|")[1:-1] for row in page.splitlines() if row.startswith("| `/")]
    told: dict[str, tuple[str, set[str]]] = {}
    named: set[str] = set()
    for path, alias, parameters in rows:
        named = set(re.findall(r"`([a-z_]+)`", parameters)) | (named if "the same" in parameters else set())
        told[path.strip(" `")] = alias.strip(" `"), named
    assert {path: alias for path, (alias, _) in told.items()} == {each.path: each.alias for each in RESOURCES}
    for each in RESOURCES:
        assert {parameter.name for parameter in each.table.parameters} <= told[each.path][1], each.path


def test_no_path_without_the_table(web: FlaskClient) -> None:
    rules = {rule.rule for rule in web.application.url_map.iter_rules()}
    assert rules == {path for each in RESOURCES for path in (each.path, each.alias)}


@pytest.mark.finding("M24")
@pytest.mark.finding("L14")
@pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each.path)
def test_every_path_refuses_what_it_does_not_know(web: FlaskClient, resource: Any) -> None:
    for query in ("nonsense=1", "symbol=BTC&Symbol=BTC", "range=5"):
        answer = web.get(f"{resource.path}?{query}")
        assert answer.status_code == 400
        error = answer.get_json()["error"]
        assert error["code"] == "unknown_parameter"
        assert error["allowed"] == [parameter.name for parameter in resource.table.parameters]


def outside(parameter: Parameter) -> tuple[str, ...]:
    """Values that a parameter must refuse."""
    if isinstance(parameter, Number):
        return f"{parameter.low - 0.001:.4f}", f"{parameter.high * 1.01:.4f}", "abc"
    if isinstance(parameter, Whole):
        return str(parameter.low - 1), str(parameter.high + 1), "1.5"
    return "neither", ""


OUTSIDE = [
    (resource.path, parameter.name, text)
    for resource in RESOURCES
    for parameter in resource.table.parameters
    for text in outside(parameter)
]


@pytest.mark.finding("M24")
@pytest.mark.parametrize(("path", "name", "text"), OUTSIDE)
def test_every_parameter_refuses_what_is_outside_its_range(web: FlaskClient, path: str, name: str, text: str) -> None:
    answer = web.get(path, query_string={name: text})
    assert answer.status_code == 400, answer.data
    error = answer.get_json()["error"]
    assert error["code"] == "invalid_parameter" and error["param"] == name and error["allowed"]


def test_repeated_overlong_and_contradicting_parameters(web: FlaskClient) -> None:
    assert web.get("/oi?symbol=BTC&symbol=BTC").get_json()["error"]["code"] == "repeated_parameter"
    long = web.get("/oi?symbol=" + "B" * 1000)
    assert long.status_code == 400 and len(long.data) < 300
    assert web.get("/liq_events?since_ms=1&after=1").status_code == 400
    assert web.get("/liq_heatmap_v2?min_leverage=50&max_leverage=20").status_code == 400
    empty = web.get("/liq_heatmap_v2?min_leverage=60&max_leverage=70").get_json()["error"]
    assert empty["allowed"] == [3.0, 5.0, 10.0, 20.0, 25.0, 50.0, 75.0, 100.0, 125.0, 150.0]


def test_a_model_that_is_not_there_is_named_as_such(web: FlaskClient) -> None:
    error = web.get("/liq_heatmap_v2?model=oracle").get_json()["error"]
    assert (error["param"], error["allowed"]) == ("model", ["inventory", "flow"])


@pytest.mark.parametrize(
    "path", ["/nope", "/oi/", "/v3/oi", "/health/", "//oi", "/health//live", "/%00", "/oi/../health"]
)
def test_unknown_paths_are_404_in_the_envelope(web: FlaskClient, path: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 404
    error = answer.get_json()["error"]
    assert error["code"] == "unknown_path" and {"/health", "/liq_heatmap_v2", "/oi"} <= set(error["allowed"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(web: FlaskClient, method: str) -> None:
    answer = web.open("/liq_heatmap_v2", method=method)
    assert answer.status_code == 405
    assert answer.get_json()["error"]["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_is_get_without_a_body(web: FlaskClient) -> None:
    head, got = web.head("/oi"), web.get("/oi")
    assert head.status_code == 200 and head.data == b""
    assert head.headers["ETag"] == got.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(got.data))


def test_a_fault_of_ours_shows_nothing_and_is_logged(
    set_: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = set_.client()
    app = create_app(set_.config, client)
    monkeypatch.setattr(client, "open_interest", lambda symbol: 1 / 0)
    answer = app.test_client().get("/oi")
    assert answer.status_code == 500
    assert answer.get_json() == {
        "error": {"code": "internal_error", "message": "this is a fault of the server; it has been logged"}
    }
    assert "ZeroDivisionError" in caplog.text and "Traceback" in caplog.text


def keys_of(value: Any) -> set[str]:
    """Every member name of an answer, at any depth; what is keyed by a name or a number is looked through."""
    if isinstance(value, list):
        return set().union(*(keys_of(each) for each in value[:3]))
    if not isinstance(value, dict):
        return set()
    return set(value) | set().union(*(keys_of(each) for each in value.values()))


@pytest.mark.finding("M20")
def test_fields_are_the_same_for_every_symbol_and_none_names_one(web: FlaskClient) -> None:
    zones = ("/liq_heatmap", "/liq_zones?include=all", "/liq_zones_summary", "/liq_zones_heatmap")
    sheets = ("/liq_events", "/oi", "/market_data", "/trader_ratios", "/liq_stats", "/calibration")
    for path in ("/liq_heatmap_v2?tiers=1", *zones, *sheets):
        per_symbol = {}
        for symbol in CONFIG.symbols:
            answer = web.get(path, query_string={"symbol": symbol} if "?" not in path else None)
            answer = web.get(f"{path}{'&' if '?' in path else '?'}symbol={symbol}")
            keys = {key for key in keys_of(answer.get_json()) if not re.fullmatch(r"[\d.]+", key)}
            words = {word for key in keys for word in key.lower().split("_")}  # `method` names no symbol
            assert not words & {name.lower() for name in CONFIG.symbols}
            per_symbol[symbol] = keys
        assert per_symbol["BTC"] == per_symbol["ETH"] == per_symbol["SOL"]


def test_symbols_lists_what_is_configured(web: FlaskClient) -> None:
    answer = web.get("/symbols").get_json()
    assert [each["symbol"] for each in answer["symbols"]] == ["BTC", "ETH", "SOL"]
    btc = answer["symbols"][0]
    assert btc["price_step"] == 20 and btc["instruments"]["okx"] == "BTC-USDT-SWAP"
    assert [tier["leverage"] for tier in btc["tiers"]][:3] == [3, 5, 10]
    assert answer["default"] == "BTC" and all(each["enabled"] for each in answer["symbols"])


@pytest.mark.parametrize("spelling", ["SOL", "sol", "Sol", "SOLUSDT", "solusdt", "SOL-USDT-SWAP"])
def test_a_symbol_in_its_spellings(web: FlaskClient, spelling: str) -> None:
    assert web.get("/oi", query_string={"symbol": spelling}).get_json()["symbol"] == "SOL"


@pytest.mark.parametrize("spelling", ["SO", "SOLX", "1000SOL", "USDT", "SOLUSD", "BTCSOL"])
def test_a_name_that_only_looks_like_a_symbol_is_refused(web: FlaskClient, spelling: str) -> None:
    error = web.get("/oi", query_string={"symbol": spelling}).get_json()["error"]
    assert error["param"] == "symbol" and error["allowed"] == ["BTC", "ETH", "SOL"]


def test_other_origins_are_let_in_only_by_configuration(set_: Stage) -> None:
    closed = create_app(set_.config, set_.client()).test_client()
    assert "Access-Control-Allow-Origin" not in closed.get("/oi", headers={"Origin": "https://a.example"}).headers
    config = config_of(set_.config.daemon.instance, api={"cors_origins": ["https://a.example"]})
    opened = create_app(config, set_.client()).test_client()
    allowed = opened.get("/oi", headers={"Origin": "https://a.example"}).headers
    assert allowed["Access-Control-Allow-Origin"] == "https://a.example" and "Origin" in allowed["Vary"]
    assert "Access-Control-Allow-Origin" not in opened.get("/oi", headers={"Origin": "https://b.example"}).headers


def test_everything_is_json_that_a_strict_parser_takes(web: FlaskClient) -> None:
    for resource in RESOURCES:
        json.loads(web.get(resource.path).data, parse_constant=pytest.fail)

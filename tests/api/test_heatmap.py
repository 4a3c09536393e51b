"""/liq_heatmap_v2: dollars of the board and nothing else, unknown as null, every parameter with an effect."""

from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from liqmap.clock import ManualClock
from liqmap.domain.enums import Projection, Topic, Venue
from tests.api.stage import MARKS, STALE_AFTER_MS, Stage

FIELDS = {
    *("symbol", "as_of_ms", "age_ms", "stale", "source", "gaps", "mark_price", "price_step", "prices", "long_usd"),
    *("short_usd", "long_intensity", "short_intensity", "evidence_long_usd", "evidence_short_usd", "tiers"),
    *("long_pools", "short_pools", "coverage", "coverage_long", "coverage_short"),
    *("unknown_usd", "unknown_long_usd", "unknown_short_usd", "realisation", "meta", "stats"),
}


def ask(web: FlaskClient, **query: Any) -> dict[str, Any]:
    """The answer, which must be one."""
    answer = web.get("/liq_heatmap_v2", query_string=query)
    assert answer.status_code == 200, answer.data
    body: dict[str, Any] = answer.get_json()
    return body


def test_every_field_of_the_contract(web: FlaskClient) -> None:
    body = ask(web)
    assert set(body) == FIELDS
    assert set(ask(web, tiers=1)) == {*FIELDS, "by_tier"}
    cells = len(body["prices"])
    for name in FIELDS:
        if (name.endswith("_usd") and isinstance(body[name], list)) or name.endswith("_intensity"):
            assert len(body[name]) == cells


@pytest.mark.parametrize("symbol", MARKS)
def test_the_dollars_are_the_boards(web: FlaskClient, set_: Stage, symbol: str) -> None:
    body = ask(web, symbol=symbol, tiers=1)
    with set_.client() as client:
        snapshot = client.snapshot(symbol, range_pct=10)
    assert body["prices"] == snapshot.prices.tolist()
    assert np.allclose(body["long_usd"], snapshot.long_usd, atol=0.5)
    assert np.allclose(body["short_usd"], snapshot.short_usd, atol=0.5)
    assert np.allclose(body["evidence_long_usd"], snapshot.evidence_usd[0], atol=0.5)
    assert np.allclose(body["evidence_short_usd"], snapshot.evidence_usd[1], atol=0.5)
    for tier, leverage in enumerate(snapshot.leverages):
        assert np.allclose(body["by_tier"][f"{leverage:g}"]["long_usd"], snapshot.projection_usd[0, tier], atol=0.5)
    assert body["stats"]["long_usd"] == pytest.approx(snapshot.long_usd.sum(), rel=1e-9)
    assert body["mark_price"] == MARKS[symbol] and body["price_step"] == set_.config.symbols[symbol].step


def test_prices_are_written_as_people_write_them(web: FlaskClient) -> None:
    raw = web.get("/liq_heatmap_v2?symbol=SOL&range_pct=1").data.split(b'"prices":[')[1].split(b"]")[0]
    assert all(len(price.split(b".")[1]) == 1 for price in raw.split(b","))


def test_range_pct(web: FlaskClient) -> None:
    narrow, wide = ask(web, range_pct=1), ask(web, range_pct=40)
    assert narrow["prices"][0] >= 90_000 * 0.99 and narrow["prices"][-1] <= 90_000 * 1.01
    assert wide["prices"][0] == pytest.approx(54_000, abs=20) and wide["prices"][-1] == pytest.approx(126_000, abs=20)
    assert sum(narrow["long_usd"]) < sum(wide["long_usd"])


def test_leverage_filters_choose_tiers(web: FlaskClient) -> None:
    whole, low, high = ask(web), ask(web, max_leverage=20), ask(web, min_leverage=25, tiers=1)
    assert low["tiers"] == [3, 5, 10, 20] and high["tiers"] == [25, 50, 75, 100, 125, 150]
    assert set(high["by_tier"]) == {"25", "50", "75", "100", "125", "150"}
    assert np.allclose(np.add(low["long_usd"], high["long_usd"]), whole["long_usd"], atol=2)
    assert low["evidence_long_usd"] == whole["evidence_long_usd"]


def test_pools_are_sums_of_the_grid_and_say_their_source(web: FlaskClient) -> None:
    body = ask(web)
    sources = {pool["source"] for pool in body["long_pools"]}
    assert sources == {"projection", "evidence"}
    for side in ("long", "short"):
        for pool in body[f"{side}_pools"]:
            cells = [i for i, price in enumerate(body["prices"]) if pool["low"] <= price <= pool["high"]]
            assert pool["projected_usd"] == pytest.approx(sum(body[f"{side}_usd"][i] for i in cells), rel=0.02, abs=40)
            assert pool["evidence_usd"] == pytest.approx(
                sum(body[f"evidence_{side}_usd"][i] for i in cells), rel=0.02, abs=40
            )
            assert pool["notional_usd"] == pytest.approx(pool["evidence_usd"] + pool["projected_usd"], abs=0.02)
            assert pool["low"] <= pool["price"] <= pool["high"] and pool["buckets"] <= len(cells)
            assert sum(pool["by_tier_usd"].values()) == pytest.approx(pool["projected_usd"], abs=0.1)
            assert 0 < pool["intensity"] <= 1


def test_min_notional_usd_leaves_out_small_pools(web: FlaskClient) -> None:
    whole = ask(web)["long_pools"]
    limit = 0.9 * whole[0]["notional_usd"]
    kept = [pool for pool in whole if pool["notional_usd"] >= limit]
    assert 0 < len(kept) < len(whole) and ask(web, min_notional_usd=limit)["long_pools"] == kept
    assert ask(web, min_notional_usd=1e12)["long_pools"] == []


def test_unknown_is_null_never_zero(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_frame("BTC", clock.now_ns(), projection_known=False)
    body = ask(web)
    assert set(body["long_usd"]) == set(body["short_usd"]) == {None}
    assert body["stats"]["long_usd"] is None and body["meta"]["projection_known"] is False
    assert body["coverage"] is None and body["unknown_usd"] is None and body["realisation"] is None
    assert None not in body["evidence_long_usd"] and max(body["long_intensity"]) == 1
    assert body["long_pools"][0]["source"] == "evidence" and body["long_pools"][0]["projected_usd"] is None


def test_a_projection_without_a_level_of_open_interest_is_a_shape_and_no_dollars(
    web: FlaskClient, set_: Stage, clock: ManualClock
) -> None:
    whole = ask(web, tiers=1)
    set_.write_frame("BTC", clock.now_ns(), projection_known=Projection.RELATIVE)
    body = ask(web, tiers=1)
    assert set(body["long_usd"]) == set(body["short_usd"]) == set(body["by_tier"]["10"]["long_usd"]) == {None}
    assert body["stats"]["long_usd"] is None
    assert (body["meta"]["projection_known"], body["meta"]["projection_unit"]) == (False, "relative")
    assert body["meta"]["intensity"]["projection_p99_usd"] is None
    assert body["long_intensity"] == whole["long_intensity"] and whole["meta"]["projection_unit"] == "usd"
    assert {pool["source"] for pool in body["long_pools"]} == {"evidence"}
    assert {pool["projected_usd"] for pool in body["long_pools"]} == {None}


@pytest.mark.finding("L15")
def test_without_data_there_are_no_axes(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    """Not even prices and a step: 503, why, and when to come again."""
    set_.write_frame("ETH", clock.now_ns(), mark_price=float("nan"), mark_source=0)
    answer = web.get("/liq_heatmap_v2?symbol=ETH")
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    assert set(answer.get_json()) == {"error"}
    assert "no price yet" in answer.get_json()["error"]["message"]


def test_stale_data_is_served_and_says_so(web: FlaskClient, clock: ManualClock) -> None:
    clock.advance(STALE_AFTER_MS / 1000 + 1)
    body = ask(web)
    assert body["stale"] is True and body["age_ms"] == STALE_AFTER_MS + 1000
    assert {gap["topic"] for gap in body["gaps"]} == {"all"}


def test_gaps_of_this_symbol(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_feeds(clock.now_ns(), missing=((Venue.OKX, Topic.TRADE, "BTC"), (Venue.OKX, Topic.TRADE, "ETH")))
    assert [(gap["venue"], gap["topic"], gap["symbol"]) for gap in ask(web)["gaps"]] == [("okx", "trade", "BTC")]
    assert ask(web, symbol="SOL")["gaps"] == []


@pytest.mark.finding("M23")
def test_asking_for_one_thing_never_changes_another(web: FlaskClient) -> None:
    paths = (
        *("/liq_heatmap_v2", "/liq_heatmap_v2?tiers=1", "/liq_heatmap_v2?min_notional_usd=1e9", "/oi", "/liq_events"),
        *(
            "/liq_heatmap",
            "/liq_zones?include=all",
            "/liq_zones_summary?min_leverage=20",
            "/liq_zones_heatmap?side=long",
        ),
        *("/liq_heatmap_v2?range_pct=2", "/liq_heatmap_v2?max_leverage=10", "/symbols", "/liq_stats", "/market_data"),
    )
    before = {path: web.get(path).data for path in paths}
    for path in (*reversed(paths), *paths):
        web.get(path)
    assert {path: web.get(path).data for path in paths} == before


@pytest.mark.finding("M21")
def test_amounts_are_in_the_unit_of_their_name(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_liquidation("SOL", 1, 1_790_000_000_000, qty_base=20.0, trigger_price=150.0, notional_usd=3000.0)
    event = web.get("/liq_events?symbol=SOL").get_json()["events"][0]
    assert event["notional_usd"] == event["qty_base"] * event["trigger_price"]
    for symbol, mark in MARKS.items():
        oi = web.get("/oi", query_string={"symbol": symbol}).get_json()
        assert oi["open_interest_usd"] == oi["open_interest_base"] * mark
        assert sum(venue["base"] for venue in oi["per_venue"].values()) == oi["open_interest_base"]
        body = ask(web, symbol=symbol)
        assert body["stats"]["long_usd"] == pytest.approx(sum(body["long_usd"]), rel=1e-3)


def test_each_model_is_asked_for_by_its_name_and_the_configured_one_without(web: FlaskClient) -> None:
    found = {model: ask(web, model=model) for model in ("inventory", "flow")}
    assert ask(web)["long_usd"] == found["inventory"]["long_usd"]
    assert [body["meta"]["model"] for body in found.values()] == ["inventory", "flow"]
    for side in ("long_usd", "short_usd"):
        assert 0 < sum(found["flow"][side]) < 0.2 * sum(found["inventory"][side])

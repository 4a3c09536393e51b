"""/liq_zones, its summary, its picture, and /liq_heatmap: every parameter changes the answer, dollars are dollars."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from liqmap.api.app import create_app
from liqmap.clock import ManualClock
from liqmap.domain.enums import Projection
from liqmap.engine.engine import Engine
from liqmap.worker.publication import Publication
from tests.api.stage import MARKS, Stage, application, config_of, instance_name, stage
from tests.bench.engine import SPEC
from tests.unit.engine_tape import quiet, stream

FIELDS = {
    *("id", "side", "price", "low", "high", "distance_pct", "weight", "notional_usd", "evidence_usd", "projected_usd"),
    *("state", "source", "tiers", "created_ms", "created_mark_price", "fed_ms", "reinforced_ms", "reinforcements"),
    *("touched_ms", "swept_ms"),
}
COMMON = {"symbol", "as_of_ms", "age_ms", "stale", "source", "gaps"}
ZONED = {"zones_ms", "mark_price", "unit_usd", "tiers"}
PATHS = ("/liq_zones", "/liq_zones_summary", "/liq_zones_heatmap")


def ask(web: FlaskClient, path: str = "/liq_zones", **query: Any) -> dict[str, Any]:
    """The answer, which must be one."""
    answer = web.get(path, query_string=query)
    assert answer.status_code == 200, answer.data
    body: dict[str, Any] = answer.get_json()
    return body


def ids(web: FlaskClient, **query: Any) -> list[int]:
    """The zones of an answer, in its order."""
    return [zone["id"] for zone in ask(web, **query)["zones"]]


def test_every_field_of_the_contract(web: FlaskClient) -> None:
    body = ask(web, include="all")
    assert set(body) == {*COMMON, *ZONED, "zones"}
    assert len(body["zones"]) == 8 and body["mark_price"] == MARKS["BTC"]
    for zone in body["zones"]:
        assert set(zone) - {"post_mortem"} == FIELDS
        assert ("post_mortem" in zone) is (zone["state"] != "active")
        assert zone["notional_usd"] == pytest.approx(zone["evidence_usd"] + zone["projected_usd"], abs=0.02)
        assert sum(zone["tiers"].values()) == pytest.approx(zone["projected_usd"], abs=0.1)
        assert set(zone["tiers"]) == {f"{tier:g}" for tier in body["tiers"]}
        assert zone["low"] <= zone["price"] <= zone["high"]
        assert zone["distance_pct"] == pytest.approx(100 * (zone["price"] / body["mark_price"] - 1), abs=1e-3)
    dollars = [zone["notional_usd"] for zone in body["zones"]]
    assert dollars == sorted(dollars, reverse=True)


def test_a_post_mortem_holds_what_came_against_what_was_predicted(web: FlaskClient) -> None:
    swept = ask(web, include="swept", side="long")["zones"][0]
    assert swept["post_mortem"] == {
        "from_ms": swept["touched_ms"],
        "until_ms": swept["swept_ms"] + 300_000,
        "predicted_usd": 3e6,
        "realised_usd": 6e5,
        "liquidations": 3,
        "complete": True,
        "heard": True,
    }
    touched = next(zone for zone in ask(web)["zones"] if zone["state"] == "touched")
    assert (touched["post_mortem"]["until_ms"], touched["post_mortem"]["complete"]) == (None, False)
    assert touched["swept_ms"] is None


def test_side(web: FlaskClient) -> None:
    assert {zone["side"] for zone in ask(web, side="long", include="all")["zones"]} == {"long"}
    assert sorted(ids(web, side="long") + ids(web, side="short")) == sorted(ids(web))


def test_include(web: FlaskClient) -> None:
    active, swept, whole = (ids(web, include=word) for word in ("active", "swept", "all"))
    assert sorted(active + swept) == sorted(whole) and active == ids(web)
    assert {zone["state"] for zone in ask(web, include="active")["zones"]} == {"active", "touched"}
    assert {zone["state"] for zone in ask(web, include="swept")["zones"]} == {"swept"}


def test_min_weight_and_min_notional_usd(web: FlaskClient) -> None:
    whole = ask(web)["zones"]
    for name, limit in (("weight", 0.5), ("notional_usd", 1.5e6)):
        kept = [zone["id"] for zone in whole if zone[name] >= limit]
        assert 0 < len(kept) < len(whole) and ids(web, **{f"min_{name}": limit}) == kept


def test_leverage_chooses_tiers_and_their_dollars(web: FlaskClient) -> None:
    whole, low, high = ask(web), ask(web, max_leverage=20), ask(web, min_leverage=25)
    assert low["tiers"] == [3, 5, 10, 20] and high["tiers"] == [25, 50, 75, 100, 125, 150]
    by_id = {zone["id"]: zone for zone in low["zones"]}
    for zone in high["zones"]:
        other = by_id[zone["id"]]
        full = next(each for each in whole["zones"] if each["id"] == zone["id"])
        assert other["projected_usd"] + zone["projected_usd"] == pytest.approx(full["projected_usd"], abs=0.05)
        assert other["evidence_usd"] == zone["evidence_usd"] == full["evidence_usd"], "evidence has no tier"
        assert {**other["tiers"], **zone["tiers"]} == full["tiers"]
    assert ids(web, max_leverage=20, min_notional_usd=1.5e6) != ids(web, min_notional_usd=1.5e6)


def test_a_zone_without_a_dollar_of_the_chosen_tiers_is_left_out(web: FlaskClient, set_: Stage) -> None:
    row = {"id": 5, "side": 1, "state": 1, "source": 2, "price": 88_000.0, "low": 87_900.0, "high": 88_100.0}
    times = {"touched_ms": -1, "swept_ms": -1, "until_ms": -1, "reinforced_ms": -1}
    faded = {"weight": 1.0, "notional_usd": 0.0, "evidence_usd": 0.0}
    set_.write_zones("BTC", rows=[{**row, **times, **faded}])
    assert ids(web) == [5] and ids(web, min_leverage=50) == []


def test_contradictions_and_empty_ranges_are_refused_by_name(web: FlaskClient) -> None:
    for path in PATHS:
        crossed = web.get(f"{path}?min_leverage=50&max_leverage=20")
        assert crossed.status_code == 400 and crossed.get_json()["error"]["param"] == "min_leverage"
        empty = web.get(f"{path}?min_leverage=60&max_leverage=70")
        assert empty.status_code == 400 and 75.0 in empty.get_json()["error"]["allowed"]
        assert web.get(f"{path}?min_weight=6").status_code == 400
        assert web.get(f"{path}?include=expired").get_json()["error"]["allowed"] == ["active", "swept", "all"]


def test_the_summary_sums_up_what_the_list_shows(web: FlaskClient) -> None:
    body = ask(web, "/liq_zones_summary")
    assert set(body) == {*COMMON, *ZONED, "long", "short", "since_start"}
    for side in ("long", "short"):
        told, zones = body[side], ask(web, side=side)["zones"]
        assert (told["active"], told["touched"], told["swept"]) == (2, 1, 1)
        assert told["notional_usd"] == pytest.approx(sum(zone["notional_usd"] for zone in zones), abs=0.1)
        assert told["evidence_usd"] == pytest.approx(sum(zone["evidence_usd"] for zone in zones), abs=0.1)
        assert told["strongest"] == max(zones, key=lambda zone: float(zone["notional_usd"]))
        assert told["nearest"] == min(zones, key=lambda zone: abs(float(zone["distance_pct"])))
    sweeps = {"counted": 1, "predicted_usd": 3e6, "realised_usd": 6e5, "realised_share": 0.2}
    assert body["long"]["sweeps"] == sweeps
    assert body["since_start"]["long"]["sweeps"]["realised_share"] == 0.25
    assert body["since_start"]["short"]["merged"] == 1


@pytest.mark.parametrize(
    ("query", "changes"),
    [
        ({"min_weight": 0.5}, "active"),
        ({"min_notional_usd": 1e5}, "active"),
        ({"include": "swept"}, "active"),
        ({"include": "active"}, "swept"),
        ({"min_leverage": 50}, "projected_usd"),
        ({"max_leverage": 20}, "projected_usd"),
    ],
)
def test_every_parameter_changes_the_summary(web: FlaskClient, query: dict[str, Any], changes: str) -> None:
    whole, cut = ask(web, "/liq_zones_summary"), ask(web, "/liq_zones_summary", **query)
    for side in ("long", "short"):
        assert cut[side][changes] != whole[side][changes]
    only = ask(web, "/liq_zones_summary", side="short")
    assert "long" not in only and only["short"] == whole["short"] and set(only["since_start"]) == {"short"}


def test_nothing_chosen_is_nothing_not_an_error(web: FlaskClient) -> None:
    assert ids(web, min_notional_usd=1e12) == []
    empty = ask(web, "/liq_zones_summary", min_notional_usd=1e12)["long"]
    assert (empty["active"], empty["notional_usd"], empty["nearest"], empty["strongest"]) == (0, 0, None, None)
    assert empty["sweeps"]["realised_share"] is None


@pytest.mark.finding("M27")
def test_the_picture_paints_the_dollars_of_the_map_within_the_zones(web: FlaskClient) -> None:
    body, grid = ask(web, "/liq_zones_heatmap"), ask(web, "/liq_heatmap_v2", model="inventory")
    assert set(body) == {*COMMON, *ZONED, "price_step", "prices", "zones"} | {
        f"{side}_{what}" for side in ("long", "short") for what in ("usd", "weight")
    }
    assert body["prices"] == grid["prices"]
    prices = np.array(body["prices"])
    for side in ("long", "short"):
        inside, weight = np.zeros(len(prices), bool), np.zeros(len(prices))
        for zone in (zone for zone in body["zones"] if zone["side"] == side):
            cells = (prices >= zone["low"]) & (prices <= zone["high"])
            inside |= cells
            weight[cells] = np.maximum(weight[cells], zone["weight"])
        whole = np.add(grid[f"{side}_usd"], grid[f"evidence_{side}_usd"])
        assert 0 < inside.sum() < len(prices)
        assert np.allclose(body[f"{side}_usd"], np.where(inside, whole, 0), atol=1.01)
        assert np.allclose(body[f"{side}_weight"], weight)


def test_every_parameter_changes_the_picture(web: FlaskClient) -> None:
    whole = ask(web, "/liq_zones_heatmap")
    filters: list[dict[str, Any]] = [
        *({"min_weight": 0.5}, {"min_notional_usd": 1e5}, {"include": "swept"}, {"side": "long"})
    ]
    for query in filters:
        cut = ask(web, "/liq_zones_heatmap", **query)
        assert cut["short_weight"] != whole["short_weight"] and cut["zones"] != whole["zones"]
    for name, leverage in (("min_leverage", 50), ("max_leverage", 20)):
        cut = ask(web, "/liq_zones_heatmap", **{name: leverage})
        assert max(cut["long_usd"]) < max(whole["long_usd"]) and cut["long_weight"] == whole["long_weight"]
    narrow = ask(web, "/liq_zones_heatmap", range_pct=2)
    assert len(narrow["prices"]) < len(whole["prices"]) and len(narrow["zones"]) < len(whole["zones"])
    dimmed = ask(web, "/liq_zones_heatmap", include="swept")
    assert max(dimmed["long_weight"]) == pytest.approx(0.3 * 0.5)


def test_before_the_first_minute_has_closed_there_are_no_zones_and_the_answer_says_so() -> None:
    with stage() as bare:
        bare.write_clock()
        web = application(bare, ManualClock(time.time_ns()))
        for path in PATHS:
            answer = web.get(path)
            assert answer.status_code == 503 and "when a minute closes" in answer.get_json()["error"]["message"]
        picture = ask(web, "/liq_heatmap")
        assert picture["top_long_zones"] is None and picture["top_short_zones"] is None
        assert ask(web, "/liq_stats")["zones"] is None


def test_a_closed_minute_is_a_new_answer(web: FlaskClient, set_: Stage) -> None:
    for path in (*PATHS, "/liq_heatmap", "/liq_stats"):
        before = web.get(path).headers["ETag"]
        set_.write_zones("ETH")
        assert web.get(path).headers["ETag"] == before
        set_.write_zones("BTC")
        assert web.get(path).headers["ETag"] != before


def test_the_client_tells_what_happened_to_zones(set_: Stage) -> None:
    with set_.client() as client:
        zones = client.zones("SOL")
        assert [(each.number, each.kind, each.side) for each in zones.happenings] == [(9, "created", "long")]
        assert len(zones.zones) == 8 and zones.board == client.zones_version("SOL")
        assert zones.leverages == set_.config.symbols["SOL"].leverages


def test_the_picture_of_the_map_in_bytes(web: FlaskClient) -> None:
    body, grid = ask(web, "/liq_heatmap"), ask(web, "/liq_heatmap_v2", range_pct=8)
    assert set(body) == {
        *COMMON,
        *("mark_price", "price_step", "prices", "long_intensity", "short_intensity", "scale", "norm"),
        *("long_usd", "short_usd", "top_long_zones", "top_short_zones"),
    }
    assert body["prices"] == grid["prices"] and body["long_usd"] == grid["long_usd"]
    assert body["short_usd"] == grid["short_usd"]
    norm = body["norm"]
    assert (norm["method"], norm["of"], norm["unit"]) == ("p50-p95", "projection", "usd")
    for side in ("long", "short"):
        shown, usd = np.array(body[f"{side}_intensity"]), np.array(body[f"{side}_usd"])
        assert shown.min() == 0 and shown.max() == 255 and len(shown) == len(usd)
        between = (shown > 0) & (shown < 255)
        assert np.allclose(norm["p50"] + shown[between] * body["scale"], usd[between], atol=body["scale"])
    assert [zone["id"] for zone in body["top_long_zones"]] == ids(web, side="long")
    assert [zone["id"] for zone in body["top_short_zones"]] == ids(web, side="short")


def test_range_pct_of_the_picture(web: FlaskClient) -> None:
    narrow, whole = ask(web, "/liq_heatmap", range_pct=2), ask(web, "/liq_heatmap")
    assert len(narrow["prices"]) < len(whole["prices"])
    assert [zone["id"] for zone in narrow["top_long_zones"]] == [102]
    assert narrow["prices"][0] >= 90_000 * 0.98


def test_a_picture_without_dollars_shows_a_shape_and_without_a_projection_the_evidence(
    web: FlaskClient, set_: Stage, clock: ManualClock
) -> None:
    whole = ask(web, "/liq_heatmap")
    set_.write_frame("BTC", clock.now_ns(), projection_known=Projection.RELATIVE)
    shape = ask(web, "/liq_heatmap")
    assert shape["norm"]["unit"] == "relative" and set(shape["long_usd"]) == {None}
    assert shape["long_intensity"] == whole["long_intensity"]
    set_.write_frame("BTC", clock.now_ns(), projection_known=0)
    seen = ask(web, "/liq_heatmap")
    assert (seen["norm"]["of"], seen["norm"]["unit"]) == ("evidence", "usd") and set(seen["long_usd"]) == {None}
    assert max(seen["long_intensity"]) == 255
    assert set(ask(web, "/liq_zones_heatmap")["long_usd"]) <= {None, 0}, "unknown dollars are null"


@pytest.mark.finding("X8")
def test_fields_named_dollars_hold_dollars_and_intensities_hold_none(web: FlaskClient) -> None:
    """An intensity is at most 1, or a byte; what is named dollars is of the size of the open interest."""
    interest = ask(web, "/oi")["open_interest_usd"]
    for body in (ask(web, "/liq_heatmap", range_pct=50), ask(web, "/liq_heatmap_v2", range_pct=50)):
        for side in ("long", "short"):
            assert 0.1 * interest < sum(body[f"{side}_usd"]) <= interest
    standing = ask(web)["zones"]
    for side in ("long", "short"):
        assert 1e6 < sum(zone["notional_usd"] for zone in standing if zone["side"] == side) <= interest


@pytest.mark.finding("X8")
@pytest.mark.finding("M27")
def test_with_all_of_the_open_interest_placed_no_array_of_dollars_exceeds_it() -> None:
    """From events to the answer: each side's dollars, over their prices, are at most the contracts that exist."""
    config = config_of(instance_name(), symbols={"BTC": {}})
    engine = Engine(replace(SPEC, turnover_per_minute=0.05))
    frames = engine.apply(stream(quiet(120), 60 * 120 + 4))
    live = engine.live()
    assert live is not None
    with stage(config) as made:
        made.write_clock()
        publication = Publication(config, "BTC")
        for frame in frames:
            publication.minute(frame, 0)
        publication.live(live, 0)
        web = create_app(config, made.client(clock=ManualClock(live.facts.as_of_ns))).test_client()
        map_ = ask(web, "/liq_heatmap_v2", range_pct=50)
        assert map_["coverage"] > 0.99
        interest_base = ask(web, "/oi")["open_interest_base"]
        bodies = [map_, ask(web, "/liq_heatmap", range_pct=50), ask(web, "/liq_zones_heatmap", include="all")]
        for body in bodies:
            prices = np.array(body["prices"])
            for side in ("long", "short"):
                base = float((np.array(body[f"{side}_usd"]) / prices).sum())
                assert 0.3 * interest_base < base <= interest_base * 1.001
        assert sum(map_["long_usd"]) <= ask(web, "/oi")["open_interest_usd"] * 1.001
        for side in ("long", "short"):
            zones = ask(web, side=side)["zones"]
            base = sum(zone["notional_usd"] / zone["high" if side == "short" else "low"] for zone in zones)
            assert len(zones) > 3 and 0.3 * interest_base < base <= interest_base * 1.001
            for zone in zones:
                cells = [i for i, price in enumerate(map_["prices"]) if zone["low"] <= price <= zone["high"]]
                stands = sum(map_[f"{side}_usd"][i] for i in cells)
                assert zone["notional_usd"] == pytest.approx(stands, rel=1e-3)
            summed = ask(web, "/liq_zones_summary")[side]["notional_usd"]
            assert summed == pytest.approx(sum(zone["notional_usd"] for zone in zones), abs=1)

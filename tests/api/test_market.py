"""/market_data, /trader_ratios, /liq_stats: what venues told, with its age; null where nobody did."""

import time
from itertools import product
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from liqmap.api.app import create_app
from liqmap.clock import ManualClock
from liqmap.domain.enums import Projection, Ratio, Topic, Venue
from tests.api.stage import Stage, application, config_of, instance_name, stage

NAN = float("nan")
COMMON = {"symbol", "as_of_ms", "age_ms", "stale", "source", "gaps"}
VENUES = {"binance", "bybit", "okx"}


def ask(web: FlaskClient, path: str, **query: Any) -> dict[str, Any]:
    """The answer, which must be one."""
    answer = web.get(path, query_string=query)
    assert answer.status_code == 200, answer.data
    body: dict[str, Any] = answer.get_json()
    return body


def by_venue(**values: float) -> list[float]:
    """A field by venue number, NaN where nothing is given."""
    return [values.get(venue.name.lower(), NAN) for venue in Venue]


def ago(now_ns: int, **ms: int) -> list[int]:
    """Times in ns, so many ms ago; -1 where nothing is given."""
    return [now_ns - ms[venue.name.lower()] * 10**6 if venue.name.lower() in ms else -1 for venue in Venue]


# -- /market_data -----------------------------------------------------------------------------------------------------


def test_prices_and_funding_by_venue_with_their_ages(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    now = clock.now_ns()
    set_.write_frame(
        "BTC",
        now,
        venue_mark=by_venue(binance=90_000.5, okx=90_001.5),
        venue_index=by_venue(binance=89_990.0),
        venue_mark_as_of_ns=ago(now, binance=300, okx=9_000),
        venue_last=by_venue(bybit=90_003.0),
        venue_last_as_of_ns=ago(now, bybit=70),
        venue_mid=by_venue(bybit=90_002.5),
        venue_mid_as_of_ns=ago(now, bybit=20),
        venue_funding_rate=by_venue(binance=0.0001, okx=-0.00025),
        venue_funding_interval_h=by_venue(binance=8.0),
        venue_next_funding_ms=[-1, 1_790_006_400_000, -1, -1],
        venue_funding_as_of_ns=ago(now, binance=300, okx=45_000),
    )
    clock.advance(0.5)
    body = ask(web, "/market_data")
    assert set(body) == COMMON | {
        *("mark_price", "mark_source", "mark_as_of_ms", "index_price", "last_price", "per_venue")
    }
    assert body["mark_price"] == 90_000.0 and body["mark_source"] == "mark"
    assert set(body["per_venue"]) == VENUES
    assert body["per_venue"]["binance"] == {
        "mark_price": 90_000.5,
        "mark_as_of_ms": now // 10**6 - 300,
        "mark_age_ms": 800,
        "index_price": 89_990.0,
        "last_price": None,
        "last_as_of_ms": None,
        "last_age_ms": None,
        "mid_price": None,
        "mid_as_of_ms": None,
        "mid_age_ms": None,
        "funding_rate": 0.0001,
        "funding_interval_h": 8.0,
        "next_funding_ms": 1_790_006_400_000,
        "funding_as_of_ms": now // 10**6 - 300,
        "funding_age_ms": 800,
    }
    okx, bybit = body["per_venue"]["okx"], body["per_venue"]["bybit"]
    assert (okx["index_price"], okx["funding_interval_h"], okx["next_funding_ms"]) == (None, None, None)
    assert (okx["mark_age_ms"], okx["funding_rate"], okx["funding_age_ms"]) == (9_500, -0.00025, 45_500)
    assert (bybit["mark_price"], bybit["last_age_ms"], bybit["mid_age_ms"]) == (None, 570, 520)


@pytest.mark.parametrize("path", ["/market_data", "/trader_ratios"])
def test_what_nobody_said_is_null_and_no_zero(web: FlaskClient, path: str) -> None:
    for said in ask(web, path)["per_venue"].values():
        assert set(said.values()) == {None}


def test_a_venue_that_does_not_list_the_symbol_is_left_out_unless_it_spoke() -> None:
    table = {"instruments": {"binance": "BTCUSDT", "okx": "BTC-USDT-SWAP"}}
    with stage(config_of(instance_name(), symbols={"BTC": table})) as made:
        made.write_all()
        web = create_app(made.config, made.client()).test_client()
        for path in ("/market_data", "/trader_ratios", "/liq_stats"):
            assert set(ask(web, path)["per_venue"]) == {"binance", "okx"}
        now = time.time_ns()
        last = by_venue(unknown=90_000.0)
        made.write_frame("BTC", now, venue_last=last, venue_last_as_of_ns=ago(now, unknown=10))
        assert set(ask(web, "/market_data")["per_venue"]) == {"binance", "okx", "unknown"}


# -- /trader_ratios ---------------------------------------------------------------------------------------------------


def test_the_three_ratios_by_venue(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    now = clock.now_ns()
    shares, bars = np.full((len(Venue), len(Ratio)), NAN), np.full((len(Venue), len(Ratio)), -1)
    bar_ms = now // 10**6 - 60_000
    shares[Venue.BINANCE], bars[Venue.BINANCE] = (0.6, 0.55, 0.5), bar_ms
    shares[Venue.BYBIT, 0], bars[Venue.BYBIT, 0] = 1.0, bar_ms - 300_000
    set_.write_frame("BTC", now, venue_long_share=shares, venue_ratio_ms=bars)
    body = ask(web, "/trader_ratios")
    assert set(body) == COMMON | {"per_venue"}
    binance, bybit, okx = (body["per_venue"][venue] for venue in ("binance", "bybit", "okx"))
    assert set(binance) == {"global_accounts", "top_accounts", "top_positions"}
    assert binance["global_accounts"] == {
        "long_share": 0.6,
        "short_share": 0.4,
        "long_short_ratio": 1.5,
        "bar_ms": bar_ms,
        "bar_age_ms": pytest.approx(60_000, abs=1),
    }
    assert binance["top_positions"]["long_short_ratio"] == 1.0
    assert bybit["global_accounts"]["short_share"] == 0.0, "zero means zero"
    assert bybit["global_accounts"]["long_short_ratio"] is None
    assert bybit["top_accounts"] is None and bybit["top_positions"] is None
    assert set(okx.values()) == {None}


# -- /liq_stats -------------------------------------------------------------------------------------------------------


def test_sums_completeness_and_saturation_by_venue(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_frame(
        "BTC",
        clock.now_ns(),
        liquidations=12,
        minutes=7,
        gap_minutes=2,
        venue_liquidations=[0, 5, 7, 0],
        venue_liquidated_usd=[[0, 0], [1000.0, 500.0], [499_000.0, 299_500.0], [0, 0]],
        venue_saturation=by_venue(binance=0.31256),
        venue_completeness=by_venue(binance=0.43219, bybit=1.0),
    )
    body = ask(web, "/liq_stats")
    assert body["per_venue"]["binance"] == {
        "liquidations": 5,
        "long_usd": 1000.0,
        "short_usd": 500.0,
        "saturation": 0.3126,
        "completeness": 0.4322,
    }
    assert body["per_venue"]["bybit"]["saturation"] is None and body["per_venue"]["bybit"]["completeness"] == 1.0
    assert body["per_venue"]["okx"]["completeness"] is None and body["per_venue"]["okx"]["liquidations"] == 0
    assert sum(venue["liquidations"] for venue in body["per_venue"].values()) == body["liquidations"]
    for side in ("long", "short"):
        per_venue = sum(venue[f"{side}_usd"] for venue in body["per_venue"].values())
        assert per_venue == body[f"liquidated_{side}_usd"]
    assert (body["minutes"], body["gap_minutes"]) == (7, 2)
    assert body["model"]["name"] == "inventory" and body["model"]["projection_unit"] == "usd"
    assert body["calibration"]["applied"] == 0 and body["realisation"] is None


def test_zones_are_counted_by_side_and_state_and_null_before_the_first_minute(web: FlaskClient) -> None:
    zones = ask(web, "/liq_stats")["zones"]
    assert [zones["long"][state] for state in ("active", "touched", "swept")] == [2, 1, 1]
    assert zones["unit_usd"] == 1e6 and zones["zones_ms"] % 60_000 == 0
    told = zones["long"]["since_start"]
    assert [told[kind] for kind in ("created", "reinforced", "touched", "swept", "expired", "merged")] == [
        *(5, 7, 3, 2, 1, 0)
    ]
    assert told["sweeps"] == {"counted": 2, "predicted_usd": 4e6, "realised_usd": 1e6, "realised_share": 0.25}
    with stage() as bare:
        early = application(bare, ManualClock(time.time_ns()))
        bare.write_clock()
        assert ask(early, "/liq_stats")["zones"] is None


def test_sums_of_the_map_are_those_of_the_heatmap(web: FlaskClient) -> None:
    body, whole = ask(web, "/liq_stats"), ask(web, "/liq_heatmap_v2", range_pct=50)
    for side in ("long", "short"):
        assert body[f"projected_{side}_usd"] == pytest.approx(whole["stats"][f"{side}_usd"], rel=1e-6)
        assert body[f"evidence_{side}_usd"] == pytest.approx(whole["stats"][f"evidence_{side}_usd"], rel=1e-6)


def test_a_projection_that_is_unknown_has_no_sum(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    for kind in (0, Projection.RELATIVE):
        set_.write_frame("BTC", clock.now_ns(), projection_known=kind)
        body = ask(web, "/liq_stats")
        assert body["projected_long_usd"] is None and body["projected_short_usd"] is None
        assert body["evidence_long_usd"] > 0


def test_kept_minutes_tell_which_feeds_were_missing(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    assert ask(web, "/liq_stats")["history_frames"] == 0
    assert ask(web, "/liq_stats")["history"] == {
        "from_ms": None,
        "to_ms": None,
        "gap_minutes": 0,
        "lost_minutes": 0,
        "feed_gap_minutes": {},
    }
    trades, clock_of_okx = 1 << (Venue.BINANCE * 16 + Topic.TRADE), 1 << (Venue.OKX * 16 + Topic.CLOCK)
    last_bit = 1 << 63
    for minute, bits in enumerate((0, trades, trades | clock_of_okx, 1, last_bit)):
        set_.write_minute("BTC", 60_000 * (100 + minute), bits)
    set_.write_frame("BTC", clock.now_ns())
    body = ask(web, "/liq_stats")
    assert body["history_frames"] == 5
    assert body["history"] == {
        "from_ms": 6_000_000,
        "to_ms": 6_240_000,
        "gap_minutes": 4,
        "lost_minutes": 1,
        "feed_gap_minutes": {"binance": {"trade": 2}, "okx": {"clock": 1}},
    }


def test_every_path_takes_the_symbol(web: FlaskClient, set_: Stage, clock: ManualClock) -> None:
    set_.write_frame(
        "ETH",
        clock.now_ns(),
        venue_mark=by_venue(okx=3_000.5),
        venue_long_share=np.full((4, 3), 0.25),
        venue_liquidations=[0, 0, 0, 9],
    )
    assert ask(web, "/market_data", symbol="eth")["per_venue"]["okx"]["mark_price"] == 3_000.5
    assert ask(web, "/market_data", symbol="SOL")["per_venue"]["okx"]["mark_price"] is None
    assert ask(web, "/trader_ratios", symbol="ETHUSDT")["per_venue"]["okx"]["top_accounts"]["long_share"] == 0.25
    assert ask(web, "/trader_ratios", symbol="BTC")["per_venue"]["okx"]["top_accounts"] is None
    assert ask(web, "/liq_stats", symbol="ETH-USDT-SWAP")["per_venue"]["okx"]["liquidations"] == 9
    assert ask(web, "/liq_stats")["per_venue"]["okx"]["liquidations"] == 0


def test_health_stays_as_it_was(web: FlaskClient) -> None:
    symbols = ask(web, "/health")["symbols"]
    assert set(symbols["BTC"]) == {"ready", "as_of_ms", "age_ms", "sequence", "coverage", "reason"}


@pytest.mark.parametrize("path", ["/market_data", "/trader_ratios", "/liq_stats", "/oi"])
def test_an_open_gap_of_any_feed_is_in_every_data_answer(
    web: FlaskClient, set_: Stage, clock: ManualClock, path: str
) -> None:
    for venue, topic in product((Venue.BINANCE, Venue.BYBIT, Venue.OKX), Topic):
        set_.write_feeds(clock.now_ns(), missing=((venue, topic, "BTC"),))
        (gap,) = ask(web, path)["gaps"]
        assert (gap["venue"], gap["topic"], gap["symbol"]) == (venue.name.lower(), topic.name.lower(), "BTC")
        assert gap["reason"] == "disconnected" and gap["from_ms"] == clock.now_ns() // 10**6 - 9000
        assert ask(web, path, symbol="SOL")["gaps"] == []
    set_.write_feeds(clock.now_ns())
    assert ask(web, path)["gaps"] == []

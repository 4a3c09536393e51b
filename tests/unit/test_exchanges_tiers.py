"""Margin tiers as Bybit and OKX publish them: what is read, in which order, and what is refused rather than guessed."""

import json
import random
from typing import Any

import msgspec
import pytest

from liqmap.config import BybitConfig, Config, OkxConfig
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import InstrumentTable, configured_table
from liqmap.exchanges.adapter import Malformed, PollPlan, Tiers
from liqmap.exchanges.registry import ADAPTERS
from tests.shared_data import shared

WANTED = {
    symbol: {venue: getattr(table.instruments, venue.name.lower()) for venue in ADAPTERS}
    for symbol, table in Config().symbols.items()
}
TABLE, _ = configured_table(WANTED, shipped_instruments())
BYBIT_ROWS: list[dict[str, Any]] = [
    {"riskLimitValue": "2000000", "maintenanceMargin": "0.005", "maxLeverage": "100.00", "isLowestRisk": 1},
    {"riskLimitValue": "5000000", "maintenanceMargin": "0.0056", "maxLeverage": "90.00", "isLowestRisk": 0},
    {"riskLimitValue": "10000000", "maintenanceMargin": "0.008", "maxLeverage": "60.00", "isLowestRisk": 0},
]
OKX_ROWS: list[dict[str, Any]] = [
    {"minSz": "0", "maxSz": "1000", "mmr": "0.004", "maxLever": "100"},
    {"minSz": "1001", "maxSz": "5000", "mmr": "0.005", "maxLever": "75"},
    {"minSz": "5000", "maxSz": "", "mmr": "0.0075", "maxLever": "50"},
]


def bybit(rows: object, code: int = 0, symbol: str = "BTCUSDT", **more: object) -> bytes:
    rows = [{"symbol": symbol, **row} for row in rows] if isinstance(rows, list) else rows
    return json.dumps({"retCode": code, "retMsg": "words", "result": {"list": rows}, **more}).encode()


def okx(rows: object, code: object = "0", family: str = "BTC-USDT") -> bytes:
    rows = [{"instFamily": family, **row} for row in rows] if isinstance(rows, list) else rows
    return json.dumps({"code": code, "msg": "words", "data": rows}).encode()


def read(venue: Venue, body: bytes, name: str | None = None) -> Tiers:
    name = name or {Venue.BYBIT: "BTCUSDT", Venue.OKX: "BTC-USDT-SWAP"}[venue]
    asked = PollPlan(venue, f"margins.{name}", "http://x", Topic.MARGINS, ("BTC",), 21_600.0)
    return ADAPTERS[venue].parse_tiers(asked, body)


def changed(rows: list[dict[str, Any]], index: int, **to: object) -> list[dict[str, Any]]:
    """`...` takes a field away."""
    copy = [dict(row) for row in rows]
    copy[index] |= to
    copy[index] = {key: value for key, value in copy[index].items() if value is not ...}
    return copy


@pytest.mark.parametrize("shuffle", [list, lambda rows: rows[::-1], lambda rows: random.Random(3).sample(rows, 3)])
def test_rows_come_in_any_order_and_leave_smallest_first(shuffle: Any) -> None:
    found = read(Venue.BYBIT, bybit(shuffle(BYBIT_ROWS)))
    assert found.rows == ((2e6, 0.005, 100.0), (5e6, 0.0056, 90.0), (10e6, 0.008, 60.0))
    assert (found.venue, found.instrument, found.in_contracts) == (Venue.BYBIT, "BTCUSDT", False)
    found = read(Venue.OKX, okx(shuffle(OKX_ROWS)))
    assert found.rows == ((1000.0, 0.004, 100.0), (5000.0, 0.005, 75.0), (None, 0.0075, 50.0))
    assert (found.venue, found.instrument, found.in_contracts) == (Venue.OKX, "BTC-USDT-SWAP", True)


def test_numbers_may_come_as_numbers_and_unknown_fields_are_passed_over() -> None:
    row = {"riskLimitValue": 1e6, "maintenanceMargin": 0.01, "maxLeverage": 50, "mmDeduction": "", "new": {"a": 1}}
    assert read(Venue.BYBIT, bybit([row], time=1)).rows == ((1e6, 0.01, 50.0),)


def test_the_recorded_answer_of_bybit() -> None:
    body = shared("data/margin/bybit_risk_limit_BTCUSDT_testnet_2026-09-17_partial.json").read_bytes()
    assert read(Venue.BYBIT, body).rows == ((300_000.0, 0.0033, 150.0), (2_000_000.0, 0.005, 100.0))


def test_the_recorded_answer_of_okx_one_family_at_a_time() -> None:
    answer = json.loads(shared("data/margin/okx_position_tiers_tier1_swap.json").read_bytes())
    for row, size in zip(answer["data"], (1000.0, 5000.0), strict=True):
        family = row["instFamily"]
        body = json.dumps({**answer, "data": [row]}).encode()
        assert read(Venue.OKX, body, f"{family}-SWAP").rows == ((size, 0.004, 100.0),)
    with pytest.raises(Malformed, match="asked for BTC-USDT, answered for ETH-USDT"):
        read(Venue.OKX, json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON|truncated"),
        (b"<html></html>", "not JSON|malformed"),
        (b"[]", "expected"),
        (b"\xff{}", "."),
        (bybit([]), "no tiers"),
        (bybit({}), "."),
        (bybit(None), "."),
        (b'{"retCode": 0}', "missing required field `result`"),
        (bybit(BYBIT_ROWS, code=10001), "refused: 10001 words"),
        (b'{"retCode": 10001, "retMsg": "params error", "result": {}}', "refused: 10001 params error"),
        (b'{"retCode": 10001, "retMsg": "params error", "result": null}', "refused: 10001 params error"),
        (bybit(BYBIT_ROWS, symbol="ETHUSDT"), "asked for BTCUSDT, answered for ETHUSDT"),
        (bybit(changed(BYBIT_ROWS, 1, maintenanceMargin=...)), "missing required field `maintenanceMargin`"),
        (bybit(changed(BYBIT_ROWS, 1, maintenanceMargin="")), "."),
        (bybit(changed(BYBIT_ROWS, 1, maintenanceMargin="0.56 %")), "."),
        (bybit(changed(BYBIT_ROWS, 1, maintenanceMargin="0")), "."),
        (bybit(changed(BYBIT_ROWS, 1, maintenanceMargin="56")), "."),
        (bybit(changed(BYBIT_ROWS, 1, riskLimitValue="NaN")), "."),
        (bybit(changed(BYBIT_ROWS, 1, riskLimitValue="-5")), "."),
        (bybit(changed(BYBIT_ROWS, 1, maxLeverage="0")), "."),
        (bybit(changed(BYBIT_ROWS, 1, maxLeverage="120")), "milder"),
        (bybit(changed(BYBIT_ROWS, 2, maintenanceMargin="0.001")), "milder"),
        (bybit(changed(BYBIT_ROWS, 1, riskLimitValue="2000000")), "two tiers up to 2e"),
        (bybit(BYBIT_ROWS[1:]), "the lowest tier is missing"),
    ],
)
def test_what_bybit_may_not_say(body: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read(Venue.BYBIT, body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON|truncated"),
        (okx([]), "no tiers"),
        (okx("x"), "."),
        (okx(OKX_ROWS, code=0), "."),
        (b'{"data": []}', "missing required field `code`"),
        (okx([], code="51000"), "refused: 51000 words"),
        (okx(None, code="50011"), "refused: 50011 words"),
        (okx(OKX_ROWS, family="ETH-USDT"), "asked for BTC-USDT, answered for ETH-USDT"),
        (okx(OKX_ROWS[1:]), "the tiers below 1001 contracts are missing"),
        (okx([OKX_ROWS[0], OKX_ROWS[2]]), "a tier is missing from 1000 to 5000"),
        (okx(changed(OKX_ROWS, 1, maxSz="")), "two tiers up to any size"),
        (okx(changed(OKX_ROWS, 1, maxSz="1000")), "missing from|two tiers"),
        (okx(changed(OKX_ROWS, 1, maxSz=...)), "missing required field `maxSz`"),
        (okx(changed(OKX_ROWS, 1, minSz="")), "."),
        (okx(changed(OKX_ROWS, 1, mmr="0.003")), "milder"),
        (okx(changed(OKX_ROWS, 1, mmr="1")), "."),
        (okx(changed(OKX_ROWS, 1, maxLever="101")), "milder"),
        (okx(changed(OKX_ROWS, 1, maxLever="Infinity")), "."),
    ],
)
def test_what_okx_may_not_say(body: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read(Venue.OKX, body)


def test_one_contract_is_asked_for_at_a_time_at_the_venues_that_tell_without_a_key() -> None:
    sections = {venue: getattr(Config().venues, venue.name.lower()) for venue in ADAPTERS}
    plans = {venue: ADAPTERS[venue].tier_plans(sections[venue], TABLE) for venue in ADAPTERS}
    assert plans[Venue.BINANCE] == ()
    assert [plan.url for plan in plans[Venue.BYBIT]][:2] == [
        "https://api.bybit.com/v5/market/risk-limit?category=linear&symbol=BTCUSDT",
        "https://api.bybit.com/v5/market/risk-limit?category=linear&symbol=ETHUSDT",
    ]
    assert plans[Venue.OKX][0].url == (
        "https://www.okx.com/api/v5/public/position-tiers?instType=SWAP&tdMode=isolated&instFamily=BTC-USDT"
    )
    for plan in (*plans[Venue.BYBIT], *plans[Venue.OKX]):
        assert (plan.topic, plan.every_s) == (Topic.MARGINS, 21_600.0)
        assert plan.budget in {budget.name for budget in ADAPTERS[plan.venue].budgets}


@pytest.mark.parametrize(("venue", "section"), [(Venue.BYBIT, BybitConfig()), (Venue.OKX, OkxConfig())])
def test_a_rhythm_of_0_asks_never(venue: Venue, section: Any) -> None:
    never = msgspec.structs.replace(section, margins_poll_s=0.0)
    assert ADAPTERS[venue].tier_plans(never, TABLE) == ()
    assert ADAPTERS[venue].tier_plans(section, InstrumentTable(())) == ()


def test_binance_shows_its_tiers_to_nobody_without_a_key() -> None:
    with pytest.raises(Malformed, match="binance publishes no margin tiers"):
        read(Venue.BINANCE, b"{}", "BTCUSDT")

"""What the venues tell of the past, in the shapes of their documents: bars, and levels of open interest."""

import json
from typing import Any

import pytest

from liqmap import config as configuration
from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Malformed, Past, PastBar, PastLevel, PollPlan
from liqmap.exchanges.plans import windows
from liqmap.exchanges.registry import ADAPTERS

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
T = 1_767_225_600_000
MINUTE, DAY = 60_000, 86_400_000
NAMES = {BINANCE: "BTCUSDT", BYBIT: "BTCUSDT", OKX: "BTC-USDT-SWAP"}
TABLE = InstrumentTable(
    Instrument(venue, name, 0.01 if venue is OKX else 1.0, "BTC", number)
    for number, (venue, name) in enumerate(NAMES.items())
)


def plans(venue: Venue, from_ms: int = T, to_ms: int = T + 7 * DAY) -> tuple[PollPlan, ...]:
    section = getattr(configuration.parse({}).venues, venue.name.lower())
    contract = TABLE.find(venue, NAMES[venue])
    assert contract is not None
    return ADAPTERS[venue].past_plans(section, contract, from_ms, to_ms)


def plan(venue: Venue, request: str = "levels") -> PollPlan:
    return next(plan for plan in plans(venue) if plan.name.startswith(request))


def said(venue: Venue, body: Any, request: str = "levels") -> Past:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ADAPTERS[venue].parse_past(plan(venue, request), raw, TABLE)


def candle(minute_ms: int, **changed: Any) -> list[Any]:
    row = {
        "open_ms": minute_ms,
        "open": "100.0",
        "high": "104.0",
        "low": "99.0",
        "close": "103.0",
        "volume": "10.0",
        "close_ms": minute_ms + MINUTE - 1,
        "quote": "1010.0",
        "trades": 12,
        "bought": "7.5",
        "bought_quote": "750.0",
        "unused": "0",
    }
    return list({**row, **changed}.values())


def test_a_bar_of_binance_tells_who_took_liquidity() -> None:
    told = said(BINANCE, [candle(T), candle(T + MINUTE)], "bars")
    assert told.bars == (
        PastBar(T, 100.0, 104.0, 99.0, 103.0, 7.5, 2.5),
        PastBar(T + MINUTE, 100.0, 104.0, 99.0, 103.0, 7.5, 2.5),
    )


def test_a_quiet_minute_of_binance_traded_nothing_and_that_is_known() -> None:
    flat = dict.fromkeys(("open", "high", "low", "close"), "100")
    (bar,) = said(
        BINANCE, [candle(T, **flat, volume="0", quote="0", trades=0, bought="0", bought_quote="0")], "bars"
    ).bars
    assert (bar.taker_buy_base, bar.taker_sell_base) == (0.0, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [{"high": "101.0"}, {"low": "100.5"}, {"bought": "10.5"}, {"close": "NaN"}, {"open": ""}, {"open_ms": T // 1000}],
)
def test_a_bar_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        said(BINANCE, [candle(T), candle(T + MINUTE, **wrong)], "bars")


def test_levels_come_in_base_of_one_side_and_in_order_of_time() -> None:
    row = {"symbol": "BTCUSDT", "sumOpenInterestValue": "1", "CMCCirculatingSupply": "1"}
    rows = [{**row, "sumOpenInterest": f"{base}", "timestamp": at} for at, base in ((T, "79000.5"), (T + 1, "79001"))]
    assert said(BINANCE, rows).levels == (PastLevel(T, 79_000.5), PastLevel(T + 1, 79_001.0))

    both = {"openInterest": "90000", "timestamp": str(T + 1)}
    one = {"openInterest": "90002", "singleOpenInterest": "45001.5", "timestamp": str(T)}
    unsaid = {"openInterest": "90002", "singleOpenInterest": "", "timestamp": str(T + 2)}
    answer = {"retCode": 0, "retMsg": "OK", "result": {"symbol": "BTCUSDT", "list": [unsaid, both, one]}}
    assert said(BYBIT, answer).levels == (
        PastLevel(T, 45_001.5),
        PastLevel(T + 1, 45_000.0),
        PastLevel(T + 2, 45_001.0),
    )

    rows_of_okx = [[str(T + 1), "2800100", "28001", "1.7e9"], [str(T), "2800000", "28000", "1.7e9"]]
    told = said(OKX, {"code": "0", "data": rows_of_okx, "msg": ""})
    assert [level.ts_ms for level in told.levels] == [T, T + 1]
    assert [level.open_interest_base for level in told.levels] == pytest.approx([28_000.0, 28_001.0])


@pytest.mark.parametrize(
    ("venue", "body"),
    [
        (BINANCE, {"code": -1130, "msg": "Data sent for parameter 'startTime' is not valid."}),
        (BINANCE, [{"symbol": "ETHUSDT", "sumOpenInterest": "1", "timestamp": T}]),
        (BINANCE, [{"symbol": "BTCUSDT", "sumOpenInterest": "-1", "timestamp": T}]),
        (BINANCE, b"<html>"),
        (BYBIT, {"retCode": 10016, "retMsg": "Server error.", "result": {}}),
        (BYBIT, {"retCode": 0, "retMsg": "OK", "result": {"symbol": "ETHUSDT", "list": []}}),
        (BYBIT, {"retCode": 0, "retMsg": "OK", "result": {"symbol": "BTCUSDT", "list": [{"timestamp": str(T)}]}}),
        (OKX, {"code": "50011", "data": [], "msg": "Rate limit reached."}),
        (OKX, {"code": "0", "data": [[str(T), "0", "0", "0"]], "msg": ""}),
        (OKX, {"code": "0", "data": [[str(T), "1"]], "msg": ""}),
    ],
)
def test_errors_and_answers_for_somebody_else_are_no_past(venue: Venue, body: Any) -> None:
    with pytest.raises(Malformed):
        said(venue, body)


def test_an_empty_answer_tells_nothing_and_is_no_fault() -> None:
    assert said(BINANCE, [], "bars") == said(BINANCE, []) == Past()
    assert said(BYBIT, {"retCode": 0, "result": {"symbol": "BTCUSDT", "list": []}}) == Past()
    assert said(OKX, {"code": "0", "data": [], "msg": ""}) == Past()


def test_seven_days_are_asked_for_in_whole_pages_within_the_budgets() -> None:
    asked = {venue: plans(venue) for venue in NAMES}
    assert {venue: len(of_venue) for venue, of_venue in asked.items()} == {BINANCE: 7 + 5, BYBIT: 11, OKX: 4}
    for venue, of_venue in asked.items():
        budgets = {budget.name: budget for budget in ADAPTERS[venue].budgets}
        for name in {plan.budget for plan in of_venue}:
            spent = sum(plan.weight for plan in of_venue if plan.budget == name)
            assert spent <= budgets[name].limit / 2, f"{venue.name} {name}: one symbol waits for its own budget"
        assert len({plan.url for plan in of_venue}) == len(of_venue)


def test_windows_are_whole_disjoint_and_the_newest_comes_first() -> None:
    assert windows(0, 9, 1, 4) == [(6, 9), (2, 5), (0, 1)]
    assert windows(1, 25, 10, 500) == [(10, 20)]
    assert windows(11, 19, 10, 5) == []

"""The table of sides, and the units, written out: which raw word means that a long was liquidated, venue by venue."""

import json
from typing import Any

import pytest

from liqmap.domain.enums import Kind, PositionSide, TakerSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Ignored, Malformed, PollPlan
from liqmap.exchanges.registry import ADAPTERS

LONG, SHORT = PositionSide
BUY, SELL = TakerSide
TABLE = InstrumentTable(
    [
        Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 0),
        Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", 1),
        Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.01, "BTC", 2),
    ]
)
T = 1790000000000


def _parse(venue: Venue, frame: Any) -> list[Event]:
    facts = ADAPTERS[venue].session(TABLE).parse(json.dumps(frame, separators=(",", ":")).encode(), 99)
    assert all(isinstance(fact, Event) for fact in facts), facts
    return [fact for fact in facts if isinstance(fact, Event)]


def _binance(**order: Any) -> dict[str, Any]:
    whole = {"s": "BTCUSDT", "S": "SELL", "q": "3", "p": "90000", "ap": "90500", "X": "FILLED", "z": "2", "T": T}
    return {"stream": "!forceOrder@arr", "data": {"e": "forceOrder", "E": T + 5, "o": {**whole, **order}}}


def _bybit(side: str) -> dict[str, Any]:
    row = {"T": T, "s": "BTCUSDT", "S": side, "v": "2", "p": "90000"}
    return {"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": T + 5, "data": [row]}


def _okx(side: str, position: str) -> dict[str, Any]:
    detail = {"side": side, "posSide": position, "bkPx": "90000", "sz": "200", "ts": str(T), "bkLoss": "0", "ccy": ""}
    row = {"instId": "BTC-USDT-SWAP", "instType": "SWAP", "details": [detail]}
    return {"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": [row]}


@pytest.mark.finding("L20")
@pytest.mark.parametrize(
    ("venue", "frame", "side"),
    [
        (Venue.BINANCE, _binance(S="SELL"), LONG),
        (Venue.BINANCE, _binance(S="BUY"), SHORT),
        pytest.param(Venue.BYBIT, _bybit("Buy"), LONG, marks=pytest.mark.finding("X1")),
        pytest.param(Venue.BYBIT, _bybit("Sell"), SHORT, marks=pytest.mark.finding("X1")),
        (Venue.OKX, _okx("sell", "long"), LONG),
        (Venue.OKX, _okx("buy", "short"), SHORT),
        (Venue.OKX, _okx("sell", "net"), LONG),
        (Venue.OKX, _okx("buy", "net"), SHORT),
    ],
)
def test_a_liquidation_tells_the_side_of_the_position_in_base_coin(
    venue: Venue, frame: dict[str, Any], side: PositionSide
) -> None:
    (event,) = _parse(venue, frame)
    assert (event.kind, event.side, event.venue, event.topic) == (Kind.LIQUIDATION, side, venue, Topic.LIQUIDATION)
    assert (event.price, event.quantity, event.venue_ms, event.receive_ns) == (90000.0, 2.0, T, 99)
    assert event.extra == 90500.0 if venue is Venue.BINANCE else event.extra != event.extra


@pytest.mark.finding("L20")
@pytest.mark.parametrize(("side", "position"), [("sell", "short"), ("buy", "long")])
def test_okx_sides_that_contradict_each_other_are_malformed(side: str, position: str) -> None:
    with pytest.raises(Malformed) as fault:
        _parse(Venue.OKX, _okx(side, position))
    assert fault.value.field == "data.0.details.0.posSide"


@pytest.mark.parametrize("first", [True, False])
def test_what_contradicts_itself_in_a_contract_of_others_costs_nothing_of_ours(first: bool) -> None:
    frame, others = _okx("sell", "long"), _okx("sell", "short")["data"][0]
    others["instId"] = "BTC-USD-SWAP"
    frame["data"].insert(0 if first else 1, others)
    facts = ADAPTERS[Venue.OKX].session(TABLE).parse(json.dumps(frame, separators=(",", ":")).encode(), 99)
    assert [type(fact).__name__ for fact in facts] == (["Ignored", "Event"] if first else ["Event", "Ignored"])


@pytest.mark.parametrize(("z", "quantity"), [("2", 2.0), ("", 3.0), (None, 3.0), ("0", 3.0), (1.5, 1.5)])
def test_binance_executed_quantity_falls_back_to_the_order(z: Any, quantity: float) -> None:
    assert _parse(Venue.BINANCE, _binance(z=z))[0].quantity == quantity


@pytest.mark.parametrize("change", [{"X": "NEW"}, {"X": "PARTIALLY_FILLED"}, {"X": "EXPIRED"}, {"st": 2}])
def test_binance_orders_that_are_not_ours_or_not_filled_are_ignored(change: dict[str, Any]) -> None:
    (fact,) = ADAPTERS[Venue.BINANCE].session(TABLE).parse(json.dumps(_binance(**change)).encode(), 1)
    assert isinstance(fact, Ignored)


@pytest.mark.parametrize(
    ("venue", "frame", "side"),
    [
        (Venue.BINANCE, {"e": "aggTrade", "s": "BTCUSDT", "a": 7, "p": "90000", "q": "2", "T": T, "m": True}, SELL),
        (Venue.BINANCE, {"e": "aggTrade", "s": "BTCUSDT", "a": 7, "p": "90000", "q": "2", "T": T, "m": False}, BUY),
        (Venue.BINANCE, {"e": "trade", "s": "BTCUSDT", "t": 7, "p": "90000", "q": "2", "T": T, "m": True}, SELL),
        (
            Venue.BYBIT,
            {
                "topic": "publicTrade.BTCUSDT",
                "ts": T,
                "data": [{"T": T, "s": "BTCUSDT", "S": "Sell", "v": 2, "p": 90000}],
            },
            SELL,
        ),
        (
            Venue.OKX,
            {
                "arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"},
                "data": [
                    {"instId": "BTC-USDT-SWAP", "tradeId": "7", "px": "90000", "sz": "200", "side": "buy", "ts": str(T)}
                ],
            },
            BUY,
        ),
    ],
)
def test_a_trade_tells_the_side_of_the_taker_in_base_coin(venue: Venue, frame: Any, side: TakerSide) -> None:
    (event,) = _parse(venue, frame)
    assert (event.kind, event.side, event.price, event.quantity) == (Kind.TRADE, side, 90000.0, 2.0)
    assert event.detail == (-1 if venue is Venue.BYBIT else 7)


@pytest.mark.finding("X13")
@pytest.mark.parametrize(
    ("said", "base"),
    [
        ({"openInterest": "100"}, 50.0),
        ({"openInterest": "100", "singleOpenInterest": "50.5"}, 50.5),
        ({"openInterest": "100", "singleOpenInterest": ""}, 50.0),
        ({"singleOpenInterest": "50.5"}, 50.5),
    ],
)
def test_bybit_open_interest_is_one_sided(said: dict[str, str], base: float) -> None:
    frame = {"topic": "tickers.BTCUSDT", "type": "snapshot", "ts": T, "data": {"symbol": "BTCUSDT", **said}}
    (event,) = _parse(Venue.BYBIT, frame)
    assert (event.kind, event.quantity) == (Kind.OPEN_INTEREST, base)


@pytest.mark.finding("X13")
def test_the_other_venues_count_one_side_already() -> None:
    body = b'{"symbol":"BTCUSDT","openInterest":"100","time":1790000000000}'
    poll = PollPlan(Venue.BINANCE, "open_interest.BTCUSDT", "", Topic.OPEN_INTEREST, ("BTC",), 10.0)
    (event,) = ADAPTERS[Venue.BINANCE].parse_reply(poll, body, 1, TABLE)
    assert isinstance(event, Event)
    assert event.quantity == 100.0
    row = {"instId": "BTC-USDT-SWAP", "oi": "10000", "oiCcy": "100", "ts": str(T)}
    (event,) = _parse(Venue.OKX, {"arg": {"channel": "open-interest", "instId": "BTC-USDT-SWAP"}, "data": [row]})
    assert event.quantity == 100.0


@pytest.mark.parametrize("value", ["", None, "0", "-5", "NaN"])
def test_a_missing_open_interest_is_no_reading_and_never_zero(value: Any) -> None:
    ticker = {
        "topic": "tickers.BTCUSDT",
        "type": "delta",
        "ts": T,
        "data": {"symbol": "BTCUSDT", "openInterest": value},
    }
    try:
        facts = ADAPTERS[Venue.BYBIT].session(TABLE).parse(json.dumps(ticker).encode(), 1)
    except Malformed:
        facts = ()
    assert not any(isinstance(fact, Event) for fact in facts)
    row = {"instId": "BTC-USDT-SWAP", "oi": value, "oiCcy": value, "ts": str(T)}
    frame = {"arg": {"channel": "open-interest", "instId": "BTC-USDT-SWAP"}, "data": [row]}
    with pytest.raises(Malformed):
        ADAPTERS[Venue.OKX].session(TABLE).parse(json.dumps(frame).encode(), 1)


def test_an_answer_about_another_contract_than_the_one_asked_for_is_malformed() -> None:
    body = b'{"symbol":"ETHUSDT","openInterest":"100","time":1790000000000}'
    poll = PollPlan(Venue.BINANCE, "open_interest.BTCUSDT", "", Topic.OPEN_INTEREST, ("BTC",), 10.0)
    with pytest.raises(Malformed, match="asked for BTCUSDT, answered for ETHUSDT"):
        ADAPTERS[Venue.BINANCE].parse_reply(poll, body, 1, TABLE)


@pytest.mark.parametrize(
    ("venue", "request_name", "body", "share"),
    [
        (
            Venue.BINANCE,
            "ratio_top_positions.BTCUSDT",
            [
                {
                    "symbol": "BTCUSDT",
                    "longShortRatio": "1.5",
                    "longAccount": "0.6",
                    "shortAccount": "0.4",
                    "timestamp": T,
                }
            ],
            0.6,
        ),
        (
            Venue.BYBIT,
            "ratio_accounts.BTCUSDT",
            {"retCode": 0, "result": {"list": [{"symbol": "BTCUSDT", "buyRatio": "0.6", "timestamp": str(T)}]}},
            0.6,
        ),
        (Venue.OKX, "ratio_top_accounts.BTC-USDT-SWAP", {"code": "0", "data": [[str(T), "1.5"]]}, 0.6),
    ],
)
def test_ratios_become_the_share_of_longs(venue: Venue, request_name: str, body: Any, share: float) -> None:
    poll = PollPlan(venue, request_name, "", Topic.RATIO, ("BTC",), 300.0)
    (event,) = ADAPTERS[venue].parse_reply(poll, json.dumps(body).encode(), 1, TABLE)
    assert isinstance(event, Event)
    assert (event.kind, event.venue_ms) == (Kind.RATIO, T)
    assert event.quantity == pytest.approx(share)


@pytest.mark.parametrize(
    ("venue", "body"),
    [
        (Venue.BYBIT, b'{"retCode":10001,"retMsg":"symbol invalid","result":{}}'),
        (Venue.OKX, b'{"code":"51001","msg":"Instrument ID does not exist","data":[]}'),
    ],
)
def test_an_error_envelope_with_status_200_is_malformed_as_an_answer(venue: Venue, body: bytes) -> None:
    poll = PollPlan(
        venue, "ratio_accounts.BTCUSDT" if venue is Venue.BYBIT else "open_interest", "", Topic.RATIO, (), 1.0
    )
    with pytest.raises(Malformed, match="refused"):
        ADAPTERS[venue].parse_reply(poll, body, 1, TABLE)

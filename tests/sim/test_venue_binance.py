"""The Binance server is as strict and as nasty as docs/exchanges.md says the venue is."""

import itertools
import json
import time

import pytest
import requests
import websocket

from liqmap import config as configuration
from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.venues.binance_feed import BinanceFeed
from liqmap.sim.venues.binance_server import BinanceRules
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.listings import listings_of
from liqmap.sim.venues.running import VenueRules
from tests.sim.venue_client import DEADLINE_S, client, steps
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

BINANCE = Venue.BINANCE


def get(venues: RunningVenues, path: str) -> requests.Response:
    return requests.get(venues.rest(BINANCE) + path, timeout=DEADLINE_S)


@pytest.mark.parametrize("path", ["/stream?streams=btcusdt@markPrice@1s/btcusdt@aggTrade/btcusdt@trade", None])
def test_the_legacy_path_connects_acknowledges_and_is_silent_for_market_data(path: str | None) -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues:
        legacy = venues.binance_market_ws.removesuffix("/market")
        with client(legacy + (path or "/stream")) as old, client(venues.binance_market_ws + "/stream") as new:
            if path is None:
                streams = ["btcusdt@markPrice@1s", "btcusdt@aggTrade", "btcusdt@trade"]
                old.send({"method": "SUBSCRIBE", "params": streams, "id": 1})
                assert old.next() == {"result": None, "id": 1}
            new.send({"method": "SUBSCRIBE", "params": ["btcusdt@markPrice@1s", "btcusdt@aggTrade"], "id": 2})
            assert new.next() == {"result": None, "id": 2}
            market.trade(BINANCE, 60_000.0, 1.0)
            new.until(lambda m: m.get("stream") == "btcusdt@aggTrade")
            new.until(lambda m: m.get("stream") == "btcusdt@markPrice@1s")
            market.trade(BINANCE, 60_000.0, 1.0)
            seen = [old.until(lambda m: "stream" in m)["stream"] for _ in range(2)]
            assert seen == ["btcusdt@trade", "btcusdt@trade"]


@pytest.mark.parametrize(
    ("route", "wrong", "right"),
    [("market", "btcusdt@trade", "btcusdt@aggTrade"), ("public", "btcusdt@aggTrade", "btcusdt@trade")],
)
def test_a_stream_on_the_wrong_route_is_acknowledged_and_silent(route: str, wrong: str, right: str) -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with (
        venue_servers(market) as venues,
        client(f"{venues.rest(BINANCE)}/{route}/stream".replace("http", "ws")) as link,
    ):
        link.send({"method": "SUBSCRIBE", "params": [wrong, right], "id": 1})
        assert link.next() == {"result": None, "id": 1}
        link.send({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        assert link.next() == {"result": [wrong, right], "id": 2}
        for _ in range(3):
            market.trade(BINANCE, 60_000.0, 1.0)
            assert link.until(lambda m: "stream" in m)["stream"] == right


def test_the_private_route_is_refused() -> None:
    with venue_servers() as venues, pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(venues.binance_market_ws.replace("market", "private/ws"), timeout=DEADLINE_S)
    assert refused.value.status_code == 400


def test_raw_addresses_send_payloads_without_an_envelope_and_properties_change_that() -> None:
    with venue_servers() as venues, client(venues.binance_market_ws + "/ws/btcusdt@markPrice@1s") as link:
        assert link.next()["e"] == "markPriceUpdate"
        link.send({"method": "GET_PROPERTY", "params": ["combined"], "id": 1})
        assert link.until(lambda m: m.get("id") == 1)["result"] is False
        link.send({"method": "SET_PROPERTY", "params": ["combined", True], "id": 2})
        assert link.until(lambda m: m.get("id") == 2)["result"] is None
        assert link.until(lambda m: "stream" in m)["stream"] == "btcusdt@markPrice@1s"


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ("{not json", 3),
        ('{"method": "SUBSCRIBE", "params": ["x"]}', 2),
        ('{"method": "subscribe", "params": ["x"], "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": "x", "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": [1], "id": 1}', 2),
        ('{"method": "SET_PROPERTY", "params": ["combined"], "id": 1}', 2),
    ],
)
def test_a_bad_control_message_is_answered_with_an_error_and_costs_nothing_else(request_text: str, code: int) -> None:
    with venue_servers() as venues, client(venues.binance_market_ws + "/stream") as link:
        link.send(request_text)
        answer = link.next()
        assert answer["code"] == code
        assert answer["msg"].startswith("Invalid")
        link.send({"method": "SUBSCRIBE", "params": [], "id": 9})
        assert link.next() == {"result": None, "id": 9}


def test_unsubscribing_ends_a_stream_and_a_stream_that_does_not_exist_is_acknowledged_like_any_other() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.binance_market_ws + "/stream") as link:
        link.send({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade", "nosuchusdt@aggTrade"], "id": 1})
        assert link.next() == {"result": None, "id": 1}
        link.send({"method": "UNSUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 2})
        assert link.next() == {"result": None, "id": 2}
        link.send({"method": "LIST_SUBSCRIPTIONS", "id": 3})
        assert link.next() == {"result": ["nosuchusdt@aggTrade"], "id": 3}


def test_more_than_ten_messages_a_second_end_the_connection() -> None:
    with venue_servers() as venues, client(venues.binance_market_ws + "/stream") as link:
        for number in range(11):
            link.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        assert link.close_code() == 1008


def test_more_than_1024_streams_are_refused() -> None:
    with venue_servers() as venues, client(venues.binance_market_ws + "/stream") as link:
        link.send({"method": "SUBSCRIBE", "params": [f"s{n}usdt@aggTrade" for n in range(1024)], "id": 1})
        assert link.next() == {"result": None, "id": 1}
        link.send({"method": "SUBSCRIBE", "params": ["onemoreusdt@aggTrade"], "id": 2})
        assert link.next()["code"] == 2


def test_the_server_pings_and_cuts_off_who_does_not_answer_with_the_same_payload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = VenueRules(binance=BinanceRules(ping_every_s=0.15, pong_within_s=0.5, timers_every_s=0.02))
    with venue_servers(rules=rules) as venues:
        with client(venues.binance_market_ws + "/ws/btcusdt@markPrice@1s") as answering:
            # websocket-client answers pings while it reads: two marks take longer than the time to answer.
            answering.next()
            answering.next()
        with client(venues.binance_market_ws + "/ws/btcusdt@markPrice@1s") as mute:
            monkeypatch.setattr(mute.socket, "pong", lambda payload="": None)
            assert mute.close_code() == 1008
        with client(venues.binance_market_ws + "/ws/btcusdt@markPrice@1s") as wrong:
            answer = wrong.socket.pong
            monkeypatch.setattr(wrong.socket, "pong", lambda payload="": answer(b"something else"))
            assert wrong.close_code() == 1008


def test_a_connection_lives_only_so_long() -> None:
    rules = VenueRules(binance=BinanceRules(life_s=0.3, timers_every_s=0.02))
    with venue_servers(rules=rules) as venues, client(venues.binance_market_ws + "/stream") as link:
        assert link.close_code() is None


def test_aggregate_trades_join_one_price_and_side_and_their_ids_are_contiguous() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with (
        venue_servers(market) as venues,
        client(venues.binance_market_ws + "/ws/btcusdt@aggTrade") as aggregates,
        client(venues.binance_public_ws + "/ws/btcusdt@trade") as singles,
    ):
        with market.together():
            for price, qty, taker in [
                (60_000.0, 0.1, TakerSide.BUY),
                (60_000.04, 0.2, TakerSide.BUY),
                (60_000.0, 0.3, TakerSide.SELL),
                (60_000.1, 0.4, TakerSide.SELL),
            ]:
                market.trade(BINANCE, price, qty, taker)
        rows = [aggregates.next() for _ in range(3)]
        assert [(row["p"], row["q"], row["m"]) for row in rows] == [
            ("60000.00", "0.300", False),
            ("60000.00", "0.300", True),
            ("60000.10", "0.400", True),
        ]
        assert [row["a"] - rows[0]["a"] for row in rows] == [0, 1, 2]
        assert [row["l"] - row["f"] for row in rows] == [1, 0, 0]
        assert all(after["f"] == before["l"] + 1 for before, after in itertools.pairwise(rows))
        assert {row["st"] for row in rows} == {1}
        assert all(float(row["nq"]) <= float(row["q"]) for row in rows)
        ids = [singles.next()["t"] for _ in range(4)]
        assert ids == list(range(rows[0]["f"], rows[-1]["l"] + 1))


def test_at_most_one_forced_order_a_second_and_symbol_is_shown_and_its_side_is_the_orders() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.binance_market_ws + "/stream") as link:
        link.send({"method": "SUBSCRIBE", "params": ["btcusdt@forceOrder"], "id": 1})
        assert link.next() == {"result": None, "id": 1}
        with market.together():
            market.liquidate(BINANCE, PositionSide.LONG, 59_000.0, 59_300.123, 0.5)
            market.liquidate(BINANCE, PositionSide.SHORT, 61_000.0, 60_700.0, 4.0)
            market.liquidate(BINANCE, PositionSide.LONG, 59_000.0, 59_300.0, 1.0)
        shown = link.next()["data"]["o"]
        assert (shown["s"], shown["S"], shown["q"], shown["p"]) == ("BTCUSDT", "BUY", "4.000", "61000.00")
        assert float(shown["ap"]) == 60_700.0
        assert (shown["o"], shown["f"], shown["st"]) == ("LIMIT", "IOC", 1)
        market.liquidate(BINANCE, PositionSide.LONG, 59_000.0, 59_300.0, 0.7)
        later = link.next()["data"]
        assert (later["o"]["S"], later["o"]["q"]) == ("SELL", "0.700"), "the two smaller ones are lost for ever"


def test_forced_orders_are_sometimes_partly_filled_and_foreign_contracts_are_among_them() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    feed = BinanceFeed(listings_of(configuration.parse({}), BINANCE), Faults(), seed=1)
    states: set[str] = set()
    kinds: set[int] = set()
    names: set[str] = set()

    def liquidate() -> None:
        market.liquidate(BINANCE, PositionSide.LONG, 59_000.0, 59_300.0, 1.0)

    for message in steps(feed, market, 1000, 1500, liquidate):
        if message.topic == "!forceOrder@arr":
            order = json.loads(message.payload)["o"]
            states.add(order["X"])
            kinds.add(order["st"])
            names.add(order["s"])
            assert float(order["l"]) <= float(order["z"]) <= float(order["q"])
            assert (order["X"] == "FILLED") == (order["z"] == order["q"])
    assert states == {"FILLED", "PARTIALLY_FILLED"}
    assert kinds == {1, 2}
    assert {"BTCUSDT", "BTCUSD_PERP", "币安人生USDT"} <= names


def test_the_mark_array_mixes_in_coin_margined_rows_and_rows_without_funding() -> None:
    with venue_servers() as venues, client(venues.binance_market_ws + "/ws/!markPrice@arr@1s") as link:
        crowd, shares = link.next(), link.next()
        assert isinstance(crowd, list)
        rows = {row["s"]: row for row in crowd}
        assert rows["BTCUSDT"]["st"] == 1
        assert rows["BTCUSD_PERP"]["st"] == 2
        assert rows["BTCUSD_PERP"]["T"] == 0
        assert rows["BTCUSDT"]["T"] > rows["BTCUSDT"]["E"]
        assert [row["s"] for row in shares] == ["QQQUSDT"]


def test_open_interest_is_refreshed_every_few_seconds_only_and_can_be_stale_or_fail() -> None:
    market = ScriptedMarket("BTC", 60_000.0, open_interest_base=1234.5678)
    unlimited = VenueRules(binance=BinanceRules(weight_per_minute=10**9))
    with venue_servers(market, rules=unlimited) as venues:
        path = "/fapi/v1/openInterest?symbol=BTCUSDT"
        first = get(venues, path).json()
        assert first["openInterest"] == "1234.568"
        market.open_interest_base[BINANCE] = 2000.0
        end = time.monotonic() + DEADLINE_S
        while (now := get(venues, path).json())["openInterest"] == first["openInterest"]:
            assert now["time"] == first["time"]
            assert time.monotonic() < end
        assert now["openInterest"] == "2000.000"
        assert now["time"] - first["time"] <= 3100
        venues.fault(BINANCE, {"fault": "open_interest", "state": "failing"})
        failed = get(venues, path)
        assert (failed.status_code, failed.json()["code"]) == (503, -1008)


def test_rest_counts_weight_refuses_with_429_and_bans_with_418() -> None:
    rules = VenueRules(binance=BinanceRules(weight_per_minute=30, minute_s=1e9, refused_before_ban=2))
    with venue_servers(rules=rules) as venues:
        answers = [get(venues, "/fapi/v1/depth?symbol=BTCUSDT&limit=500") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429, 418, 418]
        assert [answer.headers["X-MBX-USED-WEIGHT-1M"] for answer in answers[:4]] == ["10", "20", "30", "40"]
        for answer in answers[3:]:
            assert answer.json()["code"] == -1003
            assert int(answer.headers["Retry-After"]) >= 1
        assert "banned until" in answers[-1].json()["msg"]


def test_rest_errors_have_the_venues_shape() -> None:
    with venue_servers() as venues:
        bad = get(venues, "/fapi/v1/openInterest?symbol=NOSUCH")
        assert (bad.status_code, bad.json()) == (400, {"code": -1121, "msg": "Invalid symbol."})
        assert get(venues, "/fapi/v1/openInterest").json()["code"] == -1102
        assert get(venues, "/fapi/v1/nothing").status_code == 404
        assert get(venues, "/fapi/v1/depth?symbol=BTCUSDT&limit=7").json()["code"] == -1130


def test_exchange_info_lists_more_than_perpetuals_and_the_rest_of_the_endpoints_answer() -> None:
    with venue_servers() as venues:
        rows = {row["symbol"]: row for row in get(venues, "/fapi/v1/exchangeInfo").json()["symbols"]}
        assert rows["BTCUSDT"]["contractType"] == "PERPETUAL"
        assert rows["BTCUSDC"]["quoteAsset"] == "USDC"
        assert {row["contractType"] for row in rows.values()} >= {"PERPETUAL", "CURRENT_QUARTER", "TRADIFI_PERPETUAL"}
        assert "BTCUSD_PERP" not in rows
        assert abs(get(venues, "/fapi/v1/time").json()["serverTime"] - time.time() * 1000) < 60_000
        assert float(get(venues, "/fapi/v1/premiumIndex?symbol=BTCUSDT").json()["markPrice"]) == 60_000.0
        assert [row["symbol"] for row in get(venues, "/fapi/v1/premiumIndex").json()] == ["BTCUSDT"]
        assert get(venues, "/fapi/v1/fundingInfo").json()[0]["fundingIntervalHours"] == 4
        book = get(venues, "/fapi/v1/depth?symbol=BTCUSDT&limit=20").json()
        assert float(book["bids"][0][0]) < float(book["asks"][0][0])
        assert len(book["bids"]) == 20

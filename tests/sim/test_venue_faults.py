"""Everything that can be made to go wrong at a simulated venue, seen from a client."""

import json
import socket
import time
from typing import Any

import pytest
import requests
import websocket

from liqmap.domain.enums import Venue
from liqmap.sim.venues.binance_server import BinanceRules
from liqmap.sim.venues.faults import UnknownFault
from liqmap.sim.venues.running import VenueRules
from tests.sim.venue_client import DEADLINE_S, Client, client
from tests.venue_servers import ScriptedMarket, venue_servers
from tests.waiting import wait_until

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
MARKS = "/stream?streams=btcusdt@markPrice@1s/btcusdt@aggTrade"


def trades_until(link: Client, market: ScriptedMarket, wanted: Any) -> Any:
    """Print trades until a message is liked."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        market.trade(BINANCE, 60_000.0, 0.01)
        message = link.next()
        if wanted(message):
            return message
    raise AssertionError(link.seen[-3:])


@pytest.mark.parametrize(("venue", "status"), [(BINANCE, 451), (BYBIT, 403), (OKX, 503)])
def test_a_refused_connection_gets_the_venues_status_until_it_is_cleared(venue: Venue, status: int) -> None:
    with venue_servers() as venues:
        address = {BINANCE: venues.binance_market_ws + "/stream", BYBIT: venues.bybit_ws, OKX: venues.okx_ws}[venue]
        venues.fault(venue, {"fault": "refuse", "status": status})
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(address, timeout=DEADLINE_S)
        assert refused.value.status_code == status
        venues.fault(venue, {"fault": "refuse"})
        with pytest.raises((ConnectionError, websocket.WebSocketException)) as reset:
            websocket.create_connection(address, timeout=DEADLINE_S)
        assert not isinstance(reset.value, websocket.WebSocketBadStatusException)
        venues.fault(venue, {"fault": "clear"})
        with client(address):
            pass


@pytest.mark.parametrize("code", [1001, 1008, None])
def test_disconnecting_throws_every_client_out_with_that_code(code: int | None) -> None:
    with venue_servers() as venues, client(venues.bybit_ws) as first, client(venues.bybit_ws) as second:
        venues.fault(BYBIT, {"fault": "disconnect", **({} if code is None else {"code": code})})
        assert (first.close_code(), second.close_code()) == (code, code)
        with client(venues.bybit_ws) as third:
            third.send({"op": "ping"})
            assert third.next()["ret_msg"] == "pong"


def test_a_silent_topic_says_nothing_while_its_siblings_do() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.binance_market_ws + MARKS) as link:
        trades_until(link, market, lambda m: m["stream"] == "btcusdt@aggTrade")
        venues.fault(BINANCE, {"fault": "silent", "topic": "*@aggTrade"})
        market.trade(BINANCE, 60_000.0, 0.5)
        link.until(lambda m: "markPrice" in m["stream"])
        link.until(lambda m: "markPrice" in m["stream"])
        assert "0.500" not in [m["data"].get("q") for m in link.seen]
        venues.fault(BINANCE, {"fault": "silent", "topic": "*@aggTrade", "on": False})
        assert trades_until(link, market, lambda m: m["stream"] == "btcusdt@aggTrade")


def test_a_half_open_connection_stays_open_and_answers_nothing_not_even_pings_or_a_close() -> None:
    rules = VenueRules(binance=BinanceRules(ping_every_s=0.15, timers_every_s=0.02))
    with venue_servers(rules=rules) as venues, client(venues.binance_market_ws + MARKS) as frozen:
        frozen.next()
        venues.fault(BINANCE, {"fault": "half_open"})
        frozen.socket.settimeout(0.2)
        with pytest.raises(websocket.WebSocketTimeoutException):
            while True:
                frozen.socket.recv_data(control_frame=True)
        frozen.socket.settimeout(1.5)
        frozen.socket.ping(b"x")
        frozen.send({"method": "LIST_SUBSCRIPTIONS", "id": 1})
        frozen.socket.send_close()
        with pytest.raises(websocket.WebSocketTimeoutException):
            frozen.socket.recv_data(control_frame=True)
        venues.fault(BINANCE, {"fault": "clear"})
        with client(venues.binance_market_ws + MARKS) as fresh:
            assert fresh.next()["stream"]
        assert venues.state(BINANCE)["connections"][0]["half_open"] is True


def test_a_stall_holds_everything_back_and_ends_in_a_burst() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.binance_market_ws + MARKS) as link:
        venues.fault(BINANCE, {"fault": "stall"})
        before = venues.state(BINANCE)["connections"][0]["frames_sent"]
        for _ in range(3):
            market.trade(BINANCE, 60_000.0, 0.25)
            while market.untold(BINANCE):
                time.sleep(0.005)
        venues.call(lambda: None)
        assert venues.state(BINANCE)["connections"][0]["frames_sent"] == before
        venues.fault(BINANCE, {"fault": "stall", "on": False})
        for _ in range(3):
            assert link.until(lambda m: m["stream"] == "btcusdt@aggTrade")["data"]["q"] == "0.250"


def test_dropped_messages_leave_a_gap_in_the_sequence() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.binance_market_ws + "/ws/btcusdt@aggTrade") as link:
        first = trades_until(link, market, lambda m: True)["a"]
        venues.fault(BINANCE, {"fault": "gap", "topic": "btcusdt@aggTrade", "count": 2})
        for price in (60_001.0, 60_002.0, 60_003.0):
            market.trade(BINANCE, price, 0.01)
        assert link.next()["a"] == first + 3
        wait_until(lambda: not venues.server(BINANCE).faults.on, "a fault that is spent to end by itself")


@pytest.mark.parametrize("kind", ["truncated", "wrong_types", "bad_utf8", "not_json", "garbage"])
def test_a_malformed_frame_arrives_and_the_connection_goes_on(kind: str) -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.binance_market_ws + "/ws/btcusdt@aggTrade") as link:
        trades_until(link, market, lambda m: True)
        done = venues.fault(BINANCE, {"fault": "malformed", "kind": kind, "topic": "btcusdt@aggTrade"})
        assert done["reached"] == 1
        link.socket.frame_buffer.skip_utf8_validation = True
        frame = link.socket.recv_frame().data  # type: ignore[no-untyped-call]
        if kind == "wrong_types":
            assert b"not a number" in frame
        else:
            with pytest.raises(ValueError):
                json.loads(frame)
        assert trades_until(link, market, lambda m: True)["e"] == "aggTrade"


def test_an_oversized_frame_and_an_injected_text_reach_those_who_subscribed() -> None:
    with venue_servers() as venues, client(venues.okx_ws) as link, client(venues.okx_ws) as other:
        argument = {"channel": "trades", "instId": "BTC-USDT-SWAP"}
        link.send({"op": "subscribe", "args": [argument]})
        link.next()
        reached = venues.fault(OKX, {"fault": "oversized", "bytes": 5_000_000, "topic": "trades/BTC-USDT-SWAP"})
        assert reached["reached"] == 1
        assert len(link.socket.recv()) == 5_000_000
        venues.fault(OKX, {"fault": "inject", "text": '{"hello": "all"}'})
        assert link.next() == {"hello": "all"}
        assert other.next() == {"hello": "all"}


@pytest.mark.parametrize(
    ("venue", "kind", "status", "content"),
    [
        (BINANCE, "429", 429, '"code":-1003'),
        (BINANCE, "418", 418, "banned until"),
        (BINANCE, "451", 451, "restricted location"),
        (BINANCE, "403_waf", 403, "<html>"),
        (BINANCE, "503", 503, '"code":-1008'),
        (BYBIT, "403_country", 403, "CloudFront"),
        (BYBIT, "403_too_frequent", 403, "access too frequent"),
        (BYBIT, "403_json", 403, '"retCode":10024'),
        (BYBIT, "10006", 200, '"retCode":10006'),
        (OKX, "429", 429, '"code":"50011"'),
        (OKX, "50011", 200, '"code":"50011"'),
        (OKX, "403_country", 403, '"code":"50051"'),
        (OKX, "403_waf", 403, "Just a moment"),
    ],
)
def test_rest_refusals_have_the_venues_status_and_body(venue: Venue, kind: str, status: int, content: str) -> None:
    paths = {BINANCE: "/fapi/v1/time", BYBIT: "/v5/market/time", OKX: "/api/v5/public/time"}
    with venue_servers() as venues:
        address = venues.rest(venue) + paths[venue]
        venues.fault(venue, {"fault": "rest", "path": paths[venue], "kind": kind, "times": 1})
        refused = requests.get(address, timeout=DEADLINE_S)
        assert refused.status_code == status
        assert content in refused.text
        assert ("json" in refused.headers["Content-Type"]) == (
            content.startswith('"') or kind in ("418", "451", "403_too_frequent")
        )
        if status in (418, 429) and venue is BINANCE:
            assert int(refused.headers["Retry-After"]) > 0
        assert requests.get(address, timeout=DEADLINE_S).status_code == 200
        wait_until(lambda: not venues.server(venue).faults.on, "a fault that is spent to end by itself")


def test_stale_open_interest_keeps_its_value_and_its_time() -> None:
    market = ScriptedMarket("BTC", 60_000.0, open_interest_base=100.0)
    with venue_servers(market) as venues:
        address = venues.rest(BINANCE) + "/fapi/v1/openInterest?symbol=BTCUSDT"
        end = time.monotonic() + DEADLINE_S
        while requests.get(address, timeout=DEADLINE_S).status_code != 200:
            assert time.monotonic() < end
        venues.fault(BINANCE, {"fault": "open_interest", "state": "stale"})
        stale = requests.get(address, timeout=DEADLINE_S).json()
        market.open_interest_base[BINANCE] = 900.0
        with client(venues.binance_market_ws + "/ws/btcusdt@markPrice") as three_seconds:
            three_seconds.next()
            three_seconds.next()
        assert requests.get(address, timeout=DEADLINE_S).json() == stale


def test_faults_are_switched_over_http_one_json_line_each() -> None:
    with venue_servers() as venues:
        address = venues.rest(OKX) + "/_sim/fault"
        lines = '{"fault": "silent", "topic": "trades/*"}\n{"fault": "nonsense"}\nnot json\n{"fault": "silent"}\n'
        reply = requests.post(address, data=lines, timeout=DEADLINE_S)
        answers = [json.loads(line) for line in reply.text.splitlines()]
        assert reply.status_code == 400
        assert answers[0] == {"done": "silent", "on": "silent trades/*"}
        assert [sorted(answer) for answer in answers[1:]] == [["error"]] * 3
        assert requests.post(address, data='{"fault": "clear"}', timeout=DEADLINE_S).status_code == 200
        state = requests.get(venues.rest(OKX) + "/_sim/state", timeout=DEADLINE_S).json()
        assert (state["venue"], state["connections"]) == ("okx", [])


def test_a_command_that_says_nothing_possible_is_refused() -> None:
    with venue_servers() as venues:
        for command in [
            {"fault": "open_interest", "state": "wrong"},
            {"fault": "malformed", "kind": "nice"},
            {"fault": "inject"},
            {"fault": "rest", "kind": "999"},
            {},
        ]:
            with pytest.raises(UnknownFault):
                venues.fault(BINANCE, command)


def test_a_client_that_does_not_read_is_cut_off_and_costs_the_others_nothing() -> None:
    rules = VenueRules(binance=BinanceRules(max_buffer_bytes=20_000, slow_after_s=0.3, timers_every_s=0.02))
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market, rules=rules) as venues, client(venues.binance_market_ws + MARKS) as reading:
        slow = websocket.WebSocket(sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
        slow.connect(venues.binance_market_ws + "/ws/!markPrice@arr@1s", timeout=DEADLINE_S)  # type: ignore[no-untyped-call]
        try:
            text = "x" * 100_000
            while len(venues.state(BINANCE)["connections"]) == 2:
                venues.fault(BINANCE, {"fault": "inject", "text": text, "topic": "!markPrice@arr@1s"})
            assert trades_until(reading, market, lambda m: m["stream"] == "btcusdt@aggTrade")
        finally:
            slow.shutdown()  # type: ignore[no-untyped-call]

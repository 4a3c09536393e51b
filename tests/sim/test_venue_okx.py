"""The OKX server is as strict and as nasty as docs/exchanges.md says the venue is."""

import json
from typing import Any

import pytest
import requests

from liqmap import config as configuration
from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.listings import listings_of
from liqmap.sim.venues.okx_feed import OkxFeed
from liqmap.sim.venues.okx_server import OkxRules
from liqmap.sim.venues.running import VenueRules
from tests.sim.venue_client import DEADLINE_S, START_MS, Client, client, steps
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

OKX = Venue.OKX
SWAP = "BTC-USDT-SWAP"
LIQUIDATIONS = {"channel": "liquidation-orders", "instType": "SWAP"}


def get(venues: RunningVenues, path: str) -> Any:
    return requests.get(venues.rest(OKX) + path, timeout=DEADLINE_S).json()


def subscribe(link: Client, *arguments: dict[str, str]) -> None:
    link.send({"op": "subscribe", "args": list(arguments)})
    left = list(arguments)
    while left:
        ack = link.until(lambda m: m != "pong" and "event" in m)
        assert ack["connId"]
        left.remove(ack["arg"])


def pushed(link: Client, channel: str) -> Any:
    return link.until(lambda m: m != "pong" and "data" in m and m["arg"]["channel"] == channel)["data"]


def test_ping_and_pong_are_bare_text() -> None:
    with venue_servers() as venues, client(venues.okx_ws) as link:
        link.send("ping")
        assert link.next() == "pong"
        link.send({"op": "ping"})
        assert link.next()["code"] == "60012"


@pytest.mark.parametrize(
    "argument",
    [
        {"channel": "liquidation-orders", "instId": SWAP},
        {"channel": "liquidation-orders", "instType": "SWAP", "instId": SWAP},
        {"channel": "nonsense", "instId": SWAP},
        {"channel": "trades", "instId": "NO-SUCH-SWAP"},
        {"channel": "trades"},
    ],
)
def test_what_does_not_exist_is_error_60018_and_the_other_arguments_stand(argument: dict[str, str]) -> None:
    with venue_servers() as venues, client(venues.okx_ws) as link:
        good = {"channel": "trades", "instId": SWAP}
        link.send({"id": "7", "op": "subscribe", "args": [argument, good]})
        error, ack = link.next(), link.next()
        assert (error["event"], error["code"], error["id"]) == ("error", "60018", "7")
        assert error["msg"].startswith(f"Wrong URL or channel:{argument['channel']}")
        assert (ack["event"], ack["arg"]) == ("subscribe", good)
        assert error["connId"] == ack["connId"]


def test_the_business_socket_has_none_of_the_public_channels() -> None:
    with venue_servers() as venues, client(venues.okx_ws.replace("public", "business")) as link:
        link.send({"op": "subscribe", "args": [{"channel": "trades", "instId": SWAP}]})
        assert link.next()["code"] == "60018"


def test_who_subscribes_nothing_and_who_is_pushed_nothing_is_closed_with_4004() -> None:
    rules = VenueRules(okx=OkxRules(idle_s=0.6, timers_every_s=0.02))
    with venue_servers(rules=rules) as venues:
        with client(venues.okx_ws) as idle:
            assert idle.close_code() == 4004
        with client(venues.okx_ws) as quiet, client(venues.okx_ws) as pinging:
            subscribe(pinging, {"channel": "trades", "instId": SWAP})
            subscribe(quiet, {"channel": "trades", "instId": SWAP})
            while len(venues.state(OKX)["connections"]) == 2:
                pinging.send("ping")
                assert pinging.next() == "pong"
            assert quiet.close_code() == 4004


def test_an_upgrade_is_announced_before_the_server_goes_away() -> None:
    with venue_servers() as venues, client(venues.okx_ws) as link:
        subscribe(link, {"channel": "trades", "instId": SWAP})
        venues.fault(OKX, {"fault": "restart", "after_s": 0.2})
        notice = link.until(lambda m: m.get("event") == "notice")
        assert (notice["code"], bool(notice["connId"])) == ("64008", True)
        assert link.close_code() == 1001


def test_too_many_operations_in_an_hour_are_refused() -> None:
    with venue_servers(rules=VenueRules(okx=OkxRules(operations_per_hour=1))) as venues, client(venues.okx_ws) as link:
        subscribe(link, {"channel": "trades", "instId": SWAP})
        link.send({"op": "unsubscribe", "args": [{"channel": "trades", "instId": SWAP}]})
        assert link.next()["code"] == "60014"


def test_trades_are_contracts_aggregated_by_price_and_side() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.okx_ws) as link:
        subscribe(link, {"channel": "trades", "instId": SWAP})
        with market.together():
            market.trade(OKX, 60_000.0, 0.1, TakerSide.BUY)
            market.trade(OKX, 60_000.0, 0.0251, TakerSide.BUY)
            market.trade(OKX, 60_000.1, 0.05, TakerSide.SELL)
        rows = pushed(link, "trades") + pushed(link, "trades")
        assert [(row["px"], row["sz"], row["side"], row["count"]) for row in rows] == [
            ("60000", "12.51", "buy", "2"),
            ("60000.1", "5", "sell", "1"),
        ]
        assert int(rows[1]["tradeId"]) == int(rows[0]["tradeId"]) + 1


def test_a_subscriber_of_liquidations_first_gets_old_rows_and_they_are_in_no_order() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues:
        with client(venues.okx_ws) as first:
            subscribe(first, LIQUIDATIONS)
            for qty in (0.01, 0.02, 0.03, 0.04):
                market.liquidate(OKX, PositionSide.LONG, 59_000.0, 59_300.0, qty)
                first.until(lambda m: SWAP in [row["instId"] for row in m["data"]])
        with client(venues.okx_ws) as second:
            subscribe(second, LIQUIDATIONS)
            rows = pushed(second, "liquidation-orders")
            mine = [detail for row in rows if row["instId"] == SWAP for detail in row["details"]]
            assert sorted(detail["sz"] for detail in mine) == ["1", "2", "3", "4"]
            assert {(d["side"], d["posSide"], d["bkPx"]) for d in mine} == {("sell", "long", "59000")}


def test_replays_are_shuffled_and_foreign_and_inverse_contracts_are_in_the_same_channel() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    feed = OkxFeed(listings_of(configuration.parse({}), OKX), Faults(), seed=1)
    names: dict[str, list[dict[str, str]]] = {}
    for message in steps(feed, market, 1000, 400, lambda: None):
        if message.topic == "liquidation-orders/SWAP":
            for row in json.loads(message.payload)["data"]:
                names.setdefault(row["instId"], []).extend(row["details"])
    assert {"BTC-USD-SWAP", "BTC-USDC-SWAP", "DOGE-USDT-SWAP"} <= names.keys()
    assert all(abs(float(detail["bkPx"]) - 60_000) < 1 for detail in names["BTC-USD-SWAP"])
    sides = {(d["side"], d["posSide"]) for details in names.values() for d in details}
    assert sides == {("sell", "long"), ("buy", "short"), ("sell", "net"), ("buy", "net")}
    (replay,) = feed.on_subscribe("liquidation-orders/SWAP", START_MS + 400_000)
    times = [int(d["ts"]) for row in json.loads(replay.payload)["data"] for d in row["details"]]
    assert len(times) >= 10
    assert times != sorted(times)


def test_states_are_sent_on_subscription_and_open_interest_is_contracts_and_base() -> None:
    market = ScriptedMarket("BTC", 60_000.0, open_interest_base=500.0)
    with venue_servers(market) as venues, client(venues.okx_ws) as link:
        swap_channels = ("mark-price", "open-interest", "funding-rate", "tickers")
        arguments = [{"channel": channel, "instId": SWAP} for channel in swap_channels]
        link.send({"op": "subscribe", "args": [*arguments, {"channel": "index-tickers", "instId": "BTC-USDT"}]})
        found = {channel: pushed(link, channel)[0] for channel in (*swap_channels, "index-tickers")}
        assert found["mark-price"]["markPx"] == "60000"
        assert (found["open-interest"]["oi"], found["open-interest"]["oiCcy"]) == ("50000", "500")
        assert float(found["open-interest"]["oiUsd"]) == 500 * 60_000
        assert found["funding-rate"]["nextFundingRate"] == ""
        hours = int(found["funding-rate"]["nextFundingTime"]) - int(found["funding-rate"]["fundingTime"])
        assert hours == 8 * 3_600_000
        assert found["index-tickers"]["instId"] == "BTC-USDT"
        market.open_interest_base[OKX] = 400.0
        assert pushed(link, "open-interest")[0]["oi"] == "40000"


def test_a_book_snapshot_has_a_retired_checksum() -> None:
    with venue_servers() as venues, client(venues.okx_ws) as link:
        link.send({"op": "subscribe", "args": [{"channel": "books", "instId": SWAP}]})
        book = link.until(lambda m: m.get("action") == "snapshot")["data"][0]
        assert (book["checksum"], book["prevSeqId"]) == (0, -1)
        assert float(book["bids"][0][0]) < float(book["asks"][0][0])


def test_rest_answers_carry_their_code_as_a_string() -> None:
    with venue_servers() as venues:
        rows = {row["instId"]: row for row in get(venues, "/api/v5/public/instruments?instType=SWAP")["data"]}
        assert (rows[SWAP]["ctVal"], rows[SWAP]["ctValCcy"], rows[SWAP]["ctType"]) == ("0.01", "BTC", "linear")
        assert (rows["BTC-USD-SWAP"]["ctVal"], rows["BTC-USD-SWAP"]["ctType"]) == ("100", "inverse")
        assert rows["BTC-USDC-SWAP"]["settleCcy"] == "USDC"
        interest = get(venues, f"/api/v5/public/open-interest?instType=SWAP&instId={SWAP}")
        assert (interest["code"], interest["data"][0]["oi"]) == ("0", "100000")
        mark = get(venues, f"/api/v5/public/mark-price?instType=SWAP&instId={SWAP}")["data"]
        assert mark[0]["markPx"] == "60000"
        assert get(venues, "/api/v5/public/time")["data"][0]["ts"].isdigit()
        unknown = get(venues, "/api/v5/public/instruments?instType=SWAP&instId=NO-SUCH-SWAP")
        assert (unknown["code"], unknown["data"]) == ("51001", [])
        assert get(venues, "/api/v5/public/open-interest")["code"] == "50014"


def test_each_endpoint_has_its_budget() -> None:
    with venue_servers(rules=VenueRules(okx=OkxRules(requests_per_2_s=3))) as venues:
        address = venues.rest(OKX) + "/api/v5/public/time"
        replies = [requests.get(address, timeout=DEADLINE_S) for _ in range(4)]
        assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
        assert replies[-1].json()["code"] == "50011"
        assert requests.get(venues.rest(OKX) + "/api/v5/public/mark-price", timeout=DEADLINE_S).status_code == 200

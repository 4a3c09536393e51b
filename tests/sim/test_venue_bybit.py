"""The Bybit server is as strict and as nasty as docs/exchanges.md says the venue is."""

import json
from collections import Counter
from typing import Any

import pytest
import requests

from liqmap import config as configuration
from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.venues.bybit_feed import BybitFeed
from liqmap.sim.venues.bybit_server import BybitRules
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.listings import listings_of
from liqmap.sim.venues.running import VenueRules
from tests.sim.venue_client import DEADLINE_S, Client, client, steps
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

BYBIT = Venue.BYBIT


def get(venues: RunningVenues, path: str) -> Any:
    reply = requests.get(venues.rest(BYBIT) + path, timeout=DEADLINE_S)
    assert reply.status_code == 200, "refusals come with HTTP 200"
    return reply.json()


def subscribe(link: Client, *topics: str) -> Any:
    link.send({"op": "subscribe", "req_id": "r", "args": list(topics)})
    return link.until(lambda m: m.get("op") == "subscribe")


@pytest.mark.parametrize(
    ("topic", "words"),
    [("liquidation.BTCUSDT", "handler not found"), ("orderbook.51.BTCUSDT", "handler not found"), ("tickers.X", "Inv")],
)
def test_a_bad_topic_fails_by_name_and_takes_its_batch_with_it(topic: str, words: str) -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.bybit_ws) as link:
        refused = subscribe(link, "publicTrade.BTCUSDT", topic)
        assert refused["success"] is False
        assert topic in refused["ret_msg"]
        assert words in refused["ret_msg"]
        assert refused["req_id"] == "r"
        assert venues.state(BYBIT)["connections"][0]["topics"] == []
        assert subscribe(link, "publicTrade.BTCUSDT")["success"] is True
        again = subscribe(link, "publicTrade.BTCUSDT")
        assert (again["success"], again["ret_msg"]) == (False, "error:already subscribed,topic:publicTrade.BTCUSDT")


def test_data_may_come_before_the_acknowledgement() -> None:
    with venue_servers() as venues, client(venues.bybit_ws) as link:
        subscribe(link, "tickers.BTCUSDT")
        assert link.seen[0]["type"] == "snapshot"
        assert link.seen[-1]["op"] == "subscribe"


def test_ping_is_answered_with_op_ping_and_the_word_pong() -> None:
    with venue_servers() as venues, client(venues.bybit_ws) as link:
        link.send({"op": "ping"})
        answer = link.next()
        assert (answer["op"], answer["ret_msg"], answer["success"]) == ("ping", "pong", True)
        link.send("ping")
        assert link.next()["success"] is False


def test_a_silent_client_is_cut_off_and_a_pinging_one_is_not() -> None:
    rules = VenueRules(bybit=BybitRules(silence_s=0.6, timers_every_s=0.02))
    with venue_servers(rules=rules) as venues, client(venues.bybit_ws) as pinging, client(venues.bybit_ws) as silent:
        while len(venues.state(BYBIT)["connections"]) == 2:
            pinging.send({"op": "ping"})
            assert pinging.next()["ret_msg"] == "pong"
        assert silent.close_code() is None
        pinging.send({"op": "ping"})
        assert pinging.next()["ret_msg"] == "pong"


def test_too_many_characters_of_topics_are_refused() -> None:
    with (
        venue_servers(rules=VenueRules(bybit=BybitRules(args_characters=30))) as venues,
        client(venues.bybit_ws) as link,
    ):
        assert subscribe(link, "publicTrade.BTCUSDT")["success"] is True
        assert "args size" in subscribe(link, "allLiquidation.BTCUSDT")["ret_msg"]


def test_unsubscribing_ends_a_topic() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.bybit_ws) as link:
        subscribe(link, "publicTrade.BTCUSDT", "publicTrade.ETHUSDT")
        link.send({"op": "unsubscribe", "args": ["publicTrade.BTCUSDT"]})
        assert link.until(lambda m: m.get("op") == "unsubscribe")["success"] is True
        assert venues.state(BYBIT)["connections"][0]["topics"] == ["publicTrade.ETHUSDT"]


def test_trades_are_batched_with_uuids_and_block_and_retail_rows_among_them() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    feed = BybitFeed(listings_of(configuration.parse({}), BYBIT), Faults(), seed=1)
    flags: Counter[str] = Counter()
    identities: set[str] = set()
    taken = 0.0

    def trade() -> None:
        market.trade(BYBIT, 60_000.0, 0.010, TakerSide.BUY)
        market.trade(BYBIT, 60_000.1, 0.020, TakerSide.SELL)

    for message in steps(feed, market, 100, 1000, trade):
        if message.topic != "publicTrade.BTCUSDT":
            continue
        rows = json.loads(message.payload)["data"]
        identities |= {row["i"] for row in rows}
        assert [row["S"] for row in rows[:2]] == ["Buy", "Sell"]
        taken += sum(float(row["v"]) for row in rows if not row["BT"])
        flags.update(("BT",) * sum(row["BT"] for row in rows) + ("RPI",) * sum(row["RPI"] for row in rows))
    assert flags["BT"] > 0
    assert flags["RPI"] > 0
    assert len(identities) == 2000 + flags["BT"]
    assert taken == pytest.approx(30.0), "what is no block trade is what the market traded"


def test_liquidations_carry_the_position_side_and_equal_rows_are_real() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    feed = BybitFeed(listings_of(configuration.parse({}), BYBIT), Faults(), seed=1)
    total, equal = 0.0, 0

    def liquidate() -> None:
        market.liquidate(BYBIT, PositionSide.LONG, 59_000.0, 59_300.0, 1.0)
        market.liquidate(BYBIT, PositionSide.SHORT, 61_000.0, 60_700.0, 0.5)

    for message in steps(feed, market, 250, 401, liquidate):
        if message.topic != "allLiquidation.BTCUSDT":
            continue
        rows = json.loads(message.payload)["data"]
        assert {(row["S"], row["p"]) for row in rows} == {("Buy", "59000.00"), ("Sell", "61000.00")}
        total += sum(float(row["v"]) for row in rows)
        equal += len(rows) - len({json.dumps(row) for row in rows})
    assert equal > 0
    assert total == pytest.approx(401 * 1.5), "halves of a position add up to it"


def test_tickers_are_a_snapshot_then_deltas_with_only_what_changed() -> None:
    market = ScriptedMarket("BTC", 60_000.0, open_interest_base=500.0)
    with venue_servers(market) as venues, client(venues.bybit_ws) as link:
        subscribe(link, "tickers.BTCUSDT")
        first = next(message for message in link.seen if message.get("type") == "snapshot")["data"]
        assert float(first["openInterest"]) == 2 * float(first["singleOpenInterest"]) == 1000.0
        assert first["preOpenPrice"] == ""
        market.mark_price = 60_123.4
        delta = link.until(lambda m: m.get("type") == "delta")["data"]
        assert delta["markPrice"] == "60123.40"
        assert "fundingRate" not in delta
        assert "lastPrice" not in delta
        orders = set()
        for step in range(20):
            market.mark_price = 60_000.0 + step
            orders.add(tuple(link.until(lambda m: m.get("type") == "delta")))
        assert len(orders) > 1, "the order of keys varies"


def test_while_open_interest_fails_tickers_leave_it_out() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, client(venues.bybit_ws) as link:
        venues.fault(BYBIT, {"fault": "open_interest", "state": "failing"})
        subscribe(link, "tickers.BTCUSDT")
        market.mark_price = 60_001.0
        market.open_interest_base[BYBIT] = 7.0
        delta = link.until(lambda m: m.get("type") == "delta" and "markPrice" in m["data"])["data"]
        assert not [key for key in delta if "penInterest" in key]
        assert get(venues, "/v5/market/tickers?category=linear")["retCode"] == 10016


def test_a_book_begins_with_a_snapshot() -> None:
    with venue_servers() as venues, client(venues.bybit_ws) as link:
        subscribe(link, "orderbook.50.BTCUSDT")
        book = link.seen[0]
        assert book["type"] == "snapshot"
        assert float(book["data"]["b"][0][0]) < float(book["data"]["a"][0][0])


def test_instruments_come_in_pages_and_hold_more_than_usdt_perpetuals() -> None:
    with venue_servers() as venues:
        path = "/v5/market/instruments-info?category=linear&limit=3"
        rows, cursor = [], ""
        while True:
            page = get(venues, path + (f"&cursor={cursor}" if cursor else ""))["result"]
            rows += page["list"]
            cursor = page["nextPageCursor"]
            assert len(page["list"]) <= 3
            if not cursor:
                break
        names = [row["symbol"] for row in rows]
        assert len(set(names)) == len(names) >= 7
        assert {"LinearPerpetual", "LinearFutures"} == {row["contractType"] for row in rows}
        assert next(row for row in rows if row["symbol"] == "BTCPERP")["settleCoin"] == "USDC"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v5/market/tickers", 10001),
        ("/v5/market/tickers?category=linear&symbol=NOSUCH", 10001),
        ("/v5/market/instruments-info?category=linear&symbol=NOSUCH", 10001),
        ("/v5/market/open-interest?category=linear&symbol=BTCUSDT&intervalTime=7min", 10001),
        ("/v5/market/time", 0),
        ("/v5/market/open-interest?category=linear&symbol=BTCUSDT&intervalTime=5min", 0),
    ],
)
def test_errors_are_a_code_inside_an_answer_of_status_200(path: str, code: int) -> None:
    with venue_servers() as venues:
        assert get(venues, path)["retCode"] == code


def test_too_many_requests_are_a_403_that_is_not_the_one_of_the_country() -> None:
    rules = VenueRules(bybit=BybitRules(requests_per_5_s=5))
    with venue_servers(rules=rules) as venues:
        address = venues.rest(BYBIT) + "/v5/market/time"
        replies = [requests.get(address, timeout=DEADLINE_S) for _ in range(7)]
        assert replies[-1].status_code == 403
        assert replies[-1].json()["retMsg"] == "access too frequent"
        venues.fault(BYBIT, {"fault": "rest", "path": "/v5/market/tickers", "kind": "403_country"})
        country = requests.get(venues.rest(BYBIT) + "/v5/market/tickers?category=linear", timeout=DEADLINE_S)
        assert country.status_code == 403
        assert country.headers["Content-Type"].startswith("text/html")
        assert "block access from your country" in country.text

"""Order books as the three simulated venues tell them, followed by clients that know nothing but the venues' rules."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from liqmap.domain.enums import TakerSide, Venue
from tests.sim.venue_client import DEADLINE_S, client
from tests.sim.venue_desk import ASKS, BIDS, Desk
from tests.venue_servers import ScriptedMarket, default_book, venue_servers

SWAP = "BTC-USDT-SWAP"
Book = dict[TakerSide, dict[str, str]]


def applied(book: Book, bids: list[list[str]], asks: list[list[str]]) -> None:
    for side, rows in ((BIDS, bids), (ASKS, asks)):
        for price, size, *_ in rows:
            if float(size):
                book[side][price] = size
            else:
                book[side].pop(price, None)


def numbers(book: Book, levels: int, contract_base: float = 1.0) -> dict[TakerSide, list[tuple[float, float]]]:
    told = {}
    for side, rows in book.items():
        ranked = sorted(
            ((float(p), round(float(q) * contract_base, 12)) for p, q in rows.items()), reverse=side is BIDS
        )
        told[side] = ranked[:levels]
    return told


def rows_of(book: dict[str, Any], *names: str) -> tuple[list[list[str]], list[list[str]]]:
    bids, asks = names
    return book[bids], book[asks]


# --- Binance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["@depth@0ms", "@depth@100ms", "@depth", "@depth@500ms"])
def test_binance_diffs_bridge_a_snapshot_and_carry_the_book_on(suffix: str) -> None:
    desk = Desk(Venue.BINANCE)
    topic = f"btcusdt{suffix}"
    desk.step(20)
    buffered = desk.told[topic]
    snapshot = desk.get("/fapi/v1/depth", symbol="BTCUSDT", limit="1000")
    desk.step(60)
    events = [event for event in buffered + desk.told[topic] if event["u"] >= snapshot["lastUpdateId"]]
    assert events[0]["U"] <= snapshot["lastUpdateId"] <= events[0]["u"] or events[0]["pu"] == snapshot["lastUpdateId"]
    assert all(later["pu"] == before["u"] for before, later in itertools.pairwise(events))
    assert any(later["U"] > before["u"] + 1 for before, later in itertools.pairwise(events)), "ids are not contiguous"
    book: Book = {BIDS: {}, ASKS: {}}
    applied(book, *rows_of(snapshot, "bids", "asks"))
    for event in events:
        assert (event["e"], event["s"], event["ps"], event["st"]) == ("depthUpdate", "BTCUSDT", "BTCUSDT", 1)
        assert event["T"] < event["E"]
        applied(book, *rows_of(event, "b", "a"))
    while topic not in desk.told or desk.told[topic][-1]["u"] != desk.feed.books.sequences("BTCUSDT")["rest"]:
        desk.step()
        for event in desk.told.get(topic, []):
            applied(book, *rows_of(event, "b", "a"))
    assert numbers(book, 500) == desk.truth("BTCUSDT", 500)


def test_binance_snapshots_are_cut_to_their_limit_and_diffs_tell_of_levels_beyond() -> None:
    desk = Desk(Venue.BINANCE)
    for limit in (5, 10, 20, 50, 100, 500, 1000):
        snapshot = desk.get("/fapi/v1/depth", symbol="BTCUSDT", limit=str(limit))
        assert numbers({BIDS: dict(snapshot["bids"]), ASKS: dict(snapshot["asks"])}, 2000) == desk.truth(
            "BTCUSDT", limit
        )
    lowest = float(snapshot["bids"][-1][0])
    desk.step(300)
    told = [float(price) for event in desk.told["btcusdt@depth@100ms"] for price, _ in event["b"]]
    assert len(desk.feed.by_name["BTCUSDT"].book.bids) > 1000
    assert min(told) < lowest


def test_binance_partial_books_and_best_prices_are_whole_each_time() -> None:
    desk = Desk(Venue.BINANCE)
    desk.step(11)
    for levels in (5, 10, 20):
        for ending in ("", "@100ms", "@500ms"):
            event = desk.told[f"btcusdt@depth{levels}{ending}"][-1]
            assert (len(event["b"]), len(event["a"])) == (levels, levels)
    told = {BIDS: dict(event["b"]), ASKS: dict(event["a"])}
    fresh = desk.told["btcusdt@depth20@100ms"][-1]
    assert fresh["u"] == desk.feed.books.sequences("BTCUSDT")["rest"]
    told = {BIDS: dict(fresh["b"]), ASKS: dict(fresh["a"])}
    assert numbers(told, 20) == desk.truth("BTCUSDT", 20)
    best = desk.told["btcusdt@bookTicker"][-1]
    truth = desk.truth("BTCUSDT", 1)
    assert [(float(best["b"]), float(best["B"])), (float(best["a"]), float(best["A"]))] == [
        truth[BIDS][0],
        truth[ASKS][0],
    ]


def test_binance_books_are_on_the_public_route_only() -> None:
    world = ScriptedMarket("BTC", 60_000.0)
    with (
        venue_servers(world) as venues,
        client(venues.binance_market_ws + "/ws") as wrong,
        client(venues.binance_public_ws + "/ws/btcusdt@depth@100ms") as right,
    ):
        wrong.send({"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 1})
        assert wrong.next() == {"result": None, "id": 1}
        world.set_level(Venue.BINANCE, BIDS, 59_000.0, 7.5)
        assert right.until(lambda m: ["59000.00", "7.500"] in m["b"])
        world.set_level(Venue.BINANCE, BIDS, 59_000.0, 0.0)
        assert right.until(lambda m: ["59000.00", "0"] in m["b"])
        state = {row["route"]: row["frames_sent"] for row in venues.state(Venue.BINANCE)["connections"]}
        assert state["market"] == 1


def test_binance_can_serve_snapshots_that_are_older_than_the_stream_and_renew_them() -> None:
    desk = Desk(Venue.BINANCE)
    desk.step(3)
    desk.feed.books.hold_snapshots(2000)
    old = desk.get("/fapi/v1/depth", symbol="BTCUSDT", limit="100")
    desk.step(5)
    oldest = desk.told["btcusdt@depth@100ms"][0]
    assert desk.get("/fapi/v1/depth", symbol="BTCUSDT", limit="100") == old
    desk.step(5)
    assert oldest["U"] > old["lastUpdateId"] or oldest["pu"] == old["lastUpdateId"]
    desk.step(21)
    renewed = desk.get("/fapi/v1/depth", symbol="BTCUSDT", limit="100")
    assert renewed["lastUpdateId"] > oldest["u"]
    desk.feed.books.hold_snapshots(0)
    desk.step(2)
    fresh = desk.get("/fapi/v1/depth", symbol="BTCUSDT", limit="100")
    assert fresh["lastUpdateId"] == desk.feed.books.sequences("BTCUSDT")["rest"]


def test_binance_ids_can_be_set_back_and_then_pu_is_not_the_u_before() -> None:
    desk = Desk(Venue.BINANCE)
    desk.step(5)
    before = desk.told["btcusdt@depth@100ms"][-1]
    desk.feed.books.reset_sequence()
    desk.step(5)
    after = desk.told["btcusdt@depth@100ms"]
    assert after[0]["u"] < before["u"]
    assert after[0]["pu"] != before["u"]
    assert after[1]["pu"] == after[0]["u"]


# --- Bybit ------------------------------------------------------------------------------------------------------------


def followed_bybit(desk: Desk, topic: str, steps: int) -> Iterator[tuple[Book, dict[str, Any]]]:
    book: Book = {BIDS: {}, ASKS: {}}
    first = desk.subscribe(topic)
    update_id = -1
    for _ in range(steps):
        for message in [first] if update_id < 0 else desk.told.get(topic, []):
            data = message["data"]
            if message["type"] == "snapshot":
                book = {BIDS: {}, ASKS: {}}
            else:
                assert data["u"] == update_id + 1
            update_id = data["u"]
            applied(book, *rows_of(data, "b", "a"))
            yield book, message
        desk.step()


@pytest.mark.parametrize("depth", [50, 200, 1000])
def test_bybit_deltas_keep_the_subscribed_window_exactly(depth: int) -> None:
    desk = Desk(Venue.BYBIT)
    topic = f"orderbook.{depth}.BTCUSDT"
    types, sequence, entered = [], 0, 0
    for book, message in followed_bybit(desk, topic, 120):
        assert numbers(book, 10_000) == desk.truth("BTCUSDT", depth)
        types.append(message["type"])
        data = message["data"]
        assert data["seq"] > sequence
        assert message["cts"] < message["ts"]
        sequence = data["seq"]
        entered += sum(1 for row in (*data["b"], *data["a"]) if row[1] == "0")
    assert types[0] == "snapshot"
    assert set(types[1:]) == {"delta"}
    assert entered > 0, "levels fell out of the window and were deleted"


def test_bybit_one_level_is_snapshots_only_repeated_after_three_seconds_with_the_same_id() -> None:
    world = ScriptedMarket("BTC", 60_000.0)
    desk = Desk(Venue.BYBIT, world)
    topic = "orderbook.1.BTCUSDT"
    first = desk.subscribe(topic)
    assert (len(first["data"]["b"]), len(first["data"]["a"])) == (1, 1)
    desk.step(70)
    assert [(m["type"], m["data"]["u"]) for m in desk.told[topic]] == [("snapshot", first["data"]["u"])] * 2
    world.set_level(Venue.BYBIT, BIDS, 59_999.0, 3.0)
    desk.step()
    (changed,) = desk.told[topic]
    assert (changed["type"], changed["data"]["u"]) == ("snapshot", first["data"]["u"] + 1)
    assert changed["data"]["b"] == [["59999.00", "3.000"]]


def test_bybit_books_begin_anew_with_u_1_in_mid_stream_after_a_restart_of_the_service() -> None:
    desk = Desk(Venue.BYBIT)
    topic = "orderbook.200.BTCUSDT"
    kinds = []
    for book, message in followed_bybit(desk, topic, 40):
        kinds.append((message["type"], message["data"]["u"]))
        assert numbers(book, 10_000) == desk.truth("BTCUSDT", 200)
        if len(kinds) == 10:
            desk.feed.books.restart()
    assert kinds[10] == ("snapshot", 1)
    assert kinds[11] == ("delta", 2)


def test_bybit_topics_have_their_own_cadence_and_late_subscribers_fit_in() -> None:
    desk = Desk(Venue.BYBIT, step_ms=20)
    desk.subscribe("orderbook.50.BTCUSDT")
    desk.subscribe("orderbook.1000.BTCUSDT")
    desk.step(50)
    often, seldom = desk.told["orderbook.50.BTCUSDT"], desk.told["orderbook.1000.BTCUSDT"]
    assert len(seldom) == 5
    assert len(often) > 20
    late = desk.subscribe("orderbook.1000.BTCUSDT")
    assert late["data"]["u"] == seldom[-1]["data"]["u"]
    book: Book = {BIDS: dict(late["data"]["b"]), ASKS: dict(late["data"]["a"])}
    desk.step(9)
    for message in desk.told["orderbook.1000.BTCUSDT"]:
        applied(book, *rows_of(message["data"], "b", "a"))
    assert numbers(book, 10_000) == desk.truth("BTCUSDT", 1000)


def test_bybit_rest_books_name_the_state_of_the_1000_level_topic() -> None:
    desk = Desk(Venue.BYBIT)
    snapshot = desk.subscribe("orderbook.1000.BTCUSDT")
    for limit in (1, 25, 1000):
        answer = desk.get("/v5/market/orderbook", category="linear", symbol="BTCUSDT", limit=str(limit))
        result = answer["result"]
        assert (answer["retCode"], result["s"], result["u"]) == (0, "BTCUSDT", snapshot["data"]["u"])
        assert numbers({BIDS: dict(result["b"]), ASKS: dict(result["a"])}, 2000) == desk.truth("BTCUSDT", limit)
    assert len(desk.get("/v5/market/orderbook", category="linear", symbol="BTCUSDT")["result"]["b"]) == 25
    assert desk.get("/v5/market/orderbook", category="linear", symbol="BTCUSDT", limit="1001")["retCode"] == 10001


def test_a_bybit_snapshot_overtakes_its_acknowledgement() -> None:
    with venue_servers() as venues, client(venues.bybit_ws) as link:
        link.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
        assert link.next()["type"] == "snapshot"
        assert link.until(lambda m: "op" in m)["success"] is True


# --- OKX --------------------------------------------------------------------------------------------------------------


def followed_okx(desk: Desk, steps: int) -> Iterator[tuple[Book, dict[str, Any]]]:
    topic = f"books/{SWAP}"
    book: Book = {BIDS: {}, ASKS: {}}
    told = [desk.subscribe(topic)]
    sequence = -1
    for _ in range(steps):
        for message in told:
            (row,) = message["data"]
            if message["action"] == "snapshot":
                book, sequence = {BIDS: {}, ASKS: {}}, -1
            assert row["prevSeqId"] == sequence
            assert row["checksum"] == 0
            sequence = row["seqId"]
            assert all(level[2] == "0" and len(level) == 4 for level in (*row["bids"], *row["asks"]))
            applied(book, *rows_of(row, "bids", "asks"))
            yield book, row
        desk.step()
        told = desk.told.get(topic, [])


def test_okx_updates_chain_from_the_snapshot_and_keep_400_levels_in_contracts() -> None:
    desk = Desk(Venue.OKX)
    sequences = []
    for book, row in followed_okx(desk, 120):
        assert numbers(book, 10_000, 0.01) == desk.truth(SWAP, 400)
        assert len(book[BIDS]) == 400
        sequences.append(row["seqId"])
    assert sequences == sorted(sequences)
    assert len(sequences) > 100


def test_an_okx_book_at_rest_says_so_once_a_minute_with_equal_ids() -> None:
    market = ScriptedMarket("BTC", 60_000.0)
    market.set_book(Venue.OKX, default_book(60_000.0))
    desk = Desk(Venue.OKX, market, step_ms=1000)
    snapshot = desk.subscribe(f"books/{SWAP}")["data"][0]
    desk.step(125)
    beats = [message["data"][0] for message in desk.told[f"books/{SWAP}"]]
    assert len(beats) == 2
    for beat in beats:
        assert (beat["bids"], beat["asks"]) == ([], [])
        assert beat["seqId"] == beat["prevSeqId"] == snapshot["seqId"]


def test_an_okx_sequence_is_smaller_once_after_maintenance_and_the_chain_holds() -> None:
    desk = Desk(Venue.OKX)
    falls, before = 0, -1
    for number, (book, row) in enumerate(followed_okx(desk, 60)):
        falls += row["seqId"] < before
        before = row["seqId"]
        assert numbers(book, 10_000, 0.01) == desk.truth(SWAP, 400)
        if number in (10, 20):
            desk.feed.books.reset_sequence()
    assert falls == 2


def test_okx_can_send_a_snapshot_in_mid_stream() -> None:
    desk = Desk(Venue.OKX)
    snapshots = 0
    for number, (book, row) in enumerate(followed_okx(desk, 30)):
        snapshots += row["prevSeqId"] == -1
        assert numbers(book, 10_000, 0.01) == desk.truth(SWAP, 400)
        if number == 10:
            desk.feed.books.restart()
    assert snapshots == 2


@pytest.mark.parametrize(("channel", "levels"), [("books5", 5), ("bbo-tbt", 1)])
def test_okx_small_books_are_whole_each_time(channel: str, levels: int) -> None:
    desk = Desk(Venue.OKX)
    topic = f"{channel}/{SWAP}"
    assert "action" not in desk.subscribe(topic)
    seen = 0
    for _ in range(50):
        desk.step()
        for message in desk.told.get(topic, []):
            (row,) = message["data"]
            book = {BIDS: {p: s for p, s, *_ in row["bids"]}, ASKS: {p: s for p, s, *_ in row["asks"]}}
            assert numbers(book, 10, 0.01) == desk.truth(SWAP, levels)
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("channel", ["books-l2-tbt", "books50-l2-tbt"])
def test_okx_channels_that_need_a_login_are_refused_and_the_others_stand(channel: str) -> None:
    with venue_servers() as venues, client(venues.okx_ws) as link:
        wanted = [{"channel": name, "instId": SWAP} for name in (channel, "books")]
        link.send({"op": "subscribe", "args": wanted})
        assert (refused := link.next())["code"] == "64003", refused
        assert link.next()["event"] == "subscribe"
        assert link.next()["action"] == "snapshot"
        link.send({"op": "unsubscribe", "args": wanted[1:]})
        assert link.until(lambda m: m.get("event") == "unsubscribe")["arg"] == wanted[1]
        link.send({"op": "subscribe", "args": wanted[1:]})
        assert link.until(lambda m: m.get("action") == "snapshot")["data"][0]["prevSeqId"] == -1


def test_okx_rest_books_are_cut_to_sz() -> None:
    desk = Desk(Venue.OKX)
    for levels in (1, 5, 400):
        (row,) = desk.get("/api/v5/market/books", instId=SWAP, sz=str(levels))["data"]
        book = {BIDS: {p: s for p, s, *_ in row["bids"]}, ASKS: {p: s for p, s, *_ in row["asks"]}}
        assert numbers(book, 500, 0.01) == desk.truth(SWAP, levels)
    assert len(desk.get("/api/v5/market/books", instId=SWAP)["data"][0]["bids"]) == 1
    assert desk.get("/api/v5/market/books", instId=SWAP, sz="401")["code"] == "51000"
    assert desk.get("/api/v5/market/books", instId="NO-SUCH-SWAP")["code"] == "51001"


# --- all three --------------------------------------------------------------------------------------------------------


def test_the_true_book_is_told_to_this_machine_with_the_numbers_of_its_state() -> None:
    world = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(world) as venues, client(venues.okx_ws) as link:
        link.send({"op": "subscribe", "args": [{"channel": "books", "instId": SWAP}]})
        sequence = link.until(lambda m: m.get("action") == "snapshot")["data"][0]["seqId"]
        address = venues.rest(Venue.OKX) + f"/_sim/book?contract={SWAP}"
        truth = requests.get(address, timeout=DEADLINE_S).json()
        assert truth["sequence"]["rest"] == truth["sequence"][f"books/{SWAP}"] == sequence
        assert truth["bids"][0] == [59_997.0, 1.0]
        assert [len(truth["bids"]), len(truth["asks"])] == [50, 50]
        assert requests.get(address + "X", timeout=DEADLINE_S).status_code == 404


def test_books_are_written_only_while_somebody_follows_them() -> None:
    desk = Desk(Venue.BINANCE)
    desk.feed.is_followed = lambda topic: topic == "btcusdt@depth"
    desk.step(20)
    assert [topic for topic in desk.told if "depth" in topic] == ["btcusdt@depth"]

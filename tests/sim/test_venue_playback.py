"""A capture of raw frames, played through the venue servers to real clients."""

import asyncio
import json
import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from liqmap.clock import ReplayTime
from liqmap.config import parse
from liqmap.domain.enums import Venue
from liqmap.sim.venues.playback import SORTED_RECORDS, in_time_order
from liqmap.sim.venues.running import CaptureVenues
from liqmap.store.capture import Capture, Record, RecordKind, describe
from tests.shared_data import shared
from tests.sim.venue_client import DEADLINE_S, client
from tests.venue_servers import RunningVenues, capture_servers

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
START_NS = 1_786_310_819_000_000_000


def line(speed: float = 1.0, origin_ns: int = START_NS) -> ReplayTime:
    return ReplayTime(origin_ns, time.time_ns(), speed)


def bybit(offset_ms: int, kind: str, **data: Any) -> str:
    body = json.dumps({"topic": f"{kind}.BTCUSDT", "ts": 1, **data})
    return json.dumps({"t": "recv", "conn": "BYBIT.ws.1", "ns": START_NS + offset_ms * 10**6, "data": body})


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in lines))
    return path


def wait_for_end(venues: RunningVenues, venue: Venue) -> None:
    end = time.monotonic() + 30
    while venues.state(venue).get("capture") != "ended":
        assert time.monotonic() < end
        time.sleep(0.01)


def binance_lines() -> list[str]:
    frames = [{"stream": "btcusdt@trade", "data": {"e": "trade", "s": "BTCUSDT", "t": n}} for n in range(5)]
    frames.insert(2, {"stream": "btcusdt@bookTicker", "data": {"e": "bookTicker", "s": "BTCUSDT"}})
    return [f"{START_NS + n * 10**6} {json.dumps(frame)}" for n, frame in enumerate(frames)]


def test_subscribers_get_exactly_what_was_recorded_of_their_topics_in_or_without_the_envelope(tmp_path: Path) -> None:
    lines = binance_lines()
    with capture_servers(write(tmp_path / "c", lines), line()) as venues:
        wrapped = client(venues.binance_public_ws + "/stream?streams=btcusdt@trade/btcusdt@aggTrade")
        raw = client(venues.binance_public_ws + "/ws/btcusdt@trade")
        with wrapped as combined, raw as single:
            venues.begin()
            expected = [text.partition(" ")[2] for text in lines if "@trade" in text]
            assert [combined.socket.recv() for _ in expected] == expected
            assert [single.next() for _ in expected] == [json.loads(text)["data"] for text in expected]
            wait_for_end(venues, BINANCE)
            assert venues.state(BINANCE)["connections"][0]["frames_sent"] == len(expected)


def test_frames_come_no_earlier_than_they_were_received_divided_by_the_speed(tmp_path: Path) -> None:
    offsets_ms = [0, 400, 401, 1200]
    lines = [bybit(offset, "publicTrade", data=[{"n": offset}]) for offset in offsets_ms]
    pace = line(speed=2.0)
    with capture_servers(write(tmp_path / "c", lines), pace) as venues, client(venues.bybit_ws) as link:
        link.send({"op": "subscribe", "args": ["publicTrade.BTCUSDT"]})
        assert link.next()["success"] is True
        venues.begin()
        for offset in offsets_ms:
            assert link.next()["data"] == [{"n": offset}]
            assert time.time_ns() >= pace.wall_ns(START_NS + offset * 10**6)


def test_rest_answers_what_had_been_recorded_by_then_and_lists_from_the_start(tmp_path: Path) -> None:
    def recorded(offset_ms: int, url: str, data: str) -> str:
        at = START_NS + offset_ms * 10**6
        return json.dumps({"t": "http", "conn": "BINANCE_FUTURES.http", "ns": at, "url": url, "data": data})

    host = "https://fapi.binance.com/fapi/v1"
    lines = [
        recorded(0, f"{host}/openInterest?symbol=BTCUSDT", '{"openInterest":"1.0"}'),
        recorded(1, f"{host}/openInterest?symbol=BTCUSDT", '{"openInterest":"2.0"}'),
        recorded(2, f"{host}/exchangeInfo", '{"symbols":[]}'),
        binance_lines()[0],
    ]
    lines[-1] = json.dumps(
        {"t": "recv", "conn": "BINANCE_FUTURES.ws.1", "ns": START_NS, "data": lines[-1].partition(" ")[2]}
    )
    with capture_servers(write(tmp_path / "c", lines), line()) as venues:

        def get(path: str) -> requests.Response:
            return requests.get(venues.rest(BINANCE) + "/fapi/v1" + path, timeout=DEADLINE_S)

        assert get("/exchangeInfo").json() == {"symbols": []}
        too_early = get("/openInterest?symbol=BTCUSDT")
        assert (too_early.status_code, too_early.json()["code"]) == (404, -5000)
        venues.begin()
        wait_for_end(venues, BINANCE)
        assert get("/openInterest?symbol=BTCUSDT").json() == {"openInterest": "2.0"}
        assert get("/openInterest?symbol=ETHUSDT").status_code == 404
        assert abs(get("/time").json()["serverTime"] - START_NS // 10**6) < 60_000, "the recording's time"
        other = requests.get(venues.rest(OKX) + "/api/v5/public/open-interest?instType=SWAP", timeout=DEADLINE_S)
        assert other.status_code == 404


def test_a_late_subscriber_gets_everything_since_the_latest_snapshot(tmp_path: Path) -> None:
    lines = [
        bybit(0, "tickers", type="snapshot", data={"n": 0}),
        bybit(1, "tickers", type="delta", data={"n": 1}),
        bybit(2, "tickers", data={"n": 2}, type="snapshot"),
        bybit(3, "tickers", type="delta", data={"n": 3}),
        bybit(4, "publicTrade", type="snapshot", data=[{"n": 4}]),
    ]
    with capture_servers(write(tmp_path / "c", lines), line()) as venues:
        venues.begin()
        wait_for_end(venues, BYBIT)
        with client(venues.bybit_ws) as late:
            late.send({"op": "subscribe", "args": ["tickers.BTCUSDT", "publicTrade.BTCUSDT"]})
            assert late.until(lambda m: m.get("op") == "subscribe")["success"] is True
            assert [message["data"]["n"] for message in late.seen[:-1]] == [2, 3]


def test_a_stretch_of_a_recording_begins_with_what_stands_then_and_ends_where_it_was_asked_to(tmp_path: Path) -> None:
    lines = [
        bybit(0, "tickers", type="snapshot", data={"n": 0}),
        bybit(1, "publicTrade", data={"n": 1}),
        bybit(2, "tickers", type="delta", data={"n": 2}),
        bybit(10, "tickers", type="delta", data={"n": 10}),
        bybit(11, "publicTrade", data={"n": 11}),
        bybit(20, "publicTrade", data={"n": 20}),
    ]
    path, from_ns, to_ns = write(tmp_path / "c", lines), START_NS + 5 * 10**6, START_NS + 20 * 10**6
    with capture_servers(path, line(), from_ns=from_ns, to_ns=to_ns) as venues, client(venues.bybit_ws) as link:
        link.send({"op": "subscribe", "args": ["tickers.BTCUSDT", "publicTrade.BTCUSDT"]})
        assert link.next()["success"] is True
        venues.begin()
        assert [link.next()["data"]["n"] for _ in range(4)] == [0, 2, 10, 11]
        wait_for_end(venues, BYBIT)
        assert venues.state(BYBIT)["connections"][0]["frames_sent"] == 5, "the acknowledgement and these four"


def test_a_capture_waits_for_its_listeners_however_late_a_slow_machine_brings_them(tmp_path: Path) -> None:
    path = write(tmp_path / "c", [bybit(0, "publicTrade", data=[{"n": 1}])])
    sockets = {venue: socket.create_server(("127.0.0.1", 0)) for venue in Venue if venue}

    def listen() -> Any:
        with client(f"ws://127.0.0.1:{sockets[BYBIT].getsockname()[1]}/v5/public/linear") as link:
            link.send({"op": "subscribe", "args": ["publicTrade.BTCUSDT"]})
            return link.until(lambda message: "data" in message)

    async def play() -> Any:
        venues, stopped = CaptureVenues(parse({}), path, line()), asyncio.Event()
        serving = asyncio.create_task(venues.serve(sockets, stopped))
        for _ in range(1000):  # what is due now has every chance to be played to nobody
            await asyncio.sleep(0)
        heard = await asyncio.to_thread(listen)
        stopped.set()
        await serving
        return heard

    for each in sockets.values():
        each.setblocking(False)
    try:
        assert asyncio.run(play())["data"] == [{"n": 1}]
    finally:
        for each in sockets.values():
            each.close()


def test_a_spot_socket_of_the_same_recording_is_never_played(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"t": "connect", "conn": "BYBIT.ws.1", "ts": 1e9, "addr": "wss://stream.bybit.com/v5/public/linear"}
        ),
        json.dumps({"t": "connect", "conn": "BYBIT.ws.2", "ts": 1e9, "addr": "wss://stream.bybit.com/v5/public/spot"}),
        bybit(0, "publicTrade", data=[{"n": "spot"}]).replace("ws.1", "ws.2"),
        bybit(1, "publicTrade", data=[{"n": "linear"}]),
    ]
    with capture_servers(write(tmp_path / "c", lines), line()) as venues, client(venues.bybit_ws) as link:
        link.send({"op": "subscribe", "args": ["publicTrade.BTCUSDT"]})
        link.next()
        venues.begin()
        assert link.next()["data"] == [{"n": "linear"}]


def test_what_a_torn_capture_still_holds_is_played(tmp_path: Path) -> None:
    lines = binance_lines()
    path = write(tmp_path / "c", [*lines[:3], "garbage", *lines[3:]])
    with capture_servers(path, line()) as venues, client(venues.binance_public_ws + "/ws/btcusdt@trade") as link:
        venues.begin()
        assert [link.next()["t"] for _ in range(5)] == [0, 1, 2, 3, 4]


def _record(receive_ns: int) -> Record:
    return Record(receive_ns, BINANCE, RecordKind.FRAME, "", "btcusdt@trade", "BTCUSDT", b"{}", b"{}")


@pytest.mark.parametrize("seed", range(5))
def test_records_written_one_connection_after_the_other_are_played_in_order_of_time(seed: int) -> None:
    generator = random.Random(seed)
    times = [START_NS + generator.randrange(10**9) for _ in range(SORTED_RECORDS)]
    assert [r.receive_ns for r in in_time_order(map(_record, times))] == sorted(times), f"seed {seed}"


def test_a_recording_beyond_the_window_is_still_played_whole() -> None:
    times = [*range(1, 2 * SORTED_RECORDS), 0]
    played = [r.receive_ns for r in in_time_order(map(_record, times))]
    assert sorted(played) == sorted(times)


def test_the_recorded_binance_day_is_played_whole_and_in_order() -> None:
    path = shared("data/wire/binance_usdm_btcusdt_20240808.gz")
    held = describe(path)
    assert held.topics[BINANCE] == {"btcusdt@depth@0ms": 6551, "btcusdt@bookTicker": 66089, "btcusdt@trade": 21313}
    assert held.losses == 0
    with capture_servers(path, line(speed=500.0, origin_ns=held.first_ns)) as venues:
        link = websocket.create_connection(
            venues.binance_public_ws + "/stream?streams=btcusdt@trade", timeout=60, skip_utf8_validation=True
        )
        try:
            venues.begin()
            identities = [json.loads(link.recv())["data"]["t"] for _ in range(21313)]
        finally:
            link.shutdown()  # type: ignore[no-untyped-call]
        expected = [json.loads(r.data)["t"] for r in Capture(path) if r.topic == "btcusdt@trade"]
        assert identities == expected


def test_the_recorded_bybit_minute_is_played_with_its_snapshots() -> None:
    path = shared("data/wire/bybit_capture.jsonl.gz")
    held = describe(path)
    assert held.instruments[BYBIT] == ("BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT")
    assert held.elsewhere["bybit spot"] > 0
    with capture_servers(path, line(speed=50.0, origin_ns=held.first_ns)) as venues, client(venues.bybit_ws) as link:
        listed = requests.get(
            venues.rest(BYBIT) + "/v5/market/instruments-info?category=linear&limit=1000", timeout=DEADLINE_S
        ).json()
        assert len(listed["result"]["list"]) == 800
        topics = ["tickers.BTCUSDT", "publicTrade.BTCUSDT", "allLiquidation.BTCUSDT"]
        link.send({"op": "subscribe", "args": topics})
        assert link.next()["success"] is True
        venues.begin()
        count = sum(held.topics[BYBIT][topic] for topic in topics[:2])
        messages = [link.next() for _ in range(count)]
        tickers = [message for message in messages if message["topic"] == "tickers.BTCUSDT"]
        assert tickers[0]["type"] == "snapshot"
        assert {message["type"] for message in tickers[1:]} == {"delta"}

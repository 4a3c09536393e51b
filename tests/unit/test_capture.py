"""Captures: both formats, plain and gzipped, whole, torn and damaged."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import Venue
from liqmap.store.capture import Capture, CaptureUnreadable, RecordKind, describe
from liqmap.store.capture_topics import key_of_request, route_of_address
from liqmap.store.lines import read_lines

START_NS = 1_723_161_255_030_314_667


def trade(number: int) -> dict[str, Any]:
    return {
        "stream": "btcusdt@trade",
        "data": {"e": "trade", "E": 1, "T": 1, "s": "BTCUSDT", "t": number, "p": "61800.30", "q": "0.006", "m": False},
    }


def timed_lines(count: int) -> list[str]:
    return [f"{START_NS + n} {json.dumps(trade(n))}" for n in range(count)]


def write(path: Path, lines: list[str], zipped: bool = False) -> Path:
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_timed_lines_keep_the_frame_byte_for_byte_and_know_its_stream(tmp_path: Path, zipped: bool) -> None:
    lines = timed_lines(3)
    # Whatever the name says, the content decides whether it is gzip.
    records = list(Capture(write(tmp_path / "frames.txt", lines, zipped)))
    assert [record.receive_ns for record in records] == [START_NS, START_NS + 1, START_NS + 2]
    assert [record.raw for record in records] == [line.partition(" ")[2].encode() for line in lines]
    assert json.loads(records[2].data) == trade(2)["data"]
    assert {(r.venue, r.kind, r.topic, r.instrument) for r in records} == {
        (Venue.BINANCE, RecordKind.FRAME, "btcusdt@trade", "BTCUSDT")
    }


def test_an_inline_order_book_is_a_rest_answer_for_the_contract_around_it(tmp_path: Path) -> None:
    book = '{"lastUpdateId":7,"E":1,"T":1,"bids":[["1","2"]],"asks":[]}'
    records = list(Capture(write(tmp_path / "c", [*timed_lines(1), f"{START_NS + 5} {book}"])))
    assert records[1].kind is RecordKind.HTTP
    assert key_of_request(records[1].url) == ("/fapi/v1/depth", (("symbol", "BTCUSDT"),))
    assert records[1].raw.decode() == book


def tagged(**values: Any) -> str:
    return json.dumps({"conn": "BYBIT.ws.1", "ts": 1786310819.5, **values})


def frame(topic: str) -> str:
    return json.dumps({"topic": topic, "type": "snapshot", "ts": 1, "data": {}})


def test_tagged_lines_are_told_apart_by_the_socket_they_came_by(tmp_path: Path) -> None:
    lines = [
        json.dumps({"t": "header", "format": 2, "exchange": "BYBIT"}),
        tagged(t="http", conn="BYBIT.http.1", url="https://api.bybit.com/v5/market/time?category=linear", data="{}"),
        tagged(t="connect", addr="wss://stream.bybit.com/v5/public/linear"),
        tagged(t="connect", conn="BYBIT.ws.2", addr="wss://stream.bybit.com/v5/public/spot"),
        tagged(t="send", data='{"op":"subscribe"}'),
        tagged(t="recv", data='{"success":true,"ret_msg":"","op":"subscribe"}'),
        tagged(t="recv", data=frame("tickers.BTCUSDT")),
        tagged(t="recv", conn="BYBIT.ws.2", data=frame("tickers.BTCUSDT")),
        tagged(t="recv", ns=1786310819_123456789, data=frame("publicTrade.BTCUSDT")),
    ]
    path = write(tmp_path / "c", lines)
    records = list(Capture(path))
    assert [record.kind.value for record in records] == ["http", "control", "frame", "frame", "frame"]
    assert [record.route for record in records] == ["", "linear", "linear", "spot", "linear"]
    assert records[0].url == "/v5/market/time?category=linear"
    assert records[2].receive_ns == 1786310819_500_000_000
    assert records[4].receive_ns == 1786310819_123456789
    held = describe(path)
    assert held.venues == (Venue.BYBIT,)
    assert held.topics == {Venue.BYBIT: {"tickers.BTCUSDT": 1, "publicTrade.BTCUSDT": 1}}, "spot has the same names"
    assert held.elsewhere == {"bybit spot": 1}
    assert held.instruments == {Venue.BYBIT: ("BTCUSDT",)}
    assert held.requests == {Venue.BYBIT: {"/v5/market/time": 1}}
    assert (held.first_ns, held.last_ns) == (1786310819_123456789, 1786310819_500_000_000)
    assert (held.records, held.control_frames, held.losses) == (4, 1, 0)


@pytest.mark.parametrize(
    ("conn", "addr", "data", "topic", "instrument"),
    [
        ("OKX.ws.1", "wss://ws.okx.com:8443/ws/v5/public", "pong", "", ""),
        ("OKX.ws.1", "", '{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT-SWAP"}}', "", ""),
        (
            "OKX.ws.1",
            "",
            '{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"data":[]}',
            "trades/BTC-USDT-SWAP",
            "BTC-USDT-SWAP",
        ),
        (
            "OKX.ws.1",
            "",
            '{"arg":{"channel":"liquidation-orders","instType":"SWAP"},"data":[]}',
            "liquidation-orders/SWAP",
            "",
        ),
        (
            "BINANCE_FUTURES.ws.1",
            "wss://fstream.binance.com/market/stream",
            '{"stream":"!forceOrder@arr","data":{"e":"forceOrder","o":{"s":"ILVUSDT"}}}',
            "!forceOrder@arr",
            "ILVUSDT",
        ),
        (
            "BINANCE_FUTURES.ws.1",
            "wss://fstream.binance.com/ws/btcusdt@forceOrder",
            '{"e":"forceOrder","o":{"s":"BTCUSDT"}}',
            "btcusdt@forceOrder",
            "BTCUSDT",
        ),
        ("BINANCE_FUTURES.ws.1", "", '{"e":"aggTrade","s":"ETHUSDT"}', "ethusdt@aggTrade", "ETHUSDT"),
        ("BINANCE_FUTURES.ws.1", "", '{"result":null,"id":1}', "", ""),
        ("BINANCE_FUTURES.ws.1", "wss://fstream.binance.com/ws/!markPrice@arr", "[]", "!markPrice@arr", ""),
    ],
)
def test_frames_of_each_venue_find_their_topic(
    tmp_path: Path, conn: str, addr: str, data: str, topic: str, instrument: str
) -> None:
    lines = [tagged(t="connect", conn=conn, addr=addr), tagged(t="recv", conn=conn, data=data)]
    (record,) = Capture(write(tmp_path / "c", lines))
    assert (record.topic, record.instrument) == (topic, instrument)
    assert record.kind is (RecordKind.FRAME if topic else RecordKind.CONTROL)
    assert record.raw.decode() == data


@pytest.mark.parametrize(
    ("address", "route"),
    [
        ("wss://fstream.binance.com/stream?streams=a/b", "legacy"),
        ("wss://fstream.binance.com/market/stream?streams=a/b", "market"),
        ("wss://fstream.binance.com/public/ws/btcusdt@trade", "public"),
        ("wss://stream.bybit.com/v5/public/spot", "spot"),
        ("wss://ws.okx.com:8443/ws/v5/business", "business"),
    ],
)
def test_a_sockets_address_says_its_route(address: str, route: str) -> None:
    assert route_of_address(address)[0] == route


@pytest.mark.finding("M25")
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("nonsense", "does not read"),
        ("1723161255 {}", "no receive time in nanoseconds"),
        (f'{START_NS} {{"stream":"btcusdt@trade","da', "not JSON"),
        (f'{START_NS} {{"hello":1}}', "no venue's shape"),
        (f"{START_NS}", "does not read"),
    ],
)
def test_a_corrupt_line_costs_that_line_and_is_named_with_file_and_number(
    tmp_path: Path, bad: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = timed_lines(4)
    path = write(tmp_path / "capture.gz", [*good[:2], bad, *good[2:]], zipped=True)
    held = describe(path)
    assert (held.records, held.losses) == (4, 1)
    assert held.loss_details[0].line == 3
    assert why in held.loss_details[0].why
    assert [r.fields["line"] for r in caplog.records] == [3]  # type: ignore[attr-defined]
    assert [r.fields["file"] for r in caplog.records] == [path]  # type: ignore[attr-defined]


@pytest.mark.finding("M25")
@pytest.mark.parametrize(
    "bad", ['{"t":"recv","ts":1', '{"t":"odd"}', '{"t":"recv","data":"{}"}', '{"t":"recv","ts":"x"}']
)
def test_a_corrupt_tagged_line_costs_that_line(tmp_path: Path, bad: str) -> None:
    good = tagged(t="recv", data=frame("tickers.BTCUSDT"))
    held = describe(write(tmp_path / "c", [good, bad, good]))
    assert (held.records, held.losses, held.loss_details[0].line) == (2, 1, 2)


@pytest.mark.finding("M25")
def test_a_truncated_gzip_gives_every_line_that_is_there_and_says_what_is_missing(tmp_path: Path) -> None:
    lines = timed_lines(5000)
    whole = write(tmp_path / "whole.gz", lines, zipped=True).read_bytes()
    path = tmp_path / "torn.gz"
    path.write_bytes(whole[: len(whole) // 2])
    capture = Capture(path)
    records = list(capture)
    assert 1000 < len(records) < 5000
    assert [record.receive_ns - START_NS for record in records] == list(range(len(records)))
    assert capture.losses == 1
    assert "truncated" in capture.loss_details[0].why
    assert capture.loss_details[0].line == len(records) + 1


@pytest.mark.finding("M25")
@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_gzip_never_gives_a_wrong_number_of_good_lines_in_silence(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    lines = timed_lines(2000)
    damaged = bytearray(write(tmp_path / "whole.gz", lines, zipped=True).read_bytes())
    damaged[generator.randrange(10, len(damaged))] ^= 1 << generator.randrange(8)
    path = tmp_path / "damaged.gz"
    path.write_bytes(damaged)
    capture = Capture(path)
    try:
        records = list(capture)
    except CaptureUnreadable:
        return
    assert capture.losses > 0, f"seed {seed}"
    assert len(records) <= 2000


def test_several_gzip_members_read_as_one_file(tmp_path: Path) -> None:
    lines = [f"{line}\n".encode() for line in timed_lines(6)]
    path = tmp_path / "appended.gz"
    path.write_bytes(b"".join(gzip.compress(line) for line in lines))
    capture = Capture(path)
    assert len(list(capture)) == 6
    assert capture.losses == 0


def test_a_line_beyond_all_measure_is_skipped_and_named(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(b"one\n" + b"x" * 300_000 + b"\ntwo\n")
    lines = list(read_lines(path, max_line_bytes=100_000))
    assert [(line.number, line.text, bool(line.damage)) for line in lines] == [
        (1, b"one", False),
        (2, b"", True),
        (3, b"two", False),
    ]


@given(st.lists(st.binary(max_size=40).filter(lambda text: b"\n" not in text)), st.booleans())
def test_lines_are_what_was_written(tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], zipped: bool) -> None:
    path = tmp_path_factory.mktemp("lines") / "file"
    content = b"".join(text + b"\n" for text in texts)
    if not zipped and content[:2] == b"\x1f\x8b":
        return
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert [(line.number, line.text, line.damage) for line in read_lines(path, 1000)] == [
        (number, text, "") for number, text in enumerate(texts, 1)
    ]


@pytest.mark.parametrize("content", [b"", b"hello\n", b"[1, 2]\n", b'{"a": 1}\n', b"\n\n", b"\x1f\x8bnot gzip at all"])
def test_a_file_that_is_no_capture_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CaptureUnreadable, match=str(path)):
        describe(path)


def test_a_file_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(CaptureUnreadable, match="cannot be read"):
        describe(tmp_path / "nothing")
    with pytest.raises(CaptureUnreadable, match="cannot be read"):
        describe(tmp_path)


def test_a_request_is_known_again_whatever_its_host_order_and_page_size() -> None:
    recorded = key_of_request(
        "https://api.bybit.com/v5/market/instruments-info?&category=linear&status=Trading&limit=1000"
    )
    assert recorded == key_of_request("/v5/market/instruments-info?limit=500&category=linear")
    assert recorded != key_of_request("/v5/market/instruments-info?category=spot")

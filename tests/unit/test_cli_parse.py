"""`liqmap parse` as a user runs it: real processes, from any directory, every kind of input, every kind of fault."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

TRADE = (
    '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1790000000005,"a":7,"s":"BTCUSDT","p":"91000.1",'
    '"q":"0.25","f":1,"l":1,"T":1790000000001,"m":true}}'
)
SAID = {
    "kind": "trade",
    "venue": "binance",
    "instrument": "BTCUSDT",
    "symbol": "BTC",
    "ts_ms": 1790000000001,
    "taker_side": "sell",
    "price": 91000.1,
    "qty_base": 0.25,
}


def _run(*arguments: str, text: bytes = b"", cwd: Path | None = None) -> tuple[int, list[Any], str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LIQMAP_CONFIG")}
    done = subprocess.run(
        [str(ROOT / "bin" / "liqmap"), *arguments],
        input=text,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env=environment,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_standard_input_from_any_directory(tmp_path: Path) -> None:
    assert _run("parse", "--venue", "binance", "-", text=TRADE.encode(), cwd=tmp_path) == (0, [SAID], "")


def test_lines_of_every_known_recording_say_the_same(tmp_path: Path) -> None:
    capture = {"t": "recv", "conn": "c", "ts": 1790000000.1, "data": TRADE}
    named = {"venue": "binance_usdm", "captured": "2026", "frame": json.loads(TRADE)}
    lines = [TRADE, f"1790000000005000000 {TRADE}", json.dumps(capture), json.dumps(named), "", "  " + TRADE + "\r"]
    path = tmp_path / "frames.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert _run("parse", "--venue", "binance", str(path)) == (0, [SAID] * 5, "")


def test_a_capture_tells_about_itself_and_keeps_its_connections_apart(tmp_path: Path) -> None:
    def line(t: str, conn: str, **more: Any) -> str:
        return json.dumps({"t": t, "conn": conn, "ts": 1790000000.0, **more})

    ticker = '{{"topic":"tickers.BTCUSDT","type":"{}","ts":1790000000000,"data":{{"symbol":"BTCUSDT","{}":"{}"}}}}'
    rest = "https://api.bybit.com/v5/market/"
    book = '{"retCode":0,"result":{"s":"BTCUSDT","b":[["1","2"]],"a":[],"ts":1790000000000,"u":5}}'
    lines = [
        line("header", ""),
        line("connect", "a", addr="wss://stream.bybit.com/v5/public/linear"),
        line("connect", "b", addr="wss://stream.bybit.com/v5/public/spot"),
        line("recv", "a", data=ticker.format("snapshot", "indexPrice", "91010")),
        line("recv", "a", data=ticker.format("delta", "markPrice", "91000")),
        line("recv", "b", data=ticker.format("delta", "markPrice", "99999")),
        line("connect", "a", addr="wss://stream.bybit.com/v5/public/linear"),
        line("recv", "a", data=ticker.format("delta", "markPrice", "91001")),
        line("http", "r", url=rest + "orderbook?category=linear&symbol=BTCUSDT", data=book),
        line("http", "r", url=rest + "orderbook?category=linear&symbol=ETHUSDT", data=book),
        line("http", "r", url=rest + "instruments-info?category=linear", data="{}"),
        line("http", "r", url=rest + "instruments-info?category=spot", data="{}"),
        line("recv", "a"),
    ]
    path = tmp_path / "capture.jsonl"
    path.write_text("\n".join(lines))
    code, said, _ = _run("parse", "--venue", "bybit", str(path))
    assert code == 0
    short = [a.get("kind") or a.get("ignored") or a for a in said]
    assert short == [
        "recording: header",
        "recording: connect",
        "recording: connect",
        "nothing new",
        "mark_price",
        "another market of the venue",
        "recording: connect",
        "mark_price",
        "book_snapshot",
        {"malformed": "asked for ETHUSDT, answered for BTCUSDT", "field": "result.s"},
        "list of contracts",
        "another market of the venue",
        {"malformed": "object missing required field `data`", "field": "data"},
    ]
    assert (said[4]["index_price"], said[7]["index_price"]) == (91010.0, None)


def test_a_depth_snapshot_without_a_name_belongs_to_the_one_recorded_book() -> None:
    snapshot = '{"lastUpdateId":5,"E":1790000000002,"T":1790000000001,"bids":[["1","2"]],"asks":[]}'
    delta = (
        '{{"e":"depthUpdate","E":1790000000001,"T":1790000000001,"s":"{}","U":1,"u":2,"pu":0,"b":[],"a":[["2","0"]]}}'
    )
    lines = [snapshot, delta.format("BTCUSDT"), snapshot, delta.format("ETHUSDT"), snapshot]
    code, said, _ = _run("parse", "--venue", "binance", "-", text="\n".join(lines).encode())
    assert code == 0
    assert [(a["kind"], a["instrument"], a["symbol"]) for a in said] == [
        ("book_snapshot", None, None),
        ("book_delta", "BTCUSDT", "BTC"),
        ("book_snapshot", "BTCUSDT", "BTC"),
        ("book_delta", "ETHUSDT", "ETH"),
        ("book_snapshot", None, None),
    ]


def test_sizes_come_from_the_list_that_is_named(tmp_path: Path) -> None:
    row = {"instId": "ABC-USDT-SWAP", "instType": "SWAP", "ctType": "linear", "settleCcy": "USDT", "ctValCcy": "ABC"}
    listing = tmp_path / "list.json.gz"
    inverse = {"instId": "BTC-USD-SWAP", "instType": "SWAP", "ctType": "inverse", "settleCcy": "BTC"}
    body = {"code": "0", "data": [{**row, "ctVal": "10", "ctMult": "5"}, inverse]}
    listing.write_bytes(gzip.compress(json.dumps(body).encode()))
    detail = {"side": "sell", "posSide": "long", "bkPx": "2.5", "sz": "3", "ts": "1790000000000"}
    frame = {
        "arg": {"channel": "liquidation-orders", "instType": "SWAP"},
        "data": [{"instId": name, "details": [detail]} for name in ("ABC-USDT-SWAP", "BTC-USD-SWAP", "BTC-USDT-SWAP")],
    }
    text = json.dumps(frame).encode()
    code, said, _ = _run("parse", "--venue", "okx", "--instruments", str(listing), "-", text=text)
    assert (code, said[0]["qty_base"], said[0]["position_side"]) == (0, 150.0, "long")
    assert said[1:] == [
        {"ignored": "inverse contract BTC-USD-SWAP"},
        {"ignored": "unknown instrument BTC-USDT-SWAP"},
    ]
    code, said, _ = _run("parse", "--venue", "okx", "-", text=text)
    assert said[0] == {"ignored": "unknown instrument ABC-USDT-SWAP"}
    assert said[2]["qty_base"] == 0.03


def test_what_is_no_frame_costs_that_line() -> None:
    lines = [b"\xff\xfe", b"{", TRADE.encode(), TRADE.replace('"0.25"', "NaN").encode(), b"[" * 50_000]
    code, said, errors = _run("parse", "--venue", "binance", "-", text=b"\n".join(lines))
    assert (code, errors) == (0, "")
    assert [set(answer) == {"malformed", "field"} for answer in said] == [True, True, False, True, True]
    assert said[3] == {"malformed": "not a finite number", "field": "data.q"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["parse", "--venue", "binance", "/nowhere/frames"], 1, "/nowhere/frames: No such file or directory"),
        (["parse", "--venue", "binance", "/"], 1, "/: Is a directory"),
        (["parse", "--venue", "okx", "--instruments", "/nowhere/list", "-"], 1, "/nowhere/list: No such file"),
        (["parse", "--venue", "okx", "--instruments", __file__, "-"], 1, "is no list of contracts of okx"),
        (["parse", "--venue", "kraken", "-"], 2, "invalid choice: 'kraken'"),
        (["parse", "-"], 2, "--venue"),
        (["parse", "--wrong"], 2, "usage: liqmap parse"),
        (["parse", "-c", "/nowhere.toml", "--venue", "okx", "-"], 78, "/nowhere.toml: cannot be read"),
        (["nothing"], 2, "no command 'nothing'"),
        ([], 2, "usage: liqmap COMMAND"),
    ],
)
def test_faults_of_the_user_are_words_and_an_exit_code(arguments: list[str], code: int, words: str) -> None:
    found, said, errors = _run(*arguments)
    assert (found, said) == (code, [])
    assert words in errors
    assert "Traceback" not in errors


def test_a_cut_gzip_file_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([TRADE] * 20_000).encode(), mtime=0)
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: len(whole) // 2])
    code, said, errors = _run("parse", "--venue", "binance", str(path))
    assert code == 1
    assert len(said) > 1_000
    assert errors.count("\n") == 1
    assert "ended before" in errors


def test_a_reader_that_goes_away_ends_it_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.write_text(f"{TRADE}\n" * 50_000)
    command = [str(ROOT / "bin" / "liqmap"), "parse", "--venue", "binance", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline()) == SAID
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 141


def test_an_output_that_is_full_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [str(ROOT / "bin" / "liqmap"), "parse", "--venue", "binance", "-"],
            input=TRADE.encode(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, b"liqmap parse: the output: No space left on device\n")


def test_help_has_an_example() -> None:
    code = subprocess.run(
        [sys.executable, "-m", "liqmap.cli.liqmap", "parse", "--help"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert code.returncode == 0
    assert b"liqmap parse --venue bybit" in code.stdout

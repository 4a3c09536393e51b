"""`liqmap parse` on a recording of our own: all venues in one file, and lines that only tell of the recording."""

from pathlib import Path

import orjson
import pytest

from liqmap.cli.liqmap import main
from liqmap.config.records import CaptureConfig
from liqmap.store.capture_writer import CaptureWriter, FrameLine

NOW_NS = 1_790_000_000_000_000_000


def test_frames_of_other_venues_and_lines_of_the_recording_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = CaptureWriter(tmp_path, CaptureConfig(enabled=True), {})
    capture.line(t="connect", conn="okx/facts#1", ns=NOW_NS, addr="wss://ws.okx.com:8443/ws/v5/public")
    mark = {
        "arg": {"channel": "mark-price", "instId": "BTC-USDT-SWAP"},
        "data": [{"instId": "BTC-USDT-SWAP", "instType": "SWAP", "markPx": "60000.5", "ts": "1790000000000"}],
    }
    capture.frames_of(FrameLine("okx/facts#1", NOW_NS, [orjson.dumps(mark)], 0))
    capture.frames_of(FrameLine("bybit/facts#1", NOW_NS, [b"\xff not text"], 0))
    capture.turn(NOW_NS, 5)
    capture.close()
    (path,) = tmp_path.iterdir()
    assert main(["parse", "--venue", "okx", str(path)]) == 0
    said = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["mark_price"] for line in said if line.get("kind") == "mark_price"] == [60000.5]
    assert {"ignored": "frame of bybit"} in said
    assert not any("malformed" in line for line in said)

"""`python -m liqmap.sim` as the supervisor starts it: inherited sockets, a heartbeat, an orderly end."""

import csv
import gzip
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from liqmap import config as configuration
from liqmap.clock import SystemClock
from liqmap.config import Effective, RunMode, paths, write_effective
from liqmap.domain.enums import Source
from liqmap.shm.segment import Segment
from liqmap.shm.status import create_status, read_heartbeats
from tests.sim.venue_client import client

DEADLINE_S = 60.0
SIDES = ("long", "short")
_NEVER = threading.Event()
SMALL = {"preset": "demo", "symbols": {"BTC": {"positions": 400}}}


class Process:
    """A running sim process with its sockets and its status segment."""

    def __init__(self, child: "subprocess.Popen[bytes]", ports: list[int], status: Segment, log: Path) -> None:
        self.child = child
        self.ports = ports
        self.status = status
        self.log = log

    def wait(self, wanted: Callable[[], object], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not wanted():
            assert self.child.poll() is None, self.log.read_text() if self.log.exists() else "ended without a log"
            assert time.monotonic() < end, what
            SystemClock().wait(_NEVER, 0.02)

    def wait_ready(self) -> None:
        self.wait(lambda: read_heartbeats(self.status)["sim"].ready, "the sim process is ready")


@contextmanager
def sim_process(tmp_path: Path, mode: RunMode, *arguments: str, inherit: bool = True) -> Iterator[Process]:
    """Start it on three free ports; it is gone at the end, however the test went."""
    instance = f"t{os.getpid()}{secrets.token_hex(3)}"
    table = {"daemon": {"instance": instance, "var_dir": str(tmp_path)}, "symbols": {"BTC": {}}, "sim": SMALL}
    config = configuration.parse(table)
    effective = tmp_path / "effective.json"
    write_effective(Effective(config, mode), effective)
    with ExitStack() as stack:
        status = create_status(instance, ["sim"])
        stack.callback(status.close)
        stack.callback(status.unlink)
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        descriptors = [listening.fileno() for listening in sockets]
        command = [sys.executable, "-m", "liqmap.sim", "--effective", str(effective)]
        command += [*(("--fds", ",".join(map(str, descriptors))) if inherit else ()), *arguments]
        child = subprocess.Popen(command, pass_fds=descriptors, stderr=subprocess.DEVNULL)
        try:
            ports = [listening.getsockname()[1] for listening in sockets]
            yield Process(child, ports, status, paths(config).log("sim"))
        finally:
            child.kill()
            child.wait(timeout=20)


def test_it_serves_a_market_beats_and_ends_when_told(tmp_path: Path) -> None:
    with sim_process(tmp_path, RunMode(source=int(Source.SIMULATED))) as sim:
        sim.wait_ready()
        with client(f"ws://127.0.0.1:{sim.ports[0]}/market/stream?streams=btcusdt@markPrice@1s") as link:
            assert float(link.next()["data"]["p"]) > 1000
        listed = requests.get(f"http://127.0.0.1:{sim.ports[1]}/v5/market/tickers?category=linear", timeout=10).json()
        assert [row["symbol"] for row in listed["result"]["list"]] == ["BTCUSDT"]
        sim.wait(lambda: read_heartbeats(sim.status)["sim"].work > 0, "messages are counted as work")
        sim.child.send_signal(signal.SIGTERM)
        assert sim.child.wait(timeout=20) == 0


def test_who_asks_before_the_markets_are_open_waits_for_a_right_answer(tmp_path: Path) -> None:
    with sim_process(tmp_path, RunMode(source=int(Source.SIMULATED))) as sim:
        asked = "/fapi/v1/openInterest?symbol=BTCUSDT"
        answer = requests.get(f"http://127.0.0.1:{sim.ports[0]}{asked}", timeout=DEADLINE_S)
        assert answer.status_code == 200 and float(answer.json()["openInterest"]) > 0


def test_who_gave_up_before_the_doors_opened_is_no_fault(tmp_path: Path) -> None:
    handshake = b"GET /market/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    handshake += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    with sim_process(tmp_path, RunMode(source=int(Source.SIMULATED))) as sim:
        for port in sim.ports:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port)) as hasty:
                    hasty.sendall(handshake)
        sim.wait_ready()
        for port in sim.ports:  # whoever asks now is served after those
            assert requests.get(f"http://127.0.0.1:{port}/_sim/state", timeout=DEADLINE_S).json()["connections"] == []
        assert "Traceback" not in sim.log.read_text()


@pytest.mark.parametrize("content", ["", "hello\n", '{"t":"nothing"}\n'])
def test_a_file_that_is_no_capture_is_a_configuration_fault(tmp_path: Path, content: str) -> None:
    capture = tmp_path / "capture.jsonl"
    capture.write_text(content)
    with sim_process(tmp_path, RunMode(source=int(Source.REPLAY)), "--capture", str(capture)) as sim:
        assert sim.child.wait(timeout=DEADLINE_S) == configuration.EXIT_CONFIG
        assert str(capture) in sim.log.read_text()


def test_true_positions_are_written_where_and_as_often_as_asked(tmp_path: Path) -> None:
    directory = tmp_path / "truth"
    arguments = ("--truth", str(directory), "--truth-every-s", "0.2")
    with sim_process(tmp_path, RunMode(source=int(Source.SIMULATED)), *arguments) as sim:
        sim.wait(lambda: directory.exists() and len(list(directory.glob("truth_BTC_*.csv.gz"))) >= 2, "two tables")
        first = min(directory.glob("truth_BTC_*.csv.gz"))
        with gzip.open(first, "rt") as table:
            rows = list(csv.DictReader(table))
        base = {side: sum(float(row["qty_base"]) for row in rows if row["position_side"] == side) for side in SIDES}
        assert base["long"] == pytest.approx(base["short"]) != 0


def test_by_hand_it_listens_only_on_loopback_addresses_of_the_configuration(tmp_path: Path) -> None:
    with sim_process(tmp_path, RunMode(source=int(Source.SIMULATED)), inherit=False) as sim:
        assert sim.child.wait(timeout=DEADLINE_S) == configuration.EXIT_CONFIG
        assert "venues.binance.rest = 'https://fapi.binance.com'" in sim.log.read_text()

"""A worker that stands still for five seconds: nobody else notices."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.fault.daemon import Daemon, running_daemon
from tests.waiting import wait_until

STALL_S = 5.0

CONFIG = """
[supervisor]
heartbeat_timeout_s = 60.0
[api]
bind = "127.0.0.1:0"
workers = 1
stale_after_ms = 2000
[history]
minute_columns = 16
[depth]
buckets = 256
frames = 16
[sim.symbols.BTC]
positions = 1000
[sim.symbols.ETH]
positions = 1000
[symbols.BTC]
buckets = 1024
[symbols.ETH]
buckets = 1024
[symbols.SOL]
enabled = false
"""


def fresh(daemon: Daemon, *names: str) -> bool:
    symbols = daemon.health()["symbols"]
    return all(symbols.get(name, {}).get("ready") for name in names)


@pytest.mark.finding("M18")
def test_a_worker_stalled_for_five_seconds_holds_up_neither_feeds_nor_the_api_nor_another_symbol(
    tmp_path: Path,
) -> None:
    with running_daemon(tmp_path, CONFIG, "--demo") as daemon:
        wait_until(lambda: daemon.running("sim", "ingest", "BTC", "ETH", "api"), "every child is running")
        wait_until(lambda: fresh(daemon, "BTC", "ETH"), "both symbols are fresh")
        before, pid = daemon.health(), daemon.pid("BTC")
        os.kill(pid, signal.SIGSTOP)
        began_s = time.monotonic()
        try:
            while time.monotonic() - began_s < STALL_S:
                now = daemon.health()
                assert now["symbols"]["ETH"]["ready"], "the other symbol goes on"
                assert now["processes"]["ingest"]["heartbeat_age_ms"] < 2000, "ingest goes on"
                assert daemon.get("/liq_heatmap_v2?symbol=BTC").status == 200, "the last map is served"
            assert time.monotonic() - began_s < STALL_S + 5.0, "no answer waited for the one that stands still"
            assert not now["symbols"]["BTC"]["ready"], "it does stand still"
            for venue, feed in now["feeds"].items():
                told = feed["topics"]["trade"]["events"] - before["feeds"][venue]["topics"]["trade"]["events"]
                assert feed["delivering"] and told > 0, "every venue is heard all the while"
                assert feed["reconnects"] == before["feeds"][venue]["reconnects"]
                assert feed["topics"]["trade"]["dropped"] == 0
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: fresh(daemon, "BTC", "ETH"), "it catches up")
        assert daemon.pid("BTC") == pid, "and is the same process"

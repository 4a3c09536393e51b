"""An operator makes a venue of the demo fail, to see what it looks like: `liqmapctl fault`, a whole daemon, /health."""

from pathlib import Path

from tests.fault.daemon import running_daemon
from tests.waiting import wait_until

SMALL = """[api]
bind = "127.0.0.1:0"
workers = 1
[ingest]
silent_after_s = 2.0
[symbols.BTC]
buckets = 512
[sim.symbols.BTC]
positions = 400
"""


def test_a_fault_that_an_operator_switches_on_is_seen_named_and_over_when_it_is_cleared(tmp_path: Path) -> None:
    with running_daemon(tmp_path, SMALL, "--demo") as daemon:
        wait_until(daemon.running, "all processes", 90.0)
        wait_until(lambda: daemon.health()["status"] == "ok", "every feed", 90.0)

        code, said = daemon.ctl("fault", "okx", "silent", "--topic", "mark-price/*")
        assert (code, said["ok"]) == (0, True)
        wait_until(lambda: daemon.health()["feeds"]["okx"]["state"] == "silent", "its silence", 90.0)
        health = daemon.health()
        assert health["status"] == "degraded"
        assert any("simulated fault: okx silent mark-price/*" in line for line in health["problems"])
        assert any("mark" in line and "from okx for BTC: silent" in line for line in health["problems"])
        assert health["feeds"]["binance"]["delivering"], "the others go on"

        assert daemon.ctl("fault", "okx", "clear")[0] == 0
        wait_until(lambda: daemon.health()["status"] == "ok" and not daemon.health()["problems"], "all well", 90.0)
        assert daemon.ctl("fault", "okx", "fire")[0] != 0, "no fault is called so"
        assert daemon.stop() == 0

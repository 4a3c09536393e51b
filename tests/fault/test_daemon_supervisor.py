"""The supervisor itself is killed, stopped, doubled: nothing outlives it, and the next start finds a clean place."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from liqmap.config import load
from liqmap.shm.plan import segments_of
from tests.fault.daemon import LIQMAPCTL, LIQMAPD, PATIENCE_S, Daemon, descendants_gone, free_port, running_daemon
from tests.waiting import wait_until

LIVE = """
[api]
bind = "127.0.0.1:0"
workers = 1
[venues.binance]
enabled = false
[venues.bybit]
enabled = false
[venues.okx]
enabled = false
[history]
minute_columns = 16
[symbols.BTC]
buckets = 256
[symbols.ETH]
buckets = 256
enabled = false
"""
"""A live daemon that asks nobody: enough for everything that concerns the supervisor."""

ALL = ("ingest", "BTC", "api")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(tmp_path, LIVE) as daemon:
        wait_until(lambda: daemon.running(*ALL), "every child is running")
        yield daemon


def pids(daemon: Daemon) -> list[int]:
    return [row["pid"] for row in daemon.status()["processes"] if row["pid"]]


def family(daemon: Daemon) -> list[int]:
    """The children and what they started."""
    found = pids(daemon)
    for pid in list(found):
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += [int(child) for child in listed]
    return found


def test_killed_supervisor_leaves_nobody_and_the_next_start_adopts_what_was_left(daemon: Daemon) -> None:
    everybody = family(daemon)
    assert len(everybody) >= 4
    left = daemon.segments()
    generations = {name: _generation(name) for name in left}
    daemon.kill()
    wait_until(lambda: descendants_gone(everybody), "every child ends with its supervisor")
    assert daemon.segments() == left, "shared memory waits for a successor"

    daemon.forget_address()
    daemon.start()
    wait_until(lambda: daemon.running(*ALL), "the next start is ready")
    assert {name: _generation(name) for name in daemon.segments()} == generations, (
        "segments of equal geometry are adopted"
    )
    assert daemon.get("/health").status == 200
    assert daemon.stop() == 0
    assert daemon.segments() == []


def _generation(name: str) -> int:
    return int.from_bytes(Path("/dev/shm", name).read_bytes()[16:24], "little")


def test_what_does_not_fit_any_more_is_replaced_after_a_kill(daemon: Daemon) -> None:
    old = {name: _generation(name) for name in daemon.segments()}
    daemon.kill()
    daemon.write(LIVE.replace("[symbols.BTC]", "[symbols.BTC]\nenabled = false").replace("256\nenabled = false", "512"))
    daemon.forget_address()
    daemon.start()
    wait_until(lambda: daemon.running("ingest", "ETH", "api"), "the next start is ready")
    now = {name: _generation(name) for name in daemon.segments()}
    assert not any(name.endswith(".BTC") for name in now)
    status = next(name for name in now if name.endswith(".status"))
    assert now[status] == old[status]
    assert set(now) == {plan.name for plan in segments_of(load(daemon.file))}


def test_a_child_that_outlived_its_supervisor_is_put_away_by_the_next(daemon: Daemon, tmp_path: Path) -> None:
    daemon.kill()
    lock = daemon.directory / "var" / "run" / daemon.instance / "BTC.lock"
    wait_until(lambda: _lockable(lock), "the worker is gone")
    clinging = subprocess.Popen(["flock", str(lock), "sleep", "600"])
    try:
        wait_until(lambda: not _lockable(lock), "somebody clings to the lock")
        daemon.forget_address()
        daemon.start()
        wait_until(lambda: daemon.running(*ALL), "the next start is ready")
        assert clinging.wait(PATIENCE_S) == -signal.SIGKILL
        assert "killing a child of a predecessor" in daemon.log("supervisor")
    finally:
        if clinging.poll() is None:
            clinging.kill()
            clinging.wait()


def _lockable(lock: Path) -> bool:
    return subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode == 0


def test_a_second_daemon_of_the_same_instance_is_refused_and_the_first_does_not_notice(daemon: Daemon) -> None:
    before = pids(daemon)
    second = subprocess.run(
        [LIQMAPD, "-c", daemon.file], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert second.returncode == 75
    assert daemon.process is not None
    pid = daemon.process.pid
    assert (
        second.stderr.strip()
        == f"liqmapd: instance {daemon.instance} is already running (pid {pid}); see liqmapctl status"
    )
    checked = subprocess.run(
        [LIQMAPD, "-c", daemon.file, "--check"], check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert checked.returncode == 0, "a file can be checked before it is reloaded"
    assert f"instance {daemon.instance} is running (pid {pid})" in checked.stdout
    assert pids(daemon) == before
    assert daemon.get("/health").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ordered_stop(daemon: Daemon, number: signal.Signals) -> None:
    everybody = family(daemon)
    assert daemon.process is not None
    daemon.process.send_signal(number)
    assert daemon.process.wait(PATIENCE_S) == 0
    assert descendants_gone(everybody)
    assert daemon.segments() == []
    ended = re.findall(r"(\S+) has stopped", daemon.log("supervisor"))
    assert ended == list(ALL), "ingest, then the workers, then the API"
    asked = [name for name in ALL for _ in re.findall(rf"{name} is asked to stop", daemon.log("supervisor"))]
    assert asked == list(ALL)
    for name in ("ingest", "BTC"):
        assert "ended" in daemon.log(name), "each child had the time to end by itself"
    run = daemon.directory / "var" / "run" / daemon.instance
    assert sorted(path.name for path in run.iterdir() if path.suffix != ".lock") == []


def test_shutdown_by_the_control_socket_answers_when_it_is_over(daemon: Daemon) -> None:
    code, answer = daemon.ctl("shutdown")
    assert (code, answer) == (0, {"ok": True, "said": "the daemon has stopped"})
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE_S) == 0
    assert daemon.segments() == []
    assert daemon.ctl("status")[0] == 3


def test_a_stop_while_children_are_still_starting(tmp_path: Path) -> None:
    with running_daemon(tmp_path, LIVE) as daemon:
        wait_until(lambda: daemon.status() != {}, "the control socket answers")
        assert daemon.stop() == 0
        assert daemon.segments() == []


def test_a_stop_with_a_hung_child_takes_no_longer_than_its_timeout(daemon: Daemon) -> None:
    pid = daemon.pid("BTC")
    os.kill(pid, signal.SIGSTOP)
    assert daemon.stop() == 0
    assert descendants_gone([pid])
    assert daemon.segments() == []


def test_systemd_hears_that_it_is_up_and_that_it_stops(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(PATIENCE_S)
        os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"] = str(address), "2000000"
        try:
            with running_daemon(tmp_path, LIVE) as daemon:
                heard = manager.recv(4096)
                while b"READY=1" not in heard:
                    heard = manager.recv(4096)
                assert daemon.running("ingest", "api")
                while heard != b"WATCHDOG=1":
                    heard = manager.recv(4096)
                assert daemon.stop() == 0
                while heard != b"STOPPING=1":
                    heard = manager.recv(4096)
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]


def test_the_api_moves_to_another_address_by_reload(daemon: Daemon) -> None:
    ingest, old = daemon.pid("ingest"), daemon.address
    port = free_port()
    daemon.write(LIVE.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    code, answer = daemon.ctl("reload")
    assert (code, answer["said"]) == (0, "restarted api")
    daemon.forget_address()
    assert daemon.address == f"http://127.0.0.1:{port}/" != old
    assert daemon.get("/health").status == 200
    assert daemon.pid("ingest") == ingest

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        daemon.write(LIVE.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
        code, answer = daemon.ctl("reload")
    assert code == 1
    assert "address already in use" in answer["error"]
    assert daemon.get("/health").status == 200, "a bad reload changes nothing"


def test_what_can_only_change_with_a_new_daemon_is_refused(daemon: Daemon) -> None:
    daemon.file.write_text(daemon.file.read_text().replace('/var"', '/elsewhere"'))
    code, answer = ask_by_socket(daemon, "reload")
    assert (code, "daemon.var_dir cannot change" in answer) == (1, True)


def ask_by_socket(daemon: Daemon, order: str) -> tuple[int, str]:
    path = daemon.directory / "var" / "run" / daemon.instance / "control.sock"
    done = subprocess.run(
        [LIQMAPCTL, "--socket", path, order], check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return done.returncode, done.stdout + done.stderr

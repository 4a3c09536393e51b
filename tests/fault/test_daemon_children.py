"""Children are killed, stopped, broken, restarted, added and removed under a running demo, and a reader watches.

One daemon serves the whole module: each test leaves it healthy for the next.
"""

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.daemon import Answer, Daemon, running_daemon
from tests.waiting import wait_until

CONFIG = """
[supervisor]
heartbeat_timeout_s = 4.0
backoff_first_s = 0.2
abort_grace_s = 4.0
[api]
bind = "127.0.0.1:0"
workers = 2
stale_after_ms = 2000
[history]
minute_columns = 16
[sim.symbols.BTC]
positions = 2000
[sim.symbols.ETH]
positions = 2000
[sim.symbols.SOL]
positions = 2000
[symbols.BTC]
buckets = 1024
{BTC}
[symbols.ETH]
buckets = 1024
{ETH}
[symbols.SOL]
buckets = 1024
enabled = false
"""


def config(**extra: str) -> str:
    text = CONFIG
    for symbol in ("BTC", "ETH"):
        text = text.replace(f"{{{symbol}}}", extra.get(symbol, ""))
    return text


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("demo"), config(), "--demo") as daemon:
        wait_until(lambda: daemon.running("sim", "ingest", "BTC", "ETH", "api"), "every child is running")
        wait_until(lambda: fresh(daemon, "BTC", "ETH"), "both symbols are fresh")
        yield daemon
        assert daemon.stop() == 0
        assert daemon.segments() == []


@pytest.fixture(autouse=True)
def healthy(daemon: Daemon) -> None:
    wait_until(lambda: daemon.running() and fresh(daemon, "BTC", "ETH"), "healthy before the test")


def symbols(daemon: Daemon) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = daemon.health()["symbols"]
    return found


def fresh(daemon: Daemon, *names: str) -> bool:
    seen = symbols(daemon)
    return all(seen.get(name, {}).get("ready") for name in names)


def sequence(daemon: Daemon, name: str) -> int:
    return symbols(daemon)[name]["sequence"]


def advances(daemon: Daemon, name: str) -> None:
    """This symbol's map goes on."""
    before = sequence(daemon, name)
    wait_until(lambda: sequence(daemon, name) > before, f"{name} goes on")


class Poller:
    """A client that asks all the time, on a new connection each time; remembers what failed."""

    def __init__(self, daemon: Daemon, path: str) -> None:
        self._daemon, self._path = daemon, path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[Answer] = []
        self.failures: list[str] = []

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._daemon.get(self._path, timeout_s=60)
            except OSError as error:
                self.failures.append(repr(error))
                continue
            self.answers.append(answer)
            if answer.status != 200:
                self.failures.append(f"{answer.status}: {answer.body[:200]!r}")

    def __enter__(self) -> "Poller":
        self._daemon.address  # noqa: B018 - asked once, here, not by the thread
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_kill_of_one_worker_makes_only_its_symbol_stale_and_it_is_back_in_time(daemon: Daemon) -> None:
    pid, restarts = daemon.pid("BTC"), daemon.child("BTC")["restarts"]
    others = {name: daemon.pid(name) for name in ("ETH", "ingest", "api", "sim")}
    began_eth = sequence(daemon, "ETH")
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: daemon.child("BTC").get("restarts") == restarts + 1 and daemon.running("BTC"), "BTC runs again", 10
    )
    wait_until(lambda: fresh(daemon, "BTC"), "BTC is fresh again", 10 - (time.monotonic() - killed_at))
    assert daemon.child("BTC")["exit"] == "killed by signal 9"
    assert {name: daemon.pid(name) for name in others} == others, "nobody else was touched"
    wait_until(lambda: sequence(daemon, "ETH") > began_eth, "ETH went on")
    wait_until(lambda: daemon.health()["status"] == "ok", "a past restart alone degrades nothing")


def test_a_stopped_worker_is_aborted_with_a_traceback_and_replaced_while_clients_are_told_stale(daemon: Daemon) -> None:
    first = daemon.get("/liq_heatmap_v2?symbol=BTC")
    assert first.status == 200
    assert first.json()["stale"] is False
    pid, restarts = daemon.pid("BTC"), daemon.child("BTC")["restarts"]
    os.kill(pid, signal.SIGSTOP)
    latest, told_stale = first, False
    began_eth = sequence(daemon, "ETH")

    def asked_again() -> bool:
        nonlocal latest, told_stale
        answer = daemon.get("/liq_heatmap_v2?symbol=BTC", {"If-None-Match": latest.headers["etag"]})
        if answer.status == 200:
            latest = answer
            told_stale = told_stale or answer.json()["stale"]
        else:
            assert answer.status == 304
        return told_stale

    wait_until(asked_again, "the client is told that the map is stale")
    wait_until(lambda: sequence(daemon, "ETH") > began_eth, "ETH goes on meanwhile")
    wait_until(lambda: daemon.child("BTC").get("restarts") == restarts + 1 and daemon.running("BTC"), "it is replaced")
    assert daemon.child("BTC")["exit"] == "killed by signal 6"
    assert "BTC is silent" in daemon.terminal
    traceback = daemon.log("BTC").rpartition("Fatal Python error: Aborted")[2]
    assert "liqmap/worker" in traceback, "the log says where it stood"
    wait_until(lambda: fresh(daemon, "BTC"), "BTC is fresh again")


def test_kill_of_ingest(daemon: Daemon) -> None:
    pids = {name: daemon.pid(name) for name in ("BTC", "ETH", "api", "sim")}
    restarts = daemon.child("ingest")["restarts"]
    os.kill(daemon.pid("ingest"), signal.SIGKILL)
    wait_until(
        lambda: daemon.child("ingest").get("restarts") == restarts + 1 and daemon.running("ingest"), "ingest is back"
    )
    advances(daemon, "BTC")
    advances(daemon, "ETH")
    wait_until(lambda: fresh(daemon, "BTC", "ETH"), "both are fresh again")
    assert {name: daemon.pid(name) for name in pids} == pids
    assert daemon.get("/liq_heatmap_v2?symbol=BTC").status == 200


def test_restart_of_a_symbol_while_clients_poll(daemon: Daemon) -> None:
    pid = daemon.pid("BTC")
    with Poller(daemon, "/liq_heatmap_v2?symbol=BTC") as client:
        wait_until(lambda: len(client.answers) > 3, "the client is served")
        code, answer = daemon.ctl("restart", "BTC")
        served = len(client.answers)
        wait_until(lambda: len(client.answers) > served + 3, "and afterwards")
    assert (code, answer) == (0, {"ok": True, "said": "BTC restarted"})
    assert daemon.pid("BTC") != pid
    assert client.failures == []


def test_restart_of_the_api_under_load_refuses_nobody(daemon: Daemon) -> None:
    pid = daemon.pid("api")
    with (
        Poller(daemon, "/health/live") as one,
        Poller(daemon, "/symbols") as two,
        Poller(daemon, "/health/live") as three,
    ):
        clients = (one, two, three)
        wait_until(lambda: all(len(client.answers) > 3 for client in clients), "they are served")
        code, answer = daemon.ctl("restart", "api")
        served = [len(client.answers) for client in clients]
        wait_until(
            lambda: all(len(client.answers) > n + 3 for client, n in zip(clients, served, strict=True)),
            "and afterwards",
        )
    assert (code, answer["said"]) == (0, "api restarted")
    assert daemon.pid("api") != pid
    assert [client.failures for client in clients] == [[], [], []]


def test_a_wrong_configuration_of_one_worker_is_fatal_at_once_and_the_rest_runs(daemon: Daemon) -> None:
    btc = daemon.pid("BTC")
    daemon.write(config(ETH='margin_table = "no-such-brackets.json"'))
    code, answer = daemon.ctl("reload")
    assert code == 1
    assert "restarted ETH" in answer["error"]
    assert "configuration is wrong (exit 78)" in answer["error"]
    row = daemon.child("ETH")
    assert (row["state"], row["exit"]) == ("fatal", "exited with 78")
    assert "no-such-brackets.json" in daemon.log("ETH").splitlines()[-1]
    assert any("ETH is given up" in problem for problem in daemon.status()["problems"])
    assert daemon.pid("BTC") == btc
    advances(daemon, "BTC")
    wait_until(lambda: daemon.health()["status"] == "degraded", "health says that something is wrong")
    assert daemon.get("/liq_heatmap_v2?symbol=ETH").json()["stale"] is True

    code, answer = daemon.ctl("start", "ETH")
    assert code == 1, "it is as broken as before"
    daemon.write(config())
    code, answer = daemon.ctl("reload")
    assert code == 0
    if daemon.child("ETH")["state"] == "fatal":
        assert daemon.ctl("start", "ETH")[0] == 0
    assert daemon.pid("BTC") == btc


def test_a_bad_file_changes_nothing(daemon: Daemon) -> None:
    before = {row["name"]: row["pid"] for row in daemon.status()["processes"]}
    daemon.write(config(BTC="colour = 'red'"))
    code, answer = daemon.ctl("reload")
    assert code == 1
    assert "symbols.BTC.colour: unknown key" in answer["error"]
    daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    wait_until(lambda: "reload refused, nothing changes" in daemon.terminal, "HUP says so too")
    assert {row["name"]: row["pid"] for row in daemon.status()["processes"]} == before
    daemon.write(config())
    assert daemon.ctl("reload") == (0, {"ok": True, "said": "nothing changed"})
    assert {row["name"]: row["pid"] for row in daemon.status()["processes"]} == before


def test_a_symbol_is_added_and_removed_while_the_others_run(daemon: Daemon) -> None:
    before = {row["name"]: row["pid"] for row in daemon.status()["processes"]}
    code, answer = daemon.ctl("add", "SOL")
    assert code == 0, answer
    assert "started SOL" in answer["said"]
    assert any(name.endswith(".SOL") for name in daemon.segments())
    wait_until(lambda: fresh(daemon, "SOL"), "SOL has a map")
    assert daemon.ctl("add", "SOL") == (1, {"ok": False, "error": "SOL is enabled already"})

    code, answer = daemon.ctl("remove", "sol")
    assert code == 0, answer
    assert not any(name.endswith(".SOL") for name in daemon.segments())
    assert daemon.child("SOL") == {}
    wait_until(lambda: "SOL" not in symbols(daemon), "the API has followed")
    assert {row["name"]: row["pid"] for row in daemon.status()["processes"]} == before


def test_refusals_have_reasons(daemon: Daemon) -> None:
    refused = {
        ("add", "DOGE"): "DOGE does not stand in",
        ("remove", "SOL"): "SOL is disabled already",
        ("restart", "nobody"): "there is no 'nobody'; there are sim, ingest",
    }
    for arguments, why in refused.items():
        code, answer = daemon.ctl(*arguments)
        assert code == 1
        assert why in answer["error"]
    assert daemon.ctl("start", "ingest") == (0, {"ok": True, "said": "ingest is running already"})


def test_stop_and_start_of_a_child(daemon: Daemon) -> None:
    assert daemon.ctl("stop", "eth") == (0, {"ok": True, "said": "ETH has stopped"})
    assert daemon.child("ETH")["state"] == "stopped"
    assert "ETH is stopped by an operator" in daemon.status()["problems"]
    advances(daemon, "BTC")
    assert daemon.child("ETH")["state"] == "stopped", "nobody starts it again"
    assert daemon.ctl("start", "ETH") == (0, {"ok": True, "said": "ETH started"})


@pytest.mark.finding("M22")
def test_logs_are_reopened_everywhere(daemon: Daemon) -> None:
    directory = daemon.directory / "var" / "log" / daemon.instance
    names = ("supervisor", "ingest", "BTC", "ETH", "sim", "api")
    for name in names:
        (directory / f"{name}.log").rename(directory / f"{name}.moved")
    daemon.process.send_signal(signal.SIGUSR1)  # type: ignore[union-attr]
    wait_until(lambda: all((directory / f"{name}.log").exists() for name in names), "every process writes a new file")


def test_rude_clients_of_the_control_socket_hold_up_nobody(daemon: Daemon) -> None:
    path = daemon.directory / "var" / "run" / daemon.instance / "control.sock"
    rude = []
    for content in (
        b"",
        b"{",
        b"x" * 10_000,
        b"[]\n",
        b'{"do": ["restart"]}\n',
        b'{"do": "restart", "name": {}}\n',
        b"\0\n",
    ):
        client = socket.socket(socket.AF_UNIX)
        client.connect(_short(path))
        client.sendall(content)
        rude.append(client)
    restarts = daemon.child("BTC")["restarts"]
    os.kill(daemon.pid("BTC"), signal.SIGKILL)
    wait_until(lambda: daemon.child("BTC").get("restarts") == restarts + 1 and daemon.running(), "the loop goes on")
    for client in rude:
        client.close()


def _short(path: Path) -> str:
    """A path that fits into a socket address."""
    return os.path.relpath(path) if len(str(path)) > 100 else str(path)


def test_a_worker_dies_at_many_moments_and_readers_never_notice_more_than_staleness(daemon: Daemon) -> None:
    with Poller(daemon, "/liq_heatmap_v2?symbol=ETH") as client:
        for _ in itertools.repeat(None, 4):
            restarts = daemon.child("ETH")["restarts"]
            os.kill(daemon.pid("ETH"), signal.SIGKILL)
            wait_until(lambda seen=restarts: daemon.child("ETH")["restarts"] > seen and daemon.running("ETH"), "back")  # type: ignore[misc]
    assert client.failures == []
    assert client.answers

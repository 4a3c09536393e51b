"""The API as a process: the socket it is given, restarts under load, hostile clients, its pulse and its end."""

import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from liqmap.config import EXIT_CONFIG, EXIT_TRY_AGAIN
from liqmap.shm.plan import Role
from liqmap.shm.status import Beat, read_heartbeats
from tests.api.process import PATIENCE_S, ApiProcess, api_process, get, listening
from tests.api.stage import Stage, config_of, instance_name, stage
from tests.waiting import wait_until


@pytest.fixture
def set_() -> Iterator[Stage]:
    """A healthy instance whose frames never go stale, in a configuration with short timeouts."""
    config = config_of(instance_name(), api={"stale_after_ms": 10**8, "workers": 2}, supervisor={"stop_timeout_s": 6.0})
    with stage(config) as made:
        made.write_all()
        yield made


def beat_of(set_: Stage) -> Beat:
    """The heartbeat row of the API."""
    return read_heartbeats(set_.holding[Role.STATUS])["api"]


@pytest.mark.finding("M26")
@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "unix"])
def test_it_serves_where_the_configuration_says(set_: Stage, tmp_path: Path, kind: str) -> None:
    """Without a socket from a supervisor it opens `api.bind` itself, whatever kind of address that is."""
    with socket.socket(socket.AF_INET6 if kind == "tcp6" else socket.AF_INET) as probe:
        probe.bind(("::1" if kind == "tcp6" else "127.0.0.1", 0))
        port = probe.getsockname()[1]
    address: Any
    bind, family, address = {
        "tcp4": (f"127.0.0.1:{port}", socket.AF_INET, ("127.0.0.1", port)),
        "tcp6": (f"[::1]:{port}", socket.AF_INET6, ("::1", port)),
        "unix": (f"unix:{tmp_path}/api.sock", socket.AF_UNIX, f"{tmp_path}/api.sock"),
    }[kind]
    config = config_of(set_.config.daemon.instance, api={"bind": bind, "workers": 1})

    def answers() -> bool:
        with socket.socket(family) as caller:
            try:
                caller.connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            caller.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return caller.recv(100).startswith(b"HTTP/1.1 200")

    with api_process(config, tmp_path, None):
        wait_until(answers, f"an answer at {bind}")


def test_it_serves_on_the_inherited_socket_and_never_names_versions(set_: Stage, tmp_path: Path) -> None:
    with listening() as listener, api_process(set_.config, tmp_path, listener):
        status, headers, body = get(listener, "/liq_heatmap_v2?symbol=eth")
        assert status == 200 and body["symbol"] == "ETH" and body["mark_price"] == 3000
        assert not any(character.isdigit() for character in headers["server"])
        assert get(listener, "/v2/liq_heatmap?symbol=ETH", {"If-None-Match": headers["etag"]})[0] == 304
        assert get(listener, "/nothing")[0] == 404 and get(listener, "/oi", method="POST")[0] == 405


def test_a_unix_socket_keeps_its_file_over_a_restart(set_: Stage, tmp_path: Path) -> None:
    """gunicorn takes the file of a Unix socket away when it ends, unless it was handed the socket as systemd does."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        for _ in range(2):
            with api_process(set_.config, tmp_path, listener) as process:
                with socket.socket(socket.AF_UNIX) as caller:
                    caller.settimeout(PATIENCE_S)
                    caller.connect(str(path))
                    caller.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    assert caller.recv(100).startswith(b"HTTP/1.1 200")
                assert process.stop() == 0
            assert path.is_socket()


class Pollers:
    """Clients that ask without pause, on kept connections and on new ones, and write down what went wrong.

    A kept connection may be closed by the server just as the next request leaves: every HTTP client then asks again on
    a new one (RFC 9112, 9.3.1), and so do these. A new connection that is refused or reset is always a fault.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.answered, self.faults = 0, list[str]()
        self._host, self._port = listener.getsockname()[:2]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._poll, args=(keep,)) for keep in (True, True, False, False)]
        for thread in self._threads:
            thread.start()

    def _poll(self, keep: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        reused = False
        while not self._stop.is_set():
            if connection is None:
                connection, reused = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_S), False
            try:
                connection.request("GET", "/liq_heatmap_v2?range_pct=3", headers={"Accept-Encoding": "gzip"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                if not (reused and isinstance(error, ConnectionError)):
                    self.faults.append(repr(error))
                connection.close()
                connection = None
                continue
            self.answered += 1
            reused = True
            if response.status != 200:
                self.faults.append(str(response.status))
            if not keep or connection.sock is None:  # the server said close
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def wait_for(self, more: int) -> None:
        """Wait for so many more answers."""
        before = self.answered
        wait_until(lambda: self.answered > before + more, "answers")

    def end(self) -> None:
        """Stop asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_restart_under_load_loses_and_refuses_nothing(set_: Stage, tmp_path: Path) -> None:
    with listening() as listener:
        process = ApiProcess(set_.config, tmp_path, listener)
        pollers = Pollers(listener)
        try:
            for _ in range(3):
                pollers.wait_for(50)
                assert process.stop() == 0
                process.end()
                process = ApiProcess(set_.config, tmp_path, listener)
            pollers.wait_for(50)
        finally:
            pollers.end()
            process.end()
    assert pollers.faults == []


STARTING_SLOWLY = """
from pathlib import Path
from time import sleep

from liqmap.api import serving

globals().update(serving.settings())


def post_fork(arbiter, worker):
    serving.post_fork(arbiter, worker)
    while not Path({gate!r}).exists():
        sleep(0.01)
"""


def test_workers_that_are_told_to_stop_while_they_start_obey(set_: Stage, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "gunicorn.conf.py").write_text(STARTING_SLOWLY.format(gate=str(gate)))
    with listening() as listener, api_process(set_.config, tmp_path, listener) as process:
        wait_until(lambda: process.logged().count("Booting worker") == 2, "two workers that start")
        workers = psutil.Process(process.process.pid).children()
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: all(map(waits_for_term, workers)), "the order to stop")
        gate.touch()
        assert process.process.wait(PATIENCE_S) == 0
        assert process.logged().count("Worker exiting") == 2, "neither was killed"


def waits_for_term(worker: psutil.Process) -> bool:
    """True while SIGTERM is pending for the process."""
    pending = re.findall(r"^S\w+Pnd:\s*(\w+)", Path(f"/proc/{worker.pid}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in pending)


def test_a_reload_under_load_loses_and_refuses_nothing(set_: Stage, tmp_path: Path) -> None:
    """HUP: other workers, from the configuration as it is now, without a pause."""
    with listening() as listener, api_process(set_.config, tmp_path, listener) as process:
        get(listener, "/health/live")
        pollers = Pollers(listener)
        try:
            family = psutil.Process(process.process.pid)
            wait_until(lambda: len(family.children()) == 2, "two workers")
            before = {child.pid for child in family.children()}
            process.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len({child.pid for child in family.children()} - before) == 2, "two other workers")
            wait_until(lambda: not before & {child.pid for child in family.children()}, "the old ones gone")
            pollers.wait_for(50)
        finally:
            pollers.end()
    assert pollers.faults == []


def test_a_kept_connection_is_told_to_close_and_idle_ones_do_not_hold_up_the_stop(set_: Stage, tmp_path: Path) -> None:
    with listening() as listener, api_process(set_.config, tmp_path, listener) as process:
        address = host, port = listener.getsockname()[:2]
        kept = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
        kept.request("GET", "/health/live")
        assert kept.getresponse().read()
        with socket.create_connection(address), socket.create_connection(address) as half:
            half.sendall(b"GET /health/li")
            process.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Handling signal: term" in process.logged(), "the stop")
            kept.request("GET", "/health/live")
            answer = kept.getresponse()
            assert answer.status == 200 and answer.getheader("Connection") == "close"
            answer.read()
            kept.close()
            assert process.process.wait(PATIENCE_S) == 0


def test_silent_and_half_sent_requests_take_no_thread_from_others(set_: Stage, tmp_path: Path) -> None:
    """More mute connections than there are threads, and the API answers."""
    with listening() as listener, api_process(set_.config, tmp_path, listener):
        mute = [socket.create_connection(listener.getsockname()[:2]) for _ in range(20)]
        try:
            assert get(listener, "/oi")[0] == 200
        finally:
            for connection in mute:
                connection.close()


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "unknown_path"),
    ],
    ids=["long line", "long header", "many headers", "tls", "bad length", "bad escape"],
)
def test_what_is_no_request_gets_the_envelope(
    shared_api: tuple[socket.socket, ApiProcess], raw: bytes, status: int, code: str
) -> None:
    listener, process = shared_api
    with socket.create_connection(listener.getsockname()[:2], timeout=PATIENCE_S) as caller:
        caller.sendall(raw)
        received = b""
        while chunk := caller.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode()
    assert json.loads(body)["error"]["code"] == code
    assert "Traceback" not in process.logged()


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[socket.socket, ApiProcess]]:
    """One process for the tests that leave it as it was."""
    with stage(config_of(instance_name(), api={"workers": 1})) as made, listening() as listener:
        made.write_all()
        with api_process(made.config, tmp_path_factory.mktemp("api"), listener) as process:
            yield listener, process


def test_the_pulse(set_: Stage, tmp_path: Path) -> None:
    """Ready with the first worker that answers; counts requests; beats on."""
    with listening() as listener, api_process(set_.config, tmp_path, listener) as process:
        wait_until(lambda: beat_of(set_).pid == process.process.pid and beat_of(set_).ready, "ready")
        for _ in range(5):
            get(listener, "/health/live")
        wait_until(lambda: beat_of(set_).work >= 5, "requests counted")
        seen = beat_of(set_).beat_ns
        wait_until(lambda: beat_of(set_).beat_ns > seen, "another beat")
        os.kill(process.process.pid, signal.SIGSTOP)
        stopped = beat_of(set_).beat_ns
        os.kill(process.process.pid, signal.SIGCONT)
        wait_until(lambda: beat_of(set_).beat_ns > stopped, "a beat after the pause")


def test_a_killed_worker_is_replaced_and_a_killed_master_takes_its_workers_along(set_: Stage, tmp_path: Path) -> None:
    with listening() as listener, api_process(set_.config, tmp_path, listener) as process:
        family = psutil.Process(process.process.pid)
        wait_until(lambda: len(family.children()) == 2, "two workers")
        victim = family.children()[0]
        victim.kill()
        wait_until(lambda: len({c.pid for c in family.children()} - {victim.pid}) == 2, "a successor")
        assert get(listener, "/oi")[0] == 200
        workers = family.children()
        process.stop(signal.SIGKILL)
        wait_until(lambda: not any(worker.is_running() for worker in workers), "the workers to follow")


def test_a_second_one_and_a_broken_configuration_end_with_one_line(set_: Stage, tmp_path: Path) -> None:
    with listening() as listener, api_process(set_.config, tmp_path, listener):
        assert get(listener, "/health/live")[0] == 200
        with api_process(set_.config, tmp_path, listener) as second:
            assert second.process.wait(PATIENCE_S) == EXIT_TRY_AGAIN
            assert "api.lock is held by process" in second.end()
        assert get(listener, "/health/live")[0] == 200
    broken = ApiProcess(set_.config, tmp_path, None, effective_text='{"config": {"api": {"worker": 3}}}')
    assert broken.process.wait(PATIENCE_S) == EXIT_CONFIG
    assert broken.end().count("\n") == 1


def test_errors_reach_the_log_with_their_traceback_and_usr1_reopens_it(set_: Stage, tmp_path: Path) -> None:
    config = config_of(set_.config.daemon.instance, api={"workers": 1})
    with listening() as listener, api_process(config, tmp_path, listener) as process:
        assert get(listener, "/health/live")[0] == 200
        assert "GET" not in process.logged()  # no access log
        moved = process.log.rename(tmp_path / "moved.log")
        process.process.send_signal(signal.SIGUSR1)
        wait_until(process.log.exists, "a new log file")
        child = psutil.Process(process.process.pid).children()[0]
        child.kill()
        wait_until(lambda: "Booting worker" in process.logged(), "lines in the new file")
        assert "Listening at" in moved.read_text()

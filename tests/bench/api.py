"""The API under load: CPU per request of the live heatmap against an empty Flask route on the same gunicorn, against
the standard library's JSON, and how long requests wait while every core is busy with niced workers.

The server's CPU is read from its workers' processes, so what the asking side costs does not count.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from flask import Flask, Response

from liqmap.api.main import EFFECTIVE
from liqmap.api.serving import application as serve
from liqmap.config import Effective, write_effective
from tests.api.process import ROOT, listening
from tests.api.stage import config_of, instance_name, stage
from tests.bench.table import Row
from tests.waiting import wait_until

MAP = "/liq_heatmap_v2"
EMPTY = "/bench/empty"
STANDARD = "/bench/standard_json"
WORKERS = 2
REQUESTS = 4000
ROUNDS = 5
FRESH_MS = 10**9


def application() -> Flask:
    """The API with two more routes: one that does nothing, and one that encodes the same map with `json` each time."""
    app, content = serve(), serve().test_client().get(MAP).get_json()
    app.add_url_rule(EMPTY, "empty", lambda: Response(b""))
    app.add_url_rule(STANDARD, "standard", lambda: Response(json.dumps(content), mimetype="application/json"))
    return app


def rows(effort: float) -> Iterator[Row]:
    """The rows of the API in the table."""
    requests = max(int(REQUESTS * effort), 100)
    with server() as (listener, master):
        tag = headers_of(listener)["etag"]
        asked = {
            "empty": (EMPTY, ""),
            "map": (MAP, ""),
            "gzip": (MAP, "Accept-Encoding: gzip\r\n"),
            "304": (MAP, f"If-None-Match: {tag}\r\n"),
            "standard": (STANDARD, ""),
        }
        cost_us = dict.fromkeys(asked, 1000000000.0)
        for _ in range(ROUNDS if effort >= 1 else 1):
            for name, (path, header) in asked.items():
                cost_us[name] = min(cost_us[name], cpu_us(listener, master, path, header, requests))
        yield from _cost_rows(cost_us)
        idle_ms = waits_ms(listener, requests)
        with busy_cores():
            busy_ms = waits_ms(listener, requests)
        ratio = busy_ms[98] / idle_ms[98]
        yield Row(
            "GET live heatmap, p99 while every core is busy (niced)",
            "the same when idle",
            "≤ 2×",
            f"{ratio:.2f}× ({idle_ms[98]:.2f} → {busy_ms[98]:.2f} ms; median {idle_ms[49]:.2f} → {busy_ms[49]:.2f} ms)",
            ratio <= 2,
        )


def _cost_rows(cost_us: dict[str, float]) -> Iterator[Row]:
    empty, standard = cost_us["empty"], cost_us["standard"]
    yield Row(
        "GET live heatmap, CPU per request",
        "an empty Flask route on the same gunicorn",
        "≤ 1.4×",
        f"{cost_us['map'] / empty:.2f}× ({cost_us['map']:.0f} against {empty:.0f} µs)",
        cost_us["map"] <= 1.4 * empty,
    )
    yield Row(
        "GET live heatmap, CPU per request",
        "the same JSON by the standard library",
        "≤ 0.33×",
        f"{cost_us['map'] / standard:.2f}× (it takes {standard:.0f} µs)",
        cost_us["map"] <= standard / 3,
    )
    yield Row(
        "GET live heatmap, prepared gzip",
        "an empty Flask route",
        "≤ 1.4×",
        f"{cost_us['gzip'] / empty:.2f}× ({cost_us['gzip']:.0f} µs)",
        cost_us["gzip"] <= 1.4 * empty,
    )
    yield Row(
        "GET live heatmap, 304",
        "the whole answer",
        "< 1×",
        f"{cost_us['304'] / cost_us['map']:.2f}× ({cost_us['304']:.0f} µs)",
        cost_us["304"] < cost_us["map"],
    )


@contextmanager
def server() -> Iterator[tuple[socket.socket, psutil.Process]]:
    """An instance, and gunicorn over it with the settings it has in production."""
    config = config_of(instance_name(), api={"stale_after_ms": FRESH_MS, "workers": WORKERS})
    with stage(config) as made, listening() as listener, tempfile.TemporaryDirectory() as directory:
        made.write_all()
        effective = Path(directory) / "effective.json"
        write_effective(Effective(config, base_dir=directory), effective)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), EFFECTIVE: str(effective)}
        settings = ROOT / "liqmap" / "api" / "gunicorn_settings.py"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "-c", str(settings)),
                *("-b", f"fd://{listener.fileno()}", "tests.bench.api:application()"),
            ],
            pass_fds=(listener.fileno(),),
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            master = psutil.Process(process.pid)
            wait_until(lambda: len(master.children()) == WORKERS, "the workers")
            for _ in range(4 * WORKERS):
                headers_of(listener)
            yield listener, master
        finally:
            process.terminate()
            process.wait(60)


class Caller:
    """One kept connection that does as little as possible."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = socket.create_connection(listener.getsockname()[:2], timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, request: bytes) -> bytes:
        """Ask, read the whole answer, return its head."""
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(1 << 18)
        head, _, body = received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        missing = int(length or 0) - len(body)
        while missing > 0:
            missing -= len(self._socket.recv(1 << 18))
        return head

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def request_of(path: str, header: str = "") -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{header}\r\n".encode()


def headers_of(listener: socket.socket) -> dict[str, str]:
    """The headers of the map."""
    caller = Caller(listener)
    head = caller.get(request_of(MAP)).decode()
    caller.close()
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}


def cpu_us(listener: socket.socket, master: psutil.Process, path: str, header: str, requests: int) -> float:
    """CPU microseconds per request of all workers together, over `requests` on four kept connections."""
    request = request_of(path, header)
    callers = [Caller(listener) for _ in range(2 * WORKERS)]
    before = _cpu_s(master)

    def ask(caller: Caller) -> None:
        for _ in range(requests // len(callers)):
            caller.get(request)

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = _cpu_s(master) - before
    for caller in callers:
        caller.close()
    return 1e6 * spent / (requests // len(callers) * len(callers))


def _cpu_s(master: psutil.Process) -> float:
    def seconds(process: psutil.Process) -> float:
        times: Any = process.cpu_times()
        return float(times.user + times.system)

    return sum(seconds(worker) for worker in master.children())


def waits_ms(listener: socket.socket, requests: int) -> list[float]:
    """The 1st to 99th percentile of the time a caller waits for the map, asking one after the other."""
    caller, request = Caller(listener), request_of(MAP)
    waits = []
    for _ in range(requests):
        began = time.perf_counter()
        caller.get(request)
        waits.append(1e3 * (time.perf_counter() - began))
    caller.close()
    return statistics.quantiles(waits, n=100)


@contextmanager
def busy_cores() -> Iterator[None]:
    """One niced process per core that never rests, as workers in a storm."""
    code = "import os; os.nice(5)\nwhile os.getppid() == int(__import__('sys').argv[1]): sum(range(10**5))"
    busy = [subprocess.Popen([sys.executable, "-c", code, str(os.getpid())]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()

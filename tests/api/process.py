"""The API as a real process on a listening socket that the test owns, as the supervisor would."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from liqmap.config import Config, Effective, write_effective

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


class ApiProcess:
    """One life of the API. `listener` outlives it."""

    def __init__(
        self, config: Config, directory: Path, listener: socket.socket | None, effective_text: str | None = None
    ) -> None:
        self.log = directory / "var" / "log" / config.daemon.instance / "api.log"
        for name in ("log", "run"):
            (directory / "var" / name / config.daemon.instance).mkdir(parents=True, exist_ok=True)
        effective = directory / "effective.json"
        write_effective(Effective(config, base_dir=str(directory)), effective)
        if effective_text is not None:
            effective.write_text(effective_text)
        self._words = directory / f"stderr.{time.monotonic_ns()}"
        inherited = () if listener is None else (listener.fileno(),)
        handed = [] if listener is None else ["--fd", str(listener.fileno())]
        with self._words.open("wb") as words:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "liqmap.api", "--effective", str(effective), *handed],
                pass_fds=inherited,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, wait until it has; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def end(self) -> str:
        """Make sure nothing of it is left; what it wrote to the terminal."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self._words.read_text()

    def logged(self) -> str:
        """The log so far."""
        return self.log.read_text() if self.log.exists() else ""


@contextmanager
def api_process(config: Config, directory: Path, listener: socket.socket | None) -> Iterator[ApiProcess]:
    """A life of the API that ends with the block."""
    process = ApiProcess(config, directory, listener)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A listening socket on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener


def get(
    listener: socket.socket, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], Any]:
    """One request on a connection of its own: status, headers (lower case), decoded JSON or raw bytes."""
    host, port = listener.getsockname()[:2]
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        if found.get("content-type") == "application/json" and body and "content-encoding" not in found:
            return response.status, found, json.loads(body)
        return response.status, found, body
    finally:
        connection.close()

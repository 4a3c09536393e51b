"""A whole daemon for a test: `bin/liqmapd` with a configuration of its own, driven from outside as operators do."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from liqmap.supervisor.control import ControlClient

CHECKOUT = Path(__file__).parents[2]
LIQMAPD = CHECKOUT / "bin" / "liqmapd"
LIQMAPCTL = CHECKOUT / "bin" / "liqmapctl"
PATIENCE_S = 90.0
"""Generous: the machines are small and shared."""


def unique_instance() -> str:
    """A name that no other run uses."""
    return f"t{os.getpid()}x{random.randrange(16**5):05x}"


@dataclass(frozen=True)
class Answer:
    """What the API said."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body."""
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


class Daemon:
    """One daemon and its surroundings. `flags` as on the command line, `config` is the TOML file's text."""

    def __init__(self, directory: Path, config: str, *flags: str) -> None:
        self.directory = directory
        self.name = unique_instance()
        self.file = directory / "liqmap.toml"
        self.flags = flags
        self.instance = f"{self.name}-demo" if "--demo" in flags else self.name
        self.write(config)
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, config: str) -> None:
        """Write the configuration file; instance and var_dir are filled in, and backfill is off unless it is set."""
        if "backfill_days" not in config:
            head, section, rest = config.partition("[ingest]\n")
            config = (
                f"{head}[ingest]\nbackfill_days = 0.0\n{rest}"
                if section
                else f"{config}\n[ingest]\nbackfill_days = 0.0\n"
            )
        self.file.write_text(f'[daemon]\ninstance = "{self.name}"\nvar_dir = "{self.directory / "var"}"\n{config}')

    # -- its life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it; it is not ready yet."""
        with (self.directory / "terminal").open("ab") as terminal:
            self.process = subprocess.Popen(
                [LIQMAPD, "-c", self.file, *self.flags],
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
                cwd="/",
            )

    def stop(self) -> int:
        """TERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL of the supervisor alone, as an out-of-memory killer would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def clean(self) -> None:
        """Whatever happened: nothing of it stays behind on the machine."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
            if self.process.poll() is None:
                self.kill()
        for name in self.segments():
            with contextlib.suppress(FileNotFoundError):
                Path("/dev/shm", name).unlink()

    # -- looking at it -------------------------------------------------------------------------------------------

    def segments(self) -> list[str]:
        """Its names below /dev/shm."""
        prefixes = (f"liqmap.{self.name}.", f"liqmap.{self.name}-demo.", f"liqmap.{self.name}-replay.")
        return sorted(name for name in os.listdir("/dev/shm") if name.startswith(prefixes))  # noqa: PTH208

    def log(self, name: str) -> str:
        """The log file of one process."""
        path = self.directory / "var" / "log" / self.instance / f"{name}.log"
        return path.read_text() if path.exists() else ""

    @property
    def terminal(self) -> str:
        """What an operator saw in the foreground."""
        return (self.directory / "terminal").read_text()

    def ctl(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """`liqmapctl --json …`: exit code and answer."""
        done = subprocess.run(
            [LIQMAPCTL, "--json", "-c", self.file, *arguments],
            check=False,
            capture_output=True,
            timeout=PATIENCE_S,
            cwd="/",
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr.decode()}

    def status(self) -> dict[str, Any]:
        """What `liqmapctl status` is answered; empty while nobody answers."""
        try:
            client = ControlClient(self.directory / "var" / "run" / self.instance / "control.sock", PATIENCE_S)
        except OSError:
            return {}
        try:
            return client.ask({"do": "status"})
        except OSError:
            return {}
        finally:
            client.close()

    def child(self, name: str) -> dict[str, Any]:
        """One row of the status table; empty when there is none."""
        found = [row for row in self.status().get("processes", []) if row["name"] == name]
        return found[0] if found else {}

    def pid(self, name: str) -> int:
        """Of a living child."""
        pid = self.child(name)["pid"]
        assert pid is not None
        return int(pid)

    def running(self, *names: str) -> bool:
        """True when all of these (of all, without names) are running."""
        rows = {row["name"]: row["state"] for row in self.status().get("processes", [])}
        return bool(rows) and all(rows.get(name) == "running" for name in names or rows)

    def get(self, path: str, headers: dict[str, str] | None = None, timeout_s: float = 30.0) -> Answer:
        """One request on a connection of its own. Raises OSError when refused or broken off."""
        address = urlsplit(self.address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    @property
    def address(self) -> str:
        """The API's; asked once per daemon, since its port is chosen by the kernel."""
        if not hasattr(self, "_address"):
            self._address: str = self.status()["address"]
        return self._address

    def forget_address(self) -> None:
        """After a new start."""
        if hasattr(self, "_address"):
            del self._address

    def health(self) -> dict[str, Any]:
        """The answer of /health."""
        return self.get("/health").json()


@contextlib.contextmanager
def running_daemon(directory: Path, config: str, *flags: str) -> Iterator[Daemon]:
    """A started daemon; shows its terminal when the test fails, and cleans up in any case."""
    daemon = Daemon(directory, config, *flags)
    try:
        daemon.start()
        yield daemon
    except BaseException:
        if (directory / "terminal").exists():
            print(daemon.terminal[-4000:])  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        daemon.clean()


def descendants_gone(pids: list[int]) -> bool:
    """True when none of these processes is left (a zombie nobody buried counts as gone)."""
    return not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

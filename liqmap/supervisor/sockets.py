"""Listening sockets that the supervisor owns and hands to children, so that they outlive any child.

`api.bind` is `host:port` or `unix:PATH` or `unix:PATH:MODE` (octal; 0660 without). Connections that arrive while the
API restarts wait in the backlog of the kernel instead of being refused.
"""

import contextlib
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from liqmap.config import Config
from liqmap.supervisor.control import reachable

DEFAULT_UNIX_MODE: Final = 0o660
_UNIX: Final = re.compile(r"unix:(?P<path>.+?)(?::(?P<mode>0?[0-7]{3}))?")


class BindFailed(Exception):
    """The address cannot be listened on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One open listening socket. `path` is its file when it is a Unix socket."""

    bind: str
    socket: socket.socket
    path: Path | None = None

    @property
    def address(self) -> str:
        """Where a person finds it: a URL, or the bind of a Unix socket."""
        if self.path is not None:
            return f"unix:{self.path}"
        host, port = self.socket.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def close(self) -> None:
        """Stop listening and take the file away."""
        self.socket.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def listen(config: Config, base_dir: Path) -> Listening:
    """Open the API's socket. A relative path of a Unix socket starts at `base_dir`. Raises BindFailed."""
    bind, backlog = config.api.bind, config.api.backlog
    try:
        if bind.startswith("unix:"):
            return _listen_unix(bind, base_dir, backlog)
        return Listening(bind, _listen_tcp(*split_host_port(bind), backlog))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BindFailed(f"cannot listen on api.bind = {bind}: {reason[:1].lower()}{reason[1:]}") from error


def listen_on_loopback() -> socket.socket:
    """A listening socket on a free port of 127.0.0.1. Raises OSError."""
    return _listen_tcp("127.0.0.1", 0, 256)


def listen_privately(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600, in place of one that a dead daemon left. Raises OSError."""
    path.unlink(missing_ok=True)
    with contextlib.ExitStack() as on_failure:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        on_failure.callback(listener.close)
        with reachable(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(8)
        on_failure.pop_all()
    return listener


def split_host_port(bind: str) -> tuple[str, int]:
    """`127.0.0.1:8899` or `[::1]:8899` in two."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def _listen_tcp(host: str, port: int, backlog: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with contextlib.ExitStack() as on_failure:
        listener = socket.socket(family, kind, protocol)
        on_failure.callback(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
        on_failure.pop_all()
    return listener


def _listen_unix(bind: str, base_dir: Path, backlog: int) -> Listening:
    match = _UNIX.fullmatch(bind)
    assert match is not None
    path = base_dir / match["path"]
    mode = int(match["mode"], 8) if match["mode"] else DEFAULT_UNIX_MODE
    if path.is_socket():
        _remove_if_dead(path)
    with contextlib.ExitStack() as on_failure:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        on_failure.callback(listener.close)
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(backlog)
        on_failure.pop_all()
    return Listening(bind, listener, path)


def _remove_if_dead(path: Path) -> None:
    """A socket file that nobody listens on was left by a killed daemon; one that answers is somebody's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)

"""The control socket: one JSON object per line in, one per line out, for `liqmapctl` and for scripts.

The server never waits for anybody: everything is non-blocking, lines, answers and the number of clients are bounded,
and who sends nothing for a while is shown the door. An answer may come turns later (`restart` answers when it is done);
until then nothing more is read from that client.
"""

import json
import logging
import os
import selectors
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from liqmap.logs import fields

log = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 16 * 1024
MAX_CLIENTS: Final = 32
MAX_ANSWER_BYTES: Final = 1024 * 1024
IDLE_NS: Final = 30_000_000_000
MAX_SOCKET_PATH: Final = 100
"""Bytes; the kernel takes 107."""


@dataclass(eq=False, slots=True)
class _Client:
    connection: socket.socket
    last_ns: int
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)
    waiting: bool = False
    """A request of it is not answered yet."""
    closing: bool = False
    """Close as soon as `outgoing` is empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One decoded line, and whom to answer."""

    order: dict[str, Any]
    _client: _Client


class ControlServer:
    """Listens on `path` (mode 0600). Raises OSError when that is not possible."""

    def __init__(self, path: Path, selector: selectors.BaseSelector) -> None:
        self._path = path
        self._selector = selector
        self._clients: set[_Client] = set()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with reachable(path) as address:
                self._listener.bind(address)
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            self._listener.listen(MAX_CLIENTS)
        except OSError:
            self._listener.close()
            raise
        selector.register(self._listener, selectors.EVENT_READ, self)

    def fileno(self) -> int:
        """For select."""
        return self._listener.fileno()

    def turn(self, ready: list[tuple[object, int]], now_ns: int) -> list[Request]:
        """Serve those of `ready` (the selector's data and events) that are ours; the requests that are complete."""
        for data, events in ready:
            if data is self:
                self._accept(now_ns)
            elif isinstance(data, _Client):
                if events & selectors.EVENT_READ:
                    self._receive(data, now_ns)
                if events & selectors.EVENT_WRITE:
                    self._flush(data, now_ns)
        for client in list(self._clients):
            if not client.waiting and now_ns - client.last_ns > IDLE_NS:
                self._drop(client)
        return [request for client in list(self._clients) for request in self._next_request(client, now_ns)]

    def answer(self, request: Request, answer: dict[str, Any], now_ns: int) -> None:
        """Send the answer; a client that has gone meanwhile is no fault."""
        client = request._client
        client.waiting = False
        self._say(client, answer, now_ns)

    def close(self) -> None:
        """Say what can be said without waiting, hang up, remove the socket file."""
        for client in list(self._clients):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self, now_ns: int) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("cannot accept a control client", extra=fields(reason=error.strerror))
                return
            if len(self._clients) >= MAX_CLIENTS:
                connection.close()
                continue
            connection.setblocking(False)
            client = _Client(connection, now_ns)
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, client)

    def _receive(self, client: _Client, now_ns: int) -> None:
        try:
            chunk = client.connection.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._drop(client)
            return
        client.last_ns = now_ns
        client.incoming += chunk
        if len(client.incoming) > MAX_LINE_BYTES:
            client.incoming.clear()
            client.closing = True
            self._say(client, refusal(f"a request is one line of at most {MAX_LINE_BYTES} bytes"), now_ns)
        self._watch(client)

    def _next_request(self, client: _Client, now_ns: int) -> list[Request]:
        """The next whole line of a client that waits for no answer: one at a time, in order."""
        if client.waiting or client.closing or client not in self._clients:
            return []
        end = client.incoming.find(b"\n")
        if end < 0:
            return []
        line = bytes(client.incoming[:end])
        del client.incoming[: end + 1]
        try:
            order = json.loads(line)
        except (ValueError, RecursionError):
            order = None
        if not isinstance(order, dict):
            self._say(client, refusal("a request is one JSON object"), now_ns)
            return []
        client.waiting = True
        self._watch(client)
        return [Request(order, client)]

    def _say(self, client: _Client, answer: dict[str, Any], now_ns: int) -> None:
        if client not in self._clients:
            return
        client.outgoing += json.dumps(answer, allow_nan=False).encode() + b"\n"
        if len(client.outgoing) > MAX_ANSWER_BYTES:
            self._drop(client)  # it asks and never listens
            return
        self._flush(client, now_ns)

    def _flush(self, client: _Client, now_ns: int) -> None:
        if client not in self._clients:
            return
        try:
            while client.outgoing:
                sent = client.connection.send(client.outgoing)
                del client.outgoing[:sent]
                client.last_ns = now_ns
        except BlockingIOError:
            self._watch(client)  # the rest goes out when the client has made room
            return
        except OSError:
            self._drop(client)
            return
        if client.closing:
            self._drop(client)
            return
        self._watch(client)

    def _watch(self, client: _Client) -> None:
        """Listen to a client that may speak, and wait for room when there is something to tell it. One that waits for
        an answer is watched too, so that its departure is noticed; what it says is bounded by the line limit."""
        if client not in self._clients:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.outgoing else 0)
        self._selector.modify(client.connection, events, client)

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()


Outcome = dict[str, Any] | None
"""An answer, or None while it is too early for one."""


def refusal(reason: str) -> dict[str, Any]:
    """The answer to what is not done."""
    return {"ok": False, "error": reason}


class ControlClient:
    """The other end, for liqmapctl: blocking, one request at a time. Raises OSError when nobody listens."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout_s)
        try:
            with reachable(path) as address:
                self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises OSError when the connection breaks."""
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        line = self._reader.readline(MAX_ANSWER_BYTES)
        if not line.endswith(b"\n"):
            raise ConnectionError("the daemon hung up without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._socket.close()


class reachable:  # noqa: N801 - reads as a word in a with statement
    """An address for a socket path of any length: a long one goes through its directory's descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= MAX_SOCKET_PATH:
            return str(self._path)
        self._directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            os.close(self._directory)

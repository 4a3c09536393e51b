"""The gunicorn worker: threads answer, one loop minds the connections, and no client can hold it up for long.

What the threaded worker of gunicorn does not do by itself (see docs/decisions/0009):
* a connection that says nothing waits in the poller, not in a thread;
* a request or a reader that stalls half-way gives its thread back after STALL_S;
* waiting for the other end to close happens in a thread, not in the loop that accepts;
* a stopping worker goes on accepting for as long as it waits for its idle connections, so that nobody waits for it,
  and lets go of silent connections with the idle ones;
* an answer leaves in one piece;
* bytes that are no HTTP request get the same envelope as every other error.
"""

import os
import socket
import struct
import time
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final

import orjson
from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from liqmap.api.tally import Tally

STALL_S: Final = 10
DRAIN_S: Final = 1.0
DRAIN_BYTES: Final = 65536

_TIMEVAL: Final = struct.pack("ll", STALL_S, 0)

_REFUSALS: Final[tuple[tuple[type[Exception], int, str, str, str], ...]] = (
    (LimitRequestLine, 414, "URI Too Long", "uri_too_long", "the request line is too long"),
    (LimitRequestHeaders, 431, "Request Header Fields Too Large", "headers_too_large", "the headers are too large"),
    (ParseException, 400, "Bad Request", "bad_request", "this is not a request this server understands"),
)


class _Gathered:
    """Stands in for a socket and keeps what is sent."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.sendall = self.parts.append


class OneWrite(wsgi.Response):  # type: ignore[misc]  # gunicorn has no types
    """Sends the head and the first part of a body together: the second send costs a quarter of a whole request."""

    sock: Any

    def write(self, arg: bytes) -> None:
        """As gunicorn does, in one system call."""
        if self.headers_sent:
            super().write(arg)
            return
        sock, gathered = self.sock, _Gathered()
        self.sock = gathered
        try:
            super().write(arg)
        finally:
            self.sock = sock
            sock.sendall(b"".join(gathered.parts))


wsgi.Response = OneWrite
"""gunicorn has no setting for this; `wsgi.create` looks the name up at every request."""


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads for requests, a poller for everything that waits."""

    tally: Tally | None = None
    """Where this worker counts; given by the hooks after the fork."""

    _accept_until = 0.0

    def notify(self) -> None:
        """A sign of life for the master, and the number of requests so far."""
        super().notify()
        if self.tally is not None:
            self.tally.requests(self.nr)

    def enqueue_req(self, conn: TConn) -> None:
        """A thread for a connection that has something to say; the poller for one that has not."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            conn.sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL)
        conn.timeout = time.monotonic() + (self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def handle(self, conn: TConn) -> Any:
        """One request, in a thread. A connection that ends here is drained here."""
        keep = super().handle(conn)
        if not keep:
            _drain(conn.sock)
        return keep

    def set_accept_enabled(self, enabled: bool) -> None:
        """A stopping worker goes on accepting while it lingers; an orphan gives the socket back at once."""
        if enabled or self.alive:
            super().set_accept_enabled(enabled)
        elif self.ppid != os.getppid():
            self._stop_accepting()
        else:
            self._accept_until = time.monotonic() + STOP_KEEPALIVE_LINGER

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the loop."""
        if not self.alive and self._accepting and time.monotonic() > self._accept_until:
            self._stop_accepting()
        super().wait_for_and_dispatch_events(timeout)

    def _stop_accepting(self) -> None:
        super().set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no request in the envelope; everything else as gunicorn does."""
        for kind, status, reason, code, message in _REFUSALS:
            if isinstance(exc, kind):
                self.log.debug("refused a request: %s", exc)
                _write_refusal(client, status, reason, code, message)
                return
        super().handle_error(req, client, addr, exc)


def _write_refusal(client: socket.socket, status: int, reason: str, code: str, message: str) -> None:
    body = orjson.dumps({"error": {"code": code, "message": message}})
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    try:
        util.write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    except OSError:
        return  # it did not wait for the answer


def _drain(sock: socket.socket) -> None:
    """Say that nothing more comes, read what the other end still sends, at most for a moment."""
    try:
        sock.shutdown(socket.SHUT_WR)
        deadline, drained = time.monotonic() + DRAIN_S, 0
        while drained < DRAIN_BYTES and (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            received = sock.recv(4096)
            if not received:
                return
            drained += len(received)
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        return  # it is gone already

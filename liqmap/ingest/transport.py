"""One websocket connection behind a small interface. The only module that knows which library is below.

websocket-client does the handshake, masks what we send and answers pings; reading is `frames.FrameReader` on large
receive buffers. Proxies of the environment are not used (a proxy nobody thought of is a source of silent delay);
redirects are refused; the handshake has a deadline and a size.

The tree of what can go wrong:

    TransportError
    ├── CannotResolve        the name has no address
    ├── CannotConnect        nobody listens, no route, TLS refused, timed out
    ├── HandshakeRefused     an HTTP answer instead of a websocket: `status`, `headers`, `body`
    └── ConnectionLost       it was open and is not any more: `code` and reason of a close frame, if there was one
"""

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import websocket

from liqmap.ingest.frames import BadFrame, Close, FrameReader, FramingLost, Notice, Ping

_RECEIVE_BYTES: Final = 256 * 1024
_SOCKET_BUFFER: Final = 4 * 1024 * 1024
_SEND_TIMEOUT_S: Final = 5.0
_LAST_WORD_S: Final = 0.5
_HANDSHAKE_BYTES: Final = 64 * 1024

PONG_EVERY_S: Final = 0.5
"""Of pings that come faster the newest is answered, this often (RFC 6455 §5.5.3 allows it): what a venue sends must not
make us say more than it allows."""


class TransportError(Exception):
    """The connection cannot be made or is gone; the text is fit for an operator."""


class CannotResolve(TransportError):
    """The host name has no address."""


class CannotConnect(TransportError):
    """There is an address, but no connection to it."""


class HandshakeRefused(TransportError):
    """The other side answered with HTTP."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"handshake refused with HTTP {status}")
        self.status = status
        self.headers = dict(headers)
        self.body = body


class ConnectionLost(TransportError):
    """An open connection ended. `code`: of the close frame, 0 when there was none."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class Received(NamedTuple):
    """What one read gave: whole messages, and frames that had to be thrown away. Both may be empty. `pongs`: how many
    went out, which venues count."""

    receive_ns: int
    messages: list[bytes]
    bad: list[BadFrame]
    full: bool = False
    """It was as much as one read takes: there is probably more."""
    pongs: int = 0


class Transport(Protocol):
    """An open connection, used by one thread."""

    def receive(self, timeout_s: float) -> Received:
        """Wait for data until `timeout_s`. Raises ConnectionLost."""

    def send(self, text: str) -> None:
        """Send one text message. Raises ConnectionLost."""

    def ping(self) -> None:
        """Send a protocol ping. Raises ConnectionLost."""

    def close(self) -> None:
        """End it; never raises."""


class Connector(Protocol):
    """Makes a connection. Raises TransportError."""

    def __call__(self, url: str) -> Transport:
        """Open `url`."""


@dataclass(frozen=True, slots=True)
class WebsocketConnector:
    """Connections by websocket-client. `now_ns` stamps what is received."""

    connect_timeout_s: float
    max_frame_bytes: int
    now_ns: Callable[[], int]

    def __call__(self, url: str) -> Transport:
        """Open `url`. Raises TransportError."""
        raw = _open_socket(url, self.connect_timeout_s)
        try:
            connection = _shake_hands(raw, url, self.connect_timeout_s)
        except TransportError:
            raw.close()
            raise
        return _WebsocketTransport(raw, connection, self.max_frame_bytes, self.now_ns)


class _WebsocketTransport:
    def __init__(self, raw: socket.socket, connection: Any, max_frame_bytes: int, now_ns: Callable[[], int]) -> None:
        self._socket = raw
        self._connection = connection
        self._reader = FrameReader(max_frame_bytes)
        self._now_ns = now_ns
        self._ended: ConnectionLost | None = None
        self._ping: bytes | None = None
        self._ponged_s = -PONG_EVERY_S
        self._pongs = 0

    def receive(self, timeout_s: float) -> Received:
        if self._ended is not None:
            raise self._ended
        try:
            self._socket.settimeout(timeout_s)
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            self._answer_ping()
            return self._received(self._now_ns(), [], [])
        except OSError as error:
            raise ConnectionLost(f"connection broke: {_words(error)}") from error
        receive_ns = self._now_ns()
        if not data:
            raise ConnectionLost("connection ended without a close frame")
        messages = self._reader.feed(data)
        if not self._reader.notices and self._ping is None:
            return Received(receive_ns, messages, [], full=len(data) == _RECEIVE_BYTES)
        notices, self._reader.notices = self._reader.notices, []
        self._act_on(notices)
        return self._received(receive_ns, messages, [notice for notice in notices if isinstance(notice, BadFrame)])

    def _received(self, receive_ns: int, messages: list[bytes], bad: list[BadFrame]) -> Received:
        pongs, self._pongs = self._pongs, 0
        return Received(receive_ns, messages, bad, pongs=pongs)

    def _act_on(self, notices: list[Notice]) -> None:
        """Answer the newest ping. An end is kept for the next read, so that what came before it is not lost."""
        for notice in notices:
            if isinstance(notice, Close):
                self._ended = ConnectionLost(f"closed by the venue: {notice.code} {notice.reason}".strip(), notice.code)
            elif isinstance(notice, FramingLost):
                self._ended = ConnectionLost(f"framing lost: {notice.why}")
            elif isinstance(notice, Ping):
                self._ping = notice.payload
        self._answer_ping()

    def _answer_ping(self) -> None:
        """The newest ping, unless one was answered just now: then its answer waits."""
        now_s = time.monotonic()
        if self._ping is None or self._ended is not None or now_s - self._ponged_s < PONG_EVERY_S:
            return
        try:
            self._guarded(self._connection.pong, self._ping)
        except ConnectionLost as error:
            self._ended = error
        self._ping, self._ponged_s = None, now_s
        self._pongs += 1

    def send(self, text: str) -> None:
        self._guarded(self._connection.send, text)

    def ping(self) -> None:
        self._guarded(self._connection.ping)

    def _guarded(self, send: Callable[..., object], *what: object) -> None:
        try:
            self._socket.settimeout(_SEND_TIMEOUT_S)
            send(*what)
        except (OSError, websocket.WebSocketException) as error:
            raise ConnectionLost(f"cannot send: {_words(error)}") from error

    def close(self) -> None:
        try:
            self._socket.settimeout(_LAST_WORD_S)
            self._connection.send_close()
            self._socket.shutdown(socket.SHUT_RDWR)
        except (OSError, websocket.WebSocketException):
            self._connection.connected = False
        finally:
            self._socket.close()


def _open_socket(url: str, timeout_s: float) -> socket.socket:
    """A connected socket (TLS for wss) with large receive buffers. Raises CannotResolve, CannotConnect."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise CannotResolve(f"cannot resolve {host}") from error
    failure = "no address"
    for family, kind, protocol, _, address in addresses:
        try:
            raw = socket.socket(family, kind, protocol)
        except OSError as error:  # an address of a family that this machine does not have, or no descriptor left
            failure = _words(error)
            continue
        try:
            # Before connect, or the window is negotiated without it.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            raw.settimeout(timeout_s)
            raw.connect(address)
            if parts.scheme == "wss":
                return ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        except OSError as error:
            raw.close()
            failure = _words(error)
            continue
        return raw
    raise CannotConnect(f"cannot connect to {host}:{port}: {failure}")


class _BoundedSocket:
    """The socket as the handshake sees it: a hostile peer gets neither endless time nor endless memory."""

    def __init__(self, raw: socket.socket, timeout_s: float) -> None:
        self._raw = raw
        self._left = _HANDSHAKE_BYTES
        self._deadline = time.monotonic() + timeout_s

    def recv(self, size: int) -> bytes:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0 or self._left <= 0:
            raise ConnectionAbortedError("the handshake does not end")
        self._raw.settimeout(left_s)
        data = self._raw.recv(min(size, self._left))
        self._left -= len(data)
        return data

    def send(self, data: bytes) -> int:
        return self._raw.send(data)

    def gettimeout(self) -> float | None:
        return self._raw.gettimeout()

    def close(self) -> None:
        """websocket-client closes on failure; the owner of the socket does it."""


def _shake_hands(raw: socket.socket, url: str, timeout_s: float) -> Any:
    """The websocket-client object for an upgraded socket. Raises HandshakeRefused, CannotConnect."""
    connection: Any = websocket.WebSocket(skip_utf8_validation=True, enable_multithread=False)
    try:
        connection.connect(
            url, timeout=timeout_s, socket=_BoundedSocket(raw, timeout_s), suppress_origin=True, redirect_limit=0
        )
    except websocket.WebSocketBadStatusException as error:
        headers = {str(key).lower(): str(value) for key, value in (error.resp_headers or {}).items()}
        raise HandshakeRefused(int(error.status_code), headers, error.resp_body or b"") from error
    except (OSError, ValueError, websocket.WebSocketException) as error:
        raise CannotConnect(f"handshake with {urlsplit(url).netloc} failed: {_words(error)}") from error
    connection.sock = raw
    return connection


def _words(error: Exception) -> str:
    """An operator's words for a low-level error."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()

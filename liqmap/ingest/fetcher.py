"""One HTTP GET behind a small interface. Proxies and credentials of the environment are not used, redirects are not
followed, replies have a largest size and a longest time."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_MAX_REPLY_BYTES: Final = 32 * 1024 * 1024
_WHOLE: Final = 3.0
"""How many times the patience with one read the whole request may take: a reply that drips would never time out, and
everything else that is asked of the venue waits behind it."""


class FetchError(Exception):
    """No reply; the text is fit for an operator."""


class Reply(NamedTuple):
    """An HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetcher(Protocol):
    """Fetches over a session of its own."""

    def get(self, url: str) -> Reply:
        """Raises FetchError."""

    def close(self) -> None:
        """Close the session's sockets."""


class RequestsFetcher:
    """By requests. `timeout_s` holds for connecting and for every read, three times that for all of it."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._passed = threading.Event()
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _adapter(self._connected))

    def get(self, url: str) -> Reply:
        """Raises FetchError."""
        with self._deadline() as passed:
            try:
                reply = self._get(url)
            except requests.RequestException as error:
                if not passed.is_set():
                    raise FetchError(_words(url, error)) from error
        if passed.is_set():  # also when what came until then looks like a reply
            raise FetchError(f"reply of more than {_WHOLE * self._timeout_s:g} s")
        return reply

    def _get(self, url: str) -> Reply:
        with self._session.get(url, timeout=self._timeout_s, allow_redirects=False, stream=True) as response:
            headers = {key.lower(): value for key, value in response.headers.items()}
            return Reply(response.status_code, headers, _bounded_body(response))

    def close(self) -> None:
        """Close the session's sockets."""
        self._session.close()

    def _connected(self, opened: socket.socket) -> None:
        self._socket = opened
        if self._passed.is_set():
            _shut(opened)  # resolving and connecting took all the time

    @contextmanager
    def _deadline(self) -> Iterator[threading.Event]:
        """Whatever is read meanwhile ends when the time is over: the event tells that it was."""
        passed = self._passed = threading.Event()

        def cut() -> None:
            passed.set()
            if self._socket is not None:
                _shut(self._socket)

        timer = threading.Timer(_WHOLE * self._timeout_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield passed
        finally:
            timer.cancel()


def _shut(opened: socket.socket) -> None:
    """Wake who reads from it. Below TLS, whose own shutdown is not for another thread."""
    with suppress(OSError):  # it was closed by then
        socket.socket.shutdown(opened, socket.SHUT_RDWR)


def _adapter(connected: Callable[[socket.socket], None]) -> HTTPAdapter:
    """One that tells of each socket it opens."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            connected(self.sock)

    class Tls(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            connected(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    adapter = HTTPAdapter()
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
    return adapter


def _bounded_body(response: requests.Response) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_content(65536):
        size += len(piece)
        if size > _MAX_REPLY_BYTES:
            raise FetchError(f"reply of more than {_MAX_REPLY_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _words(url: str, error: requests.RequestException) -> str:
    host = urlsplit(url).hostname
    text = str(error)
    for sign, words in (
        ("NameResolutionError", "cannot resolve"),
        ("ConnectTimeout", "timed out connecting to"),
        ("timed out", "timed out reading from"),
        ("Connection refused", "connection refused by"),
        ("SSL", "no trusted TLS with"),
    ):
        if sign in text or sign in type(error).__name__:
            return f"{words} {host}"
    return f"no reply from {host}: {type(error).__name__}"

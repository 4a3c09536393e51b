"""One HTTP GET behind a small interface. Proxies and credentials of the environment are not used, redirects are not
followed, replies have a largest size."""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests

_MAX_REPLY_BYTES: Final = 32 * 1024 * 1024


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
    """By requests. `timeout_s` holds for connecting and for every read; replies have a largest size."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, url: str) -> Reply:
        """Raises FetchError."""
        try:
            with self._session.get(url, timeout=self._timeout_s, allow_redirects=False, stream=True) as response:
                headers = {key.lower(): value for key, value in response.headers.items()}
                return Reply(response.status_code, headers, _bounded_body(response))
        except requests.RequestException as error:
            raise FetchError(_words(url, error)) from error

    def close(self) -> None:
        """Close the session's sockets."""
        self._session.close()


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

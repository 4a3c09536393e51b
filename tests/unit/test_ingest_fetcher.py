"""One GET: what comes of replies that take for ever, are cut off or never begin."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from liqmap.ingest.fetcher import FetchError, RequestsFetcher

TIMEOUT_S = 0.5
HEAD = b"HTTP/1.1 200 OK\r\nX-Weight: 7\r\nContent-Length: 100000\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nX-Weight: 7\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def server(answer: Callable[[socket.socket, threading.Event], object]) -> Iterator[str]:
    """Answers each connection's first request so; the address to ask."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while not over.is_set():
                connection, _ = listening.accept()
                with connection:
                    if connection.recv(65536):
                        answer(connection, over)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/x"
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def drip(sent: bytes) -> Callable[[socket.socket, threading.Event], object]:
    """Sends that at once, and then a byte in a time that no single read is impatient about."""

    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(sent)
        while not over.wait(TIMEOUT_S / 10):
            try:
                connection.sendall(b"x")
            except OSError:
                return

    return answer


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", HEAD], ids=["status", "header", "body"])
def test_a_reply_that_drips_is_given_up_and_the_next_request_is_served(sent: bytes) -> None:
    """It would hold everything that is asked of the venue for ever."""
    fetcher = RequestsFetcher(TIMEOUT_S)
    with server(drip(sent)) as url, pytest.raises(FetchError, match=r"reply of more than 1\.5 s"):
        fetcher.get(url)
    with server(lambda connection, _: connection.sendall(WHOLE)) as url:
        assert fetcher.get(url) == (200, {"x-weight": "7", "content-length": "2"}, b"{}")
    fetcher.close()


def test_a_connection_that_is_made_too_late_is_not_asked_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reply would have no deadline: that is over."""
    resolve = socket.getaddrinfo

    def resolves_late(*asked: Any, **how: Any) -> Any:
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
        return resolve(*asked, **how)

    asked: list[socket.socket] = []

    def answer(connection: socket.socket, _over: threading.Event) -> None:
        asked.append(connection)
        connection.sendall(WHOLE)

    fetcher = RequestsFetcher(TIMEOUT_S)
    with server(answer) as url:
        with monkeypatch.context() as late:
            late.setattr(socket, "getaddrinfo", resolves_late)
            with pytest.raises(FetchError, match=r"reply of more than 1\.5 s"):
                fetcher.get(url)
        assert not asked
        assert fetcher.get(url).status == 200
    fetcher.close()


def test_a_reply_that_never_begins_or_ends_too_early_is_an_error_in_words() -> None:
    fetcher = RequestsFetcher(TIMEOUT_S)
    with server(lambda _, over: over.wait(30)) as url, pytest.raises(FetchError, match="timed out reading"):
        fetcher.get(url)
    with (
        server(lambda connection, _: connection.sendall(HEAD)) as url,
        pytest.raises(FetchError, match="no reply from"),
    ):
        fetcher.get(url)
    fetcher.close()

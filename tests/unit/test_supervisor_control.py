"""The control socket: orders in, answers out, and clients that are slow, rude or gone."""

import json
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from liqmap.supervisor.control import IDLE_NS, MAX_CLIENTS, MAX_LINE_BYTES, ControlClient, ControlServer, Request


class Loop:
    """A server in a select loop, turned by hand; `answers` says what is answered at once."""

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.server = ControlServer(path, self.selector)
        self.requests: list[Request] = []
        self.now_ns = 1
        self.respond: Callable[[Request], dict[str, Any] | None] = lambda request: {"ok": True, "echo": request.order}

    def turn(self, wait_s: float = 0.01) -> None:
        ready = [(key.data, events) for key, events in self.selector.select(wait_s)]
        for request in self.server.turn(ready, self.now_ns):
            self.requests.append(request)
            answer = self.respond(request)
            if answer is not None:
                self.server.answer(request, answer, self.now_ns)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.turn()

    def close(self) -> None:
        self.server.close()
        self.selector.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def loop(path: Path) -> Iterator[Loop]:
    loop = Loop(path)
    yield loop
    loop.close()
    assert not path.exists()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(path))
    client.settimeout(0.01)
    return client


def read_line(loop: Loop, client: socket.socket) -> bytes:
    """Turn the loop until a whole line (or the end) has come."""
    got = bytearray()
    deadline = time.monotonic() + 20
    while not got.endswith(b"\n"):
        assert time.monotonic() < deadline
        loop.turn()
        try:
            chunk = client.recv(65536)
        except TimeoutError:
            continue
        if not chunk:
            break
        got += chunk
    return bytes(got)


def test_only_its_owner_may_connect(loop: Loop, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stale_socket_file_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    loop = Loop(path)
    with connect(path) as client:
        client.sendall(b'{"do": "status"}\n')
        assert json.loads(read_line(loop, client)) == {"ok": True, "echo": {"do": "status"}}
    loop.close()


def test_orders_of_one_client_are_answered_one_by_one_in_order(loop: Loop, path: Path) -> None:
    with connect(path) as client:
        client.sendall(b'{"n": 1}\n{"n": 2}\n{"n": 3}\n')
        answers = [json.loads(line)["echo"]["n"] for line in _lines(loop, client, 3)]
    assert answers == [1, 2, 3]


def _lines(loop: Loop, client: socket.socket, count: int) -> list[bytes]:
    got = b""
    while got.count(b"\n") < count:
        got += read_line(loop, client)
    return got.splitlines()


def test_an_answer_may_come_later_and_does_not_hold_up_others(loop: Loop, path: Path) -> None:
    loop.respond = lambda request: None if request.order["n"] == 1 else {"ok": True, "n": request.order["n"]}
    with connect(path) as slow, connect(path) as quick:
        slow.sendall(b'{"n": 1}\n{"n": 9}\n')
        loop.until(lambda: len(loop.requests) == 1)
        quick.sendall(b'{"n": 2}\n')
        assert json.loads(read_line(loop, quick))["n"] == 2
        assert len(loop.requests) == 2, "the second order of a client waits for the answer to its first"
        loop.server.answer(loop.requests[0], {"ok": True, "late": True}, loop.now_ns)
        assert json.loads(_lines(loop, slow, 2)[0]) == {"ok": True, "late": True}


@pytest.mark.parametrize("line", [b"not json\n", b"[1, 2]\n", b"\xff\xfe\n", b"\n", b"[" * 5000 + b"\n"])
def test_what_is_not_an_object_is_refused_and_the_connection_lives(loop: Loop, path: Path, line: bytes) -> None:
    with connect(path) as client:
        client.sendall(line)
        assert json.loads(read_line(loop, client))["ok"] is False
        client.sendall(b'{"do": "x"}\n')
        assert json.loads(read_line(loop, client))["ok"] is True


def test_an_endless_line_is_refused_and_cut_off(loop: Loop, path: Path) -> None:
    with connect(path) as client:
        client.settimeout(None)
        sender = threading.Thread(target=_flood, args=(client,))
        sender.start()
        deadline = time.monotonic() + 20
        while sender.is_alive():
            assert time.monotonic() < deadline
            loop.turn()
        sender.join()
        assert not loop.requests


def _flood(client: socket.socket) -> None:
    try:
        for _ in range(1000):
            client.sendall(b"x" * MAX_LINE_BYTES)
    except OSError:
        return
    raise AssertionError("an endless line was read to its end")


def test_a_client_that_asks_and_never_listens_is_dropped(loop: Loop, path: Path) -> None:
    loop.respond = lambda _request: {"ok": True, "long": "x" * 500_000}
    with connect(path) as deaf:
        deaf.sendall(b'{"n": 1}\n' * 20)
        loop.until(lambda: len(loop.requests) >= 3)
        for _ in range(20):
            loop.turn()
        assert len(loop.server._clients) == 0


def test_a_silent_client_is_shown_the_door(loop: Loop, path: Path) -> None:
    with connect(path):
        loop.until(lambda: len(loop.server._clients) == 1)
        loop.now_ns += IDLE_NS + 1
        loop.turn()
        assert len(loop.server._clients) == 0


def test_more_clients_than_room_are_turned_away_and_the_rest_is_served(loop: Loop, path: Path) -> None:
    clients = []
    for _ in range(MAX_CLIENTS + 5):
        clients.append(connect(path))
        loop.turn()
    loop.until(lambda: len(loop.server._clients) == MAX_CLIENTS)
    clients[0].sendall(b'{"n": 1}\n')
    assert json.loads(read_line(loop, clients[0]))["ok"]
    for client in clients:
        client.close()


def test_a_client_that_leaves_before_its_answer_does_no_harm(loop: Loop, path: Path) -> None:
    loop.respond = lambda _request: None
    client = connect(path)
    client.sendall(b'{"n": 1}\n')
    loop.until(lambda: len(loop.requests) == 1)
    client.close()
    loop.until(lambda: len(loop.server._clients) == 0)
    loop.server.answer(loop.requests[0], {"ok": True}, loop.now_ns)


def test_a_path_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    loop = Loop(directory / "control.sock")
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        client = ControlClient(directory / "control.sock", timeout_s=20)
        answers.append(client.ask({"do": "status"}))
        client.close()

    asking = threading.Thread(target=ask)
    asking.start()
    loop.until(lambda: len(answers) == 1)
    asking.join()
    loop.close()
    assert answers[0]["ok"]


def test_nobody_listens(path: Path) -> None:
    with pytest.raises(OSError):
        ControlClient(path)

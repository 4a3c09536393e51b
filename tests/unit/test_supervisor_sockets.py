"""The API's listening socket."""

import socket
import stat
from pathlib import Path

import msgspec
import pytest

from liqmap.config import Config
from liqmap.supervisor.sockets import BindFailed, listen


def config(bind: str) -> Config:
    return msgspec.structs.replace(Config(), api=msgspec.structs.replace(Config().api, bind=bind))


@pytest.mark.finding("M26")
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2", "[::1]"])
def test_it_listens_where_it_is_told(tmp_path: Path, host: str) -> None:
    try:
        listening = listen(config(f"{host}:0"), tmp_path)
    except BindFailed as error:
        pytest.skip(f"this machine has no such address: {error}")
    assert listening.socket.getsockname()[0] == host.strip("[]")
    listening.close()


@pytest.mark.finding("M26")
def test_tcp(tmp_path: Path) -> None:
    listening = listen(config("127.0.0.1:0"), tmp_path)
    port = listening.socket.getsockname()[1]
    assert listening.address == f"http://127.0.0.1:{port}/"
    socket.create_connection(("127.0.0.1", port), 20).close()
    listening.close()


def test_a_taken_port_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BindFailed, match=f"cannot listen on api.bind = {bind}: address already in use"):
            listen(config(bind), tmp_path)


@pytest.mark.parametrize("bind", ["no-such-host.invalid:80", "203.0.113.1:80", "unix:no/such/dir/s"])
def test_an_address_that_cannot_be_had(tmp_path: Path, bind: str) -> None:
    with pytest.raises(BindFailed, match=r"cannot listen on api\.bind"):
        listen(config(bind), tmp_path)


@pytest.mark.finding("M26")
@pytest.mark.parametrize(("bind", "mode"), [("unix:api.sock", 0o660), ("unix:api.sock:0666", 0o666)])
def test_a_unix_socket_with_its_mode(tmp_path: Path, bind: str, mode: int) -> None:
    listening = listen(config(bind), tmp_path)
    path = tmp_path / "api.sock"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert listening.address == f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listening.close()
    assert not path.exists()


def test_a_unix_socket_left_by_a_killed_daemon_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    first = listen(config("unix:api.sock"), tmp_path)
    with pytest.raises(BindFailed, match="address already in use"):
        listen(config("unix:api.sock"), tmp_path)
    first.close()

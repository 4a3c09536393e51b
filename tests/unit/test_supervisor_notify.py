"""sd_notify on a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from liqmap.supervisor.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"\0liqmap-test-{os.getpid()}-{tmp_path.name}"
        listener.bind(name)
        listener.settimeout(20)
        yield listener, {"NOTIFY_SOCKET": "@" + name[1:]}


def test_what_systemd_hears(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listener, environment = manager
    notifier = Notifier(environment)
    notifier.ready("running")
    notifier.status("BTC\nis down")
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping()
    heard = [listener.recv(4096).decode() for _ in range(5)]
    notifier.close()
    assert heard[:3] == ["READY=1\nSTATUS=running", "STATUS=BTC is down", "WATCHDOG=1"]
    assert heard[3].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard[4] == "STOPPING=1"


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("running")
    assert notifier.watchdog_interval_ns is None
    notifier.close()


def test_a_manager_that_went_away_does_no_harm(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listener, environment = manager
    notifier = Notifier(environment)
    listener.close()
    notifier.ready("running")
    notifier.watchdog()
    notifier.close()


def test_the_watchdog_interval_is_half_of_what_is_allowed_and_only_ours() -> None:
    mine = {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(mine).watchdog_interval_ns == 5_000_000_000
    assert Notifier({**mine, "WATCHDOG_PID": "1"}).watchdog_interval_ns is None

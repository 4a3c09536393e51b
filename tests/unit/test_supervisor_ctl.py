"""`liqmapctl`: finding the daemon, and showing it to a tired person."""

import contextlib
import selectors
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from liqmap.cli.liqmapctl import main, table
from liqmap.supervisor.control import ControlServer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "liqmap.toml"
    path.write_text(f'[daemon]\nvar_dir = "{tmp_path / "var"}"\n')
    return path


@contextlib.contextmanager
def daemons(directory: Path, *instances: str) -> Iterator[None]:
    """Control sockets that listen; nobody answers."""
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for instance in instances:
            run = directory / "var" / "run" / instance
            run.mkdir(parents=True)
            stack.callback(ControlServer(run / "control.sock", selector).close)
        yield


def test_several_daemons_have_to_be_told_apart(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with daemons(file.parent, "main", "demo"):
        assert main(["-c", str(file), "status"]) == 3
        assert "several daemons run (demo, main): say which with --instance" in capsys.readouterr().err
        for one in (["--instance", "demo"], ["--socket", str(file.parent / "var/run/demo/control.sock")]):
            where = one if one[0] == "--socket" else ["-c", str(file), *one]
            assert main([*where, "--timeout", "0.1", "status"]) == 3
            assert "does not answer" in capsys.readouterr().err


def test_a_socket_left_by_a_killed_daemon_is_not_a_daemon(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = file.parent / "var" / "run" / "replay"
    dead.mkdir(parents=True)
    (dead / "control.sock").touch()
    with daemons(file.parent, "main"):
        assert main(["-c", str(file), "--timeout", "0.1", "status"]) == 3
        assert "does not answer" in capsys.readouterr().err, "there is just one"


def test_a_fault_elsewhere_in_the_file_does_not_keep_an_operator_away(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text() + "[api]\nnonsense = 1\n")
    assert main(["-c", str(file), "status"]) == 3
    file.write_text("not toml")
    assert main(["-c", str(file), "status"]) == 78
    assert "--socket names the daemon without it" in capsys.readouterr().err


ANSWER: dict[str, Any] = {
    "ok": True,
    "instance": "main",
    "version": "0.1.0",
    "pid": 10,
    "source": "live",
    "address": "http://127.0.0.1:8899/",
    "uptime_s": 90061.0,
    "stopping": False,
    "symbols": {"BTC": True, "DOGE": False},
    "processes": [
        {
            "name": "BTC",
            "state": "running",
            "pid": 12,
            "uptime_s": 61.5,
            "heartbeat_age_ms": 140,
            "restarts": 2,
            "cpu_pct": 3.4,
            "rss_mb": 41.8,
            "exit": "killed by signal 9",
            "reason": "",
            "next_start_in_s": None,
        },
        {
            "name": "api",
            "state": "fatal",
            "pid": None,
            "uptime_s": None,
            "heartbeat_age_ms": None,
            "restarts": 7,
            "cpu_pct": None,
            "rss_mb": None,
            "exit": None,
            "reason": "died 8 times within 120 s",
            "next_start_in_s": None,
        },
    ],
    "problems": ["api is given up: died 8 times within 120 s"],
}


def test_the_table() -> None:
    assert table(ANSWER) == [
        "liqmap 0.1.0, instance main, live, pid 10, up 25 h 01 m, http://127.0.0.1:8899/",
        "",
        "NAME  STATE    PID        UP  HEARTBEAT  RESTARTS  CPU  MEMORY  LAST EXIT",
        "BTC   running   12  1 m 01 s      0.1 s         2  3 %   42 MB  killed by signal 9",
        "api   fatal      -         -          -         7    -       -  -",
        "",
        "problem: api is given up: died 8 times within 120 s",
        "not enabled: DOGE",
    ]
    assert "no problems" in table({**ANSWER, "problems": []})


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e300", "soon"])
def test_a_wait_that_is_none_is_a_fault_of_usage(file: Path, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["-c", str(file), "--timeout", seconds, "status"])
    assert ended.value.code == 2 and "not a number of seconds" in capsys.readouterr().err

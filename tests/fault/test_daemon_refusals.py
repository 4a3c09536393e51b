"""What a daemon says when it cannot start: one clear line and the right exit code, nothing left behind."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.fault.daemon import CHECKOUT, LIQMAPCTL, LIQMAPD, unique_instance


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "liqmap.toml"
    _write(path)
    return path


def _write(path: Path, daemon: str = "", rest: str = '[api]\nbind = "127.0.0.1:0"\n') -> str:
    name = unique_instance()
    daemon = daemon or f'var_dir = "{path.parent / "var"}"'
    path.write_text(f'[daemon]\ninstance = "{name}"\n{daemon}\n{rest}[symbols.BTC]\nbuckets = 64\n')
    return name


def liqmapd(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in (LIQMAPD, *arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={**os.environ, **environment},
    )


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What was said, once it is certain that it was one line and the exit code the right one."""
    assert done.returncode == code, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("liqmapd: ")
    return lines[0]


def test_an_unknown_key(file: Path) -> None:
    _write(file, rest="[api]\nport = 1\n")
    assert f"{file}: api.port: unknown key" in one_line(liqmapd("-c", file), 78)


def test_no_file() -> None:
    assert "/no/such.toml: cannot be read: No such file" in one_line(liqmapd("-c", "/no/such.toml"), 78)


def test_a_reader_that_goes_away_ends_it_without_a_word(file: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        command = [str(LIQMAPD), "-c", str(file), "--check"]
        done = subprocess.run(command, check=False, stdout=nobody, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_file_may_be_named_by_the_environment(file: Path) -> None:
    done = liqmapd("--check", LIQMAP_CONFIG=str(file))
    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout


def test_a_replay_of_nothing(file: Path) -> None:
    assert "no such file or directory" in one_line(liqmapd("-c", file, "--replay", "/no/such"), 78)


def test_a_flag_that_does_not_exist(file: Path) -> None:
    done = liqmapd("-c", file, "--frobnicate")
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


def test_a_taken_port(file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        name = _write(file, rest=f'[api]\nbind = "127.0.0.1:{port}"\n')
        said = one_line(liqmapd("-c", file), 75)
        assert f"cannot listen on api.bind = 127.0.0.1:{port}: address already in use" in said
        assert f"127.0.0.1:{port}: address already in use" in liqmapd("-c", file, "--check").stderr
    assert not [entry for entry in Path("/dev/shm").iterdir() if name in entry.name]


@pytest.mark.parametrize("var_dir", ["/proc/liqmap-cannot-be-here", "/dev/null/var"])
def test_an_unwritable_var(file: Path, var_dir: str) -> None:
    _write(file, daemon=f'var_dir = "{var_dir}"')
    said = one_line(liqmapd("-c", file), 75)
    assert var_dir in said
    assert "cannot be written" in said
    assert "cannot be written" in liqmapd("-c", file, "--check").stderr


def test_a_check_prints_every_default_and_changes_nothing(file: Path) -> None:
    done = liqmapd("-c", file, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "heartbeat_timeout_s = 5.0",
        "stale_after_ms = 5000",
        "[venues.okx]",
        "buckets = 64",
        'trades = "aggTrade"',
    ):
        assert line in done.stdout
    assert "shared memory" in done.stdout


@pytest.mark.finding("M26")
def test_a_check_shows_the_address_also_the_one_of_the_flag(file: Path) -> None:
    assert 'bind = "127.0.0.1:0"' in liqmapd("-c", file, "--check").stdout
    assert 'bind = "0.0.0.0:0"' in liqmapd("-c", file, "--check", "--bind", "0.0.0.0:0").stdout


def test_a_checked_configuration_can_be_checked_again(file: Path, tmp_path: Path) -> None:
    printed = tmp_path / "printed.toml"
    printed.write_text(liqmapd("-c", file, "--check").stdout)
    again = liqmapd("-c", printed, "--check")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[1:-3] == printed.read_text().splitlines()[1:-3]


def _mount_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], check=False, capture_output=True
    )
    return tried.returncode == 0


def test_no_room_in_shared_memory(file: Path) -> None:
    if not _mount_namespaces():
        pytest.skip("needs the right to mount in a namespace of its own")
    command = f'mount -t tmpfs -o size=256k tmpfs /dev/shm && exec "{LIQMAPD}" -c "{file}"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], check=False, capture_output=True, text=True, timeout=60, cwd="/"
    )
    said = one_line(done, 75)
    assert "/dev/shm is full" in said
    assert "are free" in said


def test_a_missing_environment_is_named(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("liqmapd", "liqmapctl"):
        shutil.copy(CHECKOUT / "bin" / name, tmp_path / "bin")
        done = subprocess.run([tmp_path / "bin" / name], check=False, capture_output=True, text=True)
        assert done.returncode == 75
        assert "make setup" in done.stderr


def test_the_commands_say_their_version() -> None:
    assert liqmapd("--version").stdout.startswith("liqmapd 0.")
    done = subprocess.run([LIQMAPCTL, "--version"], check=False, capture_output=True, text=True)
    assert done.stdout.startswith("liqmapctl 0.")


@pytest.mark.parametrize(
    "arguments", [["status"], ["restart", "BTC"], ["--json", "status"], ["--instance", "x", "reload"]]
)
def test_no_daemon(file: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [LIQMAPCTL, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "LIQMAP_CONFIG": str(file)},
    )
    assert done.returncode == 3
    assert "no daemon is running" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["dance"], ["restart"], ["status", "BTC"], ["add"]])
def test_usage(arguments: list[str]) -> None:
    done = subprocess.run([LIQMAPCTL, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr

"""What every child does: lock, heartbeat, signals as flags, exit codes that speak, and no life without its parent."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from liqmap.child import SUPERVISOR_PID, Child, clock_of
from liqmap.clock import ReplayClock, SystemClock
from liqmap.config import ConfigError, Effective, RunMode, load_effective, parse, paths, write_effective
from liqmap.shm.plan import Role, create_all
from liqmap.shm.segment import WriterLock
from liqmap.shm.status import Beat, read_heartbeats

ROOT = Path(__file__).parents[2]


class Place:
    """An instance with its shared memory, and no supervisor."""

    def __init__(self, directory: Path) -> None:
        instance = f"t{os.getpid()}x{random.randrange(16**5):05x}"
        daemon = {"instance": instance, "var_dir": str(directory / "var")}
        self.config = parse({"daemon": daemon, "symbols": {"BTC": {"buckets": 64}}})
        self.paths = paths(self.config)
        self.paths.run_dir.mkdir(parents=True)
        self.effective = Effective(config=self.config)
        self.file = self.paths.effective
        write_effective(self.effective, self.file)
        self.holding = create_all(self.config)

    def beat(self, name: str = "ingest") -> Beat:
        return read_heartbeats(self.holding[Role.STATUS])[name]

    def log(self, name: str = "ingest") -> str:
        return self.paths.log(name).read_text()

    def script(self, body: str, **environment: str) -> subprocess.Popen[str]:
        """A process that is the child `ingest` and runs `body`."""
        lines = textwrap.indent(textwrap.dedent(body), "    ")
        code = (
            "import os, signal, sys, time\nfrom liqmap.child import open_child\n"
            f"with open_child('ingest', {str(self.file)!r}) as child:\n{lines}"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.holding.retire_all()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_its_lock_its_row_and_its_log(place: Place) -> None:
    process = place.script("""
        child.beat(ready=True, engine_ns=5, sequence=7, lag_events=1, errors=2, work=3)
        child.beat(work=4)
    """)
    assert finish(process)[0] == 0
    beat = place.beat()
    assert (beat.pid, beat.ready, beat.engine_ns, beat.sequence, beat.lag_events) == (process.pid, True, 5, 7, 1)
    assert (beat.errors, beat.work) == (2, 4)
    assert WriterLock.pid_in(place.paths.lock("ingest")) == process.pid
    assert "started" in place.log()
    assert "ended" in place.log()


def test_two_of_one_name_are_refused_in_one_line(place: Place) -> None:
    with WriterLock(place.paths.lock("ingest")):
        code, said = finish(place.script("raise AssertionError('never')"))
    assert code == 75
    assert said.count("\n") == 1
    assert f"ingest.lock is held by process {os.getpid()}" in said


def test_without_shared_memory_it_is_a_matter_of_trying_again(place: Place) -> None:
    place.holding.retire_all()
    code, said = finish(place.script("raise AssertionError('never')"))
    assert code == 75
    assert "does not exist" in said


def test_a_fault_of_configuration_is_78_with_one_line(place: Place) -> None:
    code, said = finish(
        place.script("""
        from liqmap.config import ConfigError
        raise ConfigError('x.toml: a.b = 3: is odd')
    """)
    )
    assert code == 78
    assert [line for line in said.splitlines() if " INFO " not in line] == said.splitlines()[-1:]
    assert said.endswith("x.toml: a.b = 3: is odd\n")
    assert "x.toml: a.b = 3: is odd" in place.log()


def test_no_effective_configuration(place: Place) -> None:
    place.file.unlink()
    assert finish(place.script("raise AssertionError('never')"))[0] == 78


def test_a_bug_leaves_its_traceback_in_the_log(place: Place) -> None:
    assert finish(place.script("1 / 0"))[0] == 1
    assert "ZeroDivisionError" in place.log()
    assert "Traceback" in place.log()


@pytest.mark.parametrize(
    ("number", "flag"), [(signal.SIGTERM, "stop"), (signal.SIGINT, "stop"), (signal.SIGHUP, "reload")]
)
def test_signals_only_set_flags(place: Place, number: signal.Signals, flag: str) -> None:
    process = place.script(f"""
        print('up', flush=True)
        while not child.{flag}.wait(0.05):
            pass
        print('seen', flush=True)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.stdout.readline() == "seen\n"
    assert finish(process)[0] == 0


def test_usr1_opens_the_log_anew_at_the_next_beat(place: Place) -> None:
    process = place.script("""
        print('up', flush=True)
        sys.stdin = None
        while not child.should_stop():
            child.beat()
            time.sleep(0.02)
    """)
    assert process.stdout is not None
    process.stdout.readline()
    log = place.paths.log("ingest")
    log.rename(log.with_suffix(".moved"))
    process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0
    assert "ended" in place.log()


def test_who_was_started_by_a_supervisor_that_is_gone_does_not_begin(place: Place) -> None:
    nobody = subprocess.Popen(["true"])
    nobody.wait()
    code, _ = finish(place.script("raise AssertionError('never')", **{SUPERVISOR_PID: str(nobody.pid)}))
    assert code == 75
    assert "ended before this process started" in place.log()


def test_a_child_dies_with_its_supervisor_even_when_it_is_stopped(place: Place) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
                import os, subprocess, sys
                code = '''
                import sys, time
                from liqmap.child import open_child
                with open_child("ingest", {str(place.file)!r}) as child:
                    print(__import__("os").getpid(), flush=True)
                    time.sleep(600)
                '''
                env = {{**os.environ, "{SUPERVISOR_PID}": str(os.getpid())}}
                subprocess.Popen([sys.executable, "-c", __import__("textwrap").dedent(code)], env=env).wait()
            """),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it outlived its supervisor"
        time.sleep(0.02)


def test_a_child_whose_parent_has_gone_asks_itself_to_stop(place: Place) -> None:
    child = Child("ingest", place.effective, place.file)
    assert not child.should_stop()
    child._parent = -1
    assert child.should_stop()
    assert child.stop.is_set()


def test_a_bad_new_configuration_changes_nothing(place: Place) -> None:
    child = Child("ingest", place.effective, place.file)
    child.reload.set()
    place.file.write_text("{")
    with pytest.raises(ConfigError):
        child.reread()
    assert child.effective == place.effective
    assert not child.reload.is_set()
    write_effective(msgspec.structs.replace(place.effective, mode=RunMode(source=2)), place.file)
    assert child.reread() == load_effective(place.file) == child.effective


def test_the_clock_is_the_recording_s_in_a_replay_only() -> None:
    replay = clock_of(RunMode(source=3, engine_origin_ns=1000, wall_origin_ns=time.time_ns(), speed=2.0))
    assert isinstance(replay, ReplayClock)
    assert 1000 <= replay.now_ns() < 10**15
    assert type(clock_of(RunMode(source=1))) is type(clock_of(RunMode(source=2))) is SystemClock

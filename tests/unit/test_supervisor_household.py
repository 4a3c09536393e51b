"""Children as real processes: started, listened to, aborted, killed, buried, weighed."""

import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from liqmap.config import SupervisorConfig
from liqmap.supervisor.children import Launch
from liqmap.supervisor.household import Beat, Household
from liqmap.supervisor.lifecycle import Input, State
from liqmap.supervisor.roster import Phase, Post

CONFIG = SupervisorConfig(
    heartbeat_timeout_s=1000.0,
    start_timeout_s=2000.0,
    stop_timeout_s=0.3,
    abort_grace_s=0.3,
    backoff_first_s=0.02,
    backoff_ceiling_s=0.05,
    fatal_deaths=4,
)
S = 1_000_000_000


class Scene:
    """A household whose clock can be moved ahead of the machine's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.household = Household(CONFIG)
        self.ahead_ns = 0

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.ahead_ns

    def engage(self, *told: str, name: str = "BTC", inherit: tuple[int, ...] = (), nice: int = 0) -> None:
        log = self.directory / f"{name}.log"
        launch = Launch(name, ("tests.puppet", *told), log, inherit, nice, family=told[0] == "family")
        self.household.engage(Post(launch, Phase.WORKERS, name))

    def start(self, *told: str, **options: tuple[int, ...] | int | str) -> int:
        self.engage(*told, **options)  # type: ignore[arg-type]
        self.household.give("BTC", Input.START, self.now_ns())
        self.until(lambda: "up " in self.log())
        return self.pid()

    def pid(self) -> int:
        pid = self.household.sights(0)[0].pid
        assert pid is not None
        return pid

    def state(self) -> State:
        return self.household.state("BTC")

    def beats(self, ready: bool = True) -> Mapping[str, Beat]:
        return {"BTC": Beat(self.now_ns(), ready)}

    def log(self) -> str:
        return (self.directory / "BTC.log").read_text()

    def until(self, condition: Callable[[], bool], beats: Mapping[str, Beat] | None = None) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, f"{self.state()}: {self.log()}"
            self.household.turn(self.now_ns(), beats or {})
            time.sleep(0.01)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.household.kill_all()
    scene.household.give("BTC", Input.STOP, scene.now_ns())
    scene.until(lambda: scene.household.ended(["BTC"]))


def test_a_child_is_ready_when_its_heart_says_so(scene: Scene) -> None:
    scene.start("obedient")
    assert scene.state() is State.STARTING
    scene.household.turn(scene.now_ns(), scene.beats(ready=False))
    assert scene.state() is State.STARTING
    scene.household.turn(scene.now_ns(), scene.beats())
    assert scene.state() is State.RUNNING


def test_what_a_predecessor_left_in_the_row_does_not_count(scene: Scene) -> None:
    left = {"BTC": Beat(scene.now_ns(), True)}
    scene.start("obedient")
    scene.household.turn(scene.now_ns(), left)
    assert scene.state() is State.STARTING
    assert scene.household.sights(scene.now_ns())[0].beat_age_ns is None


def test_a_killed_child_is_replaced(scene: Scene) -> None:
    first = scene.start("obedient")
    scene.household.turn(scene.now_ns(), scene.beats())
    os.kill(first, signal.SIGKILL)
    scene.until(lambda: scene.state() is State.BACKOFF)
    assert scene.household.reason("BTC") == "killed by signal 9"
    scene.until(lambda: scene.state() is State.STARTING)
    assert scene.pid() != first
    sight = scene.household.sights(scene.now_ns())[0]
    assert (sight.restarts, sight.exit_code) == (1, -9)


def test_a_stopped_process_is_aborted_with_a_traceback_in_its_log(scene: Scene) -> None:
    pid = scene.start("obedient")
    scene.household.turn(scene.now_ns(), scene.beats())
    os.kill(pid, signal.SIGSTOP)
    scene.until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    late = scene.now_ns() + 1001 * S
    for step in range(4):  # the supervisor itself keeps turning: it has not been held up
        scene.household.turn(late - (3 - step) * 400 * S, {})
    assert scene.state() is State.ABORTING
    scene.ahead_ns = late - time.monotonic_ns()
    scene.until(lambda: scene.state() is State.BACKOFF)
    assert scene.household.sights(0)[0].exit_code == -signal.SIGABRT
    assert re.search(r"Fatal Python error: Aborted\n[\s\S]*puppet\.py", scene.log())


def test_silence_does_not_count_while_the_supervisor_itself_was_held_up(scene: Scene) -> None:
    scene.start("obedient")
    scene.household.turn(scene.now_ns(), scene.beats())
    scene.ahead_ns = 5000 * S
    scene.household.turn(scene.now_ns(), {})
    assert scene.state() is State.RUNNING


def test_a_starting_child_has_a_limit_of_its_own(scene: Scene) -> None:
    scene.start("obedient")
    began = scene.now_ns()
    for seconds in (400, 800, 1200, 1600, 1990):
        scene.household.turn(began + seconds * S, {})
        assert scene.state() is State.STARTING
    scene.household.turn(began + 2400 * S, {})
    assert scene.state() is State.ABORTING
    scene.ahead_ns = 2400 * S


def test_who_takes_no_notice_of_term_is_killed(scene: Scene) -> None:
    scene.start("stubborn")
    scene.household.give("BTC", Input.STOP, scene.now_ns())
    scene.until(lambda: scene.state() is State.STOPPED)
    assert scene.household.sights(0)[0].exit_code == -signal.SIGKILL


def test_a_stopped_process_still_obeys_a_stop(scene: Scene) -> None:
    pid = scene.start("obedient")
    os.kill(pid, signal.SIGSTOP)
    scene.household.give("BTC", Input.STOP, scene.now_ns())
    scene.until(lambda: scene.state() is State.STOPPED)
    assert scene.household.sights(0)[0].exit_code == 0


def test_a_wrong_configuration_is_fatal_at_once(scene: Scene) -> None:
    scene.engage("exit", "78")
    scene.household.give("BTC", Input.START, scene.now_ns())
    scene.until(lambda: scene.state() is State.FATAL)
    assert "78" in scene.household.reason("BTC")
    assert scene.household.sights(0)[0].restarts == 0


def test_who_dies_again_and_again_is_given_up(scene: Scene) -> None:
    scene.engage("exit", "1")
    scene.household.give("BTC", Input.START, scene.now_ns())
    scene.until(lambda: scene.state() is State.FATAL)
    assert scene.household.sights(0)[0].restarts == CONFIG.fatal_deaths - 1


def test_a_child_that_cannot_be_started_is_tried_again_and_then_given_up(scene: Scene) -> None:
    scene.engage("obedient")
    (scene.directory / "BTC.log").mkdir()  # its log cannot be opened
    scene.household.give("BTC", Input.START, scene.now_ns())
    deadline = time.monotonic() + 30
    while scene.state() is not State.FATAL:
        assert time.monotonic() < deadline
        scene.household.turn(scene.now_ns(), {})
    assert "could not be started" in scene.household.reason("BTC")
    scene.household.give("BTC", Input.STOP, scene.now_ns())


def test_no_relative_of_a_dead_child_survives_it(scene: Scene) -> None:
    pid = scene.start("family")
    relative = int(scene.log().split()[1])
    assert psutil.pid_exists(relative)
    os.kill(pid, signal.SIGKILL)
    scene.until(lambda: scene.state() is State.BACKOFF)
    scene.household.give("BTC", Input.STOP, scene.now_ns())
    scene.until(lambda: not psutil.pid_exists(relative) or psutil.Process(relative).status() == psutil.STATUS_ZOMBIE)


def test_a_starting_child_is_told_when_it_is_ready(scene: Scene) -> None:
    scene.start("obedient")  # it has no handler for HUP: being told ends it
    scene.household.tell("BTC", signal.SIGHUP)
    for _ in range(5):
        scene.household.turn(scene.now_ns(), scene.beats(ready=False))
    assert scene.state() is State.STARTING
    scene.household.turn(scene.now_ns(), scene.beats())
    assert scene.state() is State.RUNNING
    scene.until(lambda: scene.state() is State.BACKOFF)
    assert scene.household.reason("BTC") == "killed by signal 1"
    scene.until(lambda: scene.state() is State.STARTING)
    scene.until(lambda: scene.log().count("up ") == 2)
    scene.household.turn(scene.now_ns(), scene.beats())
    for _ in range(5):
        scene.household.turn(scene.now_ns(), scene.beats())
    assert scene.state() is State.RUNNING, "what was owed to its predecessor is forgotten"


def test_a_signal_for_a_child_that_is_dead_already_does_not_lose_its_death(scene: Scene) -> None:
    pid = scene.start("obedient")
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    scene.household.give("BTC", Input.STOP, scene.now_ns())
    scene.until(lambda: scene.state() is State.STOPPED)
    assert scene.household.sights(0)[0].exit_code == -signal.SIGKILL


def test_use_of_the_machine_is_measured_with_the_whole_family(scene: Scene) -> None:
    scene.start("family")
    scene.household.weigh()
    alone = psutil.Process(scene.pid()).memory_info().rss / 2**20
    usage = scene.household.sights(0)[0].usage
    assert usage.rss_mb > alone + 1
    assert usage.cpu_pct >= 0.0
    scene.household.give("BTC", Input.STOP, scene.now_ns())
    scene.until(lambda: scene.state() is State.STOPPED)
    assert math.isnan(scene.household.sights(0)[0].usage.rss_mb)


def test_descriptors_priority_and_environment_of_a_child(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/nobody")
    reader, writer = os.pipe()
    pid = scene.start("obedient", str(reader), inherit=(reader,), nice=5)
    process = psutil.Process(pid)
    environment = process.environ()
    assert Path(f"/proc/{pid}/fd/{reader}").readlink() == Path(f"/proc/self/fd/{reader}").readlink()
    assert not os.path.exists(f"/proc/{pid}/fd/{writer}")  # noqa: PTH110 - a symbolic link into nowhere
    assert process.nice() == 5
    assert os.getsid(pid) == pid
    assert environment["LIQMAP_SUPERVISOR_PID"] == str(os.getpid())
    assert "NOTIFY_SOCKET" not in environment
    os.close(reader)
    os.close(writer)


def test_two_processes_for_one_child_are_a_bug(scene: Scene) -> None:
    scene.start("obedient")
    with pytest.raises(AssertionError, match="has a process already"):
        scene.household._children.spawn(scene.household.post("BTC").launch)

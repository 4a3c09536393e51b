"""Clocks: a replay's line is exact both ways, and a test's clock moves only when told."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from liqmap.clock import ManualClock, ReplayClock, ReplayTime, SystemClock

_BOOT = 1_700_000_000_000_000_000


@given(st.integers(0, 10**15), st.sampled_from([0.25, 0.5, 1.0, 2.0, 60.0, 600.0]))
def test_a_replay_line_maps_there_and_back_within_one_recorded_step(passed_ns: int, speed: float) -> None:
    line = ReplayTime(engine_origin_ns=_BOOT, wall_origin_ns=3 * _BOOT // 2, speed=speed)
    engine_ns = line.engine_ns(line.wall_origin_ns + passed_ns)
    assert abs(line.wall_ns(engine_ns) - (line.wall_origin_ns + passed_ns)) <= max(2, 2 / speed) + passed_ns * 1e-9


def test_a_replay_clock_stands_in_the_recordings_time() -> None:
    wall = SystemClock().now_ns()
    clock = ReplayClock(ReplayTime(engine_origin_ns=_BOOT, wall_origin_ns=wall, speed=1000.0))
    first = clock.now_ns()
    assert first >= _BOOT
    while clock.now_ns() == first:
        pass
    assert (clock.now_ns() - first) % 1000 == 0


def test_waiting_on_a_manual_clock_moves_it_and_is_remembered() -> None:
    clock = ManualClock()
    before = clock.now_ns()
    assert not clock.wait(threading.Event(), 7.5)
    assert clock.now_ns() - before == 7_500_000_000
    assert clock.waits_s == [7.5]


def test_a_wall_step_is_invisible_to_durations() -> None:
    clock = ManualClock()
    before = clock.monotonic_ns()
    clock.step_wall(-3600)
    assert clock.monotonic_ns() == before

"""A real worker and its order books: killed in the middle of a frame, and beside a storm of events."""

import signal
from pathlib import Path

import numpy as np

from liqmap.shm.plan import Role
from tests.books_stage import DepthStage
from tests.fault.worker_stage import SECOND_NS, START_NS, SYMBOL, Stage, second_of_market, stage
from tests.waiting import wait_until

MID = 60_010.0


def shown(on: Stage, depth: DepthStage, at_s: int) -> None:
    """One second of market and books, and the worker has seen both."""
    depth.publish(START_NS + at_s * SECOND_NS, MID)
    on.write(second_of_market(at_s))
    wait_until(lambda: on.pending() == 0, f"second {at_s} is dealt with")


def test_a_worker_killed_in_the_middle_of_a_frame_leaves_a_frame_that_says_so(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        depth = DepthStage(on.config, SYMBOL)
        first = on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        for at_s in range(45):
            shown(on, depth, at_s)
        wait_until(lambda: len(depth.rows()) == 1, "the first frame")
        first.send_signal(signal.SIGKILL)
        first.wait()
        on.spawn()
        wait_until(lambda: on.beat().ready and on.beat().pid != first.pid, "the successor is ready")
        for at_s in range(50, 62):
            shown(on, depth, at_s)
        wait_until(lambda: len(depth.rows()) == 2, "the second frame")
        one, other = depth.rows()
        assert (one["t_ms"], other["t_ms"]) == (START_NS // 10**6, START_NS // 10**6 + 30_000)
        assert one["summed"]["covered_ms"] > other["summed"]["covered_ms"] > 0
        assert other["summed"]["covered_ms"] <= 11_500 + 1_500, "what the dead one saw of it is not made up"
        assert np.isfinite(one["mid_mean"]) and one["mid_mean"] == MID


def test_the_map_goes_on_beside_the_books(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        depth = DepthStage(on.config, SYMBOL)
        on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        for at_s in range(66):
            for quarter in range(4):
                depth.publish(START_NS + at_s * SECOND_NS + quarter * SECOND_NS // 4, MID)
            on.write(second_of_market(at_s))
            wait_until(lambda: on.pending() < 2048, "it keeps up")
        wait_until(lambda: len(on.rows(Role.MINUTES)) == 1, "a minute")
        live = on.live()
        assert live is not None and live["lost_events"] == 0
        assert "Traceback" not in on.log()

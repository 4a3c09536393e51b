"""A real worker process on real segments: what readers see while it is killed, poisoned, stopped and restarted."""

import signal
from pathlib import Path

import numpy as np

from liqmap.config import EXIT_CONFIG, RunMode
from liqmap.domain.enums import Kind, Model, Source
from liqmap.shm.board import BoardReader
from liqmap.shm.plan import Role
from tests.fault.worker_stage import DEADLINE_S, ROOT, SYMBOL, second_of_market, stage
from tests.waiting import wait_until


def test_events_in_the_ring_become_a_live_map_minutes_and_liquidations(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        for second in range(130):
            on.write(second_of_market(second))
            wait_until(lambda: on.pending() == 0, "the ring is read")
        live = on.live()
        assert live is not None
        assert live["mark_price"] == 60_000.0
        assert live["minutes"] == 2
        assert live["projection_known"].tolist() == [1, 1]
        assert live["liquidations"] == 130
        cells = int(live["buckets"])
        prices = (int(live["first_bucket"]) + np.arange(cells)) * float(live["step"])
        longs, shorts = live["projection_usd"].sum(axis=2)[Model.INVENTORY - 1, :, :cells]
        assert longs.sum() > 0
        assert shorts.sum() > 0
        assert prices[longs > 0].max() < 60_000 < prices[shorts > 0].min()
        minutes = on.rows(Role.MINUTES)
        assert minutes["minute_ms"].tolist() == [1_700_000_040_000, 1_700_000_100_000]
        assert minutes["frame"][0] < minutes["frame"][1]
        assert on.rows(Role.RECENT)["id"].size == 130
        beat = on.beat()
        assert beat.sequence == on.sequence
        assert beat.engine_ns == 1_700_000_040 * 10**9 + 129_750_000_000


def test_the_calibration_is_shown_whenever_a_minute_closes(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        for second in range(61):
            on.write(second_of_market(second))
        wait_until(lambda: on.pending() == 0, "the ring is read")
        plan = on.plans[Role.CALIBRATION]
        reader = BoardReader.open(plan.name, plan.dtype)
        assert reader.sequence_hint() == 0, "no minute is closed yet"
        for minute in (1, 2):
            for second in range(60 * minute + 1, 60 * minute + 10):
                on.write(second_of_market(second))
            wait_until(lambda: on.pending() == 0, "the ring is read")
            assert reader.sequence_hint() == minute
            board = reader.read()
            assert board["as_of_ns"] == (1_700_000_040 + 60 * minute) * 10**9
            on.write(
                [event for second in range(60 * minute + 10, 60 * minute + 61) for event in second_of_market(second)]
            )
            wait_until(lambda: on.pending() == 0, "the ring is read")
        table = on.config.symbols[SYMBOL]
        assert board["weights"].tolist() == board["prior"].tolist() == [list(table.weights)] * 2
        assert board["window_minutes"] == 2 and board["judged_count"] == 0
        assert np.isnan(board["realisation_configured"]) and board["guard_rails"]["shortest_min"] == 120


def test_a_killed_worker_resumes_at_its_cursor_and_doubles_nothing(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        first = on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        for second in range(70):
            on.write(second_of_market(second, liquidations=3))
            if second == 30:
                wait_until(lambda: on.pending() == 0, "the first one has dealt with these")
            if second == 40:
                first.send_signal(signal.SIGKILL)
                first.wait(DEADLINE_S)
        second_worker = on.spawn()
        wait_until(lambda: on.pending() == 0, "the successor caught up")
        ids = on.rows(Role.RECENT)["id"]
        assert len(ids) == 210
        assert np.all(np.diff(ids.astype(np.int64)) > 0)
        live = on.live()
        assert live is not None
        assert live["born_ns"] >= 1_700_000_070 * 10**9, "the successor's map begins where it began"
        minute = on.rows(Role.MINUTES)[0]
        assert minute["gap_topics"][0] & 1, "and its first minute says that events of it are missing"
        assert live["gap_minutes"] == live["minutes"] == 1
        second_worker.send_signal(signal.SIGTERM)
        assert second_worker.wait(DEADLINE_S) == 0
        assert "begins with an empty map" in on.log()


def test_kills_at_many_moments_never_double_or_drop_a_liquidation(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        for life in range(6):
            worker = on.spawn()
            wait_until(lambda: on.beat().ready, "ready")
            for second in range(life * 10, life * 10 + 10):
                on.write(second_of_market(second, liquidations=5))
            worker.send_signal(signal.SIGKILL)
            worker.wait(DEADLINE_S)
        on.spawn()
        wait_until(lambda: on.pending() == 0, "the last one caught up")
        ids = on.rows(Role.RECENT)["id"].astype(np.int64)
        assert len(ids) == 300
        assert np.all(np.diff(ids) > 0)


POISONED = """
import os, signal, sys
import numpy as np
from liqmap.engine.engine import Engine
from liqmap.domain.enums import Kind

apply = Engine.apply

def dies_of_poison(self, events):
    if np.any((events["kind"] == Kind.RATIO) & (events["side"] == 99)):
        os.kill(os.getpid(), signal.SIGKILL)
    return apply(self, events)

Engine.apply = dies_of_poison

from liqmap.worker.main import main
sys.exit(main())
"""


def test_a_batch_that_killed_two_workers_is_set_aside_and_the_third_goes_on(tmp_path: Path) -> None:
    program = tmp_path / "poisoned_worker.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{POISONED}")
    with stage(tmp_path) as on:
        poison = second_of_market(0)
        poison.append(poison[0]._replace(kind=10, side=99))
        on.write(poison)
        for _ in range(2):
            assert on.spawn((str(program),)).wait(DEADLINE_S) == -signal.SIGKILL
        on.spawn((str(program),))
        wait_until(lambda: on.beat().ready and on.pending() == 0, "the third lives")
        assert "set aside" in on.log()
        kept = np.load(next((on.paths.lib_dir / "quarantine").glob(f"{SYMBOL}-*.npy")))
        assert len(kept) == len(poison)
        for second in range(1, 65):
            on.write(second_of_market(second))
            wait_until(lambda: on.pending() == 0, "read")
        assert on.rows(Role.MINUTES)["gap_topics"][0, 0] & 1, "the frame says that events are missing"


DIES_BEFORE_THE_COMMIT = """
import os, signal, sys
from liqmap.shm.ring import RingReader

commits = 0
commit = RingReader.commit

def dies_at_the_third(self):
    global commits
    commits += 1
    if commits == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self)

RingReader.commit = dies_at_the_third

from liqmap.worker import loop
loop.SMALLEST_BATCH = loop.LARGEST_BATCH  # what is written at once is one batch

from liqmap.worker.main import main
sys.exit(main())
"""


def test_a_death_between_showing_and_committing_shows_nothing_twice(tmp_path: Path) -> None:
    program = tmp_path / "dying_worker.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{DIES_BEFORE_THE_COMMIT}")
    with stage(tmp_path) as on:
        dying = on.spawn((str(program),))
        wait_until(lambda: on.beat().ready, "ready")
        for first in (0, 1, 2):
            on.write([event for second in range(65 * first, 65 * first + 65) for event in second_of_market(second)])
            if first < 2:
                wait_until(lambda: on.pending() == 0, "read")
        assert dying.wait(DEADLINE_S) == -signal.SIGKILL
        shown = on.rows(Role.RECENT)["id"].astype(np.int64)
        assert len(shown) == 3 * 65, "the third batch was shown, and not committed"
        assert on.pending() > 0
        on.spawn()
        wait_until(lambda: on.pending() == 0, "the successor caught up")
        assert on.rows(Role.RECENT)["id"].astype(np.int64).tolist() == shown.tolist()
        minutes = on.rows(Role.MINUTES)
        assert np.all(np.diff(minutes["minute_ms"]) > 0)
        assert np.all(np.diff(minutes["sequence"].astype(np.int64)) > 0)


def test_every_minute_of_a_hole_is_shown_although_one_tick_closed_them_all(tmp_path: Path) -> None:
    """Ingest was away for five minutes; a second worker finds all of them shown and shows none again."""
    with stage(tmp_path) as on:
        first = on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        on.write(second_of_market(0))
        on.write(second_of_market(330))
        wait_until(lambda: on.beat().sequence == on.sequence and on.beat().lag_events == 0, "dealt with and kept")
        minutes = on.rows(Role.MINUTES)["minute_ms"]
        assert np.diff(minutes).tolist() == [60_000] * 4
        wait_until(lambda: any(on.paths.lib_dir.rglob("*.ckpt")), "the checkpoint, which follows the commit")
        first.send_signal(signal.SIGKILL)
        first.wait(DEADLINE_S)
        on.spawn()
        on.write(second_of_market(400))
        on.write(second_of_market(425))
        wait_until(lambda: on.pending() == 0, "the successor caught up")
        minutes = on.rows(Role.MINUTES)["minute_ms"]
        assert np.diff(minutes).tolist() == [60_000] * 6


def test_an_absurd_price_is_counted_and_logged_and_moves_nothing(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        on.spawn()
        for second in range(70):
            on.write(second_of_market(second))
        absurd = second_of_market(70, price=600_000.0)
        on.write([event for event in absurd if event.kind == Kind.MARK_PRICE])
        on.write(second_of_market(71))
        wait_until(lambda: on.pending() == 0, "read")
        live = on.live()
        assert live is not None
        assert live["mark_price"] == 60_000.0
        wait_until(lambda: on.beat().errors == 1, "counted")
        assert "a price was held back" in on.log()


def test_the_minutes_of_real_workers_do_not_depend_on_how_their_events_came(tmp_path: Path) -> None:
    """The same events in pieces of 3, of 97 and all at once; `frame` counts what was shown, live frames included."""
    events = [event for second in range(190) for event in second_of_market(second, 60_000.0 + 7 * (second % 50))]
    shown = []
    for pieces in (3, 97, 4000):
        directory = tmp_path / str(pieces)
        directory.mkdir()
        with stage(directory) as on:
            on.spawn()
            wait_until(lambda: on.beat().ready, "ready")
            for first in range(0, len(events), pieces):
                on.write(events[first : first + pieces])
                if first % 1000 < pieces:
                    wait_until(lambda: on.pending() == 0, "read")
            wait_until(lambda: on.pending() == 0, "read")
            minutes = on.rows(Role.MINUTES).copy()
            minutes["frame"] = 0
            shown.append((minutes.tobytes(), on.rows(Role.RECENT).tobytes()))
            assert len(minutes) == 3
    assert shown[0] == shown[1] == shown[2]


def test_a_window_that_does_not_fit_is_cut_and_the_log_says_so(tmp_path: Path) -> None:
    with stage(tmp_path, {"buckets": 256}) as on:
        on.spawn()
        on.write(second_of_market(0))
        wait_until(lambda: on.live() is not None and on.pending() == 0, "a map")
        assert "the window is cut to the configured buckets" in on.log()
        live = on.live()
        assert live is not None
        assert live["buckets"] == 256


def test_term_stops_a_worker_in_order(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        worker = on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        on.write(second_of_market(0))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(DEADLINE_S) == 0
        last = on.log().strip().splitlines()[-1]
        assert "ended" in last
        assert "Traceback" not in on.log()


def test_an_overrun_is_counted_and_becomes_a_gap(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        for second in range(3000):
            on.write(second_of_market(second, liquidations=0))
        on.spawn()
        wait_until(lambda: on.pending() == 0, "caught up")
        live = on.live()
        assert live is not None
        assert live["lost_events"] > 0
        assert live["gap_minutes"] >= 1
        assert on.rows(Role.MINUTES)["gap_topics"][0, 0] & 1
        assert "overrun" in on.log()


def test_a_missing_margin_table_is_one_line_and_exit_78(tmp_path: Path) -> None:
    with stage(tmp_path, {"margin_table": str(tmp_path / "nowhere.json")}) as on:
        worker = on.spawn()
        assert worker.wait(DEADLINE_S) == EXIT_CONFIG
        lines = [line for line in on.log().splitlines() if "CRITICAL" in line]
        assert len(lines) == 1
        assert "symbols.BTC.margin_table" in lines[0]
        assert "nowhere.json" in lines[0]
        assert "Traceback" not in on.log()


def test_a_broken_margin_table_is_one_line_and_exit_78(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"format": "liqmap margin 1", "symbol": "BTC", "tables": [{"venue": "ftx"}]}')
    with stage(tmp_path, {"margin_table": str(broken)}) as on:
        assert on.spawn().wait(DEADLINE_S) == EXIT_CONFIG
        assert "symbols.BTC.margin_table" in on.log()
        assert "Traceback" not in on.log()


def test_in_a_fast_replay_live_frames_come_once_per_wall_second_of_engine_time(tmp_path: Path) -> None:
    mode = RunMode(source=int(Source.REPLAY), engine_origin_ns=1, wall_origin_ns=1, speed=60.0)
    with stage(tmp_path, mode=mode) as on:
        on.spawn()
        wait_until(lambda: on.beat().ready, "ready")
        for second in range(240):
            on.write(second_of_market(second))
            wait_until(lambda: on.pending() == 0, "read")
        live = on.live()
        assert live is not None
        minutes = len(on.rows(Role.MINUTES))
        assert minutes == 3
        assert live["frame"] - minutes <= 5

"""A real worker that is killed, stopped, started again: readers see what they would have seen of one that lives on."""

import math
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.config import RunMode
from liqmap.domain.enums import GapReason, Kind, Source, Topic, Venue
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame
from liqmap.shm.layout import RING_HEADER, SEGMENT_HEADER
from liqmap.shm.plan import Role
from liqmap.shm.status import ClockRow, write_clock
from liqmap.store.checkpoint import CheckpointStore
from liqmap.store.state_codec import StateCodec
from liqmap.worker.checkpointing import checkpoint_store
from liqmap.worker.main import spec_of
from tests.fault.worker_stage import DEADLINE_S, ROOT, SECOND_NS, START_NS, SYMBOL, Stage, second_of_market, stage
from tests.waiting import wait_until

PIECE = 40


def market(seconds: int, first: int = 0) -> list[Event]:
    """A market that moves: prices wave and drift, liquidations come in bursts."""
    events: list[Event] = []
    for second in range(first, first + seconds):
        price = 60_000.0 + 400 * math.sin(second / 90) + 40 * math.sin(second / 7) + 0.2 * second
        events += second_of_market(second, round(price, 1), liquidations=3 if second % 17 == 0 else 0)
    return events


def shown(on: Stage) -> tuple[NDArray[np.void], bytes]:
    """The minute rows and liquidations. `frame` counts what one process showed, `lost_events` what a ring lost."""
    minutes = on.rows(Role.MINUTES).copy()
    minutes["frame"] = minutes["lost_events"] = 0
    return minutes, on.rows(Role.RECENT).tobytes()


def feed(on: Stage, events: list[Event], draw: random.Random | None = None) -> None:
    """Write all of it, never so much that the ring is overrun."""
    at = 0
    while at < len(events):
        size = PIECE if draw is None else draw.randrange(1, 400)
        wait_until(lambda: on.pending() < 3000, "room in the ring")
        on.write(events[at : at + size])
        at += size
    wait_until(lambda: on.pending() == 0, "the ring is read")


def started(on: Stage, program: tuple[str, ...] = ("-m", "liqmap.worker")) -> subprocess.Popen[bytes]:
    worker = on.spawn(program)
    wait_until(lambda: on.beat().pid == worker.pid and on.beat().ready, "ready")
    return worker


def end(worker: subprocess.Popen[bytes], number: signal.Signals = signal.SIGKILL) -> None:
    worker.send_signal(number)
    assert worker.wait(DEADLINE_S) == (0 if number is signal.SIGTERM else -number)


def checkpointed(on: Stage) -> bool:
    return (on.paths.lib_dir / "checkpoint" / f"{SYMBOL}.ckpt").exists()


def undisturbed(directory: Path, events: list[Event]) -> tuple[NDArray[np.void], bytes]:
    """What a worker shows of these events that lives through all of them."""
    directory.mkdir()
    with stage(directory) as on:
        started(on)
        feed(on, events)
        return shown(on)


def same_rows(found: tuple[NDArray[np.void], bytes], expected: tuple[NDArray[np.void], bytes], note: str = "") -> None:
    assert found[0]["minute_ms"].tolist() == expected[0]["minute_ms"].tolist(), note
    for name in expected[0].dtype.names or ():
        assert found[0][name].tobytes() == expected[0][name].tobytes(), f"{name} {note}"
    assert found[1] == expected[1], f"liquidations {note}"


def killed_again_and_again(directory: Path, kills: int, seconds: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  pytest shows it when the test fails
    draw = random.Random(seed)
    events = market(seconds)
    expected = undisturbed(directory / "undisturbed", events)
    per_life = len(events) // (kills + 1)
    (directory / "killed").mkdir()
    with stage(directory / "killed") as on:
        on.keep_journal()
        at = 0
        for life in range(kills):
            worker = started(on)
            until = per_life * (life + 1)
            dies_at = at + draw.randrange(1, max(2, until - at))
            while at < until:
                size = draw.randrange(1, 400)
                on.write(events[at : at + size])
                at += size
                if at >= dies_at and worker.poll() is None:
                    time.sleep(draw.random() * 0.02)  # not waiting for anything: the moment is what is drawn
                    end(worker)
                if worker.poll() is None:
                    wait_until(lambda: on.pending() < 3000, "room in the ring")
            if worker.poll() is None:
                end(worker)
            if life % 3 == 0 and not in_a_batch(on):  # two deaths in one batch would set it aside
                dies_while_it_recovers(on, draw)
        worker = started(on)
        feed(on, events[at:])
        end(worker, signal.SIGTERM)
        assert "set aside" not in on.log(), f"two deaths in one batch by chance: seed {seed}"
        assert "Traceback" not in on.log()
        same_rows(shown(on), expected, f"seed {seed}")


def in_a_batch(on: Stage) -> bool:
    """Whether whoever read the ring last died with a batch in hand."""
    header = on.holding[Role.RING, SYMBOL].array(RING_HEADER, SEGMENT_HEADER.itemsize, 1)
    return bool(header["batch_first"][0])


def dies_while_it_recovers(on: Stage, draw: random.Random) -> None:
    worker = on.spawn()
    wait_until(lambda: on.beat().pid == worker.pid, "it has begun")
    time.sleep(draw.random() * 0.1)  # not waiting for anything
    end(worker)


def test_killed_at_moments_nobody_chose_the_minutes_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, kills=6, seconds=700)


@pytest.mark.slow
def test_fifty_kills_under_load_change_no_bit(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, kills=50, seconds=5000)


def test_what_the_ring_lost_meanwhile_comes_from_the_journal(tmp_path: Path) -> None:
    """Three ringfuls go by while nobody reads."""
    events = market(2200)
    expected = undisturbed(tmp_path / "undisturbed", events)
    (tmp_path / "overrun").mkdir()
    with stage(tmp_path / "overrun") as on:
        on.keep_journal()
        worker = started(on)
        cut = len(events) // 8
        feed(on, events[:cut])
        end(worker)
        for at in range(cut, len(events), PIECE):
            on.write(events[at : at + PIECE])
        assert len(events) - cut > 3 * on.ring.capacity
        started(on)
        wait_until(lambda: on.pending() == 0, "caught up")
        assert not on.rows(Role.MINUTES)["gap_topics"].any()
        same_rows(shown(on), expected)


@pytest.mark.finding("X10")
def test_an_ordered_stop_deals_with_what_waits_and_keeps_everything(tmp_path: Path) -> None:
    """There is no journal: only what the stop wrote down can bring it back."""
    events = market(900)
    expected = undisturbed(tmp_path / "undisturbed", events)
    (tmp_path / "stopped").mkdir()
    with stage(tmp_path / "stopped") as on:
        worker = started(on)
        feed(on, market(440))
        on.write(market(10, 440))  # in the middle of a minute: no checkpoint is due for these
        end(worker, signal.SIGTERM)
        assert on.pending() == 0
        worker = started(on)
        assert "begins with an empty map" not in on.log().split("a checkpoint is loaded")[1]
        feed(on, market(450, 450))
        same_rows(shown(on), expected)
        assert not on.rows(Role.MINUTES)["gap_topics"].any()


def test_a_killed_worker_without_a_journal_tells_what_it_does_not_know(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        worker = started(on)
        feed(on, market(70))
        wait_until(lambda: checkpointed(on), "the first minute on disk")
        feed(on, market(30, 70))
        end(worker)
        started(on)
        feed(on, market(90, 100))
        minutes = on.rows(Role.MINUTES)
        assert (minutes["gap_topics"][:, 0] & 1).tolist() == [0, 1, 0], "from its checkpoint to the ring's cursor"
        assert minutes["minutes"].tolist() == [1, 2, 3]


def reference(on: Stage) -> tuple[Engine, list[MinuteFrame]]:
    """An engine that was never stopped and saw the same events."""
    engine = Engine(spec_of(on.effective, SYMBOL))
    return engine, engine.apply(np.frombuffer(b"".join(on.said), EVENT_DTYPE))


def check_rows(on: Stage, frames: list[MinuteFrame]) -> None:
    """The rows in shared memory are the last of these frames, to the bit."""
    rows = on.rows(Role.MINUTES)
    assert len(rows) > 0
    for row, frame in zip(rows[::-1], frames[::-1], strict=False):
        used = frame.facts.buckets
        assert int(row["minute_ms"]) == frame.facts.minute_ms
        assert int(row["sequence"]) == frame.facts.sequence
        assert row["evidence_usd"][..., :used].tobytes() == frame.evidence_usd.tobytes()
        assert row["projection_usd"][..., :used].tobytes() == frame.projection_usd.tobytes()
        assert float(row["close"]) == frame.close or frame.close != frame.close
        assert int(row["minutes"]) == frame.facts.minutes


@pytest.mark.finding("M10")
@pytest.mark.finding("X10")
@pytest.mark.parametrize("hours", [2, 26])
def test_stop_wait_hours_start_is_decay_by_those_hours_and_a_gap(tmp_path: Path, hours: int) -> None:
    with stage(tmp_path) as on:
        on.keep_journal()
        worker = started(on)
        feed(on, market(200))
        end(worker, signal.SIGTERM)
        before, stopped = on.rows(Role.MINUTES)[-1], reference(on)[0].live()
        assert stopped is not None
        on.restart_daemon()
        worker = started(on)
        back_s = 200 + hours * 3600
        ns = START_NS + back_s * SECOND_NS
        away = [
            Event(
                ns,
                (START_NS + 200 * SECOND_NS) // 10**6,
                detail=ns // 10**6,
                kind=Kind.GAP,
                side=GapReason.STOPPED,
                venue=int(Venue.BINANCE),
                topic=topic,
            )
            for topic in (Topic.LIQUIDATION, Topic.TRADE, Topic.MARK_PRICE, Topic.OPEN_INTEREST)
        ]
        on.write(away)
        on.write([Event(ns + SECOND_NS, kind=Kind.TICK)])
        wait_until(lambda: on.pending() == 0, "read")
        rows = on.rows(Role.MINUTES)
        check_rows(on, reference(on)[1])
        elapsed = (int(rows["minute_ms"][-1]) - int(before["minute_ms"])) // 60_000
        assert elapsed >= 60 * hours - 1
        left = rows["evidence_usd"][-1].sum() / stopped.evidence_usd.sum()
        assert left == pytest.approx(0.995**elapsed, rel=0.01)
        assert rows["gap_topics"][-1].any(), "the time away is a gap"
        feed(on, market(130, back_s + 60))
        check_rows(on, reference(on)[1])


def test_a_damaged_checkpoint_is_reported_and_the_one_before_and_the_journal_are_used(tmp_path: Path) -> None:
    events = market(400)
    expected = undisturbed(tmp_path / "undisturbed", events)
    (tmp_path / "damaged").mkdir()
    with stage(tmp_path / "damaged") as on:
        on.keep_journal()
        worker = started(on)
        cut = len(events) * 3 // 4
        feed(on, events[:cut])
        wait_until(lambda: checkpointed(on), "one of a minute")
        end(worker, signal.SIGTERM)
        newest = on.paths.lib_dir / "checkpoint" / f"{SYMBOL}.ckpt"
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
        started(on)
        feed(on, events[cut:])
        log = on.log()
        assert f"{newest} at byte" in log and "its state is damaged" in log
        assert "BTC.ckpt.previous" in log.split("a checkpoint is loaded")[1]
        same_rows(shown(on), expected)


@pytest.mark.parametrize("how", ["version", "code", "spec"])
def test_a_checkpoint_of_another_kind_is_reported_and_the_journal_alone_is_enough(tmp_path: Path, how: str) -> None:
    events = market(400)
    expected = undisturbed(tmp_path / "undisturbed", events)
    (tmp_path / "foreign").mkdir()
    with stage(tmp_path / "foreign") as on:
        on.keep_journal()
        worker = started(on)
        cut = len(events) * 3 // 4
        feed(on, events[:cut])
        wait_until(lambda: checkpointed(on), "one of a minute")
        end(worker, signal.SIGTERM)
        directory = on.paths.lib_dir / "checkpoint"
        words = _made_foreign(on, directory, how)
        started(on)
        feed(on, events[cut:])
        assert words in on.log()
        assert on.log().count("a checkpoint cannot be used") == 2
        assert "a checkpoint is loaded" not in on.log()
        same_rows(shown(on), expected)


def _made_foreign(on: Stage, directory: Path, how: str) -> str:
    """Replace both checkpoints by ones that a program of another kind wrote; what has to be said of them."""
    spec = spec_of(on.effective, SYMBOL)
    if how == "version":
        for path in directory.glob(f"{SYMBOL}.ckpt*"):
            content = bytearray(path.read_bytes())
            content[8] += 1
            path.write_bytes(content)
        return "it is of checkpoint version 2, this program reads version 1"
    if how == "spec":
        other = replace(spec, decay_per_minute=0.99)
        store = checkpoint_store(on.paths.lib_dir, other, Source.LIVE)
        words = "it is of decay_per_minute 0.99, here it is 0.995"
    else:
        other = spec
        about = checkpoint_store(on.paths.lib_dir, spec, Source.LIVE)._about
        store = CheckpointStore(directory, SYMBOL, StateCodec([_Foreign]), about)
        words = "_Foreign, which this program does not have"
    for _ in range(2):
        store.write(_Foreign() if how == "code" else Engine(other), 1, 1)
    return words


class _Foreign:
    pass


DIES_IN_RECOVERY = """
import os, signal, sys
from liqmap.worker.{module} import {owner}

def dies(self, *_args):
    os.kill(os.getpid(), signal.SIGKILL)

{owner}.{method} = dies

from liqmap.worker.main import main
sys.exit(main())
"""


def test_a_recovery_that_is_deadly_leaves_the_journal_out_and_then_everything(tmp_path: Path) -> None:
    """Here every attempt dies: whatever it was, in the journal or in the checkpoint, it cannot keep the symbol down."""
    program = tmp_path / "dying.py"
    dies = DIES_IN_RECOVERY.format(module="recovery", owner="Recovery", method="_replay")
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{dies}")
    with stage(tmp_path) as on:
        on.keep_journal()
        worker = started(on)
        feed(on, market(70))
        wait_until(lambda: checkpointed(on), "the first minute on disk")
        feed(on, market(10, 70))
        end(worker)
        for _ in range(3):
            assert on.spawn((str(program),)).wait(DEADLINE_S) == -signal.SIGKILL
        worker = started(on, (str(program),))
        assert "the journal is left out" in on.log()
        feed(on, market(50, 80))
        assert on.rows(Role.MINUTES)["gap_topics"][1, 0] & 1, "what was left out is a gap"
        assert on.rows(Role.MINUTES)["minutes"].tolist() == [1, 2]
        end(worker)
        (on.paths.lib_dir / "checkpoint" / f"{SYMBOL}.attempts").write_text("4\n")
        started(on)
        assert "the checkpoint is left out" in on.log()
        assert on.log().strip().split("the journal is left out")[-1].count("begins with an empty map") == 1
        feed(on, market(60, 130))
        assert not (on.paths.lib_dir / "checkpoint" / f"{SYMBOL}.attempts").exists()


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


def test_what_was_set_aside_is_not_taken_from_the_journal_either(tmp_path: Path) -> None:
    program = tmp_path / "poisoned.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{POISONED}")
    with stage(tmp_path) as on:
        on.keep_journal()
        worker = started(on, (str(program),))
        feed(on, market(70))
        poison = second_of_market(70)
        on.write([*poison, poison[0]._replace(kind=10, side=99)])
        assert worker.wait(DEADLINE_S) == -signal.SIGKILL
        assert on.spawn((str(program),)).wait(DEADLINE_S) == -signal.SIGKILL
        worker = started(on, (str(program),))
        feed(on, market(20, 71))
        assert "set aside" in on.log()
        end(worker)
        started(on, (str(program),))
        feed(on, market(40, 91))
        minutes = on.rows(Role.MINUTES)
        assert (minutes["gap_topics"][:, 0] & 1).tolist() == [0, 1], "its absence is a gap, and nothing else is missing"
        assert on.log().count("set aside") == 1


@pytest.mark.finding("H1")
def test_checkpoints_that_cannot_be_written_are_told_once_and_counted_and_cost_nothing_else(tmp_path: Path) -> None:
    with stage(tmp_path) as on:
        (on.paths.lib_dir / "checkpoint").write_text("a file stands where the directory should")
        started(on)
        feed(on, market(70))
        wait_until(lambda: on.beat().errors == 1, "counted")
        feed(on, market(60, 70))
        wait_until(lambda: on.beat().errors == 2, "counted each time")
        assert on.log().count("a checkpoint cannot be written") == 1
        assert "Traceback" in on.log()
        assert len(on.rows(Role.MINUTES)) == 2
        (on.paths.lib_dir / "checkpoint").unlink()
        feed(on, market(60, 130))
        wait_until(lambda: "checkpoints are written again" in on.log(), "said")
        assert (on.paths.lib_dir / "checkpoint" / f"{SYMBOL}.ckpt").exists()


def test_a_replay_neither_writes_nor_reads_checkpoints(tmp_path: Path) -> None:
    mode = RunMode(source=int(Source.REPLAY), engine_origin_ns=1, wall_origin_ns=1, speed=60.0)
    with stage(tmp_path, mode=mode) as on:
        worker = started(on)
        feed(on, market(70))
        end(worker, signal.SIGTERM)
        assert not (on.paths.lib_dir / "checkpoint").exists()


def test_a_simulated_market_begins_anew_with_the_daemon_and_not_with_a_worker(tmp_path: Path) -> None:
    def begun(on: Stage, second: int) -> None:
        ns = START_NS + second * SECOND_NS
        write_clock(on.holding[Role.STATUS], ClockRow(Source.SIMULATED, 0, 0, 1.0, ns, 0, 0))

    with stage(tmp_path, mode=RunMode(source=int(Source.SIMULATED))) as on:
        on.keep_journal()
        begun(on, 0)
        worker = started(on)
        feed(on, market(100))
        wait_until(lambda: any(on.paths.lib_dir.rglob("*.ckpt")), "the checkpoint, which follows the commit")
        end(worker)
        worker = started(on)
        assert "a checkpoint is loaded" in on.log()
        feed(on, market(30, 100))
        end(worker, signal.SIGTERM)
        on.restart_daemon()
        begun(on, 1000)
        started(on)
        assert "of an earlier simulated market" in on.log()
        feed(on, market(70, 1000))
        live = on.live()
        assert live is not None
        assert live["born_ns"] >= START_NS + 1000 * SECOND_NS
        assert not on.rows(Role.MINUTES)["gap_topics"].any()


def test_a_long_recovery_beats_and_is_not_ready(tmp_path: Path) -> None:
    """The supervisor tells silence from work by that; see `silent` in tests/unit/test_supervisor_household.py."""
    watched: list[tuple[bool, int]] = []
    with stage(tmp_path) as on:
        on.keep_journal()
        events = market(6000)
        packed = b"".join(event.packed((1 << 40) + 1 + i) for i, event in enumerate(events))
        assert on.journals is not None
        on.journals.of(SYMBOL).append((1 << 40) + 1, packed)
        worker = on.spawn()

        def ready() -> bool:
            beat = on.beat()
            if beat.pid == worker.pid:
                watched.append((beat.ready, beat.sequence))
            return beat.ready

        wait_until(ready, "ready")
        assert on.beat().sequence == (1 << 40) + len(events)
        sequences: Callable[[], list[int]] = lambda: [number for is_ready, number in watched if not is_ready]  # noqa: E731
        assert sequences() == sorted(sequences())
        assert len(on.rows(Role.MINUTES)) == 99

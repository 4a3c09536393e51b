"""A stage for real worker processes: segments of an instance of their own, a ring to fill, readers to look with."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from liqmap.config import Effective, RunMode, parse, paths, write_effective
from liqmap.config.records import JournalConfig
from liqmap.domain.enums import Kind, PositionSide, Source, TakerSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.shm.board import BoardReader
from liqmap.shm.faults import NeverPublished
from liqmap.shm.plan import Holding, Role, create_all, symbol_segments
from liqmap.shm.ring import RingWriter, ring_counters
from liqmap.shm.rows import RowsReader
from liqmap.shm.status import Beat, read_heartbeats
from liqmap.store.journal import Journals

ROOT = Path(__file__).resolve().parents[2]
SYMBOL = "BTC"
START_NS = 1_700_000_040_000_000_000  # a whole minute
SECOND_NS = 1_000_000_000
DEADLINE_S = 20.0


class Stage:
    """One instance with one symbol, owned by the test as the supervisor would own it."""

    def __init__(self, directory: Path, changes: dict[str, Any] | None = None, mode: RunMode | None = None) -> None:
        raw: dict[str, Any] = {
            "daemon": {"instance": f"t{os.getpid()}{secrets.token_hex(3)}", "var_dir": str(directory / "var")},
            "symbols": {SYMBOL: {"buckets": 2048, **(changes or {})}},
            "ingest": {"ring_events": 4096},
            "history": {"minute_columns": 128, "recent_liquidations": 16384},
        }
        self.config = parse(raw)
        self.paths = paths(self.config)
        for path in (self.paths.run_dir, self.paths.log_dir, self.paths.lib_dir):
            path.mkdir(parents=True)
        self.effective = Effective(config=self.config, mode=mode or RunMode(), base_dir=str(ROOT))
        write_effective(self.effective, self.paths.effective)
        self.holding: Holding = create_all(self.config)
        self.plans = {plan.role: plan for plan in symbol_segments(self.config, SYMBOL)}
        self.ring = RingWriter.open(self.plans[Role.RING].name)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.sequence = 1 << 40
        self.journals: Journals | None = None
        self.said: list[bytes] = []
        """Everything that was written."""

    def keep_journal(self) -> None:
        """From now on events are in a journal before they are in the ring."""
        source = Source(self.effective.mode.source)
        settings = JournalConfig(compress=False)
        self.journals = Journals(self.paths.lib_dir / "journal", settings, self.config.daemon.instance, source)

    def restart_daemon(self) -> None:
        """What an ordered stop and a later start do to what the worker sees: other memory, another ingest."""
        self.holding.retire_all()
        self.holding = create_all(self.config)
        self.ring = RingWriter.open(self.plans[Role.RING].name)
        self.sequence = ((self.sequence >> 40) + 1) << 40

    def spawn(self, program: tuple[str, ...] = ("-m", "liqmap.worker")) -> subprocess.Popen[bytes]:
        """Start a worker as the supervisor would."""
        command = [sys.executable, *program, SYMBOL, "--effective", str(self.paths.effective)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.processes.append(process)
        return process

    def write(self, events: list[Event]) -> None:
        """Number the events and put them into the ring, as ingest would."""
        first = self.sequence + 1
        self.sequence += len(events)
        packed = b"".join(event.packed(first + i) for i, event in enumerate(events))
        if self.journals is not None:
            self.journals.of(SYMBOL).append(first, packed)
        self.ring.write(packed)
        self.said.append(packed)

    def live(self) -> NDArray[Any] | None:
        """The newest live frame, None: never published."""
        plan = self.plans[Role.LIVE]
        try:
            return BoardReader.open(plan.name, plan.dtype).read()
        except NeverPublished:
            return None

    def rows(self, role: Role) -> NDArray[Any]:
        """All rows that are there."""
        plan = self.plans[role]
        return RowsReader.open(plan.name, plan.dtype).last(plan.capacity)

    def beat(self) -> Beat:
        """The worker's heartbeat row."""
        return read_heartbeats(self.holding[Role.STATUS])[SYMBOL]

    def pending(self) -> int:
        """Events nobody has dealt with."""
        return ring_counters(self.holding[Role.RING, SYMBOL]).pending

    def log(self) -> str:
        """The worker's log."""
        return self.paths.log(SYMBOL).read_text()

    def close(self) -> None:
        """End what was started, remove what was made."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate(timeout=DEADLINE_S)
        if self.journals is not None:
            self.journals.close()
        self.holding.retire_all()


@contextmanager
def stage(directory: Path, changes: dict[str, Any] | None = None, mode: RunMode | None = None) -> Iterator[Stage]:
    """A stage that cleans up after itself."""
    made = Stage(directory, changes, mode)
    try:
        yield made
    finally:
        made.close()


def second_of_market(at_s: int, price: float = 60_000.0, liquidations: int = 1) -> list[Event]:
    """One second of a quiet market: four ticks, a mark, trades, open interest that grows, liquidations of longs."""
    ns = START_NS + at_s * SECOND_NS
    ms = ns // 1_000_000
    binance = int(Venue.BINANCE)
    events = [
        Event(ns, ms, price, kind=Kind.MARK_PRICE, venue=binance, topic=Topic.MARK_PRICE),
        Event(ns, ms, price, 0.5, kind=Kind.TRADE, venue=binance, topic=Topic.TRADE, side=TakerSide.BUY),
        Event(ns, ms, price, 0.4, kind=Kind.TRADE, venue=binance, topic=Topic.TRADE, side=TakerSide.SELL),
    ]
    if at_s % 10 == 0:
        level = 79_000.0 + at_s
        events.append(Event(ns, ms, quantity=level, kind=Kind.OPEN_INTEREST, venue=binance, topic=Topic.OPEN_INTEREST))
    for i in range(liquidations):
        printed, side = price * 0.995, PositionSide.LONG
        events.append(
            Event(ns + i, ms, printed, 0.1, kind=Kind.LIQUIDATION, venue=binance, topic=Topic.LIQUIDATION, side=side)
        )
    events += [Event(ns + quarter * SECOND_NS // 4, kind=Kind.TICK) for quarter in range(4)]
    return events

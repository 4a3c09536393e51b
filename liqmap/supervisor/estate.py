"""What the supervisor owns: shared memory with its clock row, table of processes and directory, and the sockets."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from liqmap.config import Config, RunMode
from liqmap.domain.enums import Source
from liqmap.shm.board import BoardWriter
from liqmap.shm.layout import DIRECTORY, PROCESSES
from liqmap.shm.plan import Holding, Role, create_all, symbol_segments
from liqmap.shm.status import ClockRow, add_process, read_heartbeats, supervisor_beat, write_clock
from liqmap.supervisor.household import Beat, Sight
from liqmap.supervisor.publish import fill_directory, fill_processes


class Estate:
    """The shared memory of one instance. Raises the faults of liqmap.shm when it cannot be had."""

    def __init__(self, config: Config, mode: RunMode, others: Iterable[str]) -> None:
        """`others`: children that are neither ingest, api nor a worker."""
        self._holding: Holding = create_all(config)
        status = self._holding[Role.STATUS]
        for name in others:
            add_process(status, name)
        now_ns = time.time_ns()
        write_clock(
            status,
            ClockRow(
                source=Source(mode.source),
                engine_origin_ns=mode.engine_origin_ns,
                wall_origin_ns=mode.wall_origin_ns,
                speed=mode.speed,
                started_ns=now_ns,
                supervisor_beat_ns=time.monotonic_ns(),
                supervisor_pid=os.getpid(),
            ),
        )
        self._processes = BoardWriter(self._holding[Role.PROCESSES], PROCESSES)
        self._directory = BoardWriter(self._holding[Role.DIRECTORY], DIRECTORY)
        self.show_symbols(config)

    def beats(self) -> Mapping[str, Beat]:
        """What the heartbeat rows say."""
        rows = read_heartbeats(self._holding[Role.STATUS])
        return {name: Beat(row.beat_ns, row.ready) for name, row in rows.items()}

    def show_processes(self, sights: Iterable[Sight], now_ns: int, faults: Sequence[str] = ()) -> None:
        """Publish the table of processes with the simulated `faults` that are on, and our own sign of life. `now_ns` is
        CLOCK_MONOTONIC."""
        supervisor_beat(self._holding[Role.STATUS], now_ns)
        self._processes.publish(lambda board: fill_processes(board, sights, now_ns, faults))

    def show_symbols(self, config: Config) -> None:
        """Publish the directory."""
        generations = {symbol: self._holding[Role.LIVE, symbol].generation for symbol in config.enabled_symbols}
        self._directory.publish(lambda board: fill_directory(board, config, generations))

    def change(self, before: Config, after: Config) -> None:
        """Follow a change of the configuration: segments of symbols that go are retired, of ones that come created,
        of ones whose geometry changed replaced. Their processes must be gone. Raises SharedMemoryFull."""
        for symbol in before.enabled_symbols:
            if symbol not in after.enabled_symbols or symbol_segments(before, symbol) != symbol_segments(after, symbol):
                self._holding.retire_symbol(symbol)
        for symbol in after.enabled_symbols:
            self._holding.add_symbol(after, symbol)
        self.show_symbols(after)

    def retire(self) -> None:
        """The ordered end: everything is put out of use and removed."""
        self._holding.retire_all()

    def leave(self) -> None:
        """The end of a bug: what we hold stays for a successor to adopt."""
        self._holding.close()

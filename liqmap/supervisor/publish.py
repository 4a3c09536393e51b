"""What the supervisor publishes in shared memory: the table of processes, and the directory of symbols."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.config import Config
from liqmap.shm.layout import DIRECTORY, DIRECTORY_SYMBOLS, PROCESS_ROW, PROCESSES, SHOWN_FAULTS, STATUS_PROCESSES
from liqmap.supervisor.household import Sight

NOT_DIED: Final = -1000


def fill_processes(
    board: NDArray[Any], sights: Iterable[Sight], now_ns: int, simulated_faults: Sequence[str] = ()
) -> None:
    """Write PROCESSES in place. `now_ns` is CLOCK_MONOTONIC; the board holds wall time."""
    board[...] = np.zeros((), PROCESSES)
    rows = board["rows"]
    wall_minus_monotonic_ns = time.time_ns() - now_ns
    count = 0
    for row, sight in zip(rows, list(sights)[:STATUS_PROCESSES], strict=False):
        row["name"] = sight.name
        row["state"] = sight.state.value
        row["pid"] = sight.pid or 0
        row["started_ns"] = -1 if sight.started_ns is None else sight.started_ns + wall_minus_monotonic_ns
        row["restarts"] = sight.restarts
        row["exit_code"] = NOT_DIED if sight.exit_code is None else sight.exit_code
        row["cpu_pct"] = sight.usage.cpu_pct
        row["rss_mb"] = sight.usage.rss_mb
        row["reason"] = _cut(sight.reason)
        count += 1
    board["count"] = count
    shown = [_cut(words, _FAULT_BYTES) for words in simulated_faults[:SHOWN_FAULTS]]
    board["fault_count"] = len(shown)
    board["faults"][..., : len(shown)] = shown


def fill_directory(board: NDArray[Any], config: Config, generations: Mapping[str, int]) -> None:
    """Write DIRECTORY in place: every configured symbol, the living ones with the generation of their live board."""
    board[...] = np.zeros((), DIRECTORY)
    count = 0
    for row, (symbol, table) in zip(board["rows"], list(config.symbols.items())[:DIRECTORY_SYMBOLS], strict=False):
        row["symbol"] = symbol
        row["enabled"] = int(table.enabled)
        row["step"] = table.step
        row["generation"] = generations.get(symbol, 0)
        count += 1
    board["count"] = count


_REASON_BYTES: Final = PROCESS_ROW["reason"].itemsize
_FAULT_BYTES: Final = PROCESSES["faults"].base.itemsize


def _cut(text: str, size: int = _REASON_BYTES) -> bytes:
    """As much of it as fits, never half a character."""
    return text.encode("utf-8")[:size].decode("utf-8", "ignore").encode("utf-8")

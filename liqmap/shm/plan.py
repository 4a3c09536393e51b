"""Which segments a configuration needs, and the supervisor's hold on them.

`segments_of(config)` is a table; `create_all` makes or adopts everything in it after it has checked that there is room,
and clears away what an earlier run of the instance left behind and nobody needs any more. Symbols come and go one by
one through the same Holding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from liqmap.config import Config
from liqmap.domain.event import EVENT_DTYPE
from liqmap.shm.board import board_size, create_board
from liqmap.shm.faults import SharedMemoryFull
from liqmap.shm.layout import (
    DIRECTORY,
    FEEDS,
    HEARTBEAT,
    LIQUIDATION,
    PROCESSES,
    book_dtype,
    calibration_dtype,
    depth_dtype,
    live_dtype,
    minute_dtype,
    segment_name,
    zones_dtype,
)
from liqmap.shm.ring import create_ring, ring_size
from liqmap.shm.rows import create_rows, rows_size
from liqmap.shm.segment import Segment, free_bytes, segment_bytes, segments_in
from liqmap.shm.status import add_process, create_status, status_size

__all__ = [
    "FIXED_PROCESSES",
    "Holding",
    "Role",
    "SegmentKind",
    "SegmentPlan",
    "create_all",
    "retire_all",
    "segments_of",
    "symbol_segments",
    "total_bytes",
]

FIXED_PROCESSES: Final = ("ingest", "api")
"""Children of every instance, beside one worker per symbol (named like its symbol)."""


class Role(Enum):
    """What a segment is for; the word stands in its name."""

    DIRECTORY = "directory"
    STATUS = "status"
    PROCESSES = "processes"
    FEEDS = "feeds"
    RING = "ring"
    LIVE = "live"
    MINUTES = "minutes"
    RECENT = "recent"
    DEPTH = "depth"
    BOOKS = "books"
    CALIBRATION = "calibration"
    ZONES = "zones"


class SegmentKind(Enum):
    """How a segment is read and written: the module of that name."""

    STATUS = "status"
    BOARD = "board"
    RING = "ring"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """One segment to be. `dtype`: of a payload, row or event; `capacity`: events or rows, 0 for boards and status."""

    instance: str
    role: Role
    symbol: str | None
    kind: SegmentKind
    dtype: np.dtype[Any]
    capacity: int = 0

    @property
    def name(self) -> str:
        """Its name below /dev/shm."""
        return segment_name(self.instance, self.role.value, self.symbol)

    @property
    def size(self) -> int:
        """Bytes of the whole segment."""
        match self.kind:
            case SegmentKind.STATUS:
                return status_size()
            case SegmentKind.BOARD:
                return board_size(self.dtype)
            case SegmentKind.RING:
                return ring_size(self.capacity)
            case SegmentKind.ROWS:
                return rows_size(self.dtype, self.capacity)

    def create(self) -> Segment:
        """Create or adopt it (supervisor only). Raises as Segment.create."""
        match self.kind:
            case SegmentKind.STATUS:
                return create_status(self.instance, ())
            case SegmentKind.BOARD:
                return create_board(self.name, self.dtype)
            case SegmentKind.RING:
                return create_ring(self.name, self.capacity)
            case SegmentKind.ROWS:
                return create_rows(self.name, self.dtype, self.capacity)


def symbol_segments(config: Config, symbol: str) -> tuple[SegmentPlan, ...]:
    """The segments of one symbol. KeyError when it is not in the configuration."""
    table = config.symbols[symbol]
    instance, history, depth = config.daemon.instance, config.history, config.depth
    live = live_dtype(len(table.leverages), table.buckets)
    minutes = minute_dtype(table.buckets)
    calibration = calibration_dtype(len(table.leverages))
    return (
        SegmentPlan(instance, Role.RING, symbol, SegmentKind.RING, EVENT_DTYPE, config.ingest.ring_events),
        SegmentPlan(instance, Role.LIVE, symbol, SegmentKind.BOARD, live),
        SegmentPlan(instance, Role.MINUTES, symbol, SegmentKind.ROWS, minutes, history.minute_columns),
        SegmentPlan(instance, Role.RECENT, symbol, SegmentKind.ROWS, LIQUIDATION, history.recent_liquidations),
        SegmentPlan(instance, Role.DEPTH, symbol, SegmentKind.BOARD, depth_dtype(depth.buckets)),
        SegmentPlan(instance, Role.BOOKS, symbol, SegmentKind.ROWS, book_dtype(depth.buckets), depth.frames),
        SegmentPlan(instance, Role.CALIBRATION, symbol, SegmentKind.BOARD, calibration),
        SegmentPlan(instance, Role.ZONES, symbol, SegmentKind.BOARD, zones_dtype(len(table.leverages))),
    )


def segments_of(config: Config) -> tuple[SegmentPlan, ...]:
    """Every segment of the instance: its own, then those of each enabled symbol."""
    instance = config.daemon.instance
    own = (
        SegmentPlan(instance, Role.STATUS, None, SegmentKind.STATUS, HEARTBEAT),
        SegmentPlan(instance, Role.DIRECTORY, None, SegmentKind.BOARD, DIRECTORY),
        SegmentPlan(instance, Role.PROCESSES, None, SegmentKind.BOARD, PROCESSES),
        SegmentPlan(instance, Role.FEEDS, None, SegmentKind.BOARD, FEEDS),
    )
    return own + tuple(plan for symbol in config.enabled_symbols for plan in symbol_segments(config, symbol))


def total_bytes(plans: Iterable[SegmentPlan]) -> int:
    """Bytes of shared memory that these take."""
    return sum(plan.size for plan in plans)


class Holding:
    """The segments the supervisor owns, by role and symbol. Made by `create_all`."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._held: dict[str, Segment] = {}

    def __getitem__(self, key: Role | tuple[Role, str]) -> Segment:
        """`holding[Role.FEEDS]`, `holding[Role.LIVE, "BTC"]`. KeyError when not held."""
        role, symbol = key if isinstance(key, tuple) else (key, None)
        return self._held[segment_name(self.instance, role.value, symbol)]

    def __iter__(self) -> Iterator[Segment]:
        return iter(tuple(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def add(self, plans: Iterable[SegmentPlan]) -> None:
        """Create or adopt these, all or none. Raises SharedMemoryFull before anything is made, else as create."""
        wanted = [plan for plan in plans if plan.name not in self._held]
        _check_room(self.instance, wanted)
        made: dict[str, Segment] = {}
        try:
            for plan in wanted:
                made[plan.name] = plan.create()
        except BaseException:
            for segment in made.values():
                if not segment.adopted:
                    segment.unlink()
                segment.close()
            raise
        self._held.update(made)

    def add_symbol(self, config: Config, symbol: str) -> None:
        """Create or adopt the segments of one symbol, and its worker's heartbeat row. Raises as `add`."""
        self.add(symbol_segments(config, symbol))
        add_process(self[Role.STATUS], symbol)

    def retire_symbol(self, symbol: str) -> None:
        """Put the segments of one symbol out of use and remove their names; its processes must be gone."""
        for name in [name for name in self._held if name.endswith(f".{symbol}")]:
            self._retire(name)

    def retire_all(self) -> None:
        """Put everything out of use and remove the names."""
        for name in tuple(self._held):
            self._retire(name)

    def close(self) -> None:
        """Let go of everything and leave it for a successor to adopt."""
        for segment in self._held.values():
            segment.close()
        self._held.clear()

    def _retire(self, name: str) -> None:
        segment = self._held.pop(name)
        segment.unlink()
        segment.close()


def create_all(config: Config) -> Holding:
    """Create or adopt every segment of the configuration, after clearing what else the instance left behind.

    Raises SharedMemoryFull (needed and free bytes in one line), SegmentHeld (the instance is running), SegmentForeign.
    """
    plans = segments_of(config)
    holding = Holding(config.daemon.instance)
    _retire_leftovers(config.daemon.instance, keep={plan.name for plan in plans})
    holding.add(plans)
    for name in (*FIXED_PROCESSES, *config.enabled_symbols):
        add_process(holding[Role.STATUS], name)
    return holding


def retire_all(config: Config) -> None:
    """Remove whatever the instance left in /dev/shm, when no daemon of it runs. Raises SegmentHeld, SegmentForeign."""
    _retire_leftovers(config.daemon.instance, keep=set())


def _prefix(instance: str) -> str:
    return segment_name(instance, "") + "."


def _retire_leftovers(instance: str, keep: set[str]) -> None:
    for name in segments_in(_prefix(instance)):
        if name not in keep:
            left = Segment.take_over(name)
            if left is not None:
                left.unlink()
                left.close()


def _check_room(instance: str, plans: list[SegmentPlan]) -> None:
    """What exists at the right size will be adopted, or removed before its successor is made: it takes no new room."""
    present = {name: segment_bytes(name) for name in segments_in(_prefix(instance))}
    needed = sum(max(plan.size - present.get(plan.name, 0), 0) for plan in plans)
    free = free_bytes()
    if needed > free:
        raise SharedMemoryFull(f"instance {instance} ({len(plans)} segments)", needed, free)

"""One symbol's recorded events through an engine, with every closed minute shown to whoever asked to see it.

What is looked at is the minute frame alone: what the engine said at the end of that minute, knowing nothing later.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Model
from liqmap.domain.grid import Grid, Window
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame
from liqmap.engine.spec import MINUTE_MS, EngineSpec

Events = NDArray[np.void]
Watcher = Callable[[MinuteFrame], None]

_TOGETHER: Final = 16_384
"""Events that are applied at once."""


class Run:
    """An engine and its watchers, which see its minutes in order."""

    def __init__(self, spec: EngineSpec, watchers: Iterable[Watcher]) -> None:
        self.engine = Engine(spec)
        self._watchers = tuple(watchers)
        self._waiting: list[Events] = []
        self._waits = 0
        self.events = 0
        self.minutes = 0
        self.liquidations = 0
        self.first_ms = -1
        self.last_ms = -1
        self.last: MinuteFrame | None = None

    def feed(self, events: Events) -> None:
        """The next events (EVENT_DTYPE) in order of time."""
        self._waiting.append(events)
        self._waits += len(events)
        if self._waits >= _TOGETHER:
            self.settle()

    def settle(self) -> None:
        """Apply whatever waits."""
        if not self._waits:
            return
        events = np.concatenate(self._waiting)
        self._waiting, self._waits = [], 0
        self.events += len(events)
        for frame in self.engine.apply(events):
            self.minutes += 1
            self.first_ms = frame.facts.minute_ms if self.first_ms < 0 else self.first_ms
            self.last_ms = frame.facts.minute_ms + MINUTE_MS
            self.last = frame
            for watch in self._watchers:
                watch(frame)
        self.liquidations += len(self.engine.drain_liquidations())


def end_of(frame: MinuteFrame) -> int:
    """The time, ms UTC, at which a frame's minute ended."""
    return frame.facts.minute_ms + MINUTE_MS


def window_of(frame: MinuteFrame, grid: Grid) -> Window:
    """Where the cells of a frame lie."""
    facts = frame.facts
    return Window(grid, facts.mark_price, facts.first_bucket, facts.buckets)


def models_in(names: Iterable[str]) -> Iterator[Model]:
    """The models of these lower-case names. Raises KeyError for one that is none."""
    for name in names:
        yield Model[name.upper()]

"""The worker's loop: take a batch from the ring, apply it, show what came of it, commit, see to the order books, beat.

The order makes a death harmless: what was shown before the commit is recognised by its sequence when the same batch
comes again, what was not shown is made again. There are no threads; an idle worker sleeps between looks at the ring.
"""

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.child import Child
from liqmap.domain.enums import GapReason, Kind
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.domain.grid import Window
from liqmap.engine.engine import Engine
from liqmap.logs import fields
from liqmap.shm.ring import RingReader
from liqmap.worker.books import OrderBooks
from liqmap.worker.publication import Publication

BATCH_EVENTS: Final = 4096
SHORTEST_NAP_S: Final = 0.001
LONGEST_NAP_S: Final = 0.02
BEAT_EVERY_NS: Final = 200_000_000
SECOND_NS: Final = 1_000_000_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LivePace:
    """When to show a live frame: at the first TICK of each second, in a fast replay once for about a second of wall."""

    every_ns: int
    _shown: int = -1

    def due(self, tick_ns: int) -> bool:
        """Whether the time of the newest TICK asks for a frame; True at most once per period."""
        period = tick_ns // self.every_ns
        if tick_ns < 0 or period == self._shown:
            return False
        self._shown = period
        return True


class Loop:
    """One symbol's worker at work."""

    def __init__(
        self, child: Child, engine: Engine, ring: RingReader, publication: Publication, books: OrderBooks
    ) -> None:
        self._child = child
        self._engine = engine
        self._ring = ring
        self._publication = publication
        self._books = books
        self._pace = LivePace(int(max(1.0, child.mode.speed) * SECOND_NS))
        self._lost = ring.lost
        self._hole = ring.read > 0  # what a predecessor took, and what was set aside, is not in this map
        self._overruns = 0
        self._minutes = 0
        self._window: Window | None = None
        self._doubts_told = 1
        self._beat_ns = 0

    def run(self) -> None:
        """Work until asked to stop."""
        nap_s = SHORTEST_NAP_S
        while not self._child.should_stop():
            if self.turn():
                nap_s = SHORTEST_NAP_S
            else:
                self._child.stop.wait(nap_s)
                nap_s = min(2 * nap_s, LONGEST_NAP_S)

    def turn(self) -> bool:
        """Deal with what is in the ring, at most one batch, and with the newest depth board; False: nothing was new."""
        events = self._ring.take(BATCH_EVENTS)
        busy = len(events) > 0
        if busy:
            self._deal_with(self._after_losses(events))
            self._ring.commit()
        busy |= self._books.turn(self._engine.tick_ns)
        self._beat(idle=not busy)
        return busy

    def _deal_with(self, events: NDArray[np.void]) -> None:
        frames = self._engine.apply(events)
        self._publication.liquidations(self._engine.drain_liquidations())
        for frame in frames:
            self._publication.minute(frame, self._ring.lost)
        if frames:
            self._publication.calibration(self._engine.learned(frames[-1]))
        self._minutes += len(frames)
        self._tell_of_window()
        self._tell_of_doubts()
        if self._pace.due(self._engine.tick_ns):
            live = self._engine.live()
            if live is not None and live.facts.as_of_ns >= 0:  # a market that never spoke has no map
                self._publication.live(live, self._ring.lost)

    def _tell_of_window(self) -> None:
        """Log where the map lies when that changes; a window that the arrays cannot hold whole is a warning."""
        window = self._engine.window
        if window is None or window == self._window:
            return
        self._window = window
        below_pct, above_pct = window.reach_pct
        said = fields(anchor=window.anchor, buckets=window.count, below_pct=below_pct, above_pct=above_pct)
        if window.capped:
            log.warning("the window is cut to the configured buckets", extra=said)
        else:
            log.info("the window lies", extra=said)

    def _tell_of_doubts(self) -> None:
        """Log prices that were not believed: the first ones, then each time they have doubled."""
        held_back = self._engine.held_back
        if held_back >= self._doubts_told:
            self._doubts_told = 2 * held_back
            log.warning("a price was held back: nobody agrees with it", extra=fields(held_back=held_back))

    def _after_losses(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """The events, behind a GAP event when others are missing in front of them (overrun, or set aside)."""
        lost = self._ring.lost - self._lost
        if lost:
            self._lost += lost
            self._overruns += 1
            self._hole = True
            log.warning("the ring was overrun: events are lost", extra=fields(lost=lost, lost_in_all=self._lost))
        if not self._hole:
            return events
        self._hole = False
        return np.concatenate((gap_before(events, self._engine.engine_ns), events))

    def _beat(self, *, idle: bool) -> None:
        now_ns = self._child.clock.monotonic_ns()
        if idle and now_ns - self._beat_ns < BEAT_EVERY_NS:
            return
        self._beat_ns = now_ns
        self._child.beat(
            ready=True,
            engine_ns=self._engine.engine_ns,
            sequence=self._engine.sequence,
            lag_events=self._ring.pending,
            errors=self._overruns + self._engine.held_back + self._books.passed_over,
            work=self._minutes,
        )


def gap_before(events: NDArray[np.void], since_ns: int) -> NDArray[np.void]:
    """One GAP event that says: between `since_ns` (-1: unknown) and the first of `events`, events were lost."""
    first_ns = int(events["receive_ns"][0])
    gap = Event(
        receive_ns=first_ns,
        venue_ms=(since_ns if since_ns >= 0 else first_ns) // 1_000_000,
        detail=first_ns // 1_000_000,
        kind=Kind.GAP,
        side=GapReason.OVERRUN,
    )
    return np.frombuffer(gap.packed(int(events["sequence"][0])), dtype=EVENT_DTYPE)

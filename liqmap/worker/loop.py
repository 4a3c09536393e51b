"""The worker's loop: take a batch from the ring, apply it, show what came of it, commit, see to the order books, beat.

The order makes a death harmless: what was shown before the commit is recognised by its sequence when the same batch
comes again, what was not shown is made again. A checkpoint is written behind the commit, so that it never knows of an
event that comes again. There are no threads; an idle worker sleeps between looks at the ring.
"""

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.child import Child
from liqmap.domain.grid import Window
from liqmap.engine.engine import Engine
from liqmap.logs import fields
from liqmap.shm.ring import RingReader
from liqmap.worker.books import OrderBooks
from liqmap.worker.checkpointing import Checkpointing
from liqmap.worker.gap_events import gap_before
from liqmap.worker.publication import Publication

LARGEST_BATCH: Final = 4096
SMALLEST_BATCH: Final = 64
SHORT_TURN_NS: Final = 60_000_000
LONG_TURN_NS: Final = 250_000_000
"""A turn shorter than the one lets the next batch be twice as large, one longer than the other half as large: a batch
of a past told in bars closes hundreds of minutes, and the worker has to beat in between."""
SHORTEST_NAP_S: Final = 0.001
LONGEST_NAP_S: Final = 0.02
LAST_TURNS_S: Final = 2.0
"""So long a worker that is asked to stop goes on while events wait."""
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


@dataclass(frozen=True, slots=True)
class Start:
    """Where a worker begins. `hole`: events are missing between what its engine knows and the ring's cursor.
    `replayed_to`: sequence up to which what comes from the ring was taken from the journal already, 0: nothing was."""

    engine: Engine
    hole: bool
    replayed_to: int


class Loop:
    """One symbol's worker at work."""

    def __init__(
        self,
        child: Child,
        start: Start,
        ring: RingReader,
        publication: Publication,
        books: OrderBooks,
        checkpointing: Checkpointing,
    ) -> None:
        self._child = child
        self._engine = start.engine
        self._ring = ring
        self._publication = publication
        self._books = books
        self._pace = LivePace(int(max(1.0, child.mode.speed) * SECOND_NS))
        self._lost = ring.lost
        self._hole = start.hole
        self._replayed_to = start.replayed_to
        self._checkpointing = checkpointing
        self._overruns = 0
        self._minutes = 0
        self._window: Window | None = None
        self._doubts_told = 1
        self._beat_ns = 0
        self._batch = min(4 * SMALLEST_BATCH, LARGEST_BATCH)

    def run(self) -> None:
        """Work until asked to stop; then what is in the ring is dealt with, for so long as a stop may take."""
        self._show_live()
        nap_s = SHORTEST_NAP_S
        while not self._child.should_stop():
            if self.turn():
                nap_s = SHORTEST_NAP_S
            else:
                self._child.stop.wait(nap_s)
                nap_s = min(2 * nap_s, LONGEST_NAP_S)
        until_ns = self._child.clock.monotonic_ns() + int(LAST_TURNS_S * SECOND_NS)
        while self._child.clock.monotonic_ns() < until_ns and self.turn():
            pass
        self._checkpointing.keep(self._engine, sync=True)

    def turn(self) -> bool:
        """Deal with what is in the ring, at most one batch, and with the newest depth board; False: nothing was new."""
        began_ns = self._child.clock.monotonic_ns()
        events = self._ring.take(self._batch)
        busy = len(events) > 0
        if busy:
            minutes = self._minutes
            events = self._unknown(events)
            if len(events):
                self._deal_with(self._after_losses(events))
            self._ring.commit()
            if self._minutes > minutes:
                self._checkpointing.keep(self._engine)
            self._batch = _next_batch(self._batch, self._child.clock.monotonic_ns() - began_ns)
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
            self._show_live()

    def _show_live(self) -> None:
        live = self._engine.live()
        if live is not None and live.facts.as_of_ns >= 0:  # a market that never spoke has no map
            self._publication.live(live, self._ring.lost)

    def _unknown(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """The events, without those that came from the journal already: it was read while they were written."""
        if int(events["sequence"][0]) > self._replayed_to:
            return events
        return events[events["sequence"] > np.uint64(self._replayed_to)]

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
        self._lost += lost
        if lost and int(events["sequence"][0]) != self._replayed_to + 1:  # else they came from the journal
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
            errors=sum((self._overruns, self._engine.held_back, self._books.passed_over, self._checkpointing.failures)),
            work=self._minutes,
        )


def _next_batch(size: int, took_ns: int) -> int:
    """How many events to take at most after a turn with `size` of them took so long."""
    if took_ns > LONG_TURN_NS:
        return max(SMALLEST_BATCH, size // 2)
    return min(LARGEST_BATCH, 2 * size) if took_ns < SHORT_TURN_NS else size

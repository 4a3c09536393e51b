"""How a worker comes to where its predecessor was: checkpoint, then the journal up to the ring's cursor, then the ring.

Every event is in the journal before it is in the ring, and an engine that is given the same events says the same, so
what comes out is what a worker says that never died. Whatever is in none of the three is a gap. The journal is read no
further than the ring's cursor: what may have killed somebody there is tried under the ring's own eyes.

A recovery that itself is deadly is not tried for ever: after DEATHS_WITHOUT_JOURNAL in a row the journal is left out,
after DEATHS_EMPTY everything. Nothing of an earlier simulated market is used, and a replay has nothing to come back to.
"""

import logging
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.child import Child
from liqmap.domain.enums import Source
from liqmap.domain.event import SEQUENCE_EPOCH_SHIFT
from liqmap.engine.engine import Engine
from liqmap.engine.spec import EngineSpec
from liqmap.logs import fields
from liqmap.shm.ring import next_sequence, ring_counters
from liqmap.shm.segment import Segment
from liqmap.shm.status import read_clock, status_name
from liqmap.store.checkpoint import CheckpointStore
from liqmap.store.journal_reader import Hole, Resume, SymbolJournalReader, file_hour_ms, journal_files
from liqmap.worker.checkpointing import DIRECTORY, checkpoint_store
from liqmap.worker.gap_events import gap_before, gap_of
from liqmap.worker.predecessors import Attempts, SetAside
from liqmap.worker.publication import Publication

REACH_NS: Final = 24 * 3_600_000_000_000
"""Without a checkpoint the map is made anew from the journal of so long: of what was opened before, little is left."""

DEATHS_WITHOUT_JOURNAL: Final = 3
DEATHS_EMPTY: Final = 4
ROUNDS: Final = 20
"""The ring may be overrun while the journal is read; then the journal has what was lost."""

_TOGETHER: Final = 1024
_COUNTER: Final = (1 << SEQUENCE_EPOCH_SHIFT) - 1
_MS_NS: Final = 1_000_000

log = logging.getLogger(__name__)


class Recovery:
    """The way of one worker to its ring. `run`, take the ring over, then ask `continues`."""

    def __init__(self, child: Child, spec: EngineSpec, publication: Publication, ring_name: str) -> None:
        self._child = child
        self._spec = spec
        self._publication = publication
        self._ring_name = ring_name
        source = Source(child.mode.source)
        self._source = source.name.lower()
        self._wanted = source is not Source.REPLAY
        self._since_ns = _begun_ns(child) if source is Source.SIMULATED else 0
        directory = child.paths.lib_dir / DIRECTORY
        self._journal = child.paths.lib_dir / "journal" / spec.symbol
        self._attempts = Attempts(directory, spec.symbol)
        self.set_aside = SetAside(directory, spec.symbol)
        self.store: CheckpointStore | None = None
        """Where this worker's own checkpoints go; None: nowhere."""
        if self._wanted:
            self.store = checkpoint_store(child.paths.lib_dir, spec, source)
        self.engine = Engine(spec)
        self.replayed_to = 0
        """Sequence of the last event that was taken from the journal, 0: none was."""
        self._known = 0
        self._joins = False
        self._use_journal = self._wanted
        self._waiting: list[NDArray[np.void]] = []
        self._waits = 0
        self._hole: Hole | None = None
        self._left_out = False
        self._events = 0
        self._ring_lost = 0

    def run(self) -> None:
        """Come as far as the ring's cursor. Ends early when the child is asked to stop."""
        if not self._wanted:
            return
        began_s = time.monotonic()
        deaths = self._attempts.begin()
        self._use_journal = deaths < DEATHS_WITHOUT_JOURNAL
        if deaths:
            log.warning("predecessors died while they recovered", extra=fields(deaths=deaths))
        if deaths < DEATHS_EMPTY:
            self._from_checkpoint()
        else:
            log.error("recovery was deadly again and again: the checkpoint is left out", extra=fields(deaths=deaths))
        if self._use_journal:
            self._from_journal()
        else:
            log.error("recovery was deadly again and again: the journal is left out", extra=fields(deaths=deaths))
        self._attempts.ended()
        if self.engine.born_ns >= 0:
            log.info(
                "came back to where the ring is",
                extra=fields(sequence=self._known, journal_events=self._events, took_s=time.monotonic() - began_s),
            )

    def continues(self) -> bool:
        """Whether the next event of the ring (which is taken over by now) follows the last one the engine knows.

        False: the first batch needs a gap in front of it. What the ring lost or set aside meanwhile comes from the
        journal first, as far as that is wanted.
        """
        with Segment.open_reader(self._ring_name) as segment:
            following = next_sequence(segment)
            if not self._follows(following) and self._use_journal:
                self._replay(segment, following)
            if self._known == 0:
                counters = ring_counters(segment)
                return counters.read + counters.lost == 0
        return self._follows(following) and not self._left_out

    def _from_checkpoint(self) -> None:
        assert self.store is not None
        found, faults = self.store.read()
        for fault in faults:
            log.error("a checkpoint cannot be used", extra=fields(reason=str(fault)))
        if found is None:
            return
        if found.engine_ns < self._since_ns:
            log.info("the checkpoint is of an earlier simulated market", extra=fields(file=found.path))
            return
        assert isinstance(found.state, Engine)
        self.engine = found.state
        self._known = found.sequence
        log.info("a checkpoint is loaded", extra=fields(file=found.path, sequence=found.sequence))

    def _from_journal(self) -> None:
        with Segment.open_reader(self._ring_name) as segment:
            for _ in range(ROUNDS):
                before, following = self._known, next_sequence(segment)
                self._replay(segment, following)
                if self._child.should_stop() or self._known == before or self._follows(next_sequence(segment)):
                    return

    def _follows(self, following: int) -> bool:
        """Whether nothing is missing between what is known and the event `following` (0: none was written yet)."""
        known_epoch, epoch = self._known >> SEQUENCE_EPOCH_SHIFT, following >> SEQUENCE_EPOCH_SHIFT
        if following and epoch == known_epoch:
            return following <= self._known + 1
        # Another ingest: what went by in between it tells itself, from where the journal ended.
        return self._joins and (following == 0 or (epoch > known_epoch and following & _COUNTER == 1))

    # -- journal -------------------------------------------------------------------------------------------------

    def _replay(self, segment: Segment, limit: int) -> None:
        """Take what stands in the journal behind what is known and before the sequence `limit` (0: all of it)."""
        self._ring_lost = ring_counters(segment).lost
        reader = SymbolJournalReader(
            self._journal, Resume(self._known, self.engine.engine_ns, self._reach_ns(), self._source)
        )
        for item in reader:
            if isinstance(item, Hole):
                self._hole = item
                continue
            events = item.events
            if limit and int(events["sequence"][-1]) >= limit:
                events = events[: int(np.searchsorted(events["sequence"], np.uint64(limit)))]
            self._take(events)
            if len(events) < len(item.events) or self._child.should_stop():
                break
        self._joins = reader.joins if self._events == 0 else True
        self._hole = None
        self._apply()

    def _reach_ns(self) -> int:
        """From which engine time on the journal is of use."""
        if self._known or not self._journal.is_dir():
            return self._since_ns
        newest_ms = max(map(file_hour_ms, journal_files(self._journal)), default=0)
        return max(self._since_ns, newest_ms * _MS_NS - REACH_NS)

    def _take(self, events: NDArray[np.void]) -> None:
        """The next events, but for those that were set aside."""
        if len(events) == 0:
            return
        numbers = events["sequence"]
        kept = np.ones(len(events), dtype=np.bool_)
        for first, last in self.set_aside.ranges:
            kept &= (numbers < np.uint64(first)) | (numbers > np.uint64(last))
        edges = np.flatnonzero(np.diff(kept)) + 1
        for piece, keep in zip(np.split(events, edges), np.split(kept, edges), strict=True):
            if keep[0]:
                self._gather(piece)
            else:
                self._left_out = True
        self._known = self.replayed_to = int(numbers[-1])
        self._events += len(events)
        if self._waits >= _TOGETHER:
            self._apply()

    def _gather(self, events: NDArray[np.void]) -> None:
        """Keep for the engine, behind a word about what is missing in front of them."""
        if self._hole is not None or self._left_out:
            self._apply()
            hole, since_ns = self._hole, self.engine.engine_ns
            self._waiting = [gap_before(events, since_ns) if hole is None else gap_of(hole, self.engine.sequence)]
            self._hole, self._left_out = None, False
        self._waiting.append(events)
        self._waits += len(events)

    def _apply(self) -> None:
        if self._waiting:
            frames = self.engine.apply(np.concatenate(self._waiting))
            self._waiting, self._waits = [], 0
            self._publication.liquidations(self.engine.drain_liquidations())
            for frame in frames:
                self._publication.minute(frame, self._ring_lost)
        self._child.beat(engine_ns=self.engine.engine_ns, sequence=self.engine.sequence)


def _begun_ns(child: Child) -> int:
    """When this run of the daemon began, as the supervisor says; 0: it says nothing."""
    with Segment.open_reader(status_name(child.config.daemon.instance)) as segment:
        clock = read_clock(segment)
        return clock.started_ns if clock is not None else 0

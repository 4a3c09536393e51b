"""Cold start: a symbol of which nothing is on disk begins with its venues' public past, and then goes live.

While its past is fetched and written, what it says live is held in its lane, so that the worker reads one stretch of
time: the past, then what was held, then the present. The past is written at the pace of the worker, never past it. It
gives way to the present: what has not come within the limit, or cannot be written because the worker does not take it,
or because too much live has to be held meanwhile, is a gap. Nothing is invented, and nothing of this can keep a symbol
from going live.

    asking → writing (an hour at a time, while the ring has room) → catching up (what was held) → live

Symbols are asked for one after another by the order of their requests, each with a limit of its own that begins when
the one before it has its past; a venue that said nothing to one of them is not waited for by the next.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from liqmap.clock import Clock
from liqmap.config import Config
from liqmap.domain.enums import Venue
from liqmap.domain.instrument import InstrumentTable
from liqmap.ingest.bar_events import MINUTE_MS, MS, Events
from liqmap.ingest.handoff import Polled
from liqmap.ingest.lanes import Lane
from liqmap.ingest.past_collected import PastCollected
from liqmap.ingest.past_requests import PastRequests
from liqmap.ingest.past_tape import ContractPast, hours_of
from liqmap.ingest.ring_reader import Reader, Watched
from liqmap.logs import fields

_DAY_MS: Final = 86_400_000
_PIECES: Final = 4
"""Of the past that are written in one turn, an hour each at most: some 15 ms, so that live feeds do not wait."""

HELD_MOST: Final = 2**17
"""Live events of a symbol that are held at most: about 13 MB."""

_PIECE_SHARE: Final = 4
"""A ring is given a quarter of its capacity at a time, and that only while half of it is free …"""
_LARGEST_PIECE: Final = 2048
"""… and not more than this."""

PATIENCE_S: Final = 30.0
"""A worker that takes nothing for this long does not get the rest of the past."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Job:
    """One symbol on its way. `deadline_ns`: until when its past is waited for; `began_ns`: engine time, where its
    present begins; `hours`: the past that is still to be written, None while it is asked for."""

    lane: Lane
    reader: Reader
    piece: int
    collected: PastCollected
    asked_ms: int
    began_ns: int
    held_since_ns: int
    deadline_ns: int
    hours: Iterator[Events] | None = None
    written: int = 0
    written_ns: int = -1
    over: bool = False
    """Nothing more of the past is to be written."""


class Backfill:
    """Owned by the router's thread. `ring_of`: sight of the reader of a symbol's ring."""

    def __init__(self, clock: Clock, requests: PastRequests, ring_of: Callable[[str], Watched]) -> None:
        self._clock = clock
        self._requests = requests
        self._ring_of = ring_of
        self._limit_ns = 0
        self._jobs: dict[str, _Job] = {}
        self._given_up: set[Venue] = set()

    @property
    def busy(self) -> bool:
        """Some symbol is not live yet."""
        return bool(self._jobs)

    def begin(self, config: Config, lanes: Mapping[str, Lane], table: InstrumentTable, now_ns: int) -> None:
        """Fetch the past of these symbols, which nobody has written an event of; `now_ns`: engine time."""
        settings = config.ingest
        self._limit_ns = int(settings.backfill_limit_s * 1e9)
        if settings.backfill_days <= 0:
            return
        to_ms = now_ns // MS
        asked_ms = (to_ms - int(settings.backfill_days * _DAY_MS)) // MINUTE_MS * MINUTE_MS
        for symbol, lane in lanes.items():
            monotonic_ns = self._clock.monotonic_ns()
            collected = PastCollected(symbol, table, config.venues, (asked_ms, to_ms), monotonic_ns)
            plans = collected.plans()
            if not plans:
                continue
            lane.held = True
            turn = 1 + sum(job.hours is None for job in self._jobs.values())
            deadline_ns = monotonic_ns + turn * self._limit_ns
            ring = self._ring_of(symbol)
            piece = min(_LARGEST_PIECE, ring.capacity // _PIECE_SHARE)
            self._jobs[symbol] = _Job(lane, Reader(ring), piece, collected, asked_ms, now_ns, monotonic_ns, deadline_ns)
            self._requests.ask(plans)
            log.info(
                "nothing is known of the symbol: its past is asked for", extra=fields(symbol=symbol, from_ms=asked_ms)
            )

    def turn(self) -> None:
        """Take what was answered, write what there is room for."""
        if not self._jobs:
            return
        self._take_answers()
        for symbol, job in list(self._jobs.items()):
            if job.hours is None:
                self._ask_on(job)
            else:
                self._write(job)
                if job.over:
                    self._catch_up(symbol, job)
        if not any(job.hours is None for job in self._jobs.values()):
            self._requests.stop()
            self._given_up.clear()

    def end(self, reason: str) -> None:
        """Every symbol goes live now; what was not written of its past is a gap."""
        for symbol, job in list(self._jobs.items()):
            self._give_way(symbol, job, reason)
            self._go_live(symbol, job)
        self._requests.stop()

    # Asking -------------------------------------------------------------------------------------------------------

    def _take_answers(self) -> None:
        now_ns = self._clock.monotonic_ns()
        for message in self._requests.answers():
            plan = message.plan
            asking = (job.collected for job in self._jobs.values() if job.hours is None)
            collected = next((one for one in asking if plan is not None and one.waits_for(plan.url)), None)
            if collected is None or plan is None:
                continue  # it came too late
            if isinstance(message, Polled):
                collected.told(message, plan, now_ns)
            else:
                collected.failed(message, plan, now_ns)

    def _ask_on(self, job: _Job) -> None:
        now_ns = self._clock.monotonic_ns()
        left_s = (job.deadline_ns - now_ns) / 1e9
        for venue in job.collected.waiting:
            held_s, why = self._requests.held(venue)
            if held_s > left_s:
                job.collected.give_up(venue, why, now_ns)
            elif venue in self._given_up and job.collected.silent(venue):
                job.collected.give_up(venue, "it did not answer for the symbol before", now_ns)
            elif left_s <= 0:
                if job.collected.silent(venue):
                    self._given_up.add(venue)
                job.collected.give_up(venue, "it did not answer in time", now_ns)
        self._requests.ask(job.collected.due(now_ns))
        if not job.collected.waiting:
            job.hours = _pieces(hours_of(job.collected.pasts(), job.asked_ms, job.began_ns), job.piece)
            asking = [other for other in self._jobs.values() if other.hours is None]
            for place, other in enumerate(asking, start=1):
                other.deadline_ns = min(other.deadline_ns, now_ns + place * self._limit_ns)

    # Writing ------------------------------------------------------------------------------------------------------

    def _write(self, job: _Job) -> None:
        """Some hours of the past, if the worker has taken those before."""
        assert job.hours is not None
        now_ns = self._clock.monotonic_ns()
        for _ in range(_PIECES):
            if job.over:
                return
            if len(job.lane.waiting) > HELD_MOST:
                self._give_way(job.lane.symbol, job, "too much live has to be held")
            elif not job.reader.has_room(now_ns):
                if job.reader.idle_s(now_ns) > PATIENCE_S:
                    self._give_way(job.lane.symbol, job, "the worker takes nothing")
                return
            else:
                self._put(job, next(job.hours, None))

    def _put(self, job: _Job, events: Events | None) -> None:
        if events is None:
            job.over = True
            return
        job.lane.put_before(events)
        job.written += len(events)
        job.written_ns = int(events["receive_ns"][-1])

    def _give_way(self, symbol: str, job: _Job, reason: str) -> None:
        """The rest of the past is a gap that ends where the present begins."""
        if job.over:
            return
        from_ms = job.asked_ms if job.written_ns < 0 else job.written_ns // MS
        nothing = [ContractPast(past.contract, past.period_ms) for past in job.collected.pasts()]
        for events in hours_of(nothing, from_ms, job.began_ns):
            self._put(job, events)
        job.over = True
        log.warning("the past is not whole", extra=fields(symbol=symbol, missing_from_ms=from_ms, reason=reason))

    def _catch_up(self, symbol: str, job: _Job) -> None:
        """What was held, as far as there is room; who is too slow for that is overrun as ever."""
        now_ns = self._clock.monotonic_ns()
        while len(job.lane.waiting) > job.piece and job.reader.has_room(now_ns):
            job.lane.let_go(job.piece)
        if (
            len(job.lane.waiting) <= job.piece
            or len(job.lane.waiting) > HELD_MOST
            or job.reader.idle_s(now_ns) > PATIENCE_S
        ):
            self._go_live(symbol, job)

    def _go_live(self, symbol: str, job: _Job) -> None:
        del self._jobs[symbol]
        held_s = (self._clock.monotonic_ns() - job.held_since_ns) / 1e9
        said = fields(symbol=symbol, events_of_the_past=job.written, held=len(job.lane.waiting), held_s=f"{held_s:.2f}")
        job.lane.held = False
        job.lane.flush()
        log.info("the symbol is live", extra=said)


def _pieces(portions: Iterator[Events], most: int) -> Iterator[Events]:
    """The same in portions of at most so many events."""
    for events in portions:
        for start in range(0, len(events), most):
            yield events[start : start + most]

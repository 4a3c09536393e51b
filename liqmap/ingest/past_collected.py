"""What is still to be told of one symbol's past, and what was told: pure bookkeeping of `backfill`.

A request that failed is made again, later each time, while there is time; a venue that fails three times in a row is
given up. Each change of a venue is said once: what it told in how many seconds, or why it told nothing (more).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Malformed, PastBar, PastLevel, PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.handoff import Polled, PollFailed
from liqmap.ingest.past_tape import ContractPast
from liqmap.logs import fields

_PATIENCE: Final = 3

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asked:
    """One request. `again_ns`: when it is made again, None while it is on its way."""

    plan: PollPlan
    tries: int = 1
    again_ns: int | None = None


@dataclass(slots=True)
class _OfVenue:
    contract: Instrument
    period_ms: int = 0
    asked: dict[str, _Asked] = field(default_factory=dict)
    bars: dict[int, PastBar] = field(default_factory=dict)
    levels: dict[int, PastLevel] = field(default_factory=dict)
    answers: int = 0
    failures: int = 0
    missing: str = ""


class PastCollected:
    """Of one symbol. Times are monotonic ns."""

    def __init__(self, symbol: str, table: InstrumentTable, venues: Any, stretch: tuple[int, int], now_ns: int) -> None:
        """`venues`: their sections of the configuration; `stretch`: from and to, ms."""
        self._symbol = symbol
        self._table = table
        self._began_ns = now_ns
        self._venues: dict[Venue, _OfVenue] = {}
        for contract in table:
            section = getattr(venues, contract.venue.name.lower())
            if contract.symbol == symbol and section.enabled:
                plans = ADAPTERS[contract.venue].past_plans(section, contract, *stretch)
                self._venues[contract.venue] = _of_venue(contract, plans)

    def plans(self) -> list[PollPlan]:
        """All requests."""
        return [one.plan for of_venue in self._venues.values() for one in of_venue.asked.values()]

    def waits_for(self, url: str) -> bool:
        """This request is one of ours and has no answer yet."""
        return any(url in of_venue.asked for of_venue in self._venues.values())

    @property
    def waiting(self) -> list[Venue]:
        """Venues that have not told all that they were asked for."""
        return [venue for venue, of_venue in self._venues.items() if of_venue.asked]

    def silent(self, venue: Venue) -> bool:
        """A venue that has not answered anything."""
        return venue in self._venues and self._venues[venue].answers == 0

    def told(self, message: Polled, plan: PollPlan, now_ns: int) -> None:
        """An answer."""
        of_venue = self._venues[plan.venue]
        try:
            past = ADAPTERS[plan.venue].parse_past(plan, message.body, self._table)
        except Malformed as error:
            self._fail(plan, f"malformed: {error.why}", None, now_ns)
            return
        del of_venue.asked[plan.url]
        of_venue.answers += 1
        of_venue.failures = 0
        of_venue.bars.update((bar.minute_ms, bar) for bar in past.bars)
        of_venue.levels.update((level.ts_ms, level) for level in past.levels)
        if not of_venue.asked:
            self._say(plan.venue, now_ns)

    def failed(self, message: PollFailed, plan: PollPlan, now_ns: int) -> None:
        """No answer."""
        self._fail(plan, message.reason, message.delay_s, now_ns)

    def due(self, now_ns: int) -> Iterator[PollPlan]:
        """Requests to be made again now."""
        for of_venue in self._venues.values():
            for one in of_venue.asked.values():
                if one.again_ns is not None and one.again_ns <= now_ns:
                    one.again_ns = None
                    one.tries += 1
                    yield one.plan

    def give_up(self, venue: Venue, reason: str, now_ns: int) -> None:
        """What the venue has not told by now is missing."""
        of_venue = self._venues.get(venue)
        if of_venue is not None and of_venue.asked:
            of_venue.missing = reason
            of_venue.asked.clear()
            self._say(venue, now_ns)

    def pasts(self) -> Sequence[ContractPast]:
        """What was told, by venue; of a venue that told nothing, nothing."""
        return [
            ContractPast(
                of_venue.contract,
                of_venue.period_ms,
                tuple(bar for _, bar in sorted(of_venue.bars.items())),
                tuple(level for _, level in sorted(of_venue.levels.items())),
            )
            for of_venue in self._venues.values()
        ]

    def _fail(self, plan: PollPlan, reason: str, delay_s: float | None, now_ns: int) -> None:
        of_venue = self._venues[plan.venue]
        of_venue.failures += 1
        one = of_venue.asked[plan.url]
        if of_venue.failures >= _PATIENCE or one.tries >= _PATIENCE:
            self.give_up(plan.venue, reason, now_ns)
        else:
            one.again_ns = now_ns + int((delay_s or 0.0) * one.tries * 1e9)

    def _say(self, venue: Venue, now_ns: int) -> None:
        of_venue = self._venues[venue]
        said = fields(
            symbol=self._symbol,
            venue=venue.name.lower(),
            bars=len(of_venue.bars),
            levels=len(of_venue.levels),
            took_s=f"{(now_ns - self._began_ns) / 1e9:.2f}",
            reason=of_venue.missing,
        )
        if of_venue.missing:
            log.warning("a venue did not tell all of the past", extra=said)
        else:
            log.info("a venue told the past", extra=said)


def _of_venue(contract: Instrument, plans: Sequence[PollPlan]) -> _OfVenue:
    period_ms = max((round(plan.every_s * 1000) for plan in plans if plan.name.startswith("levels")), default=0)
    return _OfVenue(contract, period_ms, {plan.url: _Asked(plan) for plan in plans})

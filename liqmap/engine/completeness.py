"""How complete the liquidations are that each venue prints: what is seen, how often it stands at a cap, and how it
compares with the venue that prints everything.

Minute by minute, over a window that fades with HALF_LIFE_MIN:

* **saturation** of a venue that prints at most one liquidation per symbol and second: of the seconds in its active
  minutes (those with a print), the share that has one. Near 0 the cap can have hidden nothing but what fell into one
  second; the nearer to 1, the more is lost. It says how often the cap was reached, not how much it hid.
* **completeness**: dollars printed per open interest, over the same of the complete venue in the same minutes. A minute
  counts for a venue only where the liquidation feeds of both were listened to all the time and both told their open
  interest. Each share is of sums over the window, so that one quiet minute says little and a cascade much.

Both are unknown until enough was seen. A gap is often known only when it is over: minutes wait PENDING before they
count, so that a gap told later still takes them out.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from liqmap.domain.enums import Topic, Venue
from liqmap.engine.frames import SIDES, Liquidation
from liqmap.engine.gaps import TOPIC_BITS
from liqmap.engine.ledger import Levels
from liqmap.engine.spec import MINUTE_MS, MINUTE_S, significant

COMPLETE: Final = Venue.BYBIT
"""The one venue whose documents promise every liquidation."""

CAPPED: Final = frozenset({Venue.BINANCE})
"""Venues that print at most one liquidation per symbol and second, by their documents."""

HALF_LIFE_MIN: Final = 24 * 60
"""A day: real liquidations are so uneven in size that less says little (see docs/model.md)."""

PENDING: Final = 3
"""Minutes that wait for the gaps that concern them; silence is noticed within one."""

LEAST_ACTIVE_MIN: Final = 10.0
"""Saturation needs so many active minutes, the faded ones counted by what is left of them."""

LEAST_EFFECTIVE: Final = 16.0
"""Completeness needs so many equal minutes' worth of dollars at both venues: (sum)^2 / sum of squares."""

UNKNOWN: Final = float("nan")
_DECAY: Final = significant(0.5 ** (1 / HALF_LIFE_MIN))


@dataclass(slots=True)
class _Minute:
    """A closed minute that waits. Lists run over venue numbers; open interest is NaN where it was not told."""

    start_ms: int
    elapsed_min: int
    usd: list[float]
    seconds: list[int]
    open_interest: list[float]
    missing: set[int]


@dataclass(slots=True)
class _Sum:
    """Dollars and open interest of one venue over the window, and what tells how many minutes carry them."""

    usd: float = 0.0
    squares: float = 0.0
    exposure: float = 0.0

    def fade(self, left: float) -> None:
        """Time passes."""
        self.usd *= left
        self.squares *= left * left
        self.exposure *= left

    def add(self, usd: float, open_interest: float) -> None:
        """One minute."""
        self.usd += usd
        self.squares += usd * usd
        self.exposure += open_interest

    @property
    def effective(self) -> float:
        """How many minutes of equal dollars would say as much."""
        return self.usd * self.usd / self.squares if self.squares > 0 else 0.0


@dataclass(slots=True)
class _Tally:
    """One venue over the window: beside the complete one in the minutes both were heard, and its active seconds."""

    own: _Sum = field(default_factory=_Sum)
    reference: _Sum = field(default_factory=_Sum)
    printed_s: float = 0.0
    active_min: float = 0.0

    def fade(self, left: float) -> None:
        """Time passes."""
        self.own.fade(left)
        self.reference.fade(left)
        self.printed_s *= left
        self.active_min *= left

    def completeness(self) -> float:
        """Dollars per open interest over those of the complete venue, NaN while either says too little."""
        own, reference = self.own, self.reference
        if min(own.effective, reference.effective) < LEAST_EFFECTIVE:
            return UNKNOWN
        return (own.usd / own.exposure) / (reference.usd / reference.exposure)

    def saturation(self) -> float:
        """Share of the seconds of active minutes that have a print, NaN while there were few."""
        return self.printed_s / (self.active_min * MINUTE_S) if self.active_min >= LEAST_ACTIVE_MIN else UNKNOWN


class Completeness:
    """One symbol, all venues."""

    def __init__(self) -> None:
        self._liquidations = [0] * len(Venue)
        self._usd = [[0.0] * SIDES for _ in Venue]
        self._waiting: deque[_Minute] = deque()
        self._tallies = [_Tally() for _ in Venue]

    def printed(self, liquidation: Liquidation) -> None:
        """One was seen."""
        if liquidation.venue < len(Venue):
            self._liquidations[liquidation.venue] += 1
            self._usd[liquidation.venue][liquidation.side - 1] += liquidation.notional_usd

    def gap(self, venue: int, topic: int, from_ms: int, to_ms: int) -> None:
        """A gap opened (`to_ms` -1) or closed: minutes that wait and lie in it do not count."""
        if topic not in (0, Topic.LIQUIDATION):
            return
        for minute in self._waiting:
            if from_ms < minute.start_ms + MINUTE_MS and (to_ms < 0 or to_ms > minute.start_ms):
                minute.missing.add(venue)

    def close(
        self, start_ms: int, elapsed_min: int, liquidations: Sequence[Liquidation], levels: Levels, gap_topics: int
    ) -> None:
        """A minute closed, `elapsed_min` after the one before it; `gap_topics` as in frames.MinuteFrame."""
        usd, seconds = [0.0] * len(Venue), [0] * len(Venue)
        printed: dict[int, set[int]] = {}
        for liquidation in liquidations:
            if liquidation.venue < len(Venue):
                usd[liquidation.venue] += liquidation.notional_usd
                printed.setdefault(liquidation.venue, set()).add(liquidation.ts_ms // 1000)
        for venue, when in printed.items():
            seconds[venue] = min(len(when), MINUTE_S)
        told = zip(levels.venue_base, levels.stale, strict=True)
        missing = {int(venue) for venue in Venue if gap_topics >> (venue * TOPIC_BITS + Topic.LIQUIDATION) & 1}
        if gap_topics & 1:
            missing.add(Venue.UNKNOWN)
        open_interest = [UNKNOWN if stale else base for base, stale in told]
        self._waiting.append(_Minute(start_ms, elapsed_min, usd, seconds, open_interest, missing))
        if len(self._waiting) > PENDING:
            self._count(self._waiting.popleft())

    def _count(self, minute: _Minute) -> None:
        left = _DECAY if minute.elapsed_min == 1 else significant(_DECAY**minute.elapsed_min)
        for tally in self._tallies:
            tally.fade(left)
        if Venue.UNKNOWN in minute.missing:  # events of anybody were lost
            return
        reference_interest = minute.open_interest[COMPLETE]
        comparable = COMPLETE not in minute.missing and reference_interest > 0
        for venue, tally in enumerate(self._tallies):
            if venue in minute.missing:
                continue
            if minute.seconds[venue]:
                tally.printed_s += minute.seconds[venue]
                tally.active_min += 1
            if comparable and minute.open_interest[venue] > 0:
                tally.own.add(minute.usd[venue], minute.open_interest[venue])
                tally.reference.add(minute.usd[COMPLETE], reference_interest)

    def facts(self) -> Mapping[str, Any]:
        """The fields of `frames.Facts` that tell of it, by venue number."""
        return {
            "venue_liquidations": tuple(self._liquidations),
            "venue_liquidated_usd": tuple(map(tuple, self._usd)),
            "venue_saturation": tuple(
                tally.saturation() if venue in CAPPED else UNKNOWN for venue, tally in enumerate(self._tallies)
            ),
            "venue_completeness": tuple(tally.completeness() for tally in self._tallies),
        }

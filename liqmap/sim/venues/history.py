"""What a venue's history endpoints know of one contract: five-minute marks of its state, volume by taker, fundings.

What was before the first step nobody simulated. Where the market remembers a past, its open interest and its price are
served; for the rest, and for times before that past, the oldest state is served, volumes not.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from liqmap.sim.tape import Past, Positioning
from liqmap.sim.venues.minutes import MinuteBars

BAR_MS: Final = 300_000
FUNDING_MS: Final = 28_800_000
KEPT_MS: Final = 30 * 86_400_000
PUBLISHED_AFTER_MS: Final = 10_000
"""A mark is not served at once; how long venues take they do not say."""

PERIODS_MS: Final = {
    "5m": BAR_MS,
    "15m": 3 * BAR_MS,
    "30m": 6 * BAR_MS,
    "1h": 12 * BAR_MS,
    "2h": 24 * BAR_MS,
    "4h": 48 * BAR_MS,
    "6h": 72 * BAR_MS,
    "12h": 144 * BAR_MS,
    "1d": 288 * BAR_MS,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A contract at one time. `open_interest_base` counts one side."""

    open_interest_base: float
    mark: float
    funding_rate: float
    positioning: Positioning | None


class Volume(NamedTuple):
    """What takers bought and sold, base."""

    bought_base: float
    sold_base: float


class Stretch(NamedTuple):
    """Which marks are asked for: multiples of `period_ms` in [from_ms, to_ms], at most so many.

    `newest`: the last ones of them, else the first.
    """

    period_ms: int
    from_ms: int
    to_ms: int
    most: int
    newest: bool = True
    shift_ms: int = 0
    """The marks lie that much before whole multiples."""

    def marks(self) -> list[int]:
        """The times, ascending."""
        first, last = (
            -(-(self.from_ms + self.shift_ms) // self.period_ms),
            (self.to_ms + self.shift_ms) // self.period_ms,
        )
        if self.newest:
            first = max(first, last - self.most + 1)
        return [turn * self.period_ms - self.shift_ms for turn in range(first, min(last, first + self.most - 1) + 1)]


class History:
    """One contract's, kept for thirty days."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._states: list[Standing] = []
        self._volumes: dict[int, Volume] = {}
        self._now: Standing | None = None
        self._fundings: deque[tuple[int, Standing]] = deque(maxlen=KEPT_MS // FUNDING_MS)
        self._last_ms = 0
        self._past: Past | None = None
        self.minutes = MinuteBars()

    def remember(self, past: Past) -> None:
        """What was before the first step."""
        self._past = past
        self.minutes.remember(past)

    def step(self, now: Standing, volume: Volume, now_ms: int) -> None:
        """Take over the state at the end of a step, and what was traded in it."""
        bar_ms = (now_ms - 1) // BAR_MS * BAR_MS
        before = self._volumes.get(bar_ms, Volume(0.0, 0.0))
        self.minutes.step(now.mark, volume.bought_base, volume.sold_base, now_ms)
        self._volumes[bar_ms] = Volume(before.bought_base + volume.bought_base, before.sold_base + volume.sold_base)
        if not self._times or now_ms // BAR_MS > self._times[-1] // BAR_MS:
            self._times.append(now_ms // BAR_MS * BAR_MS)
            self._states.append(now)
            if len(self._times) > KEPT_MS // BAR_MS:
                del self._times[0], self._states[0]
                self._volumes.pop(min(self._volumes))
        if self._last_ms and now_ms // FUNDING_MS > self._last_ms // FUNDING_MS:
            self._fundings.append((now_ms // FUNDING_MS * FUNDING_MS, now))
        self._now, self._last_ms = now, now_ms

    def states(self, stretch: Stretch) -> Iterator[tuple[int, Standing]]:
        """The states at those times, ascending. Nothing before the first step was made."""
        if self._states:
            for at_ms in stretch.marks():
                place = bisect_right(self._times, at_ms) - 1
                yield at_ms, self._states[place] if place >= 0 else self._before(at_ms, self._states[0])

    def _before(self, at_ms: int, first: Standing) -> Standing:
        """The state at a time before the first step."""
        past = self._past
        if past is None:
            return first
        place = max(bisect_right(past.times_ms, at_ms) - 1, 0)
        return replace(first, open_interest_base=float(past.open_interest_base[place]), mark=float(past.marks[place]))

    def volumes(self, stretch: Stretch) -> Iterator[tuple[int, Volume]]:
        """The volumes of the periods that begin at those times and lie within what was simulated, ascending."""
        bars = sorted(self._volumes)
        for at_ms in stretch.marks():
            if bars and bars[0] <= at_ms and at_ms + stretch.period_ms <= self._last_ms:
                inside = bars[bisect_left(bars, at_ms) : bisect_left(bars, at_ms + stretch.period_ms)]
                held = [self._volumes[bar] for bar in inside]
                yield at_ms, Volume(sum(bar.bought_base for bar in held), sum(bar.sold_base for bar in held))

    def fundings(self, stretch: Stretch) -> Iterator[tuple[int, Standing]]:
        """Settlements at those times, ascending; `stretch.period_ms` is FUNDING_MS."""
        known = dict(self._fundings)
        if self._states:
            for at_ms in stretch.marks():
                yield at_ms, known.get(at_ms, self._states[0])

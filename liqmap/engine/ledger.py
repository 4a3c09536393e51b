"""The open-interest ledger: what each venue's readings say about positions opened and closed.

A change is known only between two readings of the same venue that are not too far apart. A venue that drops out and
comes back contributes nothing for the time it was away, whatever the sum over venues did. A single change beyond a
robust limit waits until a second reading agrees with it.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Final

from liqmap.domain.enums import Projection, Venue
from liqmap.engine.spec import MILLISECOND_NS, MINUTE_NS

SERIES_MEMORY: Final = 61
SERIES_MINIMUM: Final = 10
SERIES_LIMIT: Final = 12.0
"""A change of a series without level is booked while it is at most SERIES_LIMIT times the median size of the last
SERIES_MEMORY of them, and only once SERIES_MINIMUM have been seen. (Drop-outs in the recorded series are hundreds of
times the median; the 99th percentile of what is left is about ten times.)"""


@dataclass(frozen=True, slots=True)
class Change:
    """A known change of one venue: base, one-sided, signed; over which stretch it happened; the total before it."""

    change_base: float
    span_ns: int
    previous_base: float


@dataclass(frozen=True, slots=True)
class Levels:
    """Last known levels by Venue number: base (NaN: never seen), when, and whether too old."""

    total_base: float
    venue_base: tuple[float, ...]
    as_of_ns: tuple[int, ...]
    stale: tuple[int, ...]

    @property
    def fresh(self) -> bool:
        """Whether some venue's level is known and not too old."""
        return any(at_ns >= 0 and not stale for at_ns, stale in zip(self.as_of_ns, self.stale, strict=True))


@dataclass(slots=True)
class _Account:
    """One venue. `sure`: the level was confirmed by a reading close to it, since it was first seen or came back."""

    level: float
    at_ns: int
    reach_ns: int
    sure: bool = False
    doubted: float | None = None


class OpenInterestLedger:
    """One symbol's open interest, venue by venue."""

    def __init__(self, max_age_s: float, jump_limit: float) -> None:
        """`jump_limit`: share of a venue's level by which it may change in a minute without a second reading."""
        self._max_age_ns = int(max_age_s * 1e9)
        self._jump_limit = jump_limit
        self._accounts: dict[int, _Account] = {}
        self._series: dict[int, deque[float]] = {}
        self.projection: Projection | None = None
        """What can be projected from it: dollars once a level was seen, densities while only changes were."""

    @property
    def total_base(self) -> float:
        """Sum of last known levels, NaN when there is none."""
        return sum(account.level for account in self._accounts.values()) if self._accounts else float("nan")

    def reading(self, venue: int, level: float, now_ns: int, covers_ms: int = -1) -> Change | None:
        """A level of one venue, known at `now_ns`; the change it proves, None when it proves none.

        `covers_ms`: the stretch the reading speaks for when it is not an instant (an hourly close), else -1.
        A level that is not a positive number is no reading.
        """
        if not 0 < level < float("inf"):
            return None
        self.projection = Projection.DOLLARS
        reach_ns = self._max_age_ns + _covered(covers_ms)
        account = self._accounts.get(venue)
        if account is None or now_ns - account.at_ns > max(reach_ns, account.reach_ns):
            self._accounts[venue] = _Account(level, now_ns, reach_ns)
            return None
        return self._compare(account, level, now_ns, reach_ns)

    def _compare(self, account: _Account, level: float, now_ns: int, reach_ns: int) -> Change | None:
        change, span_ns = level - account.level, now_ns - account.at_ns
        limit = self._jump_limit * account.level * (span_ns / MINUTE_NS)
        if abs(change) > limit and not _agrees(account, change):
            account.doubted = change
            return None
        booked = Change(change, span_ns, self.total_base) if account.sure or abs(change) <= limit else None
        account.level, account.at_ns, account.reach_ns = level, now_ns, reach_ns
        account.sure, account.doubted = True, None
        return booked

    def change(self, venue: int, change_base: float, now_ns: int, covers_ms: int = -1) -> Change | None:
        """A change that comes without a level; None when it is too large to be believed.

        Refused as well while the venue's levels are fresh: one source per series, else it would count twice.
        """
        if not abs(change_base) < float("inf"):
            return None
        account = self._accounts.get(venue)
        if account is not None and now_ns - account.at_ns <= account.reach_ns:
            return None
        self.projection = self.projection or Projection.RELATIVE
        span_ns = max(_covered(covers_ms), MINUTE_NS)
        sizes = self._series.setdefault(venue, deque(maxlen=SERIES_MEMORY))
        size = abs(change_base) / (span_ns / MINUTE_NS)
        usual = median(sizes) if len(sizes) >= SERIES_MINIMUM else None
        if change_base != 0:
            sizes.append(size)
        if usual is None or size > SERIES_LIMIT * usual:
            return None
        return Change(change_base, span_ns, self.total_base)

    def levels(self, now_ns: int) -> Levels:
        """The last known levels, and which of them are too old at `now_ns`."""
        accounts = [self._accounts.get(venue) for venue in Venue]
        return Levels(
            total_base=self.total_base,
            venue_base=tuple(account.level if account else float("nan") for account in accounts),
            as_of_ns=tuple(account.at_ns if account else -1 for account in accounts),
            stale=tuple(int(account is not None and now_ns - account.at_ns > account.reach_ns) for account in accounts),
        )


def _agrees(account: _Account, change: float) -> bool:
    """Whether a second reading confirms the doubted one: at least half of that jump is still there."""
    return account.doubted is not None and change / account.doubted >= 0.5


def _covered(covers_ms: int) -> int:
    return max(0, covers_ms) * MILLISECOND_NS

"""How the weights of the leverage tiers are learned, as the worker of a symbol published it when a minute closed."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.client.feeds import Feeds
from liqmap.client.records import Floats, Freshness, Newest, Version
from liqmap.client.timing import Timing
from liqmap.client.words import known
from liqmap.domain.enums import Divisor, Venue, Verdict
from liqmap.shm.board import BoardReader
from liqmap.shm.layout import GUARD_RAILS, OI_VENUES, calibration_dtype
from liqmap.shm.segment import Segment

MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class JudgedWindow:
    """One window: what was decided (`clear` moved the weights) and by which numbers; None: it did not come to that.

    `level` is observed over expected, the realisation taken out; `entropy` (nats) and `largest` are those of the
    weights that were asked for, `furthest` the factor farthest from 1 that was applied (1: none).
    """

    end_ms: int
    minutes: int
    verdict: str
    level: float | None
    entropy: float | None
    largest: float | None
    furthest: float | None


@dataclass(frozen=True, slots=True)
class Realisation:
    """Of what leaves at its trigger, the part that is printed. `divided_by`: `anchored` (the configured one),
    `long_run`, or `own` while neither is known: then a window is divided by its own level."""

    configured: float | None
    long_run: float | None
    divided_by: str


@dataclass(frozen=True, slots=True)
class CompletenessOfVenue:
    """How much of a venue's liquidations is seen; see docs/model.md, "Completeness"."""

    completeness: float | None
    saturation: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of one symbol at the end of its last closed minute.

    Arrays are read-only: `leverages[tier]`, the others `[side, tier]`, side 0 long and 1 short. `observed_base`
    (attributed) and `expected_base` (what price passed of the inventory) are those of the running window of
    `window_minutes`, and what was carried over. `verdicts`: the newest windows, oldest first, of `windows` judged.
    """

    symbol: str
    freshness: Freshness
    version: Version
    leverages: Floats
    prior: Floats
    weights: Floats
    observed_base: Floats
    expected_base: Floats
    realisation: Realisation
    venues: Mapping[str, CompletenessOfVenue]
    verdicts: tuple[JudgedWindow, ...]
    guard_rails: Mapping[str, float]
    windows: int
    applied: int
    learned_minutes: int
    window_minutes: int


class CalibrationReader(BoardReader):
    """Reads the calibration board of one symbol, however many tiers it has."""

    def __init__(self, segment: Segment) -> None:
        nothing = calibration_dtype(0).itemsize
        tiers = max(1, (segment.item_size - nothing) // (calibration_dtype(1).itemsize - nothing))
        super().__init__(segment, calibration_dtype(tiers))

    def newest(self) -> tuple[NDArray[Any], int, int]:
        """A copy of the board, its number and its generation."""
        number = self.sequence_hint()
        return self.read(), number, self.generation


def freshness_of(as_of_ns: int, symbol: str, stale_after_ms: int, timing: Timing, feeds: Feeds) -> Freshness:
    """Stale once the next minute is overdue, like every map that is made without a price."""
    age_ms = timing.age_ms(as_of_ns)
    stale = age_ms > MINUTE_MS + stale_after_ms or feeds.finished or symbol in feeds.priceless
    return Freshness(as_of_ns // 1_000_000, age_ms, stale, timing.source, feeds.gaps_of(symbol))


def version_of(number: int, generation: int, board: NDArray[Any], freshness: Freshness, feeds: Feeds) -> Version:
    """What tells this board from all others; the age is no part of it."""
    as_of_ns, sequence = int(board["as_of_ns"]), int(board["sequence"])
    return Version(generation, sequence, number, as_of_ns, feeds.gaps_version, freshness.source, freshness.stale)


def calibration(symbol: str, board: NDArray[Any], newest: Newest) -> Calibration:
    """A board as a record for people."""
    rails = board["guard_rails"]
    return Calibration(
        symbol=symbol,
        freshness=newest.freshness,
        version=newest.version,
        leverages=_frozen(board["leverages"]),
        prior=_frozen(board["prior"]),
        weights=_frozen(board["weights"]),
        observed_base=_frozen(board["observed_base"]),
        expected_base=_frozen(board["expected_base"]),
        realisation=Realisation(
            configured=known(board["realisation_configured"]),
            long_run=known(board["realisation_long_run"]),
            divided_by=Divisor(int(board["divisor"])).name.lower(),
        ),
        venues=MappingProxyType({Venue(number).name.lower(): _venue(board, number) for number in range(OI_VENUES)}),
        verdicts=tuple(_judged(row) for row in board["judged"][: int(board["judged_count"])]),
        guard_rails=MappingProxyType({name: rails[name].item() for name in GUARD_RAILS.names or ()}),
        windows=int(board["windows"]),
        applied=int(board["applied"]),
        learned_minutes=int(board["learned_minutes"]),
        window_minutes=int(board["window_minutes"]),
    )


def _judged(row: NDArray[Any]) -> JudgedWindow:
    return JudgedWindow(
        end_ms=int(row["end_ms"]),
        minutes=int(row["minutes"]),
        verdict=Verdict(int(row["verdict"])).name.lower(),
        level=known(row["level"]),
        entropy=known(row["entropy"]),
        largest=known(row["largest"]),
        furthest=known(row["furthest"]),
    )


def _venue(board: NDArray[Any], number: int) -> CompletenessOfVenue:
    return CompletenessOfVenue(known(board["venue_completeness"][number]), known(board["venue_saturation"][number]))


def _frozen(array: NDArray[Any]) -> Floats:
    own = np.array(array, dtype=np.float64)
    own.flags.writeable = False
    return own

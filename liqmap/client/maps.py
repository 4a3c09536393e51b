"""Live boards: the facts of a frame, and the slice of the map that is asked for."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from liqmap.client.faults import Incompatible
from liqmap.client.records import Floats, Newest, Snapshot
from liqmap.client.words import known, known_ms
from liqmap.domain.enums import Model, PriceSource, Projection
from liqmap.domain.grid import Grid
from liqmap.shm.board import BoardReader
from liqmap.shm.layout import fingerprint, live_dtype
from liqmap.shm.segment import Segment

MAX_TIERS: Final = 64


class Geometry(NamedTuple):
    """Size of the arrays of a live board."""

    tiers: int
    buckets: int


def geometry_of(item_size: int, print_: int) -> Geometry:
    """The tiers and buckets of a live board, from what its segment says of its payload. Raises Incompatible.

    The size leaves a few candidates; the fingerprint of the type decides.
    """
    for tiers in range(1, MAX_TIERS + 1):
        facts = live_dtype(tiers, 0).itemsize
        per_bucket = live_dtype(tiers, 1).itemsize - facts
        buckets, rest = divmod(item_size - facts, per_bucket)
        if buckets > 0 and not rest and fingerprint(live_dtype(tiers, buckets)) == print_:
            return Geometry(tiers, buckets)
    raise Incompatible("the live board is of another version of liqmap")


_HEAD: Final = struct.Struct("<qQQ")
assert (live_dtype(1, 0).names or ())[:3] == ("as_of_ns", "sequence", "frame")


class Head(NamedTuple):
    """The first facts of a frame, and the generation of the board it stands on."""

    as_of_ns: int
    sequence: int
    frame: int
    generation: int


def _copy_head(view: NDArray[Any]) -> bytes:
    return view.reshape(1).view(np.uint8)[: _HEAD.size].tobytes()


class LiveReader(BoardReader):
    """Reads a live board of any geometry."""

    def __init__(self, segment: Segment) -> None:
        self.geometry = geometry_of(segment.item_size, segment.fingerprint)
        super().__init__(segment, live_dtype(*self.geometry))
        self._facts = live_dtype(self.geometry.tiers, 0)

    def head(self) -> Head:
        """What tells this frame from all others, and when it is from."""
        as_of_ns, sequence, frame = _HEAD.unpack(self.read_with(_copy_head))
        return Head(as_of_ns, sequence, frame, self.generation)

    def facts(self) -> NDArray[Any]:
        """A copy of everything but the dollars per cell."""
        return self.read_with(self._copy_facts)

    def window(self, choose: "Choose", model: Model) -> "Window":
        """Facts, and the cells that `choose` picks of one model's projection, from one frame."""

        def copy(view: NDArray[Any]) -> Window:
            facts = self._copy_facts(view)
            first, last = choose(facts)
            return Window(
                facts,
                self.generation,
                first,
                model,
                view["projection_usd"][model - 1, :, :, first:last].copy(),
                view["evidence_usd"][:, first:last].copy(),
            )

        return self.read_with(copy)

    def _copy_facts(self, view: NDArray[Any]) -> NDArray[Any]:
        raw = view.reshape(1).view(np.uint8)[: self._facts.itemsize].tobytes()
        return np.ndarray((), self._facts, raw)


Choose = Callable[[NDArray[Any]], tuple[int, int]]


def head_of(facts: NDArray[Any], generation: int) -> Head:
    """The head of copied facts."""
    return Head(int(facts["as_of_ns"]), int(facts["sequence"]), int(facts["frame"]), generation)


@dataclass(frozen=True, slots=True)
class Window:
    """A slice of one frame: cells `first`, `first + 1`, …; float32 dollars."""

    facts: NDArray[Any]
    generation: int
    first: int
    model: Model
    projection_usd: NDArray[np.float32]
    evidence_usd: NDArray[np.float32]


def whole(facts: NDArray[Any]) -> tuple[int, int]:
    """All cells in use."""
    return 0, _in_use(facts)


def around_mark(range_pct: float) -> Choose:
    """Cells within ±`range_pct` of the mark price; none while it is unknown."""
    share = range_pct / 100

    def choose(facts: NDArray[Any]) -> tuple[int, int]:
        mark = float(facts["mark_price"])
        return _cells(facts, mark * (1 - share), mark * (1 + share))

    return choose


def between(low: float, high: float) -> Choose:
    """Cells of the prices from `low` to `high`."""
    return lambda facts: _cells(facts, low, high)


def _cells(facts: NDArray[Any], low: float, high: float) -> tuple[int, int]:
    """May see torn facts: anything it makes of them has to stay inside the arrays."""
    step, first_bucket, used = float(facts["step"]), int(facts["first_bucket"]), _in_use(facts)
    if not (step > 0 and np.isfinite(low) and np.isfinite(high)):
        return 0, 0
    first = int(np.clip(np.ceil(low / step - 1e-9) - first_bucket, 0, used))
    last = int(np.clip(np.floor(high / step + 1e-9) - first_bucket + 1, first, used))
    return first, last


def _in_use(facts: NDArray[Any]) -> int:
    return max(0, int(facts["buckets"]))


_grid = lru_cache(maxsize=64)(Grid.of)

_UNITS: Final = {int(Projection.DOLLARS): "usd", int(Projection.RELATIVE): "relative"}


def snapshot(symbol: str, window: Window, newest: Newest) -> Snapshot:
    """A window of a frame as a record for people."""
    facts, cells = window.facts, window.evidence_usd.shape[1]
    first_bucket, step = int(facts["first_bucket"]), float(facts["step"])
    grid = _grid(step)
    prices = grid.prices(np.arange(cells, dtype=np.int64) + (first_bucket + window.first))
    source = int(facts["mark_source"])
    place = window.model - 1
    kind = int(facts["projection_known"][place])
    outside = facts["evidence_outside_usd"] + facts["projection_outside_usd"][place]
    coverage, unknown_usd = facts["coverage"][place], facts["unknown_usd"][place]
    nothing = _frozen(np.full(window.projection_usd.shape, np.nan))
    shape = _frozen(window.projection_usd) if kind else nothing
    return Snapshot(
        symbol=symbol,
        freshness=newest.freshness,
        version=newest.version,
        model=window.model.name.lower(),
        mark_price=known(facts["mark_price"]),
        mark_source=PriceSource(source).name.lower() if source else None,
        mark_as_of_ms=known_ms(facts["mark_as_of_ns"]) if source else None,
        index_price=known(facts["index_price"]),
        last_price=known(facts["last_price"]),
        step=step,
        low=grid.price(first_bucket),
        high=grid.price(first_bucket + max(0, int(facts["buckets"]) - 1)),
        prices=_frozen(prices),
        leverages=_frozen(facts["leverages"]),
        weights=_frozen(facts["weights"]),
        projection_usd=shape if kind == Projection.DOLLARS else nothing,
        projection_shape=shape,
        projection_unit=_UNITS.get(kind),
        evidence_usd=_frozen(window.evidence_usd),
        projection_known=kind == Projection.DOLLARS,
        coverage=known(coverage.mean()),
        unknown_usd=known(unknown_usd.mean()),
        coverage_by_side=tuple(known(share) for share in coverage),
        unknown_by_side_usd=tuple(known(usd) for usd in unknown_usd),
        realisation=known(facts["realisation"]),
        at_risk_long_usd=float(facts["at_risk_usd"][0]),
        at_risk_short_usd=float(facts["at_risk_usd"][1]),
        open_interest_base=known(facts["open_interest_base"]),
        open_interest_usd=known(facts["open_interest_usd"]),
        below_long_usd=known(outside[0, 0]),
        above_long_usd=known(outside[0, 1]),
        below_short_usd=known(outside[1, 0]),
        above_short_usd=known(outside[1, 1]),
        born_ms=int(facts["born_ns"]) // 1_000_000,
        minute_ms=int(facts["minute_ms"]) if facts["minute_ms"] >= 0 else None,
        minutes=int(facts["minutes"]),
        gap_minutes=int(facts["gap_minutes"]),
        events=int(facts["events"]),
        liquidations=int(facts["liquidations"]),
        liquidated_long_usd=float(facts["liquidated_long_usd"]),
        liquidated_short_usd=float(facts["liquidated_short_usd"]),
        lost_events=int(facts["lost_events"]),
    )


def _frozen(array: NDArray[Any]) -> Floats:
    own = np.array(array, dtype=np.float64)
    own.flags.writeable = False
    return own

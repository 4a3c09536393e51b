"""From rows of order-book frames to columns over time: groups of frames, venues summed, coarser price steps.

Pure arithmetic over copies. Unknown is NaN throughout and never counts as zero: a mean is over the frames in which the
cell was known, weighted by how long their book was whole; a sum, over venues or over the cells of a coarser step, is
over what is known, and is NaN only where nothing is.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.client.book_records import Missing
from liqmap.client.records import Floats
from liqmap.domain.grid import Grid, Window, rebin
from liqmap.shm.layout import BOOK_UNIT_USD


@dataclass(frozen=True, slots=True)
class Raster:
    """Evenly spaced rows: row i begins at `first_ms + i * slot_ms`. `asked_ms`: where what was asked for begins."""

    first_ms: int
    slot_ms: int
    rows: int
    asked_ms: int
    end_ms: int

    @classmethod
    def over(cls, oldest_ms: int, newest_ms: int, frame_ms: int, stride: int, minutes: float) -> "Raster":
        """Slots of `stride` frames, at multiples of their length, from what is asked for or there to the newest."""
        slot_ms, end_ms = stride * frame_ms, newest_ms + frame_ms
        asked_ms = (end_ms - round(minutes * 60_000)) // slot_ms * slot_ms
        first_ms = max(asked_ms, oldest_ms // slot_ms * slot_ms)
        return cls(first_ms, slot_ms, (newest_ms - first_ms) // slot_ms + 1, asked_ms, end_ms)

    def t_ms(self) -> NDArray[np.int64]:
        """Where each row begins."""
        return self.first_ms + self.slot_ms * np.arange(self.rows, dtype=np.int64)

    def slots(self, t_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each time; below 0 before the first."""
        return (t_ms - self.first_ms) // self.slot_ms


def summed(cells: NDArray[np.float16], covered_ms: Floats, slots: NDArray[np.int64], rows: int) -> Floats:
    """Dollars (rows, 2, cells) of frames `cells[frame, venue, side, cell]`, in ascending `slots`.

    `covered_ms[frame, venue]` weighs the frames of a slot.
    """
    total = np.full((rows, *cells.shape[2:]), np.nan)
    starts = np.flatnonzero(np.diff(slots, prepend=-1))
    for venue in range(cells.shape[1]):
        own = cells[:, venue].astype(np.float64) * BOOK_UNIT_USD
        if len(starts) < len(own):
            own = _weighted(own, covered_ms[:, venue], starts)
        at = slots[starts]
        so_far = total[at]
        total[at] = np.where(np.isnan(so_far), own, so_far + np.nan_to_num(own))
    return total


def _weighted(usd: Floats, weight: Floats, starts: NDArray[np.intp]) -> Floats:
    known = ~np.isnan(usd)
    weights = known * weight[:, None, None]
    amount = np.add.reduceat(np.where(known, usd, 0.0) * weights, starts, axis=0)
    return quotient(amount, np.add.reduceat(weights, starts, axis=0))


def per_slot(values: Floats, weight: Floats, slots: NDArray[np.int64], rows: int) -> Floats:
    """The weighted mean of `values` (frames,) in each row; NaN where nothing known carries weight."""
    known = ~np.isnan(values)
    weight = np.where(known, weight, 0.0)
    amounts = (np.where(known, values, 0.0) * weight, weight)
    return quotient(*(np.bincount(slots, each, rows).astype(np.float64) for each in amounts))


def quotient(amount: Floats, weight: Floats) -> Floats:
    """NaN where the weight is zero."""
    means = np.full(np.shape(amount), np.nan)
    np.divide(amount, weight, out=means, where=weight > 0)
    return means


@dataclass(frozen=True, slots=True)
class Axis:
    """The columns of an answer: `count` cells of `grid` from bucket `first` on, and the recorded buckets below them."""

    grid: Grid
    first: int
    count: int
    source: Grid
    low: int
    high: int

    @classmethod
    def over(cls, source: Grid, step: float | None, low: float, high: float, recorded: tuple[int, int]) -> "Axis":
        """Cells whose centres lie from `low` to `high`, as far as buckets `recorded` (first, last) reach.

        `count` is 0 when none does. `step` None: the recorded one.
        """
        grid = source if step is None else Grid.of(step)
        ratio = source.step / grid.step
        reach = ((recorded[0] - 0.5) * ratio, (recorded[1] + 0.5) * ratio)
        first = max(int(np.ceil(low / grid.step - 1e-9)), int(np.floor(reach[0] + 0.5 + 1e-9)), 1)
        last = min(int(np.floor(high / grid.step + 1e-9)), int(np.ceil(reach[1] - 0.5 - 1e-9)))
        count = max(0, last - first + 1)
        below = int(np.floor((first - 0.5) / ratio + 0.5 + 1e-9))
        above = int(np.ceil((first + count - 0.5) / ratio - 0.5 - 1e-9))
        return cls(grid, first, count, source, below, max(below, above))

    def prices(self) -> Floats:
        """The centres."""
        return self.grid.prices(np.arange(self.first, self.first + self.count, dtype=np.int64))

    def rebinned(self, usd: Floats) -> Floats:
        """Dollars of the recorded buckets `low` to `high` (…, cells) in the columns (…, count)."""
        if self.grid == self.source:
            return usd
        source = Window(self.source, 0.0, self.low, self.high - self.low + 1)
        target = Window(self.grid, 0.0, self.first, self.count)
        known = ~np.isnan(usd)
        there = rebin(known.astype(np.float64), source, target).values > 0
        return np.where(there, rebin(np.where(known, usd, 0.0), source, target).values, np.nan)


def missing(
    raster: Raster,
    heads: NDArray[Any],
    covered_ms: Floats,
    others: NDArray[Any],
    before: str,
    reason: Callable[[int, int, bool], str],
) -> tuple[Missing, ...]:
    """What was asked for and is not there. `heads`: the frames that are; `covered_ms[frame, venue]` of them; `others`:
    frames that cannot be shown beside them. `before`: why nothing older is there. `reason(from, to, recorded)`: why a
    stretch is empty; `recorded`: there is a frame, in which no book was whole."""
    return tuple(_merged(_stretches(raster, heads, covered_ms, others, before, reason)))


def _stretches(
    raster: Raster,
    heads: NDArray[Any],
    covered_ms: Floats,
    others: NDArray[Any],
    before: str,
    reason: Callable[[int, int, bool], str],
) -> Iterable[Missing]:
    reached, first = raster.asked_ms, True
    whole = covered_ms.max(axis=1, initial=0.0) > 0
    for t_ms, interval_ms, known in zip(heads["t_ms"].tolist(), heads["interval_ms"].tolist(), whole, strict=True):
        if t_ms > reached:
            yield Missing(reached, t_ms, _hole(reached, t_ms, others, before if first else "", reason))
        if not known:
            yield Missing(t_ms, t_ms + interval_ms, reason(t_ms, t_ms + interval_ms, True))
        reached, first = max(reached, t_ms + interval_ms), False


def _hole(from_ms: int, to_ms: int, others: NDArray[Any], before: str, reason: Callable[[int, int, bool], str]) -> str:
    if ((others["t_ms"] >= from_ms) & (others["t_ms"] < to_ms)).any():
        return "recorded with another frame length or price step"
    return before or reason(from_ms, to_ms, False)


def _merged(stretches: Iterable[Missing]) -> Iterable[Missing]:
    last: Missing | None = None
    for each in stretches:
        if last is not None and (last.to_ms, last.reason) == (each.from_ms, each.reason):
            last = Missing(last.from_ms, each.to_ms, each.reason)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last

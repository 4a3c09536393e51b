"""How near a map comes to what is there, where positions are known (a simulation, or a venue that publishes them).

Per side, on its own side of the mark, within REACH of it, in bins of BIN with edges at the mark:
EMD (earth mover's distance of the two shapes, in percent of the mark), Pearson and Spearman correlation of the shapes
(each normalised to 1), and the dollar ratio, model over truth, unnormalised. Medians over times and sides are what is
reported.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.backtest.run import end_of, window_of
from liqmap.domain.enums import Model, PositionSide
from liqmap.domain.grid import Grid, Window
from liqmap.engine.frames import MinuteFrame
from liqmap.store.tables import TruePosition

Floats = NDArray[np.float64]

REACH: Final = 0.10
BINS: Final = 50
BIN: Final = REACH / BINS
_SIDES: Final = (PositionSide.LONG, PositionSide.SHORT)


@dataclass(frozen=True, slots=True)
class TruthScore:
    """One side at one time; or medians of several. NaN: cannot be said (an empty map, no dollars)."""

    emd_pct: float
    pearson: float
    spearman: float
    usd_ratio: float


@dataclass(frozen=True, slots=True)
class Positions:
    """All positions that were open at `ts_ms`: by side, trigger prices (NaN: none liquidates it) and quantities."""

    ts_ms: int
    prices: tuple[Floats, Floats]
    base: tuple[Floats, Floats]


def positions_by_time(rows: Iterable[TruePosition]) -> Iterator[Positions]:
    """The rows of a truth table, grouped by their times."""
    for ts_ms, group in groupby(rows, key=lambda row: row.ts_ms):
        sides, prices, base = zip(
            *((row.position_side, row.liquidation_price, row.qty_base) for row in group), strict=True
        )
        side, price, qty = np.array(sides), np.array(prices), np.array(base)
        longs, shorts = (side == one for one in _SIDES)
        yield Positions(ts_ms, (price[longs], price[shorts]), (qty[longs], qty[shorts]))


def true_bins(positions: Positions, mark: float) -> Floats:
    """(side, bin) dollars at the trigger price, nearest bin first."""
    found = np.zeros((2, BINS))
    for side, sign in enumerate((1, -1)):
        prices, base = positions.prices[side], positions.base[side]
        places = sign * (1 - prices / mark) / BIN
        inside = (places >= 0) & (places < BINS)
        np.add.at(found[side], places[inside].astype(np.int64), (prices * base)[inside])
    return found


def model_bins(usd: Floats, window: Window, mark: float) -> Floats:
    """(side, bin) of a map `usd[side, cell]`; a cell is shared by overlap."""
    step = window.grid.step
    edges = window.low_edge + step * np.arange(window.count + 1)
    found = np.zeros((2, BINS))
    for side, sign in enumerate((1, -1)):
        summed = np.concatenate(([0.0], np.cumsum(usd[side])))
        below = np.interp(mark * (1 - sign * BIN * np.arange(BINS + 1)), edges, summed)
        found[side] = np.abs(np.diff(below))
    return found


def score(model: Floats, truth: Floats) -> TruthScore:
    """One side's bins against the true ones."""
    said, there = float(model.sum()), float(truth.sum())
    if not (said > 0 and there > 0):
        return TruthScore(np.nan, np.nan, np.nan, said / there if there > 0 else np.nan)
    p, q = model / said, truth / there
    return TruthScore(
        emd_pct=float(np.abs(np.cumsum(p) - np.cumsum(q)).sum()) * BIN * 100,
        pearson=_correlation(p, q),
        spearman=_correlation(_ranks(p), _ranks(q)),
        usd_ratio=said / there,
    )


def medians(scores: Iterable[TruthScore]) -> TruthScore | None:
    """The median of each number over the scores that have it; None without any."""
    columns = zip(*((s.emd_pct, s.pearson, s.spearman, s.usd_ratio) for s in scores), strict=True)
    found = [[value for value in column if value == value] for column in columns]
    return TruthScore(*(median(column) if column else np.nan for column in found)) if found else None


class TruthWatch:
    """Scores the minutes that end at the times of a truth table, from `from_ms` on; it is read as needed."""

    def __init__(self, positions: Iterable[Positions], models: Sequence[Model], grid: Grid, from_ms: int) -> None:
        self._positions = iter(positions)
        self._next = next(self._positions, None)
        self._grid = grid
        self._from_ms = from_ms
        self.scores: dict[Model, list[TruthScore]] = {model: [] for model in models}
        self.times = 0

    def watch(self, frame: MinuteFrame) -> None:
        """Score every model on both sides if the truth of that moment is known."""
        ts_ms, mark = end_of(frame), frame.facts.mark_price
        while self._next is not None and self._next.ts_ms < ts_ms:
            self._next = next(self._positions, None)
        if self._next is None or self._next.ts_ms != ts_ms or ts_ms < self._from_ms or not mark > 0:
            return
        self.times += 1
        truth, window = true_bins(self._next, mark), window_of(frame, self._grid)
        for model, scores in self.scores.items():
            said = model_bins(frame.projection_usd[model - 1].astype(np.float64), window, mark)
            scores.extend(score(said[side], truth[side]) for side in range(2))

    def report(self, model: Model) -> dict[str, float | int | None] | None:
        """The medians over times and sides, null without any."""
        found = medians(self.scores[model])
        if found is None:
            return None
        values = (found.emd_pct, found.pearson, found.spearman, found.usd_ratio)
        names = ("emd_pct", "pearson", "spearman", "usd_ratio")
        rounded = {name: round(value, 4) if value == value else None for name, value in zip(names, values, strict=True)}
        return {**rounded, "times": self.times}


def _correlation(x: Floats, y: Floats) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 0 else np.nan


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    after = np.cumsum(count)
    return np.asarray((after - (count + 1) / 2)[place], dtype=np.float64)

"""The worker's second source: the depth board of its symbol, integrated to order-book frames.

`turn` costs one load while nothing is new. It never waits: a board that was overwritten in every attempt is looked at
again in the next turn. A frame that a predecessor has shown is not shown again; one that it died in is shown as far as
this worker saw it, and says how much that is (`covered_ms`).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.config import Config, DepthConfig
from liqmap.domain.enums import Venue
from liqmap.engine.depth import BookFrame, BookMeans, DepthIntegrator, DepthSample, DepthSpec
from liqmap.shm.board import BoardBusy, BoardReader
from liqmap.shm.faults import SegmentRetired
from liqmap.shm.layout import BOOK_UNIT_USD, BOOK_VENUES
from liqmap.shm.plan import Role, symbol_segments
from liqmap.shm.rows import RowsReader, RowsWriter

HOLD_MS: Final = 1500
"""How long a published board speaks for the time behind it, or twice the publishing period where that is longer."""
LARGEST_UNITS: Final = float(np.finfo(np.float16).max)
"""A cell beyond this many BOOK_UNIT_USD (655 million dollars) is shown as this: at least so much, never infinite."""

assert len(Venue) - 1 == BOOK_VENUES
MS_NS: Final = 1_000_000


class OrderBooks:
    """Reads the depth board, writes the rows of order-book frames."""

    def __init__(self, config: Config, symbol: str) -> None:
        """Opens both. Raises SegmentMissing, LayoutMismatch."""
        plans = {plan.role: plan for plan in symbol_segments(config, symbol)}
        depth, books = plans[Role.DEPTH], plans[Role.BOOKS]
        self._step = config.symbols[symbol].step
        self._board: BoardReader = BoardReader.open(depth.name, depth.dtype)
        self._rows: RowsWriter = RowsWriter.open(books.name, books.dtype)
        newest = RowsReader.open(books.name, books.dtype).last(1)
        self._last_ms = int(newest["t_ms"][0]) if len(newest) else -1
        self._integrator = DepthIntegrator(spec_of(config.depth, self._step))
        self._seen = 0
        self.passed_over = 0
        """Boards that could not be used: overwritten while they were read, or of another step than this worker's."""

    def turn(self, market_ns: int) -> bool:
        """Take what is new on the board, close what is over at market time `market_ns`; whether there was anything."""
        number = self._board.sequence_hint()
        new = number != self._seen
        frames = self._take() if new else []
        if new:
            self._seen = number
        for frame in (*frames, *self._integrator.look(market_ns)):
            self._show(frame)
        return new

    def _take(self) -> list[BookFrame]:
        try:
            board = self._board.read()
        except (BoardBusy, SegmentRetired):
            self.passed_over += 1
            return []
        if float(board["step"]) != self._step:
            self.passed_over += 1
            return []
        return self._integrator.add(sample_of(board))

    def _show(self, frame: BookFrame) -> None:
        if frame.t_ms <= self._last_ms:
            return
        self._last_ms = frame.t_ms
        self._rows.append(lambda row: fill_row(row, frame))


def spec_of(depth: DepthConfig, step: float) -> DepthSpec:
    """What the configuration says about the frames of a symbol with that price step."""
    return DepthSpec(
        frame_ns=depth.frame_s * 1000 * MS_NS,
        hold_ns=max(HOLD_MS, 2 * depth.publish_ms) * MS_NS,
        range_pct=depth.range_pct,
        step=step,
        capacity=depth.buckets,
    )


def sample_of(board: NDArray[Any]) -> DepthSample:
    """One payload of `depth_dtype` as a sample."""
    venues = board["venues"]
    return DepthSample(
        as_of_ns=int(board["as_of_ns"]),
        first_bucket=int(board["first_bucket"]),
        usd=board["usd"][..., : int(board["buckets"])],
        states=venues["state"],
        heard_ns=venues["as_of_ns"],
        best_bid=venues["best_bid"],
        best_ask=venues["best_ask"],
        complete_low=venues["complete_low"],
        complete_high=venues["complete_high"],
        resyncs=venues["resyncs"],
        snapshots=venues["snapshots"],
    )


def fill_row(row: NDArray[Any], frame: BookFrame) -> None:
    """Write a frame into a row of `book_dtype`: every field, NaN into the cells that are not in use."""
    used = frame.usd.shape[-1]
    row["first_bucket"], row["buckets"] = frame.first_bucket, used
    for name in ("t_ms", "interval_ms", "step", "mid_open", "mid_mean", "mid_close", "samples"):
        row[name] = getattr(frame, name)
    _fill_means(row["summed"], frame.summed)
    for place, means in zip(row["venues"], frame.venues, strict=True):
        _fill_means(place, means)
    cells = row["cells"]
    cells[..., :used] = np.minimum(frame.usd / BOOK_UNIT_USD, LARGEST_UNITS)
    cells[..., used:] = np.nan


def _fill_means(place: Any, means: BookMeans) -> None:
    for name in place.dtype.names:
        place[name] = getattr(means, name)

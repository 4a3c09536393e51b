"""One symbol's depth board: the books of all venues in dollars per bucket, painted for readers (shm/layout.py).

The window lies around the mean of the venues' middles, with room for price to move; it is moved when price has moved
by more than `DRIFT_PCT`. A venue without a whole book is NaN everywhere: unknown is never nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.config import DepthConfig
from liqmap.domain.enums import Venue
from liqmap.domain.grid import Grid, Window
from liqmap.ingest.shelf import Shelf
from liqmap.shm.layout import BOOK_STANDING, BOOK_VENUES

DRIFT_PCT: Final = 1.0
ROOM_PCT: Final = 1.5
"""The window reaches this much farther than asked for: `range_pct` is in it wherever price is before it is moved."""
_AT_LEAST_NS: Final = 1_000_000_000
"""A board is published this often even when nothing changed, so that readers can tell that time passes."""

_NO_BOOK: Final = np.zeros((), BOOK_STANDING)
_NO_BOOK["as_of_ns"] = _NO_BOOK["venue_ms"] = _NO_BOOK["sequence"] = -1
for _name in ("best_bid", "best_ask", "complete_low", "complete_high"):
    _NO_BOOK[_name] = np.nan


class BoardSink(Protocol):
    """What shows a payload to readers: a board writer."""

    def publish(self, fill: Callable[[NDArray[Any]], None]) -> int:
        """Let `fill` write every field of the next payload, then show it."""


class Unseen:
    """Shows a symbol's books to nobody: where frames come from a file, only events are wanted."""

    def __init__(self, _symbol: str) -> None:
        pass

    def publish(self, _fill: Callable[[NDArray[Any]], None]) -> int:
        """Nothing is painted."""
        return 0


class DepthBoard:
    """Owned by the router."""

    def __init__(self, sink: BoardSink, step: float, settings: DepthConfig) -> None:
        self._sink = sink
        self._grid = Grid.of(step)
        self._settings = settings
        self._window: Window | None = None
        self._painted: list[tuple[int, int]] = []
        self._painted_ns = 0

    @property
    def reach(self) -> float:
        """Levels farther from price than this share of it need not be kept."""
        return (self._settings.range_pct + 2 * ROOM_PCT) / 100

    def look(self, now_ns: int, shelves: Sequence[Shelf]) -> None:
        """Publish when anything changed, or when it has been a second."""
        standing = [(id(shelf), shelf.version) for shelf in shelves]
        if standing == self._painted and now_ns - self._painted_ns < _AT_LEAST_NS:
            return
        self._painted, self._painted_ns = standing, now_ns
        self._place(shelves)
        self._sink.publish(lambda record: self._paint(record, now_ns, shelves))

    def _place(self, shelves: Sequence[Shelf]) -> None:
        """Lay the window around price."""
        books = [shelf.book for shelf in shelves]
        mids = [book.mid for book in books if book is not None and book.mid > 0]
        if not mids:
            return
        mid = sum(mids) / len(mids)
        if self._window is None or self._window.drifted(mid, DRIFT_PCT / 100):
            reach_pct = self._settings.range_pct + ROOM_PCT
            self._window = Window.around(self._grid, mid, reach_pct, self._settings.buckets)

    def _paint(self, record: NDArray[Any], now_ns: int, shelves: Sequence[Shelf]) -> None:
        window = self._window
        record["as_of_ns"] = now_ns
        record["first_bucket"] = 0 if window is None else window.first
        record["buckets"] = 0 if window is None else window.count
        record["step"] = self._grid.step
        record["venues"][...] = _NO_BOOK
        usd = record["usd"]
        usd[...] = np.nan
        for shelf in shelves:
            row = int(shelf.feed.venue) - 1
            record["venues"][row] = _standing(shelf)
            book = shelf.book
            if book is not None and window is not None:
                usd[row, :, : window.count] = book.dollars(window)


def _standing(shelf: Shelf) -> tuple[object, ...]:
    """One row of BOOK_STANDING, in the order of its fields."""
    book, counts = shelf.book, shelf.counts
    unknown = float("nan")
    bids, asks = (0, 0) if book is None else book.level_counts
    low, high = (unknown, unknown) if book is None else book.complete
    return (
        int(shelf.state),
        *shelf.heard,
        unknown if book is None else book.best_bid,
        unknown if book is None else book.best_ask,
        low,
        high,
        bids,
        asks,
        counts.updates,
        counts.snapshots,
        counts.resyncs,
        counts.sequence_gaps,
        counts.crossed,
        shelf.dropped_levels,
        counts.dropped_updates,
    )


assert len(Venue) - 1 == BOOK_VENUES

"""The positions of one symbol: columns of an array, one row each, with what will happen to it written beside.

Everything a person has decided is a price barrier or a time, so that one tick is three comparisons over all rows:
`below` and `above` are the nearest barriers (liquidation, stop, take-profit, adding margin), `due_ms` the time to go.
"""

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide

POSITION = np.dtype(
    [
        ("id", "<i8"),
        ("qty_lots", "<i8"),
        ("opened_ms", "<i8"),
        ("due_ms", "<i8"),
        ("entry", "<f8"),
        ("margin_usd", "<f8"),  # isolated: this position's; cross: what the account holds for it
        ("opening_margin_usd", "<f8"),
        ("leverage", "<f8"),  # at opening
        ("liquidation", "<f8"),  # mark price; -inf: none
        ("stop", "<f8"),  # last price; NaN: none
        ("target", "<f8"),  # last price; NaN: none
        ("topup", "<f8"),  # mark price; NaN: none
        ("sign", "<f8"),  # +1 long, -1 short
        ("side", "u1"),  # domain.enums.PositionSide
        ("venue", "u1"),  # domain.enums.Venue
        ("person", "u1"),  # number in the configured people
        ("cross", "?"),
        ("topups_left", "u1"),
    ]
)
"""One position. Prices quote, margins USD, quantities whole lots of the symbol."""

Rows = NDArray[np.void]
Indices = NDArray[np.intp]


class Positions:
    """A growing array of POSITION without holes; an index is good until the next `remove`."""

    def __init__(self, capacity: int = 4096) -> None:
        self._rows: Rows = np.zeros(capacity, POSITION)
        self._below = np.zeros(capacity)
        self._above = np.zeros(capacity)
        self._due = np.zeros(capacity, np.int64)
        self._count = 0
        self._next_id = 1
        self._lots = {side: np.zeros(4, np.int64) for side in PositionSide}

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Rows:
        """The positions, a read-only view: changed rows go back by `put`."""
        view = self._rows[: self._count]
        view.flags.writeable = False
        return view

    def add(self, rows: Rows) -> None:
        """Take in new positions; they are given their ids."""
        end = self._count + len(rows)
        self._reserve(end)
        rows["id"] = np.arange(self._next_id, self._next_id + len(rows))
        self._next_id += len(rows)
        fresh = np.arange(self._count, end)
        self._rows[fresh] = rows
        self._count = end
        self._rearm(fresh, rows)
        self._book(rows, 1)

    def put(self, indices: Indices, rows: Rows) -> None:
        """Write changed rows back to their places (same side and venue)."""
        self._book(self._rows[indices], -1)
        self._rows[indices] = rows
        self._book(rows, 1)
        self._rearm(indices, rows)

    def remove(self, indices: Indices) -> None:
        """Take out these rows (distinct); the last rows move into their places."""
        self._book(self._rows[indices], -1)
        count = self._count - len(indices)
        gone = np.zeros(len(indices), bool)
        gone[indices[indices >= count] - count] = True
        movers = count + np.flatnonzero(~gone)
        holes = np.sort(indices[indices < count])
        for column in (self._rows, self._below, self._above, self._due):
            column[holes] = column[movers]
        self._count = count

    def _rearm(self, indices: Indices, rows: Rows) -> None:
        """Write the nearest barriers of these rows."""
        long = rows["sign"] > 0
        bad = np.where(long, -np.inf, np.inf)
        stop = np.where(np.isnan(rows["stop"]), bad, rows["stop"])
        topup = np.where(np.isnan(rows["topup"]) | (rows["topups_left"] == 0), bad, rows["topup"])
        liquidation = np.where(np.isinf(rows["liquidation"]), bad, rows["liquidation"])
        target = np.where(np.isnan(rows["target"]), -bad, rows["target"])
        below, above = np.maximum, np.minimum
        self._below[indices] = np.where(long, below(below(stop, topup), liquidation), target)
        self._above[indices] = np.where(long, target, above(above(stop, topup), liquidation))
        self._due[indices] = rows["due_ms"]

    def touched(self, low: float, high: float, now_ms: int) -> Indices:
        """Rows of which a barrier lies at or beyond `low` … `high`, or whose time has come."""
        n = self._count
        return np.flatnonzero((self._below[:n] >= low) | (self._above[:n] <= high) | (self._due[:n] <= now_ms))

    def lots(self, side: PositionSide) -> NDArray[np.int64]:
        """Whole lots open on that side, by venue number (0 … 3); kept up by every change."""
        return self._lots[side].copy()

    def _book(self, rows: Rows, direction: int) -> None:
        for side, lots in self._lots.items():
            mine = rows["side"] == side
            lots += direction * summed_by_venue(rows["venue"][mine], rows["qty_lots"][mine])

    def _reserve(self, count: int) -> None:
        if count <= len(self._rows):
            return
        capacity = max(2 * len(self._rows), count)
        for name in ("_rows", "_below", "_above", "_due"):
            old = getattr(self, name)
            wider = np.zeros(capacity, old.dtype)
            wider[: self._count] = old[: self._count]
            setattr(self, name, wider)


def summed_by_venue(venue: NDArray[np.uint8], lots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole lots by venue number (0 … 3); exact, as the sums stay far below 2**53."""
    return np.bincount(venue, weights=lots, minlength=4).astype(np.int64)

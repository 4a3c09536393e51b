"""Recent liquidations by cursor: newest ones, or the oldest after an id or a time."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.client.records import Liquidation
from liqmap.client.words import known
from liqmap.domain.enums import PositionSide, Venue
from liqmap.shm.layout import LIQUIDATION
from liqmap.shm.rows import RowsReader
from liqmap.shm.segment import Segment

FIRST_LOOK: Final = 512
"""Rows copied at first; four times as many each time the cursor lies further back."""


class RecentReader(RowsReader):
    """Reads the newest liquidations of one symbol."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment, LIQUIDATION)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which liquidations: after an id, after a time (both exclusive), or the newest; then filters, then `limit`."""

    after: int | None = None
    since_ms: int | None = None
    limit: int = 500
    min_notional_usd: float = 0.0
    side: str | None = None
    venue: str | None = None

    @property
    def has_cursor(self) -> bool:
        """Whether the oldest after a place are wanted, instead of the newest."""
        return self.after is not None or self.since_ms is not None

    def pick(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The wanted ones of some rows."""
        chosen = np.ones(len(rows), np.bool_)
        if self.after is not None:
            chosen &= rows["id"] > np.uint64(self.after)
        if self.since_ms is not None:
            chosen &= rows["ts_ms"] > self.since_ms
        if self.min_notional_usd > 0:
            chosen &= rows["notional_usd"] >= self.min_notional_usd
        if self.side is not None:
            chosen &= rows["side"] == PositionSide[self.side.upper()]
        if self.venue is not None:
            chosen &= rows["venue"] == Venue[self.venue.upper()]
        picked = rows[chosen]
        return picked[: self.limit] if self.has_cursor else picked[-self.limit :]

    def satisfied(self, rows: NDArray[Any]) -> bool:
        """Whether the rows in hand reach back far enough to answer."""
        if len(rows) == 0:
            return True
        if self.after is not None:
            return bool(rows["id"][0] <= self.after)
        return self.since_ms is None and len(self.pick(rows)) >= self.limit


def read(reader: RecentReader, wanted: Wanted) -> tuple[NDArray[Any], NDArray[Any]]:
    """The wanted rows, and the rows that were looked at (the newest ones; all of them when needed)."""
    look = FIRST_LOOK
    while True:
        rows = reader.last(look)
        if wanted.satisfied(rows) or len(rows) < look or look >= reader.capacity:
            return wanted.pick(rows), rows
        look *= 4


def oldest_ms(reader: RecentReader) -> int | None:
    """Time of the oldest row that is still there."""
    rows = reader.after(0, 1).rows
    return int(rows["ts_ms"][0]) if len(rows) else None


def liquidation(row: Any) -> Liquidation:
    """One row as a record."""
    venue, side = int(row["venue"]), int(row["side"])
    return Liquidation(
        id=int(row["id"]),
        ts_ms=int(row["ts_ms"]),
        venue=Venue(venue).name.lower(),
        side=PositionSide(side).name.lower(),
        printed_price=known(row["printed_price"]),
        fill_price=known(row["fill_price"]),
        trigger_price=known(row["trigger_price"]),
        qty_base=float(row["qty_base"]),
        notional_usd=float(row["notional_usd"]),
    )

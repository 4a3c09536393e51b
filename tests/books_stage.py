"""Depth boards and order-book frames as ingest and a worker would write them: for tests of what stands behind."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.config import Config
from liqmap.domain.enums import BookState
from liqmap.shm.board import BoardWriter
from liqmap.shm.layout import BOOK_VENUES
from liqmap.shm.plan import Role, symbol_segments
from liqmap.shm.rows import RowsReader

SECOND_NS = 1_000_000_000


def book_usd(first: int, cells: int, mid: float, step: float, scale: float = 1.0) -> NDArray[np.float64]:
    """usd[venue, side, cell] of a plausible book: bids below the middle, asks above, thinner far away; the venues
    3 : 2 : 1, the third unknown beyond 2 % of the middle, others unknown everywhere."""
    prices = (first + np.arange(cells)) * step
    depth = 1e6 * scale * np.exp(-20 * np.abs(prices - mid) / mid)
    sides = np.stack([np.where(prices < mid, depth, 0.0), np.where(prices > mid, depth, 0.0)])
    usd = np.full((BOOK_VENUES, *sides.shape), np.nan)
    usd[:3] = 3 * sides, 2 * sides, sides
    usd[2][:, np.abs(prices - mid) > 0.02 * mid] = np.nan
    return usd


class DepthStage:
    """The ingest side of one symbol's depth board."""

    def __init__(self, config: Config, symbol: str) -> None:
        plans = {plan.role: plan for plan in symbol_segments(config, symbol)}
        self.step = config.symbols[symbol].step
        self._board: BoardWriter = BoardWriter.open(plans[Role.DEPTH].name, plans[Role.DEPTH].dtype)
        self._books = plans[Role.BOOKS]

    def publish(self, now_ns: int, mid: float, *, scale: float = 1.0, range_pct: float = 10.0, **venues: Any) -> None:
        """One state of the books; `venues` overrides fields of every BOOK_STANDING row, scalars or one per venue."""
        low, high = (round(mid * (1 + sign * range_pct / 100) / self.step) for sign in (-1, 1))
        usd = book_usd(low, high - low + 1, mid, self.step, scale)

        def fill(board: Any) -> None:
            board["as_of_ns"], board["first_bucket"], board["buckets"] = now_ns, low, high - low + 1
            board["step"] = self.step
            board["usd"] = np.nan
            board["usd"][..., : high - low + 1] = usd
            rows = board["venues"]
            for name in rows.dtype.names:
                rows[name] = 0
            rows["state"], rows["as_of_ns"], rows["venue_ms"] = BookState.SYNCED, now_ns, now_ns // 1_000_000
            rows["sequence"] = 1000 + np.arange(BOOK_VENUES)
            rows["best_bid"], rows["best_ask"] = mid - self.step / 20, mid + self.step / 20
            rows["complete_low"], rows["complete_high"] = mid * 0.9, mid * 1.1
            rows["complete_low"][2], rows["complete_high"][2] = mid * 0.98, mid * 1.02
            rows["bid_levels"], rows["ask_levels"], rows["updates"], rows["snapshots"] = 400, 500, 7000, 1
            for name, value in venues.items():
                rows[name] = value

        self._board.publish(fill)

    def rows(self) -> NDArray[Any]:
        """The frames that are shown."""
        return RowsReader.open(self._books.name, self._books.dtype).last(10**6)

"""What a simulated market hands to the venue servers: the prints of one step, venue by venue.

Times are ms UTC of the market, quantities base, prices quote. Arrays are sorted by time.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Venue

TRADES = np.dtype([("ts_ms", "<i8"), ("price", "<f8"), ("qty_base", "<f8"), ("taker_side", "u1")])
"""taker_side: domain.enums.TakerSide."""

LIQUIDATIONS = np.dtype(
    [
        ("ts_ms", "<i8"),
        ("position_side", "u1"),  # domain.enums.PositionSide
        ("bankruptcy_price", "<f8"),
        ("fill_price", "<f8"),
        ("qty_base", "<f8"),
    ]
)


BOOK_CHANGES = np.dtype([("side", "u1"), ("price", "<f8"), ("qty_base", "<f8")])
"""side: domain.enums.TakerSide, BUY for bids; qty_base is what stands at that price from now on, 0: nothing."""


@dataclass(frozen=True, slots=True)
class Positioning:
    """Shares, 0 to 1, of a venue's accounts and positions that are long: all accounts, the largest fifth by margin, and
    what that fifth holds."""

    accounts: float
    top_accounts: float
    top_positions: float


@dataclass(frozen=True, slots=True)
class Past:
    """What a venue remembers of the time before the first step, at rising times; the last of them is the first step's.

    The price went straight from one mark to the next. Volumes are what takers bought and sold since the mark before.
    """

    times_ms: NDArray[np.int64]
    marks: NDArray[np.float64]
    open_interest_base: NDArray[np.float64]
    """One side."""
    bought_base: NDArray[np.float64]
    sold_base: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VenueTape:
    """The prints of one venue in one step."""

    trades: NDArray[np.void]
    liquidations: NDArray[np.void]
    open_interest_base: float
    """One side, at the end of the step."""
    book_changes: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, BOOK_CHANGES))
    """What changed in the order book in this step; the first step of a market brings the whole book. Applied one after
    the other to a book that began empty, they are the book: it never crosses between two steps."""
    positioning: Positioning | None = None
    """As the market counted it last; None where it does not say."""
    past: Past | None = None
    """The first step of a market may bring it."""


@dataclass(frozen=True, slots=True)
class Tape:
    """One step of one symbol."""

    symbol: str
    from_ms: int
    to_ms: int
    mark_price: float
    index_price: float
    last_price: float
    funding_rate: float
    next_funding_ms: int
    venues: dict[Venue, VenueTape]


class Market(Protocol):
    """One simulated symbol: seeded, advanced by whoever holds it, at any speed."""

    symbol: str

    def advance(self, to_ms: int) -> Tape:
        """Move the market to `to_ms` and return what was printed on the way."""

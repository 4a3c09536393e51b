"""The order book of one venue and symbol: what stands at each price is a pure function of seed, time and price.

The axis of prices is cut into cells of several widths, each twice the one before. A cell holds at most one level, whose
place, size and existence are a hash of (seed, cell, how many times the cell was renewed): narrow cells are renewed
about each second, wide ones in minutes. Of each width only the cells near the middle count, so narrow ones make the
book dense where trading is, and wide ones carry it out beyond a tenth of the price. A last kind of cell, large and
rarely taken, is the walls: they stand far out, come and go, and are pulled before price arrives.

Nothing is drawn from a generator and nothing is remembered but what was told last, so the book is the same however time
is cut and whatever else the market does. Bids end at the last price, asks begin above it: it never crosses.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import TakerSide
from liqmap.sim.tape import BOOK_CHANGES

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

REACH: Final = 0.12
"""The widest cells go out this far from the middle, as a share of the price at the start."""
_CELLS_A_SIDE = 160
_TAKEN = 0.8
_FIRST_RENEWAL_MS = 1500
_RENEWAL_GROWTH = 1.6
_SIZE_SPREAD = 1.2
"""Standard deviation of the logarithm of a level's size."""
_OUTERMOST_SHARE = 8e-5
"""Median size of a level of the widest cells, as a share of the venue's open interest …"""
_SIZE_EXPONENT = 0.55
"""… and how it falls with the width of the cell."""
_WALL_WIDTH = 0.004
_WALL_CLEAR = 0.015
"""Walls stand at least this far from the middle, as a share of the price at the start."""
_WALL_RENEWAL_MS = 150_000
_WALL_TAKEN = 0.25
_WALL_MULTIPLE = 30.0

_SIZES = 1 << 12
_BUY, _SELL = int(TakerSide.BUY), int(TakerSide.SELL)
_C1, _C2, _C3 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(0x9E3779B97F4A7C15)
_S30, _S27, _S31, _S52, _S40 = (np.uint64(shift) for shift in (30, 27, 31, 52, 40))


@dataclass(frozen=True, slots=True)
class BookScale:
    """Units of one book: price of a tick, base quantity of a lot, and what it is measured by."""

    price_tick: float
    lot_base: float
    start_price: float
    open_interest_base: float


@dataclass(frozen=True, slots=True)
class _Cells:
    """All cells that count, one row each, fixed at the start; the middle says where on the axis they lie."""

    width: Ints
    offset: Ints
    salt: Hashes
    period_ms: Ints
    taken: NDArray[np.float64]
    median_lots: NDArray[np.float64]
    clear: Ints
    """Ticks from the middle within which it holds nothing."""


class VenueBook:
    """See the module. `seed` is all the chance there is in it."""

    def __init__(self, scale: BookScale, seed: np.random.SeedSequence) -> None:
        self._scale = scale
        self._cells = _cells(scale, seed)
        self._keys = np.zeros(0, np.int64)
        self._lots = np.zeros(0, np.int64)

    def changes(self, at_ms: int, last_price: float) -> NDArray[np.void]:
        """BOOK_CHANGES since the last call (the first: the whole book); removals come first, so that applying one
        after the other never crosses."""
        keys, lots = self._at(at_ms, last_price)
        gone = ~_found(keys, self._keys)
        place = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        new = np.ones(len(keys), np.bool_)
        if len(self._keys):
            new = (self._keys[place] != keys) | (self._lots[place] != lots)
        told = np.concatenate([self._keys[gone], keys[new]])
        rows = np.zeros(len(told), BOOK_CHANGES)
        rows["side"] = np.where(told & 1, _SELL, _BUY)
        rows["price"] = np.round((told >> 1) * self._scale.price_tick, 10)
        rows["qty_base"][int(gone.sum()) :] = np.round(lots[new] * self._scale.lot_base, 10)
        self._keys, self._lots = keys, lots
        return rows

    def _at(self, at_ms: int, last_price: float) -> tuple[Ints, Ints]:
        """The book as sorted keys (tick · 2, asks + 1) and lots."""
        cells = self._cells
        middle = int(np.floor(last_price / self._scale.price_tick + 1e-6))
        cell = middle // cells.width + cells.offset
        identity = _hash(cell.astype(np.uint64) * _C3 + cells.salt)
        renewed = (at_ms + (identity >> _S40).astype(np.int64)) // cells.period_ms
        chance = _hash(identity + renewed.astype(np.uint64) * _C3)
        tick = cell * cells.width + ((chance >> np.uint64(8)) & np.uint64(0xFFFFFF)).astype(np.int64) % cells.width
        stands = ((chance & np.uint64(0xFF)).astype(np.int64) < cells.taken) & (tick > 0)
        stands &= np.abs(tick - middle) >= cells.clear
        lots = (cells.median_lots * _SIZE_OF[(chance >> _S52).astype(np.int64)]).astype(np.int64) + 1
        tick, lots = tick[stands], lots[stands]
        order = np.argsort(tick, kind="stable")
        tick, lots = tick[order], lots[order]
        first = np.flatnonzero(np.diff(tick, prepend=-1))
        levels = tick[first]
        return levels * 2 + (levels > middle), np.add.reduceat(lots, first) if len(first) else lots


def _cells(scale: BookScale, seed: np.random.SeedSequence) -> _Cells:
    reach_ticks = REACH * scale.start_price / scale.price_tick
    widths = [1]
    while _CELLS_A_SIDE * widths[-1] < reach_ticks:
        widths.append(widths[-1] * 2)
    wall_width = max(round(_WALL_WIDTH * scale.start_price / scale.price_tick), 1)
    wall_cells = round(reach_ticks / wall_width)
    outermost = max(_OUTERMOST_SHARE * scale.open_interest_base / scale.lot_base, 1.0)
    kinds = [
        (
            width,
            _CELLS_A_SIDE,
            round(_FIRST_RENEWAL_MS * _RENEWAL_GROWTH**number),
            _TAKEN,
            outermost * (width / widths[-1]) ** _SIZE_EXPONENT,
            0,
        )
        for number, width in enumerate(widths)
    ]
    clear = round(_WALL_CLEAR * scale.start_price / scale.price_tick)
    kinds.append((wall_width, wall_cells, _WALL_RENEWAL_MS, _WALL_TAKEN, outermost * _WALL_MULTIPLE, clear))
    counts = [2 * cells + 1 for _, cells, *_ in kinds]

    def each(column: int, dtype: type) -> NDArray[np.generic]:
        return np.repeat(np.array([kind[column] for kind in kinds], dtype=dtype), counts)

    return _Cells(
        width=each(0, np.int64).astype(np.int64),
        offset=np.concatenate([np.arange(-cells, cells + 1) for _, cells, *_ in kinds]).astype(np.int64),
        salt=np.repeat(seed.generate_state(len(kinds), np.uint64), counts),
        period_ms=each(2, np.int64).astype(np.int64),
        taken=each(3, np.float64).astype(np.float64) * 256.0,
        median_lots=each(4, np.float64).astype(np.float64),
        clear=each(5, np.int64).astype(np.int64),
    )


def _size_table() -> NDArray[np.float64]:
    """Lognormal sizes of median 1 by equal chance; rounded, so that no library's last digit can decide a lot."""
    law = NormalDist(0.0, _SIZE_SPREAD)
    quantiles = np.array([law.inv_cdf((number + 0.5) / _SIZES) for number in range(_SIZES)])
    return np.asarray(np.round(np.exp(quantiles), 9))


_SIZE_OF = _size_table()


def _found(keys: Ints, wanted: Ints) -> NDArray[np.bool_]:
    """Which of `wanted` stand in the sorted `keys`."""
    if not len(keys):
        return np.zeros(len(wanted), np.bool_)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.asarray(keys[place] == wanted)


def _hash(x: Hashes) -> Hashes:
    """Mixes each of the 64 bits into all others (the finaliser of SplitMix64)."""
    x = (x ^ (x >> _S30)) * _C1
    x = (x ^ (x >> _S27)) * _C2
    return x ^ (x >> _S31)

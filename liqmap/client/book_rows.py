"""Depth boards and rows of order-book frames: of any geometry, and only the part that is asked for."""

from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.client.faults import Incompatible
from liqmap.shm.board import BoardReader
from liqmap.shm.layout import BOOK_VENUES, book_dtype, depth_dtype, fingerprint
from liqmap.shm.rows import Copy, RowsReader, Window
from liqmap.shm.segment import Segment

HEAD: Final = np.dtype([each for each in book_dtype(1).descr if each[0] != "cells"])
"""A row without its cells."""

ALL_VENUES: Final = slice(0, BOOK_VENUES)


def _buckets(segment: Segment, dtype_of: Any, what: str) -> int:
    """How many buckets the arrays of a segment have. Raises Incompatible."""
    none = dtype_of(0).itemsize
    buckets, rest = divmod(segment.item_size - none, dtype_of(1).itemsize - none)
    if buckets < 1 or rest or fingerprint(dtype_of(buckets)) != segment.fingerprint:
        raise Incompatible(f"{what} is of another version of liqmap")
    return int(buckets)


class DepthReader(BoardReader):
    """Reads the depth board of one symbol."""

    def __init__(self, segment: Segment) -> None:
        self.buckets = _buckets(segment, depth_dtype, "the depth board")
        self.bytes = len(segment.view())
        super().__init__(segment, depth_dtype(self.buckets))


class BooksReader(RowsReader):
    """Reads the order-book frames of one symbol."""

    def __init__(self, segment: Segment) -> None:
        self.buckets = _buckets(segment, book_dtype, "the rows of order-book frames")
        self.bytes = len(segment.view())
        super().__init__(segment, book_dtype(self.buckets))

    def heads(self, count: int) -> Window:
        """The newest rows without their cells, HEAD."""
        return self.last_with(count, _heads)

    def cut(self, count: int, venues: slice, low: int, high: int) -> Window:
        """The newest rows with the cells of the buckets `low` to `high` of some venues: `cut_dtype`, NaN where a row
        does not reach."""
        return self.last_with(count, _cutter(venues, low, high))


def cut_dtype(venues: int, cells: int) -> np.dtype[np.void]:
    """A row as `cut` copies it: `head` and `cells[venue, side, cell]`, in BOOK_UNIT_USD."""
    return np.dtype([("head", HEAD), ("cells", "<f2", (venues, 2, cells))])


def _heads(rows: NDArray[Any]) -> NDArray[Any]:
    fields: Any = rows.dtype.fields
    names = list(HEAD.names or ())
    wide = np.dtype(
        {
            "names": names,
            "formats": [fields[name][0] for name in names],
            "offsets": [fields[name][1] for name in names],
            "itemsize": rows.dtype.itemsize,
        }
    )
    heads = np.empty(len(rows), HEAD)
    heads[...] = rows.view(wide)
    return heads


def _cutter(venues: slice, low: int, high: int) -> Copy:
    dtype = cut_dtype(venues.stop - venues.start, high - low + 1)

    def copy(rows: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(len(rows), dtype)
        out["head"] = _heads(rows)
        out["cells"] = np.nan
        for run, first, used in _runs(out["head"], rows["cells"].shape[-1]):
            begin, end = max(low, first), min(high + 1, first + used)
            if begin < end:
                out["cells"][run, :, :, begin - low : end - low] = rows["cells"][
                    run, venues, :, begin - first : end - first
                ]
        return out

    return copy


def _runs(heads: NDArray[Any], capacity: int) -> list[tuple[slice, int, int]]:
    """Stretches of rows with one window. May see torn rows: what it makes of them stays inside the arrays."""
    if not len(heads):
        return []
    first, used = heads["first_bucket"], np.clip(heads["buckets"], 0, capacity)
    turns = np.flatnonzero((np.diff(first) != 0) | (np.diff(used) != 0)) + 1
    bounds = [0, *turns.tolist(), len(heads)]
    return [(slice(begin, end), int(first[begin]), int(used[begin])) for begin, end in pairwise(bounds)]

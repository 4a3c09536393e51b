"""What the workers of the API have done, in memory they share with their master: a row per worker, one writer each."""

import mmap
from typing import Final

import numpy as np

ROWS: Final = 256
_BOOTED, _REQUESTS, _ERRORS = 0, 1, 2


class Tally:
    """One worker's row. Eight-byte stores, so that the master never sees half a number."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def booted(self) -> None:
        """This worker answers requests from now on."""
        self._words[_BOOTED] = 1

    def requests(self, count: int) -> None:
        """Requests answered so far."""
        self._words[_REQUESTS] = count

    def error(self) -> None:
        """One request failed by our fault. Two threads at once may count one: it is a sign, not a bill."""
        self._words[_ERRORS] += 1


class Tallies:
    """The master's view. Made before the first worker is forked."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, ROWS * 3 * 8)
        self._rows = np.frombuffer(self._map, "<i8").reshape(ROWS, 3)
        self._gone = np.zeros(3, "<i8")

    def of(self, age: int) -> Tally:
        """The row of the worker of that age (gunicorn's rising number of each worker)."""
        return Tally(self._rows[age % ROWS].data.cast("B").cast("q"))

    def ended(self, age: int) -> None:
        """Keep the sums of a worker that has gone, and free its row."""
        row = self._rows[age % ROWS]
        self._gone += row
        row[:] = 0

    @property
    def booted(self) -> int:
        """Workers that answer requests."""
        return int(self._rows[:, _BOOTED].sum())

    @property
    def requests(self) -> int:
        """Requests answered since the master started."""
        return int(self._rows[:, _REQUESTS].sum() + self._gone[_REQUESTS])

    @property
    def errors(self) -> int:
        """Requests that failed by our fault."""
        return int(self._rows[:, _ERRORS].sum() + self._gone[_ERRORS])

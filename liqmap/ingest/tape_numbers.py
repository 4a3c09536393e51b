"""Trades that never came, known by their numbers. Pure bookkeeping of the router.

Binance numbers its aggregated trades one by one (`Stream.counted`; docs/exchanges.md). Where such a number is left out
on a connection that stood, the venue or the way lost trades without a word; nothing else would ever tell.
"""

import struct
from collections.abc import Sequence
from typing import Final

_NUMBER: Final = struct.Struct("<48xq").unpack_from
"""`detail` of a record of EVENT_DTYPE."""


class TapeNumbers:
    """The next number of each contract on one link."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def missing_in(self, contract: int, records: Sequence[bytes]) -> int:
        """How many trades are missing before and among these, which came in order."""
        first, last = _NUMBER(records[0])[0], _NUMBER(records[-1])[0]
        return self.missing(contract, first, last, len(records))

    def missing(self, contract: int, first: int, last: int, count: int = 1) -> int:
        """The same of `count` trades from number `first` to `last`. What comes again is not less than nothing."""
        expected = self._next.get(contract, first)
        self._next[contract] = max(expected, last + 1)
        return max(0, last + 1 - min(expected, first) - count) if last >= expected else 0

    def forget(self) -> None:
        """What comes next may begin anywhere: another connection, other contracts, or what was lost is told already."""
        self._next.clear()

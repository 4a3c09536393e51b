"""What comes twice and must count once: rows of two connections of one link during a rotation, and rows that a venue
plays again when somebody subscribes. Pure bookkeeping of the router.

Rows without an id may be identical and real (Bybit prints equal liquidations), so connections are compared as
multisets: a row counts if its connection has now shown it more often than any other connection of the link has.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final

from liqmap.domain.enums import Kind
from liqmap.domain.event import Event
from liqmap.exchanges.registry import ADAPTERS

_KINDS: Final = frozenset({Kind.LIQUIDATION, Kind.TRADE})
"""What adds up. A mark price or a level said twice changes nothing."""

REPLAY_AGE_NS: Final = 600 * 10**9
"""Some venues play recent liquidations again on subscription; rows older than this are history, not news."""

_REPLAYING: Final = frozenset(venue for venue, adapter in ADAPTERS.items() if adapter.replays_liquidations)
_SEEN_ROWS: Final = 20_000

Row = tuple[int, int, int, int, float, float, int]


def row_of(event: Event) -> Row:
    """What makes two rows the same row: everything the venue said, nothing of our reception."""
    return (event.kind, event.instrument, event.side, event.venue_ms, event.price, event.quantity, event.detail)


class Overlap:
    """Two or more connections of one link at work at once."""

    def __init__(self) -> None:
        self._shown: dict[int, Counter[Row]] = {}
        self.dropped = 0
        self.ends_ns: int | None = None
        """Engine time from which nothing can come twice any more; None while several connections speak."""

    def is_over(self, now_ns: int) -> bool:
        """Nothing can come twice any more."""
        return self.ends_ns is not None and now_ns >= self.ends_ns

    def is_news(self, connection: int, event: Event) -> bool:
        """True when no other connection of the link has said it as often."""
        if event.kind not in _KINDS:
            return True
        row = row_of(event)
        mine = self._shown.setdefault(connection, Counter())
        mine[row] += 1
        if any(shown[row] >= mine[row] for other, shown in self._shown.items() if other != connection):
            self.dropped += 1
            return False
        return True


class Replays:
    """Liquidations of venues that play them again: each row once, no history. Keeps a bounded number of newest rows."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Row, None] = OrderedDict()
        self.dropped = 0

    def is_news(self, event: Event) -> bool:
        """False for a row seen before, or older than REPLAY_AGE_NS."""
        if event.venue not in _REPLAYING or event.kind != Kind.LIQUIDATION:
            return True
        row = row_of(event)
        stale = event.receive_ns - event.venue_ms * 1_000_000 > REPLAY_AGE_NS
        if stale or row in self._seen:
            self.dropped += 1
            return False
        self.remember((row,))
        return True

    def remember(self, rows: Iterable[Row]) -> None:
        """These rows were told already."""
        for row in rows:
            self._seen[row] = None
            if len(self._seen) > _SEEN_ROWS:
                self._seen.popitem(last=False)

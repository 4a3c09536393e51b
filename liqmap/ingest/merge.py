"""What comes twice and must count once: rows of two connections of one link during a rotation, rows that a venue plays
again when somebody subscribes, and messages that a connection simply repeats. Pure bookkeeping of the router.

Rows without an id may be identical and real (Bybit prints equal liquidations), so connections are compared as
multisets: a row counts if its connection has now shown it more often than any other connection of the link has.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from operator import eq
from typing import Final

from liqmap.domain.enums import Kind
from liqmap.domain.event import NO_INSTRUMENT, Event
from liqmap.domain.instrument import InstrumentTable
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


class Repeats:
    """Whole messages that a connection brings twice in a row, byte for byte. No venue means that: prints carry numbers
    or ids, states and books their times. What cannot be read is none of these: `times` says how often it came."""

    def __init__(self) -> None:
        self._last: dict[int, bytes] = {}
        self._again: Counter[bytes] = Counter()
        self.dropped = 0

    def news(self, connection: int, messages: list[bytes]) -> list[bytes]:
        """The messages of one read without those that only repeat the one before them."""
        before = [self._last.get(connection), *messages]
        self._last[connection] = messages[-1]
        self._again.clear()
        if not any(map(eq, messages, before)):
            return messages
        kept = [raw for raw, last in zip(messages, before, strict=False) if raw != last]
        self._again.update(raw for raw, last in zip(messages, before, strict=False) if raw == last)
        self.dropped += len(messages) - len(kept)
        return kept

    def times(self, connection: int, raw: bytes) -> int:
        """How often a message of the newest read came that cannot be read; its next repetition is news again."""
        if self._last.get(connection) == raw:
            del self._last[connection]
        again = self._again.pop(raw, 0)
        self.dropped -= again
        return 1 + again

    def forget(self, connection: int) -> None:
        """The connection has ended."""
        self._last.pop(connection, None)


class Replays:
    """Liquidations of venues that play them again: each row once, no history. Keeps a bounded number of newest rows.

    Rows are remembered under the contract's name: numbers are given anew when symbols come and go, and what was told
    of a symbol is still told when it comes back.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[tuple[int, str], Row], None] = OrderedDict()
        self._names: dict[int, tuple[int, str]] = {}
        self._ahead_ms: dict[int, int] = {}
        """By venue, our clock less its own."""
        self.dropped = 0

    def use(self, instruments: InstrumentTable) -> None:
        """The numbers of contracts from now on."""
        self._names = {contract.number: (int(contract.venue), contract.name) for contract in instruments}

    def clock(self, event: Event) -> None:
        """A mark price of now: what time it is at its venue. Time goes on from there when marks do not come."""
        self._ahead_ms[event.venue] = event.receive_ns // 1_000_000 - event.venue_ms

    def is_news(self, event: Event) -> bool:
        """False for a row seen before, or older than REPLAY_AGE_NS by its venue's own clock (ours, until that is known:
        no row is history because one of the two clocks is wrong)."""
        if event.venue not in _REPLAYING or event.kind != Kind.LIQUIDATION:
            return True
        row = row_of(event)
        now_ms = event.receive_ns // 1_000_000 - self._ahead_ms.get(event.venue, 0)
        stale = now_ms - event.venue_ms > REPLAY_AGE_NS // 1_000_000
        if stale or self._named(row) in self._seen:
            self.dropped += 1
            return False
        self.remember((row,))
        return True

    def remember(self, rows: Iterable[Row]) -> None:
        """These rows were told already."""
        for row in rows:
            self._seen[self._named(row)] = None
            if len(self._seen) > _SEEN_ROWS:
                self._seen.popitem(last=False)

    def _named(self, row: Row) -> tuple[tuple[int, str], Row]:
        return self._names.get(row[1], (0, "")), (row[0], NO_INSTRUMENT, *row[2:])


class Bars:
    """Bars that are asked for again and again: a bar counts when it is the newest, and once more for each time that
    its value was corrected."""

    def __init__(self) -> None:
        self._newest: dict[tuple[int, int], tuple[int, float]] = {}
        """By contract and kind of ratio: the bar's own time, and its value."""

    def is_news(self, event: Event) -> bool:
        """False for a bar that was told already, or is older than one that was."""
        key, bar = (event.instrument, event.side), (event.venue_ms, event.quantity)
        known = self._newest.get(key)
        if known is not None and (bar[0] < known[0] or bar == known) and not _lies_ahead(known[0], event.receive_ns):
            return False
        self._newest[key] = bar
        return True


def _lies_ahead(bar_ms: int, receive_ns: int) -> bool:
    """A bar of a time to come was a mistake of the venue: the bars of now would be older than it for ever."""
    return bar_ms * 1_000_000 - receive_ns > _AHEAD_NS


_AHEAD_NS: Final = 3600 * 10**9
"""Beyond what a clock of ours may be behind."""

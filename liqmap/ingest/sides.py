"""The running alarm on side conventions: per venue, do liquidations fit the price?

When price falls, longs are liquidated; when it rises, shorts. In every minute whose price moved by at least
MOVED_SHARE and in which the venue printed at least LEAST_EVENTS liquidations of a symbol, the majority side is held
against the direction. A venue that contradicts it in most of its recent minutes has its sides inverted, whatever its
documentation says (the check that needs no label).
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from liqmap.domain.enums import Kind, PositionSide, Venue
from liqmap.domain.event import Event

MOVED_SHARE: Final = 0.002
LEAST_EVENTS: Final = 3
LEAST_MINUTES: Final = 5
ALARM_SHARE: Final = 0.7
WINDOW_MINUTES: Final = 60

_MINUTE_NS: Final = 60 * 10**9


@dataclass(slots=True)
class _Minute:
    """One symbol's running minute."""

    minute: int = -1
    first: float = 0.0
    last: float = 0.0
    balance: dict[int, list[int]] = field(default_factory=dict)
    """By venue: liquidations of longs, and of shorts."""


class SideAlarm:
    """Watches the events of all symbols. Feed it marks and liquidations; ask it per venue."""

    def __init__(self) -> None:
        self._minutes: dict[str, _Minute] = {}
        self._verdicts: dict[int, deque[bool]] = {}

    def note(self, symbol: str, event: Event) -> None:
        """Take a MARK_PRICE or LIQUIDATION event into account; others are ignored."""
        minute = self._minutes.get(symbol)
        if minute is None:
            minute = self._minutes[symbol] = _Minute()
        number = event.receive_ns // _MINUTE_NS
        if number != minute.minute:
            self._close(minute)
            minute.minute, minute.first, minute.balance = number, minute.last, {}
        if event.kind == Kind.MARK_PRICE:
            minute.last = event.price
            minute.first = minute.first or event.price
        elif event.kind == Kind.LIQUIDATION:
            minute.balance.setdefault(event.venue, [0, 0])[event.side != PositionSide.LONG] += 1

    def contradiction(self, venue: Venue) -> str | None:
        """The alarm in words, or None."""
        verdicts = self._verdicts.get(int(venue), ())
        against = sum(verdicts)
        if len(verdicts) < LEAST_MINUTES or against < ALARM_SHARE * len(verdicts):
            return None
        return f"liquidation sides contradict the price in {against} of {len(verdicts)} moving minutes: inverted?"

    def _close(self, minute: _Minute) -> None:
        if minute.first <= 0.0 or abs(minute.last / minute.first - 1.0) < MOVED_SHARE:
            return
        fell = minute.last < minute.first
        for venue, (longs, shorts) in minute.balance.items():
            if longs + shorts >= LEAST_EVENTS and longs != shorts:
                verdicts = self._verdicts.setdefault(venue, deque(maxlen=WINDOW_MINUTES))
                verdicts.append((longs > shorts) != fell)

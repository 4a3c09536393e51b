"""Events in: what they say is sorted into tape, ledger, market sheet and gap book, in the order of their sequence."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Kind, PositionSide
from liqmap.domain.event import FLAG_FROM_BAR, Event
from liqmap.engine.bars import VENUE_CLOCK_NS, Tape
from liqmap.engine.completeness import Completeness
from liqmap.engine.evidence import trigger_price
from liqmap.engine.frames import Liquidation
from liqmap.engine.gaps import GapBook
from liqmap.engine.ledger import Change, OpenInterestLedger
from liqmap.engine.sheet import MarketSheet
from liqmap.engine.spec import MILLISECOND_NS, MINUTE_NS, MINUTE_S, SECOND_NS, EngineSpec

_SIDES_OF_POSITIONS: Final = frozenset(PositionSide)
_NOT_OF_THE_MARKET: Final = (Kind.TICK, Kind.GAP)


class Intake:
    """Collects; never changes the map."""

    def __init__(self, spec: EngineSpec, first_minute_s: int) -> None:
        self.tape = Tape(first_minute_s)
        self.ledger = OpenInterestLedger(spec.oi_max_age_s, spec.oi_jump_limit)
        self.gaps = GapBook()
        self.sheet = MarketSheet()
        self.completeness = Completeness()
        self.events = 0
        self._said_ns = -1
        self._bar_end_ns = -1
        self.liquidations = 0
        self.liquidated_usd = {PositionSide.LONG: 0.0, PositionSide.SHORT: 0.0}
        self.last_trigger = float("nan")
        self.outbox: list[Liquidation] = []
        self._clamp_s = int(spec.trigger_clamp_s)
        self._mmr = spec.trigger_mmr

    def take(self, events: NDArray[np.void], clock_ns: NDArray[np.int64]) -> None:
        """Collect what `events` (EVENT_DTYPE) say; `clock_ns` is engine time at each of them."""
        done = 0
        for i in np.flatnonzero(_IS_SINGLE[events["kind"]]).tolist():
            sequence, *fields = events[i].item()
            event = Event(*fields)
            if event.kind == Kind.LIQUIDATION:  # it is judged by the prices that came before it, and by no later one
                if done < i:
                    self.tape.add(events[done:i])
                done = i
            _SINGLY[event.kind](self, sequence, event, int(clock_ns[i]))
        self.tape.add(events[done:])
        for venue, topic, second in self.tape.doubted():
            self.gaps.missed(venue, topic, second * 1000)
        self.sheet.take(events)
        self.events += len(events)
        self._hear(events, clock_ns)

    def as_of_ns(self, now_ns: int) -> int:
        """The time up to which the market has spoken, -1: never. Ticks and gaps are not the market; a print made from a
        minute bar speaks for the whole of its minute."""
        return min(now_ns, max(self._said_ns, self._bar_end_ns))

    def _hear(self, events: NDArray[np.void], clock_ns: NDArray[np.int64]) -> None:
        market = np.flatnonzero(~np.isin(events["kind"], _NOT_OF_THE_MARKET))
        if len(market):
            self._said_ns = int(clock_ns[market[-1]])
        bars = market[events["flags"][market] & FLAG_FROM_BAR != 0]
        if len(bars):
            self._bar_end_ns = (int(clock_ns[bars[-1]]) // MINUTE_NS + 1) * MINUTE_NS

    def _liquidation(self, sequence: int, event: Event, now_ns: int) -> None:
        has_printed = 0 < event.price < np.inf
        price = event.price if has_printed else event.extra
        if not (0 < price < np.inf and 0 < event.quantity < np.inf and event.side in _SIDES_OF_POSITIONS):
            return
        said_ns = event.venue_ms * MILLISECOND_NS
        time_ns = said_ns if 0 < said_ns <= now_ns + VENUE_CLOCK_NS else now_ns
        second = time_ns // SECOND_NS
        seen = self.tape.range_around(second, self._clamp_s)
        trigger = trigger_price(price, event.side, self._mmr if has_printed else 0.0, seen)
        liquidation = Liquidation(
            id=sequence,
            ts_ms=time_ns // MILLISECOND_NS,
            receive_ns=event.receive_ns,
            venue=event.venue,
            side=event.side,
            printed_price=event.price,
            fill_price=event.extra,
            trigger_price=trigger,
            qty_base=event.quantity,
            notional_usd=event.quantity * trigger,
        )
        self.tape.minute(second).liquidations.append(liquidation)
        self.liquidations += 1
        self.liquidated_usd[PositionSide(event.side)] += liquidation.notional_usd
        self.completeness.printed(liquidation)
        self.last_trigger = trigger
        self.outbox.append(liquidation)

    def _open_interest(self, _sequence: int, event: Event, now_ns: int) -> None:
        self._book(self.ledger.reading(event.venue, event.quantity, now_ns, event.detail), now_ns)
        self.tape.minute(now_ns // SECOND_NS).level_base = self.ledger.total_base

    def _open_interest_change(self, _sequence: int, event: Event, now_ns: int) -> None:
        self._book(self.ledger.change(event.venue, event.quantity, now_ns, event.detail), now_ns)

    def _book(self, change: Change | None, now_ns: int) -> None:
        """A change belongs to the minute in which it became known: a reading is used only from its own time on. It
        happened before: a reading told with the first instant of a minute speaks for the minutes before this one."""
        if change is None:
            return
        tape = self.tape.minute(now_ns // SECOND_NS)
        if not tape.changes:
            tape.previous_base = change.previous_base
        end = ((tape.start_s + MINUTE_S) * SECOND_NS - now_ns) / MINUTE_NS
        tape.changes.append((end + change.span_ns / MINUTE_NS, end, change.change_base))

    def _gap(self, _sequence: int, event: Event, now_ns: int) -> None:
        from_ms = event.venue_ms if event.venue_ms >= 0 else now_ns // MILLISECOND_NS
        self.gaps.note(event.venue, event.topic, from_ms, event.detail)
        self.completeness.gap(event.venue, event.topic, from_ms, event.detail)


_SINGLY: Final[dict[int, Callable[[Intake, int, Event, int], None]]] = {
    Kind.LIQUIDATION: Intake._liquidation,
    Kind.OPEN_INTEREST: Intake._open_interest,
    Kind.OPEN_INTEREST_CHANGE: Intake._open_interest_change,
    Kind.GAP: Intake._gap,
}
"""What is dealt with one by one. Not kept in an Intake: an engine holds nothing that cannot be written down."""

_IS_SINGLE: Final = np.zeros(256, dtype=bool)
_IS_SINGLE[list(_SINGLY)] = True

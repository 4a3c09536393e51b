"""A symbol's past, as its venues tell it, as events in order of time: what was told, and a gap for what was not.

The past begins with the first bar: levels without a price say nothing that a map could use. From there on

* each bar of the venue that tells bars is a path of marks and its trades (`bar_events`), in its minute; bars older than
  COARSE_AFTER_MS are drawn together to bars of COARSE_MIN where none is missing, told in their last minute: the engine
  closes one minute for each bar, and a week has ten thousand minutes;
* each level is an OPEN_INTEREST event of its venue at its own time, covering one period;
* each minute has one TICK, two seconds after its end: it closes the minute (a coarse bar has one, at its end);
* what is missing is a GAP of its feed, `not_recorded`: liquidations of every venue all the time (no venue tells those
  of the past), marks and trades of the venues that tell no bars, bars and levels that are not there. A gap that began
  before the past does is told when it ends.

Every event carries FLAG_BACKFILLED. The last gaps close where the present begins, so that nothing between the past
and the present is taken for quiet.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import numpy as np

from liqmap.domain.enums import GapReason, Kind, Topic
from liqmap.domain.event import EVENT_DTYPE, FLAG_BACKFILLED, MISSING, Event
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import PastBar, PastLevel
from liqmap.ingest.bar_events import MINUTE_MS, MS, Events, blank, interest_of, marks_of, trades_of
from liqmap.ingest.gaps import Feed, Gap

_HOUR_MS: Final = 3_600_000
_TICK_AFTER_MS: Final = 2000
COARSE_MIN: Final = 5
COARSE_AFTER_MS: Final = 4 * _HOUR_MS
_COARSE_MS: Final = COARSE_MIN * MINUTE_MS
_LATEST_LEVEL_MS: Final = 120_000
"""A level is published so long after its time at the latest: what is younger is not missing."""

Stretch = tuple[int, int]
"""From and to, ms."""


@dataclass(frozen=True, slots=True)
class ContractPast:
    """What a venue told of one contract: bars and levels in order of time, the levels `period_ms` apart."""

    contract: Instrument
    period_ms: int
    bars: tuple[PastBar, ...] = ()
    levels: tuple[PastLevel, ...] = ()


def hours_of(pasts: Sequence[ContractPast], asked_ms: int, now_ns: int) -> Iterator[Events]:
    """The events of one symbol in portions of an hour at most, none of them later than `now_ns`, where the present
    begins; `asked_ms`, a whole minute: from where on the past was asked for."""
    now_ms = now_ns // MS
    minutes = [(past.contract, bar) for past in pasts for bar in past.bars if asked_ms <= bar.minute_ms]
    minutes = [(contract, bar) for contract, bar in minutes if bar.minute_ms + MINUTE_MS <= now_ms]
    begin_ms = min((bar.minute_ms for _, bar in minutes), default=now_ms)
    bars, covered = _drawn_together(minutes, now_ms - COARSE_AFTER_MS)
    levels = [(past, level) for past in pasts for level in past.levels if begin_ms <= level.ts_ms <= now_ms]
    parts: defaultdict[int, list[Callable[[], Events]]] = defaultdict(list)
    for gap in _gaps(pasts, asked_ms, now_ms):
        for event in _told(gap, begin_ms, now_ns):
            parts[event.receive_ns // MS // _HOUR_MS].append(partial(_packed, event))
    for past, level in levels:
        parts[level.ts_ms // _HOUR_MS].append(partial(_of_level, past, level))
    for (contract, hour), group in groupby(bars, key=lambda pair: (pair[0], pair[1].minute_ms // _HOUR_MS)):
        parts[hour].append(partial(_of_bars, contract, [bar for _, bar in group]))
    for hour in range(begin_ms // _HOUR_MS, now_ms // _HOUR_MS + 1):
        ticks = _ticks(max(begin_ms, hour * _HOUR_MS), min(now_ms + 1, (hour + 1) * _HOUR_MS), begin_ms, covered)
        events = np.concatenate([*(part() for part in parts.pop(hour, [])), ticks])
        if len(events):
            yield events[np.argsort(events["receive_ns"], kind="stable")]


def _drawn_together(
    minutes: Sequence[tuple[Instrument, PastBar]], until_ms: int
) -> tuple[list[tuple[Instrument, PastBar]], frozenset[int]]:
    """The bars, those before `until_ms` as coarse ones where they are complete; and the minutes that need no TICK."""
    bars: list[tuple[Instrument, PastBar]] = []
    covered: set[int] = set()
    for (contract, begin_ms), group in groupby(
        minutes, key=lambda pair: (pair[0], pair[1].minute_ms - pair[1].minute_ms % _COARSE_MS)
    ):
        fine = [bar for _, bar in group]
        if len(fine) < COARSE_MIN or begin_ms + _COARSE_MS > until_ms:
            bars.extend((contract, bar) for bar in fine)
            continue
        covered.update(bar.minute_ms for bar in fine[:-1])
        coarse = PastBar(
            minute_ms=fine[-1].minute_ms,
            open=fine[0].open,
            high=max(bar.high for bar in fine),
            low=min(bar.low for bar in fine),
            close=fine[-1].close,
            taker_buy_base=sum(bar.taker_buy_base for bar in fine),
            taker_sell_base=sum(bar.taker_sell_base for bar in fine),
            covers_ms=_COARSE_MS,
        )
        bars.append((contract, coarse))
    return bars, frozenset(covered)


def _of_bars(contract: Instrument, bars: Sequence[PastBar]) -> Events:
    events = np.concatenate([marks_of(bars), trades_of(bars)])
    return _of_contract(events, contract)


def _of_level(past: ContractPast, level: PastLevel) -> Events:
    event = interest_of(Kind.OPEN_INTEREST, level.ts_ms, level.open_interest_base, past.period_ms)
    return _of_contract(event, past.contract)


def _of_contract(events: Events, contract: Instrument) -> Events:
    events["venue"], events["instrument"] = contract.venue, contract.number
    events["flags"] |= FLAG_BACKFILLED
    return events


def _ticks(from_ms: int, to_ms: int, begin_ms: int, covered: frozenset[int]) -> Events:
    """Those in [from_ms, to_ms) that close a minute which began at `begin_ms` or later and is not `covered`."""
    first_ms = max(begin_ms + MINUTE_MS, from_ms - from_ms % MINUTE_MS) + _TICK_AFTER_MS
    closing = range(first_ms, to_ms, MINUTE_MS)
    times_ms = np.array([at for at in closing if at - _TICK_AFTER_MS - MINUTE_MS not in covered], dtype=np.int64)
    events = blank(len(times_ms))
    events["kind"], events["flags"], events["receive_ns"] = Kind.TICK, FLAG_BACKFILLED, times_ms * MS
    return events


def _packed(event: Event) -> Events:
    return np.frombuffer(event.packed(0), dtype=EVENT_DTYPE)


# Gaps -----------------------------------------------------------------------------------------------------------------


def _gaps(pasts: Sequence[ContractPast], asked_ms: int, now_ms: int) -> Iterator[Gap]:
    """What is missing of [asked_ms, now_ms), by feed."""
    for past in pasts:
        minutes = [(bar.minute_ms, bar.minute_ms + MINUTE_MS) for bar in past.bars if bar.minute_ms < now_ms]
        spans = [(level.ts_ms - past.period_ms, level.ts_ms) for level in past.levels if level.ts_ms <= now_ms]
        if spans and now_ms - spans[-1][1] <= past.period_ms + _LATEST_LEVEL_MS:
            spans.append((spans[-1][1], now_ms))
        told = {Topic.LIQUIDATION: [], Topic.MARK_PRICE: minutes, Topic.TRADE: minutes, Topic.OPEN_INTEREST: spans}
        for topic, covered in told.items():
            feed = Feed(past.contract.venue, topic, past.contract.symbol or "")
            for from_ms, to_ms in _holes(covered, asked_ms, now_ms):
                yield Gap(feed, from_ms, GapReason.NOT_RECORDED, to_ms)


def _holes(covered: Sequence[Stretch], from_ms: int, to_ms: int) -> Iterator[Stretch]:
    """What the stretches, in order of time, leave out of [from_ms, to_ms)."""
    for begin_ms, end_ms in covered:
        if begin_ms > from_ms:
            yield from_ms, min(begin_ms, to_ms)
        from_ms = max(from_ms, end_ms)
    if from_ms < to_ms:
        yield from_ms, to_ms


def _told(gap: Gap, begin_ms: int, now_ns: int) -> Iterator[Event]:
    """The events of a gap whose end is known: that it opened, unless it was over when the past began, and that it
    closed."""
    if gap.to_ms > begin_ms:
        yield _flagged(replace(gap, to_ms=MISSING), max(gap.from_ms, begin_ms) * MS)
    closed_ms = max(gap.to_ms, begin_ms)
    yield _flagged(gap, min(closed_ms * MS, now_ns))


def _flagged(gap: Gap, receive_ns: int) -> Event:
    return gap.event(receive_ns)._replace(flags=FLAG_BACKFILLED)

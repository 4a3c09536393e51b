"""Recorded tables of one symbol as events, minute by minute: the same tables give the same events, whoever asks when.

How a row becomes events (docs/decisions/0007):

* a minute bar: a path of marks, and trades where its taker volumes are known (see `bar_events`). A bar that knows only
  the taker share makes no trades: a volume would be invented.
* an hourly close: one OPEN_INTEREST level in base (dollars / price) at the END of its hour, covering that hour. At the
  start of a replay the last level that was already known is said once.
* open interest of a bar: a level at the end of its minute; if a symbol has these, its hourly levels are left out, and
  if it has any level, changes are left out (one series per symbol).
* a minute without a bar: a GAP of marks and trades, and of liquidations unless some were recorded in it.
* TICKs each 250 ms, after whatever happened at the same instant.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np

from liqmap.domain.enums import GapReason, Kind, Topic, Venue
from liqmap.domain.event import EVENT_DTYPE
from liqmap.ingest.bar_events import MINUTE_MS, MS, Events, blank, interest_of, marks_of, trades_of
from liqmap.ingest.gaps import Feed, Gap
from liqmap.store.tables import (
    Bar,
    HourlyLevel,
    RecordedLiquidation,
    TableError,
    TableSet,
    read_bars,
    read_hourly,
    read_liquidations,
)

_HOUR_MS: Final = 3_600_000


class Minute(NamedTuple):
    """One minute of one symbol: events in order of time without numbers, and the gaps that opened or closed."""

    minute_ms: int
    events: Events
    gaps: tuple[Gap, ...]


Row = TypeVar("Row", bound=tuple[Any, ...])


class _Rows(Generic[Row]):
    """Rows of one table with the next one in view (`head`). A fault ends them and is kept in `fault`."""

    def __init__(self, rows: Iterator[Row] | None) -> None:
        self._rows = rows
        self.head: Row | None = None
        self.fault: TableError | None = None
        self.take()

    def take(self) -> Row | None:
        """The head; the next row becomes the head."""
        taken = self.head
        try:
            self.head = next(self._rows, None) if self._rows is not None else None
        except TableError as error:
            self.head, self.fault = None, error
        return taken

    def skip_to(self, time_ms: int) -> Row | None:
        """Pass over rows before `time_ms`; returns the last of them."""
        last = None
        while self.head is not None and self.head[0] < time_ms:
            last = self.take()
        return last

    def until(self, time_ms: int) -> list[Row]:
        """Take the rows before `time_ms`."""
        taken = []
        while self.head is not None and self.head[0] < time_ms:
            row = self.take()
            if row is not None:
                taken.append(row)
        return taken


class TableTape:
    """The recorded time of one symbol, played once from `from_ms` (a whole minute) on; `end_ms`: after its last bar."""

    def __init__(self, tables: TableSet, from_ms: int, tick_ms: int) -> None:
        """Raises TableError for a broken header and OSError; faults further down end a table: see `faults`."""
        self.symbol = tables.symbol
        self.minute_ms = from_ms - from_ms % MINUTE_MS
        survey = _surveyed(tables.bars) if tables.bars else _Survey(from_ms, False)
        self.end_ms = survey.end_ms
        self._levels_in_bars = survey.levels
        self._changes_count = not survey.levels and tables.hourly is None
        self._bars = _Rows(read_bars(tables.bars) if tables.bars else None)
        self._liquidations = _Rows(read_liquidations(tables.liquidations) if tables.liquidations else None)
        self._hourly = _Rows(read_hourly(tables.hourly) if tables.hourly and not survey.levels else None)
        self._ticks = blank(MINUTE_MS // tick_ms)
        self._ticks["kind"] = Kind.TICK
        self._ticks["receive_ns"] = np.arange(len(self._ticks)) * (tick_ms * MS)
        self._open: dict[Topic, Gap] = {}
        self._late: list[Events] = []
        self._begin()

    @property
    def faults(self) -> list[TableError]:
        """What could not be read; the rows before it were played."""
        tables = (self._bars, self._liquidations, self._hourly)
        return [table.fault for table in tables if table.fault is not None]

    def next_minute(self) -> Minute:
        """The events of the minute at `minute_ms`, which then moves on. There is no last one: see `end_ms`."""
        start_ms, end_ms = self.minute_ms, self.minute_ms + MINUTE_MS
        bar = self._bars.take() if self._bars.head is not None and self._bars.head.minute_ms == start_ms else None
        gaps = self._gaps(start_ms, bar is not None)
        parts = [_of_gaps(gaps, start_ms), *self._late]
        self._late = []
        if bar is not None:
            parts += [marks_of([bar]), trades_of([bar])]
            self._known_at_end(bar, end_ms)
        self._hourly_known_at(end_ms)
        parts.append(_of_liquidations(self._liquidations.until(end_ms)))
        ticks = self._ticks.copy()
        ticks["receive_ns"] += start_ms * MS
        events = np.concatenate([*parts, ticks])
        self.minute_ms = end_ms
        return Minute(start_ms, events[np.argsort(events["receive_ns"], kind="stable")], gaps)

    def _begin(self) -> None:
        """Leave out what lies before the start; say the last level that was known then, unless it is too old."""
        self._bars.skip_to(self.minute_ms)
        self._liquidations.skip_to(self.minute_ms)
        known = self._hourly.skip_to(self.minute_ms - _HOUR_MS + 1)
        if known is not None and self.minute_ms - known.hour_ms < 2 * _HOUR_MS:
            self._late.append(_level(known, self.minute_ms))

    def _hourly_known_at(self, end_ms: int) -> None:
        """Hours that end with this minute are known from its end on."""
        for row in self._hourly.until(end_ms - _HOUR_MS + 1):
            self._late.append(_level(row, end_ms))

    def _known_at_end(self, bar: Bar, end_ms: int) -> None:
        if self._levels_in_bars:
            self._late.append(interest_of(Kind.OPEN_INTEREST, end_ms, bar.open_interest_base, MINUTE_MS))
        elif self._changes_count:
            change_base = bar.open_interest_change_usd / bar.close
            self._late.append(interest_of(Kind.OPEN_INTEREST_CHANGE, end_ms, change_base, MINUTE_MS))

    def _gaps(self, start_ms: int, recorded: bool) -> tuple[Gap, ...]:
        """Gaps that open or close at the start of this minute."""
        if recorded:
            closed = tuple(replace(gap, to_ms=start_ms) for gap in self._open.values())
            self._open = {}
            return closed
        if not self._open:
            for topic in self._missing_topics():
                self._open[topic] = Gap(Feed(Venue.UNKNOWN, topic, self.symbol), start_ms, GapReason.NOT_RECORDED)
            return tuple(self._open.values())
        return ()

    def _missing_topics(self) -> tuple[Topic, ...]:
        """Without bars no marks and trades; no liquidations either, if none was recorded until the next bar."""
        bar, liquidation = self._bars.head, self._liquidations.head
        back_ms = bar.minute_ms if bar is not None else None
        some = liquidation is not None and (back_ms is None or liquidation.ts_ms < back_ms)
        if some:
            return (Topic.MARK_PRICE, Topic.TRADE)
        return (Topic.MARK_PRICE, Topic.TRADE, Topic.LIQUIDATION)


class _Survey(NamedTuple):
    """What has to be known of the bars before they are played: where they end, and whether they carry levels."""

    end_ms: int
    levels: bool


def _surveyed(path: Path) -> _Survey:
    """Read the bars once. A fault further down is met again, and told, when they are played."""
    end_ms, levels = 0, False
    try:
        for bar in read_bars(path):
            end_ms = bar.minute_ms + MINUTE_MS
            levels = levels or not math.isnan(bar.open_interest_base)
    except TableError as error:
        if error.line == 1:
            raise
    return _Survey(end_ms, levels)


def _level(row: HourlyLevel, known_ms: int) -> Events:
    base = row.open_interest_usd_close / row.price_close
    event = interest_of(Kind.OPEN_INTEREST, known_ms, base, _HOUR_MS)
    event["venue_ms"] = row.hour_ms + _HOUR_MS
    return event


def _of_liquidations(rows: list[RecordedLiquidation]) -> Events:
    events = blank(len(rows))
    if rows:
        columns = list(zip(*rows, strict=True))
        events["kind"], events["topic"] = Kind.LIQUIDATION, Topic.LIQUIDATION
        for name, column in zip(("venue_ms", "venue", "side", "price", "quantity"), columns, strict=True):
            events[name] = column
        events["receive_ns"] = events["venue_ms"] * MS
    return events


def _of_gaps(gaps: tuple[Gap, ...], at_ms: int) -> Events:
    packed = b"".join(gap.event(at_ms * MS).packed(0) for gap in gaps)
    return np.frombuffer(packed, dtype=EVENT_DTYPE)

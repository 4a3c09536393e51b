"""From prints to one bar per minute: OHLC of the reference price, taker volumes and the change of open interest.

The reference price stands for the mark: each second takes the first source of the chain mark (of any venue), mid,
last trade that has spoken within FRESH_S. So a dead mark feed in the middle of a minute hands over to mid in the middle
of that minute. Everything of a minute is in one `MinuteBar`, so that no share of one minute ever meets the open
interest of another. Sums are taken in the order of arrival, so that no cut of the stream into batches changes a bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Kind, PriceSource
from liqmap.domain.event import FLAG_FROM_BAR
from liqmap.engine.frames import Liquidation
from liqmap.engine.guard import FRESH_S, PriceGuard
from liqmap.engine.spec import MINUTE_S, SECOND_NS

VENUE_CLOCK_NS: Final = 5 * SECOND_NS
"""A venue's own time is believed while it lies this close to the time of receipt."""

CHAIN: Final = (PriceSource.MARK, PriceSource.MID, PriceSource.LAST_TRADE)
LONGEST_BAR_MIN: Final = 60
_SOURCES: Final = len(CHAIN)
_TRADES: Final = CHAIN.index(PriceSource.LAST_TRADE)
_NEVER: Final = -(10**9)

_SOURCE_OF_KIND: Final = np.full(256, -1, dtype=np.int64)
_SOURCE_OF_KIND[[Kind.MARK_PRICE, Kind.MID_PRICE, Kind.TRADE]] = range(_SOURCES)


@dataclass(frozen=True, slots=True)
class OpenInterestStep:
    """What is known of a minute's change of open interest: base, one-sided; NaN is unknown.

    `change_base` is the net change over all venues, `previous_base` the level before the first one, `spans` are
    (begin, end, change) of each: the stretch in which it happened, in minutes before the end of this minute.
    `level_base` is the sum of the last known levels at the end of the minute: together with the change it is one pair,
    and what the level moved beyond the change is a venue that came or returned. `fresh`: some venue's level is not too
    old.
    """

    change_base: float
    previous_base: float
    spans: tuple[tuple[float, float, float], ...]
    level_base: float
    fresh: bool

    @property
    def untold(self) -> float:
        """The part of the minute, 0 to 1, that came after its readings: the mean over them; 1 without any."""
        ends = [min(max(end, 0.0), 1.0) for _, end, _ in self.spans]
        return sum(ends) / len(ends) if ends else 1.0


@dataclass(frozen=True, slots=True)
class MinuteBar:
    """One minute. Prices are NaN when nobody spoke, volumes when no trade came and a trade feed was missing."""

    minute_ms: int
    open: float
    high: float
    low: float
    close: float
    taker_buy_base: float
    taker_sell_base: float
    open_interest: OpenInterestStep
    covers_min: int = 1
    """How many minutes it stands for: more than one where the past is told in coarser bars, whose last minute it is."""
    trades_missing: bool = False
    """A trade feed had a gap in it: the volumes are less than what was traded."""

    @property
    def known(self) -> bool:
        """Whether the minute has prices."""
        return self.close == self.close

    @property
    def volume_base(self) -> float:
        """All that was traded, NaN: unknown."""
        return np.nan if self.trades_missing else self.taker_buy_base + self.taker_sell_base


@dataclass(slots=True)
class MinuteTape:
    """What was printed in one minute, per source and second, while it is open."""

    start_s: int
    first: NDArray[np.float64] = field(default_factory=lambda: np.full(_SOURCES * MINUTE_S, np.nan))
    last: NDArray[np.float64] = field(default_factory=lambda: np.full(_SOURCES * MINUTE_S, np.nan))
    low: NDArray[np.float64] = field(default_factory=lambda: np.full(_SOURCES * MINUTE_S, np.inf))
    high: NDArray[np.float64] = field(default_factory=lambda: np.full(_SOURCES * MINUTE_S, -np.inf))
    taker_base: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    second_base: NDArray[np.float64] = field(default_factory=lambda: np.zeros(MINUTE_S))
    """Traded volume of each second; what minute bars sum up is not in it."""
    trades: int = 0
    liquidations: list[Liquidation] = field(default_factory=list)
    changes: list[tuple[float, float, float]] = field(default_factory=list)
    """(begin, end, change of open interest), as they became known; see OpenInterestStep.spans."""
    previous_base: float = float("nan")
    covers_min: int = 1
    from_bar: bool = False
    """Its marks say where price was within the minute, not within a second."""
    level_base: float = float("nan")
    """The sum of the levels after the last reading of this minute, NaN: there was none in it."""

    def print(self, cells: NDArray[np.int64], prices: NDArray[np.float64]) -> None:
        """Prints in order of arrival; cell = source * 60 + second of the minute."""
        np.minimum.at(self.low, cells, prices)
        np.maximum.at(self.high, cells, prices)
        self.last[cells] = prices  # of several prints in one second the last one stays
        unseen = np.isnan(self.first[cells])
        self.first[cells[unseen][::-1]] = prices[unseen][::-1]

    def trade(self, trades: NDArray[np.void], seconds: NDArray[np.int64]) -> None:
        """Volumes by TakerSide (0, not said, is kept apart) and by second, in order of arrival."""
        taker_sides, quantities = trades["side"], trades["quantity"]
        np.add.at(self.taker_base, np.minimum(taker_sides, 2) * (taker_sides <= 2), quantities)
        self.trades += len(quantities)
        singly = trades["flags"] & FLAG_FROM_BAR == 0
        if singly.all():
            np.add.at(self.second_base, seconds - self.start_s, quantities)
        else:
            np.add.at(self.second_base, seconds[singly] - self.start_s, quantities[singly])

    def volume_at_price(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(lowest, highest, volume) of the trades of each second that had some at a believed price."""
        trades = slice(_TRADES * MINUTE_S, (_TRADES + 1) * MINUTE_S)
        low, high = self.low[trades], self.high[trades]
        held = (self.second_base > 0) & (low <= high)
        return low[held], high[held], self.second_base[held]

    def step(self, carried_base: float, *, fresh: bool) -> OpenInterestStep:
        """The booked changes, put together; `carried_base`: the level before this minute."""
        return OpenInterestStep(
            change_base=sum(change for _, _, change in self.changes) if self.changes else np.nan,
            previous_base=self.previous_base,
            spans=tuple(self.changes),
            level_base=self.level_base if self.level_base == self.level_base else carried_base,
            fresh=fresh,
        )

    def absorb(self, earlier: "MinuteTape", minutes: int) -> None:
        """Take over what became known `minutes` earlier, within the bar that this one stands for."""
        self.liquidations[:0] = earlier.liquidations
        shifted = [(begin + minutes, end + minutes, change) for begin, end, change in earlier.changes]
        if earlier.changes:
            self.previous_base = earlier.previous_base
        self.changes[:0] = shifted
        if self.level_base != self.level_base:
            self.level_base = earlier.level_base

    def range_of(self, source: int, from_s: int, to_s: int) -> tuple[float, float]:
        """Lowest and highest print of a source in the seconds from_s..to_s; (inf, -inf) without any."""
        a = source * MINUTE_S + max(0, from_s - self.start_s)
        b = source * MINUTE_S + min(MINUTE_S, to_s - self.start_s + 1)
        return (float(self.low[a:b].min()), float(self.high[a:b].max())) if b > a else (np.inf, -np.inf)


class Tape:
    """The open minute, minutes that events already speak of, and the last closed one; and the newest prices."""

    def __init__(self, first_minute_s: int) -> None:
        self.open_s = first_minute_s
        self.index_price = float("nan")
        self._minutes: dict[int, MinuteTape] = {}
        self._closed: MinuteTape | None = None
        self._newest = [(float("nan"), _NEVER * SECOND_NS)] * _SOURCES
        self._carried = [(float("nan"), _NEVER)] * _SOURCES
        self._traded = False
        self._level_base = float("nan")
        self._from_bars = False
        self._guard = PriceGuard(_SOURCES)
        self._doubted: list[tuple[int, int, int]] = []

    @property
    def held_back(self) -> int:
        """Prices that were not believed (see `guard`), all in all."""
        return self._guard.held_back

    def doubted(self) -> list[tuple[int, int, int]]:
        """(venue, topic, second) of the prices held back since the last call."""
        doubted, self._doubted = self._doubted, []
        return doubted

    def minute(self, second: int) -> MinuteTape:
        """The tape to write an event of that second on: a late one counts into the minute that is open."""
        start_s = max(self.open_s, second - second % MINUTE_S)
        tape = self._minutes.get(start_s)
        if tape is None:
            tape = self._minutes[start_s] = MinuteTape(start_s)
        return tape

    @property
    def open_liquidations(self) -> tuple[Liquidation, ...]:
        """Those of the open minute so far."""
        tape = self._minutes.get(self.open_s)
        return tuple(tape.liquidations) if tape else ()

    def covered(self, until_s: int) -> set[int]:
        """Start seconds of the minutes up to `until_s` that a later one, up to there as well, stands for."""
        return {
            start_s - back * MINUTE_S
            for start_s, tape in self._minutes.items()
            if start_s <= until_s
            for back in range(1, tape.covers_min)
        }

    def spoken_of(self, until_s: int) -> list[int]:
        """Start seconds, rising, of the minutes up to `until_s` that have events."""
        return sorted(start_s for start_s in self._minutes if start_s <= until_s)

    def add(self, events: NDArray[np.void]) -> None:
        """Take the marks, mids and trades among `events` (EVENT_DTYPE); other kinds and impossible prices are left.

        Of a trade whose price is not believed the quantity still counts.
        """
        prices = events["price"]
        sources = _SOURCE_OF_KIND[events["kind"]]
        keep = (sources >= 0) & (prices > 0) & (prices < np.inf)
        if not keep.all():
            events, prices, sources = events[keep], prices[keep], sources[keep]
        if len(events) == 0:
            return
        times_ns = event_times(events)
        seconds = np.maximum(times_ns // SECOND_NS, self.open_s)
        self._count_trades(events, seconds)
        believed = self._guard.believes(events, prices, sources, times_ns)
        if believed is not None:
            for row, second in zip(events[~believed], seconds[~believed].tolist(), strict=True):
                self._doubted.append((int(row["venue"]), int(row["topic"]), second))
            events, prices, sources = events[believed], prices[believed], sources[believed]
            times_ns, seconds = times_ns[believed], seconds[believed]
        if len(events):
            self._remember(events, prices, sources, times_ns)
            for tape, own in self._by_minute(seconds):
                tape.print(sources[own] * MINUTE_S + (seconds[own] - tape.start_s), prices[own])
            self._stretch(events, sources, seconds)

    def _stretch(self, events: NDArray[np.void], sources: NDArray[np.int64], seconds: NDArray[np.int64]) -> None:
        """Minutes whose marks were made from bars, and how long those are (`detail`, ms)."""
        from_bars = (sources == 0) & (events["flags"] & FLAG_FROM_BAR != 0)
        for at in np.flatnonzero(from_bars).tolist():
            tape = self.minute(int(seconds[at]))
            tape.from_bar = True
            tape.covers_min = min(max(int(events["detail"][at]) // (MINUTE_S * 1000), 1), LONGEST_BAR_MIN)

    def _count_trades(self, events: NDArray[np.void], seconds: NDArray[np.int64]) -> None:
        quantities = events["quantity"]
        traded = (events["kind"] == Kind.TRADE) & (quantities > 0) & (quantities < np.inf)
        if not traded.any():
            return
        self._traded = True
        trades, seconds = events[traded], seconds[traded]
        for tape, own in self._by_minute(seconds):
            tape.trade(trades[own], seconds[own])

    def _by_minute(self, seconds: NDArray[np.int64]) -> Iterator[tuple[MinuteTape, NDArray[np.bool_] | slice]]:
        """The minutes that these seconds belong to, each with the places that are its own."""
        starts = seconds - seconds % MINUTE_S
        lowest, highest = int(starts.min()), int(starts.max())
        if lowest == highest:
            yield self.minute(lowest), slice(None)
            return
        for start_s in np.unique(starts).tolist():
            yield self.minute(start_s), starts == start_s

    def _remember(
        self,
        events: NDArray[np.void],
        prices: NDArray[np.float64],
        sources: NDArray[np.int64],
        times_ns: NDArray[np.int64],
    ) -> None:
        for source in range(_SOURCES):
            at = np.flatnonzero(sources == source)
            if len(at):
                self._newest[source] = float(prices[at[-1]]), int(times_ns[at[-1]])
        marks = events["extra"][sources == 0]
        known = marks[marks > 0]
        if len(known):
            self.index_price = float(known[-1])
        self._from_bars = bool(events["flags"][-1] & FLAG_FROM_BAR)

    def newest(self, now_ns: int) -> tuple[float, PriceSource | None, int]:
        """The reference price now: (price, source, its time), by the chain; the freshest when none is fresh."""
        for source, (price, at_ns) in zip(CHAIN, self._newest, strict=True):
            if now_ns - at_ns <= FRESH_S * SECOND_NS:
                return price, source, at_ns
        freshest = max(range(_SOURCES), key=lambda place: (self._newest[place][1], -place))
        price, at_ns = self._newest[freshest]
        return (price, CHAIN[freshest], at_ns) if price == price else (price, None, -1)

    def at_close(self) -> tuple[float, PriceSource | None, int]:
        """The same at the end of the last closed minute: nothing that was said of later minutes."""
        end_s = self.open_s
        for source, (price, at_s) in zip(CHAIN, self._carried, strict=True):
            if end_s - 1 - at_s <= FRESH_S:
                return price, source, at_s * SECOND_NS
        freshest = max(range(_SOURCES), key=lambda place: (self._carried[place][1], -place))
        price, at_s = self._carried[freshest]
        return (price, CHAIN[freshest], at_s * SECOND_NS) if price == price else (price, None, -1)

    @property
    def last_trade(self) -> float:
        """Price of the newest trade, NaN without any."""
        return self._newest[CHAIN.index(PriceSource.LAST_TRADE)][0]

    def range_around(self, second: int, reach_s: int) -> tuple[float, float] | None:
        """Range of the reference price within `reach_s` of a second, as far as it is known by now; None: unknown.

        Prices that were made from minute bars say where price was within their minute, not within their second.
        """
        if self._from_bars:
            reach_s = MINUTE_S
        from_s, to_s = second - reach_s, second + reach_s
        tapes = [tape for tape in (self._closed, *self._minutes.values()) if tape is not None]
        for source in range(_SOURCES):
            ranges = [tape.range_of(source, from_s, to_s) for tape in tapes]
            low = min((low for low, _ in ranges), default=np.inf)
            if low < np.inf:
                return low, max(high for _, high in ranges)
            price, at_ns = self._newest[source]
            if 0 <= second - at_ns // SECOND_NS <= FRESH_S:
                return price, price
        return None

    def open_range(self, now_ns: int) -> tuple[float, float] | None:
        """Range of the reference price in the open minute so far, None: nobody spoke."""
        tape = self._minutes.get(self.open_s)
        if tape is None:
            return None
        _, low, high, _ = self._ohlc(tape, min(MINUTE_S, max(1, now_ns // SECOND_NS - self.open_s + 1)))
        return (low, high) if low == low else None

    def close(self, minute_s: int, *, trades_missing: bool, levels_fresh: bool) -> tuple[MinuteBar, MinuteTape]:
        """Close the minute that starts at `minute_s`; the next one is open from here on.

        `trades_missing`: a trade feed had a gap in it, so a minute without any trade is unknown, not quiet.
        `levels_fresh`: some venue's open interest is known and not too old at its end.
        """
        tape = self._minutes.pop(minute_s, None) or MinuteTape(minute_s)
        for back in range(1, tape.covers_min):
            earlier = self._minutes.pop(minute_s - back * MINUTE_S, None)
            if earlier is not None:
                tape.absorb(earlier, back)
        open_, low, high, close = self._ohlc(tape, MINUTE_S)
        unknown = tape.trades == 0 and (trades_missing or not self._traded)
        buy, sell = (np.nan, np.nan) if unknown else tape.taker_base[1:].tolist()
        for source in range(_SOURCES):
            row = tape.last[source * MINUTE_S : (source + 1) * MINUTE_S]
            printed = np.flatnonzero(~np.isnan(row))
            if len(printed):
                self._carried[source] = float(row[printed[-1]]), minute_s + int(printed[-1])
        self._closed = tape
        self.open_s = minute_s + MINUTE_S
        step = tape.step(self._level_base, fresh=levels_fresh)
        self._level_base = step.level_base
        bar = MinuteBar(minute_s * 1000, open_, high, low, close, buy, sell, step, tape.covers_min, trades_missing)
        return bar, tape

    def _ohlc(self, tape: MinuteTape, seconds: int) -> tuple[float, float, float, float]:
        """Open, low, high, close of the reference price over the first `seconds` of a minute; NaN: nobody spoke."""
        nobody = (np.nan, np.nan, np.nan, np.nan)
        if np.isnan(tape.last).all():
            return nobody
        second = np.arange(seconds)
        open_, low, high, close = (np.full(seconds, np.nan) for _ in range(4))
        for source in reversed(range(_SOURCES)):
            block = slice(source * MINUTE_S, source * MINUTE_S + seconds)
            last, first = tape.last[block], tape.first[block]
            printed = ~np.isnan(last)
            newest = np.maximum.accumulate(np.where(printed, second, -1))
            price, at_s = self._carried[source]
            held = np.where(newest >= 0, last[newest], price)
            age = second - np.where(newest >= 0, newest, at_s - tape.start_s)
            use = age <= FRESH_S
            open_[use] = np.where(printed, first, held)[use]
            low[use] = np.where(printed, tape.low[block], held)[use]
            high[use] = np.where(printed, tape.high[block], held)[use]
            close[use] = held[use]
        known = np.flatnonzero(~np.isnan(close))
        if len(known) == 0:
            return nobody
        return float(open_[known[0]]), float(low[known].min()), float(high[known].max()), float(close[known[-1]])


def event_times(events: NDArray[np.void]) -> NDArray[np.int64]:
    """Time of each event, ns: the venue's own where it lies within VENUE_CLOCK_NS of receipt, else that of receipt."""
    receive_ns = events["receive_ns"]
    venue_ns = events["venue_ms"] * 1_000_000
    return np.asarray(np.where(np.abs(venue_ns - receive_ns) <= VENUE_CLOCK_NS, venue_ns, receive_ns), dtype=np.int64)

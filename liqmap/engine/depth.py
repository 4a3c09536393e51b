"""Order-book frames: the time-weighted mean of what stood in the books, from samples of the depth board.

A sample holds until the next one, at most `hold_ns`: what ingest did not tell in time (it stalled, a worker was away)
is not integrated and shows as less covered time. Frames begin at multiples of their length. A frame closes at the
first sample behind its end, or when somebody looks later than anything could still be said about it; a frame without
a sample of its own is not made. The same samples give the same frames, however they are cut into pieces.

A book that stops being whole was last known when its venue last spoke of it, not when that was noticed: what it was
shown for in between is taken back, as far as the frame is still open (pieces of time wait until every shown book has
spoken after them). So a half-open connection is less covered time, not a frozen book.

Cells are told apart by bucket, so a window that moves within a frame loses nothing. A cell's mean is over the time in
which it was known; NaN: never known, 0: known to be empty.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import BookState

MS_NS: Final = 1_000_000
SPAN: Final = 2
"""A frame's cells reach over at most so many times the capacity of a window while it is open."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DepthSpec:
    """What the configuration says. `capacity`: cells of a frame; `range_pct`: the band of the totals, about the middle;
    `hold_ns`: how long a sample speaks for the time behind it."""

    frame_ns: int
    hold_ns: int
    range_pct: float
    step: float
    capacity: int


@dataclass(frozen=True, slots=True)
class DepthSample:
    """The order books of one symbol at one moment; arrays by venue number, less one.

    `usd[venue, side, cell]`: dollars in bucket `first_bucket + cell`, side 0 bid and 1 ask, NaN unknown.
    `states`: BookState, 0 where no book is wanted. Prices are NaN while unknown. `heard_ns`: when the venue last spoke
    of the book, -1 never. `resyncs` and `snapshots` count since ingest began.
    """

    as_of_ns: int
    first_bucket: int
    usd: NDArray[np.floating]
    states: NDArray[np.integer]
    heard_ns: NDArray[np.integer]
    best_bid: Floats
    best_ask: Floats
    complete_low: Floats
    complete_high: Floats
    resyncs: NDArray[np.integer]
    snapshots: NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class BookMeans:
    """One venue within one frame, or all of them while all were whole. `*_usd`: bid, ask, within the band.

    `complete_low`, `complete_high`: between them nothing was ever missing; NaN when there is no such range.
    """

    covered_ms: float
    resyncs: int
    complete_low: float
    complete_high: float
    total_usd: Floats
    total_min_usd: Floats
    total_max_usd: Floats


@dataclass(frozen=True, slots=True)
class BookFrame:
    """One closed frame. `usd[venue, side, cell]` are the means, bucket of cell i is `first_bucket + i`.

    `mid_*`: the mean of the middles of the whole books, at the first covered moment, over time, at the last one.
    """

    t_ms: int
    interval_ms: int
    first_bucket: int
    step: float
    mid_open: float
    mid_mean: float
    mid_close: float
    samples: int
    summed: BookMeans
    venues: tuple[BookMeans, ...]
    usd: Floats


class DepthIntegrator:
    """Samples in, frames out; one symbol."""

    def __init__(self, spec: DepthSpec) -> None:
        self._spec = spec
        self._held: _Moment | None = None
        self._reached_ns = 0
        self._open: _OpenFrame | None = None
        self._waiting: list[_Piece] = []
        self._before: DepthSample | None = None

    def add(self, sample: DepthSample) -> list[BookFrame]:
        """What is closed by this sample. A sample that is older than the one before says nothing."""
        if self._held is not None and sample.as_of_ns < self._held.as_of_ns:
            return []
        closed = self._advance(sample.as_of_ns)
        self._take_back(sample)
        self._held = _Moment.of(sample, self._spec)
        self._reached_ns = max(self._reached_ns, sample.as_of_ns)
        frame = self._frame_at(self._reached_ns, len(self._held.whole))
        frame.samples += sample.as_of_ns >= frame.begin_ns
        frame.resyncs += self._new_resyncs(sample)
        spoken_ns = sample.heard_ns[self._held.whole]
        self._settle(int(spoken_ns.min()) if len(spoken_ns) else sample.as_of_ns)
        self._before = sample
        return closed

    def look(self, now_ns: int) -> list[BookFrame]:
        """What is closed because the market's time has come to `now_ns` and no further sample can speak for it."""
        if self._open is None or now_ns < self._open.begin_ns + self._spec.frame_ns + self._spec.hold_ns:
            return []
        return self._advance(now_ns)

    def _advance(self, to_ns: int) -> list[BookFrame]:
        """Let the held sample speak as long as it may, then close every frame that ends by `to_ns`."""
        closed: list[BookFrame] = []
        held = self._held
        if held is not None:
            until_ns = min(to_ns, held.as_of_ns + self._spec.hold_ns)
            while self._reached_ns < until_ns:
                frame = self._frame_at(self._reached_ns, len(held.whole))
                piece_ns = min(until_ns, frame.begin_ns + self._spec.frame_ns)
                self._waiting.append(_Piece(held, self._reached_ns, piece_ns))
                self._reached_ns = piece_ns
                closed += self._close_by(piece_ns)
        return closed + self._close_by(to_ns)

    def _close_by(self, now_ns: int) -> list[BookFrame]:
        frame = self._open
        if frame is None or frame.begin_ns + self._spec.frame_ns > now_ns:
            return []
        self._settle(now_ns)
        self._open = None
        self._reached_ns = max(self._reached_ns, frame.begin_ns + self._spec.frame_ns)
        return [frame.closed()] if frame.samples else []

    def _frame_at(self, time_ns: int, venues: int) -> "_OpenFrame":
        if self._open is None:
            self._open = _OpenFrame(time_ns - time_ns % self._spec.frame_ns, venues, self._spec)
        return self._open

    def _settle(self, until_ns: int) -> None:
        """Integrate the pieces that nothing can be taken back of any more: all books spoke at `until_ns` or later."""
        frame = self._open
        while frame is not None and self._waiting and self._waiting[0].to_ns <= until_ns:
            piece = self._waiting.pop(0)
            frame.integrate(piece.moment, piece.to_ns - piece.from_ns)

    def _take_back(self, sample: DepthSample) -> None:
        """The silence of books that had said nothing for longer than a sample speaks, and that are now lost or anew."""
        before = self._before
        if before is None or not self._waiting:
            return
        silent = (before.states == BookState.SYNCED) & (before.as_of_ns - before.heard_ns > self._spec.hold_ns)
        lost = (sample.states != BookState.SYNCED) | (sample.snapshots != before.snapshots)
        for venue in np.flatnonzero(silent & lost):
            known_ns = int(before.heard_ns[venue])
            self._waiting = [part for piece in self._waiting for part in piece.known_until(known_ns, int(venue))]

    def _new_resyncs(self, sample: DepthSample) -> NDArray[np.int64]:
        """Since the sample before; where one count fell, ingest is another one and all began anew."""
        now = sample.resyncs.astype(np.int64)
        if self._before is None:
            return np.zeros_like(now)
        before = self._before.resyncs.astype(np.int64)
        return now if (now < before).any() else now - before


@dataclass(slots=True)
class _Moment:
    """A sample as it is integrated: what is not of a whole book is NaN. `totals[venue, side]` within the band."""

    as_of_ns: int
    first_bucket: int
    usd: Floats
    whole: NDArray[np.bool_]
    all_whole: bool
    mids: Floats
    low: Floats
    high: Floats
    totals: Floats

    @classmethod
    def of(cls, sample: DepthSample, spec: DepthSpec) -> "_Moment":
        whole = sample.states == BookState.SYNCED
        usd = np.where(whole[:, None, None], sample.usd.astype(np.float64), np.nan)
        mids = np.where(whole, (sample.best_bid + sample.best_ask) / 2, np.nan)
        return cls(
            as_of_ns=sample.as_of_ns,
            first_bucket=sample.first_bucket,
            usd=usd,
            whole=whole,
            all_whole=bool(whole.any() and whole[sample.states != 0].all()),
            mids=mids,
            low=sample.complete_low,
            high=sample.complete_high,
            totals=_totals(usd[..., _band(sample, _mean(mids), spec)]),
        )

    @property
    def mid(self) -> float:
        """The mean of the middles of the whole books, NaN without any."""
        return _mean(self.mids)

    def without(self, venue: int) -> "_Moment":
        """The same, that venue's book unknown."""
        others = np.arange(len(self.whole)) != venue
        return replace(
            self,
            usd=np.where(others[:, None, None], self.usd, np.nan),
            whole=self.whole & others,
            all_whole=False,
            mids=np.where(others, self.mids, np.nan),
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A moment stood from `from_ns` to `to_ns`, within one frame."""

    moment: _Moment
    from_ns: int
    to_ns: int

    def known_until(self, known_ns: int, venue: int) -> "tuple[_Piece, ...]":
        """The same time, that venue's book unknown behind `known_ns`."""
        if self.to_ns <= known_ns:
            return (self,)
        unknown = replace(self, moment=self.moment.without(venue), from_ns=max(self.from_ns, known_ns))
        return (unknown,) if known_ns <= self.from_ns else (replace(self, to_ns=known_ns), unknown)


def _mean(mids: Floats) -> float:
    """Of those that are known; NaN without any."""
    known = mids[np.isfinite(mids)]
    return float(known.mean()) if len(known) else np.nan


def _band(sample: DepthSample, mid: float, spec: DepthSpec) -> slice:
    """The cells whose centres lie within the band about the middle; none while it is unknown."""
    if not np.isfinite(mid):
        return slice(0, 0)
    share, cells = spec.range_pct / 100, sample.usd.shape[-1]
    low = np.ceil(mid * (1 - share) / spec.step - 1e-9) - sample.first_bucket
    high = np.floor(mid * (1 + share) / spec.step + 1e-9) - sample.first_bucket + 1
    first = int(np.clip(low, 0, cells))
    return slice(first, int(np.clip(high, first, cells)))


def _totals(usd: Floats) -> Floats:
    """Sums over the known cells; NaN where none is known."""
    known = ~np.isnan(usd)
    return np.where(known.any(axis=-1), np.where(known, usd, 0.0).sum(axis=-1), np.nan)


class _Means:
    """Runs along with a frame and becomes a BookMeans."""

    def __init__(self) -> None:
        self._covered_ns = 0
        self._low, self._high = -np.inf, np.inf
        self._known_ns = np.zeros(2)
        self._sum = np.zeros(2)
        self._min = np.full(2, np.nan)
        self._max = np.full(2, np.nan)

    def add(self, totals: Floats, low: float, high: float, weight_ns: int) -> None:
        """`totals` (bid, ask) stood for `weight_ns`, complete from `low` to `high`."""
        self._covered_ns += weight_ns
        self._low, self._high = float(np.maximum(self._low, low)), float(np.minimum(self._high, high))
        known = ~np.isnan(totals)
        self._known_ns += known * weight_ns
        self._sum += np.where(known, totals, 0.0) * weight_ns
        self._min, self._max = np.fmin(self._min, totals), np.fmax(self._max, totals)

    def closed(self, resyncs: int) -> BookMeans:
        """The mean is held between the least and the most: rounding must not carry it beyond them."""
        mean = np.clip(_quotient(self._sum, self._known_ns), self._min, self._max)
        there = self._covered_ns > 0 and self._low <= self._high
        low, high = (self._low, self._high) if there else (np.nan, np.nan)
        return BookMeans(self._covered_ns / MS_NS, resyncs, low, high, mean, self._min, self._max)


class _OpenFrame:
    """Sums over one frame while it is open."""

    def __init__(self, begin_ns: int, venues: int, spec: DepthSpec) -> None:
        self.begin_ns = begin_ns
        self.samples = 0
        self.resyncs = np.zeros(venues, np.int64)
        self._spec = spec
        self._first = 0
        self._sum = np.zeros((venues, 2, 0))
        self._known_ns = np.zeros((venues, 2, 0))
        self._venues = tuple(_Means() for _ in range(venues))
        self._summed = _Means()
        self._mid_open, self._mid_close = np.nan, np.nan
        self._mid_sum, self._mid_ns = 0.0, 0
        self._mid_min, self._mid_max = np.nan, np.nan

    def integrate(self, moment: _Moment, weight_ns: int) -> None:
        """The moment stood for `weight_ns` of this frame."""
        cells = moment.usd.shape[-1]
        if cells:
            at = self._room_for(moment.first_bucket, cells)
            known = ~np.isnan(moment.usd)
            self._sum[..., at] += np.where(known, moment.usd, 0.0) * weight_ns
            self._known_ns[..., at] += known * weight_ns
        for venue in np.flatnonzero(moment.whole):
            means = self._venues[venue]
            means.add(moment.totals[venue], moment.low[venue], moment.high[venue], weight_ns)
        if moment.all_whole:
            low, high = moment.low[moment.whole].max(), moment.high[moment.whole].min()
            self._summed.add(moment.totals[moment.whole].sum(axis=0), float(low), float(high), weight_ns)
        self._add_mid(moment.mid, weight_ns)

    def closed(self) -> BookFrame:
        """The frame as it is now."""
        mid = self._mid_sum / self._mid_ns if self._mid_ns else np.nan
        cut = self._cut()
        return BookFrame(
            t_ms=self.begin_ns // MS_NS,
            interval_ms=self._spec.frame_ns // MS_NS,
            first_bucket=self._first + cut.start,
            step=self._spec.step,
            mid_open=self._mid_open,
            mid_mean=float(np.clip(mid, self._mid_min, self._mid_max)),
            mid_close=self._mid_close,
            samples=self.samples,
            summed=self._summed.closed(int(self.resyncs.sum())),
            venues=tuple(means.closed(int(self.resyncs[i])) for i, means in enumerate(self._venues)),
            usd=_quotient(self._sum[..., cut], self._known_ns[..., cut]),
        )

    def _add_mid(self, mid: float, weight_ns: int) -> None:
        if np.isnan(mid):
            return
        if not self._mid_ns:
            self._mid_open = mid
        self._mid_close = mid
        self._mid_sum += mid * weight_ns
        self._mid_ns += weight_ns
        self._mid_min, self._mid_max = float(np.fmin(self._mid_min, mid)), float(np.fmax(self._mid_max, mid))

    def _room_for(self, first: int, cells: int) -> slice:
        """Where a window lies in the frame's cells. They grow to hold it; beyond SPAN capacities the far end goes."""
        held = self._sum.shape[-1]
        low = min(first, self._first) if held else first
        high = max(first + cells, self._first + held) if held else first + cells
        limit = max(SPAN * self._spec.capacity, cells)
        if high - low > limit:
            low, high = (first, first + limit) if first < self._first else (first + cells - limit, first + cells)
        if not held or (low, high) != (self._first, self._first + held):
            self._sum = _moved(self._sum, self._first - low, high - low)
            self._known_ns = _moved(self._known_ns, self._first - low, high - low)
            self._first = low
        return slice(first - low, first - low + cells)

    def _cut(self) -> slice:
        """At most `capacity` cells: about the last middle, where the frame's windows moved too far for all of it."""
        cells, capacity = self._sum.shape[-1], self._spec.capacity
        if cells <= capacity:
            return slice(0, cells)
        centre = self._mid_close / self._spec.step - self._first if self._mid_ns else cells / 2
        begin = int(np.clip(round(centre) - capacity // 2, 0, cells - capacity))
        return slice(begin, begin + capacity)


def _moved(cells: Floats, by: int, count: int) -> Floats:
    """The cells `by` places later in an array of `count`; what has no place is left out."""
    moved = np.zeros((*cells.shape[:-1], count))
    begin, end = max(0, by), min(count, by + cells.shape[-1])
    if end > begin:
        moved[..., begin:end] = cells[..., begin - by : end - by]
    return moved


def _quotient(amount: Floats, weight: Floats) -> Floats:
    """NaN where the weight is zero."""
    means = np.full(amount.shape, np.nan)
    np.divide(amount, weight, out=means, where=weight > 0)
    return means

"""Order books for readers: the newest frame, frames over time, and how each venue's book stands.

Part of a client: `client.books.frame("BTC", range_pct=2)`. Only the rows and the cells that are asked for are copied.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.client.attachment import Attachment
from liqmap.client.book_columns import Axis, Raster, missing, per_slot, summed
from liqmap.client.book_records import BookColumns, BookFrame, BookMeans, BookStandings, Missing
from liqmap.client.book_rows import ALL_VENUES, BooksReader, DepthReader
from liqmap.client.book_standing import kept_frames, standings
from liqmap.client.faults import NotYet, OutOfRange, StepTooCoarse, TooMuch
from liqmap.client.feeds import Feeds, depth_gap_in_words
from liqmap.client.records import Floats, Freshness, Newest, Version
from liqmap.client.timing import Timing
from liqmap.client.words import known
from liqmap.domain.enums import Venue
from liqmap.domain.grid import Grid
from liqmap.shm.rows import Window
from liqmap.shm.segment import Segment

ALL: Final = "all"
VENUES: Final = tuple(venue.name.lower() for venue in Venue if venue)
MAX_READ_CELLS: Final = 4_000_000
"""Of one side and venue that one call copies: 24 MB for all of them."""
MAX_CELLS: Final = 1_000_000
"""Of one side that one call hands out."""
RECENT: Final = 20


class Attach(Protocol):
    """How a client opens the segment of a symbol."""

    def __call__(
        self, known_ones: dict[str, Attachment[Any]], role: str, symbol: str, make: Callable[[Segment], Any]
    ) -> Attachment[Any]:
        """The one in `known_ones`, or a new one kept there."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Which price cells: within ±`range_pct` of the middle, or with centres from `low` to `high`; `step` None: as they
    are recorded."""

    range_pct: float | None = None
    low: float | None = None
    high: float | None = None
    step: float | None = None

    def axis(self, heads: NDArray[Any], mid: float) -> Axis:
        """The columns over what these rows recorded. Raises OutOfRange where they hold none of it, StepTooCoarse where
        they do, and only the step leaves it out."""
        low, high = 0.0 if self.low is None else self.low, 1e300 if self.high is None else self.high
        if self.range_pct is not None:
            low, high = mid * (1 - self.range_pct / 100), mid * (1 + self.range_pct / 100)
        used = heads[heads["buckets"] > 0]
        grid = Grid.of(float(heads["step"][-1]))
        reach = (int(used["first_bucket"].min()), int((used["first_bucket"] + used["buckets"]).max()) - 1)
        axis = Axis.over(grid, self.step, low, high, reach)
        if axis.count == 0:
            first, last = grid.price(reach[0]), grid.price(reach[1])
            width = min(high, last) - max(low, first)
            if self.step is not None and width >= grid.step:
                raise StepTooCoarse(grid.step, width)
            raise OutOfRange("no price cell lies in that range", first, last)
        return axis


class OrderBooks:
    """Reads depth boards and order-book frames of one instance. Made by Client."""

    def __init__(
        self,
        attach: Attach,
        timing: Callable[[], Timing],
        feeds: Callable[[Timing], Feeds],
        stale_after_ms: int,
    ) -> None:
        self._attach = attach
        self._timing = timing
        self._feeds = feeds
        self._stale_after_ms = stale_after_ms
        self._rows: dict[str, Attachment[BooksReader]] = {}
        self._boards: dict[str, Attachment[DepthReader]] = {}

    def newest(self, symbol: str) -> Newest:
        """Which frame is the newest and how old its end, without copying it. Raises NotYet, Busy, Incompatible."""
        heads, generation = self._read(symbol, lambda rows: rows.heads(1))
        return self._newest(symbol, heads, generation)

    def frame(self, symbol: str, prices: Prices = Prices(), venue: str = ALL) -> BookFrame:
        """The newest frame. Raises NotYet (none is closed, or no book was whole in it), OutOfRange, Busy,
        Incompatible."""
        columns, head = self._columns(symbol, prices, venue, minutes=None, stride=1)
        wanted = {name: _means(head["venues"][number]) for number, name in enumerate(VENUES)}
        return BookFrame(
            columns=columns,
            samples=int(head["samples"]),
            mid_open=known(head["mid_open"]),
            mid_close=known(head["mid_close"]),
            summed=_means(head["summed"]),
            venues=MappingProxyType(wanted),
        )

    def history(
        self, symbol: str, minutes: int, prices: Prices = Prices(), venue: str = ALL, stride: int = 1
    ) -> BookColumns:
        """The frames of the last `minutes` before the end of the newest one, `stride` of them in a row.

        Raises as `frame`, and TooMuch when that would be more than MAX_CELLS cells.
        """
        return self._columns(symbol, prices, venue, minutes, stride)[0]

    def standing(self, symbol: str) -> BookStandings:
        """How each venue's book stands now, and which frames are kept. Raises NotYet, Busy, Incompatible."""
        attachment = self._attach(self._boards, "depth", symbol, DepthReader)
        board, published, reader = attachment.read(lambda each: (each.read(), each.sequence_hint(), each))
        rows = self._attach(self._rows, "books", symbol, BooksReader)
        frames = rows.read(lambda each: kept_frames(each, RECENT))
        newest = self._judged(
            symbol, int(board["as_of_ns"]), self._stale_after_ms, (reader.generation, published), attachment
        )
        timing = self._timing()
        unspoken = frozenset(gap.venue for gap in self._feeds(timing).gaps if gap.reason == "stopped")
        return standings(symbol, board, newest, published, reader, frames, timing, unspoken)

    def close(self) -> None:
        """Let go of all shared memory."""
        attachments: list[Attachment[Any]] = [*self._rows.values(), *self._boards.values()]
        for attachment in attachments:
            attachment.close()

    # -- how ------------------------------------------------------------------------------------------------------

    def _read(self, symbol: str, take: Callable[[BooksReader], Window]) -> tuple[Window, int]:
        """What `take` copies, and the generation of the segment. Raises NotYet when there is no row."""
        attachment = self._attach(self._rows, "books", symbol, BooksReader)
        window, generation = attachment.read(lambda rows: (take(rows), rows.generation))
        if not len(window.rows):
            raise NotYet(f"no order-book frame of {symbol} is closed yet")
        return window, generation

    def _columns(
        self, symbol: str, prices: Prices, venue: str, minutes: int | None, stride: int
    ) -> tuple[BookColumns, Any]:
        """`minutes` None: the newest frame only."""
        ahead = self._read(symbol, lambda rows: rows.heads(1))[0].rows[0]
        frame_ms = int(ahead["interval_ms"])
        count = 1 if minutes is None else -(-minutes * 60_000 // frame_ms) + stride
        heads = self._read(symbol, lambda rows: rows.heads(count))[0].rows
        axis = prices.axis(*_alike(symbol, heads))
        asked = min(count, len(heads))
        if asked * (axis.high - axis.low + 1) > MAX_READ_CELLS:
            raise TooMuch("frames", asked * (axis.high - axis.low + 1), MAX_READ_CELLS)
        venues = ALL_VENUES if venue == ALL else slice(VENUES.index(venue), VENUES.index(venue) + 1)
        window, generation = self._read(symbol, lambda rows: rows.cut(count, venues, axis.low, axis.high))
        newest = self._newest(symbol, Window(window.first, window.rows["head"]), generation)
        columns = self._made(symbol, window, newest, axis, venue, minutes, stride)
        return columns, window.rows["head"][-1]

    def _made(
        self, symbol: str, window: Window, newest: Newest, axis: Axis, venue: str, minutes: int | None, stride: int
    ) -> BookColumns:
        heads = window.rows["head"]
        last = heads[-1]
        frame_ms, newest_ms = int(last["interval_ms"]), int(last["t_ms"])
        same = (heads["interval_ms"] == frame_ms) & (heads["step"] == last["step"])
        span_min = frame_ms / 60_000 if minutes is None else minutes
        raster = Raster.over(int(heads["t_ms"][same][0]), newest_ms, frame_ms, stride, span_min)
        if raster.rows * axis.count > MAX_CELLS:
            raise TooMuch("rows", raster.rows * axis.count, MAX_CELLS)
        same &= heads["t_ms"] >= raster.first_ms
        shown, slots = heads[same], raster.slots(heads["t_ms"][same])
        number = None if venue == ALL else VENUES.index(venue)
        covered = shown["venues"]["covered_ms"] if number is None else shown["venues"]["covered_ms"][:, number, None]
        whole = shown["summed"]["covered_ms"] if number is None else covered[:, 0]
        usd = axis.rebinned(summed(window.rows["cells"][same], covered, slots, raster.rows))
        older = heads["t_ms"][0] < raster.asked_ms
        return BookColumns(
            symbol=symbol,
            freshness=newest.freshness,
            version=newest.version,
            venue=venue,
            interval_ms=raster.slot_ms,
            step=axis.grid.step,
            t_ms=_frozen(raster.t_ms()),
            prices=_frozen(axis.prices()),
            bid_usd=_frozen(usd[:, 0]),
            ask_usd=_frozen(usd[:, 1]),
            mid_price=_frozen(
                per_slot(shown["mid_mean"], shown["venues"]["covered_ms"].max(axis=1), slots, raster.rows)
            ),
            coverage=_frozen(np.bincount(slots, whole, raster.rows) / raster.slot_ms),
            missing=missing(
                raster,
                shown,
                covered,
                heads[~same & (heads["t_ms"] >= raster.asked_ms)],
                "" if older else _nothing_before(window),
                self._why(symbol, venue),
            ),
        )

    def _why(self, symbol: str, venue: str) -> Callable[[int, int, bool], str]:
        """Why a stretch is empty, in words."""
        feeds = self._feeds(self._timing())
        whose = VENUES if venue == ALL else (venue,)

        def reason(from_ms: int, to_ms: int, recorded: bool) -> str:
            gap = depth_gap_in_words(feeds, symbol, whose, from_ms, to_ms)
            books = "no order book was whole" if venue == ALL else f"the order book of {venue} was not whole"
            what = books if recorded else "not recorded: no order book was published, or nobody integrated it"
            return f"{what} ({gap})" if gap else what

        return reason

    def _newest(self, symbol: str, heads: Window, generation: int) -> Newest:
        head = heads.rows[-1]
        interval_ms = int(head["interval_ms"])
        as_of_ns = (int(head["t_ms"]) + interval_ms) * 1_000_000
        attachment = self._attach(self._rows, "books", symbol, BooksReader)
        # the next frame is due one interval later, and another moment passes before it is closed
        return self._judged(symbol, as_of_ns, interval_ms + self._stale_after_ms, (generation, heads.next), attachment)

    def _judged(
        self, symbol: str, as_of_ns: int, fresh_ms: int, number: tuple[int, int], attachment: Attachment[Any]
    ) -> Newest:
        timing = self._timing()
        feeds = self._feeds(timing)
        age_ms = timing.age_ms(as_of_ns)
        if age_ms > fresh_ms:
            attachment.suspect()
        stale = age_ms > fresh_ms or feeds.finished
        version = Version(number[0], number[1], number[1], as_of_ns, feeds.gaps_version, timing.source, stale)
        return Newest(version, Freshness(as_of_ns // 1_000_000, age_ms, stale, timing.source, feeds.gaps_of(symbol)))


def _alike(symbol: str, heads: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """The rows that can be shown beside the newest, and its middle, or the last that was known. Raises NotYet."""
    same = heads[(heads["interval_ms"] == heads["interval_ms"][-1]) & (heads["step"] == heads["step"][-1])]
    mids = same["mid_mean"][np.isfinite(same["mid_mean"]) & (same["buckets"] > 0)]
    if not len(mids):
        raise NotYet(f"no order book of {symbol} was whole in the frames that are asked for")
    return same, float(mids[-1])


def _nothing_before(window: Window) -> str:
    if window.first:
        return "not kept: older frames were overwritten"
    return "not recorded: the first frame is the one that follows"


def _means(row: Any) -> BookMeans:
    def pair(name: str) -> tuple[float | None, float | None]:
        return known(row[name][0]), known(row[name][1])

    total, least, most = pair("total_usd"), pair("total_min_usd"), pair("total_max_usd")
    return BookMeans(
        float(row["covered_ms"]),
        int(row["resyncs"]),
        known(row["complete_low"]),
        known(row["complete_high"]),
        *total,
        *least,
        *most,
    )


def _frozen(array: NDArray[Any]) -> Any:
    own = np.ascontiguousarray(array)
    own.flags.writeable = False
    return own


__all__ = ["ALL", "MAX_CELLS", "VENUES", "Floats", "Missing", "OrderBooks", "Prices"]

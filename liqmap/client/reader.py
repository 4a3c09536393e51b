"""The client: one object through which everything else reads what the daemon publishes."""

import threading
from collections.abc import Callable
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeVar

from numpy.typing import NDArray

from liqmap.client import calibration as calibrations
from liqmap.client import feeds as feed_boards
from liqmap.client import health, maps, sheet
from liqmap.client import kept as kept_on_disk
from liqmap.client import liquidations as recent_rows
from liqmap.client import margins as margin_tables
from liqmap.client import zones as zone_boards
from liqmap.client.attachment import Attachment
from liqmap.client.faults import ClientError, UnknownSymbol
from liqmap.client.order_books import OrderBooks
from liqmap.client.records import (
    Freshness,
    Gap,
    Liquidations,
    Newest,
    OpenInterest,
    OpenInterestOfVenue,
    Snapshot,
    Status,
    SymbolStatus,
    Version,
)
from liqmap.client.timing import Timing
from liqmap.client.words import known, no_price_yet, text
from liqmap.clock import Clock, ReplayTime, SystemClock
from liqmap.config import ApiConfig, ModelConfig
from liqmap.domain.enums import Model, Source, Venue
from liqmap.shm.board import BoardReader
from liqmap.shm.layout import DIRECTORY, FEEDS, OI_VENUES, PROCESSES, segment_name
from liqmap.shm.segment import Segment
from liqmap.shm.status import ClockRow, read_clock, read_heartbeats

CLOCK_KEPT_S: Final = 0.25
"""The clock row changes only with the daemon; it is read again this often."""

T = TypeVar("T")


class Client:
    """Reads one instance of the daemon, from any process of the same user, without disturbing it.

    >>> from liqmap.client import Client
    >>> with Client("demo") as client:                           # doctest: +SKIP
    ...     btc = client.snapshot("BTC", range_pct=5)
    ...     print(btc.mark_price, btc.age_ms, btc.stale, btc.source)
    ...     print(btc.prices[btc.long_usd.argmax()], btc.long_usd.max())

    A daemon that is not there is NotYet, not an error of construction; when it comes, the next call sees it. What is
    handed out is a copy that nobody changes. Safe from several threads.
    """

    def __init__(
        self,
        instance: str = "main",
        *,
        stale_after_ms: int | None = None,
        expected: tuple[str, ...] = (),
        model: str = ModelConfig().served,
        clock: Clock | None = None,
    ) -> None:
        """`stale_after_ms`: None takes the default of the configuration. `expected`: the symbols that should be there
        while no daemon says which are. `model`: whose projection is meant where none is named.
        `clock`: wall time, for tests."""
        self.instance = instance
        self.stale_after_ms = ApiConfig().stale_after_ms if stale_after_ms is None else stale_after_ms
        self._expected = expected
        self.model = model
        self._clock: Clock = clock or SystemClock()
        self._status = Attachment(segment_name(instance, "status"), _itself)
        self._directory = Attachment(segment_name(instance, "directory"), _board(DIRECTORY))
        self._processes = Attachment(segment_name(instance, "processes"), _board(PROCESSES))
        self._feeds = Attachment(segment_name(instance, "feeds"), _board(FEEDS))
        self._live: dict[str, Attachment[maps.LiveReader]] = {}
        self._recent: dict[str, Attachment[recent_rows.RecentReader]] = {}
        self._minutes: dict[str, Attachment[sheet.MinutesReader]] = {}
        self._calibrations: dict[str, Attachment[calibrations.CalibrationReader]] = {}
        self._zones: dict[str, Attachment[zone_boards.ZonesReader]] = {}
        self._lock = threading.Lock()
        self._clock_row: tuple[float, ClockRow] | None = None
        self._feeds_seen: tuple[tuple[int, int, bool], feed_boards.Feeds] | None = None
        self.books = OrderBooks(self._attached, self._timing, self._gaps, self.stale_after_ms)

    # -- the market -----------------------------------------------------------------------------------------------

    def symbols(self) -> tuple[str, ...]:
        """The symbols that run now. Raises NotYet."""
        board = self._directory.read(BoardReader.read)
        return tuple(text(row["symbol"]) for row in board["rows"][: int(board["count"])] if row["enabled"])

    def enabled(self) -> tuple[str, ...]:
        """Like `symbols`; the expected ones while no daemon says which. Never raises."""
        found = _or_none(self.symbols)
        return self._expected if found is None else found

    def newest(self, symbol: str) -> Newest:
        """Which map is the newest and how old, without copying it. Raises NotYet, Busy, Incompatible."""
        return self._newest(symbol, self._live_of(symbol).read(maps.LiveReader.head))

    def snapshot(
        self,
        symbol: str,
        *,
        range_pct: float | None = None,
        low: float | None = None,
        high: float | None = None,
        model: str | None = None,
    ) -> Snapshot:
        """The map of `symbol` now: all of it, within ±`range_pct` of the mark, or from price `low` to `high`.

        `model`: whose projection, `inventory` or `flow`; None: the client's. Only that part is copied.
        Raises NotYet (no daemon, or nothing published yet), Busy, Incompatible.
        """
        choose: maps.Choose = maps.whole
        if range_pct is not None:
            choose = maps.around_mark(range_pct)
        elif low is not None or high is not None:
            choose = maps.between(0.0 if low is None else low, 1e300 if high is None else high)
        projected = Model[(model or self.model).upper()]
        window = self._live_of(symbol).read(lambda live: live.window(choose, projected))
        newest = self._newest(symbol, maps.head_of(window.facts, window.generation))
        return maps.snapshot(symbol, window, newest)

    def open_interest(self, symbol: str) -> OpenInterest:
        """Open interest as the newest frame has it, by venue. Raises NotYet, Busy, Incompatible."""
        facts, newest, timing = self._facts(symbol)
        venues = {
            Venue(number).name.lower(): OpenInterestOfVenue(
                base=float(facts["venue_oi_base"][number]),
                as_of_ms=int(facts["venue_oi_as_of_ns"][number]) // 1_000_000,
                age_ms=timing.age_ms(int(facts["venue_oi_as_of_ns"][number])),
                stale=bool(facts["venue_oi_stale"][number]),
            )
            for number in range(OI_VENUES)
            if known(facts["venue_oi_base"][number]) is not None
        }
        return OpenInterest(
            symbol=symbol,
            freshness=newest.freshness,
            version=newest.version,
            open_interest_base=known(facts["open_interest_base"]),
            open_interest_usd=known(facts["open_interest_usd"]),
            change_base=known(facts["open_interest_change_base"]),
            venues=MappingProxyType(venues),
        )

    def market_data(self, symbol: str) -> sheet.MarketData:
        """Prices and funding as each venue told them last. Raises NotYet, Busy, Incompatible."""
        return sheet.market_data(*self._facts(symbol))

    def trader_ratios(self, symbol: str) -> sheet.TraderRatios:
        """Positioning ratios as each venue told them last. Raises NotYet, Busy, Incompatible."""
        return sheet.trader_ratios(*self._facts(symbol))

    def liquidation_stats(self, symbol: str) -> sheet.LiquidationStats:
        """The whole map of one frame, and what each venue printed. Raises NotYet, Busy, Incompatible."""
        projected = Model[self.model.upper()]
        window = self._live_of(symbol).read(lambda live: live.window(maps.whole, projected))
        newest = self._newest(symbol, maps.head_of(window.facts, window.generation))
        return sheet.LiquidationStats(maps.snapshot(symbol, window, newest), sheet.printed(window.facts))

    def calibration(self, symbol: str) -> calibrations.Calibration:
        """How the tiers' weights are learned, as of the last closed minute. Raises NotYet, Busy, Incompatible."""
        attachment = self._attached(self._calibrations, "calibration", symbol, calibrations.CalibrationReader)
        board, number, generation = attachment.read(calibrations.CalibrationReader.newest)
        timing = self._timing()
        feeds = self._gaps(timing)
        fresh = calibrations.freshness_of(int(board["as_of_ns"]), symbol, self.stale_after_ms, timing, feeds)
        if fresh.stale:
            attachment.suspect()
        version = calibrations.version_of(number, generation, board, fresh, feeds)
        return calibrations.calibration(symbol, board, Newest(version, fresh))

    def minute_history(self, symbol: str) -> sheet.MinuteHistory:
        """The closed minutes that are kept. Raises NotYet, Busy, Incompatible."""
        return self._minutes_of(symbol).read(sheet.history)

    def zones(self, symbol: str) -> zone_boards.Zones:
        """The zones as they were when the last minute closed. Raises NotYet (also: no minute closed yet), Busy,
        Incompatible."""
        facts, newest, _ = self._facts(symbol)
        board, row = self._zones_of(symbol).read(zone_boards.ZonesReader.newest)
        return zone_boards.zones(symbol, board, row, newest, known(facts["mark_price"]))

    def zones_version(self, symbol: str) -> tuple[int, int]:
        """Generation and number of the newest publication of zones: changes when a minute closes. Raises NotYet."""
        return self._zones_of(symbol).read(zone_boards.ZonesReader.version)

    def liquidations(
        self,
        symbol: str,
        *,
        after: int | None = None,
        since_ms: int | None = None,
        limit: int = 500,
        min_notional_usd: float = 0.0,
        side: str | None = None,
        venue: str | None = None,
    ) -> Liquidations:
        """Observed liquidations, ascending by id: the oldest `limit` after id `after` or time `since_ms` (both
        exclusive), without a cursor the newest. `side` is long or short. Raises NotYet, Busy, Incompatible."""
        wanted = recent_rows.Wanted(after, since_ms, limit, min_notional_usd, side, venue)
        picked, rows, oldest = self._recent_of(symbol).read(
            lambda recent: (*recent_rows.read(recent, wanted), recent_rows.oldest_ms(recent))
        )
        newest = rows[-1] if len(rows) else None
        return Liquidations(
            symbol=symbol,
            events=tuple(recent_rows.liquidation(row) for row in picked),
            newest_ms=None if newest is None else int(newest["ts_ms"]),
            newest_id=None if newest is None else int(newest["id"]),
            oldest_available_ms=oldest,
        )

    def liquidations_version(self, symbol: str) -> tuple[int, int]:
        """Generation and number of rows written: changes when there is a new liquidation. Raises NotYet."""
        return self._recent_of(symbol).read(lambda recent: (recent.generation, recent.written))

    # -- the daemon -----------------------------------------------------------------------------------------------

    def source(self) -> str | None:
        """`live`, `simulated` or `replay`; None while no daemon was ever there."""
        row = self._clock_now()
        return None if row is None else row.source.name.lower()

    def gaps(self, symbol: str | None = None) -> tuple[Gap, ...]:
        """The feeds that are missing now, of one symbol or of all."""
        feeds = self._gaps(self._timing())
        return feeds.gaps if symbol is None else feeds.gaps_of(symbol)

    def status(self) -> Status:
        """Processes, venues, symbols and what is wrong, in words. Never raises: what is not there is a problem."""
        timing, clock = self._timing(), self._clock_now()
        beats = _or_none(lambda: self._status.read(read_heartbeats)) or {}
        board = _or_none(lambda: self._processes.read(BoardReader.read))
        processes = health.process_statuses(board, beats, self._clock.monotonic_ns())
        feeds = self._gaps(timing)
        venues = {} if feeds.board is None else feed_boards.statuses(feeds.board, timing)
        kept = kept_on_disk.NOTHING_KEPT if feeds.board is None else kept_on_disk.decode(feeds.board)
        margins = {} if feeds.board is None else margin_tables.decode(feeds.board, timing)
        symbols = {symbol: self._symbol_status(symbol) for symbol in self.enabled()}
        supervisor_age_ms = None
        if clock is not None:
            supervisor_age_ms = (self._clock.monotonic_ns() - clock.supervisor_beat_ns) // 1_000_000
        return Status(
            status=health.verdict(symbols, venues, kept),
            source=None if clock is None else timing.source,
            uptime_s=None if clock is None else max(0.0, (timing.wall_ns - clock.started_ns) / 1e9),
            processes=MappingProxyType(processes),
            feeds=MappingProxyType(dict(venues)),
            symbols=MappingProxyType(symbols),
            kept=kept,
            margins=margins,
            problems=(
                *health.problems(symbols, venues, feeds, processes, supervisor_age_ms),
                *kept.problems(),
                *margin_tables.problems(margins, timing.source),
                *health.simulated_faults(board),
            ),
            data_problems=tuple(health.data_problems(symbols, venues, feeds, processes)),
        )

    def why_not(self, symbol: str) -> str | None:
        """Why there is no fresh map of `symbol`, in words; None when there is one."""
        if symbol not in self.enabled():
            return f"{symbol} is not enabled: liqmapctl add {symbol} enables it"
        found = self._symbol_status(symbol)
        if found.ready:
            return None
        beats = _or_none(lambda: self._status.read(read_heartbeats)) or {}
        board = _or_none(lambda: self._processes.read(BoardReader.read))
        processes = health.process_statuses(board, beats, self._clock.monotonic_ns())
        return health.symbol_in_words(symbol, found, processes)

    def close(self) -> None:
        """Let go of all shared memory."""
        attachments: list[Attachment[Any]] = [self._status, self._directory, self._processes, self._feeds]
        for by_symbol in (self._live, self._recent, self._minutes, self._calibrations, self._zones):
            attachments += by_symbol.values()
        for attachment in attachments:
            attachment.close()
        self.books.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- how ------------------------------------------------------------------------------------------------------

    def _live_of(self, symbol: str) -> Attachment[maps.LiveReader]:
        return self._attached(self._live, "live", symbol, maps.LiveReader)

    def _recent_of(self, symbol: str) -> Attachment[recent_rows.RecentReader]:
        return self._attached(self._recent, "recent", symbol, recent_rows.RecentReader)

    def _minutes_of(self, symbol: str) -> Attachment[sheet.MinutesReader]:
        return self._attached(self._minutes, "minutes", symbol, sheet.MinutesReader)

    def _zones_of(self, symbol: str) -> Attachment[zone_boards.ZonesReader]:
        return self._attached(self._zones, "zones", symbol, zone_boards.ZonesReader)

    def _facts(self, symbol: str) -> tuple[NDArray[Any], Newest, Timing]:
        facts, generation = self._live_of(symbol).read(lambda live: (live.facts(), live.generation))
        return facts, self._newest(symbol, maps.head_of(facts, generation)), self._timing()

    def _attached(
        self, known_ones: dict[str, Attachment[Any]], role: str, symbol: str, make: Callable[[Segment], Any]
    ) -> Attachment[Any]:
        attachment = known_ones.get(symbol)
        if attachment is not None:
            return attachment
        if not (symbol.isalnum() and symbol.isascii() and symbol == symbol.upper() and len(symbol) <= 15):
            raise UnknownSymbol(f"{symbol!r} is not the name of a symbol")
        attachment = Attachment(segment_name(self.instance, role, symbol), make)
        attachment.read(_nothing)  # kept only when it exists: names that nobody has must not pile up
        with self._lock:
            return known_ones.setdefault(symbol, attachment)

    def _clock_now(self) -> ClockRow | None:
        seen, now_s = self._clock_row, self._clock.monotonic_ns() / 1e9
        if seen is not None and now_s - seen[0] < CLOCK_KEPT_S:
            return seen[1]
        row = _or_none(lambda: self._status.read(read_clock))
        if row is None:
            return None if seen is None else seen[1]
        self._clock_row = (now_s, row)
        return row

    def _timing(self) -> Timing:
        row, wall_ns = self._clock_now(), self._clock.now_ns()
        if row is None:
            return Timing(wall_ns, Source.LIVE.name.lower())
        line = None
        if row.source == Source.REPLAY:
            line = ReplayTime(row.engine_origin_ns, row.wall_origin_ns, row.speed)
        return Timing(wall_ns, row.source.name.lower(), line)

    def _gaps(self, timing: Timing) -> feed_boards.Feeds:
        try:
            number, generation = self._feeds.read(lambda board: (board.sequence_hint(), board.generation))
        except ClientError:
            return feed_boards.NO_FEEDS
        seen = self._feeds_seen
        if seen is None or seen[0][:2] != (generation, number):
            board = _or_none(lambda: self._feeds.read(BoardReader.read))
            if board is None:
                return feed_boards.NO_FEEDS
        else:
            assert seen[1].board is not None
            board = seen[1].board
        silent = timing.age_ms(int(board["as_of_ns"])) > self.stale_after_ms
        if silent:
            self._feeds.suspect()
        if seen is None or seen[0] != (generation, number, silent):
            seen = ((generation, number, silent), feed_boards.decode(board, silent=silent))
            self._feeds_seen = seen
        return seen[1]

    def _newest(self, symbol: str, head: maps.Head) -> Newest:
        timing = self._timing()
        feeds = self._gaps(timing)
        as_of_ns = head.as_of_ns
        age_ms = timing.age_ms(as_of_ns)
        old = age_ms > self.stale_after_ms
        if old:
            self._live_of(symbol).suspect()
        stale = old or feeds.finished or symbol in feeds.priceless
        return Newest(
            Version(
                generation=head.generation,
                sequence=head.sequence,
                frame=head.frame,
                as_of_ns=as_of_ns,
                gaps_version=feeds.gaps_version,
                source=timing.source,
                stale=stale,
            ),
            Freshness(as_of_ns // 1_000_000, age_ms, stale, timing.source, feeds.gaps_of(symbol)),
        )

    def _symbol_status(self, symbol: str) -> SymbolStatus:
        try:
            facts, generation = self._live_of(symbol).read(lambda live: (live.facts(), live.generation))
        except ClientError:
            return SymbolStatus(False, None, None, None, None, health.why_not_ready(symbol, None))
        newest = self._newest(symbol, maps.head_of(facts, generation))
        fresh, feeds = newest.freshness, self._gaps(self._timing())
        reason = None
        if fresh.stale:
            old = fresh.age_ms > self.stale_after_ms
            reason = health.why_not_ready(symbol, fresh.age_ms, old=old, finished=feeds.finished)
        elif known(facts["mark_price"]) is None:
            reason = no_price_yet(symbol)
        return SymbolStatus(
            reason is None,
            fresh.as_of_ms,
            fresh.age_ms,
            newest.version.sequence,
            known(facts["coverage"][Model[self.model.upper()] - 1].mean()),
            reason,
        )


def _itself(segment: Segment) -> Segment:
    return segment


def _board(dtype: Any) -> Callable[[Segment], BoardReader]:
    return lambda segment: BoardReader(segment, dtype)


def _nothing(_reader: object) -> None:
    return None


def _or_none(read: Callable[[], T]) -> T | None:
    """What is there, None when it is not."""
    try:
        return read()
    except ClientError:
        return None

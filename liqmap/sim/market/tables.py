"""A simulated stretch of time in the contract's tabular formats, for backtests and for `--replay`.

bars_1m_SYM, liquidations_SYM, hourly_SYM and truth_SYM (.csv.gz), and world.json, which says what they are. The bars
are of the mark price; open, high, low and close are taken at the inner steps of the market. Written beside and moved
into place, with no time stamp inside: the same world gives the same bytes.
"""

import gzip
import io
import logging
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.tape import Tape

if TYPE_CHECKING:
    from liqmap.sim.market.simulated import SimulatedMarket

log = logging.getLogger(__name__)

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
SIDE_WORDS = {int(side): side.name.lower() for side in PositionSide}
VENUE_WORDS = {int(venue): venue.name.lower() for venue in Venue}
BAR_COLUMNS = (
    "minute_ms",
    "open",
    "high",
    "low",
    "close",
    "taker_buy_base",
    "taker_sell_base",
    "taker_buy_share",
    "open_interest_base",
    "open_interest_change_usd",
)
LIQUIDATION_COLUMNS = ("ts_ms", "venue", "position_side", "price", "qty_base", "fill_price")
HOURLY_COLUMNS = ("hour_ms", "open_interest_usd_close", "price_close")


class Table:
    """A CSV file with a header line, gzip where its name ends in .gz; there only once it is whole."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._path, self._scratch = path, path.with_name(path.name + ".new")
        self._columns = columns

    def __enter__(self) -> Self:
        self._raw = self._scratch.open("wb")
        zipped = self._path.suffix == ".gz"
        packed = gzip.GzipFile("", "wb", 5, self._raw, mtime=0) if zipped else self._raw
        self._text = io.TextIOWrapper(packed, encoding="ascii", newline="\n")
        self.add(*self._columns)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._text.close()
        self._raw.close()
        if kind is None:
            self._scratch.replace(self._path)
        else:
            self._scratch.unlink()

    def add(self, *cells: str) -> None:
        """One line; an empty cell is an unknown."""
        self._text.write(",".join(cells) + "\n")


def number(value: float, decimals: int) -> str:
    """A number as a cell: fixed decimals without trailing zeros, empty for NaN."""
    if value != value:
        return ""
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(slots=True)
class Recorded:
    """What a recorded stretch held."""

    minutes: int = 0
    liquidations: int = 0
    liquidated_base: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIDE_WORDS.values(), 0.0))
    open_interest_base: float = 0.0
    price_low: float = float("inf")
    price_high: float = 0.0


@dataclass(slots=True)
class _Bar:
    """One minute of marks and taker volumes, being filled."""

    marks: list[float]
    taker_base: dict[int, float] = field(default_factory=lambda: {int(side): 0.0 for side in TakerSide})

    def take(self, tape: Tape) -> None:
        self.marks.append(tape.mark_price)
        for venue in tape.venues.values():
            for side in self.taker_base:
                mine = venue.trades["taker_side"] == side
                self.taker_base[side] += float(venue.trades["qty_base"][mine].sum())


class BarsAndLiquidations:
    """Turns tapes into lines of the three tables of one symbol."""

    def __init__(self, bars: Table, liquidations: Table, hourly: Table) -> None:
        self._bars, self._liquidations, self._hourly = bars, liquidations, hourly
        self.recorded = Recorded()

    def minute(self, market: "SimulatedMarket", minute_ms: int, tick_ms: int) -> None:
        """Let the market live through one minute and write it down."""
        bar = _Bar([market.prices.mark])
        before_base = sum(venue.open_interest_base for venue in market.advance(minute_ms).venues.values())
        tape = market.advance(minute_ms)
        for to_ms in range(minute_ms + tick_ms, minute_ms + MINUTE_MS + 1, tick_ms):
            tape = market.advance(to_ms)
            bar.take(tape)
            self._write_liquidations(tape)
        open_interest = sum(venue.open_interest_base for venue in tape.venues.values())
        self._write_bar(minute_ms, bar, before_base, open_interest)
        if (minute_ms + MINUTE_MS) % HOUR_MS == 0:
            hour_ms = minute_ms + MINUTE_MS - HOUR_MS
            self._hourly.add(str(hour_ms), number(open_interest * bar.marks[-1], 2), number(bar.marks[-1], 4))

    def _write_bar(self, minute_ms: int, bar: _Bar, before_base: float, open_interest: float) -> None:
        marks, buy, sell = bar.marks, bar.taker_base[TakerSide.BUY], bar.taker_base[TakerSide.SELL]
        change_usd = (open_interest - before_base) * marks[-1]
        share = number(buy / (buy + sell), 6) if buy + sell > 0 else ""
        prices = (number(price, 4) for price in (marks[0], max(marks), min(marks), marks[-1]))
        base = (number(buy, 8), number(sell, 8), share, number(open_interest, 8), number(change_usd, 2))
        self._bars.add(str(minute_ms), *prices, *base)
        recorded = self.recorded
        recorded.minutes += 1
        recorded.open_interest_base = open_interest
        recorded.price_low, recorded.price_high = min(recorded.price_low, *marks), max(recorded.price_high, *marks)

    def _write_liquidations(self, tape: Tape) -> None:
        lines = []
        for venue, prints in tape.venues.items():
            for ts_ms, side, bankruptcy, fill, qty in prints.liquidations.tolist():
                lines.append((ts_ms, VENUE_WORDS[venue], SIDE_WORDS[side], bankruptcy, qty, fill))
                self.recorded.liquidated_base[SIDE_WORDS[side]] += qty
        self.recorded.liquidations += len(lines)
        for ts_ms, venue_word, side_word, bankruptcy, qty, fill in sorted(lines):
            self._liquidations.add(
                str(ts_ms), venue_word, side_word, number(bankruptcy, 4), number(qty, 8), number(fill, 4)
            )


def report(recorded: Recorded, minutes: int) -> None:
    """One log line on how far a recording is."""
    log.info("recorded %d of %d minutes, %d liquidations", recorded.minutes, minutes, recorded.liquidations)

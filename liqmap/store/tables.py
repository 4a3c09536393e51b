"""The tabular formats of docs/operations.md ("Recordings") as streams of rows: CSV, plain or gzip, header line, UTC ms.

Columns are found by name: extra ones are ignored, missing optional ones and empty cells are unknown (NaN, None). Rows
must stand in order of time. The first fault ends the stream with a TableError that names file and line; the rows
before it were good. Nothing is held but the row being read.
"""

import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from liqmap.domain.enums import PositionSide, Venue

_EARLIEST_MS: Final = 1_200_000_000_000
_LATEST_MS: Final = 4_200_000_000_000
_GZIP_MAGIC: Final = b"\x1f\x8b"


class TableError(Exception):
    """A table breaks its format. The text begins with `file:line:`."""

    def __init__(self, file: Path, line: int, why: str) -> None:
        super().__init__(f"{file}:{line}: {why}")
        self.file = file
        self.line = line
        self.why = why


class Bar(NamedTuple):
    """One minute. Prices quote, volumes and open interest base, change USD; NaN: unknown.

    `taker_buy_share` (0..1) says something only where the volumes are missing, and never makes a volume.
    """

    minute_ms: int
    open: float
    high: float
    low: float
    close: float
    taker_buy_base: float
    taker_sell_base: float
    taker_buy_share: float
    open_interest_base: float
    open_interest_change_usd: float

    @property
    def covers_ms(self) -> int:
        """How long it is."""
        return 60_000


class HourlyLevel(NamedTuple):
    """One hour's close, known at the end of it."""

    hour_ms: int
    open_interest_usd_close: float
    price_close: float


class RecordedLiquidation(NamedTuple):
    """One liquidation as somebody recorded it; `price` is the printed one."""

    ts_ms: int
    venue: Venue
    position_side: PositionSide
    price: float
    qty_base: float


class TruePosition(NamedTuple):
    """One position at one time, where positions are known; NaN: no price liquidates it."""

    ts_ms: int
    position_side: PositionSide
    liquidation_price: float
    qty_base: float


Row = TypeVar("Row", bound=tuple[Any, ...])


def read_bars(path: Path) -> Iterator[Bar]:
    """Minute bars, strictly rising. Raises TableError, OSError."""
    return _rows(path, Bar, _BAR, minute_every_ms=60_000)


def read_hourly(path: Path) -> Iterator[HourlyLevel]:
    """Hourly closes, strictly rising. Raises TableError, OSError."""
    return _rows(path, HourlyLevel, _HOURLY, minute_every_ms=3_600_000)


def read_liquidations(path: Path) -> Iterator[RecordedLiquidation]:
    """Liquidations in order of time, several at one time allowed. Raises TableError, OSError."""
    return _rows(path, RecordedLiquidation, _LIQUIDATION)


def read_truth(path: Path) -> Iterator[TruePosition]:
    """Positions in order of time. Raises TableError, OSError."""
    return _rows(path, TruePosition, _TRUTH)


class TableSet(NamedTuple):
    """The files of one symbol in a directory of tables; None: there is none."""

    symbol: str
    bars: Path | None
    liquidations: Path | None
    hourly: Path | None


def tables_of(directory: Path, symbol: str) -> TableSet:
    """`bars_1m_BTC.csv.gz` or `.csv`, `liquidations_BTC…`, `hourly_BTC…` of that directory."""

    def found(stem: str) -> Path | None:
        candidates = (directory / f"{stem}_{symbol}{ending}" for ending in (".csv.gz", ".csv"))
        return next((path for path in candidates if path.is_file()), None)

    return TableSet(symbol, found("bars_1m"), found("liquidations"), found("hourly"))


# Cells ---------------------------------------------------------------------------------------------------------------


def _time_ms(text: str) -> int:
    time_ms = int(text)
    if not _EARLIEST_MS <= time_ms <= _LATEST_MS:
        raise ValueError("not a time in ms UTC")
    return time_ms


def _positive(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0.0):
        raise ValueError("must be a positive number")
    return number


def _amount_or_unknown(text: str) -> float:
    if not text:
        return math.nan
    number = float(text)
    if not (math.isfinite(number) and number >= 0.0):
        raise ValueError("must be a number that is not negative, or empty")
    return number


def _positive_or_unknown(text: str) -> float:
    return _positive(text) if text else math.nan


def _share_or_unknown(text: str) -> float:
    share = _amount_or_unknown(text)
    if share > 1.0:
        raise ValueError("must be between 0 and 1, or empty")
    return share


def _change_or_unknown(text: str) -> float:
    change = float(text) if text else math.nan
    if math.isinf(change) or (text and math.isnan(change)):
        raise ValueError("must be a finite number, or empty")
    return change


def _side(text: str) -> PositionSide:
    side = {"long": PositionSide.LONG, "short": PositionSide.SHORT}.get(text.lower())
    if side is None:
        raise ValueError("must be long or short")
    return side


def _venue(text: str) -> Venue:
    venue = {"": "UNKNOWN"}.get(text, text.upper())
    if venue not in Venue.__members__:
        raise ValueError(f"must be empty or one of {', '.join(name.lower() for name in Venue.__members__)}")
    return Venue[venue]


class _Column(NamedTuple):
    read: Callable[[str], object]
    required: bool = True


Columns = Mapping[str, _Column]

_BAR: Final[Columns] = {
    "minute_ms": _Column(_time_ms),
    "open": _Column(_positive),
    "high": _Column(_positive),
    "low": _Column(_positive),
    "close": _Column(_positive),
    "taker_buy_base": _Column(_amount_or_unknown, False),
    "taker_sell_base": _Column(_amount_or_unknown, False),
    "taker_buy_share": _Column(_share_or_unknown, False),
    "open_interest_base": _Column(_positive_or_unknown, False),
    "open_interest_change_usd": _Column(_change_or_unknown, False),
}
_HOURLY: Final[Columns] = {
    "hour_ms": _Column(_time_ms),
    "open_interest_usd_close": _Column(_positive_or_unknown),
    "price_close": _Column(_positive_or_unknown),
}
_LIQUIDATION: Final[Columns] = {
    "ts_ms": _Column(_time_ms),
    "venue": _Column(_venue, False),
    "position_side": _Column(_side),
    "price": _Column(_positive),
    "qty_base": _Column(_positive),
}
_TRUTH: Final[Columns] = {
    "ts_ms": _Column(_time_ms),
    "position_side": _Column(_side),
    "liquidation_price": _Column(_positive_or_unknown),
    "qty_base": _Column(_positive),
}


# Rows ----------------------------------------------------------------------------------------------------------------


def _rows(path: Path, row: type[Row], columns: Columns, minute_every_ms: int = 0) -> Iterator[Row]:
    """Rows of `path`; with `minute_every_ms` times are multiples of it and rise strictly."""
    line = 1
    before_ms = 0
    try:
        with _open(path) as file:
            cells = csv.reader(file)
            places = _places(path, next(cells, []), columns)
            for line, raw in enumerate(cells, start=2):
                if not raw:
                    continue
                made = row._make(_cells(path, line, raw, places))  # type: ignore[attr-defined]
                _check(path, line, made, before_ms, minute_every_ms)
                before_ms = made[0]
                yield made
    except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TableError(path, line + 1, f"cannot be read further: {error}") from error


def _open(path: Path) -> Any:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    if packed:
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open("r", encoding="utf-8", newline="")


def _places(path: Path, header: list[str], columns: Columns) -> list[tuple[str, _Column, int | None]]:
    names = [name.strip() for name in header]
    for name, column in columns.items():
        if column.required and name not in names:
            raise TableError(path, 1, f"column {name} is missing")
        if names.count(name) > 1:
            raise TableError(path, 1, f"column {name} stands twice")
    return [(name, column, names.index(name) if name in names else None) for name, column in columns.items()]


def _cells(path: Path, line: int, raw: list[str], places: list[tuple[str, _Column, int | None]]) -> Iterator[object]:
    for name, column, place in places:
        text = "" if place is None or place >= len(raw) else raw[place].strip()
        try:
            yield column.read(text)
        except ValueError as error:
            raise TableError(path, line, f"{name} = {text!r}: {error}") from error


def _check(path: Path, line: int, row: Row, before_ms: int, every_ms: int) -> None:
    time_ms = row[0]
    if time_ms < before_ms or (every_ms and time_ms == before_ms):
        raise TableError(path, line, f"time {time_ms} comes after {before_ms}")
    if every_ms and time_ms % every_ms:
        raise TableError(path, line, f"time {time_ms} is not a multiple of {every_ms} ms")
    if isinstance(row, Bar) and not (row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high):
        raise TableError(path, line, "low and high do not contain open and close")

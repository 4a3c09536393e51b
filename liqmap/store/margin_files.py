"""Maintenance-margin tables on disk: etc/margin/SYMBOL.json, the file that the configuration names, refreshed ones.

    {"format": "liqmap margin 1", "symbol": "BTC", "tables": [
       {"venue": "binance", "as_of": "2026-09", "source": "where the numbers come from", "open_interest_share": 0.52,
        "brackets": [{"to_usd": 300000, "mmr": 0.004, "max_leverage": 150}, …]}, …]}

Brackets run from the smallest positions up; `to_usd` null is open-ended. Symbols without a table of their own use
etc/margin/other.json, and the log says so.
"""

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from liqmap.config import ConfigError, Effective
from liqmap.config.shipped import ShippedFileMissing, shipped_file
from liqmap.domain.enums import Venue
from liqmap.domain.margin import InvalidMarginTable, MarginTable
from liqmap.logs import fields
from liqmap.store.atomic import write_atomic

STAND_IN: Final = "other"

log = logging.getLogger(__name__)


class BracketRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One bracket of the file."""

    to_usd: float | None
    mmr: Annotated[float, Meta(gt=0, lt=1)]
    max_leverage: Annotated[float, Meta(ge=1)]


class TableRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One venue's table of the file."""

    venue: str
    as_of: str
    source: str
    open_interest_share: Annotated[float, Meta(gt=0, le=1)]
    brackets: tuple[BracketRow, ...]


class MarginFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    format: Literal["liqmap margin 1"]
    symbol: str
    tables: Annotated[tuple[TableRow, ...], Meta(min_length=1)]


def read_tables(path: Path, key: str) -> tuple[MarginTable, ...]:
    """The tables of a file; `key` is the configuration key that led to it. Raises ConfigError, one line."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=MarginFile)
        return tuple(
            MarginTable.of(
                _venue(row.venue),
                row.as_of,
                row.source,
                row.open_interest_share,
                [(bracket.to_usd, bracket.mmr, bracket.max_leverage) for bracket in row.brackets],
            )
            for row in file.tables
        )
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, InvalidMarginTable, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {path} is not a margin table: {error}") from error


def write_tables(path: Path, symbol: str, tables: Iterable[MarginTable]) -> None:
    """Replace the file: who reads finds the old or the new one. Raises OSError."""
    rows = tuple(
        TableRow(
            table.venue.name.lower(),
            table.as_of,
            table.source,
            table.open_interest_share,
            tuple(
                BracketRow(None if math.isinf(b.cap_usd) else b.cap_usd, b.mmr, b.max_leverage) for b in table.brackets
            ),
        )
        for table in tables
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    file = MarginFile("liqmap margin 1", symbol, rows)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")


def table_path(effective: Effective, symbol: str) -> Path:
    """The file in use: the one that is named, else the shipped one, else the stand-in. Raises ConfigError."""
    named = effective.config.symbols[symbol].margin_table
    if named is not None:
        return Path(effective.base_dir) / named
    try:
        return shipped_file(f"margin/{symbol}.json")
    except ShippedFileMissing:
        log.warning("no margin table is shipped for this symbol", extra=fields(symbol=symbol, uses=STAND_IN))
    try:
        return shipped_file(f"margin/{STAND_IN}.json")
    except ShippedFileMissing as error:
        raise ConfigError(f"symbols.{symbol}.margin_table: none is shipped for {symbol}: name a file") from error


def tables_in_use(effective: Effective, symbol: str) -> tuple[Path, tuple[MarginTable, ...]]:
    """The file that the map of `symbol` is made with, and what it says. Raises ConfigError, one line."""
    path = table_path(effective, symbol)
    return path, read_tables(path, f"symbols.{symbol}.margin_table")


def _venue(name: str) -> Venue:
    venue = Venue.__members__.get(name.upper())
    if not venue:
        raise InvalidMarginTable(f"`{name}` is not a venue")
    return venue

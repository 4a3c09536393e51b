"""Maintenance-margin tables from disk: etc/margin/SYMBOL.json, or the file that the configuration names.

    {"format": "liqmap margin 1", "symbol": "BTC", "tables": [
       {"venue": "binance", "as_of": "2026-09", "source": "where the numbers come from", "open_interest_share": 0.52,
        "brackets": [{"to_usd": 300000, "mmr": 0.004, "max_leverage": 150}, …]}, …]}

Brackets run from the smallest positions up; `to_usd` null is open-ended. Symbols without a table of their own use
etc/margin/other.json, and the log says so.
"""

import logging
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from liqmap.config import ConfigError, Effective, SymbolConfig
from liqmap.config.shipped import ShippedFileMissing, shipped_file
from liqmap.domain.enums import Venue
from liqmap.domain.margin import InvalidMarginTable, MarginTable, effective_mmr
from liqmap.engine.spec import significant
from liqmap.logs import fields

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


def tier_mmr(effective: Effective, symbol: str) -> tuple[float, ...]:
    """The effective maintenance margin rate of each leverage tier of `symbol`. Raises ConfigError, one line."""
    table = effective.config.symbols[symbol]
    path = _path(effective, symbol, table)
    tables = read_tables(path, f"symbols.{symbol}.margin_table")
    log.info("maintenance margins", extra=fields(file=path, as_of=", ".join(sorted({t.as_of for t in tables}))))
    try:
        return tuple(significant(effective_mmr(tables, leverage)) for leverage in table.leverages)
    except InvalidMarginTable as error:
        raise ConfigError(f"symbols.{symbol}.leverages: {error} (margin table {path})") from error


def read_tables(path: Path, key: str) -> tuple[MarginTable, ...]:
    """The tables of a file; `key` is the configuration key that led to it. Raises ConfigError."""
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


def _venue(name: str) -> Venue:
    venue = Venue.__members__.get(name.upper())
    if not venue:
        raise InvalidMarginTable(f"`{name}` is not a venue")
    return venue


def _path(effective: Effective, symbol: str, table: SymbolConfig) -> Path:
    """The file to use: the one that is named, else the shipped one, else the stand-in."""
    if table.margin_table is not None:
        return Path(effective.base_dir) / table.margin_table
    try:
        return shipped_file(f"margin/{symbol}.json")
    except ShippedFileMissing:
        log.warning("no margin table is shipped for this symbol", extra=fields(symbol=symbol, uses=STAND_IN))
    try:
        return shipped_file(f"margin/{STAND_IN}.json")
    except ShippedFileMissing as error:
        raise ConfigError(f"symbols.{symbol}.margin_table: none is shipped for {symbol}: name a file") from error

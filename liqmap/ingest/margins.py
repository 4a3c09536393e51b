"""The margin tiers that venues publish now: kept on disk, dated, and held against the table in use. Part of the
router's thread.

Nothing is made with a table that was fetched. It lies in var/lib/<instance>/margin/ until an operator names it as
`margin_table`: SYMBOL-venue.json is what one venue said, SYMBOL.json the table in use with every venue that was heard
in its place, which is the one to copy and to name. So a journal played again gives the same map, and a bad day of a
venue does not become a bad map.

OKX counts its tiers in contracts. They are turned into dollars with the venue's mark price at that moment, which is
written into the table's `source`; until a mark is known they wait.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from liqmap.config import ConfigError, Effective
from liqmap.domain.enums import Source, Topic, Venue
from liqmap.domain.margin import InvalidMarginTable, MarginTable
from liqmap.domain.margin_drift import Drift, drift
from liqmap.exchanges.adapter import PollPlan, Tiers
from liqmap.exchanges.registry import ADAPTERS, VENUES_BY_NAME
from liqmap.ingest.margin_standing import MarginStanding
from liqmap.ingest.router import Router
from liqmap.logs import fields
from liqmap.store.margin_files import read_tables, tables_in_use, write_tables

_LATE: Final = 3.0
"""So many rounds without an answer are told as a problem."""
_DATE: Final = "%Y-%m-%dT%H:%MZ"
_MS: Final = 1_000_000

log = logging.getLogger(__name__)

Key = tuple[Venue, str]
"""A venue and a symbol."""


@dataclass(frozen=True, slots=True)
class _InUse:
    """What the map of a symbol is made with; `fault`: why that is not known."""

    path: Path | None
    tables: tuple[MarginTable, ...]
    leverages: tuple[float, ...]
    fault: str = ""


class Margins:
    """Owned by the router's thread. `directory`: where refreshed tables lie. `source`: of a simulated market it is
    known that its tiers differ from the shipped tables, so that is not worth a warning."""

    def __init__(self, directory: Path, source: Source, router: Router) -> None:
        self._directory = directory
        self._level = logging.WARNING if source is Source.LIVE else logging.INFO
        self._router = router
        self._in_use: dict[str, _InUse] = {}
        self._told: dict[Key, tuple[Tiers, int]] = {}
        """Tiers in contracts that wait for a price, and when they came (engine time)."""
        self._published: dict[Key, MarginTable] = {}
        self._said: dict[Key, tuple[float, ...] | None] = {}
        """Which tiers were off when that was last logged."""
        router.replies.take_tiers = self.take

    def use(self, effective: Effective) -> None:
        """From now on these tables are in use."""
        self._in_use = {symbol: _in_use(effective, symbol) for symbol in effective.config.enabled_symbols}
        for key, standing in self._router.feeds.margins.items():
            self._compare(key, standing)

    def take(self, asked: PollPlan, body: bytes, now_ns: int) -> None:
        """What a venue said of its tiers. Raises Malformed."""
        tiers = ADAPTERS[asked.venue].parse_tiers(asked, body)
        self._told[asked.venue, asked.symbols[0]] = tiers, now_ns
        self.look(now_ns)

    def look(self, now_ns: int) -> None:
        """Follow what is asked for now, and use tiers that have got their price."""
        self._follow(now_ns)
        standings = self._router.feeds.margins
        for key, (tiers, told_ns) in list(self._told.items()):
            standing = standings.get(key)
            unit_usd, counted = (1.0, "") if not tiers.in_contracts else self._contract_usd(key, tiers)
            if standing is None:
                del self._told[key]
            elif unit_usd is None:
                standing.reason = f"no mark price yet: {counted}"
            else:
                del self._told[key]
                self._refreshed(key, standing, (tiers, told_ns), unit_usd, counted)
        for standing in standings.values():
            heard_ns = max(standing.refreshed_ms * _MS, standing.since_ns)
            standing.late = now_ns - heard_ns > _LATE * standing.every_s * 1e9

    # What is followed -----------------------------------------------------------------------------------------------

    def _follow(self, now_ns: int) -> None:
        standings = self._router.feeds.margins
        wanted = dict(_asked(asker.plan for asker in self._router.replies.askers.values()))
        for key in standings.keys() - wanted.keys():
            del standings[key]
            for forgotten in (self._told, self._published, self._said):
                forgotten.pop(key, None)
        for key, every_s in wanted.items():
            if key not in standings:
                standings[key] = MarginStanding(*key, now_ns, every_s)
                self._remember(key, standings[key])
            standings[key].every_s = every_s

    def _remember(self, key: Key, standing: MarginStanding) -> None:
        """What an ingest before this one was told: its age counts on. A file that cannot be read is none."""
        path = self._path(key)
        try:
            if not path.exists():
                return
            [table] = read_tables(path, "refreshed margins")
            told = datetime.strptime(table.as_of, _DATE).replace(tzinfo=UTC)
            if table.venue is not key[0]:
                raise ConfigError(f"{path} is a table of {table.venue.name.lower()}")
        except (ConfigError, ValueError, OSError) as error:
            standing.reason = f"{path.name} cannot be read"
            log.warning("refreshed margins", extra=fields(file=path, reason=str(error)))
            return
        standing.refreshed_ms = int(told.timestamp() * 1000)
        self._published[key] = table
        self._compare(key, standing)

    # What came ------------------------------------------------------------------------------------------------------

    def _contract_usd(self, key: Key, tiers: Tiers) -> tuple[float | None, str]:
        """Dollars of one contract, None while no mark is known; and what was counted, in words."""
        contract = self._router.instruments.find(tiers.venue, tiers.instrument)
        if contract is None:
            return None, f"{tiers.instrument} has no size"
        mark = self._router.flow.marks.get(contract.number)
        size = f"contracts of {contract.contract_base:g} {key[1]}"
        return (None, size) if mark is None else (contract.contract_base * mark, f", {size} at {mark:g} USD")

    def _table(self, key: Key, told: tuple[Tiers, int], unit_usd: float, counted: str) -> MarginTable:
        """Raises InvalidMarginTable: tiers so small that in cents two of them are one."""
        (venue, symbol), (tiers, told_ns) = key, told
        rows = [(None if size is None else round(size * unit_usd, 2), mmr, top) for size, mmr, top in tiers.rows]
        as_of = datetime.fromtimestamp(told_ns / 1e9, UTC).strftime(_DATE)
        source = f"published by {venue.name.lower()} for {tiers.instrument}{counted}"
        return MarginTable.of(venue, as_of, source, self._share(venue, symbol), rows)

    def _share(self, venue: Venue, symbol: str) -> float:
        """The share of open interest for which the venue's table speaks: as in use for this symbol, else for another
        one, else an equal share."""
        own_first = sorted(self._in_use.items(), key=lambda item: item[0] != symbol)
        known = [table for _, in_use in own_first for table in in_use.tables if table.venue is venue]
        return known[0].open_interest_share if known else 1.0 / len(VENUES_BY_NAME)

    def _refreshed(
        self, key: Key, standing: MarginStanding, told: tuple[Tiers, int], unit_usd: float, counted: str
    ) -> None:
        """Tiers in dollars: compared, and kept."""
        try:
            table = self._table(key, told, unit_usd, counted)
        except InvalidMarginTable as error:
            standing.reason = str(error)
            log.warning("refreshed margins", extra=fields(venue=key[0].name.lower(), symbol=key[1], reason=str(error)))
            return
        standing.refreshed_ms = told[1] // _MS
        self._published[key] = table
        self._compare(key, standing)
        fault = self._write(self._path(key), key[1], (table,))
        in_use = self._in_use.get(key[1])
        if in_use is not None and in_use.tables:
            fault = self._write(self._directory / f"{key[1]}.json", key[1], self._merged(key[1], in_use)) or fault
        if fault:
            standing.reason = f"not written: {fault}"

    def _merged(self, symbol: str, in_use: _InUse) -> tuple[MarginTable, ...]:
        """The table in use with every venue that was heard in its place."""
        heard = {venue: table for (venue, name), table in self._published.items() if name == symbol}
        kept = tuple(heard.pop(table.venue, table) for table in in_use.tables)
        return (*kept, *heard.values())

    def _write(self, path: Path, symbol: str, tables: tuple[MarginTable, ...]) -> str:
        """Why it was not written, "" when it was. A file that is in use is left alone: it changes by an operator."""
        if any(in_use.path is not None and in_use.path.resolve() == path.resolve() for in_use in self._in_use.values()):
            log.info("refreshed margins", extra=fields(file=path, state="in use, not replaced"))
            return ""
        try:
            write_tables(path, symbol, tables)
        except OSError as error:
            log.warning("refreshed margins", extra=fields(file=path, reason=f"not written: {error.strerror}"))
            return error.strerror or type(error).__name__
        return ""

    def _compare(self, key: Key, standing: MarginStanding) -> None:
        """Hold what was published against what is in use, and log what changed."""
        published, in_use = self._published.get(key), self._in_use.get(key[1])
        if published is None:
            return
        if in_use is None or in_use.fault:
            standing.drift, standing.reason = None, in_use.fault if in_use is not None else "no table in use"
            return
        standing.drift, standing.reason = drift(in_use.tables, published, in_use.leverages), ""
        off = tuple(tier.leverage for tier in standing.drift.tiers if tier.off)
        if self._said.get(key) != off:
            self._said[key] = off
            self._log(key, standing.drift, published.as_of)

    def _log(self, key: Key, found: Drift, as_of: str) -> None:
        about = {"venue": key[0].name.lower(), "symbol": key[1], "used": found.used_as_of, "published": as_of}
        largest = found.largest
        if largest is None or not found.off:
            log.info("margins are as in use", extra=fields(**about))
            return
        about |= {"tiers_off": str(found.off), "leverage": f"{largest.leverage:g}"}
        about |= {"used_mmr": f"{largest.used_mmr:.5g}", "published_mmr": f"{largest.published_mmr:.5g}"}
        log.log(self._level, "margins differ from those in use", extra=fields(**about))

    def _path(self, key: Key) -> Path:
        return self._directory / f"{key[1]}-{key[0].name.lower()}.json"


def _asked(plans: Iterable[PollPlan]) -> Iterable[tuple[Key, float]]:
    """Whose tiers are asked for, and how often."""
    return (((plan.venue, plan.symbols[0]), plan.every_s) for plan in plans if plan.topic is Topic.MARGINS)


def _in_use(effective: Effective, symbol: str) -> _InUse:
    leverages = effective.config.symbols[symbol].leverages
    try:
        return _InUse(*tables_in_use(effective, symbol), leverages)
    except ConfigError as error:  # its worker says so, too, and does not start
        return _InUse(None, (), leverages, str(error))

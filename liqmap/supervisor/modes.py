"""What the flags of `liqmapd` make of the configuration file: live, demo, or one of the two replays.

A run is the file plus an overlay of what the flags say. The overlay is a function, so that a reload applies it to the
new file too. Times of flags are ms UTC or ISO dates (`2026-02-10`, `2026-02-10T08:00`).
"""

import csv
import gzip
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from liqmap.config import Config, ConfigError, RunMode, load, with_bind
from liqmap.config.simulation import SIMULATED_VENUES
from liqmap.domain.enums import Source, Venue
from liqmap.store.capture import CaptureUnreadable, Description, describe

DEFAULT_INSTANCE: Final = "main"
INSTANCE_LENGTH: Final = 24
FASTEST: Final = 100_000.0
"""Of a replay: years of engine time in an hour of wall time; beyond it the times of a long run leave 64 bits."""
CAPTURE_LEAD_S: Final = 8.0
"""Wall seconds before the first frame of a capture is played: the children start and the links connect meanwhile."""

_TABLE: Final = re.compile(r"(?:bars_1m|liquidations)_(?P<symbol>[A-Z0-9]+)\.csv(?:\.gz)?")
_MS: Final = 1_000_000
_EARLIEST_MS: Final = 946_684_800_000
_LATEST_MS: Final = 4_102_444_800_000

_BOOK_STREAMS: Final = {
    Venue.BINANCE: (re.compile(r"[^@]+@(?P<stream>depth(?:@0ms|@100ms|@500ms)?)"), "depth_stream"),
    Venue.BYBIT: (re.compile(r"orderbook\.(?P<stream>50|200|1000)\..+"), "depth_levels"),
    Venue.OKX: (re.compile(r"(?P<stream>books)/.+"), ""),
}
"""How topics of order books are spelled, and the key of the venue's section that chooses among them."""

S = TypeVar("S", bound=msgspec.Struct)
Overlay = Callable[[Config], Config]


@dataclass(frozen=True, slots=True)
class Flags:
    """The command line of `liqmapd`, as far as it says what is to run."""

    bind: str | None = None
    demo: bool = False
    replay: Path | None = None
    speed: float | None = None
    """None: not given, real time."""
    from_time: str | None = None
    to_time: str | None = None
    symbol: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the daemon. `capture`: raw frames that the venue servers play. `headline`: the mode for people."""

    config_file: Path
    base_dir: Path
    overlay: Overlay
    mode: RunMode
    venue_servers: bool
    capture: Path | None
    headline: str

    def read(self) -> Config:
        """The configuration as it stands in the file now, with what the flags say. Raises ConfigError."""
        return self.overlay(_with_absolute_tables(load(self.config_file), self.config_file.parent))


def run_of(config_file: Path, base_dir: Path, flags: Flags) -> Run:
    """What is to be run. Raises ConfigError also for flags that make no sense."""
    if flags.demo and flags.replay:
        raise ConfigError("--demo and --replay exclude each other")
    if flags.replay is None:
        of_replays = {"from": flags.from_time, "to": flags.to_time, "symbol": flags.symbol, "speed": flags.speed}
        for flag, given in of_replays.items():
            if given is not None:
                raise ConfigError(f"--{flag} belongs to --replay")
    if flags.speed is not None and not 0 < flags.speed <= FASTEST:
        raise ConfigError(f"--speed {flags.speed:g}: must be greater than 0 and at most {FASTEST:.0f}")
    plain = Run(config_file, base_dir, lambda config: config, RunMode(), False, None, "live")
    if flags.demo:
        run = _demo(plain)
    elif flags.replay is None:
        run = plain
    elif flags.replay.is_dir():
        run = _tables(plain, flags.replay.resolve(), flags)
    elif flags.replay.is_file():
        run = _capture(plain, flags.replay.resolve(), flags)
    elif flags.replay.exists():
        raise ConfigError(f"--replay {flags.replay}: neither a file nor a directory")
    else:
        raise ConfigError(f"--replay {flags.replay}: no such file or directory")
    if flags.bind is None:
        return run
    bind, inner = flags.bind, run.overlay
    return replace(run, overlay=lambda config: with_bind(inner(config), bind))


Endpoints = dict[str, dict[str, str]]
"""Addresses by the venue's section of the configuration, and by key."""

_ENDPOINTS: Final[Endpoints] = {
    "binance": {"market_ws": "ws://{}/market", "public_ws": "ws://{}/public", "rest": "http://{}"},
    "bybit": {"ws": "ws://{}/v5/public/linear", "rest": "http://{}"},
    "okx": {"public_ws": "ws://{}/ws/v5/public", "rest": "http://{}"},
}
"""Where a venue server serves what, for each venue that has one."""


def endpoints_at(ports: Mapping[Venue, int]) -> Endpoints:
    """The addresses of the venue servers that listen on loopback at these ports."""
    hosts = {venue.name.lower(): f"127.0.0.1:{port}" for venue, port in ports.items()}
    return {name: {key: url.format(hosts[name]) for key, url in urls.items()} for name, urls in _ENDPOINTS.items()}


def endpoints_of(config: Config) -> Endpoints:
    """The addresses that a configuration has for the venues that can be simulated."""
    sections = {name: getattr(config.venues, name) for name in _ENDPOINTS}
    return {name: {key: getattr(sections[name], key) for key in urls} for name, urls in _ENDPOINTS.items()}


def with_endpoints(config: Config, endpoints: Endpoints) -> Config:
    """The same configuration with these addresses; a venue without is switched off, nobody simulates it."""
    sections = {name: getattr(config.venues, name) for name in config.venues.__struct_fields__}
    replaced = {
        name: _replace(section, **endpoints[name]) if name in endpoints else _replace(section, enabled=False)
        for name, section in sections.items()
    }
    return _replace(config, venues=_replace(config.venues, **replaced))


def instant_ms(text: str, flag: str) -> int:
    """A time of the command line in ms UTC. Raises ConfigError."""
    wrong = f"{flag} {text}: must be ms since 1970 or a date like 2026-02-10 or 2026-02-10T08:00"
    if re.fullmatch(r"[0-9]{12,14}", text):
        time_ms = int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ConfigError(wrong) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        time_ms = int(moment.timestamp() * 1000)
    if not _EARLIEST_MS <= time_ms < _LATEST_MS:
        raise ConfigError(f"{wrong}, between 2000 and 2100")
    return time_ms


def _demo(plain: Run) -> Run:
    mode = RunMode(source=int(Source.SIMULATED))
    return replace(
        plain,
        overlay=lambda config: _renamed(config, "demo"),
        mode=mode,
        venue_servers=True,
        headline="a simulated market",
    )


def _tables(plain: Run, directory: Path, flags: Flags) -> Run:
    present = {match["symbol"] for path in directory.iterdir() if (match := _TABLE.fullmatch(path.name))}
    if not present:
        raise ConfigError(f"--replay {directory}: no bars_1m_SYMBOL.csv or liquidations_SYMBOL.csv (or .gz) in it")
    chosen = _chosen(present, flags.symbol, f"--replay {directory}")
    from_ms, to_ms = _window(flags)
    files = [path for path in directory.iterdir() if _is_of(path, chosen)]
    if flags.to_time is not None and to_ms is not None and to_ms <= min(map(_first_ms, files)):
        raise ConfigError(f"--to {flags.to_time}: the tables in {directory} begin later")
    if flags.from_time is not None and from_ms is not None and from_ms > max(map(_last_ms, files)):
        raise ConfigError(f"--from {flags.from_time}: the tables in {directory} end before that")
    if from_ms is None:
        from_ms = min(map(_first_ms, files))
    mode = RunMode(
        source=int(Source.REPLAY),
        engine_origin_ns=from_ms * _MS,
        wall_origin_ns=time.time_ns(),
        speed=flags.speed or 1.0,
        tables=str(directory),
        from_ms=from_ms,
        to_ms=to_ms,
    )
    return replace(
        plain,
        overlay=lambda config: _only(_renamed(config, "replay"), chosen, directory),
        mode=mode,
        headline=f"a replay of the tables in {directory}",
    )


def _capture(plain: Run, file: Path, flags: Flags) -> Run:
    try:
        held = describe(file)
    except CaptureUnreadable as error:
        raise ConfigError(f"--replay {error}") from error
    from_ms, to_ms = _window(flags)
    first_ns = max(held.first_ns, 0 if from_ms is None else from_ms * _MS)
    if first_ns > held.last_ns:
        raise ConfigError(f"--from {flags.from_time}: {file} ends before that")
    if to_ms is not None and to_ms * _MS <= held.first_ns:
        raise ConfigError(f"--to {flags.to_time}: {file} begins later")
    speed = flags.speed or 1.0
    mode = RunMode(
        source=int(Source.REPLAY),
        engine_origin_ns=first_ns - int(CAPTURE_LEAD_S * speed * 1e9),
        wall_origin_ns=time.time_ns(),
        speed=speed,
        from_ms=from_ms,
        to_ms=to_ms,
        ends_ns=held.last_ns if to_ms is None else min(held.last_ns, to_ms * _MS),
    )
    return replace(
        plain,
        overlay=lambda config: held_config(_renamed(config, "replay"), held, flags.symbol),
        mode=mode,
        venue_servers=True,
        capture=file,
        headline=f"a replay of {file}",
    )


def held_config(config: Config, held: Description, symbol: str | None) -> Config:
    """The configuration restricted to what a capture holds: its venues, its contracts, its kinds of trades and books.
    `symbol`: only this one of them. Raises ConfigError."""
    names = {venue: venue.name.lower() for venue in SIMULATED_VENUES}
    present = {
        name
        for name, table in config.symbols.items()
        for venue in names.keys() & set(held.venues)
        if getattr(table.instruments, names[venue]) in held.instruments.get(venue, ())
    }
    if not present:
        holds = ", ".join(f"{venue.name.lower()} {' '.join(listed)}" for venue, listed in held.instruments.items())
        raise ConfigError(
            f"--replay {held.path}: no configured symbol has a contract in it; it holds {holds or 'none'}"
        )
    chosen = _chosen(present, symbol, str(held.path))
    venues = _replace(
        config.venues,
        **{name: _replace(getattr(config.venues, name), enabled=venue in held.venues) for venue, name in names.items()},
    )
    never = {"margins_poll_s": 0.0}  # what venues ask for now says nothing of a recording
    venues = _replace(venues, bybit=_replace(venues.bybit, **never), okx=_replace(venues.okx, **never))
    topics = held.topics.get(Venue.BINANCE, {})
    kinds = {topic.partition("@")[2] for topic in topics} & {"trade", "aggTrade"}
    if len(kinds) == 1:
        venues = _replace(venues, binance=_replace(venues.binance, trades=kinds.pop()))
    books = {name: _held_books(held, venue) for venue, name in names.items()}
    venues = _replace(venues, **{name: _replace(getattr(venues, name), **changes) for name, changes in books.items()})
    return _only(_replace(config, venues=venues), chosen, held.path)


def _held_books(held: Description, venue: Venue) -> dict[str, object]:
    """What the section of a venue has to say to hear the recorded order books: the stream of which there is most."""
    spelled, key = _BOOK_STREAMS[venue]
    streams: Counter[str] = Counter()
    for topic, frames in held.topics.get(venue, {}).items():
        match = spelled.fullmatch(topic)
        if match is not None:
            streams[match["stream"]] += frames
    if not streams:
        return {"depth": False}
    stream = streams.most_common(1)[0][0]
    return {key: int(stream) if stream.isdigit() else stream} if key else {}


def _window(flags: Flags) -> tuple[int | None, int | None]:
    from_ms = None if flags.from_time is None else instant_ms(flags.from_time, "--from")
    to_ms = None if flags.to_time is None else instant_ms(flags.to_time, "--to")
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise ConfigError("--to must be later than --from")
    return from_ms, to_ms


def _chosen(present: set[str], symbol: str | None, what: str) -> frozenset[str]:
    if symbol is None:
        return frozenset(present)
    if symbol.upper() not in present:
        raise ConfigError(f"--symbol {symbol}: {what} holds {', '.join(sorted(present))}")
    return frozenset({symbol.upper()})


def _is_of(path: Path, symbols: frozenset[str]) -> bool:
    match = _TABLE.fullmatch(path.name)
    return match is not None and match["symbol"] in symbols


def _first_ms(path: Path) -> int:
    """The time in the first row of a table. Raises ConfigError."""
    first = next(_times_ms(path), None)
    if first is None:
        raise ConfigError(f"{path}: the first row has no time in minute_ms or ts_ms")
    return first


def _last_ms(path: Path) -> int:
    """The latest time in a table, as far as it can be read. Raises ConfigError."""
    latest = _first_ms(path)
    try:
        for time_ms in _times_ms(path):
            latest = max(latest, time_ms)
    except ConfigError:
        return latest  # torn: who plays it says where
    return latest


def _times_ms(path: Path) -> Iterator[int]:
    """The times of a table's rows up to the first that has none. Raises ConfigError."""
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for row in csv.DictReader(lines):
                text = str(row.get("minute_ms") or row.get("ts_ms") or "")
                if not re.fullmatch(r"[0-9]{12,14}", text):
                    return
                yield int(text)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _only(config: Config, symbols: frozenset[str], source: Path) -> Config:
    """Enable exactly these symbols. Raises ConfigError when none of them is configured."""
    tables = {
        name: _replace(table, enabled=table.enabled and name in symbols) for name, table in config.symbols.items()
    }
    if not any(table.enabled for table in tables.values()):
        listed = ", ".join(config.enabled_symbols)
        raise ConfigError(f"{source} holds {', '.join(sorted(symbols))}, but enabled in symbols are {listed}")
    return _replace(config, symbols=tables)


def _renamed(config: Config, mode: str) -> Config:
    """Beside a live daemon of the same file: an instance of its own."""
    name = config.daemon.instance
    instance = mode if name == DEFAULT_INSTANCE else f"{name[: INSTANCE_LENGTH - len(mode) - 1]}-{mode}"
    return _replace(config, daemon=_replace(config.daemon, instance=instance))


def _with_absolute_tables(config: Config, directory: Path) -> Config:
    """Files that a symbol names are relative to the configuration file; children need not know where that was."""
    symbols = {
        name: _replace(table, margin_table=str(directory.resolve() / table.margin_table))
        if table.margin_table
        else table
        for name, table in config.symbols.items()
    }
    return _replace(config, symbols=symbols)


def _replace(record: S, **changes: object) -> S:
    return msgspec.structs.replace(record, **changes)

"""From a TOML file to a validated Config, or to one sentence that says what is wrong and what is allowed."""

import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from liqmap.config.records import Config, SymbolConfig, with_shipped
from liqmap.config.simulation import sim_faults, sim_tables, with_preset


class ConfigError(Exception):
    """The operator's configuration is wrong; the text says where and what is allowed."""


T = TypeVar("T")

_HIGHEST_PORT = 65535
_SYMBOL_NAME = re.compile(r"[A-Z0-9]{1,15}")
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$?\.?(?P<path>.*)`)?$", re.DOTALL)


def load(path: Path) -> Config:
    """The validated configuration of the TOML file at `path`. Raises ConfigError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        raw = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    return _with_paths_from(parse(raw, str(path)), path.absolute().parent)


def _with_paths_from(config: Config, directory: Path) -> Config:
    """The same configuration with the files it names made absolute: relative ones start at its own directory."""
    symbols = {
        name: msgspec.structs.replace(table, margin_table=str(directory / table.margin_table))
        if table.margin_table is not None
        else table
        for name, table in config.symbols.items()
    }
    return msgspec.structs.replace(config, symbols=symbols)


def parse(raw: dict[str, Any], name: str = "configuration") -> Config:
    """The validated configuration of a decoded file. Raises ConfigError naming the dotted key."""
    raw = dict(raw)
    if isinstance(raw.get("symbols"), dict):
        raw["symbols"] = {symbol: with_shipped(symbol, table) for symbol, table in raw["symbols"].items()}
        for symbol, table in raw["symbols"].items():
            _convert(table, SymbolConfig, name, f"symbols.{symbol}")
    if "sim" in raw:
        raw["sim"] = with_preset(raw["sim"])
        for key, table, record in sim_tables(raw["sim"]):
            _convert(table, record, name, f"sim.{key}")
    config = _convert(raw, Config, name, "")
    _cross_check(config, name)
    return config


def with_bind(config: Config, bind: str) -> Config:
    """The same configuration listening elsewhere (the `--bind` flag)."""
    changed = msgspec.structs.replace(config, api=msgspec.structs.replace(config.api, bind=bind))
    _cross_check(changed, "--bind")
    return changed


def dump(config: Config) -> dict[str, Any]:
    """The configuration as plain tables, every default written out (what `--check` prints)."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    return tables


def _convert(raw: object, record: type[T], name: str, prefix: str) -> T:
    try:
        return msgspec.convert(raw, record)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(name, prefix, raw, str(error))) from error


def _explain(name: str, prefix: str, raw: object, message: str) -> str:
    match = _AT.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    value = _value_at(raw, path)
    path = ".".join(part for part in (prefix, path) if part)
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown:
        dotted = ".".join(part for part in (path, unknown[1]) if part)
        return f"{name}: {dotted}: unknown key"
    shown = "" if value is _ABSENT else f" = {value!r}"
    return f"{name}: {path or 'top level'}{shown}: {what[:1].lower()}{what[1:]}"


_ABSENT = object()


def _value_at(raw: object, path: str) -> object:
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(raw, dict) and part in raw:
            raw = raw[part]
        elif isinstance(raw, list | tuple) and part.isdigit() and int(part) < len(raw):
            raw = raw[int(part)]
        else:
            return _ABSENT
    return raw


def _cross_check(config: Config, name: str) -> None:
    def refuse(key: str, value: object, allowed: str) -> NoReturn:
        raise ConfigError(f"{name}: {key} = {value!r}: {allowed}")

    address = re.fullmatch(r"unix:.+|(?:\[[0-9a-fA-F:]+\]|[^:\s]+):(?P<port>\d{1,5})", config.api.bind)
    if address is None or int(address["port"] or 0) > _HIGHEST_PORT:
        refuse("api.bind", config.api.bind, "must be host:port or unix:PATH")
    if config.ingest.ring_events & (config.ingest.ring_events - 1):
        refuse("ingest.ring_events", config.ingest.ring_events, "must be a power of two")
    if not config.symbols:
        refuse("symbols", {}, "at least one symbol is needed")
    for key, value, allowed in sim_faults(config.sim):
        refuse(f"sim.{key}", value, allowed)
    listed: dict[tuple[str, str], str] = {}
    for symbol, table in config.symbols.items():
        for key, value, allowed in _symbol_faults(symbol, table):
            refuse(f"symbols.{symbol}{key}", value, allowed)
        for venue, instrument in msgspec.structs.asdict(table.instruments).items():
            other = listed.setdefault((venue, instrument), symbol) if instrument else symbol
            if other != symbol:
                refuse(f"symbols.{symbol}.instruments.{venue}", instrument, f"already belongs to symbols.{other}")


def _symbol_faults(symbol: str, table: SymbolConfig) -> Iterator[tuple[str, object, str]]:
    weights, leverages = list(table.weights), list(table.leverages)
    if not _SYMBOL_NAME.fullmatch(symbol):
        yield "", symbol, "a symbol is 1 to 15 capital letters and digits"
    if not leverages or leverages != sorted(set(leverages)):
        yield ".leverages", leverages, "must be a rising list without repeats"
    if len(leverages) != len(weights):
        yield ".weights", weights, f"one weight for each of {len(leverages)} leverages"
    if not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        yield ".weights", weights, f"must sum to 1, they sum to {sum(weights):.6g}"

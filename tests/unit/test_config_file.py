"""The configuration file: what is refused, in which words, and that every default exists once."""

import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from liqmap.config import Config, ConfigError, dump, load, load_effective, parse, with_bind, write_effective
from liqmap.config.running import Effective, RunMode
from liqmap.engine.spec import EngineSpec
from liqmap.worker.main import spec_of

SHIPPED = Path(__file__).parents[2] / "etc" / "liqmap.toml"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(text), "liqmap.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("[api]\nport = 8899", "api.port", "unknown key"),
        ("[apo]\nbind = 'x'", "apo", "unknown key"),
        ("[symbols.BTC]\ncolour = 'red'", "symbols.BTC.colour", "unknown key"),
        ("[symbols.BTC.instruments]\nkraken = 'XBT'", "symbols.BTC.instruments.kraken", "unknown key"),
        ("[venues.binance]\nfoo = 1", "venues.binance.foo", "unknown key"),
        ("[api]\nworkers = 'two'", "api.workers = 'two'", "expected `int`"),
        ("[api]\nworkers = 0", "api.workers = 0", ">= 1"),
        ("[api]\nworkers = 65", "api.workers = 65", "<= 64"),
        ("[api]\nbind = '8899'", "api.bind = '8899'", "host:port or unix:PATH"),
        ("[api]\nbind = '127.0.0.1:99999'", "api.bind = '127.0.0.1:99999'", "host:port or unix:PATH"),
        ("[supervisor]\nheartbeat_timeout_s = 0", "supervisor.heartbeat_timeout_s = 0", "> 0"),
        ("[supervisor]\nworker_nice = 20", "supervisor.worker_nice = 20", "<= 19"),
        ("[daemon]\ninstance = 'Main Street'", "daemon.instance = 'Main Street'", "regex"),
        ("[daemon]\nlog_level = 'LOUD'", "daemon.log_level = 'LOUD'", "enum"),
        ("[ingest]\nring_events = 5000", "ingest.ring_events = 5000", "power of two"),
        ("[venues.okx]\nrest = 'ftp://x'", "venues.okx.rest = 'ftp://x'", "regex"),
        ("[venues.binance]\ntrades = 'some'", "venues.binance.trades = 'some'", "enum"),
        ("symbols = {}", "symbols", "at least one symbol"),
        ("[symbols.btc]\nstep = 1.0", "symbols.btc", "missing required field"),
        ("[symbols.DOGE]\nstep = 1.0", "symbols.DOGE", "missing required field"),
        ("[symbols.BTC]\nstep = -1", "symbols.BTC.step = -1", "> 0"),
        ("[symbols.BTC]\nleverages = [5, 3]\nweights = [0.5, 0.5]", "symbols.BTC.leverages", "rising"),
        ("[symbols.BTC]\nleverages = [3, 5]\nweights = [1.0]", "symbols.BTC.weights", "one weight for each of 2"),
        ("[symbols.BTC]\nleverages = [3, 5]\nweights = [0.5, 0.4]", "symbols.BTC.weights", "sum to 1"),
        ("[symbols.BTC]\nbuckets = 10", "symbols.BTC.buckets = 10", ">= 64"),
        ("symbols = 3", "symbols = 3", "expected"),
        ("[symbols]\nBTC = 3", "symbols.BTC = 3", "expected"),
    ],
)
def test_a_fault_is_one_line_with_file_key_value_and_what_is_allowed(text: str, key: str, allowed: str) -> None:
    said = refused(text)
    assert "\n" not in said
    assert said.startswith("liqmap.toml: ")
    assert key in said
    assert allowed in said


@pytest.mark.finding("L17")
def test_one_contract_cannot_belong_to_two_symbols() -> None:
    said = refused("""
        [symbols.BTC]
        [symbols.XBT]
        step = 20.0
        leverages = [5]
        weights = [1.0]
        instruments = { bybit = "BTCUSDT" }
    """)
    assert "symbols.XBT.instruments.bybit" in said
    assert "already belongs to symbols.BTC" in said


@pytest.mark.finding("L17")
def test_a_symbol_cannot_be_written_twice(tmp_path: Path) -> None:
    file = tmp_path / "twice.toml"
    file.write_text("[symbols.BTC]\nstep = 10.0\n[symbols.BTC]\nstep = 20.0\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"[daemon", "is not TOML"), (b"\xff\xfe", "is not TOML"), (b"a = 1\na = 2", "is not TOML")],
)
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


@pytest.mark.finding("M1")
def test_an_empty_file_and_the_shipped_one_mean_the_same() -> None:
    """Defaults exist once, in code; the shipped file repeats them for readers, and this keeps it honest."""
    assert dump(load(SHIPPED)) == dump(parse({})) == dump(Config())


@pytest.mark.finding("M1")
def test_the_shipped_file_shows_every_key_but_the_depths_of_the_simulation() -> None:
    written = _keys(tomllib.loads(SHIPPED.read_text()))
    existing = _keys(dump(Config()))
    missing = {key for key in existing - written if not key.startswith("sim.") and not key.endswith(".margin_table")}
    assert missing == set()


@pytest.mark.finding("L1")
@pytest.mark.finding("L13")
@pytest.mark.finding("M7")
def test_nothing_that_is_configured_has_a_second_default_in_the_engine() -> None:
    """What the engine is told has no defaults of its own: whoever builds it has to ask the configuration."""
    own = {
        field.name
        for field in fields(EngineSpec)
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    assert own == set()
    spec = spec_of(Effective(Config(), RunMode(), str(SHIPPED.parent.parent)), "BTC")
    told = {"shrink_limit": "flow_shrink_limit", "sweep_share": "flow_sweep_share"}
    for name in ("decay_per_minute", "oi_max_age_s", "oi_jump_limit", "shrink_limit", "sweep_share"):
        assert getattr(spec, name) == getattr(Config().model, told.get(name, name))
    for name in ("turnover_per_minute", "anchor_drift", "trigger_clamp_s"):
        assert getattr(spec, name) == getattr(Config().model, name)
    assert spec.realisation == Config().calibration.realisation


@pytest.mark.finding("L1")
@pytest.mark.finding("L13")
def test_another_value_in_the_file_is_the_one_the_engine_gets() -> None:
    config = parse({"model": {"turnover_per_minute": 0.0007}, "calibration": {"realisation": 0.25}})
    spec = spec_of(Effective(config, RunMode(), str(SHIPPED.parent.parent)), "SOL")
    assert (spec.turnover_per_minute, spec.realisation) == (0.0007, 0.25)


def _keys(table: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        found |= _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return found


def test_a_file_that_names_symbols_has_only_those_and_need_not_repeat_the_shipped_numbers() -> None:
    config = parse({"symbols": {"ETH": {}, "BTC": {"enabled": False}}})
    assert list(config.symbols) == ["ETH", "BTC"]
    assert config.enabled_symbols == ("ETH",)
    assert config.symbols["ETH"] == Config().symbols["ETH"]


def test_the_bind_flag_is_checked_like_the_file() -> None:
    assert with_bind(Config(), "unix:/run/liqmap.sock").api.bind == "unix:/run/liqmap.sock"
    with pytest.raises(ConfigError, match=r"--bind: api\.bind = 'nowhere'"):
        with_bind(Config(), "nowhere")


def test_what_children_are_handed_reads_back_equal(tmp_path: Path) -> None:
    effective = Effective(config=load(SHIPPED), mode=RunMode(source=3, speed=60.0, tables="/t", from_ms=1))
    write_effective(effective, tmp_path / "effective.json")
    assert load_effective(tmp_path / "effective.json") == effective
    assert [path.name for path in tmp_path.iterdir()] == ["effective.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"config": {"daemon": {"instance": 3}}}', b'{"config": {}, "x": 1}'])
def test_a_damaged_effective_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "effective.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"effective\.json"):
        load_effective(path)

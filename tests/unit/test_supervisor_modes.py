"""What the flags of liqmapd make of the file."""

import gzip
from pathlib import Path

import pytest

from liqmap.config import Config, ConfigError
from liqmap.domain.enums import Source, Venue
from liqmap.supervisor.modes import CAPTURE_LEAD_S, Flags, endpoints_at, instant_ms, run_of, with_endpoints


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "liqmap.toml"
    path.write_text("[symbols.BTC]\nmargin_table = 'brackets.json'\n[symbols.ETH]\n[symbols.SOL]\nenabled = false\n")
    return path


def refused(file: Path, flags: Flags) -> str:
    with pytest.raises(ConfigError) as caught:
        run_of(file, file.parent, flags).read()
    return str(caught.value)


def test_live_is_the_file_as_it_is(file: Path) -> None:
    run = run_of(file, file.parent, Flags())
    config = run.read()
    assert (run.mode.source, run.venue_servers, config.daemon.instance) == (Source.LIVE, False, "main")
    assert config.venues == Config().venues


def test_files_of_a_symbol_are_relative_to_the_configuration_file(file: Path) -> None:
    config = run_of(file, Path("/elsewhere"), Flags()).read()
    assert config.symbols["BTC"].margin_table == str(file.parent / "brackets.json")
    assert config.symbols["ETH"].margin_table is None


def test_a_demo_is_an_instance_of_its_own_and_says_that_it_is_simulated(file: Path) -> None:
    run = run_of(file, file.parent, Flags(demo=True, bind="127.0.0.1:0"))
    config = run.read()
    assert (run.mode.source, config.daemon.instance, config.api.bind) == (Source.SIMULATED, "demo", "127.0.0.1:0")
    file.write_text("[daemon]\ninstance = 'a-rather-long-name-24char'\n".replace("24char", "24c"))
    assert len(run.read().daemon.instance) <= 24
    assert run.read().daemon.instance.endswith("-demo")


def test_every_venue_is_led_to_its_loopback_server() -> None:
    ports = {Venue.BINANCE: 1, Venue.BYBIT: 2, Venue.OKX: 3}
    venues = with_endpoints(Config(), endpoints_at(ports)).venues
    assert venues.binance.market_ws == "ws://127.0.0.1:1/market"
    assert venues.binance.public_ws == "ws://127.0.0.1:1/public"
    assert venues.bybit.ws == "ws://127.0.0.1:2/v5/public/linear"
    assert venues.okx.public_ws == "ws://127.0.0.1:3/ws/v5/public"
    rests = [venues.binance.rest, venues.bybit.rest, venues.okx.rest]
    assert rests == ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (Flags(demo=True, replay=Path("x")), "exclude"),
        (Flags(replay=Path("/no/such")), "no such file or directory"),
        (Flags(replay=Path("/"), speed=0.0), "--speed"),
        (Flags(replay=Path("/"), speed=-1.0), "--speed"),
        (Flags(replay=Path("/"), speed=float("nan")), "--speed"),
        (Flags(replay=Path("/"), speed=1e9), "at most 100000"),
        (Flags(speed=2.0), "--speed belongs to --replay"),
        (Flags(demo=True, speed=1.0), "--speed belongs to --replay"),
        (Flags(replay=Path("/dev/null")), "neither a file nor a directory"),
        (Flags(from_time="2026-02-10"), "--from belongs to --replay"),
        (Flags(bind="here"), "api.bind"),
    ],
)
def test_flags_that_make_no_sense(file: Path, flags: Flags, says: str) -> None:
    assert says in refused(file, flags)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    directory = tmp_path / "tables"
    directory.mkdir()
    with gzip.open(directory / "bars_1m_BTC.csv.gz", "wt") as bars:
        bars.write("minute_ms,open,high,low,close\n1770681600000,1,1,1,1\n1770854400000,1,1,1,1\n")
    (directory / "liquidations_ETH.csv").write_text(
        "ts_ms,venue,position_side,price,qty_base\n1770681700000,binance,long,1,1\n"
    )
    (directory / "notes.txt").write_text("not a table")
    return directory


def test_tables_enable_the_symbols_they_hold_and_set_the_clock(file: Path, tables: Path) -> None:
    run = run_of(file, file.parent, Flags(replay=tables, speed=600.0))
    config = run.read()
    assert config.enabled_symbols == ("BTC", "ETH")
    assert config.daemon.instance == "replay"
    assert (run.mode.source, run.mode.speed, run.mode.tables) == (Source.REPLAY, 600.0, str(tables))
    assert run.mode.engine_origin_ns == 1770681600000 * 1_000_000
    assert not run.venue_servers


def test_tables_of_one_symbol_from_a_date_to_another(file: Path, tables: Path) -> None:
    flags = Flags(replay=tables, symbol="btc", from_time="2026-02-10T12:00", to_time="2026-02-11")
    run = run_of(file, file.parent, flags)
    assert run.read().enabled_symbols == ("BTC",)
    assert (run.mode.from_ms, run.mode.to_ms) == (1770724800000, 1770768000000)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (Flags(symbol="SOL"), "holds BTC, ETH"),
        (Flags(from_time="yesterday"), "--from yesterday"),
        (Flags(from_time="2026-02-11", to_time="2026-02-10"), "--to must be later"),
        (Flags(from_time="2030-01-01"), "end before that"),
        (Flags(to_time="2020-01-01"), "begin later"),
        (Flags(from_time="99999999999999"), "between 2000 and 2100"),
    ],
)
def test_tables_and_flags_that_do_not_fit(file: Path, tables: Path, flags: Flags, says: str) -> None:
    assert says in refused(
        file, Flags(replay=tables, **{k: getattr(flags, k) for k in ("symbol", "from_time", "to_time")})
    )


def test_a_directory_without_tables(file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no bars_1m_SYMBOL.csv" in refused(file, Flags(replay=tmp_path / "empty"))


def test_tables_of_unconfigured_symbols_only(file: Path, tables: Path) -> None:
    file.write_text("[symbols.SOL]\n")
    assert "enabled in symbols are SOL" in refused(file, Flags(replay=tables))


BINANCE_LINES = (
    b'1723161255030314667 {"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":1,"p":"61000.1",'
    b'"q":"0.1","X":"MARKET","m":true}}\n'
    b'1723161256030314667 {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","s":"BTCUSDT","b":"1","B":"1"}}\n'
)


def test_a_capture_restricts_the_run_to_what_it_holds(file: Path, tmp_path: Path) -> None:
    capture = tmp_path / "frames.gz"
    capture.write_bytes(gzip.compress(BINANCE_LINES))
    run = run_of(file, file.parent, Flags(replay=capture, speed=2.0))
    config = run.read()
    assert config.enabled_symbols == ("BTC",)
    assert config.venues.binance.trades == "trade"
    assert [config.venues.binance.enabled, config.venues.bybit.enabled, config.venues.okx.enabled] == [
        True,
        False,
        False,
    ]
    assert run.capture == capture
    assert run.mode.engine_origin_ns == 1723161255030314667 - int(CAPTURE_LEAD_S * 2 * 1e9)
    assert run.mode.ends_ns == 1723161256030314667
    shorter = run_of(file, file.parent, Flags(replay=capture, to_time="1723161255500"))
    assert shorter.mode.ends_ns == 1723161255500000000
    assert "begins later" in refused(file, Flags(replay=capture, to_time="1723161255000"))


def depth_line(venue_topic: bytes) -> bytes:
    return b'1723161255030314667 {"stream":"' + venue_topic + b'","data":{"e":"depthUpdate","s":"BTCUSDT"}}\n'


def test_a_capture_is_asked_for_the_books_it_holds_and_for_no_others(file: Path, tmp_path: Path) -> None:
    capture = tmp_path / "frames"
    capture.write_bytes(BINANCE_LINES)
    assert not run_of(file, file.parent, Flags(replay=capture)).read().venues.binance.depth
    capture.write_bytes(BINANCE_LINES + 2 * depth_line(b"btcusdt@depth@0ms") + depth_line(b"btcusdt@depth@500ms"))
    binance = run_of(file, file.parent, Flags(replay=capture)).read().venues.binance
    assert (binance.depth, binance.depth_stream) == (True, "depth@0ms")
    capture.write_bytes(
        b'1786310817000000000 {"topic":"orderbook.200.BTCUSDT","type":"snapshot","ts":1,"data":{"s":"BTCUSDT"}}\n'
    )
    bybit = run_of(file, file.parent, Flags(replay=capture)).read().venues.bybit
    assert (bybit.depth, bybit.depth_levels) == (True, 200)


def test_a_capture_without_a_configured_contract_says_what_it_holds(file: Path, tmp_path: Path) -> None:
    capture = tmp_path / "frames"
    capture.write_bytes(BINANCE_LINES.replace(b"BTCUSDT", b"SUSHIUSDT").replace(b"btcusdt", b"sushiusdt"))
    assert "it holds binance SUSHIUSDT" in refused(file, Flags(replay=capture))


def test_a_file_that_is_no_capture(file: Path, tmp_path: Path) -> None:
    capture = tmp_path / "frames"
    capture.write_bytes(b"hello\n")
    assert "no capture of raw frames" in refused(file, Flags(replay=capture))


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1770681600000", 1770681600000),
        ("2026-02-10", 1770681600000),
        ("2026-02-10T01:00", 1770685200000),
        ("2026-02-10T01:00:00+01:00", 1770681600000),
    ],
)
def test_times(text: str, ms: int) -> None:
    assert instant_ms(text, "--from") == ms


def test_a_torn_table_still_tells_where_it_ends(file: Path, tables: Path) -> None:
    whole = (tables / "bars_1m_BTC.csv.gz").read_bytes()
    (tables / "bars_1m_BTC.csv.gz").write_bytes(whole[:-9])
    assert run_of(file, file.parent, Flags(replay=tables, symbol="BTC", from_time="2026-02-10")).mode.from_ms

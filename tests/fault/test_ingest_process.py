"""The ingest process as the supervisor starts it: rings, feeds board, signals, death and return."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from liqmap import config as configuration
from liqmap.config import Config, Effective, Paths, RunMode, paths, write_effective
from liqmap.domain.enums import GapReason, Kind, PositionSide, Source, Venue
from liqmap.domain.event import EVENT_DTYPE, SEQUENCE_EPOCH_SHIFT, Event
from liqmap.shm.board import BoardReader, NeverPublished
from liqmap.shm.layout import FEEDS, segment_name
from liqmap.shm.plan import create_all
from liqmap.shm.ring import RingReader, RingWriter
from liqmap.shm.segment import Segment
from liqmap.shm.status import read_heartbeats, status_name
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


class Daemon:
    """The supervisor's part: segments and the effective configuration. The test is the workers."""

    def __init__(self, config: Config, mode: RunMode) -> None:
        self.config = config
        self.mode = mode
        self.paths: Paths = paths(config, str(ROOT))
        for directory in (self.paths.run_dir, self.paths.log_dir, self.paths.lib_dir):
            directory.mkdir(parents=True, exist_ok=True)
        self.holding = create_all(config)
        self.write(config)
        self.process: subprocess.Popen[bytes] | None = None
        self._readers: dict[str, RingReader] = {}
        self._events: dict[str, list[Any]] = {}

    def write(self, config: Config) -> None:
        """What the children read from now on."""
        self.config = config
        write_effective(Effective(config, self.mode, str(ROOT)), self.paths.effective)

    def start(self) -> None:
        """Start ingest, with every warning an error."""
        command = [sys.executable, "-W", "error", "-m", "liqmap.ingest", "--effective", str(self.paths.effective)]
        with (self.paths.log_dir / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)

    def said(self) -> str:
        """Its standard error."""
        return (self.paths.log_dir / "stderr").read_text()

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(timeout=DEADLINE_S)

    def events(self, symbol: str, *kinds: Kind) -> Any:
        """Everything its ring ever held."""
        if symbol not in self._readers:
            name = segment_name(self.config.daemon.instance, "ring", symbol)
            self._readers[symbol], self._events[symbol] = RingReader.open(name), [np.zeros(0, EVENT_DTYPE)]
        while len(taken := self._readers[symbol].take(8192)):
            self._events[symbol].append(taken)
            self._readers[symbol].commit()
        events = np.concatenate(self._events[symbol])
        return events[np.isin(events["kind"], kinds)] if kinds else events

    def feeds(self) -> Any:
        """The feeds board, None before the first."""
        try:
            return BoardReader.open(segment_name(self.config.daemon.instance, "feeds"), FEEDS).read()
        except NeverPublished:
            return None

    def reason(self, venue: Venue) -> str:
        """What stands against a venue."""
        board = self.feeds()
        rows = [] if board is None else board["venues"][: int(board["venue_count"])]
        return next((bytes(row["reason"]).decode() for row in rows if row["venue"] == venue), "")

    def ready(self) -> bool:
        """Its heartbeat says so."""
        with Segment.open_reader(status_name(self.config.daemon.instance)) as segment:
            beat = read_heartbeats(segment).get("ingest")
        return beat is not None and bool(beat.ready) and self.process is not None and beat.pid == self.process.pid

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it. Fails after the deadline, or when the process ended."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"never came: {what}\n{self.said()}"
            assert self.process is None or self.process.poll() is None, f"it ended: {self.said()}"
            time.sleep(0.02)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.holding.retire_all()


@contextmanager
def daemon(config: Config, directory: Path, mode: RunMode | None = None) -> Iterator[Daemon]:
    """A daemon of its own instance, in its own directory."""
    own = msgspec.structs.replace(
        config.daemon, instance=f"t{os.getpid()}-{secrets.token_hex(3)}", var_dir=str(directory)
    )
    stage = Daemon(msgspec.structs.replace(config, daemon=own), mode or RunMode(source=int(Source.SIMULATED)))
    try:
        yield stage
    finally:
        stage.close()


def test_it_delivers_stops_when_asked_and_leaves_word_in_every_ring(tmp_path: Path) -> None:
    with venue_servers() as venues, daemon(venues.config(symbols={"BTC": {}}), tmp_path) as stage:
        stage.start()
        stage.until(stage.ready, "ready")
        stage.until(lambda: len(set(stage.events("BTC", Kind.MARK_PRICE)["venue"])) == 3, "a mark price of each venue")
        stage.signal(signal.SIGTERM)
        assert stage.ended() == 0
        gaps = stage.events("BTC", Kind.GAP)
        stopped = gaps[gaps["side"] == GapReason.STOPPED]
        assert set(stopped["venue"]) == {int(Venue.BINANCE), int(Venue.BYBIT), int(Venue.OKX)}
        assert "Warning" not in stage.said()
        assert "Traceback" not in stage.said()


def no_connections(venues: RunningVenues, venue: Venue) -> bool:
    return not venues.state(venue)["connections"]


@pytest.mark.finding("M17")
def test_after_a_stop_no_socket_is_left_and_nobody_warns(tmp_path: Path) -> None:
    with venue_servers() as venues, daemon(venues.config(symbols={"BTC": {}}), tmp_path) as stage:
        stage.start()
        stage.until(lambda: stage.events("BTC", Kind.MARK_PRICE).size, "a mark price")
        stage.signal(signal.SIGTERM)
        assert stage.ended() == 0
        for venue in (Venue.BINANCE, Venue.BYBIT, Venue.OKX):
            stage.process = None
            stage.until(partial(no_connections, venues, venue), "every socket closed")
        assert "ResourceWarning" not in stage.said()


def more_than(stage: Daemon, count: int) -> bool:
    return bool(stage.events("BTC").size > count)


def test_after_a_kill_its_successor_takes_numbers_that_were_never_used(tmp_path: Path) -> None:
    with venue_servers() as venues, daemon(venues.config(symbols={"BTC": {}}), tmp_path) as stage:
        for epoch in (1, 2, 3):
            stage.start()
            stage.until(stage.ready, "ready")
            stage.until(partial(more_than, stage, stage.events("BTC").size + 3), "more events")
            stage.signal(signal.SIGKILL)
            stage.ended()
            assert set(stage.events("BTC")["sequence"] >> SEQUENCE_EPOCH_SHIFT) == set(range(1, epoch + 1))
        numbers = stage.events("BTC")["sequence"]
        assert (np.diff(numbers.astype(np.int64)) > 0).all()


def test_what_okx_plays_again_to_a_successor_is_told_once(tmp_path: Path) -> None:
    """OKX sends recent liquidations to every new subscriber; the one who had heard them is dead."""
    market = ScriptedMarket("BTC", 60_000.0)
    with venue_servers(market) as venues, daemon(venues.config(symbols={"BTC": {}}), tmp_path) as stage:
        stage.start()
        stage.until(lambda: stage.events("BTC", Kind.MARK_PRICE).size, "a mark price")
        for qty_base in (1.5, 2.5):
            market.liquidate(Venue.OKX, PositionSide.LONG, price=58_000.0, fill=58_300.0, qty_base=qty_base)
        stage.until(lambda: stage.events("BTC", Kind.LIQUIDATION).size == 2, "two liquidations")
        stage.signal(signal.SIGKILL)
        stage.ended()
        stage.start()
        stage.until(stage.ready, "ready")
        market.liquidate(Venue.OKX, PositionSide.LONG, price=57_000.0, fill=57_300.0, qty_base=3.5)
        stage.until(lambda: 3.5 in stage.events("BTC", Kind.LIQUIDATION)["quantity"], "a new one")
        assert sorted(stage.events("BTC", Kind.LIQUIDATION)["quantity"]) == [1.5, 2.5, 3.5]


def test_a_wall_clock_set_back_while_ingest_was_dead_does_not_turn_engine_time_back(tmp_path: Path) -> None:
    """Its predecessor's last event is an hour ahead: time goes on from there, or workers would stand still for it."""
    with venue_servers() as venues, daemon(venues.config(symbols={"BTC": {}}), tmp_path) as stage:
        ahead_ns = time.time_ns() + 3600 * 10**9
        ring = RingWriter.open(segment_name(stage.config.daemon.instance, "ring", "BTC"))
        ring.write(Event(ahead_ns, kind=Kind.TICK).packed(1))
        stage.start()
        stage.until(lambda: stage.events("BTC", Kind.TICK).size > 10, "ticks")
        stamps = stage.events("BTC")["receive_ns"]
        assert np.all(np.diff(stamps) >= 0)
        assert 10**9 < stamps[-1] - ahead_ns < 600 * 10**9, "and it moves on, by the monotonic clock"


def test_a_symbol_is_added_on_hup_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    markets = [ScriptedMarket("BTC", 60_000.0), ScriptedMarket("ETH", 3_000.0)]
    with venue_servers(*markets) as venues:
        both = venues.config(symbols={"BTC": {}, "ETH": {}})
        with daemon(both, tmp_path) as stage:
            config = stage.config
            btc = {"BTC": config.symbols["BTC"]}
            stage.write(msgspec.structs.replace(config, symbols=btc))
            stage.start()
            stage.until(lambda: stage.events("BTC", Kind.MARK_PRICE).size, "a mark price")
            assert stage.events("ETH").size == 0
            stage.paths.effective.write_text('{"config": 7}')
            stage.signal(signal.SIGHUP)
            stage.until(lambda: "not taken over" in stage.said(), "the refusal of the file")
            stage.write(config)
            stage.signal(signal.SIGHUP)
            stage.until(lambda: stage.events("ETH", Kind.MARK_PRICE).size, "a mark price of the new symbol")
            assert all("reconnect" not in line for line in stage.said().splitlines())
            board = stage.feeds()
            assert board["links"][: int(board["link_count"])]["reconnects"].sum() == 0


def says(stage: Daemon, venue: Venue, words: str) -> bool:
    return words in stage.reason(venue)


def test_without_a_network_it_lives_says_why_and_stops_when_asked(tmp_path: Path) -> None:
    nowhere = {
        "binance": {"market_ws": "wss://fstream.invalid/market", "public_ws": "wss://fstream.invalid/public"},
        "bybit": {"ws": "wss://stream.invalid/v5/public/linear", "rest": "https://api.invalid"},
        "okx": {"public_ws": "wss://ws.invalid/ws/v5/public", "rest": "https://www.invalid"},
    }
    nowhere["binance"]["rest"] = "https://fapi.invalid"
    config = configuration.parse({"symbols": {"BTC": {}}, "venues": nowhere})
    with daemon(config, tmp_path, RunMode()) as stage:
        stage.start()
        stage.until(stage.ready, "ready without a network")
        for venue, host in ((Venue.BINANCE, "fstream"), (Venue.BYBIT, "stream"), (Venue.OKX, "ws")):
            stage.until(partial(says, stage, venue, f"cannot resolve {host}.invalid"), "the reason")
        stage.until(lambda: stage.events("BTC", Kind.TICK).size >= 4, "time goes on")
        stage.signal(signal.SIGTERM)
        assert stage.ended() == 0


def test_tables_are_played_to_their_end_and_then_it_goes_on_serving(tmp_path: Path) -> None:
    start_ms = 1_770_681_600_000
    tables = tmp_path / "tables"
    tables.mkdir()
    rows = [f"{start_ms + i * 60_000},100,101,99,100,5,4" for i in range(30) if i not in (10, 11)]
    (tables / "bars_1m_BTC.csv").write_text(
        "\n".join(["minute_ms,open,high,low,close,taker_buy_base,taker_sell_base", *rows]) + "\n"
    )
    mode = RunMode(
        source=int(Source.REPLAY),
        engine_origin_ns=start_ms * 10**6,
        wall_origin_ns=time.time_ns(),
        speed=2000.0,
        tables=str(tables),
    )
    with daemon(configuration.parse({"symbols": {"BTC": {}}}), tmp_path / "var", mode) as stage:
        stage.start()
        stage.until(lambda: (board := stage.feeds()) is not None and int(board["finished"]), "the end of the replay")
        stage.until(stage.ready, "still ready")
        assert stage.events("BTC", Kind.MARK_PRICE).size == 28 * 4
        assert stage.events("BTC", Kind.TICK).size == 30 * 240
        stage.signal(signal.SIGTERM)
        assert stage.ended() == 0


def test_at_the_end_of_a_capture_nobody_is_listened_to_any_more_and_it_goes_on_serving(tmp_path: Path) -> None:
    begin_ns = time.time_ns()
    mode = RunMode(
        source=int(Source.REPLAY), engine_origin_ns=begin_ns, wall_origin_ns=begin_ns, ends_ns=begin_ns + 2 * 10**9
    )
    with venue_servers() as venues, daemon(venues.config(symbols={"BTC": {}}), tmp_path, mode) as stage:
        for life in ("that played it", "that came after the end"):
            stage.start()
            stage.until(stage.ready, f"ready, the one {life}")
            stage.until(lambda: (board := stage.feeds()) is not None and int(board["finished"]), "the end")
            for venue in (Venue.BINANCE, Venue.BYBIT, Venue.OKX):
                stage.until(partial(no_connections, venues, venue), "every socket closed")
            before = stage.events("BTC").size
            assert before > 0
            stage.signal(signal.SIGUSR1)
            stage.until(stage.ready, "still ready")
            assert stage.events("BTC").size == before
            stage.signal(signal.SIGTERM)
            assert stage.ended() == 0
            assert "Traceback" not in stage.said()


@pytest.mark.parametrize("what", ["no tables at all", "a broken header", "an epoch that is none"])
def test_a_fault_of_the_operator_is_one_line_and_exit_78(tmp_path: Path, what: str) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    if what == "a broken header":
        (tables / "bars_1m_BTC.csv").write_text("minute_ms,open\n")
    mode = RunMode(source=int(Source.REPLAY), engine_origin_ns=10**18, tables=str(tables))
    with daemon(configuration.parse({"symbols": {"BTC": {}}}), tmp_path / "var", mode) as stage:
        if what == "an epoch that is none":
            (stage.paths.lib_dir / "ingest.epoch").write_text("many")
        stage.start()
        assert stage.ended() == 78
        assert "Traceback" not in stage.said()
        assert stage.said().count("CRITICAL") == 1

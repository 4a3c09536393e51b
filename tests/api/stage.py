"""A stage for readers: the shared memory of one instance, written by the test instead of a daemon."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from flask.testing import FlaskClient

from liqmap.api.app import create_app
from liqmap.client import Client
from liqmap.clock import Clock
from liqmap.config import Config, parse
from liqmap.domain.enums import (
    Divisor,
    GapReason,
    Model,
    PriceSource,
    Projection,
    Source,
    Topic,
    Venue,
    ZoneChange,
    ZoneSource,
    ZoneState,
)
from liqmap.shm.board import BoardWriter
from liqmap.shm.layout import (
    DIRECTORY,
    FEEDS,
    LIQUIDATION,
    OI_VENUES,
    PROCESSES,
    calibration_dtype,
    live_dtype,
    minute_dtype,
    zones_dtype,
)
from liqmap.shm.plan import Holding, Role, create_all
from liqmap.shm.rows import RowsWriter
from liqmap.shm.status import ClockRow, Heartbeat, write_clock
from liqmap.worker.books import OrderBooks
from tests.books_stage import DepthStage

STALE_AFTER_MS = 5000
MARKS = {"BTC": 90_000.0, "ETH": 3_000.0, "SOL": 150.0}


def instance_name() -> str:
    """A name nobody else uses."""
    return f"t{os.getpid()}{secrets.token_hex(4)}"[:24]


def config_of(instance: str, **sections: dict[str, Any]) -> Config:
    """A configuration for tests; small rings."""
    return parse({"daemon": {"instance": instance}, "ingest": {"ring_events": 1024}, **sections})


def nothing_kept(_board: Any) -> None:
    """Nothing is said of the disk."""


class Stage:
    """The writer's side of everything a reader sees. Times are wall times unless the test says otherwise."""

    def __init__(self, config: Config, holding: Holding) -> None:
        self.config = config
        self.holding = holding
        self._live = {
            symbol: BoardWriter(holding[Role.LIVE, symbol], self.live_dtype(symbol))
            for symbol in config.enabled_symbols
        }
        self._recent = {
            symbol: RowsWriter(holding[Role.RECENT, symbol], LIQUIDATION) for symbol in config.enabled_symbols
        }
        self._minutes = {
            symbol: RowsWriter(holding[Role.MINUTES, symbol], minute_dtype(config.symbols[symbol].buckets))
            for symbol in config.enabled_symbols
        }
        self._calibrations = {
            symbol: BoardWriter(
                holding[Role.CALIBRATION, symbol], calibration_dtype(len(config.symbols[symbol].leverages))
            )
            for symbol in config.enabled_symbols
        }
        self._zones = {
            symbol: BoardWriter(holding[Role.ZONES, symbol], self.zones_dtype(symbol))
            for symbol in config.enabled_symbols
        }
        self._frames = 0
        self._books = {symbol: OrderBooks(config, symbol) for symbol in config.enabled_symbols}
        self.depth = {symbol: DepthStage(config, symbol) for symbol in config.enabled_symbols}

    def live_dtype(self, symbol: str) -> Any:
        """Of the symbol's live board."""
        table = self.config.symbols[symbol]
        return live_dtype(len(table.leverages), table.buckets)

    def zones_dtype(self, symbol: str) -> Any:
        """Of the symbol's board of zones."""
        return zones_dtype(len(self.config.symbols[symbol].leverages))

    # -- the daemon's words -----------------------------------------------------------------------------------------

    def write_all(self) -> None:
        """A healthy daemon: everything delivering, a fresh frame of every symbol, order books."""
        self.write_all_but_books()
        for symbol in self.config.enabled_symbols:
            self.play_books(symbol)

    def write_all_but_books(self) -> None:
        """The same, and nothing of the order books."""
        self.write_clock()
        self.write_directory()
        self.write_processes()
        self.write_feeds()
        self.beat()
        for symbol in self.config.enabled_symbols:
            self.write_frame(symbol)
            self.write_calibration(symbol)
            self.write_zones(symbol)

    def write_clock(self, source: Source = Source.SIMULATED, **changes: Any) -> None:
        """The clock row."""
        row = {
            "source": source,
            "engine_origin_ns": 0,
            "wall_origin_ns": 0,
            "speed": 1.0,
            "started_ns": time.time_ns(),
            "supervisor_beat_ns": time.monotonic_ns(),
            "supervisor_pid": os.getpid(),
        }
        write_clock(self.holding[Role.STATUS], ClockRow(**{**row, **changes}))

    def write_directory(self) -> None:
        """Which symbols run."""

        def fill(board: Any) -> None:
            board["count"] = len(self._live)
            for number, symbol in enumerate(self._live):
                row = board["rows"][number]
                row["symbol"], row["enabled"], row["step"] = symbol.encode(), 1, self.config.symbols[symbol].step
                row["generation"] = self.holding[Role.LIVE, symbol].generation

        BoardWriter(self.holding[Role.DIRECTORY], DIRECTORY).publish(fill)

    def write_processes(self, **states: str) -> None:
        """The lifecycle table; `states` by process name, else RUNNING."""

        def fill(board: Any) -> None:
            names = ("ingest", "api", *self._live)
            board["count"] = len(names)
            for number, name in enumerate(names):
                row = board["rows"][number]
                row["name"], row["state"] = name.encode(), states.get(name, "RUNNING").encode()
                row["pid"], row["restarts"], row["exit_code"] = os.getpid(), 0, -1000
                row["cpu_pct"], row["rss_mb"], row["reason"] = 1.5, 42.0, b""
                if name in states:
                    row["pid"], row["exit_code"], row["reason"] = 0, 78, b"bad configuration"

        BoardWriter(self.holding[Role.PROCESSES], PROCESSES).publish(fill)

    def beat(self) -> None:
        """Heartbeats of everybody."""
        for name in ("ingest", "api", *self._live):
            Heartbeat(self.holding[Role.STATUS], name, os.getpid()).beat(ready=True, engine_ns=time.time_ns())

    def write_feeds(
        self,
        as_of_ns: int | None = None,
        missing: tuple[tuple[Venue, Topic, str], ...] = (),
        not_delivering: tuple[Venue, ...] = (),
        gaps_version: int = 0,
        *,
        finished: bool = False,
        gaps: tuple[tuple[Any, ...], ...] = (),
        kept: Callable[[Any], None] = nothing_kept,
    ) -> None:
        """The feeds board: all venues and four topics of each symbol; `missing` ones have an open gap, `gaps` are
        records of their own: venue, topic, symbol, from_ms, to_ms, reason; `kept` fills what is said of the disk."""
        as_of_ns = time.time_ns() if as_of_ns is None else as_of_ns
        topics = (Topic.LIQUIDATION, Topic.TRADE, Topic.MARK_PRICE, Topic.OPEN_INTEREST)

        def fill(board: Any) -> None:
            board["as_of_ns"], board["gaps_version"], board["finished"] = as_of_ns, gaps_version, finished
            board["venue_count"], board["link_count"], board["quarantined"] = 3, 0, 0
            for number, venue in enumerate((Venue.BINANCE, Venue.BYBIT, Venue.OKX)):
                row = board["venues"][number]
                row["venue"], row["enabled"], row["delivering"] = venue, 1, venue not in not_delivering
                row["state"] = b"backoff" if venue in not_delivering else b"up"
                row["reason"] = b"connection refused" if venue in not_delivering else b""
                row["clock_offset_ms"], row["lag_ms"], row["backoff_s"] = np.nan, 12.0, 0.0
            number = 0
            for venue in (Venue.BINANCE, Venue.BYBIT, Venue.OKX):
                for topic in topics:
                    for symbol in self._live:
                        row = board["topics"][number]
                        row["venue"], row["topic"], row["symbol"] = venue, topic, symbol.encode()
                        row["events"], row["gaps"], row["silent"] = 10, 0, 0
                        row["last_event_ns"] = as_of_ns - 1_000_000_000
                        row["missing"] = (venue, topic, symbol) in missing
                        number += 1
            board["topic_count"], board["gap_count"] = number, len(missing) + len(gaps)
            for number, (venue, topic, symbol) in enumerate(missing):
                row = board["gaps"][number]
                row["venue"], row["topic"], row["symbol"] = venue, topic, symbol.encode()
                row["from_ms"], row["to_ms"] = as_of_ns // 1_000_000 - 9000, -1
                row["reason"] = GapReason.DISCONNECTED
            for number, (venue, topic, symbol, *rest) in enumerate(gaps, len(missing)):
                row = board["gaps"][number]
                row["venue"], row["topic"], row["symbol"] = venue, topic, symbol.encode()
                row["from_ms"], row["to_ms"], row["reason"] = rest
            board["reason_count"] = board["margin_count"] = board["journal_state"] = board["capture_state"] = 0
            kept(board)

        BoardWriter(self.holding[Role.FEEDS], FEEDS).publish(fill)

    # -- a symbol's words -------------------------------------------------------------------------------------------

    def write_frame(
        self, symbol: str, as_of_ns: int | None = None, *, projection_known: int = Projection.DOLLARS, **facts: Any
    ) -> int:
        """One live frame with a hump of longs 3 % below the mark and of shorts 3 % above; returns as_of_ns."""
        table, mark = self.config.symbols[symbol], MARKS[symbol]
        as_of_ns = time.time_ns() if as_of_ns is None else as_of_ns
        self._frames += 1
        buckets = min(table.buckets, int(1.2 * mark / table.step))
        first = int(0.4 * mark / table.step)
        prices = (first + np.arange(buckets)) * table.step

        def fill(frame: Any) -> None:
            for name in frame.dtype.names:
                frame[name] = np.nan if frame.dtype[name].base.kind == "f" else 0
            frame["as_of_ns"], frame["sequence"], frame["frame"] = as_of_ns, 1000 + self._frames, self._frames
            frame["born_ns"], frame["minute_ms"] = as_of_ns - 10**9, -1
            frame["first_bucket"], frame["buckets"], frame["step"] = first, buckets, table.step
            frame["mark_price"], frame["mark_source"], frame["mark_as_of_ns"] = mark, PriceSource.MARK, as_of_ns
            frame["leverages"], frame["weights"] = table.leverages, [table.weights, table.weights]
            frame["evidence_usd"] = 0
            frame["evidence_usd"][0, :buckets] = _hump(prices, 1.01 * mark, 2e4, mark)
            frame["evidence_usd"][1, :buckets] = _hump(prices, 0.99 * mark, 1e4, mark)
            for name in ("evidence_outside_usd", "projection_outside_usd", "at_risk_usd"):
                frame[name] = 0.0
            frame["liquidated_long_usd"], frame["liquidated_short_usd"] = 5e5, 3e5
            frame["projection_known"] = projection_known
            frame["projection_usd"] = 0 if projection_known else np.nan
            if projection_known:
                for tier, weight in enumerate(table.weights):
                    for model, share in ((Model.FLOW, 0.15), (Model.INVENTORY, 1.0)):
                        longs, shorts = frame["projection_usd"][model - 1, :, tier, :buckets]
                        longs[:] = share * weight * _hump(prices, 0.97 * mark, 5e6, mark)
                        shorts[:] = share * weight * _hump(prices, 1.03 * mark, 4e6, mark)
            frame["open_interest_base"], frame["open_interest_usd"] = 1000.0, 1000.0 * mark
            frame["venue_oi_base"][Venue.BINANCE], frame["venue_oi_base"][Venue.BYBIT] = 600.0, 400.0
            frame["venue_oi_as_of_ns"][:] = as_of_ns - 2 * 10**9
            frame["venue_oi_stale"][Venue.BYBIT] = 1
            for name, value in facts.items():
                frame[name] = value

        self._live[symbol].publish(fill)
        return as_of_ns

    def write_zones(self, symbol: str, minute_ms: int | None = None, rows: list[dict[str, Any]] | None = None) -> None:
        """The zones at the end of a minute (default: the one before this): two or three of each side and state, or
        those of `rows`."""
        minute_ms = (time.time_ns() // 10**6 // 60_000 - 1) * 60_000 if minute_ms is None else minute_ms
        table, mark = self.config.symbols[symbol], MARKS[symbol]
        made = staged_zones(mark, table.step, minute_ms) if rows is None else rows

        def fill(board: Any) -> None:
            board[...] = np.zeros((), board.dtype)
            board["minute_ms"], board["sequence"], board["count"] = minute_ms, 1000, len(made)
            board["unit_usd"], board["leverages"] = 1e6, table.leverages
            board["counts"], board["post_mortems"] = [[5, 7, 3, 2, 1, 0], [4, 6, 2, 1, 0, 1]], [2, 1]
            board["predicted_usd"], board["realised_usd"] = [4e6, 1e6], [1e6, 0.0]
            for number, zone in enumerate(made):
                row = board["zones"][number]
                for name, value in zone.items():
                    row[name] = value
                projected_usd = zone["notional_usd"] - zone["evidence_usd"]
                row["projected_usd"], row["tiers_usd"] = projected_usd, np.array(table.weights) * projected_usd
            board["change_count"] = 1
            change = board["changes"][0]
            change["number"], change["id"], change["at_ms"] = 9, made[0]["id"] if made else 1, minute_ms + 60_000
            change["kind"], change["side"], change["price"] = ZoneChange.CREATED, 1, mark

        self._zones[symbol].publish(fill)

    def write_minute(self, symbol: str, minute_ms: int, gap_topics: int = 0) -> None:
        """One closed minute, of which only time and gaps (bit venue × 16 + topic) are said."""
        words = np.frombuffer(gap_topics.to_bytes(2 * OI_VENUES, "little"), dtype="<u2")

        def fill(row: Any) -> None:
            for name in row.dtype.names:
                row[name] = np.nan if row.dtype[name].base.kind == "f" else 0
            row["minute_ms"], row["gap_topics"] = minute_ms, words

        self._minutes[symbol].append(fill)

    def write_calibration(
        self, symbol: str, as_of_ns: int | None = None, *, judged: tuple[tuple[Any, ...], ...] = (), **facts: Any
    ) -> int:
        """What a worker says of its calibration when a minute closes: weights are the prior, nothing was learned unless
        `facts` say so. `judged`: rows of JUDGED_ROW. Returns as_of_ns."""
        table = self.config.symbols[symbol]
        as_of_ns = time.time_ns() if as_of_ns is None else as_of_ns

        def fill(board: Any) -> None:
            for name in board.dtype.names:
                board[name] = np.nan if board.dtype[name].base.kind == "f" else 0
            board["as_of_ns"], board["sequence"], board["divisor"] = as_of_ns, 1000, Divisor.OWN
            board["leverages"] = table.leverages
            board["prior"] = board["weights"] = [table.weights, table.weights]
            board["observed_base"] = board["expected_base"] = 0.0
            board["judged_count"] = len(judged)
            for place, row in enumerate(judged):
                board["judged"][place] = row
            for name, value in facts.items():
                board[name] = value

        self._calibrations[symbol].publish(fill)
        return as_of_ns

    def write_liquidation(self, symbol: str, id_: int, ts_ms: int, **facts: Any) -> None:
        """One recent liquidation."""

        def fill(row: Any) -> None:
            row["id"], row["ts_ms"], row["receive_ns"] = id_, ts_ms, ts_ms * 1_000_000
            row["venue"], row["side"] = facts.get("venue", Venue.BYBIT), facts.get("side", 1)
            row["printed_price"], row["fill_price"] = facts.get("printed_price", 90_000.0), np.nan
            row["trigger_price"], row["qty_base"] = facts.get("trigger_price", 90_100.0), facts.get("qty_base", 0.5)
            row["notional_usd"] = facts.get("notional_usd", 45_050.0)

        self._recent[symbol].append(fill)

    def play_books(
        self,
        symbol: str,
        until_ns: int | None = None,
        *,
        frames: int = 2,
        every_s: float = 1.5,
        mids: Callable[[int], float] | None = None,
        scales: Callable[[int], float] = lambda _: 1.0,
        **venues: Any,
    ) -> int:
        """Depth boards as ingest and order-book frames as a worker would write them: the last `frames` before
        `until_ns`; returns the end of the newest, ms. `mids`, `scales` by number of the frame; `venues` as
        DepthStage.publish, or callables of that number."""
        frame_ns = self.config.depth.frame_s * 10**9
        end_ns = (time.time_ns() if until_ns is None else until_ns) // frame_ns * frame_ns
        for frame in range(frames + 1):
            begin_ns = end_ns + (frame - frames) * frame_ns
            rows = {name: value(frame) if callable(value) else value for name, value in venues.items()}
            for number in range(1 if frame == frames else round(self.config.depth.frame_s / every_s)):
                mid = MARKS[symbol] if mids is None else mids(frame)
                self.depth[symbol].publish(begin_ns + round(number * every_s * 1e9), mid, scale=scales(frame), **rows)
                self._books[symbol].turn(-1)
        return end_ns // 1_000_000

    def client(self, **changes: Any) -> Client:
        """A reader of this instance."""
        settings = {"stale_after_ms": STALE_AFTER_MS, "expected": self.config.enabled_symbols, **changes}
        return Client(self.config.daemon.instance, **settings)


def staged_zones(mark: float, step: float, minute_ms: int) -> list[dict[str, Any]]:
    """Zones of both sides: two active, one touched, one swept whose post-mortem is complete."""
    kinds = (
        (0.030, 0.004, 2.0, 8e6, 0.0, ZoneState.ACTIVE, ZoneSource.PROJECTION),
        (0.060, 0.002, 0.2, 3e4, 3e4, ZoneState.ACTIVE, ZoneSource.EVIDENCE),
        (0.004, 0.004, 1.0, 2e6, 2e5, ZoneState.TOUCHED, ZoneSource.BOTH),
        (-0.01, 0.003, 0.5, 3e6, 1e5, ZoneState.SWEPT, ZoneSource.BOTH),
    )
    zones = []
    for side, sign in ((1, -1), (2, 1)):
        for number, (away, half, weight, notional_usd, evidence_usd, state, source) in enumerate(kinds):
            price = mark * (1 + sign * away)
            touched = state is not ZoneState.ACTIVE
            swept = state is ZoneState.SWEPT
            zones.append(
                {
                    "id": 100 * side + number,
                    "side": side,
                    "state": state,
                    "source": source,
                    "price": price,
                    "low": round((price - half * mark) / step) * step,
                    "high": round((price + half * mark) / step) * step,
                    "weight": weight,
                    "notional_usd": notional_usd / side,
                    "evidence_usd": evidence_usd / side,
                    "created_ms": minute_ms - 3_600_000,
                    "created_mark": mark,
                    "fed_ms": minute_ms + 60_000,
                    "reinforced_ms": minute_ms if number == 0 else -1,
                    "reinforcements": 4 if number == 0 else 0,
                    "touched_ms": minute_ms - 600_000 if touched else -1,
                    "swept_ms": minute_ms - 600_000 if swept else -1,
                    "until_ms": minute_ms - 300_000 if swept else -1,
                    "predicted_usd": notional_usd / side if touched else np.nan,
                    "realised_usd": 6e5 if swept else 0.0,
                    "realised": 3 if swept else 0,
                    "heard": 1,
                }
            )
    return zones


def _hump(prices: np.ndarray, centre: float, height: float, mark: float) -> np.ndarray:
    return height * np.exp(-0.5 * ((prices - centre) / (0.001 * mark)) ** 2)


@contextmanager
def stage(config: Config | None = None) -> Iterator[Stage]:
    """An instance of its own, removed at the end."""
    config = config or config_of(instance_name())
    holding = create_all(config)
    try:
        yield Stage(config, holding)
    finally:
        holding.retire_all()


def application(made: Stage, clock: Clock) -> FlaskClient:
    """The application over an instance with a map of every symbol and live feeds, as a browser sees it."""
    for symbol in made.config.enabled_symbols:
        made.write_frame(symbol, clock.now_ns())
    made.write_feeds(clock.now_ns())
    app = create_app(made.config, made.client(clock=clock))
    app.testing = False
    return app.test_client()

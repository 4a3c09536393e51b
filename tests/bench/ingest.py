"""Ingest: from the socket to the ring for a mixed flow of three venues, and what each step of the way costs.

CPU seconds of the receiving thread, one core; the sender is another thread and not counted. The flow is a cascade as
the venues print it: of 100 frames 70 trades, 12 liquidations, 18 marks and tickers.
"""

import json
import os
import queue
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import websocket

from liqmap import config as configuration
from liqmap.clock import SystemClock
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import InstrumentTable, configured_table
from liqmap.exchanges.adapter import LinkPlan
from liqmap.exchanges.binance import frames as binance
from liqmap.exchanges.bybit import frames as bybit
from liqmap.exchanges.okx import frames as okx
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.feeds import Feeds, SourceState, VenueState
from liqmap.ingest.handoff import Frames, Handoff, Opened
from liqmap.ingest.lanes import Lane
from liqmap.ingest.router import Listener, Router
from liqmap.ingest.transport import ConnectionLost, _WebsocketTransport
from liqmap.shm.ring import RingWriter, create_ring
from liqmap.store.quarantine import Quarantine
from tests.bench.table import Row

NAMES = {"BTC": {Venue.BINANCE: "BTCUSDT", Venue.BYBIT: "BTCUSDT", Venue.OKX: "BTC-USDT-SWAP"}}
FRAMES = 60_000
BATCH = 64


def rows(effort: float) -> Iterator[Row]:
    """The rows of ingest in the table."""
    count = max(3000, int(FRAMES * effort))
    flow = mixed_flow(count)
    decode_s = least(lambda: decode_alone(flow)) / count
    parse_ring_s = least(lambda: parse_and_ring(flow)) / count
    whole_s = least(lambda: socket_to_ring(flow)) / count
    untuned_s = least(lambda: untuned(flow), 2) / count
    framing_s = least(lambda: socket_to_frames(flow)) / count
    parse_s = least(lambda: parse_alone(flow)) / count
    steps = (
        f"framing {framing_s * 1e6:.1f}, parse {parse_s * 1e6:.1f} (decode {decode_s * 1e6:.1f}), "
        f"events to ring {(parse_ring_s - parse_s) * 1e6:.1f} µs"
    )
    yield Row(
        "socket → frame → events → ring",
        f"decode alone {decode_s * 1e6:.1f} µs",
        "≥ 40 k mixed messages/s on one core",
        f"{1 / whole_s / 1e3:.0f} k/s ({steps})",
        whole_s <= 1 / 40_000,
    )
    ratio = parse_ring_s / decode_s
    yield Row("parse + ring", "decode alone", "≤ 2×", f"{ratio:.2f}×", ratio <= 2.0)
    share = whole_s / untuned_s
    yield Row(
        "socket → ring, CPU",
        f"untuned websocket-client + json + Queue {untuned_s * 1e6:.0f} µs",
        "≤ 0.2×",
        f"{share:.2f}×",
        share <= 0.2,
    )


def mixed_flow(count: int) -> list[tuple[Venue, bytes]]:
    """Frames of three venues in turn, as they print a cascade."""
    now_ms = time.time_ns() // 1_000_000
    return [_frame(i, now_ms, 60_000.0 + i % 977 * 0.1) for i in range(count)]


def _frame(i: int, now_ms: int, price: float) -> tuple[Venue, bytes]:
    venue = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)[i % 3]
    kind = i // 3 % 100
    make = {Venue.BINANCE: _binance, Venue.BYBIT: _bybit, Venue.OKX: _okx}[venue]
    word = "trade" if kind < 70 else "liquidation" if kind < 82 else "mark"
    return venue, msgspec.json.encode(make(word, i, now_ms, f"{price:.1f}"))


def _binance(word: str, i: int, ms: int, price: str) -> dict[str, Any]:
    if word == "trade":
        data: dict[str, Any] = {
            "e": "aggTrade",
            "E": ms,
            "a": i,
            "s": "BTCUSDT",
            "p": price,
            "q": "0.153",
            "nq": "0.153",
        }
        data |= {"f": i, "l": i, "T": ms, "m": i % 2 == 0, "st": 1}
        return {"stream": "btcusdt@aggTrade", "data": data}
    if word == "liquidation":
        order: dict[str, Any] = {
            "s": "BTCUSDT",
            "S": "SELL",
            "o": "LIMIT",
            "f": "IOC",
            "q": "0.014",
            "p": price,
            "ap": price,
        }
        order |= {"X": "FILLED", "l": "0.014", "z": "0.014", "T": ms + i}
        return {"stream": "!forceOrder@arr", "data": {"e": "forceOrder", "E": ms, "o": order}}
    data = {"e": "markPriceUpdate", "E": ms, "s": "BTCUSDT", "p": price, "ap": price, "i": price, "P": price}
    return {"stream": "btcusdt@markPrice@1s", "data": data | {"r": "0.00010000", "T": ms + 3_600_000}}


def _bybit(word: str, i: int, ms: int, price: str) -> dict[str, Any]:
    if word == "trade":
        row: dict[str, Any] = {"T": ms, "s": "BTCUSDT", "S": "Sell", "v": "0.020", "p": price, "L": "MinusTick"}
        row |= {"i": f"{i:032x}", "BT": False, "RPI": False, "seq": i}
        return {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": ms, "data": [row, row]}
    if word == "liquidation":
        forced = {"T": ms + i, "s": "BTCUSDT", "S": "Buy", "v": "0.003", "p": price}
        return {"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": ms, "data": [forced]}
    data = {"symbol": "BTCUSDT", "markPrice": price, "indexPrice": price, "lastPrice": price}
    kind = "snapshot" if i < 400 else "delta"
    return {"topic": "tickers.BTCUSDT", "type": kind, "data": data, "cs": i, "ts": ms}


def _okx(word: str, i: int, ms: int, price: str) -> dict[str, Any]:
    if word == "trade":
        row = {"instId": "BTC-USDT-SWAP", "tradeId": str(i), "px": price, "sz": "12", "side": "sell", "ts": str(ms)}
        return {"arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"}, "data": [row | {"count": "1", "source": "0"}]}
    if word == "liquidation":
        detail = {"side": "sell", "posSide": "long", "bkPx": price, "sz": "3", "bkLoss": "0", "ccy": "", "ts": str(ms)}
        row = {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "uly": "BTC-USDT"}
        arg = {"channel": "liquidation-orders", "instType": "SWAP"}
        return {"arg": arg, "data": [row | {"details": [detail | {"ts": str(ms - i % 60_000)}]}]}
    row = {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "markPx": price, "ts": str(ms)}
    return {"arg": {"channel": "mark-price", "instId": "BTC-USDT-SWAP"}, "data": [row]}


def table() -> InstrumentTable:
    """The configured contracts."""
    return configured_table(NAMES, shipped_instruments())[0]


def decode_alone(flow: list[tuple[Venue, bytes]]) -> None:
    """The adapters' typed decoding, nothing made of it."""
    for venue, raw in flow:
        if venue is Venue.BINANCE:
            binance._wrapped(raw)
        elif venue is Venue.BYBIT:
            bybit._BY_START[raw[: bybit.START]][1](raw)
        else:
            okx._BY_START[raw[: okx.START]][1](raw)


def parse_alone(flow: list[tuple[Venue, bytes]]) -> None:
    """Frames to facts."""
    sessions = {venue: ADAPTERS[venue].session(table()) for venue in ADAPTERS}
    for venue, raw in flow:
        for fact in sessions[venue].parse(raw, 1):
            assert type(fact) is Event


class Stage:
    """A router with one link per venue and a real ring."""

    def __init__(self, directory: str) -> None:
        settings, clock = configuration.parse({}).ingest, SystemClock()
        self.segment = create_ring(f"liqmap.bench{os.getpid()}-{secrets.token_hex(3)}.ring", 1 << 16)
        self.handoff, feeds = Handoff(1 << 20), Feeds(30.0)
        self.router = Router(settings, clock, self.handoff, feeds, Quarantine(Path(directory), 10, 65536))
        for venue, adapter in ADAPTERS.items():
            feeds.venues[venue] = VenueState()
            source = venue.name
            plan = LinkPlan(venue, source, "ws://x", ())
            self.router.listeners[source] = Listener(venue, adapter, queue.SimpleQueue(), plan)
            feeds.follow(source, SourceState(venue, source, True), (), 0)
            self.handoff.announce(Opened(source, 1, 0))
        self.router.use(table(), {"BTC": Lane("BTC", RingWriter(self.segment), 1)})
        self.router.turn(0)

    def end(self, count: int) -> None:
        """Check that the work was done, and remove the ring."""
        bad = sum(state.malformed for state in self.router.feeds.venues.values())
        events = self.router.flow.events
        del self.router
        self.segment.unlink()
        self.segment.close()
        assert bad == 0
        assert events >= count * 0.9, f"{events} events of {count} frames"


def parse_and_ring(flow: list[tuple[Venue, bytes]]) -> None:
    """Frames to numbered events in a ring, as the router does it."""
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(directory)
        for at in range(0, len(flow), BATCH):
            _hand_over(stage, flow[at : at + BATCH])
            stage.router.turn(0)
        stage.end(len(flow))


def _hand_over(stage: Stage, part: list[tuple[Venue, bytes]]) -> None:
    now_ns = time.time_ns()
    for venue in ADAPTERS:
        stage.handoff.give(Frames(venue.name, 1, now_ns, [raw for one, raw in part if one is venue]))


def wire(flow: list[tuple[Venue, bytes]]) -> bytes:
    """The flow as websocket frames of a server."""
    out = bytearray()
    for _, raw in flow:
        out += b"\x81" + (bytes([len(raw)]) if len(raw) < 126 else b"\x7e" + len(raw).to_bytes(2, "big")) + raw
    return bytes(out)


def _sent(data: bytes) -> tuple[socket.socket, threading.Thread]:
    """A socket on which another thread sends `data` and hangs up."""
    here, there = socket.socketpair()

    def send() -> None:
        with there:
            there.sendall(data)

    thread = threading.Thread(target=send)
    thread.start()
    return here, thread


def socket_to_frames(flow: list[tuple[Venue, bytes]]) -> None:
    """Receiving and framing only."""
    raw, thread = _sent(wire(flow))
    transport = _WebsocketTransport(raw, None, 1 << 24, time.time_ns)
    count = 0
    try:
        while True:
            count += len(transport.receive(5.0).messages)
    except ConnectionLost:
        assert count == len(flow)
    finally:
        raw.close()
        thread.join()


def socket_to_ring(flow: list[tuple[Venue, bytes]]) -> None:
    """The whole way in one thread: receive, frame, hand over, parse, number, write."""
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(directory)
        for venue in ADAPTERS:
            raw, thread = _sent(wire([one for one in flow if one[0] is venue]))
            transport = _WebsocketTransport(raw, None, 1 << 24, time.time_ns)
            try:
                while True:
                    received = transport.receive(5.0)
                    stage.handoff.give(Frames(venue.name, 1, received.receive_ns, received.messages))
                    stage.router.turn(0)
            except ConnectionLost:
                raw.close()
                thread.join()
        stage.end(len(flow))


def untuned(flow: list[tuple[Venue, bytes]]) -> None:
    """websocket-client as it comes, the standard library's json, a queue of tuples."""
    raw, thread = _sent(wire(flow))
    connection: Any = websocket.WebSocket()
    connection.sock, connection.connected = raw, True
    raw.settimeout(5.0)
    facts: queue.Queue[Any] = queue.Queue()
    for _ in flow:
        facts.put((time.time_ns(), json.loads(connection.recv())))
        facts.get()
    raw.close()
    thread.join()


def least(act: Callable[[], None], repeat: int = 3) -> float:
    """CPU seconds of this thread for one run, the best of a few."""
    best = float("inf")
    for _ in range(repeat):
        before = time.thread_time()
        act()
        best = min(best, time.thread_time() - before)
    return best

"""Ingest: a cascade of three venues from the socket to the ring, what each step of the way costs, and its share.

Steps are measured apart, in one run, as CPU of the thread that works; the whole way over real loopback sockets, with a
thread per link, as CPU of this process (the sender is another one). What a cascade holds is said in `cascade`.
"""

import gc
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import websocket

from liqmap import config as configuration
from liqmap.clock import SystemClock
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import GapReason, Source, Topic, Venue
from liqmap.domain.event import EVENT_BYTES
from liqmap.domain.instrument import InstrumentTable, configured_table
from liqmap.exchanges.adapter import BookUpdate, LinkPlan, Stream
from liqmap.exchanges.binance import frames as binance
from liqmap.exchanges.booksync import BookSync
from liqmap.exchanges.bybit import frames as bybit
from liqmap.exchanges.okx import frames as okx
from liqmap.exchanges.prints import Prints
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.accounts import VenueAccount
from liqmap.ingest.feeds import Feeds, SourceState, VenueState
from liqmap.ingest.frames import FrameReader
from liqmap.ingest.handoff import Ended, Frames, Handoff, Opened
from liqmap.ingest.lanes import Lane
from liqmap.ingest.link import Link, hold
from liqmap.ingest.listener import Listener
from liqmap.ingest.router import Router
from liqmap.ingest.transport import WebsocketConnector
from liqmap.shm.ring import RingWriter, create_ring
from liqmap.store.journal import Journals
from liqmap.store.quarantine import Quarantine
from tests.bench.cascade import NAMES, SYMBOLS, Sent, cascade
from tests.bench.sender import framed
from tests.bench.table import Row

FRAMES = 60_000
BATCH_BYTES = 64 * 1024
"""Frames of one link that are handed over together: a quarter of what a link reads at once when it is behind."""

Step = tuple[Callable[[bytes], object], bytes]


def rows(effort: float) -> Iterator[Row]:
    """The rows of ingest in the table."""
    count = max(3000, int(FRAMES * effort))
    flow = in_batches(cascade(count))
    repeat = 5 if effort >= 1 else 1
    steps = _steps(flow, repeat)
    decode_us, ring_us = steps["decode"], steps["parse and ring"]
    prints = [sent for sent in flow if sent.link == "trades"]
    decoding, parts = decoders(prints), batches(prints)
    with staged() as stage:
        alone = in_turns({"decode": lambda: decode_alone(decoding), "ring": lambda: stage.play(parts)}, repeat)
    whole_us = min(_whole(count) for _ in range(min(repeat, 3))) / count
    untuned_us = _untuned(min(count, 20_000)) / min(count, 20_000)
    yield Row(
        "socket → frame → events → ring, threads and all",
        f"decode alone {decode_us:.2f} µs",
        "≥ 40 k mixed messages per CPU second",
        f"{1e3 / whole_us:.0f} k ({whole_us:.2f} µs)",
        whole_us <= 25,
    )
    yield Row(
        "  a frame with everything, books and journal too",
        "",
        "≥ 40 k/s on one core",
        f"{1e3 / sum(_shares(steps).values()):.0f} k/s: "
        + ", ".join(f"{name} {us:.2f}" for name, us in _shares(steps).items())
        + " µs",
        sum(_shares(steps).values()) <= 25,
    )
    yield _ratio("parse + ring, the cascade", ring_us, decode_us)
    yield _ratio("parse + ring, its trades only", alone["ring"] / len(prints), alone["decode"] / len(prints))
    share = whole_us / untuned_us
    yield Row(
        "socket → ring, CPU",
        f"untuned websocket-client + json + Queue {untuned_us:.0f} µs",
        "≤ 0.2×",
        f"{share:.2f}×",
        share <= 0.2,
    )


def _ratio(path: str, ring_us: float, decode_us: float) -> Row:
    ratio = ring_us / decode_us
    today = f"{ratio:.2f}× ({ring_us:.2f} of {decode_us:.2f} µs)"
    return Row(path, "decode alone", "≤ 2×", today, ratio <= 2.0)


# Steps ------------------------------------------------------------------------------------------------------------


def _steps(flow: list[Sent], repeat: int) -> dict[str, float]:
    """Microseconds per frame of the flow."""
    parts, decoding = batches(flow), decoders(flow)
    wires = [b"".join(map(framed, part.messages)) for part in parts]
    updates = book_updates(flow)
    packed = packed_events(parts)
    joined = [b"".join(records) for records in packed]
    with staged() as stage:
        acts: dict[str, Callable[[], None]] = {
            "framing": lambda: frame_alone(wires),
            "decode": lambda: decode_alone(decoding),
            "parse": lambda: parse_alone(parts),
            "parse and ring": lambda: stage.play(parts),
            "books": lambda: books_alone(updates),
            "number": lambda: lanes_alone(packed, journal=False),
            "number and journal": lambda: lanes_alone(packed, journal=True),
            "ring": lambda: ring_alone(joined),
        }
        return {name: spent / len(flow) for name, spent in in_turns(acts, repeat).items()}


def in_turns(acts: dict[str, Callable[[], None]], repeat: int) -> dict[str, float]:
    """CPU microseconds of this thread for one run of each, the best of a few, taken in turns: what slows the machine
    slows all of them. What was built before is left out of the collections of garbage on the way."""
    gc.collect()
    gc.freeze()
    best = dict.fromkeys(acts, float("inf"))
    for _ in range(repeat):
        for name, act in acts.items():
            before = time.thread_time()
            act()
            best[name] = min(best[name], 1e6 * (time.thread_time() - before))
    gc.unfreeze()
    return best


def _shares(steps: dict[str, float]) -> dict[str, float]:
    """The way of a frame cut into its parts."""
    routing = steps["parse and ring"] - steps["parse"] - steps["number"] - steps["ring"]
    return {
        "framing": steps["framing"],
        "decode": steps["decode"],
        "facts": steps["parse"] - steps["decode"],
        "routing": routing,
        "numbers": steps["number"],
        "ring": steps["ring"],
        "books": steps["books"],
        "journal": steps["number and journal"] - steps["number"],
    }


def table() -> InstrumentTable:
    """The configured contracts."""
    return configured_table(NAMES, shipped_instruments())[0]


@dataclass(frozen=True, slots=True)
class Part:
    """Frames that one link hands over together."""

    source: str
    messages: list[bytes]


def batches(flow: list[Sent]) -> list[Part]:
    """As links hand over: frames of one link together, in order. Every step is measured in this order, since an
    interpreter that sees the same kind of frame again and again is quicker."""
    made: list[Part] = []
    growing: dict[str, tuple[Part, int]] = {}
    for sent in flow:
        part, size = growing.get(sent.source, (None, 0))
        if part is None or size >= BATCH_BYTES:
            part, size = Part(sent.source, []), 0
            made.append(part)
        part.messages.append(sent.raw)
        growing[sent.source] = (part, size + len(sent.raw))
    return made


def in_batches(flow: list[Sent]) -> list[Sent]:
    """The flow in the order in which its batches are dealt with."""
    frames: dict[str, deque[Sent]] = {}
    for sent in flow:
        frames.setdefault(sent.source, deque()).append(sent)
    return [frames[part.source].popleft() for part in batches(flow) for _ in part.messages]


def frame_alone(wires: list[bytes]) -> None:
    """Bytes of sockets into messages."""
    for data in wires:
        assert FrameReader(1 << 24).feed(data)


def decoders(flow: list[Sent]) -> list[Step]:
    """Each frame beside the adapter's typed decoder for it, so that nothing but decoding is measured."""
    choose: dict[Venue, Callable[[bytes], Callable[[bytes], object]]] = {
        Venue.BINANCE: lambda _raw: binance._wrapped,
        Venue.BYBIT: lambda raw: bybit._BY_START[raw[: bybit.START]][1],
        Venue.OKX: lambda raw: okx._BY_START[raw[: okx.START]][1],
    }
    return [(choose[sent.venue](sent.raw), sent.raw) for sent in flow if sent.raw != b"pong"]


def decode_alone(steps: list[Step]) -> None:
    """Nothing made of it."""
    for decode, raw in steps:
        decode(raw)


def parse_alone(parts: list[Part]) -> None:
    """Frames to what the router takes: packed prints, and facts."""
    instruments = table()
    sessions = {venue.name.lower(): adapter.session(instruments) for venue, adapter in ADAPTERS.items()}
    for part in parts:
        venue, _, link = part.source.partition("/")
        session, frames, told = sessions[venue], iter(part.messages), Prints(list)
        for raw in iter(partial(session.tape, frames, 1, told), None) if link == "trades" else frames:
            session.parse(raw, 1)


def book_updates(flow: list[Sent]) -> list[BookUpdate]:
    """What the depth frames say."""
    instruments = table()
    parses = {venue: adapter.session(instruments).parse for venue, adapter in ADAPTERS.items()}
    facts = [fact for sent in flow if sent.link == "depth" for fact in parses[sent.venue](sent.raw, 1)]
    return [fact for fact in facts if isinstance(fact, BookUpdate)]


def books_alone(updates: list[BookUpdate]) -> None:
    """Sequence checks and levels, from a snapshot on."""
    books: dict[tuple[Venue, str], BookSync] = {}
    for update in updates:
        key = (update.venue, update.instrument)
        sync = books.get(key)
        if sync is None:
            sync = books[key] = BookSync(ADAPTERS[update.venue].book_rule, None, 1000)
            sync.begin(update)
        else:
            sync.take(update)
    assert all(sync.shown is not None for sync in books.values())


def packed_events(parts: list[Part]) -> list[list[bytes]]:
    """The events of the flow, packed, batch by batch."""

    class Kept:
        def __init__(self) -> None:
            self.batches: list[list[bytes]] = []

        def write(self, events: bytes) -> int:
            self.batches.append([events[at : at + EVENT_BYTES] for at in range(0, len(events), EVENT_BYTES)])
            return 0

    kept = Kept()
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(directory, lambda symbol: Lane(symbol, kept, 1), Handoff(1 << 20))
        stage.play(parts)
    return kept.batches


class _Nowhere:
    def write(self, events: bytes) -> int:
        """Keep nothing."""
        return len(events)


def lanes_alone(packed: list[list[bytes]], journal: bool) -> None:
    """Numbers, and the journal if wanted; no ring."""
    with tempfile.TemporaryDirectory() as directory:
        settings = configuration.parse({}).journal
        journals = Journals(Path(directory), settings, "bench", Source.SIMULATED) if journal else None
        if journals is not None:
            journals.use(table())
        lane = Lane("BTC", _Nowhere(), 1, None if journals is None else journals.of("BTC"))
        for records in packed:
            lane.extend(records)
            lane.flush()
        if journals is not None:
            journals.close()


def ring_alone(packed: list[bytes]) -> None:
    """Into shared memory."""
    with rings() as made:
        writer = made("BTC").sink
        for events in packed:
            writer.write(events)


@contextmanager
def rings() -> Iterator[Callable[[str], Lane]]:
    """Makes lanes that end in real rings."""
    run, segments = f"liqmap.bench{os.getpid()}-{secrets.token_hex(3)}", []

    def lane(symbol: str) -> Lane:
        segments.append(create_ring(f"{run}.ring.{symbol}", 1 << 16))
        return Lane(symbol, RingWriter(segments[-1]), 1)

    try:
        yield lane
    finally:
        for segment in segments:
            segment.unlink()
            segment.close()


class Stage:
    """A router with the nine links of three venues."""

    def __init__(self, directory: str, lane: Callable[[str], Lane], handoff: Handoff) -> None:
        settings, clock = configuration.parse({}).ingest, SystemClock()
        self.connection = self.played = 0
        self.handoff, self.feeds = handoff, Feeds(30.0)
        self.router = Router(settings, clock, self.handoff, self.feeds, Quarantine(Path(directory), 10, 65536))
        for venue, adapter in ADAPTERS.items():
            self.feeds.venues[venue] = VenueState()
            for link in ("facts", "trades", "depth"):
                source = f"{venue.name.lower()}/{link}"
                plan = plan_of(venue, link, "ws://x")
                self.router.listeners[source] = Listener(venue, adapter, queue.SimpleQueue(), plan)
                self.feeds.follow(source, SourceState(venue, link, True), (), 0)
        self.router.use(table(), {symbol: lane(symbol) for symbol in SYMBOLS})

    def play(self, parts: list[Part]) -> None:
        """Hand the batches over and deal with them."""
        self.connection += 1
        for source in self.router.listeners:
            self.handoff.announce(Ended(source, self.connection - 1, 0, "played", GapReason.DISCONNECTED))
            self.handoff.announce(Opened(source, self.connection, 0))
        for part in parts:
            self.handoff.give(Frames(part.source, self.connection, time.time_ns(), part.messages))
            self.router.turn(0)
        self.played += sum(len(part.messages) for part in parts)
        self.check(self.played)

    def check(self, count: int) -> None:
        """The work was done."""
        assert sum(state.malformed for state in self.feeds.venues.values()) == 0
        assert self.router.frames == count
        assert self.router.flow.events >= count * 0.7


def plan_of(venue: Venue, link: str, url: str) -> LinkPlan:
    """A link that carries what its name says."""
    topics = {"trades": Topic.TRADE, "depth": Topic.DEPTH, "facts": Topic.MARK_PRICE}
    return LinkPlan(venue, link, url, (Stream(link, topics[link], SYMBOLS),))


@contextmanager
def staged(handoff: Handoff | None = None) -> Iterator[Stage]:
    """A router whose lanes end in rings: `play` takes frames to numbered events there, as ingest does it."""
    with tempfile.TemporaryDirectory() as directory, rings() as lane:
        yield Stage(directory, lane, handoff or Handoff(1 << 20))


# The whole way ----------------------------------------------------------------------------------------------------


@contextmanager
def sender(count: int) -> Iterator[int]:
    """A process that sends `count` frames; its port."""
    command = [sys.executable, "-m", "tests.bench.sender", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def linked(stage: Stage, port: int) -> Iterator[None]:
    """A thread per link, connected to a sender on that port."""
    settings, clock, stop = configuration.parse({}).ingest, SystemClock(), threading.Event()
    connect = WebsocketConnector(settings.connect_timeout_s, settings.max_frame_bytes, clock.now_ns)
    threads = []
    for source, listener in stage.router.listeners.items():
        plan = plan_of(listener.venue, listener.plan.name, f"ws://127.0.0.1:{port}/{source}")
        account = VenueAccount(listener.adapter)
        rest = (stage.handoff, account, lambda: 0.5, listener.orders, stop)
        link = Link(plan, listener.adapter, settings, clock, connect, *rest)
        threads.append(threading.Thread(target=hold, args=(link,)))
        threads[-1].start()
    try:
        yield
    finally:
        stop.set()
        stage.handoff.close()
        for thread in threads:
            thread.join()


def _whole(count: int) -> float:
    """CPU microseconds of this process: nine links in threads, the hand-over, the router, rings."""
    with staged() as stage, sender(count) as port:
        before = time.process_time()
        with linked(stage, port):
            while stage.router.frames < count:
                stage.router.turn(0.1)
            spent = time.process_time() - before
        stage.check(count)
        assert not any(state.dropped for state in stage.feeds.sources.values())
    return 1e6 * spent


def _untuned(count: int) -> float:
    """The same by websocket-client as it comes, the standard library's json, a queue of tuples."""
    facts: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sources = [f"{venue.name.lower()}/{link}" for venue in ADAPTERS for link in ("facts", "trades", "depth")]
    with sender(count) as port:

        def listen(source: str) -> None:
            connection: Any = websocket.create_connection(f"ws://127.0.0.1:{port}/{source}")
            while text := connection.recv():
                facts.put((time.time_ns(), text if text == "pong" else json.loads(text)))
            connection.close()

        threads = [threading.Thread(target=listen, args=(source,)) for source in sources]
        before = time.process_time()
        for thread in threads:
            thread.start()
        for _ in range(count):
            facts.get(timeout=30)
        spent = time.process_time() - before
        for thread in threads:
            thread.join()
    return 1e6 * spent

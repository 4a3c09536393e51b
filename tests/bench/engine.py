"""Speed of the worker's path: events applied, a minute rolled and published, a live frame made and published.

What it must reach: 200 k events/s applied, roll and publish within 5 ms at 5,000 buckets x 10 tiers.
"""

import os
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from liqmap.config import parse
from liqmap.domain.enums import Kind
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.engine.engine import Engine
from liqmap.shm.plan import create_all
from liqmap.worker.publication import Publication
from tests.bench.table import Row, seconds_each
from tests.events import events_array
from tests.unit.engine_tape import BTC

START_NS = 1_700_000_040_000_000_000
SECOND_NS = 1_000_000_000
PRICE = 91_000.0

SPEC = replace(
    BTC,
    leverages=(3, 5, 10, 20, 25, 50, 75, 100, 125, 150),
    weights=(0.05, 0.11, 0.22, 0.19, 0.12, 0.14, 0.05, 0.08, 0.03, 0.01),
    mmr=(0.0055, 0.0055, 0.005, 0.005, 0.005, 0.0045, 0.0042, 0.004, 0.004, 0.004),
)
"""The shipped tiers: the floors are meant for ten of them."""


def rows(effort: float) -> Iterator[Row]:
    """The table's rows of the worker."""
    seconds = max(2, round(180 * effort))
    events = busy_stream(seconds, 2000, 0.002)
    copied = len(events) / seconds_each(events.copy, 3)
    for what, stream, batch in (
        ("in batches of 4,096", events, 4096),
        ("in batches of 64", events, 64),
        ("a cascade: 2 % liquidations", busy_stream(seconds, 2000, 0.02), 4096),
    ):
        speed = events_per_second(stream, batch)
        floor = f"copying them {copied / 1e6:.0f} M/s"
        yield Row(f"worker: events applied, {what}", floor, "≥ 200 k/s", f"{speed / 1e3:.0f} k/s", speed >= 200e3)
    median_ms, worst_ms = roll_and_publish_ms(max(4, round(60 * effort)))
    state = np.zeros((2, len(SPEC.leverages), 5461))
    pass_ms = 1e3 * seconds_each(lambda: np.multiply(state, 0.995, out=state), 20)
    yield Row(
        "worker: minute closed and shown, live frame shown, 5,461 buckets x 10 tiers",
        f"one pass over the map {pass_ms:.2f} ms",
        "≤ 5 ms",
        f"{median_ms:.1f} ms (worst {worst_ms:.1f})",
        median_ms <= 5,
    )


def busy_stream(seconds: int, per_second: int, liquidations: float) -> NDArray[np.void]:
    """A lively market: 90 % trades, marks, mids, readings of open interest, that share of liquidations, and ticks."""
    random = np.random.default_rng(2)
    count = seconds * per_second
    events = np.zeros(count + 4 * seconds, dtype=EVENT_DTYPE)
    facts, ticks = events[:count], events[count:]
    facts["receive_ns"] = START_NS + np.sort(random.integers(0, seconds * SECOND_NS, count))
    facts["venue_ms"] = facts["receive_ns"] // 1_000_000 - 50
    facts["price"] = PRICE * np.exp(np.cumsum(random.normal(0, 2e-6, count)))
    facts["quantity"] = random.exponential(0.1, count)
    facts["extra"], facts["detail"] = np.nan, -1
    kinds = [Kind.TRADE, Kind.MARK_PRICE, Kind.MID_PRICE, Kind.LIQUIDATION, Kind.OPEN_INTEREST]
    facts["kind"] = random.choice(kinds, count, p=[0.9 - liquidations, 0.05, 0.04, liquidations, 0.01])
    levels = facts["kind"] == Kind.OPEN_INTEREST
    facts["quantity"][levels] = 50_000 * (1 + random.normal(0, 1e-5, int(levels.sum())))
    facts["venue"], facts["side"] = random.integers(1, 4, count), random.integers(1, 3, count)
    ticks["kind"], ticks["venue_ms"] = Kind.TICK, -1
    ticks["receive_ns"] = START_NS + np.arange(4 * seconds) * (SECOND_NS // 4)
    events = events[np.argsort(events["receive_ns"], kind="stable")]
    events["sequence"] = np.arange(1, len(events) + 1)
    return events


def events_per_second(events: NDArray[np.void], batch: int) -> float:
    """Events applied per second, minutes closed on the way included."""
    engine = Engine(SPEC)
    began = time.perf_counter()
    for first in range(0, len(events), batch):
        engine.apply(events[first : first + batch])
        engine.drain_liquidations()
    return len(events) / (time.perf_counter() - began)


def roll_and_publish_ms(minutes: int = 40) -> tuple[float, float]:
    """Milliseconds (median, worst) from the TICK that closes a minute to its row and a live frame being shown."""
    with _published() as publication:
        engine = Engine(SPEC)
        spent = [_one_minute(engine, publication, minute) for minute in range(minutes)]
    return statistics.median(spent[2:]), max(spent[2:])


def _one_minute(engine: Engine, publication: Publication, minute: int) -> float:
    start = START_NS + minute * 60 * SECOND_NS
    events = [
        Event(start + s * SECOND_NS, -1, PRICE + 200 * np.sin(s + minute), kind=Kind.MARK_PRICE, venue=1)
        for s in range(3, 60, 2)
    ]
    levels = [
        Event(start + s * SECOND_NS, -1, quantity=79_000.0 + 8 * minute, kind=Kind.OPEN_INTEREST, venue=1)
        for s in (10, 40)
    ]
    engine.apply(events_array(sorted([*events, *levels]), engine.sequence + 1))
    tick = events_array([Event(start + 62 * SECOND_NS, kind=Kind.TICK)], engine.sequence + 1)
    began = time.perf_counter()
    for frame in engine.apply(tick):
        publication.minute(frame, 0)
    live = engine.live()
    assert live is not None
    publication.live(live, 0)
    return 1e3 * (time.perf_counter() - began)


@contextmanager
def _published() -> Iterator[Publication]:
    raw = {"daemon": {"instance": f"b{os.getpid()}{secrets.token_hex(3)}"}, "symbols": {"BTC": {}}}
    config = parse(raw)
    holding = create_all(config)
    try:
        yield Publication(config, "BTC")
    finally:
        holding.retire_all()

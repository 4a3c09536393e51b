"""Hand-made streams of events for the tests of the engine, and ways to look at what it says."""

import hashlib
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import GapReason, Kind, Model, PositionSide, TakerSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import Facts, Liquidation, MinuteFrame, ZonesFrame
from liqmap.engine.spec import EngineSpec, ZoneRules
from tests.events import events_array

START_S = 1_700_000_040  # a whole minute
SECOND_NS = 1_000_000_000
FLOW = Model.FLOW - 1
INVENTORY = Model.INVENTORY - 1

BTC = EngineSpec(
    symbol="BTC",
    step=20.0,
    range_pct=60.0,
    buckets=8192,
    leverages=(5, 10, 25, 50, 100),
    weights=(0.2, 0.3, 0.2, 0.2, 0.1),
    mmr=(0.006, 0.005, 0.0045, 0.004, 0.004),
    decay_per_minute=0.995,
    oi_max_age_s=90.0,
    oi_jump_limit=0.0025,
    shrink_limit=0.25,
    sweep_share=0.7,
    turnover_per_minute=0.0003,
    realisation=0.0,
    anchor_drift=0.1,
    trigger_clamp_s=2.0,
    zones=ZoneRules(unit_share=0.002, range_pct=10.0, width_pct=0.5, pools=24, swept_minutes=240.0),
)


def at(second: float) -> int:
    """Engine time, ns, of a second of the test."""
    return START_S * SECOND_NS + round(second * SECOND_NS)


def tick(second: float) -> Event:
    """Time passes."""
    return Event(at(second), kind=Kind.TICK)


def mark(second: float, price: float, venue: int = Venue.BINANCE, index: float = float("nan")) -> Event:
    """A mark price."""
    ns = at(second)
    return Event(ns, ns // 10**6, price, extra=index, kind=Kind.MARK_PRICE, venue=venue, topic=Topic.MARK_PRICE)


def mid(second: float, price: float, venue: int = Venue.BINANCE) -> Event:
    """A mid price."""
    ns = at(second)
    return Event(ns, ns // 10**6, price, kind=Kind.MID_PRICE, venue=venue, topic=Topic.DEPTH)


def trade(second: float, price: float, qty_base: float = 1.0, side: int = TakerSide.BUY) -> Event:
    """A trade."""
    ns = at(second)
    venue, topic = Venue.BINANCE, Topic.TRADE
    return Event(ns, ns // 10**6, price, qty_base, kind=Kind.TRADE, venue=venue, topic=topic, side=side)


def funded(
    second: float, rate: float, venue: int = Venue.BINANCE, interval_h: float = float("nan"), next_ms: int = -1
) -> Event:
    """A funding rate; NaN: the interval alone."""
    ns, topic = at(second), Topic.FUNDING
    return Event(ns, ns // 10**6, float("nan"), rate, interval_h, next_ms, kind=Kind.FUNDING, venue=venue, topic=topic)


def ratio(second: float, long_share: float, kind: int, bar_s: float, venue: int = Venue.BINANCE) -> Event:
    """A positioning ratio of the bar that the venue calls by `bar_s`."""
    bar_ms, topic = at(bar_s) // 10**6, Topic.RATIO
    return Event(at(second), bar_ms, quantity=long_share, kind=Kind.RATIO, venue=venue, topic=topic, side=kind)


def level(second: float, base: float, venue: int = Venue.BINANCE, covers_ms: int = -1) -> Event:
    """A reading of open interest."""
    ns, topic = at(second), Topic.OPEN_INTEREST
    return Event(ns, ns // 10**6, quantity=base, detail=covers_ms, kind=Kind.OPEN_INTEREST, venue=venue, topic=topic)


def change(second: float, base: float, venue: int = Venue.UNKNOWN, covers_ms: int = 60_000) -> Event:
    """A change of open interest without a level."""
    ns, kind = at(second), Kind.OPEN_INTEREST_CHANGE
    return Event(ns, ns // 10**6, quantity=base, detail=covers_ms, kind=kind, venue=venue, topic=Topic.OPEN_INTEREST)


def liquidated(
    second: float, side: PositionSide, price: float, qty_base: float = 1.0, venue: int = Venue.BINANCE
) -> Event:
    """A liquidation at a printed price."""
    ns, topic = at(second), Topic.LIQUIDATION
    return Event(ns, ns // 10**6, price, qty_base, kind=Kind.LIQUIDATION, venue=venue, topic=topic, side=side)


def gap(second: float, topic: Topic, from_s: float, to_s: float | None = None, venue: int = Venue.BINANCE) -> Event:
    """A gap that opens, or closes at `to_s`."""
    to_ms = -1 if to_s is None else at(to_s) // 10**6
    reason = GapReason.DISCONNECTED
    return Event(at(second), at(from_s) // 10**6, detail=to_ms, kind=Kind.GAP, venue=venue, topic=topic, side=reason)


def quiet(
    minutes: int, price: float = 60_000.0, change_base: float = 0.0, first_minute: int = 0, base: float = 79_000.0
) -> list[Event]:
    """Whole minutes in which nothing moves but open interest, `change_base` a minute, told twice a minute."""
    events: list[Event] = []
    for minute in range(first_minute, first_minute + minutes):
        start = 60 * minute
        events += [mark(start + second, price) for second in range(0, 60, 5)]
        events += [
            level(start + 1, base + change_base * (minute - 0.5)),
            level(start + 31, base + change_base * minute),
        ]
    return events


def stream(events: list[Event], until_s: float) -> NDArray[np.void]:
    """The events in order of time, with a TICK each quarter of a second up to `until_s`."""
    ticks = [tick(quarter / 4) for quarter in range(int(until_s * 4) + 1)]
    ordered = sorted([*events, *ticks], key=lambda event: (event.receive_ns, event.kind == Kind.TICK))
    return events_array(ordered)


def run(events: list[Event], until_s: float, spec: EngineSpec = BTC) -> tuple[Engine, list[MinuteFrame]]:
    """An engine that has seen all that, and the minutes it closed."""
    engine = Engine(spec)
    return engine, engine.apply(stream(events, until_s))


def prices_of(frame: Any) -> NDArray[np.float64]:
    """Price of each cell of a frame."""
    facts = frame.facts
    return np.asarray((facts.first_bucket + np.arange(facts.buckets)) * facts.step, dtype=np.float64)


def outside_usd(facts: Facts, side: int, end: int, model: int = FLOW) -> float:
    """Dollars beyond the window of one side at one end (0 below, 1 above), observed and modelled."""
    return facts.evidence_outside_usd[side][end] + facts.projection_outside_usd[model][side][end]


def digest(frames: list[MinuteFrame]) -> str:
    """A hash of every bit of these frames."""
    sha = hashlib.sha256()
    for frame in frames:
        for field in fields(frame):
            value = getattr(frame, field.name)
            if isinstance(value, np.ndarray):
                sha.update(value.tobytes())
            elif isinstance(value, ZonesFrame):
                sha.update(value.zones.tobytes() + value.changes.tobytes() + repr(value.counts).encode())
                sha.update(repr((value.unit_usd, value.post_mortems, value.predicted_usd, value.realised_usd)).encode())
            elif isinstance(value, tuple) and value and isinstance(value[0], Liquidation):
                sha.update(repr(value).encode())
            else:
                sha.update(repr(value).encode())
    return sha.hexdigest()

"""Ways to look into the inventory of an engine that is fed minute by minute, and random histories for it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.event import Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.spec import EngineSpec
from tests.events import events_array
from tests.unit.engine_tape import BTC, at, change, gap, level, liquidated, mark, tick, trade

PRICE = 60_000.0
VENUES = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)


def inventory_of(engine: Engine) -> InventoryModel:
    """The inventory of an engine whose map is laid out."""
    assert engine._state is not None
    return engine._state.inventory


def whole_base(engine: Engine) -> NDArray[np.float64]:
    """By side, everything the inventory holds, known or not."""
    inventory = inventory_of(engine)
    return np.asarray(inventory.known_base.sum(axis=1) + inventory.unknown_base)


def lively(turnover: float = 0.01) -> EngineSpec:
    """BTC with so much turnover per minute."""
    return replace(BTC, turnover_per_minute=turnover)


def minute_by_minute(
    events: list[Event], minutes: int, spec: EngineSpec = BTC
) -> Iterator[tuple[Engine, list[MinuteFrame]]]:
    """The same engine after each minute, with the frames that closed (none, one, or several after a hole)."""
    engine, ordered = Engine(spec), sorted(events, key=lambda event: event.receive_ns)
    place = sequence = 0
    for minute in range(1, minutes + 1):
        end_ns, batch = at(60 * minute), []
        while place < len(ordered) and ordered[place].receive_ns < end_ns:
            batch.append(ordered[place])
            place += 1
        batch.append(tick(60 * minute + 2.25))
        frames = engine.apply(events_array(batch, sequence + 1))
        sequence += len(batch)
        yield engine, frames


def played(events: list[Event], minutes: int, spec: EngineSpec = BTC) -> tuple[Engine, list[MinuteFrame]]:
    """The engine after the last of these minutes, and all frames."""
    after = list(minute_by_minute(events, minutes, spec))
    return after[-1][0], [frame for _, frames in after for frame in frames]


@dataclass(frozen=True)
class Weather:
    """How wild a random history is: shares of minutes (0..1), and moves per minute."""

    jumps: float = 0.02
    holes: float = 0.05
    silent: float = 0.2
    away: float = 0.03
    gaps: float = 0.1


def random_history(seed: int, minutes: int, weather: Weather = Weather()) -> list[Event]:
    """Prices that wander and jump (so that windows move), venues that leave and return, holes, gaps, levels that are
    missing, that jump, or that collapse. Nothing is said in the first five seconds of a minute."""
    rng = np.random.default_rng(seed)
    price, events = PRICE, [mark(5, PRICE)]
    levels = dict(zip(VENUES, (79_000.0, 45_000.0, 28_000.0), strict=True))
    back_at = dict.fromkeys(VENUES, 0)
    resumes = 0
    for minute in range(minutes):
        start = 60 * minute
        if rng.random() < weather.holes:
            resumes = minute + int(rng.choice([1, 2, 5, 30]))
        price *= float(np.exp(rng.normal(0, 0.002)))
        if rng.random() < weather.jumps:
            price *= float(rng.choice([0.8, 0.93, 1.07, 1.25, 0.35, 2.5]))
        if minute < resumes:
            continue
        events += [mark(start + s, price * float(np.exp(rng.normal(0, 5e-4)))) for s in (6, 20, 35, 50)]
        events += [trade(start + 10, price, float(rng.exponential(200.0))) for _ in range(int(rng.integers(0, 3)))]
        events.append(liquidated(start + 25, 1 + int(rng.integers(2)), price, float(rng.exponential(1.0))))  # type: ignore[arg-type]
        if rng.random() < weather.gaps:
            topic = Topic.TRADE if rng.random() < 0.5 else Topic.LIQUIDATION
            events.append(gap(start + 30, topic, start + 8, start + 29))
        if rng.random() < 0.05:
            events.append(change(start + 40, float(rng.normal(0, 50.0))))
        for venue in VENUES:
            if rng.random() < weather.away:
                back_at[venue] = minute + int(rng.choice([2, 4, 20]))
                levels[venue] *= float(rng.choice([0.5, 0.9, 1.1, 1.5]))
            if minute < back_at[venue] or rng.random() < weather.silent:
                continue
            levels[venue] *= float(np.exp(rng.normal(0, 0.001)))
            if rng.random() < 0.01:
                levels[venue] *= float(rng.choice([0.02, 0.5, 2.0]))  # two readings agree: it is believed
            events += [level(start + 7, levels[venue], venue), level(start + 37, levels[venue], venue)]
    return events

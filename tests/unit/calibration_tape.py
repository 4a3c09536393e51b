"""A market that is swept minute by minute, so that the calibration of an engine has something to learn from."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from liqmap.domain.enums import PositionSide, Venue
from liqmap.domain.event import Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame
from liqmap.engine.spec import EngineSpec
from tests.unit.engine_tape import BTC, level, liquidated, mark
from tests.unit.inventory_tape import PRICE, fed, played

BASE = 1000.0
SPEC = replace(BTC, turnover_per_minute=0.01, realisation=1.0)
"""Everything that leaves at its trigger is printed, and the book turns over fast."""

Prints = Callable[[int, PositionSide, float, float], list[Event]]
"""What is printed in a minute: (minute, side, price, quantity that the inventory lost)."""


def price_at(minute: int, step: float = 0.001, half: int = 30) -> float:
    """Falls for `half` minutes, rises for as many, and so on."""
    phase = minute % (2 * half)
    return PRICE * (1 - step * min(phase, 2 * half - phase))


def market(minutes: int, step: float = 0.001) -> list[Event]:
    """Marks and levels of so many minutes."""
    events = []
    for minute in range(minutes):
        before, now = price_at(minute, step), price_at(minute + 1, step)
        start = 60 * minute
        events += [mark(start + 6, before), mark(start + 30, now), mark(start + 50, now)]
        events += [level(start + 10, BASE), level(start + 40, BASE)]
    return events


@cache
def at_risk_base(minutes: int, step: float, spec: EngineSpec) -> tuple[tuple[float, float], ...]:
    """By minute and side, what the inventory loses at its triggers while nothing is learned."""
    _, frames = played(market(minutes, step), minutes, spec)
    return tuple(
        (
            frame.minute_at_risk_usd[0] / price_at(minute + 1, step),
            frame.minute_at_risk_usd[1] / price_at(minute + 1, step),
        )
        for minute, frame in enumerate(frames)
    )


def printed(minutes: int, prints: Prints, step: float = 0.001, spec: EngineSpec = SPEC) -> list[Event]:
    """The market with what `prints` makes of each minute's losses."""
    events = market(minutes, step)
    for minute, lost in enumerate(at_risk_base(minutes, step, spec)):
        for side in PositionSide:
            if lost[side - 1] > 0:
                events += prints(minute, side, price_at(minute + 1, step), lost[side - 1])
    return events


def honest(share: float = 1.0, venue: int = Venue.BYBIT) -> Prints:
    """This share of what is lost is printed where price is, by one venue."""
    return lambda minute, side, price, lost: [liquidated(60 * minute + 31, side, price, share * lost, venue)]


HONEST = honest()


def learned(
    minutes: int, prints: Prints = HONEST, step: float = 0.001, spec: EngineSpec = SPEC
) -> tuple[Engine, list[MinuteFrame]]:
    """The engine that has seen it."""
    return played(printed(minutes, prints, step, spec), minutes, spec)


def deaf(events: list[Event], minutes: int, spec: EngineSpec = SPEC) -> Engine:
    """The engine that has seen the same events and never ends a window."""
    engine = Engine(spec)
    engine.calibration.close = lambda *_: None  # type: ignore[method-assign]
    for _ in fed(engine, events, minutes):
        pass
    return engine

"""An engine that was written down and read again goes on as if nothing had been: every bit of every frame."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide, Ratio, Source, Topic, Venue
from liqmap.domain.event import Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame
from liqmap.worker.checkpointing import checkpoint_store, engine_codec
from tests.events import events_array
from tests.unit.engine_tape import (
    BTC,
    at,
    change,
    digest,
    funded,
    gap,
    level,
    liquidated,
    mark,
    mid,
    ratio,
    stream,
    tick,
    trade,
)

MINUTES = 12
CODEC = engine_codec()


def lively(seed: int = 1) -> list[Event]:
    """Some minutes of everything: prices that walk and jump, trades, levels and changes of open interest, gaps."""
    draw = random.Random(seed)
    events: list[Event] = []
    price, base = 60_000.0, 79_000.0
    for second in range(60 * MINUTES):
        price *= 1 + draw.gauss(0, 4e-4)
        base += draw.gauss(0, 8.0)
        events.append(mark(second, price, venue=draw.choice([Venue.BINANCE, Venue.BYBIT]), index=price * 0.9999))
        events.append(mid(second + 0.3, price * 1.0001))
        events += [
            trade(second + draw.random() * 0.9, price * (1 + draw.gauss(0, 1e-4)), draw.random(), draw.choice([1, 2]))
            for _ in range(draw.randrange(3))
        ]
        if second % 10 == 0:
            events.append(level(second + 0.5, base))
        if second % 15 == 0:
            events.append(level(second + 0.6, base / 2, venue=Venue.OKX))
            events.append(change(second + 0.7, draw.gauss(0, 3.0), venue=Venue.UNKNOWN))
        if second % 7 == 0:
            side = draw.choice(list(PositionSide))
            events.append(liquidated(second + 0.8, side, price * 0.997, draw.random(), draw.choice([1, 2, 3])))
        if second % 60 == 20:
            events.append(funded(second, 1e-4, interval_h=8.0, next_ms=at(3600) // 10**6))
            events.append(ratio(second, 0.5 + draw.random() / 10, Ratio.ACCOUNTS, second - 300))
    events.append(mark(200.2, price * 3))
    events.append(gap(250, Topic.LIQUIDATION, 245))
    events.append(gap(330, Topic.LIQUIDATION, 245, 330))
    events.append(gap(400, Topic.TRADE, 395, venue=Venue.OKX))

    return events


def seen(engine: Engine, frames: list[MinuteFrame]) -> tuple[Any, ...]:
    """Everything an engine says, to the bit."""
    live = engine.live()
    assert live is not None
    cells = (live.weights.tobytes(), live.projection_usd.tobytes(), live.evidence_usd.tobytes())
    return digest(frames), repr(live.facts), cells, repr(engine.drain_liquidations()), engine.held_back


def cuts(events: NDArray[np.void]) -> list[int]:
    """The first events, whole minutes, the middle of minutes, and places nobody chose."""
    draw = random.Random(7)
    return [1, 2, 50, len(events) // 3, len(events) // 2, len(events) - 1, *draw.sample(range(len(events)), 12)]


def test_at_any_cut_the_copy_goes_on_as_the_original() -> None:
    events = stream(lively(), 60 * MINUTES + 10)
    for cut in cuts(events):
        engine = Engine(BTC)
        before = engine.apply(events[:cut])
        copy = CODEC.decode(CODEC.encode(engine))
        assert seen(copy, before) == seen(engine, before), cut
        assert seen(copy, copy.apply(events[cut:])) == seen(engine, engine.apply(events[cut:])), cut


def test_writing_a_state_changes_nothing_and_copies_share_nothing() -> None:
    events = stream(lively(2), 60 * MINUTES + 10)
    half = len(events) // 2
    undisturbed, engine = Engine(BTC), Engine(BTC)
    undisturbed.apply(events[:half])
    engine.apply(events[:half])
    first = CODEC.encode(engine)
    copy = CODEC.decode(first)
    frames = copy.apply(events[half:])
    assert CODEC.encode(engine) == first, "what a copy does is its own"
    assert seen(engine, engine.apply(events[half:])) == seen(undisturbed, undisturbed.apply(events[half:]))
    assert digest(frames) == digest(CODEC.decode(first).apply(events[half:]))


def test_a_chain_of_copies_is_as_good_as_one_engine() -> None:
    """As when a worker dies each few seconds for a whole day."""
    events = stream(lively(3), 60 * MINUTES + 10)
    engine, chained = Engine(BTC), Engine(BTC)
    frames, pieces = engine.apply(events), []
    for first in range(0, len(events), 97):
        pieces += chained.apply(events[first : first + 97])
        chained.drain_liquidations()
        chained = CODEC.decode(CODEC.encode(chained))
    assert len(frames) == len(pieces) == MINUTES
    assert digest(pieces) == digest(frames)


@pytest.mark.finding("M10")
@pytest.mark.parametrize("hours", [2, 26])
def test_time_away_is_time_that_passed(tmp_path: Path, hours: int) -> None:
    """Stopped, started `hours` later: what an engine says that was never stopped and heard nothing in that time."""
    events = stream(lively(4), 60 * MINUTES + 10)
    away_s = hours * 3600
    start_s = 60 * MINUTES + 10 + away_s
    start_s -= start_s % 60
    told = [gap(start_s, Topic(topic), 60 * MINUTES + 10, start_s) for topic in (1, 2, 3, 4)]
    later = events_array([*told, tick(start_s + 1), tick(start_s + 62.5)], 1 << 41)
    undisturbed, engine = Engine(BTC), Engine(BTC)
    undisturbed.apply(events)
    engine.apply(events)
    store = checkpoint_store(tmp_path, BTC, Source.LIVE)
    store.write(engine, engine.sequence, engine.engine_ns, sync=True)
    found, faults = store.read()
    assert found is not None and faults == []
    last = undisturbed.live()
    engine = found.state
    undisturbed.drain_liquidations()
    assert last is not None
    after, expected = engine.apply(later), undisturbed.apply(later)
    engine.drain_liquidations()
    assert seen(engine, after) == seen(undisturbed, expected)
    elapsed = (after[-1].facts.minute_ms - last.facts.minute_ms) // 60_000
    assert elapsed >= 60 * hours
    faded = after[-1].evidence_usd.sum() / last.evidence_usd.sum()
    assert faded == pytest.approx(BTC.decay_per_minute**elapsed, rel=1e-3)
    assert after[-2].gap_topics, "the time away is a gap"

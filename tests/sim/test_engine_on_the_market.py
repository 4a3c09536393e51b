"""The engine on a simulated market whose positions are known: what it books, keeps and shows against what happened."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.config import parse
from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.domain.event import Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.tape import Tape
from tests.events import events_array
from tests.unit.engine_tape import BTC, FLOW, digest, prices_of

START_MS = 1_700_000_040_000
MINUTES = 20
READ_EVERY_S = {Venue.BINANCE: 10, Venue.BYBIT: 1, Venue.OKX: 3}


def events_of(tape: Tape, second: int) -> list[Event]:
    """One second of the market as ingest would tell it."""
    ns, ms = tape.to_ms * 1_000_000, tape.to_ms
    mark = Event(ns, ms, tape.mark_price, kind=Kind.MARK_PRICE, venue=Venue.BINANCE, topic=Topic.MARK_PRICE)
    events = [mark]
    for venue, prints in tape.venues.items():
        for ts, price, qty, side in prints.trades.tolist():
            events.append(Event(ns, ts, price, qty, kind=Kind.TRADE, venue=venue, topic=Topic.TRADE, side=side))
        for ts, side, bankruptcy, fill, qty in prints.liquidations.tolist():
            events.append(
                Event(
                    ns,
                    ts,
                    bankruptcy,
                    qty,
                    fill,
                    kind=Kind.LIQUIDATION,
                    venue=venue,
                    topic=Topic.LIQUIDATION,
                    side=side,
                )
            )
        if second % READ_EVERY_S[venue] == 0:
            level = prints.open_interest_base
            events.append(
                Event(ns, ms, quantity=level, kind=Kind.OPEN_INTEREST, venue=venue, topic=Topic.OPEN_INTEREST)
            )
    return [*events, Event(ns, kind=Kind.TICK)]


@cache
def played() -> tuple[NDArray[np.void], tuple[float, ...], tuple[MinuteFrame, ...]]:
    """(events, total open interest at the start and at each minute's end, minute frames) of a third of an hour."""
    market = SimulatedMarket(parse({}).sim, "BTC", START_MS)
    events: list[Event] = []
    levels = []
    for second in range(MINUTES * 60 + 3):
        tape = market.advance(START_MS + 1000 * (second + 1))
        events += events_of(tape, second)
        if second == 0 or second % 60 == 59:
            levels.append(sum(prints.open_interest_base for prints in tape.venues.values()))
    stream = events_array(events)
    return stream, tuple(levels), tuple(Engine(BTC).apply(stream))


def test_a_minute_frame_comes_for_every_minute() -> None:
    _, _, frames = played()
    assert [frame.facts.minute_ms for frame in frames] == [START_MS + 60_000 * minute for minute in range(MINUTES)]


def test_what_the_ledger_books_is_what_happened() -> None:
    _, levels, frames = played()
    booked = np.array([frame.facts.open_interest_change_base for frame in frames])
    happened = np.diff(levels)
    assert abs(booked.sum() - happened.sum()) <= 0.05 * np.abs(happened).sum()
    assert np.corrcoef(booked, happened)[0, 1] > 0.8
    assert frames[-1].facts.open_interest_base == pytest.approx(levels[-1], rel=1e-3)


def test_no_projected_dollar_lies_behind_the_mark() -> None:
    _, _, frames = played()
    for frame in frames:
        prices = prices_of(frame)
        longs, shorts = frame.projection_usd[FLOW]
        assert longs[prices >= frame.close].sum() == 0
        assert shorts[prices <= frame.close].sum() == 0
    assert frames[-1].projection_usd[FLOW].sum(axis=1).min() > 0


def test_evidence_is_the_sum_of_what_was_printed_less_what_time_took() -> None:
    stream, _, frames = played()
    liquidations = stream[stream["kind"] == Kind.LIQUIDATION]
    assert frames[-1].facts.liquidations == pytest.approx(len(liquidations), abs=len(liquidations) * 0.1)
    expected = 0.0
    for frame in frames:
        expected = 0.995 * expected + frame.minute_long_usd + frame.minute_short_usd
        assert frame.evidence_usd.sum() == pytest.approx(expected, rel=1e-4)
    assert expected > 0


def test_triggers_lie_where_the_mark_was() -> None:
    _, _, frames = played()
    for frame in frames:
        for event in frame.liquidations:
            slack = 0.001 * frame.close
            assert frame.low - slack <= event.trigger_price <= frame.high + slack


def test_a_real_stream_cut_anywhere_gives_the_same_bits() -> None:
    stream, _, frames = played()
    for seed in range(3):
        cuts = np.sort(np.random.default_rng(seed).integers(0, len(stream), 40))
        engine = Engine(BTC)
        pieces = [frame for part in np.split(stream, cuts) for frame in engine.apply(part)]
        assert digest(pieces) == digest(list(frames))

"""Bars of several minutes, as a backfill tells the far past: one minute is closed for each, and nothing is lost."""

from itertools import pairwise

import numpy as np
import pytest

from liqmap.domain.enums import Kind, TakerSide, Topic, Venue
from liqmap.domain.event import FLAG_BACKFILLED, FLAG_FROM_BAR, Event
from liqmap.engine.engine import Engine
from tests.events import events_array
from tests.unit.engine_tape import BTC, INVENTORY, at, digest, level, tick

PRICE, BASE = 60_000.0, 79_000.0
FLAGS = FLAG_FROM_BAR | FLAG_BACKFILLED


def bar(minute: int, covers: int, prices: tuple[float, ...], volume: float = 60.0) -> list[Event]:
    """A bar that ends with that minute; its path and its trades."""
    events = []
    for quarter, price in enumerate(prices):
        ns = at(60 * minute + 15 * quarter)
        detail = 60_000 * covers if covers > 1 else -1
        mark = Event(ns, ns // 10**6, price, detail=detail, kind=Kind.MARK_PRICE, venue=1, topic=Topic.MARK_PRICE)
        sold = Event(
            ns, ns // 10**6, price, volume / 4, kind=Kind.TRADE, venue=1, side=TakerSide.SELL, topic=Topic.TRADE
        )
        events += [mark._replace(flags=FLAGS), sold._replace(flags=FLAGS)]
    return events


def past(covers: int, minutes: int) -> list[Event]:
    """Quiet bars of that length; open interest grows by 2 a minute, told each five minutes at their end."""
    events = [level(0, BASE, Venue.BINANCE, 300_000)]
    for minute in range(covers - 1, minutes, covers):
        events += bar(minute, covers, (PRICE, PRICE - 30, PRICE + 30, PRICE), 60.0 * covers)
        events.append(tick(60 * minute + 62))
    events += [level(60 * m, BASE + 2.0 * m, Venue.BINANCE, 300_000) for m in range(5, minutes + 1, 5)]
    return sorted(events, key=lambda event: (event.receive_ns, event.kind == Kind.TICK))


def test_one_minute_is_closed_for_each_bar_and_what_came_within_it_counts() -> None:
    frames = Engine(BTC).apply(events_array(past(5, 60)))
    assert [(b.facts.minute_ms - a.facts.minute_ms) // 60_000 for a, b in pairwise(frames)] == [5] * 11
    changes = [frame.facts.open_interest_change_base for frame in frames[1:]]
    assert changes == [10.0] * 11, "told at the turn of a bar: it belongs to the bar in which it became known"
    assert [frame.taker_sell_base for frame in frames] == [300.0] * 12
    assert not any(frame.gap_topics for frame in frames)


def test_the_map_is_nearly_that_of_minute_bars() -> None:
    coarse, fine = (Engine(BTC).apply(events_array(past(covers, 240)))[-1] for covers in (5, 1))
    for side in range(2):
        a, b = (frame.projection_usd[INVENTORY][side].astype(float) for frame in (coarse, fine))
        assert a.sum() == pytest.approx(b.sum(), rel=0.02)
        assert np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum()).max() < 0.02


def test_no_cut_changes_a_bit() -> None:
    events = events_array(past(5, 60))
    whole = digest(Engine(BTC).apply(events))
    for size in (1, 7, 50):
        engine, frames = Engine(BTC), []
        for first in range(0, len(events), size):
            frames += engine.apply(events[first : first + size])
        assert digest(frames) == whole


def test_minutes_that_nobody_told_before_a_coarse_bar_are_a_hole() -> None:
    events = [*past(5, 20), *bar(39, 5, (PRICE,) * 4), tick(60 * 39 + 62)]
    frames = Engine(BTC).apply(events_array(events))
    minutes = [(frame.facts.minute_ms - frames[0].facts.minute_ms) // 60_000 for frame in frames]
    assert minutes == [0, 5, 10, 15, *range(16, 31), 35]
    coverage = [frame.facts.coverage[INVENTORY][0] for frame in frames]
    assert coverage[-2] < max(coverage), "what turned over unseen is unknown"

"""However a stream is cut into batches, every minute frame is the same to the bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.domain.enums import Kind
from liqmap.domain.event import EVENT_DTYPE, FLAG_FROM_BAR
from liqmap.engine.engine import Engine
from tests.events import events_array
from tests.unit.engine_tape import BTC, START_S, digest, quiet, run, stream, tick

KINDS = np.array([kind.value for kind in Kind] + [200, 0], dtype=np.uint8)
LIKELY = np.array([18, 8, 20, 15, 10, 3, 4, 6, 3, 4, 1, 1], dtype=float)


def random_events(seed: int, count: int, minutes: int) -> np.ndarray:
    """A wild stream: all kinds, disordered venue times, missing values, ticks that stall and jump."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, dtype=EVENT_DTYPE)
    events["sequence"] = np.arange(1, count + 1)
    steps = rng.exponential(minutes * 60e9 / count, count) * rng.choice([0.0, 1.0, 4.0], count, p=[0.2, 0.75, 0.05])
    events["receive_ns"] = START_S * 10**9 + np.cumsum(steps).astype(np.int64)
    events["receive_ns"] -= rng.choice([0, 10**9], count, p=[0.97, 0.03])
    events["venue_ms"] = events["receive_ns"] // 10**6 + rng.integers(-6000, 6000, count)
    events["venue_ms"][rng.random(count) < 0.1] = -1
    events["kind"] = rng.choice(KINDS, count, p=LIKELY / LIKELY.sum())
    price = 60_000 * np.exp(np.cumsum(rng.normal(0, 5e-4, count)))
    events["price"] = np.where(rng.random(count) < 0.02, np.nan, price)
    amount = rng.exponential(1.0, count)
    amount = np.where(events["kind"] == Kind.OPEN_INTEREST, 79_000 * (1 + rng.normal(0, 4e-4, count)), amount)
    amount = np.where(events["kind"] == Kind.RATIO, rng.uniform(-0.05, 1.05, count), amount)
    amount = np.where(events["kind"] == Kind.FUNDING, rng.normal(0, 1e-4, count), amount)
    events["quantity"] = np.where(rng.random(count) < 0.02, np.nan, amount)
    events["extra"] = np.where(rng.random(count) < 0.5, np.nan, price)
    events["venue"] = rng.integers(0, 4, count)
    events["side"] = rng.integers(0, 4, count)
    events["topic"] = rng.integers(0, 9, count)
    events["flags"] = FLAG_FROM_BAR * (rng.random(count) < 0.05)
    events["detail"] = np.where(rng.random(count) < 0.6, -1, rng.integers(0, 10**6, count))
    gaps = (events["kind"] == Kind.GAP) & (events["detail"] >= 0)
    events["detail"][gaps] = events["venue_ms"][gaps] + 5000
    return events


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 1500),
    minutes=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 1500), max_size=12),
    look=st.booleans(),
)
def test_batches_do_not_matter(seed: int, count: int, minutes: int, cuts: list[int], look: bool) -> None:
    events = random_events(seed, count, minutes)
    whole = Engine(BTC)
    expected = whole.apply(events)
    liquidations = whole.drain_liquidations()
    cut = Engine(BTC)
    frames, seen = [], []
    for part in np.split(events, sorted(min(c, count) for c in cuts)):
        frames += cut.apply(part)
        seen += cut.drain_liquidations()
        if look:
            cut.live()
    assert digest(frames) == digest(expected)
    assert repr(seen) == repr(liquidations), "NaN is not equal to itself, its text is"
    assert repr(cut.live()) == repr(whole.live())


def test_one_event_at_a_time_is_the_same_as_all_at_once() -> None:
    events = random_events(7, 2500, 8)
    single = Engine(BTC)
    frames = [frame for i in range(len(events)) for frame in single.apply(events[i : i + 1])]
    assert len(frames) > 3
    assert digest(frames) == digest(Engine(BTC).apply(events))


def test_the_same_events_give_the_same_bits_again() -> None:
    events = stream(quiet(20, change_base=15.0), until_s=1200)
    assert digest(Engine(BTC).apply(events)) == digest(Engine(BTC).apply(events))


def test_looking_at_the_live_map_changes_nothing() -> None:
    events = quiet(5, change_base=15.0)
    _, expected = run(events, until_s=310)
    engine = Engine(BTC)
    frames = []
    for part in np.array_split(stream(events, until_s=310), 500):
        frames += engine.apply(part)
        live = engine.live()
        assert live is not None
        live.projection_usd[:] = 1e12
        live.evidence_usd[:] = 1e12
        live.weights[:] = 0.0
    assert digest(frames) == digest(expected)


def test_a_minute_frame_already_given_is_never_changed() -> None:
    engine = Engine(BTC)
    frames = engine.apply(stream(quiet(5, change_base=15.0), until_s=310))
    before = digest(frames)
    engine.apply(events_array([*quiet(5, first_minute=6), *[tick(400 + i) for i in range(300)]]))
    assert digest(frames) == before


def test_no_events_is_no_news() -> None:
    engine = Engine(BTC)
    assert engine.apply(events_array([])) == []
    assert engine.live() is None
    assert engine.drain_liquidations() == []

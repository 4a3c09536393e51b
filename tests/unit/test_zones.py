"""Zones: every arrow of their life by a hand-made stream, and that their dollars are the grid's."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from liqmap.domain.enums import PositionSide, Topic, ZoneChange, ZoneSource, ZoneState
from liqmap.domain.event import Event
from liqmap.domain.zone import ACTIVE_ZONES, KEPT_CHANGES, SWEPT_ZONES
from liqmap.engine.engine import Engine
from liqmap.engine.frames import MinuteFrame, ZonesFrame
from liqmap.engine.zones import Zone
from tests.events import events_array
from tests.unit.engine_tape import (
    BTC,
    INVENTORY,
    START_S,
    change,
    digest,
    gap,
    level,
    liquidated,
    mark,
    prices_of,
    quiet,
    run,
    stream,
    tick,
)

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
MINUTE_MS = 60_000
START_MS = START_S * 1000
LIVELY = replace(BTC, turnover_per_minute=0.003)
BUILT = 20
"""Minutes at 60,000 in which a lively book builds zones at every tier's distance."""


def at_price(minute: int, *prices: float, base: float = 79_000.0) -> list[Event]:
    """One minute in which price goes through `prices`, evenly, and open interest is told twice."""
    start = 60 * minute
    step = 55 / max(len(prices) - 1, 1)
    marks = [mark(start + 1 + round(number * step), price) for number, price in enumerate(prices)]
    return [*marks, level(start + 2, base), level(start + 32, base)]


def path(*minutes: Sequence[float], first: int = BUILT) -> list[Event]:
    """Minutes after the quiet ones, each with the prices it goes through."""
    return [event for number, prices in enumerate(minutes) for event in at_price(first + number, *prices)]


def seen(events: list[Event], minutes: int, spec: Any = LIVELY) -> list[MinuteFrame]:
    """The minute frames of a stream over so many whole minutes."""
    return run(events, 60 * minutes + 2, spec)[1]


def zones_of(frame: MinuteFrame) -> ZonesFrame:
    """The zones of a frame that has some map."""
    assert frame.zones is not None
    return frame.zones


def of(frame: MinuteFrame, side: PositionSide, *states: ZoneState) -> NDArray[np.void]:
    """Its zones of one side, in some states (default: not swept)."""
    rows = zones_of(frame).zones
    wanted = states or (ZoneState.ACTIVE, ZoneState.TOUCHED)
    found: NDArray[np.void] = rows[(rows["side"] == side) & np.isin(rows["state"], wanted)]
    return found


def kinds(frames: list[MinuteFrame], zone: int) -> list[ZoneChange]:
    """What happened to one zone, in order: of each frame, what its minute brought."""
    told: list[ZoneChange] = []
    for frame in frames:
        rows = zones_of(frame).changes
        now = rows[(rows["id"] == zone) & (rows["at_ms"] == frame.facts.minute_ms + MINUTE_MS)]
        told += [ZoneChange(int(row["kind"])) for row in now]
    return told


def nearest(frame: MinuteFrame, side: PositionSide) -> NDArray[np.void]:
    """The zone of a side that price would reach first."""
    rows = of(frame, side)
    found: NDArray[np.void] = rows[rows["high"].argmax() if side is LONG else rows["low"].argmin()]
    return found


def grid_usd(frame: MinuteFrame, side: int, low: float, high: float) -> float:
    """Evidence and inventory of the grid from `low` to `high`."""
    prices = prices_of(frame)
    cells = (prices >= low) & (prices <= high)
    held = frame.projection_usd[INVENTORY, side - 1, cells].astype(float) + frame.evidence_usd[side - 1, cells]
    return float(held.sum())


@pytest.mark.finding("X6")
def test_pools_become_zones_on_the_own_side_of_price() -> None:
    frames = seen(quiet(BUILT), BUILT)
    frame = frames[-1]
    longs, shorts = of(frame, LONG), of(frame, SHORT)
    assert len(longs) >= 3 and len(shorts) >= 3
    assert (longs["high"] < 60_000).all() and (shorts["low"] > 60_000).all()
    assert set(zones_of(frame).zones["source"]) == {ZoneSource.PROJECTION}
    assert (longs["created_mark"] == 60_000).all() and (longs["created_ms"] >= START_MS + MINUTE_MS).all()
    assert ((longs["low"] <= longs["price"]) & (longs["price"] <= longs["high"])).all()
    assert ((longs["high"] - longs["low"]) / longs["price"] <= 0.0101).all(), "no chains"
    assert kinds(frames, int(longs[0]["id"]))[0] is ZoneChange.CREATED


@pytest.mark.finding("M6")
def test_what_was_liquidated_where_nothing_is_modelled_is_a_zone_of_evidence() -> None:
    """Price went down to 58,000, long positions were closed there, price came back."""
    begin = 60 * BUILT
    printed = 58_000 * (1 - BTC.trigger_mmr)
    events = quiet(BUILT) + path([60_000, 58_000, 58_000, 60_000], [60_000])
    events += [liquidated(begin + second, LONG, printed, 60.0) for second in range(22, 36, 2)]
    rows = of(seen(events, BUILT + 2, replace(BTC, turnover_per_minute=0.0001))[-1], LONG)
    row = next(row for row in rows if row["low"] <= 58_000 <= row["high"])
    assert row["source"] == ZoneSource.EVIDENCE and row["state"] == ZoneState.ACTIVE
    assert row["evidence_usd"] > 0.95 * row["notional_usd"] and row["notional_usd"] > 20e6


@pytest.mark.finding("M27")
@pytest.mark.finding("X8")
def test_the_dollars_of_a_zone_are_the_sum_of_the_grid_within_it() -> None:
    events = quiet(BUILT) + path([60_000, 59_700, 60_000], [60_000])
    events += [liquidated(60 * BUILT + 20, LONG, 59_500.0, 40.0), liquidated(60 * BUILT + 25, SHORT, 60_500.0, 30.0)]
    for frame in seen(events, BUILT + 2)[5:]:
        rows = zones_of(frame).zones
        rows = rows[rows["state"] != ZoneState.SWEPT]
        assert np.allclose(rows["notional_usd"], rows["evidence_usd"] + rows["projected_usd"], rtol=1e-12)
        assert np.allclose(rows["tiers_usd"].sum(axis=1), rows["projected_usd"], rtol=1e-12)
        for row in rows:
            wanted = grid_usd(frame, int(row["side"]), float(row["low"]), float(row["high"]))
            assert row["notional_usd"] == pytest.approx(wanted, rel=1e-5, abs=1.0)
        for side in (LONG, SHORT):
            whole = grid_usd(frame, side, 0.0, 1e9)
            assert rows["notional_usd"][rows["side"] == side].sum() <= whole * (1 + 1e-5), "no dollar twice"


@pytest.mark.finding("M27")
def test_dollars_do_not_follow_the_weight() -> None:
    """The weight is capped and fades by the minute, the dollars stand where they stood."""
    frames = seen(quiet(BUILT) + path(*[[60_000.0]] * 3), BUILT + 3, replace(LIVELY, zones=SMALL_UNIT))
    rows = of(frames[-1], LONG)
    capped = rows[rows["weight"] > 4.9]
    assert len(capped) >= 2 and len(set(np.round(capped["notional_usd"]))) == len(capped)
    blind = [*quiet(BUILT), *path([60_000.0])]
    later = run(blind, 60 * (BUILT + 61) + 2, LIVELY)[1]
    before, after = of(later[BUILT], LONG), of(later[-1], LONG)
    assert np.array_equal(before["id"], after["id"])
    assert np.allclose(after["weight"], before["weight"] * 0.995**60, rtol=1e-9)
    assert np.array_equal(after["notional_usd"], before["notional_usd"])


SMALL_UNIT = replace(BTC.zones, unit_share=0.00002)


def test_weight_is_dollars_over_the_unit_when_created() -> None:
    for frame in seen(quiet(BUILT), BUILT):
        found = zones_of(frame)
        if found.unit_usd != found.unit_usd:
            continue
        end_ms = frame.facts.minute_ms + MINUTE_MS
        new = found.zones[found.zones["created_ms"] == end_ms]
        assert np.allclose(new["weight"], new["notional_usd"] / found.unit_usd, rtol=1e-6)
        assert found.unit_usd == pytest.approx(0.002 * 79_000 * 60_000)
        assert (new["weight"] >= 0.1).all()


def test_without_dollars_there_is_no_zone() -> None:
    """Only changes of open interest, no level: the map is a shape, and no zone can be weighed."""
    events = [mark(second, 60_000.0) for second in range(0, 60 * 20, 5)]
    events += [change(60 * minute + 30, 400.0) for minute in range(20)]
    frame = seen(events, 20)[-1]
    assert len(zones_of(frame).zones) == 0 and np.isnan(zones_of(frame).unit_usd)


def test_a_growing_pool_reinforces_by_three_tenths_and_the_cap_holds() -> None:
    frames = seen(quiet(BUILT), BUILT)
    one, two = (nearest(frame, SHORT) for frame in frames[8:10])
    assert one["id"] == two["id"] and two["reinforcements"] == one["reinforcements"] + 1
    faded, unit = 0.995 * one["weight"], zones_of(frames[9]).unit_usd
    assert two["weight"] == pytest.approx(faded + 0.3 * (two["notional_usd"] / unit - faded), rel=1e-6)
    assert two["reinforced_ms"] == frames[9].facts.minute_ms + MINUTE_MS
    assert ZoneChange.REINFORCED in kinds(frames, int(two["id"]))
    capped = seen(quiet(BUILT), BUILT, replace(LIVELY, zones=SMALL_UNIT))[-1]
    assert of(capped, LONG)["weight"].max() == pytest.approx(5.0, rel=0.02)
    assert of(capped, LONG)["weight"].max() <= 5.0


def test_price_within_a_zone_touches_it_and_leaving_it_makes_it_active_again() -> None:
    before = nearest(seen(quiet(BUILT), BUILT)[-1], LONG)
    inside = float(before["high"]) - 20
    frames = seen(quiet(BUILT) + path([60_000, inside], [inside], [60_400.0]), BUILT + 3)
    touched, still, left = (next(row for row in of(f, LONG) if row["id"] == before["id"]) for f in frames[-3:])
    assert touched["state"] == still["state"] == ZoneState.TOUCHED and left["state"] == ZoneState.ACTIVE
    assert touched["touched_ms"] == still["touched_ms"] == START_MS + BUILT * MINUTE_MS
    assert touched["predicted_usd"] == before["notional_usd"]
    assert (still["low"], still["high"]) == (before["low"], before["high"]), "it stands still while it is eaten"
    assert np.isnan(left["predicted_usd"])
    assert kinds(frames, int(before["id"])).count(ZoneChange.TOUCHED) == 1


def sweep(extra: list[Event], minutes: int = 8) -> tuple[NDArray[np.void], list[MinuteFrame]]:
    """The nearest zone of longs before, and the frames of a stream that sweeps it in minute BUILT."""
    before = nearest(seen(quiet(BUILT), BUILT)[-1], LONG)
    below = float(before["low"]) - 20
    events = quiet(BUILT) + path([60_000, below], *[[below]] * (minutes - 1))
    return before, seen(events + extra, BUILT + minutes)


def test_price_through_a_zone_sweeps_it_and_what_was_predicted_is_held_against_what_came() -> None:
    begin = 60 * BUILT
    before = nearest(seen(quiet(BUILT), BUILT)[-1], LONG)
    centre = float(before["price"])
    printed = centre * (1 - BTC.trigger_mmr)
    wanted = [liquidated(begin + 55, LONG, printed, 7.0)]
    others = [
        liquidated(begin + 54, SHORT, printed, 11.0),
        liquidated(begin - 50, LONG, printed, 13.0),
        liquidated(begin + 330, LONG, printed, 17.0),
    ]
    before, frames = sweep(wanted + others)
    rows = [next(row for row in of(f, LONG, *ZoneState) if row["id"] == before["id"]) for f in frames[BUILT:]]
    assert {int(row["state"]) for row in rows} == {ZoneState.SWEPT}
    last = rows[-1]
    assert last["swept_ms"] == last["touched_ms"] == START_MS + BUILT * MINUTE_MS
    assert last["until_ms"] == last["swept_ms"] + 5 * MINUTE_MS
    found = [e for f in frames for e in f.liquidations if e.qty_base == 7.0]
    assert last["low"] - 10 <= found[0].trigger_price <= last["high"] + 10, "the stream hits the zone"
    assert (last["realised"], last["realised_usd"]) == (1, pytest.approx(found[0].notional_usd))
    assert last["heard"] == 1
    counted = [zones_of(frame).post_mortems[0] for frame in frames[BUILT:]]
    assert counted[:4] == [0] * 4 and counted[4] >= 1
    swept = of(frames[-1], LONG, ZoneState.SWEPT)
    assert zones_of(frames[-1]).predicted_usd[0] == pytest.approx(swept["predicted_usd"].sum())
    assert zones_of(frames[-1]).realised_usd[0] == pytest.approx(swept["realised_usd"].sum())
    assert kinds(frames, int(before["id"]))[-2:] == [ZoneChange.TOUCHED, ZoneChange.SWEPT]


def test_what_is_shown_of_a_swept_zone_is_what_stood_there() -> None:
    before, frames = sweep([])
    stood = next(row for row in of(frames[BUILT - 1], LONG) if row["id"] == before["id"])
    row = next(row for row in of(frames[-1], LONG, ZoneState.SWEPT) if row["id"] == before["id"])
    assert row["notional_usd"] == row["predicted_usd"] == stood["notional_usd"]
    assert row["tiers_usd"].tolist() == stood["tiers_usd"].tolist()
    assert grid_usd(frames[-1], LONG, float(row["low"]), float(row["high"])) < 1e-3 * row["notional_usd"]


def test_the_sides_mirror_each_other() -> None:
    before = nearest(seen(quiet(BUILT), BUILT)[-1], SHORT)
    above = float(before["high"]) + 20
    frames = seen(quiet(BUILT) + path([60_000, above], [60_000]), BUILT + 2)
    row = next(row for row in of(frames[-1], SHORT, *ZoneState) if row["id"] == before["id"])
    assert row["state"] == ZoneState.SWEPT and row["predicted_usd"] == before["notional_usd"]


def test_a_post_mortem_over_a_hole_in_the_feed_says_so_and_is_not_counted() -> None:
    begin = 60 * BUILT
    before, frames = sweep([gap(begin + 90, Topic.LIQUIDATION, begin + 80, begin + 100)])
    row = next(row for row in of(frames[-1], LONG, ZoneState.SWEPT) if row["id"] == before["id"])
    assert row["heard"] == 0 and zones_of(frames[-1]).post_mortems == (0, 0)


def test_a_swept_zone_is_shown_for_its_time_and_then_gone() -> None:
    short = replace(LIVELY, zones=replace(BTC.zones, swept_minutes=6.0))
    before = nearest(seen(quiet(BUILT), BUILT)[-1], LONG)
    below = float(before["low"]) - 20
    frames = seen(quiet(BUILT) + path([60_000, below], *[[below]] * 9), BUILT + 10, short)
    there = [bool((of(frame, LONG, ZoneState.SWEPT)["id"] == before["id"]).any()) for frame in frames[BUILT:]]
    assert there == [True] * 6 + [False] * 4


def test_forgotten_zones_expire_when_they_are_light() -> None:
    engine, frames = run(quiet(BUILT), 60 * BUILT + 2, LIVELY)
    minutes = [tick(60 * minute + 3) for minute in range(BUILT + 1, BUILT + 901)]
    frames += engine.apply(events_array(minutes, engine.sequence + 1))
    ids = of(frames[BUILT - 1], LONG)["id"]
    assert len(ids) and len(of(frames[-1], LONG)) == 0
    changes = zones_of(frames[-1]).changes
    expired = changes[changes["kind"] == ZoneChange.EXPIRED]
    assert set(ids) <= set(expired["id"])
    assert (expired["weight"] < 0.05).all()


def test_unfed_zones_far_from_price_are_given_up_after_four_hours() -> None:
    engine, frames = run(quiet(BUILT), 60 * BUILT + 2, LIVELY)
    assert engine._state is not None
    side = engine._state.zones.sides[0]
    near, far = zone_at(10**9, 59_100.0), zone_at(10**9 + 1, 56_500.0)
    near.weight = far.weight = 4.0
    near.fed_ms = far.fed_ms = frames[-1].facts.minute_ms + MINUTE_MS - 239 * MINUTE_MS
    side.active = [near, far]
    empty = np.zeros_like(engine._state.inventory._raw)
    engine._state.inventory.unknown_base += engine._state.inventory.known_base.sum(axis=1)
    engine._state.inventory._raw, engine._state.inventory._outside[:] = empty, 0.0
    still = replace(BTC, turnover_per_minute=0.0)
    engine._state.inventory._spec = still
    after = engine.apply(stream(path([60_000.0], [60_000.0]), 60 * (BUILT + 2) + 2))
    assert [set(of(frame, LONG)["id"]) for frame in after] == [{10**9}] * 2
    assert kinds(after, 10**9 + 1) == [ZoneChange.EXPIRED]


def zone_at(id_: int, price: float, weight: float = 1.0) -> Zone:
    """An unfed zone of longs, 200 dollars wide."""
    source, when = ZoneSource.PROJECTION, START_MS
    low, high = price - 100, price + 100
    return Zone(id_, 0, price, low, high, weight, source, when, 60_000.0, when, np.zeros(len(BTC.leverages)))


def test_zones_that_meet_become_one() -> None:
    engine, _ = run(quiet(BUILT), 60 * BUILT + 2, LIVELY)
    assert engine._state is not None
    side = engine._state.zones.sides[0]
    kept = side.active[0]
    other, apart = zone_at(10**9, kept.price * 1.0004, 0.2), zone_at(10**9 + 1, 59_900.0, 0.2)
    weight = kept.weight
    side.active += [other, apart]
    frame = engine.apply(stream([mark(60 * BUILT + 5, 60_000.0)], 60 * (BUILT + 1) + 2))[-1]
    row = next(row for row in of(frame, LONG) if row["id"] == kept.id)
    assert kinds([frame], 10**9) == [ZoneChange.MERGED] and (of(frame, LONG)["id"] == 10**9 + 1).any()
    assert row["weight"] >= 0.995 * weight + 0.3 * 0.199 - 1e-12
    assert row["low"] <= other.low and row["high"] >= other.high
    assert zones_of(frame).counts[0][ZoneChange.MERGED - 1] == 1


def test_there_are_never_more_than_fit_and_the_lightest_go() -> None:
    engine, _ = run(quiet(BUILT), 60 * BUILT + 2, LIVELY)
    assert engine._state is not None
    side = engine._state.zones.sides[0]
    crowd = [zone_at(10**9 + n, 30_000.0 + 100 * n, 1.0 + n / 100) for n in range(3 * ACTIVE_ZONES)]
    for zone in crowd:
        zone.fed_ms = START_MS + BUILT * MINUTE_MS
    side.active += crowd
    side.swept = [replace(zone, state=ZoneState.SWEPT, swept_ms=zone.fed_ms, until_ms=0) for zone in crowd]
    frame = engine.apply(stream(path([60_000.0]), 60 * (BUILT + 1) + 2))[-1]
    active, swept = of(frame, LONG), of(frame, LONG, ZoneState.SWEPT)
    assert len(active) == ACTIVE_ZONES and len(swept) == SWEPT_ZONES
    assert set(swept["id"]) == {zone.id for zone in crowd[-SWEPT_ZONES:]}
    gone = zones_of(frame).changes
    gone = gone[gone["kind"] == ZoneChange.EXPIRED]
    assert gone["weight"].max() <= active["weight"].min() and len(zones_of(frame).changes) <= KEPT_CHANGES


@pytest.mark.finding("M10")
def test_weights_fade_by_the_time_that_passed_also_across_a_hole() -> None:
    """Ticks all the way, or one tick after the hole: the same zones, the same weights."""
    known = quiet(BUILT) + path([60_000.0])
    whole = Engine(LIVELY)
    steady = whole.apply(stream(known, 60 * (BUILT + 120) + 2))
    engine = Engine(LIVELY)
    engine.apply(stream(known, 60 * (BUILT + 1) + 2))
    late = stream([mark(60 * (BUILT + 120) + 30, 60_000.0)], 60 * (BUILT + 121) + 2)
    late = late[late["receive_ns"] >= (START_S + 60 * (BUILT + 120)) * 10**9]
    after = engine.apply(late)
    for hidden, open_ in zip(of(after[-2], LONG), of(steady[-1], LONG), strict=True):
        assert hidden["id"] == open_["id"] and hidden["weight"] == pytest.approx(open_["weight"], rel=1e-9)


def test_ids_rise_and_are_never_given_twice_also_by_a_restarted_engine() -> None:
    first, _ = run(quiet(BUILT), 60 * BUILT + 2, LIVELY)
    second = Engine(LIVELY)
    frames = second.apply(stream(quiet(BUILT, first_minute=BUILT), 60 * 2 * BUILT + 2)[4 * 60 * BUILT + 8 :])
    assert first._state is not None
    old = first._state.zones.frame()
    new = zones_of(frames[-1])
    assert old.zones["id"].max() < new.zones["id"].min() < 2**53
    assert old.changes["number"].max() < new.changes["number"].min() < 2**53
    assert (np.diff(new.changes["number"].astype(np.int64)) > 0).all()
    assert len(set(new.zones["id"])) == len(new.zones)


def test_the_state_is_plain_data_and_goes_on_where_it_stopped() -> None:
    engine, _ = run(quiet(BUILT), 60 * BUILT + 2, LIVELY)
    copy = pickle.loads(pickle.dumps(engine))
    rest = stream(path([60_000, 58_000.0], [58_500.0], [60_000.0]), 60 * (BUILT + 3) + 2)[4 * 60 * BUILT + 9 :]
    assert digest(copy.apply(rest)) == digest(engine.apply(rest))


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 6000), max_size=8))
def test_a_wild_market_cut_anywhere_gives_the_same_zones(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    steps = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.004, 40)))
    events = quiet(8) + path(*[[float(a), float(b)] for a, b in pairwise(steps)], first=8)
    events += [
        liquidated(float(second), LONG if rng.random() < 0.5 else SHORT, float(rng.choice(steps)), 5.0)
        for second in rng.uniform(480, 2800, 60)
    ]
    whole = stream(events, 60 * 47 + 2)
    frames = Engine(LIVELY).apply(whole)
    engine = Engine(LIVELY)
    again = [
        frame for part in np.split(whole, sorted(min(c, len(whole)) for c in cuts)) for frame in engine.apply(part)
    ]
    assert digest(again) == digest(frames)
    for frame in frames:
        rows = zones_of(frame).zones
        assert len(set(rows["id"])) == len(rows)
        assert ((rows["weight"] >= 0) & (rows["weight"] <= 5)).all() and (rows["notional_usd"] >= 0).all()
        active = rows[rows["state"] == ZoneState.ACTIVE]
        assert (active["high"][active["side"] == LONG] < frame.close).all()
        assert (active["low"][active["side"] == SHORT] > frame.close).all()

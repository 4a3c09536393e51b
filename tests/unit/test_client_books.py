"""Frames over time for readers: groups, venues, prices and holes, against a reference that goes cell by cell."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.client import Client, NotYet, OutOfRange, Prices
from liqmap.client.book_columns import Axis
from liqmap.config import Config, parse
from liqmap.domain.grid import Grid
from liqmap.engine.depth import BookFrame, BookMeans
from liqmap.shm.layout import BOOK_UNIT_USD
from liqmap.shm.plan import Role, create_all, symbol_segments
from liqmap.shm.rows import RowsWriter
from liqmap.worker.books import fill_row

FRAME_MS = 30_000
END_MS = 1_700_000_400_000
STEP = 20.0
NOTHING = np.full(2, np.nan)


@dataclass
class Kept:
    """Rows of frames, written by the test."""

    config: Config
    client: Client
    rows: RowsWriter

    def write(self, frame: BookFrame) -> None:
        """One more frame."""
        self.rows.append(lambda row: fill_row(row, frame))


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """One symbol; the frames of one example follow those of the one before in time."""
    from tests.api.stage import instance_name

    config = parse(
        {
            "daemon": {"instance": instance_name()},
            "ingest": {"ring_events": 1024},
            "history": {"minute_columns": 8, "recent_liquidations": 256},
            "depth": {"frames": 64, "buckets": 64},
            "symbols": {"BTC": {"step": STEP}},
        }
    )
    holding = create_all(config)
    plan = next(each for each in symbol_segments(config, "BTC") if each.role is Role.BOOKS)
    with Client(config.daemon.instance) as client:
        yield Kept(config, client, RowsWriter.open(plan.name, plan.dtype))
    holding.retire_all()


def means(covered_ms: float, total: float = 1.0) -> BookMeans:
    """Of one venue."""
    both = np.full(2, total)
    return BookMeans(covered_ms, 0, 1.0, 2.0, both, both, both)


def frame(
    t_ms: int, usd: np.ndarray, covered: Any, first: int = 4495, *, mid: float = 90_000.0, **more: Any
) -> BookFrame:
    """One frame of three venues."""
    return BookFrame(
        t_ms=t_ms,
        interval_ms=more.get("interval_ms", FRAME_MS),
        first_bucket=first,
        step=more.get("step", STEP),
        mid_open=mid,
        mid_mean=mid,
        mid_close=mid,
        samples=9,
        summed=means(float(np.min(covered))),
        venues=tuple(means(float(each)) for each in covered),
        usd=np.asarray(usd, dtype=np.float64),
    )


def drawn(seed: int, end_ms: int) -> list[BookFrame]:
    """Up to forty frames before `end_ms`, with holes, moving windows, unknown cells and venues."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    slots = [i for i in range(count) if rng.random() < 0.8 or i == count - 1]
    made = []
    for slot in slots:
        cells = int(rng.integers(3, 14))
        usd = rng.choice([np.nan, 0.0, 1e3, 5e5], size=(3, 2, cells)) * rng.integers(1, 9)
        covered = rng.choice([0.0, 7_000.0, 30_000.0], size=3)
        covered[0] = 30_000.0 if slot == count - 1 else covered[0]
        usd[covered == 0] = np.nan
        first = 4495 + int(rng.integers(-3, 4))
        made.append(frame(end_ms - (count - slot) * FRAME_MS, usd, covered, first))
    return made


def reference(frames: list[BookFrame], venue: int | None, from_ms: int, slot_ms: int, buckets: range) -> np.ndarray:
    """usd[row, side, column], one cell at a time."""
    rows = (frames[-1].t_ms - from_ms) // slot_ms + 1
    out = np.full((rows, 2, len(buckets)), np.nan)
    for row in range(rows):
        begin = from_ms + row * slot_ms
        inside = [each for each in frames if begin <= each.t_ms < begin + slot_ms]
        for side in range(2):
            for column, bucket in enumerate(buckets):
                known = []
                for number in range(3) if venue is None else (venue,):
                    pairs = [
                        (each.venues[number].covered_ms, each.usd[number, side, bucket - each.first_bucket])
                        for each in inside
                        if 0 <= bucket - each.first_bucket < each.usd.shape[-1]
                    ]
                    pairs = [(weight, usd) for weight, usd in pairs if usd == usd and weight > 0]
                    if pairs:
                        known.append(sum(w * usd for w, usd in pairs) / sum(w for w, _ in pairs))
                if known:
                    out[row, side, column] = sum(known)
    return out


EXAMPLES = iter(range(1, 10**6))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.sampled_from([None, 0, 1, 2]), st.integers(5, 30))
def test_rows_are_what_a_slow_reference_finds(
    kept: Kept, seed: int, stride: int, venue: int | None, minutes: int
) -> None:
    end_ms = END_MS + next(EXAMPLES) * 40 * 60_000  # far enough from the frames of the example before
    frames = drawn(seed, end_ms)
    for each in frames:
        kept.write(each)
    name = "all" if venue is None else ("binance", "bybit", "okx")[venue]
    found = kept.client.books.history("BTC", minutes, Prices(), name, stride)
    slot_ms = stride * FRAME_MS
    asked_ms = (end_ms - minutes * 60_000) // slot_ms * slot_ms
    buckets = range(round(found.prices[0] / STEP), round(found.prices[-1] / STEP) + 1)
    frames = [each for each in frames if each.t_ms >= asked_ms]
    wanted = reference(frames, venue, int(found.t_ms[0]), slot_ms, buckets)
    last = len(wanted)
    assert len(found.t_ms) == last and (np.diff(found.t_ms) == slot_ms).all()
    assert found.t_ms[0] >= asked_ms and found.t_ms[0] <= frames[0].t_ms
    got = np.stack([found.bid_usd, found.ask_usd], axis=1)
    assert np.allclose(got, wanted, rtol=2e-3, equal_nan=True)
    _holes_are_named(found, frames, venue, asked_ms, end_ms)


def _holes_are_named(found: Any, frames: list[BookFrame], venue: int | None, asked_ms: int, end_ms: int) -> None:
    """Every frame's time is either missing or there, never both; stretches are in order and do not touch."""
    missing = {t for each in found.missing for t in range(each.from_ms, each.to_ms, FRAME_MS)}
    chosen = range(3) if venue is None else (venue,)
    there = {each.t_ms for each in frames if any(each.venues[number].covered_ms for number in chosen)}
    assert missing | there == set(range(asked_ms, end_ms, FRAME_MS)) and not missing & there
    assert all(a.to_ms <= b.from_ms for a, b in zip(found.missing, found.missing[1:], strict=False))
    assert all(each.reason for each in found.missing)


@given(
    st.integers(4000, 4600),
    st.lists(st.one_of(st.just(np.nan), st.floats(0, 1e6)), min_size=1, max_size=60),
    st.floats(20.0, 900.0).map(lambda step: round(step, 3)),
)
def test_coarser_cells_keep_every_dollar_that_they_cover(first: int, usd: list[float], step: float) -> None:
    source = Grid.of(STEP)
    values = np.array(usd)
    axis = Axis.over(source, step, 0.0, 1e300, (first, first + len(usd) - 1))
    full = np.full(axis.high - axis.low + 1, np.nan)
    full[first - axis.low : first - axis.low + len(usd)] = values
    coarse = axis.rebinned(full)
    assert coarse.shape == (axis.count,) == axis.prices().shape
    assert np.nansum(coarse) == pytest.approx(np.nansum(values), rel=1e-9, abs=1e-6)
    for price, found in zip(axis.prices(), coarse, strict=True):
        lows = (np.arange(len(usd)) + first - 0.5) * STEP
        overlap = np.clip(np.minimum(lows + STEP, price + step / 2) - np.maximum(lows, price - step / 2), 0, None)
        sure = overlap > 1e-6
        if np.isnan(values[sure]).all() and not (overlap[~np.isnan(values)] > 0).any():
            assert np.isnan(found)
        elif not np.isnan(values[sure]).all():
            assert found == pytest.approx(np.nansum(values * overlap / STEP), rel=1e-6, abs=1e-3)


def test_frames_of_another_length_or_step_are_not_mixed_in(kept: Kept) -> None:
    end_ms = END_MS + next(EXAMPLES) * 40 * 60_000
    usd = np.full((3, 2, 5), 1e4)
    for number in range(3):
        kept.write(frame(end_ms - 240_000 + number * 10_000, usd, [1e4] * 3, interval_ms=10_000))
    kept.write(frame(end_ms - 90_000, usd, [3e4] * 3, first=9000, step=10.0))
    kept.write(frame(end_ms - 60_000, usd, [3e4] * 3))
    kept.write(frame(end_ms - 30_000, usd, [3e4] * 3))
    found = kept.client.books.history("BTC", 5)
    assert found.t_ms[-2:].tolist() == [end_ms - 60_000, end_ms - 30_000]
    shown = ~np.isnan(found.bid_usd)
    assert (found.bid_usd[shown] == 3e4).all() and shown.sum() == 2 * 5 and not shown[:-2].any()
    (hole,) = found.missing
    assert (hole.from_ms, hole.to_ms) == (end_ms - 300_000, end_ms - 60_000)
    assert hole.reason == "recorded with another frame length or price step"


def test_only_what_was_asked_for_is_there(kept: Kept) -> None:
    end_ms = END_MS + next(EXAMPLES) * 40 * 60_000
    usd = np.full((3, 2, 11), BOOK_UNIT_USD)
    kept.write(frame(end_ms - 30_000, usd, [3e4] * 3))
    found = kept.client.books.frame("BTC", Prices(low=89_980, high=90_020)).columns
    assert found.prices.tolist() == [89_980.0, 90_000.0, 90_020.0] and found.bid_usd.tolist() == [[30_000.0] * 3]
    with pytest.raises(ValueError, match="read-only"):
        found.bid_usd[0, 0] = 1.0
    with pytest.raises(OutOfRange) as raised:
        kept.client.books.frame("BTC", Prices(low=1, high=2))
    assert (raised.value.low, raised.value.high) == (89_900.0, 90_100.0)


def test_a_frame_without_a_middle_is_not_yet_one(kept: Kept) -> None:
    end_ms = END_MS + next(EXAMPLES) * 40 * 60_000
    kept.write(frame(end_ms - 30_000, np.full((3, 2, 5), np.nan), [0.0] * 3, mid=float("nan")))
    with pytest.raises(NotYet, match="no order book of BTC was whole"):
        kept.client.books.frame("BTC")

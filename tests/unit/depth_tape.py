"""Depth samples for tests, drawn by hypothesis, and a reference that integrates them the slow way."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from liqmap.domain.enums import BookState
from liqmap.engine.depth import BookFrame, BookMeans, DepthIntegrator, DepthSample, DepthSpec

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_010 * SECOND_NS
STEP = 0.5
SPEC = DepthSpec(frame_ns=30 * SECOND_NS, hold_ns=3 * SECOND_NS // 2, range_pct=10.0, step=STEP, capacity=64)
WIDE = DepthSpec(frame_ns=30 * SECOND_NS, hold_ns=3 * SECOND_NS // 2, range_pct=60.0, step=STEP, capacity=4096)
"""Nothing that a tape does leaves its cells or its band."""
VENUES = 3


def sample(
    at_s: float,
    usd: NDArray[Any],
    *,
    first_bucket: int = 185,
    mid: float = 100.0,
    states: Sequence[int] = (BookState.SYNCED,) * VENUES,
    complete: tuple[float, float] = (90.0, 110.0),
    resyncs: Sequence[int] = (0, 0, 0),
    heard_s: Sequence[float] | None = None,
    snapshots: Sequence[int] = (1, 1, 1),
) -> DepthSample:
    """One sample `at_s` after START_NS; every venue has the same best prices, one step apart, and just spoke (or did at
    `heard_s`)."""
    heard = [START_NS + round(each * SECOND_NS) for each in heard_s or (at_s,) * VENUES]
    return DepthSample(
        as_of_ns=START_NS + round(at_s * SECOND_NS),
        first_bucket=first_bucket,
        usd=np.asarray(usd, dtype=np.float32),
        states=np.array(states, dtype=np.uint64),
        heard_ns=np.array(heard, dtype=np.int64),
        best_bid=np.full(VENUES, mid - STEP / 2),
        best_ask=np.full(VENUES, mid + STEP / 2),
        complete_low=np.full(VENUES, complete[0]),
        complete_high=np.full(VENUES, complete[1]),
        resyncs=np.array(resyncs, dtype=np.uint64),
        snapshots=np.array(snapshots, dtype=np.uint64),
    )


def flat(usd: float = 1000.0, cells: int = 30) -> NDArray[np.float64]:
    """The same dollars in every cell."""
    return np.full((VENUES, 2, cells), usd)


def run(samples: Sequence[DepthSample], spec: DepthSpec = SPEC, *, until_s: float | None = None) -> list[BookFrame]:
    """The frames of some samples, the open one closed by a look far behind them."""
    made = DepthIntegrator(spec)
    frames = [frame for each in samples for frame in made.add(each)]
    last_ns = samples[-1].as_of_ns if samples else START_NS
    return frames + made.look(last_ns + 2 * spec.frame_ns if until_s is None else START_NS + round(until_s * SECOND_NS))


def same(one: Sequence[BookFrame], other: Sequence[BookFrame]) -> bool:
    """Whether frames are the same to the bit."""
    return len(one) == len(other) and all(repr_of(a) == repr_of(b) for a, b in zip(one, other, strict=True))


def repr_of(frame: BookFrame) -> tuple[Any, ...]:
    """A frame as bytes and numbers that compare, NaN included."""
    means = [
        (m.covered_ms, m.resyncs, repr(m.complete_low), repr(m.complete_high), _bytes(m))
        for m in (frame.summed, *frame.venues)
    ]
    mids = repr((frame.mid_open, frame.mid_mean, frame.mid_close))
    return (frame.t_ms, frame.first_bucket, frame.samples, mids, means, frame.usd.tobytes())


def _bytes(means: BookMeans) -> list[bytes]:
    return [each.tobytes() for each in (means.total_usd, means.total_min_usd, means.total_max_usd)]


@dataclass
class Tape:
    """Drawn samples; told by what they were drawn with."""

    seed: int
    count: int
    samples: list[DepthSample] = field(repr=False)


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    """Up to 40 samples over some minutes: stalls, moving windows, unknown cells, books that break and begin anew."""
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 40))
    rng = np.random.default_rng(seed)
    at_s, first, mid, resyncs = 0.0, 185, 100.0, np.zeros(VENUES, np.int64)
    made = []
    for _ in range(count):
        at_s += float(rng.choice([0.0, 0.25, 0.25, 0.25, 1.0, 1.5, 2.0, 9.0, 29.0, 31.0]))
        move = int(rng.choice([0, 0, 0, 0, 1, -1, 5, -5]))
        first, mid = first + move, mid + move * STEP
        cells = int(rng.integers(0, 31))
        usd = rng.choice([np.nan, 0.0, 1.0, 1e3, 1e6], size=(VENUES, 2, cells)) * rng.uniform(0.5, 2)
        states = rng.choice([0, BookState.ABSENT, BookState.BROKEN, *[BookState.SYNCED] * 6], size=VENUES)
        resyncs = resyncs + (rng.random(VENUES) < 0.1)
        low = 90.0 + float(rng.uniform(0, 5))
        made.append(
            sample(
                at_s,
                usd,
                first_bucket=first,
                mid=mid,
                states=[int(each) for each in states],
                complete=(low, 205.0 - low),
                resyncs=[int(each) for each in resyncs],
            )
        )
    return Tape(seed, count, made)


def reference(samples: Sequence[DepthSample], spec: DepthSpec = SPEC) -> dict[int, dict[str, Any]]:
    """Frame start in ns → the samples that count in it, and by (venue, side, bucket) the [(weight ns, dollars)] known.

    Written from the rules alone, one interval and one cell at a time.
    """
    frames: dict[int, dict[str, Any]] = {}
    for here, after in zip(samples, [*samples[1:], None], strict=True):
        begin = here.as_of_ns
        end = begin + spec.hold_ns if after is None else min(begin + spec.hold_ns, after.as_of_ns)
        own = _frame(frames, begin - begin % spec.frame_ns)
        own["samples"] += 1
        while begin < end:
            start = begin - begin % spec.frame_ns
            piece = min(end, start + spec.frame_ns)
            _book(_frame(frames, start), here, piece - begin)
            begin = piece
    return {start: frame for start, frame in sorted(frames.items()) if frame["samples"]}


def _frame(frames: dict[int, dict[str, Any]], start: int) -> dict[str, Any]:
    return frames.setdefault(start, {"samples": 0, "cells": {}, "covered": [0] * VENUES})


def _book(frame: dict[str, Any], here: DepthSample, weight_ns: int) -> None:
    for venue in range(VENUES):
        if here.states[venue] != BookState.SYNCED:
            continue
        frame["covered"][venue] += weight_ns
        for side in range(2):
            for cell, usd in enumerate(here.usd[venue, side].astype(float)):
                if usd == usd:
                    key = (venue, side, here.first_bucket + cell)
                    frame["cells"].setdefault(key, []).append((weight_ns, usd))


def mirrored(each: DepthSample, about: float = 100.0) -> DepthSample:
    """The sample with prices turned about `about` (a bucket's centre): bids become asks."""
    pivot = round(2 * about / STEP)
    cells = each.usd.shape[-1]
    return replace(
        each,
        first_bucket=pivot - (each.first_bucket + cells - 1),
        usd=each.usd[:, ::-1, ::-1].copy(),
        best_bid=2 * about - each.best_ask,
        best_ask=2 * about - each.best_bid,
        complete_low=2 * about - each.complete_high,
        complete_high=2 * about - each.complete_low,
    )

"""How near both models come to the truth of simulated worlds: one JSON line for each world, weights and degradation.

    python -m tests.prove.truth_worlds DIR… [--degraded] [--turnover 0.0012] [--realisation 0.75] >> scores.jsonl

DIR holds a world as `python -m liqmap.sim.worlds --positions 120000 --truth-every-min 120` writes it. Scored each two
hours after the first day (docs/model.md, "Truth"). `--degraded`: with 30 % of the readings of open interest missing,
with one venue out for six hours, and with no volumes.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.backtest.run import Run
from liqmap.backtest.truth import Positions, TruthWatch, positions_by_time
from liqmap.cli.configured import configured
from liqmap.domain.enums import GapReason, Kind, Model, Topic, Venue
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.engine.spec import EngineSpec
from liqmap.ingest.table_tape import TableTape
from liqmap.store.tables import read_truth, tables_of
from liqmap.worker.main import spec_of

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
SHARES: Final = {Venue.BINANCE: 0.52, Venue.BYBIT: 0.30, Venue.OKX: 0.18}
"""Of the open interest: the tables of a world have one series for all venues."""

Events = NDArray[np.void]
Degradation = Callable[[Events, int], Events]
"""(a minute's events, its number) to what is left of them."""


def whole(events: Events, _minute: int) -> Events:
    """Nothing is missing."""
    return events


def without(events: Events, kind: Kind) -> Events:
    """All but one kind."""
    return np.asarray(events[events["kind"] != kind])


def readings_missing(events: Events, minute: int) -> Events:
    """Three minutes of ten have no reading of open interest."""
    lost = np.random.default_rng(minute).random() < 0.3
    return without(events, Kind.OPEN_INTEREST) if lost else events


def no_volumes(events: Events, _minute: int) -> Events:
    """No trade was recorded."""
    return without(events, Kind.TRADE)


def venue_out(events: Events, minute: int) -> Events:
    """Open interest by venue; Bybit's feeds are out for six hours from the second noon on, and said to be."""
    levels = events[events["kind"] == Kind.OPEN_INTEREST]
    others = events[events["kind"] != Kind.OPEN_INTEREST]
    first, last = 36 * 60, 42 * 60
    out = first <= minute < last
    parts = [others[(others["venue"] != Venue.BYBIT) | (others["kind"] != Kind.LIQUIDATION)] if out else others]
    for venue, share in SHARES.items():
        if not (out and venue is Venue.BYBIT):
            mine = levels.copy()
            mine["venue"], mine["quantity"] = venue, levels["quantity"] * share
            parts.append(mine)
    if minute in (first, last):
        parts.extend(
            _gap(topic, int(events["receive_ns"][0]), minute == last) for topic in (Topic.LIQUIDATION, Topic.TRADE)
        )
    merged = np.concatenate(parts)
    return merged[np.argsort(merged["receive_ns"], kind="stable")]


def _gap(topic: Topic, at_ns: int, closes: bool) -> Events:
    from_ms = at_ns // 10**6 - (6 * HOUR_MS if closes else 0)
    event = Event(
        at_ns, from_ms, detail=at_ns // 10**6 if closes else -1, kind=Kind.GAP, venue=Venue.BYBIT, topic=topic
    )
    return np.frombuffer(event._replace(side=GapReason.DISCONNECTED).packed(0), dtype=EVENT_DTYPE)


DEGRADATIONS: Final[dict[str, Degradation]] = {
    "30 % of readings missing": readings_missing,
    "a venue out for 6 h": venue_out,
    "no volumes": no_volumes,
}


def run(
    directory: Path, spec: EngineSpec, positions: Sequence[Positions], degrade: Degradation
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(model, medians) of one world under one spec."""
    first_ms = positions[0].ts_ms
    tape = TableTape(tables_of(directory, spec.symbol), first_ms, 15_000)
    watch = TruthWatch(positions, tuple(Model), spec.grid, first_ms + DAY_MS)
    played = Run(spec, (watch.watch,))
    minute = 0
    while tape.minute_ms < tape.end_ms + 60_000:
        played.feed(degrade(tape.next_minute().events, minute))
        minute += 1
    played.settle()
    last = played.last
    for model in Model:
        coverage = last.facts.coverage[model - 1] if last is not None else (math.nan,)
        report = watch.report(model) or {}
        yield model.name.lower(), {**report, "coverage": round(float(np.mean(coverage)), 4)}
    calibration = played.engine.calibration
    yield (
        "calibration",
        {
            "applied": calibration.applied,
            "realisation": round(calibration.realisation, 3),
            "weights": [round(weight, 4) for weight in played.engine.weights[0].tolist()],
            "verdicts": sorted({judged.verdict.name for judged in calibration.judged}),
        },
    )


def main(given: Sequence[str] | None = None) -> int:
    """The command of the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--symbol", default="BTC")
    parser.add_argument("--degraded", action="store_true")
    parser.add_argument("--turnover", type=float, default=0.0012)
    parser.add_argument("--realisation", type=float, default=0.75)
    asked = parser.parse_args(given)
    shipped = spec_of(configured(None), asked.symbol)
    shipped = replace(shipped, turnover_per_minute=asked.turnover, realisation=asked.realisation)
    uniform = replace(shipped, weights=(1 / len(shipped.weights),) * len(shipped.weights))
    for directory in asked.directories:
        rows = (row for row in read_truth(directory / f"truth_{asked.symbol}.csv.gz"))
        positions = list(positions_by_time(rows))
        runs: list[tuple[str, EngineSpec, str, Degradation]] = [
            ("prior", shipped, "", whole),
            ("uniform", uniform, "", whole),
        ]
        if asked.degraded:
            runs = [("prior", shipped, name, degrade) for name, degrade in DEGRADATIONS.items()]
        for weights, spec, degraded, degrade in runs:
            found = dict(run(directory, spec, positions, degrade))
            line = {"world": directory.name, "weights": weights, "degraded": degraded, **found}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

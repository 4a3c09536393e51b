"""How the tier mix of the inventory nears the true one as liquidations are seen: JSON lines, and the picture of them.

    python -m tests.prove.mix_worlds DIR… [--turnover 0.0012] [--realisation 0.75] >> mixes.jsonl
    python -m tests.prove.mix_worlds --draw docs/calibration.svg mixes.jsonl

The true mix is that of the standing positions which some price liquidates: each counts, by quantity, for the tier whose
distance from entry is nearest to its own (in the logarithm). The model's is that of its book. Shown is the
Kullback-Leibler divergence of the model's mix from the true one, nats, over what was liquidated so far as a multiple of
the open interest.
"""

import argparse
import csv
import gzip
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.backtest.run import Run, end_of
from liqmap.cli.configured import configured
from liqmap.engine.frames import MinuteFrame
from liqmap.engine.spec import EngineSpec
from liqmap.ingest.table_tape import TableTape
from liqmap.store.tables import tables_of
from liqmap.worker.main import spec_of

Floats = NDArray[np.float64]
FLOOR: Final = 1e-4
"""Least share of a tier in a divergence."""


def true_mixes(path: Path, distances: Sequence[float]) -> dict[int, Floats]:
    """By time, the share of each tier in the standing positions, both sides."""
    edges = np.exp((np.log(distances[:-1]) + np.log(distances[1:])) / 2)[::-1]
    found = {}
    with gzip.open(path, "rt", encoding="ascii") as file:
        rows = (
            (int(r["ts_ms"]), r["liquidation_price"], r["entry_price"], r["qty_base"]) for r in csv.DictReader(file)
        )
        for ts_ms, group in groupby(rows, key=lambda row: row[0]):
            held = [(float(a), float(b), float(c)) for _, a, b, c in group if a and b]
            liquidation, entry, qty = np.array(held).T
            tier = len(distances) - 1 - np.searchsorted(edges, np.abs(liquidation / entry - 1))
            found[ts_ms] = np.bincount(tier, qty, len(distances)) / qty.sum()
    return found


def divergence(true: Floats, said: Floats) -> float:
    """Kullback-Leibler, nats."""
    p, q = (np.maximum(mix, FLOOR) / np.maximum(mix, FLOOR).sum() for mix in (true, said))
    return float((p * np.log(p / q)).sum())


def course(directory: Path, spec: EngineSpec, mixes: dict[int, Floats]) -> Iterator[dict[str, Any]]:
    """One line for each time of the truth table."""
    lines: list[dict[str, Any]] = []
    liquidated = 0.0

    def watch(frame: MinuteFrame) -> None:
        nonlocal liquidated
        liquidated += sum(one.qty_base for one in frame.liquidations)
        state, mix = run.engine._state, mixes.get(end_of(frame))
        if mix is None or state is None:
            return
        known = state.inventory.known_base.sum(axis=0)
        seen = liquidated / frame.facts.open_interest_base
        weights = run.engine.weights.mean(axis=0)
        lines.append(
            {
                "seen": round(seen, 4),
                "book": round(divergence(mix, known / known.sum()), 4),
                "moved": round(divergence(weights, np.array(spec.weights)), 4),
            }
        )

    run = Run(spec, (watch,))
    tape = TableTape(tables_of(directory, spec.symbol), min(mixes), 15_000)
    while tape.minute_ms < tape.end_ms + 60_000:
        run.feed(tape.next_minute().events)
        run.settle()  # the engine is looked at when a minute has closed, and nothing later may be in it
    yield from lines


def draw(paths: Sequence[Path], picture: Path) -> None:
    """The courses as a picture: one panel for each preset and family, a line for each world and start."""
    courses: defaultdict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for path in paths:
        for text in path.read_text(encoding="ascii").splitlines():
            line = json.loads(text)
            world = "-".join(line["world"].split("-")[:2])
            courses[world, line["weights"], line["world"]].append((line["seen"], line["book"]))
    worlds = sorted({world for world, _, _ in courses})
    width, height, pad = 360, 260, 44
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(worlds)} {height}" font-size="11">']
    for number, world in enumerate(worlds):
        mine = {key: points for key, points in courses.items() if key[0] == world}
        right = max(seen for points in mine.values() for seen, _ in points) or 1.0
        top = math.ceil(10 * max(value for points in mine.values() for _, value in points)) / 10
        left = number * width + pad
        span_x, span_y = width - pad - 12, height - 2 * pad

        def place(seen: float, value: float, left=left, right=right, top=top, x=span_x, y=span_y) -> str:  # type: ignore[no-untyped-def]
            return f"{left + x * seen / right:.1f},{pad + y * (1 - value / top):.1f}"

        parts.append(f'<text x="{left}" y="24" font-weight="bold">{world}</text>')
        parts.append(f'<path d="M{place(0, top)} L{place(0, 0)} L{place(right, 0)}" fill="none" stroke="#888"/>')
        parts.append(
            f'<text x="{left - 30}" y="{pad + 4}">{top:.1f}</text><text x="{left - 30}" y="{pad + span_y}">0</text>'
        )
        parts.append(f'<text x="{left + span_x - 40}" y="{height - 24}">{right:.2f}</text>')
        parts.append(f'<text x="{left}" y="{height - 10}">liquidated, multiple of open interest</text>')
        for (_, weights, _), points in sorted(mine.items()):
            path_ = " L".join(place(seen, value) for seen, value in points)
            colour = {"prior": "#1b6ca8", "uniform": "#c8553d"}[weights]
            parts.append(f'<path d="M{path_}" fill="none" stroke="{colour}" opacity="0.8"/>')
    parts.append("</svg>\n")
    picture.write_text("\n".join(parts), encoding="ascii")


def main(given: Sequence[str] | None = None) -> int:
    """The command of the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--draw", type=Path, metavar="SVG")
    parser.add_argument("--turnover", type=float, default=0.0012)
    parser.add_argument("--realisation", type=float, default=0.75)
    asked = parser.parse_args(given)
    if asked.draw is not None:
        draw(asked.paths, asked.draw)
        return 0
    shipped = spec_of(configured(None), "BTC")
    shipped = replace(shipped, turnover_per_minute=asked.turnover, realisation=asked.realisation)
    uniform = replace(shipped, weights=(1 / len(shipped.weights),) * len(shipped.weights))
    for directory in asked.paths:
        mixes = true_mixes(directory / "truth_BTC.csv.gz", shipped.distances)
        for weights, spec in (("prior", shipped), ("uniform", uniform)):
            for line in course(directory, spec, mixes):
                sys.stdout.write(json.dumps({"world": directory.name, "weights": weights, **line}) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The lines of `truth_worlds` as the tables of docs/model.md 12.

python -m tests.prove.truth_table scores.jsonl…
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

HEAD = (
    "| seed | weights | flow P | S | dollars | inventory P | S | dollars | EMD, % | of flow's | realisation |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)
NUMBERS = ("pearson", "spearman", "usd_ratio")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One family and preset: a row for each world and start, then the medians over the worlds of each start."""
    lines = [HEAD]
    for row in sorted(rows, key=lambda row: (row["weights"], row["world"])):
        lines.append(_line(row["world"].split("-")[2], _start(row), _cells(row)))
    for start in sorted({_start(row) for row in rows}):
        columns = zip(*(_cells(row) for row in rows if _start(row) == start), strict=True)
        lines.append(_line("**all**", start, [median(column) for column in columns]))
    return "\n".join(lines)


def _start(row: dict[str, Any]) -> str:
    return f"{row['weights']}, {row['degraded']}" if row["degraded"] else str(row["weights"])


def _cells(row: dict[str, Any]) -> list[float]:
    flow, inventory = row["flow"], row["inventory"]
    emd_pct = inventory["emd_pct"]
    return [
        *(flow[name] for name in NUMBERS),
        *(inventory[name] for name in NUMBERS),
        emd_pct,
        emd_pct / flow["emd_pct"],
        row["calibration"]["realisation"],
    ]


def _line(seed: str, start: str, cells: Iterable[float]) -> str:
    return f"| {seed} | {start} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |"


def main(paths: Sequence[str]) -> None:
    """Print a table for each preset and family."""
    groups: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in paths:
        for text in Path(path).read_text(encoding="ascii").splitlines():
            row = json.loads(text)
            groups["-".join(row["world"].split("-")[:2])].append(row)
    for name, rows in groups.items():
        sys.stdout.write(f"### {name}\n\n{table(rows)}\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])

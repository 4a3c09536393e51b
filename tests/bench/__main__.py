"""`make bench` (`python -m tests.bench [NAME …] [--quick] [--strict]`): the table of speeds with today's figures.

Every module beside this one that has `rows(effort)` takes part: it yields `Row`s, measured now, on this machine, as
ratios within one run wherever a floor can be measured too. `effort` is 1 for the figures that are promised and small
under `--quick`, which only shows that the benchmarks run.
"""

import argparse
import importlib
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Iterator

import numpy as np

from tests import bench
from tests.bench.table import Row

QUICK = 0.01
COLUMNS = ("path", "floor", "must reach", "today", "")


def modules() -> list[str]:
    """Names of the benchmark modules."""
    names = [module.name for module in pkgutil.iter_modules(bench.__path__)]
    return sorted(name for name in names if name not in ("__main__", "table"))


def rows_of(names: list[str], effort: float) -> Iterator[Row]:
    """The rows of these modules, as they are measured."""
    for name in names:
        module = importlib.import_module(f"tests.bench.{name}")
        if hasattr(module, "rows"):
            sys.stderr.write(f"measuring {name} …\n")
            yield from module.rows(effort)


def render(rows: list[Row]) -> str:
    """The table as text whose columns line up, also valid as Markdown."""
    cells = [COLUMNS, *((r.path, r.floor, r.must_reach, r.today, "yes" if r.reached else "NO") for r in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench", description="The table of speeds with today's figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(modules())}")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work: shows that they run")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a row does not reach what it must")
    wanted = parser.parse_args()
    unknown = sorted(set(wanted.names) - set(modules()))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(modules())}")
    started_s = time.monotonic()
    rows = list(rows_of(wanted.names or modules(), QUICK if wanted.quick else 1.0))
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"
    )
    load = os.getloadavg()[0]
    sys.stdout.write(f"{render(rows)}\n\n{machine}; load {load:.1f}; {time.monotonic() - started_s:.0f} s\n")
    return int(wanted.strict and not all(row.reached for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())

"""Simulated worlds: the market of a symbol from the configuration, and worlds written down as tables.

    python -m liqmap.sim.worlds --symbol BTC --days 0.5 --seed 1 --preset lively --out DIR

writes the contract's tabular formats (see liqmap.sim.market.tables); `--family crowds` is the other family of worlds.
"""

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path

import msgspec

from liqmap.config.simulation import SimConfig, sim_config
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.market.tables import (
    BAR_COLUMNS,
    HOURLY_COLUMNS,
    LIQUIDATION_COLUMNS,
    MINUTE_MS,
    BarsAndLiquidations,
    Recorded,
    Table,
    report,
)
from liqmap.sim.market.truth import TRUTH_COLUMNS, append_truth

FIRST_MS = 1_767_225_600_000
"""2026-01-01 00:00 UTC: worlds start there unless told otherwise, so that a seed names a whole table."""
_REPORTS = 10
_EXIT_USAGE = 2


class UnknownSymbol(ValueError):
    """The configuration simulates no such symbol: a price and an open interest are never guessed."""


def open_market(config: SimConfig, symbol: str, start_ms: int) -> SimulatedMarket:
    """The market of `symbol` with its standing population, at `start_ms` (ms UTC). Raises UnknownSymbol."""
    if symbol not in config.symbols:
        known = ", ".join(sorted(config.symbols))
        raise UnknownSymbol(f"sim.symbols has no {symbol}; it simulates {known}")
    return SimulatedMarket(config, symbol, start_ms)


def write_world(
    config: SimConfig, symbol: str, minutes: int, out_dir: Path, *, start_ms: int = FIRST_MS, truth_every_min: int = 60
) -> Recorded:
    """Simulate `minutes` of `symbol` from `start_ms` (a whole minute) into the tables of `out_dir`.

    `truth_every_min`: positions are dumped at the start and then that often, at multiples of it.
    Raises ValueError where `start_ms` or the tick do not divide minutes, UnknownSymbol, OSError.
    """
    if start_ms % MINUTE_MS or MINUTE_MS % config.tick_ms:
        raise ValueError("worlds start at a whole minute and sim.tick_ms divides a minute")
    market = open_market(config, symbol, start_ms)
    out_dir.mkdir(parents=True, exist_ok=True)
    with (
        Table(out_dir / f"bars_1m_{symbol}.csv.gz", BAR_COLUMNS) as bars,
        Table(out_dir / f"liquidations_{symbol}.csv.gz", LIQUIDATION_COLUMNS) as liquidations,
        Table(out_dir / f"hourly_{symbol}.csv.gz", HOURLY_COLUMNS) as hourly,
        Table(out_dir / f"truth_{symbol}.csv.gz", TRUTH_COLUMNS) as truths,
    ):
        written = BarsAndLiquidations(bars, liquidations, hourly)
        append_truth(market, start_ms, truths)
        for number in range(minutes):
            minute_ms = start_ms + number * MINUTE_MS
            written.minute(market, minute_ms, config.tick_ms)
            if (minute_ms + MINUTE_MS) % (truth_every_min * MINUTE_MS) == 0:
                append_truth(market, minute_ms + MINUTE_MS, truths)
            if (number + 1) % max(minutes // _REPORTS, 1) == 0:
                report(written.recorded, minutes)
    about = {
        "symbol": symbol,
        "from_ms": start_ms,
        "to_ms": start_ms + minutes * MINUTE_MS,
        "recorded": dataclasses.asdict(written.recorded),
        "sim": msgspec.to_builtins(config),
    }
    (out_dir / f"world_{symbol}.json").write_text(json.dumps(about, indent=1) + "\n", encoding="ascii")
    return written.recorded


def main(arguments: list[str] | None = None) -> int:
    """The command of the module's first lines; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m liqmap.sim.worlds", description=__doc__)
    parser.add_argument("--symbol", default="BTC")
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--preset", default="lively", choices=("demo", "lively", "quiet"))
    parser.add_argument("--family", default="habits", choices=("habits", "crowds"))
    parser.add_argument("--tick-ms", type=int, default=5000, help="inner step; must divide a minute")
    parser.add_argument("--trades-per-s", type=float, default=0.2, help="prints only; volumes stay the same")
    parser.add_argument("--start-ms", type=int, default=FIRST_MS)
    parser.add_argument(
        "--positions", type=int, help="about how many stand at the start (default: the configuration's)"
    )
    parser.add_argument("--truth-every-min", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    knobs = {name: getattr(asked, name) for name in ("seed", "preset", "family", "tick_ms", "trades_per_s")}
    if asked.positions is not None:
        knobs["symbols"] = {asked.symbol: {"positions": asked.positions}}
    try:
        config = sim_config(**knobs)
        minutes = round(asked.days * 1440)
        write_world(
            config, asked.symbol, minutes, asked.out, start_ms=asked.start_ms, truth_every_min=asked.truth_every_min
        )
    except (ValueError, OSError, msgspec.ValidationError) as error:
        parser.exit(_EXIT_USAGE, f"{parser.prog}: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`liqmap backtest`: recorded tables of one symbol through both models, scored where the true positions are known.

Examples:
  liqmap backtest --symbol BTC --bars bars_1m_BTC.csv.gz --liquidations liquidations_BTC.csv.gz --out report.json
  liqmap backtest --symbol BTC --bars B --liquidations L --truth truth_BTC.csv.gz --density said.csv.gz --out r.json

The tables are those of docs/operations.md ("Recordings"). The models are told each fact when it was known, not earlier.
--truth scores what they say at the times of that table, from --truth-after-h hours after the start on (docs/model.md,
"Truth"); --density writes what they say at multiples of an interval. The report is JSON; what cannot be computed is
null and `reasons` says why.
Exit: 0 done, 1 the input or the output fails, 2 usage, 78 the configuration is wrong.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from liqmap.backtest.density import DensityTable
from liqmap.backtest.run import Run, Watcher, models_in
from liqmap.backtest.truth import TruthWatch, positions_by_time
from liqmap.cli.configured import configured
from liqmap.cli.progress import ProgressLine
from liqmap.cli.remarks import remarks_of
from liqmap.config import EXIT_CONFIG, ConfigError
from liqmap.domain.enums import Model
from liqmap.engine.spec import EngineSpec
from liqmap.ingest.table_tape import TableTape
from liqmap.store.tables import TableError, TableSet, read_bars, read_truth
from liqmap.worker.main import spec_of

_FAILED: Final = 1
_HOUR_MS: Final = 3_600_000
_TICK_MS: Final = 15_000
"""Minutes close at the first TICK two seconds after their end; finer ones change nothing but the time it takes."""
_NOT_GRADED: Final = "forecasts are not graded by this version; only the truth is"
_NO_TRUTH: Final = "no truth table was given, or none of its times was scored"
_HORIZONS: Final = ("1h", "4h", "24h")


def main(given: Sequence[str]) -> int:
    """The command."""
    arguments = _arguments(given)
    with remarks_of("liqmap backtest", ("liqmap.store", "liqmap.worker")):
        return _backtest(arguments)


def _backtest(arguments: argparse.Namespace) -> int:
    symbol = arguments.symbol.upper()
    try:
        models = tuple(models_in(arguments.models.split(",")))
    except KeyError as error:
        return _fail(f"--models: {error.args[0].lower()!r} is no model; there are: flow, inventory", 2)
    try:
        effective = configured(arguments.config)
        if symbol not in effective.config.symbols:
            raise ConfigError(f"symbols.{symbol}: is not configured")
        spec = spec_of(effective, symbol)
        tape = TableTape(_tables(arguments, symbol), _start_of(arguments), _TICK_MS)
        report = _run(arguments, spec, tape, models)
        arguments.out.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    except ConfigError as error:
        return _fail(str(error), EXIT_CONFIG)
    except TableError as error:
        return _fail(str(error), _FAILED)
    except OSError as error:
        return _fail(f"{error.filename or arguments.out}: {error.strerror or error}", _FAILED)
    sys.stdout.write(_said(report))
    return 0


def _run(arguments: argparse.Namespace, spec: EngineSpec, tape: TableTape, models: tuple[Model, ...]) -> dict[str, Any]:
    """Play the tape; the report. Raises TableError, OSError."""
    watchers: list[Watcher] = []
    truth = density = None
    if arguments.truth is not None:
        rows = positions_by_time(read_truth(arguments.truth))
        truth = TruthWatch(rows, models, spec.grid, tape.minute_ms + round(arguments.truth_after_h * _HOUR_MS))
        watchers.append(truth.watch)
    if arguments.density is not None:
        density = DensityTable(arguments.density, models, spec.grid, arguments.density_every_min)
        watchers.append(density.watch)
    run = Run(spec, watchers)
    end_ms = min(tape.end_ms, arguments.to) if arguments.to is not None else tape.end_ms
    progress = ProgressLine()
    while tape.minute_ms < end_ms + 60_000:  # the last minute closes within the next one
        run.feed(tape.next_minute().events)
        if progress.is_due:
            progress.say(f"{run.minutes:,} minutes  {run.liquidations:,} liquidations")
    run.settle()
    progress.end()
    if density is not None:
        density.close()
    if tape.faults:
        raise tape.faults[0]
    return _report(spec, run, models, truth)


def _report(spec: EngineSpec, run: Run, models: tuple[Model, ...], truth: TruthWatch | None) -> dict[str, Any]:
    last = run.last
    reasons = {"ig_bits": _NOT_GRADED, "ig_bits_alone": _NOT_GRADED, "amount_bits": _NOT_GRADED, "deciles": _NOT_GRADED}
    if truth is None or not truth.times:
        reasons["truth"] = _NO_TRUTH
    found: dict[str, Any] = {}
    for model in models:
        coverage = last.facts.coverage[model - 1] if last is not None else ()
        found[model.name.lower()] = {
            "ig_bits": dict.fromkeys(_HORIZONS),
            "ig_bits_alone": dict.fromkeys(_HORIZONS),
            "amount_bits": dict.fromkeys(_HORIZONS[:2]),
            "realisation": _known(run.engine.calibration.realisation) if model is Model.INVENTORY else None,
            "deciles": None,
            "coverage": [_known(share) for share in coverage],
            "truth": truth.report(model) if truth is not None else None,
        }
    shares = [share for model in models[-1:] for share in found[model.name.lower()]["coverage"] if share is not None]
    return {
        "symbol": spec.symbol,
        "from_ms": run.first_ms,
        "to_ms": run.last_ms,
        "minutes": run.minutes,
        "events": run.events,
        "liquidations": run.liquidations,
        "coverage": round(sum(shares) / len(shares), 4) if shares else None,
        "weights": [[round(weight, 6) for weight in side] for side in run.engine.weights.tolist()],
        "models": found,
        "reasons": reasons,
        "config_digest": hashlib.sha256(orjson.dumps(asdict(spec), option=orjson.OPT_SORT_KEYS)).hexdigest(),
    }


def _known(value: float) -> float | None:
    return round(value, 4) if value == value else None


def _said(report: dict[str, Any]) -> str:
    """The report as lines for a person."""
    lines = [f"{report['symbol']}  {report['minutes']:,} minutes  {report['liquidations']:,} liquidations"]
    for name, of_model in report["models"].items():
        truth = of_model["truth"]
        words = (
            "no truth"
            if truth is None
            else f"pearson {truth['pearson']}  spearman {truth['spearman']}  dollars × {truth['usd_ratio']}"
            f"  emd {truth['emd_pct']} %  ({truth['times']} times)"
        )
        lines.append(f"  {name:10} {words}")
    return "\n".join(lines) + "\n"


def _tables(arguments: argparse.Namespace, symbol: str) -> TableSet:
    return TableSet(symbol, arguments.bars, arguments.liquidations, arguments.open_interest)


def _start_of(arguments: argparse.Namespace) -> int:
    """The first minute to play: the one asked for, else the first bar. Raises TableError, OSError."""
    if arguments.from_ is not None:
        return int(arguments.from_)
    first = next(read_bars(arguments.bars), None)
    if first is None:
        raise TableError(arguments.bars, 1, "holds no bars")
    return first.minute_ms


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="liqmap backtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbol", required=True)
    parser.add_argument("--bars", type=Path, required=True, metavar="F", help="minute bars")
    parser.add_argument("--liquidations", type=Path, required=True, metavar="F")
    parser.add_argument("--open-interest", type=Path, metavar="F", help="hourly levels, where the bars have none")
    parser.add_argument("--truth", type=Path, metavar="F", help="true positions")
    parser.add_argument("--truth-after-h", type=float, default=24.0, metavar="H", help="not scored before (24)")
    parser.add_argument("--models", default="flow,inventory")
    parser.add_argument("--from", dest="from_", type=int, metavar="MS", help="first minute, ms UTC")
    parser.add_argument("--to", type=int, metavar="MS", help="end, ms UTC")
    parser.add_argument("--density", type=Path, metavar="F.csv.gz", help="where to write what the models say")
    parser.add_argument("--density-every-min", type=int, default=15, metavar="N")
    parser.add_argument("--out", type=Path, required=True, metavar="report.json")
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="symbols and model (default: etc/liqmap.toml)"
    )
    arguments = parser.parse_args(given)
    if arguments.density_every_min < 1:
        parser.error("--density-every-min must be at least 1")
    return arguments


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"liqmap backtest: {' '.join(text.split())}\n")
    return code

"""`python -m liqmap.worker BTC --effective PATH`: the process of one symbol."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liqmap.child import Child, open_child
from liqmap.config import ConfigError, Effective
from liqmap.engine.spec import EngineSpec, ZoneRules
from liqmap.logs import fields
from liqmap.shm.plan import Role, symbol_segments
from liqmap.shm.ring import RingReader
from liqmap.worker.books import OrderBooks
from liqmap.worker.checkpointing import Checkpointing
from liqmap.worker.loop import Loop, Start
from liqmap.worker.margins import tier_mmr
from liqmap.worker.publication import Publication
from liqmap.worker.recovery import Recovery

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until asked to stop; the exit code. Raises SystemExit with 78 or 75 as `open_child` does."""
    parser = argparse.ArgumentParser(prog="liqmap.worker", description="The process of one symbol.")
    parser.add_argument("symbol")
    parser.add_argument(
        "--effective", type=Path, required=True, help="effective configuration, as the supervisor wrote it"
    )
    options = parser.parse_args(arguments)
    with open_child(options.symbol, options.effective) as child:
        run(child, options.symbol)
    return 0


def run(child: Child, symbol: str) -> None:
    """The whole life of a worker inside its child surroundings. Raises ConfigError."""
    if symbol not in child.config.symbols:
        raise ConfigError(f"symbols.{symbol}: is not configured")
    spec = spec_of(child.effective, symbol)
    publication, books = Publication(child.config, symbol), OrderBooks(child.config, symbol)
    plan = next(plan for plan in symbol_segments(child.config, symbol) if plan.role is Role.RING)
    recovery = Recovery(child, spec, publication, plan.name)
    recovery.run()
    if child.should_stop():
        return
    ring = RingReader.open(plan.name)
    _take_over(child, ring, symbol, recovery)
    continues = recovery.continues()
    if recovery.engine.born_ns < 0:
        log.info("begins with an empty map", extra=fields(symbol=symbol, pending=ring.pending))
    start = Start(recovery.engine, hole=not continues, replayed_to=recovery.replayed_to)
    Loop(child, start, ring, publication, books, Checkpointing(recovery.store)).run()


def spec_of(effective: Effective, symbol: str) -> EngineSpec:
    """What the configuration says about one symbol's engine. Raises ConfigError."""
    table, model, zones = effective.config.symbols[symbol], effective.config.model, effective.config.zones
    return EngineSpec(
        symbol=symbol,
        step=table.step,
        range_pct=table.range_pct,
        buckets=table.buckets,
        leverages=table.leverages,
        weights=table.weights,
        mmr=tier_mmr(effective, symbol),
        decay_per_minute=model.decay_per_minute,
        oi_max_age_s=model.oi_max_age_s,
        oi_jump_limit=model.oi_jump_limit,
        shrink_limit=model.flow_shrink_limit,
        sweep_share=model.flow_sweep_share,
        turnover_per_minute=model.turnover_per_minute,
        realisation=effective.config.calibration.realisation,
        anchor_drift=model.anchor_drift,
        trigger_clamp_s=model.trigger_clamp_s,
        zones=ZoneRules(
            unit_share=zones.unit_share,
            range_pct=zones.range_pct,
            width_pct=zones.width_pct,
            pools=zones.pools,
            swept_minutes=zones.swept_minutes,
        ),
    )


def _take_over(child: Child, ring: RingReader, symbol: str, recovery: Recovery) -> None:
    """Say how the predecessor ended; put a batch that killed two workers on disk, where people can look at it."""
    found = ring.take_over
    if len(found.set_aside):
        numbers = found.set_aside["sequence"]
        recovery.set_aside.note(int(numbers[0]), int(numbers[-1]))
        path: Path | str
        try:
            path = keep_batch(found.set_aside, child.paths.lib_dir / "quarantine", symbol)
        except OSError as error:
            path = f"not kept: {error.strerror}"
        log.error(
            "two workers died in the same batch: it is set aside",
            extra=fields(events=len(found.set_aside), first=int(found.set_aside["sequence"][0]), file=path),
        )
    elif found.deaths:
        log.warning("a predecessor died in the batch at the cursor", extra=fields(deaths=found.deaths))


def keep_batch(events: NDArray[np.void], directory: Path, symbol: str) -> Path:
    """Write a batch as a numpy file (EVENT_DTYPE) named by symbol and first sequence; returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{symbol}-{int(events['sequence'][0])}.npy"
    np.save(path, events)
    return path

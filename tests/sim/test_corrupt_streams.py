"""A corrupted stream of liquidations teaches nothing: a verdict says why, and no bit of the weights or the book moves.

Eight hours of a lively simulated market, whole and corrupted: sides inverted, a venue off without a word, each print
ten times. The corrupted engine is compared with one that hears no liquidation at all.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.backtest.run import Run
from liqmap.cli.configured import configured
from liqmap.config.simulation import sim_config
from liqmap.domain.enums import Kind, PositionSide, Venue, Verdict
from liqmap.engine.engine import Engine
from liqmap.engine.spec import EngineSpec
from liqmap.ingest.table_tape import TableTape
from liqmap.sim.worlds import FIRST_MS, write_world
from liqmap.store.tables import tables_of
from liqmap.worker.main import spec_of

Events = NDArray[np.void]
MINUTES = 480
OFF_FROM = 300
"""The venue falls silent after two windows have said what is usual."""


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> list[Events]:
    """The events of each minute."""
    directory = tmp_path_factory.mktemp("world")
    config = sim_config(preset="lively", seed=4, tick_ms=15_000, symbols={"BTC": {"positions": 20_000}})
    write_world(config, "BTC", MINUTES, directory, truth_every_min=MINUTES)
    return minutes_of(directory)


def minutes_of(directory: Path) -> list[Events]:
    """A world's tables as events, a batch for each minute; one more minute closes the last one."""
    table = TableTape(tables_of(directory, "BTC"), FIRST_MS, 15_000)
    return [table.next_minute().events for _ in range(MINUTES + 1)]


def spec() -> EngineSpec:
    """The shipped engine, told what a lively market is."""
    return replace(spec_of(configured(None), "BTC"), turnover_per_minute=0.0012, realisation=0.75)


def played(tape: list[Events], corrupt: Callable[[Events, int], Events]) -> Engine:
    """An engine that has seen all of it."""
    run = Run(spec(), ())
    for minute, events in enumerate(tape):
        run.feed(corrupt(events, minute))
    run.settle()
    return run.engine


def is_liquidation(events: Events) -> NDArray[np.bool_]:
    """Which of them are liquidations."""
    return np.asarray(events["kind"] == Kind.LIQUIDATION)


def whole(events: Events, _minute: int) -> Events:
    """As it was."""
    return events


def inverted(events: Events, _minute: int) -> Events:
    """Longs are told as shorts."""
    turned = events.copy()
    mine = is_liquidation(events)
    turned["side"][mine] = PositionSide.LONG + PositionSide.SHORT - turned["side"][mine]
    return turned


def tenfold(events: Events, _minute: int) -> Events:
    """Each liquidation comes ten times."""
    return np.repeat(events, np.where(is_liquidation(events), 10, 1))


def binance_off(events: Events, minute: int) -> Events:
    """From some minute on Binance prints nothing, and nobody says that its feed is gone."""
    gone = is_liquidation(events) & (events["venue"] == Venue.BINANCE) & (minute >= OFF_FROM)
    return np.asarray(events[~gone])


def silent(events: Events, _minute: int) -> Events:
    """No liquidation is heard."""
    return np.asarray(events[~is_liquidation(events)])


def test_the_stream_as_it_was_teaches(tape: list[Events]) -> None:
    engine = played(tape, whole)
    verdicts = [judged.verdict for judged in engine.calibration.judged]
    assert Verdict.CLEAR in verdicts and engine.calibration.applied >= 2
    assert not np.array_equal(engine.weights[0], np.array(spec().weights))


@pytest.mark.parametrize(
    ("corrupt", "named"),
    [(inverted, {Verdict.UNATTRIBUTED, Verdict.AGAINST_PRICE}), (tenfold, {Verdict.REPEATS})],
)
def test_a_corrupted_stream_trips_a_verdict_and_moves_nothing(
    tape: list[Events], corrupt: Callable[[Events, int], Events], named: set[Verdict]
) -> None:
    engine, deaf = played(tape, corrupt), played(tape, silent)
    verdicts = {judged.verdict for judged in engine.calibration.judged}
    assert verdicts & named and Verdict.CLEAR not in verdicts
    assert engine.weights.tobytes() == deaf.weights.tobytes() == np.tile(spec().weights, (2, 1)).tobytes()
    assert engine._state is not None and deaf._state is not None
    assert engine._state.inventory.base.tobytes() == deaf._state.inventory.base.tobytes()


def test_a_venue_that_falls_silent_is_noticed_in_its_first_window(tape: list[Events]) -> None:
    engine = played(tape, binance_off)
    off_ms = FIRST_MS + OFF_FROM * 60_000
    after = [judged for judged in engine.calibration.judged if judged.end_ms - judged.minutes * 60_000 >= off_ms]
    assert after and after[0].verdict is Verdict.VENUE_MISSING and after[0].furthest == 1.0

"""The calibration board: what the engine shows fits the layout by name, and a reader gets back what was written."""

import secrets

import numpy as np
import pytest

from liqmap.client import Client
from liqmap.client.faults import NotYet
from liqmap.config import parse
from liqmap.domain.enums import Verdict
from liqmap.engine.judgement import Judged
from liqmap.engine.learned import CalibrationFrame, GuardRails
from liqmap.shm.layout import GUARD_RAILS, JUDGED_ROW, calibration_dtype
from liqmap.shm.plan import create_all
from liqmap.worker.publication import Publication
from tests.unit.calibration_tape import SPEC, learned

TIERS = {"leverages": list(SPEC.leverages), "weights": list(SPEC.weights)}


def test_every_field_of_the_layout_is_one_the_engine_shows_and_the_other_way_round() -> None:
    board = set(calibration_dtype(3).names or ())
    assert board - {"judged_count"} == set(CalibrationFrame.__dataclass_fields__)
    assert set(GUARD_RAILS.names or ()) == set(GuardRails.__dataclass_fields__)
    assert set(JUDGED_ROW.names or ()) == set(Judged.__dataclass_fields__)


def test_a_reader_gets_back_what_the_engine_has() -> None:
    engine, frames = learned(130)
    config = parse(
        {
            "daemon": {"instance": f"t{secrets.token_hex(6)}"},
            "symbols": {"BTC": TIERS},
            "ingest": {"ring_events": 1024},
            "history": {"minute_columns": 8, "recent_liquidations": 256},
        }
    )
    holding = create_all(config)
    try:
        publication = Publication(config, "BTC")
        with Client(config.daemon.instance) as client:
            with pytest.raises(NotYet):
                client.calibration("BTC")
            publication.calibration(engine.learned(frames[-1]))
            found = client.calibration("BTC")
    finally:
        holding.retire_all()
    calibration = engine.calibration
    assert found.weights.tobytes() == engine.weights.tobytes()
    assert found.observed_base.tobytes() == calibration.observed_base.tobytes()
    assert found.expected_base.tobytes() == calibration.expected_base.tobytes()
    assert found.prior.tolist() == [list(SPEC.weights)] * 2 and found.leverages.tolist() == list(SPEC.leverages)
    assert found.realisation.configured == SPEC.realisation and found.realisation.long_run == calibration.realisation
    assert found.realisation.divided_by == "anchored"
    (shown,) = found.verdicts
    kept = calibration.judged[-1]
    assert (shown.verdict, kept.verdict) == ("clear", Verdict.CLEAR)
    assert (shown.level, shown.entropy, shown.largest, shown.furthest) == (
        *(kept.level, kept.entropy, kept.largest, kept.furthest),
    )
    assert (shown.end_ms, shown.minutes) == (kept.end_ms, 120)
    assert (found.windows, found.applied, found.window_minutes) == (1, 1, 10)
    assert found.learned_minutes == calibration.minutes
    assert found.version.as_of_ns == frames[-1].facts.as_of_ns and found.guard_rails["factor_low"] == 0.6


def test_what_is_shown_is_a_copy() -> None:
    engine, frames = learned(130)
    shown = engine.learned(frames[-1])
    before = shown.weights.copy()
    engine.weights[:] = 0.0
    engine.calibration.observed_base[:] = -1.0
    assert np.array_equal(shown.weights, before) and (shown.observed_base >= 0).all()

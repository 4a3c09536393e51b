"""The worked example of docs/model.md, computed anew: what the page tells a quant is what the engine does."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from liqmap.engine.bars import MinuteBar, OpenInterestStep
from liqmap.engine.entries import EntryProfile
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.model import Minute
from liqmap.engine.smear import Placement
from tests.unit.engine_tape import BTC

PAGE = Path(__file__).parents[2] / "docs" / "model.md"
SPEC = replace(BTC, leverages=(10, 50), weights=(0.6, 0.4), mmr=(0.005, 0.004), turnover_per_minute=0.001)
MINUTES = ((60_000.0, np.nan, 1000.0), (60_000.0, 50.0, 1050.0), (57_600.0, -20.4, 1029.6))
"""(price, known change, level), as the table says it in words."""


def told() -> list[list[float]]:
    """The numbers of the table, a row for each minute and side."""
    section = PAGE.read_text(encoding="utf-8").split("### Worked example")[1].split("\n## ")[0]
    rows = re.findall(r"^\| \d \|.*\| (?:long|short) \|(.*)\|$", section, re.MULTILINE)
    return [[float(cell) for cell in row.split("|")] for row in rows]


def test_the_worked_example_is_what_the_model_does() -> None:
    window = SPEC.window(60_000.0)
    model, found, before = InventoryModel(SPEC, window), [], 60_000.0
    for price, change, level in MINUTES:
        spans = ((1.0, 0.0, change),) if change == change else ()
        step = OpenInterestStep(change, level - change, spans, level, True)
        low, high = min(price, before), max(price, before)
        bar = MinuteBar(0, before, high, low, price, np.nan, np.nan, step)
        placed = Placement.of(EntryProfile(np.array([price]), np.ones(1)), window, SPEC.distances)
        model.advance(Minute(bar, 1, placed, placed, np.tile(SPEC.weights, (2, 1))))
        for side in range(2):
            at_risk = model.at_risk_base[side].sum()
            found.append([*model.known_base[side], model.unknown_base[side], at_risk, model.coverage(0.0)[side]])
        before = price
    assert found == [pytest.approx(row, abs=6e-5) for row in told()]
    assert len(found) == 6

"""What a minute's trades, readings and bars say of entries, of what waits to be told, and of triggers."""

from types import SimpleNamespace

import numpy as np
import pytest

from liqmap.domain.enums import PositionSide, Venue
from liqmap.engine.bars import MinuteBar, MinuteTape, OpenInterestStep
from liqmap.engine.calibration import Calibration
from liqmap.engine.entries import EntryProfile, volume_profile
from liqmap.engine.frames import Liquidation
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.model import Minute
from liqmap.engine.smear import Placement
from tests.events import events_array
from tests.unit.engine_tape import BTC, START_S, trade

PRICE, NAN = 60_000.0, float("nan")


def bar(low: float, high: float, close: float, step: OpenInterestStep | None = None) -> MinuteBar:
    """A minute of these prices."""
    step = step or OpenInterestStep(NAN, NAN, (), NAN, False)
    return MinuteBar(START_S * 1000, close, high, low, close, NAN, NAN, step)


def test_entries_follow_the_volume_at_price_and_without_trades_a_triangle() -> None:
    tape = MinuteTape(START_S)
    trades = events_array([trade(3, 59_000.0, 3.0), trade(40, 61_000.0, 1.0)])
    seconds = np.array([START_S + 3, START_S + 40])
    tape.trade(trades, seconds)
    tape.print(2 * 60 + seconds - START_S, trades["price"])
    found = volume_profile(BTC.grid, bar(59_000.0, 61_000.0, PRICE), tape)
    assert found.prices.tolist() == [59_000.0, 61_000.0]
    assert found.shares.tolist() == [0.75, 0.25]
    guessed = volume_profile(BTC.grid, bar(59_000.0, 61_000.0, PRICE), MinuteTape(START_S))
    assert guessed.shares.sum() == pytest.approx(1.0)
    assert guessed.prices[guessed.shares.argmax()] == pytest.approx(PRICE, abs=BTC.step)


def test_what_was_liquidated_after_a_reading_waits_for_the_next_one() -> None:
    """A level told with the first instant of a minute says nothing of the sweep in it; the next one says it fell."""
    window = BTC.window(PRICE)
    model = InventoryModel(BTC, window)
    placed = Placement.of(EntryProfile(np.array([PRICE]), np.ones(1)), window, BTC.distances)
    weights = np.tile(BTC.weights, (2, 1))

    def minute(change: float, level: float, low: float) -> None:
        step = OpenInterestStep(change, level - change, ((2.0, 1.0, change),), level, True)
        model.advance(Minute(bar(low, PRICE, low, step), 1, placed, placed, weights))

    minute(0.0, 1000.0, PRICE)
    minute(300.0, 1300.0, PRICE)
    minute(0.0, 1300.0, 0.5 * PRICE)
    swept = float(model.at_risk_base[0].sum())
    assert swept > 290.0
    assert model._deferred.tolist() == [pytest.approx(swept), 0.0]
    before = model.known_base[0].sum()
    minute(-swept, 1300.0 - swept, 0.5 * PRICE)
    assert model._deferred.tolist() == [0.0, 0.0]
    assert model.known_base[0].sum() - before < 1.0, "nothing but the turnover was opened in its place"


def test_in_a_minute_made_from_a_bar_the_range_of_the_bar_is_that_of_the_mark() -> None:
    window, asked = BTC.window(PRICE), []

    def around(_side: int, cells: np.ndarray, _reach: int) -> np.ndarray:
        asked.append((window.first + cells) * BTC.step)
        return np.ones((len(BTC.leverages), len(cells)))

    shape = (2, len(BTC.leverages))
    held = SimpleNamespace(around=around, at_risk_base=np.zeros(shape))
    late = Liquidation(1, START_S * 1000, 0, Venue.BYBIT, PositionSide.LONG, 58_800.0, NAN, PRICE, 1.0, PRICE)
    for from_bar in (False, True):
        tape = MinuteTape(START_S, from_bar=from_bar, liquidations=[late])
        Calibration(BTC).observe(held, window, bar(59_200.0, PRICE, 59_200.0), tape)  # type: ignore[arg-type]
    told_so_far, by_the_bar = (float(prices[0]) for prices in asked)
    assert told_so_far == PRICE
    assert by_the_bar == 59_200.0

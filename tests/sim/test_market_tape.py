"""What the simulated market prints: reproducible, independent of how time is cut, and true to what happened."""

import hashlib
import random

import numpy as np
import pytest

from liqmap.domain.enums import PositionSide, TakerSide
from liqmap.sim.market.simulated import FUNDING_MS, SimulatedMarket
from liqmap.sim.tape import Tape
from tests.sim.market_worlds import START_MS, market, small, ticks


def _digest(tapes: list[Tape]) -> str:
    """Of all prints of a stretch, and of prices and open interest at its end."""
    told = hashlib.sha256()
    for venue in tapes[0].venues:
        told.update(np.concatenate([tape.venues[venue].trades for tape in tapes]).tobytes())
        told.update(np.concatenate([tape.venues[venue].liquidations for tape in tapes]).tobytes())
        told.update(repr(tapes[-1].venues[venue].open_interest_base).encode())
    end = tapes[-1]
    told.update(repr((end.mark_price, end.index_price, end.last_price, end.funding_rate)).encode())
    return told.hexdigest()


@pytest.mark.parametrize("family", ["habits", "crowds"])
def test_the_tape_does_not_depend_on_how_time_is_cut(family: str) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    end_ms = START_MS + 600_000
    cuts = sorted(chance.sample(range(START_MS, end_ms), 137))
    whole = [market(family=family, preset="lively").advance(end_ms)]
    world = market(family=family, preset="lively")
    assert _digest([world.advance(to_ms) for to_ms in [*cuts, end_ms]]) == _digest(whole), f"cuts of seed {seed}"


def test_the_same_seed_is_the_same_market_and_another_is_not() -> None:
    tapes = {seed: _digest(ticks(market(seed=seed, preset="lively"), 300, 1000)) for seed in (1, 2)}
    assert _digest(ticks(market(seed=1, preset="lively"), 300, 1000)) == tapes[1]
    assert tapes[1] != tapes[2]


def test_symbols_of_one_seed_move_on_their_own() -> None:
    moves = [np.diff(np.log([tape.mark_price for tape in ticks(market(s), 300, 1000)])) for s in ("BTC", "ETH")]
    assert abs(float(np.corrcoef(moves)[0, 1])) < 0.3


def test_a_step_holds_exactly_its_own_prints_in_the_order_of_time() -> None:
    world = market(preset="lively")
    from_ms = START_MS
    for step_ms in (137, 1, 1999, 60_000, 250):
        tape = world.advance(from_ms + step_ms)
        assert (tape.from_ms, tape.to_ms) == (from_ms, from_ms + step_ms)
        for prints in tape.venues.values():
            for table in (prints.trades, prints.liquidations):
                assert (np.diff(table["ts_ms"]) >= 0).all()
                assert (table["ts_ms"] > from_ms).all()
                assert (table["ts_ms"] <= from_ms + step_ms).all()
        from_ms += step_ms


def test_the_market_does_not_go_back() -> None:
    world = market()
    world.advance(START_MS + 5000)
    with pytest.raises(ValueError, match="cannot go back"):
        world.advance(START_MS + 4999)


def test_trades_carry_the_side_of_the_aggressor() -> None:
    """A liquidated long sells, a liquidated short buys; and minutes in which takers buy more are minutes that rise."""
    tapes = ticks(market(preset="lively", tick_ms=5000), 1000, 5000)
    forced = 0
    share, move = [], []
    before = tapes[0].last_price
    for tape in tapes[1:]:
        bought = sold = 0.0
        for prints in tape.venues.values():
            for row in prints.liquidations:
                same = prints.trades[prints.trades["ts_ms"] == row["ts_ms"]]
                taker = TakerSide.SELL if row["position_side"] == PositionSide.LONG else TakerSide.BUY
                match = (same["taker_side"] == taker) & (same["price"] == row["fill_price"])
                assert (match & (same["qty_base"] == row["qty_base"])).any()
                forced += 1
            buys = prints.trades["taker_side"] == TakerSide.BUY
            bought += float(prints.trades["qty_base"][buys].sum())
            sold += float(prints.trades["qty_base"][~buys].sum())
        share.append(bought / (bought + sold))
        move.append(np.log(tape.last_price / before))
        before = tape.last_price
    assert forced > 20
    assert np.corrcoef(share, move)[0, 1] > 0.2


def test_prints_lie_near_the_price_and_on_the_venues_price_steps() -> None:
    world = market("SOL", preset="lively")
    tick = small().symbols["SOL"].price_tick
    before = world.prices.last
    for tape in ticks(world, 300, 1000):
        low, high = sorted((before, tape.last_price))
        for prints in tape.venues.values():
            price = prints.trades["price"]
            assert np.allclose(price, np.round(price / tick) * tick, atol=1e-9)
            fills = np.isin(price, prints.liquidations["fill_price"])
            assert (price[~fills] >= low - 2 * tick).all()
            assert (price[~fills] <= high + 2 * tick).all()
        before = tape.last_price


def test_the_tape_says_when_funding_is_due() -> None:
    tape = market().advance(START_MS + 1000)
    assert tape.next_funding_ms == START_MS + FUNDING_MS
    assert abs(tape.funding_rate) <= 3e-3


def test_open_interest_and_prices_are_those_of_the_last_whole_tick() -> None:
    world = SimulatedMarket(small(tick_ms=1000), "BTC", START_MS)
    early, late = world.advance(START_MS + 1000), world.advance(START_MS + 1999)
    assert early.mark_price == late.mark_price
    assert world.advance(START_MS + 2000).mark_price != late.mark_price

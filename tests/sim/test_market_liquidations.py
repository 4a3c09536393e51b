"""Every simulated liquidation is of a position whose liquidation price the mark crossed, and none is spared."""

from collections import Counter

import numpy as np
import pytest

from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.market.brackets import leverage_limit, liquidation_price, maintenance_usd
from liqmap.sim.market.truth import truth
from tests.sim.market_worlds import START_MS, liquidations, market, small, ticks

Key = tuple[int, int, int]


@pytest.mark.parametrize("family", ["habits", "crowds"])
def test_exactly_the_positions_that_mark_has_crossed_are_liquidated(family: str) -> None:
    """Truth before the step and mark after it say who must go, whole or (large ones) half; the tape says who did."""
    world = market(family=family, preset="lively", tick_ms=2000)
    partial_above = small().partial_above_usd
    total = halves = 0
    for _ in range(600):
        known = truth(world, world.now_ms)
        makers = np.isnan(known["entry_price"])
        tape = world.advance(world.now_ms + 2000)
        sign = np.where(known["position_side"] == PositionSide.LONG, 1.0, -1.0)
        crossed = known[(sign * tape.mark_price <= sign * known["liquidation_price"]) & ~makers]
        due: Counter[Key] = Counter()
        for row in crossed:
            lots = round(row["qty_base"] / world.lot_base)
            if row["qty_base"] * tape.mark_price > partial_above:
                lots -= lots // 2
                halves += 1
            due[int(row["venue"]), int(row["position_side"]), lots] += 1
        went: Counter[Key] = Counter()
        for venue, prints in tape.venues.items():
            for row in prints.liquidations:
                went[int(venue), int(row["position_side"]), round(row["qty_base"] / world.lot_base)] += 1
        assert went == due
        total += sum(went.values())
    assert total > 15
    assert halves > 0, "no large position was hit, partial liquidation was not shown"


def test_bankruptcy_lies_a_little_beyond_the_market_and_the_fill_near_it() -> None:
    world = market(preset="lively", tick_ms=2000)
    beyond, slip = [], []
    for tape in ticks(world, 800, 2000):
        rows = liquidations([tape])
        sign = np.where(rows["position_side"] == PositionSide.LONG, 1.0, -1.0)
        beyond.append(sign * (1.0 - rows["bankruptcy_price"] / tape.mark_price))
        slip.append(np.abs(rows["fill_price"] / tape.last_price - 1.0))
    share = np.concatenate(beyond)
    assert len(share) > 10
    assert 0.002 < np.median(share) < 0.01
    assert np.percentile(share, 95) < 0.03
    assert np.median(np.concatenate(slip)) < 0.002


def test_truth_sums_to_open_interest_on_both_sides() -> None:
    world = market(preset="lively", tick_ms=5000)
    tape = world.advance(START_MS + 600_000)
    known = truth(world, START_MS + 600_000)
    for side in PositionSide:
        for venue, prints in tape.venues.items():
            mine = (known["position_side"] == side) & (known["venue"] == venue)
            assert known["qty_base"][mine].sum() == pytest.approx(prints.open_interest_base, rel=1e-9)
    sign = np.where(known["position_side"] == PositionSide.LONG, 1.0, -1.0)
    alive = np.isnan(known["liquidation_price"]) | (sign * (tape.mark_price - known["liquidation_price"]) > 0)
    assert alive.mean() > 0.999, "who lies behind the mark was cut by half in the last step, nobody else"


def test_truth_is_refused_for_another_time_than_the_market_stands_at() -> None:
    world = market(tick_ms=5000)
    world.advance(START_MS + 2500)
    with pytest.raises(ValueError, match="stands at"):
        truth(world, START_MS + 2500)


def test_at_the_liquidation_price_equity_is_the_maintenance_margin() -> None:
    generator = np.random.default_rng(7)
    count = 5000
    venue = generator.choice(np.array(list(Venue)[1:], dtype=np.uint8), count)
    sign = generator.choice([1.0, -1.0], count)
    entry = 91_000.0 * np.exp(0.1 * generator.standard_normal(count))
    qty = np.exp(generator.normal(0.0, 2.5, count))
    leverage = np.minimum(generator.uniform(1.1, 120, count), leverage_limit(venue, qty * entry))
    margin = qty * entry / leverage
    price = liquidation_price(venue, sign, qty, entry, margin)
    some = np.isfinite(price)
    assert some[sign < 0].all()
    assert some[leverage > 1.2].all()
    for i in np.flatnonzero(some)[:1500]:
        one = slice(i, i + 1)
        equity = margin[i] + sign[i] * qty[i] * (price[i] - entry[i])
        needed = maintenance_usd(venue[one], qty[one], entry[one], float(price[i]))
        assert equity == pytest.approx(float(needed[0]), rel=1e-6, abs=1e-6 * margin[i])
    assert (sign[some] * (entry[some] - price[some]) > 0).all(), "never on the wrong side of the entry"


def test_more_margin_puts_liquidation_further_away() -> None:
    venue = np.full(3, Venue.BINANCE, np.uint8)
    margin = np.array([500.0, 1000.0, 5000.0])
    for sign in (1.0, -1.0):
        price = liquidation_price(venue, np.full(3, sign), np.ones(3), np.full(3, 10_000.0), margin)
        assert (np.diff(sign * price) < 0).all()


def test_known_liquidation_prices_of_the_first_bracket() -> None:
    """Binance's formula at 0.4 % maintenance, 20x, 0.5 at 50 000 (exchanges' test vector); OKX with its fee."""
    for sign, expected in ((1.0, 47690.7631), (-1.0, 52290.8367)):
        price = liquidation_price(
            np.array([Venue.BINANCE], np.uint8), np.array([sign]), np.array([0.5]), np.array([5e4]), np.array([1250.0])
        )
        assert price[0] == pytest.approx(expected, abs=1e-3)
    for sign, expected in ((1.0, 47714.7162), (-1.0, 52264.8084)):
        price = liquidation_price(
            np.array([Venue.OKX], np.uint8), np.array([sign]), np.array([1.0]), np.array([5e4]), np.array([2500.0])
        )
        assert price[0] == pytest.approx(expected, abs=1e-3)


def test_an_account_that_can_lose_everything_and_stand_has_no_liquidation_price() -> None:
    price = liquidation_price(
        np.array([Venue.BYBIT], np.uint8), np.ones(1), np.ones(1), np.array([5e4]), np.array([6e4])
    )
    assert np.isneginf(price[0])

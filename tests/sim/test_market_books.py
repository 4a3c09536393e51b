"""The simulated market's books balance: longs = shorts = open interest, at every venue, after every step."""

import numpy as np
import pytest

from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.market.simulated import SimulatedMarket
from tests.sim.market_worlds import START_MS, market, side_lots, small, ticks

FAMILIES = ("habits", "crowds")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tick_ms", [3000, 15_000])
def test_longs_equal_shorts_equal_open_interest_after_every_step(family: str, tick_ms: int) -> None:
    world = market(family=family, preset="lively", tick_ms=tick_ms)
    liquidated = 0
    for _ in range(400):
        tape = world.advance(world.now_ms + tick_ms)
        for venue, prints in tape.venues.items():
            longs, shorts = side_lots(world, venue)
            assert longs == shorts
            assert prints.open_interest_base == pytest.approx(longs * world.lot_base, abs=1e-9)
            liquidated += len(prints.liquidations)
    assert liquidated > 0, "the stretch was too quiet to prove anything"


@pytest.mark.parametrize("family", FAMILIES)
def test_open_interest_never_changes_by_more_than_was_traded(family: str) -> None:
    world = market(family=family, preset="lively", tick_ms=5000)
    before = {venue: side_lots(world, venue)[0] for venue in world.makers}
    for tape in ticks(world, 500, 5000):
        for venue, prints in tape.venues.items():
            after = round(prints.open_interest_base / world.lot_base)
            traded = round(float(prints.trades["qty_base"].sum()) / world.lot_base)
            assert abs(after - before[venue]) <= traded
            before[venue] = after


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
def test_nothing_is_negative_or_not_a_number(family: str, symbol: str) -> None:
    world = market(symbol, family=family, preset="lively", tick_ms=5000)
    for tape in ticks(world, 300, 5000):
        assert min(tape.mark_price, tape.index_price, tape.last_price) > 0
        assert np.isfinite([tape.mark_price, tape.index_price, tape.last_price, tape.funding_rate]).all()
        for prints in tape.venues.values():
            assert prints.open_interest_base > 0
            assert (prints.trades["price"] > 0).all()
            assert (prints.trades["qty_base"] > 0).all()
            for column in ("bankruptcy_price", "fill_price", "qty_base"):
                assert (prints.liquidations[column] > 0).all()
    rows = world.positions.rows
    assert (rows["qty_lots"] > 0).all()
    assert (rows["entry"] > 0).all()
    assert not np.isnan(rows["liquidation"]).any()
    assert (rows["liquidation"][rows["side"] == PositionSide.SHORT] > 0).all(), "a short always has a price"


def test_the_mark_the_index_and_the_last_price_are_three_numbers() -> None:
    tapes = ticks(market(tick_ms=1000), 120, 1000)
    index = np.array([tape.index_price for tape in tapes])
    last = np.array([tape.last_price for tape in tapes]) / index - 1.0
    mark = np.array([tape.mark_price for tape in tapes]) / index - 1.0
    assert (last != 0).all()
    assert np.diff(last).std() > 3 * np.diff(mark).std(), "the mark averages the premium"
    assert np.abs(mark).max() < 0.02


def test_each_venue_keeps_its_share_of_open_interest_and_of_trades() -> None:
    world = market(preset="demo", tick_ms=5000)
    level = world.advance(START_MS)
    total = sum(prints.open_interest_base for prints in level.venues.values())
    for venue, base in ((Venue.BINANCE, 79_000), (Venue.BYBIT, 45_000), (Venue.OKX, 28_000)):
        assert level.venues[venue].open_interest_base / total == pytest.approx(base / 152_000, rel=0.05)
    tapes = ticks(world, 720, 5000)
    volume = {v: sum(float(t.venues[v].trades["qty_base"].sum()) for t in tapes) for v in level.venues}
    count = {v: sum(len(t.venues[v].trades) for t in tapes) for v in level.venues}
    assert volume[Venue.BINANCE] > volume[Venue.BYBIT] > volume[Venue.OKX]
    assert count[Venue.BINANCE] > count[Venue.BYBIT] > count[Venue.OKX]
    last = tapes[-1].venues
    total = sum(prints.open_interest_base for prints in last.values())
    assert last[Venue.BINANCE].open_interest_base / total == pytest.approx(79 / 152, rel=0.1)


def test_the_standing_population_is_at_its_level_at_time_0_and_has_lived() -> None:
    config = small(20_000)
    world = SimulatedMarket(config, "BTC", START_MS)
    assert 15_000 < len(world.positions) < 45_000
    for name, venue in (("binance", Venue.BINANCE), ("bybit", Venue.BYBIT), ("okx", Venue.OKX)):
        level = config.symbols["BTC"].open_interest_base
        assert side_lots(world, venue)[0] * world.lot_base == pytest.approx(level[name], rel=0.03)  # type: ignore[index]
    age_h = (START_MS - world.positions.rows["opened_ms"]) / 3_600_000
    assert np.percentile(age_h, 10) < 3
    assert np.percentile(age_h, 90) > 24, "people of days ago are still there"


@pytest.mark.parametrize(
    "price",
    [
        {"daily_volatility_pct": 60.0, "jumps_per_day": 300.0, "jump_pct": 10.0},
        {"impact_pct": 3.0},
        {"basis_bp": 80.0, "mark_average_s": 0.5},
    ],
    ids=["wild", "cascades", "torn mark"],
)
def test_the_books_balance_in_markets_that_should_not_exist(price: dict[str, float]) -> None:
    """Longs and shorts liquidated in one tick, jumps through everybody, cascades that feed themselves."""
    world = market(preset="lively", tick_ms=1000, price=price)
    for tape in ticks(world, 600, 1000):
        for prints in tape.venues.values():
            forced = float(prints.liquidations["qty_base"].sum())
            assert float(prints.trades["qty_base"].sum()) >= forced - 1e-6
            assert (prints.trades["qty_base"] > 0).all()
        assert 0 < tape.mark_price < 1e7
    for venue in world.makers:
        longs, shorts = side_lots(world, venue)
        assert longs == shorts
    assert len(world.positions) > 0

"""Liquidation prices against vectors computed from the venues' formulas, and the tables that feed them."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import PositionSide, Venue
from liqmap.domain.margin import (
    InvalidMarginTable,
    MarginTable,
    binance_liquidation_price,
    binance_liquidation_price_in,
    bybit_liquidation_price_at_entry,
    bybit_liquidation_price_at_mark,
    effective_mmr,
    okx_liquidation_price,
)
from liqmap.store.margin_files import read_tables

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
SHIPPED = Path(__file__).resolve().parents[2] / "etc" / "margin"

BINANCE = MarginTable.of(
    Venue.BINANCE,
    "2026-09",
    "test",
    1.0,
    [(300_000, 0.004, 150), (800_000, 0.005, 100), (3_000_000, 0.0065, 75), (12_000_000, 0.01, 50), (None, 0.02, 25)],
)


@pytest.mark.parametrize(
    ("entry", "qty", "leverage", "mmr", "cum", "long", "short"),
    [
        (50_000, 0.5, 20, 0.004, 0, 47690.7631, 52290.8367),
        (50_000, 10, 20, 0.005, 300, 47708.5427, 52268.6567),
        (100_000, 20, 50, 0.01, 11_450, 98411.6162, 101556.9307),
    ],
)
def test_binance(entry: float, qty: float, leverage: float, mmr: float, cum: float, long: float, short: float) -> None:
    wallet = entry * qty / leverage
    assert binance_liquidation_price(LONG, entry, qty, wallet, mmr, cum) == pytest.approx(long, abs=5e-5)
    assert binance_liquidation_price(SHORT, entry, qty, wallet, mmr, cum) == pytest.approx(short, abs=5e-5)


def test_okx_counts_the_fee_of_closing() -> None:
    assert okx_liquidation_price(LONG, 50_000, 1.0, 2_500, 0.004, 0.0005) == pytest.approx(47714.7162, abs=5e-5)
    assert okx_liquidation_price(SHORT, 50_000, 1.0, 2_500, 0.004, 0.0005) == pytest.approx(52264.8084, abs=5e-5)


def test_bybit_both_forms() -> None:
    assert bybit_liquidation_price_at_entry(LONG, 20_000, 1, 50, 0.005) == pytest.approx(19_700, abs=5e-5)
    assert bybit_liquidation_price_at_entry(SHORT, 20_000, 1, 50, 0.005) == pytest.approx(20_300, abs=5e-5)
    assert bybit_liquidation_price_at_mark(LONG, 20_000, 1, 50, 0.005) == pytest.approx(19698.4925, abs=5e-5)
    assert bybit_liquidation_price_at_mark(SHORT, 20_000, 1, 50, 0.005) == pytest.approx(20298.5075, abs=5e-5)


def test_the_deductions_are_the_ones_the_venue_prints() -> None:
    assert [bracket.deduction_usd for bracket in BINANCE.brackets] == pytest.approx([0, 300, 1500, 12_000, 132_000])


@given(notional=st.floats(1_000, 50_000_000))
def test_the_margin_is_continuous_over_the_bracket_edges(notional: float) -> None:
    def margin(usd: float) -> float:
        bracket = next(b for b in BINANCE.brackets if b.floor_usd <= usd <= b.cap_usd)
        return usd * bracket.mmr - bracket.deduction_usd

    assert margin(notional * (1 + 1e-9)) - margin(notional) <= 0.02 * notional * 1e-9 + 1e-6


@given(
    side=st.sampled_from([LONG, SHORT]),
    entry=st.floats(1_000, 100_000),
    notional=st.floats(1_000, 20_000_000),
    leverage=st.sampled_from([3, 5, 10, 20]),
)
def test_the_solution_lies_in_its_own_bracket_and_leaves_just_the_maintenance_margin(
    side: PositionSide, entry: float, notional: float, leverage: float
) -> None:
    qty, sign = notional / entry, 1 if side is LONG else -1
    price = binance_liquidation_price_in(BINANCE.brackets, side, entry, qty, notional / leverage)
    assert price is not None
    bracket = next(b for b in BINANCE.brackets if b.floor_usd <= qty * price <= b.cap_usd)
    left = notional / leverage + sign * qty * (price - entry)
    assert left == pytest.approx(qty * price * bracket.mmr - bracket.deduction_usd, rel=1e-6, abs=1e-6 * notional)


def test_a_position_with_enough_margin_is_never_liquidated() -> None:
    assert binance_liquidation_price_in(BINANCE.brackets, LONG, 100.0, 1.0, 200.0) is None


def test_a_tier_takes_the_mix_of_the_brackets_that_can_carry_it() -> None:
    rates = [effective_mmr([BINANCE], leverage) for leverage in (3, 25, 50, 75, 100, 125, 150)]
    assert rates == sorted(rates, reverse=True), "small positions at high leverage need less"
    assert rates[-1] == rates[-2] == pytest.approx(0.004)
    assert 0.004 < rates[0] < 0.01


def test_tables_weigh_their_share_of_open_interest() -> None:
    okx = MarginTable.of(Venue.OKX, "2026-09", "test", 0.25, [(None, 0.008, 100)])
    binance = MarginTable.of(Venue.BINANCE, "2026-09", "test", 0.75, [(None, 0.004, 150)])
    assert effective_mmr([binance, okx], 100) == pytest.approx(0.005)
    assert effective_mmr([binance, okx], 125) == pytest.approx(0.004), "OKX cannot carry 125x"


def test_a_leverage_that_no_bracket_carries_takes_the_lowest_bracket() -> None:
    assert effective_mmr([BINANCE], 200) == pytest.approx(0.004)


def test_a_leverage_whose_margin_is_maintenance_only_is_refused() -> None:
    with pytest.raises(InvalidMarginTable, match="leverage 250"):
        effective_mmr([BINANCE], 250)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(100, 0.0, 10)],
        [(100, 0.01, 10), (50, 0.02, 5)],
        [(100, 0.02, 10), (None, 0.01, 5)],
        [(100, 0.01, 10), (None, 0.02, 20)],
        [(None, 0.01, 10), (200, 0.02, 5)],
    ],
)
def test_a_table_that_contradicts_itself_is_refused(rows: list[tuple[float | None, float, float]]) -> None:
    with pytest.raises(InvalidMarginTable):
        MarginTable.of(Venue.BINANCE, "2026-09", "test", 1.0, rows)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_table_is_whole_and_dated(path: Path) -> None:
    tables = read_tables(path, "symbols.X.margin_table")
    for table in tables:
        assert len(table.as_of) == 7
        assert table.source
        assert table.brackets[0].floor_usd == 0
        assert all(math.isfinite(bracket.mmr) for bracket in table.brackets)
    for leverage in (3, 5, 10, 20, 25, 50, 75, 100):
        assert 0 < effective_mmr(tables, leverage) < 1 / leverage

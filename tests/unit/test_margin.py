"""Liquidation prices against vectors computed from the venues' formulas, and the tables that feed them."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    carries,
    effective_mmr,
    hyperliquid_liquidation_price,
    okx_liquidation_price,
)
from liqmap.store.margin_files import read_tables
from tests.shared_data import shared

LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
SHIPPED = Path(__file__).resolve().parents[2] / "etc" / "margin"

BINANCE = MarginTable.of(
    Venue.BINANCE,
    "2026-09",
    "test",
    1.0,
    [(300_000, 0.004, 150), (800_000, 0.005, 100), (3_000_000, 0.0065, 75), (12_000_000, 0.01, 50), (None, 0.02, 25)],
)


def _printed(price: float) -> str:
    """As exchanges.md prints it: four digits, none that are zero."""
    return f"{price:.4f}".rstrip("0").rstrip(".")


def _binance(side: PositionSide, entry: float, qty: float, leverage: float, mmr: float, cum: float) -> float:
    return binance_liquidation_price(side, entry, qty, entry * qty / leverage, mmr, cum)


VECTORS: dict[str, tuple[Callable[[PositionSide], float], str, str]] = {
    "Binance EP 50 000, q 0.5, 20x, MMR .004, cum 0": (
        lambda side: _binance(side, 50_000, 0.5, 20, 0.004, 0),
        "47690.7631",
        "52290.8367",
    ),
    "Binance EP 50 000, q 10, 20x, MMR .005, cum 300": (
        lambda side: _binance(side, 50_000, 10, 20, 0.005, 300),
        "47708.5427",
        "52268.6567",
    ),
    "Binance EP 100 000, q 20, 50x, MMR .01, cum 11 450": (
        lambda side: _binance(side, 100_000, 20, 50, 0.01, 11_450),
        "98411.6162",
        "101556.9307",
    ),
    "OKX EP 50 000, 100 × 0.01, 20x, mmr .004, fee .0005": (
        lambda side: okx_liquidation_price(side, 50_000, 100 * 0.01, 50_000 / 20, 0.004, 0.0005),
        "47714.7162",
        "52264.8084",
    ),
    "Bybit EP 20 000, q 1, 50x, MMR .005, ded 0 (entry-based)": (
        lambda side: bybit_liquidation_price_at_entry(side, 20_000, 1, 50, 0.005),
        "19700",
        "20300",
    ),
    "same (mark-based)": (
        lambda side: bybit_liquidation_price_at_mark(side, 20_000, 1, 50, 0.005),
        "19698.4925",
        "20298.5075",
    ),
    "Hyperliquid EP 50 000, sz 1, 20x, maxLev 40": (
        lambda side: hyperliquid_liquidation_price(side, 50_000, 1, 20, 40),
        "48101.2658",
        "51851.8519",
    ),
}
"""By its case in exchanges.md, section 9.4: formula, long, short."""


@pytest.mark.parametrize("case", VECTORS)
def test_every_vector_to_the_printed_digits(case: str) -> None:
    formula, long, short = VECTORS[case]
    assert (_printed(formula(LONG)), _printed(formula(SHORT))) == (long, short)


def test_no_vector_of_the_document_is_left_out() -> None:
    section = shared("exchanges.md").read_text().partition("### 9.4")[2].partition("---\n\n## 10")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert {case: (long, short) for case, long, short in rows[2:]} == {
        case: vector[1:] for case, vector in VECTORS.items()
    }


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
        if carries(tables, leverage):
            assert 0 < effective_mmr(tables, leverage) < 1 / leverage


def _recorded(rows: list[dict[str, Any]]) -> list[tuple[float, float, float, float]]:
    return [
        (row["maxNotional"], row["maintenanceMarginRate"], row["maxLeverage"], float(row["info"]["cum"]))
        for row in rows
    ]


def _shipped(path: Path, venue: Venue) -> list[tuple[float, float, float, float]]:
    (table,) = [table for table in read_tables(path, "x") if table.venue is venue]
    return [(b.cap_usd, b.mmr, b.max_leverage, b.deduction_usd) for b in table.brackets]


@pytest.mark.parametrize("date", ["2026.1", "2026.2", "2026.9"])
@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
def test_the_shipped_brackets_of_binance_are_the_recorded_ones_deductions_included(date: str, symbol: str) -> None:
    recorded = json.loads(shared(f"data/margin/binance_BTC_ETH_SOL_tiers_{date}.json").read_bytes())
    expected = _recorded(recorded[f"{symbol}/USDT:USDT"])
    for ours, theirs in zip(_shipped(SHIPPED / f"{symbol}.json", Venue.BINANCE), expected, strict=True):
        assert ours == pytest.approx(theirs), "the deduction follows from the rates"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_table_of_binance_is_the_recorded_one_of_its_contract(path: Path) -> None:
    recorded = json.loads(gzip.decompress(shared("data/margin/binance_all_pairs_2026.9.json.gz").read_bytes()))
    (table,) = [table for table in read_tables(path, "x") if table.venue is Venue.BINANCE]
    contract = table.source.partition("USD-M")[2].partition(":")[0].strip(", ") or f"{path.stem}USDT"
    expected = _recorded(recorded[f"{contract.removesuffix('USDT')}/USDT:USDT"])
    for ours, theirs in zip(_shipped(path, Venue.BINANCE), expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1.0)


def test_a_contract_whose_size_is_shipped_has_its_recorded_brackets() -> None:
    """The stand-in is for contracts of which nothing is on record."""
    sizes = json.loads((SHIPPED.parent / "instruments" / "binance.json").read_bytes())["contract_base"]
    recorded = json.loads(gzip.decompress(shared("data/margin/binance_all_pairs_2026.9.json.gz").read_bytes()))
    known = {name.removesuffix("USDT").removeprefix("1000") for name in sizes if f"{name[:-4]}/USDT:USDT" in recorded}
    assert known - {path.stem for path in SHIPPED.glob("*.json")} == set()


@pytest.mark.parametrize(("symbol", "family"), [("BTC", "BTC-USDT"), ("ETH", "ETH-USDT")])
def test_the_shipped_first_tier_of_okx_is_the_recorded_one(symbol: str, family: str) -> None:
    answer = json.loads(shared("data/margin/okx_position_tiers_tier1_swap.json").read_bytes())
    (row,) = [row for row in answer["data"] if row["instFamily"] == family]
    ((_, mmr, leverage, _),) = _shipped(SHIPPED / f"{symbol}.json", Venue.OKX)
    assert (mmr, leverage) == (float(row["mmr"]), float(row["maxLever"]))

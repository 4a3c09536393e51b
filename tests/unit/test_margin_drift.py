"""How far two margin tables are apart, computed by hand."""

import math

import pytest

from liqmap.domain.enums import Venue
from liqmap.domain.margin import MarginTable
from liqmap.domain.margin_drift import drift

Row = tuple[float | None, float, float]


def table(venue: Venue, *rows: Row, share: float = 0.5, as_of: str = "2026-09") -> MarginTable:
    return MarginTable.of(venue, as_of, "test", share, rows)


def test_equal_tables_differ_by_nothing() -> None:
    rows: tuple[Row, ...] = ((2e6, 0.005, 100), (None, 0.01, 50))
    found = drift([table(Venue.BYBIT, *rows)], table(Venue.BYBIT, *rows), (10, 100))
    assert [tier.share for tier in found.tiers] == [0.0, 0.0]
    assert (found.off, found.own, found.used_as_of) == (0, True, "2026-09")


def test_a_table_of_two_brackets_by_hand() -> None:
    """OKX has no deduction. Of the three decades from 10 k to 10 M, two lie below 1 M: a tier that both brackets carry
    weighs 2 : 1, one that only the lower carries takes its rate alone."""
    used = table(Venue.OKX, (None, 0.004, 100))
    published = table(Venue.OKX, (1e6, 0.004, 100), (None, 0.01, 50))
    ten, hundred = drift([used], published, (10, 100)).tiers
    assert ten.published_mmr == pytest.approx((2 * 0.004 + 0.01) / 3)
    assert ten.share == pytest.approx(0.5)
    assert ten.off
    assert hundred.share == pytest.approx(0.0)
    assert not hundred.off
    found = drift([used], published, (10, 100))
    assert (found.off, found.largest) == (1, ten)


def test_the_deduction_counts_where_the_venue_has_one() -> None:
    """Above 1 M: 1 % less 1 M x 0.6 % of deduction, at the geometric middle of the bracket (3.16 M)."""
    used = table(Venue.BYBIT, (None, 0.004, 100))
    published = table(Venue.BYBIT, (1e6, 0.004, 100), (None, 0.01, 50))
    (ten,) = drift([used], published, (10,)).tiers
    upper = 0.01 - 6000 / math.sqrt(1e6 * 1e7)
    assert ten.published_mmr == pytest.approx((2 * 0.004 + upper) / 3)


@pytest.mark.parametrize(("published", "off"), [(0.0044, 0), (0.0036, 0), (0.004401, 1), (0.003599, 1), (0.004, 0)])
def test_a_tenth_is_tolerated_and_no_more(published: float, off: int) -> None:
    found = drift([table(Venue.OKX, (None, 0.004, 100))], table(Venue.OKX, (None, published, 100)), (10,))
    assert found.off == off


def test_a_tier_that_only_one_table_carries_is_held_against_the_lowest_bracket_of_the_other() -> None:
    used = table(Venue.BYBIT, (None, 0.005, 100))
    published = table(Venue.BYBIT, (300_000, 0.0033, 150), (None, 0.005, 100))
    found = drift([used], published, (125, 200))
    (tier,) = found.tiers
    assert (tier.leverage, tier.used_mmr, tier.published_mmr) == (125, 0.005, 0.0033)
    assert tier.share == pytest.approx(-0.34)


def test_only_the_table_of_the_same_venue_is_compared() -> None:
    in_use = [table(Venue.BINANCE, (None, 0.004, 150)), table(Venue.OKX, (None, 0.006, 100))]
    found = drift(in_use, table(Venue.OKX, (None, 0.006, 100)), (10,))
    assert (found.off, found.own) == (0, True)


def test_without_a_table_of_the_venue_the_mix_that_stands_for_it_is_compared_and_said_to_be() -> None:
    in_use = [
        table(Venue.BINANCE, (None, 0.004, 150), share=0.5, as_of="2026-09"),
        table(Venue.OKX, (None, 0.008, 100), share=0.5, as_of="2026-10"),
    ]
    found = drift(in_use, table(Venue.BYBIT, (None, 0.006, 100)), (10,))
    assert not found.own
    assert found.used_as_of == "2026-09, 2026-10"
    assert found.tiers[0].used_mmr == pytest.approx(0.006)
    assert found.off == 0


def test_tiers_that_nobody_carries_say_nothing() -> None:
    found = drift([table(Venue.OKX, (None, 0.004, 100))], table(Venue.OKX, (None, 0.009, 100)), (125, 150))
    assert (found.tiers, found.largest, found.off) == ((), None, 0)


def test_a_leverage_that_the_published_rate_would_liquidate_at_birth_is_compared_all_the_same() -> None:
    found = drift([table(Venue.OKX, (None, 0.004, 100))], table(Venue.OKX, (None, 0.02, 100)), (100,))
    assert found.off == 1

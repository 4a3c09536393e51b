"""The market sheet: the newest word of each venue by the venue's own time, unknown where it said none."""

import math
from itertools import permutations

import numpy as np
import pytest

from liqmap.domain.enums import Ratio, Venue
from liqmap.domain.event import Event
from liqmap.engine.engine import Engine
from liqmap.engine.frames import Facts
from liqmap.engine.sheet import MarketSheet
from tests.events import events_array
from tests.unit.engine_tape import BTC, at, funded, mark, mid, quiet, ratio, run, tick, trade

VENUES = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)
NAN = float("nan")


def sheet(*events: Event) -> Facts:
    """The live facts after these events, in this order of arrival."""
    engine = Engine(BTC)
    engine.apply(events_array([tick(0), *events]))
    live = engine.live()
    assert live is not None
    return live.facts


def later(event: Event, by_s: float) -> Event:
    """The same fact, received later."""
    return event._replace(receive_ns=event.receive_ns + round(by_s * 10**9))


def test_before_anything_is_said_everything_is_unknown() -> None:
    facts = sheet()
    for name in ("mark", "index", "last", "mid", "funding_rate", "funding_interval_h"):
        assert all(math.isnan(value) for value in getattr(facts, f"venue_{name}"))
    for name in ("mark_as_of_ns", "last_as_of_ns", "mid_as_of_ns", "funding_as_of_ns", "next_funding_ms"):
        assert getattr(facts, f"venue_{name}") == (-1,) * len(Venue)
    assert np.isnan(np.array(facts.venue_long_share)).all() and np.shape(facts.venue_long_share) == (4, 3)
    assert (np.array(facts.venue_ratio_ms) == -1).all() and np.shape(facts.venue_ratio_ms) == (4, 3)


@pytest.mark.parametrize("venue", VENUES)
def test_each_fact_stands_under_its_venue_with_its_own_time(venue: Venue) -> None:
    facts = sheet(
        mark(1, 60_000.0, venue, index=59_990.0),
        trade(2, 60_001.0)._replace(venue=venue),
        mid(3, 60_002.0, venue),
        funded(4, -1e-4, venue, 4.0, 1_790_000_000_000),
        *(ratio(5, 0.1 * kind, kind, -300, venue) for kind in Ratio),
    )
    assert (facts.venue_mark[venue], facts.venue_index[venue]) == (60_000.0, 59_990.0)
    assert (facts.venue_last[venue], facts.venue_mid[venue]) == (60_001.0, 60_002.0)
    assert facts.venue_mark_as_of_ns[venue] == at(1)
    assert facts.venue_last_as_of_ns[venue] == at(2)
    assert facts.venue_mid_as_of_ns[venue] == at(3)
    assert (facts.venue_funding_rate[venue], facts.venue_funding_interval_h[venue]) == (-1e-4, 4.0)
    assert (facts.venue_next_funding_ms[venue], facts.venue_funding_as_of_ns[venue]) == (1_790_000_000_000, at(4))
    assert facts.venue_long_share[venue] == (0.1, 0.2, 0.1 * 3)
    assert facts.venue_ratio_ms[venue] == (at(-300) // 10**6,) * 3
    for other in set(Venue) - {venue}:
        assert math.isnan(facts.venue_mark[other]) and facts.venue_ratio_ms[other] == (-1, -1, -1)


def test_an_answer_that_was_long_on_its_way_overwrites_nothing_newer() -> None:
    by_stream, by_poll = mark(50, 60_100.0), later(mark(10, 60_000.0), 45)
    assert sheet(by_stream, by_poll).venue_mark[Venue.BINANCE] == 60_100.0
    assert sheet(by_stream, by_poll).venue_mark_as_of_ns[Venue.BINANCE] == at(50)
    old_rate = later(funded(5, 1e-4), 60)
    assert sheet(funded(30, 2e-4), old_rate).venue_funding_rate[Venue.BINANCE] == 2e-4


def test_of_two_facts_of_one_time_the_later_one_to_arrive_stays() -> None:
    assert sheet(mark(1, 60_000.0), mark(1, 60_010.0)).venue_mark[Venue.BINANCE] == 60_010.0
    assert sheet(mark(1, 60_010.0), mark(1, 60_000.0)).venue_mark[Venue.BINANCE] == 60_000.0


def test_a_venue_without_a_time_or_with_one_of_the_future_is_taken_at_receipt() -> None:
    for venue_ms in (-1, 0, at(3000) // 10**6):
        facts = sheet(mark(1, 60_000.0)._replace(venue_ms=venue_ms), mark(2, 60_010.0))
        assert facts.venue_mark[Venue.BINANCE] == 60_010.0, "a time of the future must not stand for ever"
        facts = sheet(mark(2, 60_000.0)._replace(venue_ms=venue_ms))
        assert facts.venue_mark_as_of_ns[Venue.BINANCE] == at(2)


def test_the_index_belongs_to_the_mark_it_came_with() -> None:
    facts = sheet(mark(1, 60_000.0, index=59_990.0), mark(2, 60_001.0))
    assert math.isnan(facts.venue_index[Venue.BINANCE]), "the newest mark told none: an older one is not of its time"
    assert math.isnan(sheet(mark(1, 60_000.0, index=-1.0)).venue_index[Venue.BINANCE])


@pytest.mark.parametrize("price", [NAN, 0.0, -5.0, float("inf")])
def test_what_is_no_price_is_not_kept(price: float) -> None:
    facts = sheet(
        *(mark(1, 60_000.0), trade(1, 60_000.0), mid(1, 60_000.0)),
        *(mark(2, price), trade(2, price), mid(2, price)),
    )
    assert facts.venue_mark[1] == facts.venue_last[1] == facts.venue_mid[1] == 60_000.0


@pytest.mark.parametrize("share", [NAN, -0.01, 1.01, float("inf")])
def test_what_is_no_share_is_not_kept(share: float) -> None:
    facts = sheet(ratio(1, 0.5, Ratio.ACCOUNTS, -600), ratio(2, share, Ratio.ACCOUNTS, -300))
    assert facts.venue_long_share[Venue.BINANCE][0] == 0.5


def test_ratios_go_by_their_bars_and_a_bar_that_is_told_again_is_corrected() -> None:
    old, new = ratio(10, 0.4, Ratio.TOP_ACCOUNTS, -300), ratio(5, 0.6, Ratio.TOP_ACCOUNTS, 0)
    facts = sheet(new, old)
    assert facts.venue_long_share[Venue.BINANCE][1] == 0.6
    assert facts.venue_ratio_ms[Venue.BINANCE][1] == at(0) // 10**6
    corrected = ratio(20, 0.61, Ratio.TOP_ACCOUNTS, 0)
    assert sheet(new, old, corrected).venue_long_share[Venue.BINANCE][1] == 0.61


def test_a_bar_of_a_far_future_or_of_no_time_or_kind_is_no_fact() -> None:
    wrong = (
        ratio(1, 0.9, Ratio.ACCOUNTS, 100_000),
        ratio(1, 0.9, Ratio.ACCOUNTS, 0)._replace(venue_ms=-1),
        ratio(1, 0.9, 0, 0),
        ratio(1, 0.9, 4, 0),
    )
    assert np.isnan(np.array(sheet(*wrong).venue_long_share)).all()
    assert sheet(ratio(1, 0.9, Ratio.ACCOUNTS, 290)).venue_long_share[1][0] == 0.9, "bars may be named by their end"


def test_an_interval_told_alone_outranks_the_one_that_comes_with_a_rate() -> None:
    with_rate, alone = funded(1, 1e-4, interval_h=8.0, next_ms=1_790_000_000_000), funded(2, NAN, interval_h=4.0)
    for order in permutations((with_rate, alone, funded(3, 2e-4, interval_h=8.0))):
        facts = sheet(*order)
        assert facts.venue_funding_interval_h[Venue.BINANCE] == 4.0
        assert facts.venue_funding_rate[Venue.BINANCE] == 2e-4
    assert sheet(with_rate).venue_funding_interval_h[Venue.BINANCE] == 8.0
    nothing = funded(2, NAN)
    assert sheet(nothing).venue_funding_as_of_ns[Venue.BINANCE] == -1
    assert sheet(with_rate, nothing).venue_funding_interval_h[Venue.BINANCE] == 8.0


def test_a_rate_of_zero_is_a_rate() -> None:
    assert sheet(funded(1, 0.0)).venue_funding_rate[Venue.BINANCE] == 0.0


def test_prints_of_an_unknown_recorder_have_a_column_and_those_of_no_venue_none() -> None:
    facts = sheet(trade(1, 60_000.0)._replace(venue=Venue.UNKNOWN), trade(2, 60_001.0)._replace(venue=200))
    assert facts.venue_last[Venue.UNKNOWN] == 60_000.0
    assert all(math.isnan(facts.venue_last[venue]) for venue in VENUES)


def test_minute_frames_carry_the_sheet_too() -> None:
    _, frames = run([*quiet(2), funded(30, 1e-4, interval_h=8.0)], until_s=130)
    assert frames[0].facts.venue_mark[Venue.BINANCE] == 60_000.0
    assert frames[1].facts.venue_funding_rate[Venue.BINANCE] == 1e-4


def test_whatever_the_cut_the_sheet_is_the_same() -> None:
    rng = np.random.default_rng(5)
    events = [mark(s, 60_000.0 + s) for s in rng.uniform(0, 20, 60)]
    events += [
        ratio(s, s / 40, int(k), s // 3) for s, k in zip(rng.uniform(0, 20, 60), rng.integers(1, 4, 60), strict=True)
    ]
    array = events_array(events)[rng.permutation(120)]
    whole, singly = MarketSheet(), MarketSheet()
    whole.take(array)
    for place in range(len(array)):
        singly.take(array[place : place + 1])
    assert repr(whole.facts()) == repr(singly.facts())

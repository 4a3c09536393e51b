"""The past that simulated venues tell, read by the project's own requests and parsers."""

import itertools
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from liqmap import config as configuration
from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Past
from liqmap.exchanges.registry import ADAPTERS
from tests.sim.market_worlds import START_MS
from tests.sim.venue_desk import Desk
from tests.venue_servers import venue_servers

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
NAMES = {BINANCE: "BTCUSDT", BYBIT: "BTCUSDT", OKX: "BTC-USDT-SWAP"}
TABLE = InstrumentTable(
    Instrument(venue, name, 0.01 if venue is OKX else 1.0, "BTC", number)
    for number, (venue, name) in enumerate(NAMES.items())
)
MINUTE, DAY = 60_000, 86_400_000
KLINES = "/fapi/v1/klines"


def told(desk: Desk, venue: Venue, days: float = 7.0) -> Past:
    """All that the project asks for, put together in order of time."""
    section = getattr(configuration.parse({}).venues, venue.name.lower())
    contract = TABLE.find(venue, NAMES[venue])
    assert contract is not None
    plans = ADAPTERS[venue].past_plans(section, contract, desk.now_ms - int(days * DAY), desk.now_ms)
    pasts = []
    for plan in plans:
        address = urlsplit(plan.url)
        body = desk.body(address.path, **dict(parse_qsl(address.query)))
        pasts.append(ADAPTERS[venue].parse_past(plan, body, TABLE))
    return Past(
        tuple(sorted(bar for past in pasts for bar in past.bars)),
        tuple(sorted(level for past in pasts for level in past.levels)),
    )


@pytest.fixture(scope="module")
def desks() -> dict[Venue, Desk]:
    """Venues of the same market that have run for two minutes."""
    every = {venue: Desk(venue, step_ms=5000) for venue in NAMES}
    for desk in every.values():
        desk.step(23)  # the first step was made before
    return every


def test_seven_days_of_minutes_without_a_hole_that_end_where_the_present_begins(desks: dict[Venue, Desk]) -> None:
    bars = told(desks[BINANCE], BINANCE).bars
    assert len(bars) == 7 * 1440
    assert {after.minute_ms - before.minute_ms for before, after in itertools.pairwise(bars)} == {MINUTE}
    assert bars[-1].minute_ms == desks[BINANCE].now_ms - MINUTE
    jumps = np.array([abs(after.open / before.close - 1.0) for before, after in itertools.pairwise(bars)])
    assert jumps.max() < 1e-3, "the price of the past meets that of the present"
    volumes = np.array([bar.taker_buy_base + bar.taker_sell_base for bar in bars])
    assert volumes.min() > 0.0
    day = volumes[:1440].sum() / 79_000.0
    assert 1.0 < day < 8.0, "a day turns over some open interest, as it does in the present"


def test_levels_of_the_past_end_at_the_level_of_the_present(desks: dict[Venue, Desk]) -> None:
    present = {BINANCE: 79_000.0, BYBIT: 45_000.0, OKX: 28_000.0}
    for venue, desk in desks.items():
        levels = told(desk, venue).levels
        period_ms = 1_800_000 if venue is OKX else 300_000
        assert {after.ts_ms - before.ts_ms for before, after in itertools.pairwise(levels)} == {period_ms}
        assert desk.now_ms - levels[-1].ts_ms < 2 * period_ms
        base = np.array([level.open_interest_base for level in levels])
        assert base[-1] == pytest.approx(present[venue], rel=0.05)
        assert 1e-4 < np.abs(np.diff(base) / base[1:]).max() < 0.02, "it moves, and never jumps"


def test_nobody_who_is_there_would_have_been_liquidated_by_the_bars(desks: dict[Venue, Desk]) -> None:
    """A map that is built from the bars finds the people: they came along the same path."""
    desk = Desk(BINANCE)
    bars = told(desk, BINANCE, 11.0).bars
    opens = np.array([bar.minute_ms for bar in bars])
    lows, highs = (np.array([getattr(bar, name) for bar in bars]) for name in ("low", "high"))
    world: Any = desk.world
    rows = world._market.positions.rows
    old = rows[rows["opened_ms"] < START_MS - 3_600_000]
    begun = np.searchsorted(opens, old["opened_ms"], side="right")
    lowest = np.minimum.accumulate(lows[::-1])[::-1]
    highest = np.maximum.accumulate(highs[::-1])[::-1]
    inside = begun < len(bars)
    old, begun = old[inside], begun[inside]
    dead = np.where(old["sign"] > 0, lowest[begun] < old["liquidation"], highest[begun] > old["liquidation"])
    assert len(old) > 1000
    assert dead.mean() < 0.02, "but for accounts that moved money since"


def test_klines_have_the_shape_and_the_limits_of_the_venue(desks: dict[Venue, Desk]) -> None:
    desk = desks[BINANCE]
    rows = desk.get(KLINES, symbol="BTCUSDT", interval="1m")
    assert len(rows) == 500
    assert [type(value) for value in rows[0]] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert rows[-1][6] - rows[-1][0] == MINUTE - 1
    assert rows == sorted(rows)
    since = desk.now_ms - DAY
    assert len(desk.get(KLINES, symbol="BTCUSDT", interval="1m", startTime=since, limit=5000)) == 1440
    assert len(desk.get(KLINES, symbol="BTCUSDT", interval="1m", startTime=since - DAY, limit=5000)) == 1500
    assert desk.get(KLINES, symbol="BTCUSDT", interval="1m", startTime=since, limit=2)[0][0] == since
    desk.step()
    assert desk.get(KLINES, symbol="BTCUSDT", interval="1m", limit=1)[0][6] > desk.now_ms, "the open minute is listed"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"interval": "1m"}, -1102),
        ({"symbol": "BTCUSDT"}, -1102),
        ({"symbol": "NOSUCH", "interval": "1m"}, -1121),
        ({"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ({"symbol": "BTCUSDT", "interval": "1m", "limit": "0"}, -1130),
        ({"symbol": "BTCUSDT", "interval": "1m", "startTime": "x"}, -1130),
    ],
)
def test_klines_refuse_bad_requests(desks: dict[Venue, Desk], query: dict[str, str], code: int) -> None:
    assert desks[BINANCE].get(KLINES, **query)["code"] == code


@pytest.mark.parametrize(("limit", "weight"), [("99", 1), ("100", 2), ("500", 5), ("1000", 5), ("1001", 10)])
def test_more_bars_cost_more(limit: str, weight: int) -> None:
    with venue_servers() as venues:
        server: Any = venues.server(BINANCE)
        assert server._weight_of(KLINES, {"symbol": "BTCUSDT", "limit": limit}) == weight

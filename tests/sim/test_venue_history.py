"""Histories, ratios, tiers and lists of the simulated venues, read by the project's adapters where they exist."""

import itertools
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import requests

from liqmap import config as configuration
from liqmap.config.simulation import sim_config
from liqmap.domain.enums import Kind, PositionSide, Ratio, TakerSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Ignored, PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.sim.market.booked import BookedMarket
from liqmap.sim.tape import Positioning
from liqmap.sim.venues.binance_server import BinanceRules
from liqmap.sim.venues.history import BAR_MS, FUNDING_MS
from liqmap.sim.venues.okx_server import OkxRules
from liqmap.sim.venues.running import VenueRules
from liqmap.sim.worlds import open_market
from tests.sim.market_worlds import START_MS
from tests.sim.venue_client import DEADLINE_S
from tests.sim.venue_desk import Desk
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
SWAP = "BTC-USDT-SWAP"
NAMES = {BINANCE: "BTCUSDT", BYBIT: "BTCUSDT", OKX: SWAP}
HELD = Positioning(0.62, 0.57, 0.44)
RATIOS = {Ratio.ACCOUNTS: 0.62, Ratio.TOP_ACCOUNTS: 0.57, Ratio.TOP_POSITIONS: 0.44}
DATA = "/futures/data/"
RUBIK = "/api/v5/rubik/stat/"


def scripted(venue: Venue, minutes: int = 31) -> tuple[Desk, ScriptedMarket]:
    """A venue that has run for so many minutes, half a minute a step, with trades of both takers in each."""
    world = ScriptedMarket("BTC", 60_000.0, open_interest_base=500.0)
    world.positioning = dict.fromkeys(world.positioning, HELD)
    desk = Desk(venue, world, step_ms=30_000, start_ms=START_MS)
    for _ in range(2 * minutes):
        world.trade(venue, 60_000.0, 0.3, TakerSide.BUY)
        world.trade(venue, 60_000.0, 0.1, TakerSide.SELL)
        desk.step()
    return desk, world


def table(venue: Venue) -> InstrumentTable:
    contract_base = 0.01 if venue is OKX else 1.0
    return InstrumentTable([Instrument(venue, NAMES[venue], contract_base, "BTC", 0)])


def answered(desk: Desk, plan: PollPlan) -> bytes:
    address = urlsplit(plan.url)
    return desk.body(address.path, **dict(parse_qsl(address.query)))


def polled(desk: Desk, venue: Venue, plan: PollPlan) -> list[Event]:
    facts = ADAPTERS[venue].parse_reply(plan, answered(desk, plan), 1, table(venue))
    events = [fact for fact in facts if isinstance(fact, Event)]
    assert len(events) == len(facts)
    return events


def section(venue: Venue) -> Any:
    return getattr(configuration.parse({}).venues, venue.name.lower())


@pytest.mark.parametrize("venue", [BINANCE, BYBIT, OKX])
def test_everything_that_the_project_polls_is_answered(venue: Venue) -> None:
    desk, _ = scripted(venue)
    adapter = ADAPTERS[venue]
    snapshot = adapter.book_plan(section(venue), next(iter(table(venue))))
    plans = [*adapter.poll_plans(section(venue), table(venue)), *([] if snapshot is None else [snapshot])]
    for plan in plans:
        if plan.name == "instruments":
            assert NAMES[venue] in {row.name for row in adapter.parse_listing(answered(desk, plan)).instruments}
        else:
            facts = adapter.parse_reply(plan, answered(desk, plan), 1, table(venue))
            assert facts
            assert not [fact for fact in facts if isinstance(fact, Ignored)], plan.name


@pytest.mark.parametrize("venue", [BINANCE, BYBIT, OKX])
def test_every_ratio_that_the_project_polls_is_answered_from_the_true_positions(venue: Venue) -> None:
    desk, _ = scripted(venue)
    seen = {}
    for plan in ADAPTERS[venue].ratio_plans(section(venue), table(venue)):
        events = polled(desk, venue, plan)
        assert len(events) == 2, plan.name
        assert all(event.kind == Kind.RATIO for event in events)
        assert [event.venue_ms % BAR_MS for event in events] == [0, 0]
        assert events[1].venue_ms - events[0].venue_ms == BAR_MS
        assert desk.now_ms - 2 * BAR_MS < events[1].venue_ms < desk.now_ms
        seen[plan.name] = events[-1]
    shares = sorted(round(event.quantity, 3) for event in seen.values())
    assert shares == ([0.62] if venue is BYBIT else sorted(RATIOS.values()))


def test_the_market_counts_its_positions_and_leaves_makers_out() -> None:
    config = sim_config(seed=3, symbols={"BTC": {"positions": 3000}})
    market = open_market(config, "BTC", START_MS)
    tape = BookedMarket(market, config).advance(START_MS + 1000)
    rows = market.positions.rows
    for venue, told in tape.venues.items():
        here = rows[rows["venue"] == venue]
        held = told.positioning
        assert held is not None
        assert held.accounts == pytest.approx(float((here["sign"] > 0).mean()))
        richest = here[np.argsort(-here["margin_usd"])[: round(0.2 * len(here))]]
        assert held.top_accounts == pytest.approx(float((richest["sign"] > 0).mean()))
        lots = richest["qty_lots"]
        assert held.top_positions == pytest.approx(float(lots[richest["sign"] > 0].sum() / lots.sum()))


# --- Binance ----------------------------------------------------------------------------------------------------------


def test_binance_ratio_rows_have_the_venues_keys_and_positions_re_use_the_names_of_accounts() -> None:
    desk, world = scripted(BINANCE)
    for name in ("globalLongShortAccountRatio", "topLongShortAccountRatio", "topLongShortPositionRatio"):
        rows = desk.get(DATA + name, symbol="BTCUSDT", period="5m")
        assert len(rows) == 30
        assert set(rows[0]) == {"symbol", "longShortRatio", "longAccount", "shortAccount", "timestamp"}
        assert all(later["timestamp"] - row["timestamp"] == BAR_MS for row, later in itertools.pairwise(rows))
    assert (rows[-1]["longAccount"], rows[-1]["shortAccount"], rows[-1]["longShortRatio"]) == (
        "0.4400",
        "0.5600",
        "0.7857",
    )
    world.positioning[BINANCE] = None
    desk.step(20)
    later = desk.get(DATA + name, symbol="BTCUSDT", period="5m")
    assert later[-1]["timestamp"] < desk.now_ms - BAR_MS, "where the market does not say there are no rows"


def test_binance_taker_volumes_are_sums_of_trades_and_name_no_symbol() -> None:
    desk, _ = scripted(BINANCE)
    for period, bars in (("5m", 10), ("15m", 30)):
        rows = desk.get(DATA + "takerlongshortRatio", symbol="BTCUSDT", period=period)
        assert set(rows[-1]) == {"buySellRatio", "buyVol", "sellVol", "timestamp"}
        assert float(rows[-1]["buyVol"]) == pytest.approx(0.3 * bars)
        assert float(rows[-1]["sellVol"]) == pytest.approx(0.1 * bars)
        assert float(rows[-1]["buySellRatio"]) == pytest.approx(3.0)


def test_binance_open_interest_history_follows_the_market() -> None:
    desk, world = scripted(BINANCE)
    world.open_interest_base[BINANCE] = 700.0
    desk.step(21)
    rows = desk.get(DATA + "openInterestHist", symbol="BTCUSDT", period="5m", limit=4)
    assert [float(row["sumOpenInterest"]) for row in rows] == [500.0, 500.0, 700.0, 700.0]
    assert float(rows[-1]["sumOpenInterestValue"]) == 700.0 * 60_000.0
    assert "CMCCirculatingSupply" in rows[0]


@pytest.mark.parametrize("name", ["globalLongShortAccountRatio", "takerlongshortRatio", "openInterestHist"])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"period": "5m"}, -1102),
        ({"symbol": "BTCUSDT"}, -1102),
        ({"symbol": "NOSUCH", "period": "5m"}, -1121),
        ({"symbol": "BTCUSDT", "period": "7m"}, -1130),
        ({"symbol": "BTCUSDT", "period": "5m", "limit": "0"}, -1130),
        ({"symbol": "BTCUSDT", "period": "5m", "startTime": "1000"}, -1130),
    ],
)
def test_binance_refuses_bad_requests_for_data(name: str, query: dict[str, str], code: int) -> None:
    desk, _ = scripted(BINANCE, 1)
    reply = desk.feed.answer(DATA + name, query, desk.now_ms)
    assert reply.status == 400
    assert desk.get(DATA + name, **query)["code"] == code


def test_binance_fundings_are_ascending_and_only_adjusted_contracts_have_an_interval() -> None:
    desk, world = scripted(BINANCE, 1)
    world.funding_rate = -0.0003
    desk.step_ms = FUNDING_MS
    desk.step(3)
    rows = desk.get("/fapi/v1/fundingRate", symbol="BTCUSDT")
    assert [row["fundingTime"] % FUNDING_MS for row in rows] == [0] * len(rows)
    assert rows == sorted(rows, key=lambda row: row["fundingTime"])
    assert [float(row["fundingRate"]) for row in rows[-4:]] == [0.0001, -0.0003, -0.0003, -0.0003]
    assert {row["rateType"] for row in rows} == {"Regular"}
    since = rows[-3]["fundingTime"]
    assert desk.get("/fapi/v1/fundingRate", symbol="BTCUSDT", startTime=since, limit=2) == rows[-3:-1]
    assert [row["symbol"] for row in desk.get("/fapi/v1/fundingInfo")] == ["ILVUSDT"]
    basis = desk.get(DATA + "basis", pair="BTCUSDT", contractType="PERPETUAL", period="5m")
    assert {row["annualizedBasisRate"] for row in basis} == {""}


def test_binance_aggregate_trades_by_rest_are_those_of_the_stream() -> None:
    desk, _ = scripted(BINANCE)
    streamed = desk.told["btcusdt@aggTrade"][-1]
    rows = desk.get("/fapi/v1/aggTrades", symbol="BTCUSDT", limit=3)
    assert len(rows) == 3
    assert rows[-1] == {key: streamed[key] for key in rows[-1]}
    assert desk.get("/fapi/v1/aggTrades", symbol="BTCUSDT", fromId=rows[1]["a"]) == rows[1:]


@pytest.mark.parametrize(
    ("rules", "spent", "free"),
    [
        (BinanceRules(data_per_5_min=3, minute_s=1e9, refused_before_ban=1), DATA + "basis", "/fapi/v1/fundingInfo"),
        (BinanceRules(funding_per_5_min=3, minute_s=1e9, refused_before_ban=1), "/fapi/v1/fundingInfo", DATA + "basis"),
    ],
)
def test_binance_charges_data_and_fundings_to_accounts_of_their_own(rules: BinanceRules, spent: str, free: str) -> None:
    with venue_servers(rules=VenueRules(binance=rules)) as venues:
        used = [get(venues, BINANCE, spent) for _ in range(4)]
        assert [reply.status_code == 429 for reply in used] == [False, False, False, True]
        assert used[-1].json()["code"] == -1003
        assert int(used[-1].headers["Retry-After"]) > 0
        assert get(venues, BINANCE, free).status_code != 429
        assert get(venues, BINANCE, "/fapi/v1/time").headers["X-MBX-USED-WEIGHT-1M"] == "1"
        assert get(venues, BINANCE, spent).status_code == 418
        assert get(venues, BINANCE, free).status_code == 418, "a ban is the address's, whatever is asked"


def get(venues: RunningVenues, venue: Venue, path: str) -> requests.Response:
    return requests.get(venues.rest(venue) + path, timeout=DEADLINE_S)


# --- Bybit ------------------------------------------------------------------------------------------------------------


def bybit(desk: Desk, path: str, **query: object) -> Any:
    answer = desk.get(f"/v5/market/{path}", category="linear", **query)
    assert answer["retCode"] == 0, answer["retMsg"]
    assert answer["time"] == desk.now_ms
    return answer["result"]


def test_bybit_open_interest_counts_both_sides_newest_first_in_pages() -> None:
    desk, world = scripted(BYBIT)
    world.open_interest_base[BYBIT] = 700.0
    desk.step(11)
    page = bybit(desk, "open-interest", symbol="BTCUSDT", intervalTime="5min", limit=3)
    assert [row["openInterest"] for row in page["list"]] == ["1400.000", "1000.000", "1000.000"]
    assert [row["singleOpenInterest"] for row in page["list"]] == ["700.000", "500.000", "500.000"]
    more = bybit(desk, "open-interest", symbol="BTCUSDT", intervalTime="5min", limit=3, cursor=page["nextPageCursor"])
    times = [int(row["timestamp"]) for row in (*page["list"], *more["list"])]
    assert [before - after for before, after in itertools.pairwise(times)] == [BAR_MS] * 5


def test_bybit_trades_are_newest_first_and_those_of_the_stream() -> None:
    desk, _ = scripted(BYBIT)
    streamed = desk.told["publicTrade.BTCUSDT"][-1]["data"][-1]
    rows = bybit(desk, "recent-trade", symbol="BTCUSDT", limit=2)["list"]
    assert [rows[0]["execId"], rows[0]["price"], rows[0]["size"]] == [streamed["i"], streamed["p"], streamed["v"]]
    assert len(rows) == 2
    assert int(rows[0]["time"]) >= int(rows[1]["time"])


def test_bybit_risk_limits_grow_and_ratios_are_decimal_texts() -> None:
    desk, _ = scripted(BYBIT, 1)
    rows = bybit(desk, "risk-limit", symbol="BTCUSDT")["list"]
    assert [row["isLowestRisk"] for row in rows] == [1, *([0] * (len(rows) - 1))]
    values = [(float(row["riskLimitValue"]), float(row["maintenanceMargin"])) for row in rows]
    assert values == sorted(values)
    assert rows[0]["maintenanceMargin"] == "0.005"
    for (cap, rate), (row, later) in zip(values, itertools.pairwise(rows), strict=False):
        before, after = cap * rate - float(row["mmDeduction"] or 0), cap * float(later["maintenanceMargin"])
        assert before == pytest.approx(after - float(later["mmDeduction"]))


def test_bybit_fundings_are_newest_first_and_a_start_alone_is_an_error() -> None:
    desk, world = scripted(BYBIT, 1)
    world.funding_rate = 0.0005
    desk.step_ms = FUNDING_MS
    desk.step(2)
    rows = bybit(desk, "funding/history", symbol="BTCUSDT", limit=3)["list"]
    assert [row["fundingRate"] for row in rows] == ["0.0005", "0.0005", "0.0001"]
    times = [int(row["fundingRateTimestamp"]) for row in rows]
    assert [before - after for before, after in itertools.pairwise(times)] == [FUNDING_MS] * 2
    wrong = desk.get("/v5/market/funding/history", category="linear", symbol="BTCUSDT", startTime=times[-1])
    assert wrong["retCode"] == 10001


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("open-interest", {"symbol": "NOSUCH", "intervalTime": "5min"}),
        ("open-interest", {"symbol": "BTCUSDT", "intervalTime": "5m"}),
        ("account-ratio", {"symbol": "BTCUSDT", "period": "5m"}),
        ("account-ratio", {"symbol": "BTCUSDT", "period": "5min", "limit": "501"}),
        ("recent-trade", {"symbol": "BTCUSDT", "limit": "x"}),
        ("risk-limit", {"symbol": "NOSUCH"}),
        ("funding/history", {}),
    ],
)
def test_bybit_refuses_bad_requests_with_http_200_and_a_ret_code(path: str, query: dict[str, str]) -> None:
    desk, _ = scripted(BYBIT, 1)
    reply = desk.feed.answer(f"/v5/market/{path}", {"category": "linear", **query}, desk.now_ms)
    assert reply.status == 200
    refused = desk.get(f"/v5/market/{path}", category="linear", **query)
    assert (refused["retCode"], refused["result"]) == (10001, {})
    assert desk.get(f"/v5/market/{path}", **query)["retCode"] == 10001, "the category is missing"


def test_bybit_lists_contracts_in_pages() -> None:
    desk, _ = scripted(BYBIT, 1)
    whole = bybit(desk, "instruments-info", limit=1000)
    assert whole["nextPageCursor"] == ""
    names, cursor = [], ""
    for _ in range(20):
        page = bybit(desk, "instruments-info", limit=3, cursor=cursor)
        assert len(page["list"]) <= 3
        names += [row["symbol"] for row in page["list"]]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
    assert names == [row["symbol"] for row in whole["list"]]
    assert len(names) > 3


# --- OKX --------------------------------------------------------------------------------------------------------------


def test_okx_taker_volume_says_what_was_sold_first() -> None:
    desk, _ = scripted(OKX)
    expected = {"0": (1.0, 3.0), "1": (100.0, 300.0), "2": (60_000.0, 180_000.0)}
    for unit, volumes in expected.items():
        rows = desk.get(RUBIK + "taker-volume-contract", instId=SWAP, unit=unit)["data"]
        _, sold, bought = rows[0]
        assert (float(sold), float(bought)) == pytest.approx(volumes)
    assert int(rows[0][0]) > int(rows[1][0])


def test_okx_open_interest_history_is_contracts_base_and_dollars_and_long_bars_follow_utc_plus_8() -> None:
    desk, _ = scripted(OKX)
    rows = desk.get(RUBIK + "contracts/open-interest-history", instId=SWAP)["data"]
    assert len(rows) == 100
    assert [float(value) for value in rows[0][1:]] == [50_000.0, 500.0, 30_000_000.0]
    hour_ms = 3_600_000
    for period, remainder_h in (("1D", 16), ("1Dutc", 0), ("6H", 4), ("6Hutc", 0), ("4H", 0)):
        rows = desk.get(RUBIK + "contracts/open-interest-history", instId=SWAP, period=period)["data"]
        bar_h = 24 if "D" in period else int(period[0])
        assert {int(row[0]) // hour_ms % bar_h for row in rows} == {remainder_h % bar_h}, period


def test_okx_liquidations_by_rest_are_about_a_day_in_one_row_and_do_not_page() -> None:
    desk, world = scripted(OKX, 1)
    for qty in (0.01, 0.02, 0.03):
        world.liquidate(OKX, PositionSide.LONG, 59_000.0, 59_300.0, qty)
        desk.step()
    path = "/api/v5/public/liquidation-orders"
    asked = {"instType": "SWAP", "instFamily": "BTC-USDT", "state": "filled", "limit": "100"}
    (row,) = desk.get(path, **asked)["data"]
    assert [detail["sz"] for detail in row["details"]] == ["3", "2", "1"]
    plan = PollPlan(OKX, f"liquidations.{SWAP}", "http://venue", Topic.LIQUIDATION, ("BTC",), 60.0)
    facts = ADAPTERS[OKX].parse_reply(plan, desk.body(path, **asked), 1, table(OKX))
    assert [fact.quantity for fact in facts if isinstance(fact, Event)] == [0.03, 0.02, 0.01]
    assert desk.get(path, **asked, after=row["details"][-1]["ts"])["data"] == []
    desk.step_ms = 25 * 3_600_000
    desk.step()
    assert desk.get(path, **asked)["data"] == []


def test_okx_tiers_are_in_contracts_and_by_family() -> None:
    desk, _ = scripted(OKX, 1)
    path = "/api/v5/public/position-tiers"
    rows = desk.get(path, instType="SWAP", tdMode="isolated", instFamily="BTC-USDT")["data"]
    assert [row["tier"] for row in rows] == [str(number + 1) for number in range(len(rows))]
    assert (rows[0]["mmr"], rows[0]["maxLever"], rows[0]["maxSz"]) == ("0.004", "100", "2500")
    assert all(row["maxSz"] == later["minSz"] for row, later in itertools.pairwise(rows))
    many = ",".join(["BTC-USDT"] * 6)
    assert desk.get(path, instType="SWAP", tdMode="isolated", instFamily=many)["code"] == "51000"


def test_okx_trades_and_fundings_are_newest_first() -> None:
    desk, world = scripted(OKX)
    rows = desk.get("/api/v5/market/trades", instId=SWAP, limit="4")["data"]
    assert [int(row["tradeId"]) for row in rows] == sorted((int(row["tradeId"]) for row in rows), reverse=True)
    assert (rows[0]["sz"], rows[0]["side"]) == ("10", "sell")
    world.funding_rate = 0.0007
    desk.step_ms = FUNDING_MS
    desk.step()
    paid = desk.get("/api/v5/public/funding-rate-history", instId=SWAP, limit="2")["data"]
    assert [float(row["realizedRate"]) for row in paid] == pytest.approx([0.0007, 0.0001])
    assert all(row["fundingRate"] != row["realizedRate"] for row in paid)


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        (RUBIK + "contracts/long-short-account-ratio-contract", {}, "50014"),
        (RUBIK + "contracts/long-short-account-ratio-contract", {"instId": "NO-SUCH-SWAP"}, "51001"),
        (RUBIK + "contracts/open-interest-history", {"instId": SWAP, "period": "7m"}, "51000"),
        (RUBIK + "taker-volume-contract", {"instId": SWAP, "unit": "3"}, "51000"),
        ("/api/v5/public/liquidation-orders", {"instType": "SWAP", "state": "filled"}, "50014"),
        ("/api/v5/public/position-tiers", {"instType": "SWAP", "tdMode": "isolated"}, "50014"),
        ("/api/v5/public/funding-rate-history", {"instId": "NO-SUCH-SWAP"}, "51001"),
        ("/api/v5/market/trades", {"instId": SWAP, "limit": "x"}, "51000"),
    ],
)
def test_okx_refuses_bad_requests_with_a_code_that_is_a_text(path: str, query: dict[str, str], code: str) -> None:
    desk, _ = scripted(OKX, 1)
    assert desk.feed.answer(path, query, desk.now_ms).status == 200
    answer = desk.get(path, **query)
    assert (answer["code"], answer["data"]) == (code, [])


def test_okx_allows_some_endpoints_less_than_others() -> None:
    ratio = RUBIK + f"contracts/long-short-account-ratio-contract?instId={SWAP}"
    with venue_servers(rules=VenueRules(okx=OkxRules(requests_per_2_s=4))) as venues:
        assert [get(venues, OKX, ratio).status_code for _ in range(2)] == [200, 429]
        book = [get(venues, OKX, f"/api/v5/market/books?instId={SWAP}").status_code for _ in range(5)]
        assert book == [200] * 5


# --- clocks and lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "path"),
    [(BINANCE, "/fapi/v1/time"), (BYBIT, "/v5/market/time"), (OKX, "/api/v5/public/time")],
)
def test_a_wrong_clock_moves_every_time_that_the_venue_prints(venue: Venue, path: str) -> None:
    def clock(venues: RunningVenues) -> int:
        answer = get(venues, venue, path).json()
        if venue is BINANCE:
            return int(answer["serverTime"])
        return int(answer["time"]) if venue is BYBIT else int(answer["data"][0]["ts"])

    books = {
        BINANCE: "/fapi/v1/depth?symbol=BTCUSDT&limit=5",
        BYBIT: "/v5/market/orderbook?category=linear&symbol=BTCUSDT",
        OKX: f"/api/v5/market/books?instId={SWAP}",
    }
    with venue_servers() as venues:
        right = clock(venues)
        venues.fault(venue, {"fault": "clock_skew", "ms": 86_000_000})
        assert clock(venues) - right >= 86_000_000
        book = get(venues, venue, books[venue]).json()
        told = {BINANCE: lambda: book["E"], BYBIT: lambda: book["result"]["ts"], OKX: lambda: book["data"][0]["ts"]}
        assert int(told[venue]()) - right >= 86_000_000
        venues.fault(venue, {"fault": "clear"})
        assert clock(venues) - right < 86_000_000


@pytest.mark.parametrize("venue", [BINANCE, BYBIT, OKX])
def test_a_contract_can_be_listed_while_the_venue_runs(venue: Venue) -> None:
    name = NAMES[venue]
    row = f'"{"instId" if venue is OKX else "symbol"}":"{name}"'
    lists = {
        BINANCE: "/fapi/v1/exchangeInfo",
        BYBIT: "/v5/market/instruments-info?category=linear",
        OKX: "/api/v5/public/instruments?instType=SWAP",
    }
    one = {
        BINANCE: ("/fapi/v1/openInterest?symbol=BTCUSDT", '"code":-1121'),
        BYBIT: ("/v5/market/open-interest?category=linear&symbol=BTCUSDT&intervalTime=5min", '"retCode":10001'),
        OKX: (f"/api/v5/market/books?instId={SWAP}", '"code":"51001"'),
    }
    with venue_servers() as venues:
        assert row in get(venues, venue, lists[venue]).text
        assert one[venue][1] not in get(venues, venue, one[venue][0]).text
        venues.fault(venue, {"fault": "unlisted", "contract": name})
        assert row not in get(venues, venue, lists[venue]).text
        assert one[venue][1] in get(venues, venue, one[venue][0]).text
        assert get(venues, venue, f"/_sim/book?contract={name}").status_code == 404
        venues.fault(venue, {"fault": "unlisted", "on": False})
        assert row in get(venues, venue, lists[venue]).text
        assert get(venues, venue, f"/_sim/book?contract={name}").status_code == 200

"""The order-book heatmap over HTTP: what the numbers mean, what every parameter does, what is refused and why."""

import gzip
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from liqmap.api.app import create_app
from liqmap.clock import ManualClock
from liqmap.domain.enums import BookState, GapReason, Topic, Venue
from tests.api import lqm1
from tests.api.stage import MARKS, Stage, config_of, instance_name, stage

FRAME, HISTORY = "/orderbook_heatmap", "/orderbook_heatmap_history"
STATS, DEBUG = f"{FRAME}_stats", f"{FRAME}_debug"
MID = MARKS["BTC"]
FRAME_MS = 30_000
NOW_NS = (time.time_ns() // (3600 * 10**9)) * 3600 * 10**9 + 5 * 10**9
"""A whole hour and five seconds, so that frames stand where a test expects them."""


@pytest.fixture
def books() -> Iterator[Stage]:
    """An instance that keeps sixteen frames, with nothing published."""
    with stage(config_of(instance_name(), depth={"frames": 16})) as made:
        made.write_all_but_books()
        yield made


@pytest.fixture
def wall() -> ManualClock:
    """Five seconds behind the newest frame."""
    return ManualClock(NOW_NS)


@pytest.fixture
def web(books: Stage, wall: ManualClock) -> FlaskClient:
    """The application."""
    books.write_feeds(NOW_NS)
    return create_app(books.config, books.client(clock=wall)).test_client()


def got(web: FlaskClient, path: str, **query: Any) -> dict[str, Any]:
    """An answer that must be there."""
    answer = web.get(path, query_string=query or None)
    assert answer.status_code == 200, answer.data
    body: dict[str, Any] = answer.get_json()
    return body


def refused(web: FlaskClient, path: str, **query: Any) -> dict[str, Any]:
    """The error of a query that must be refused."""
    answer = web.get(path, query_string=query or None)
    assert answer.status_code == 400, answer.data[:300]
    error: dict[str, Any] = answer.get_json()["error"]
    return error


def dollars(values: list[float | None]) -> np.ndarray:
    """A JSON array with NaN for null."""
    return np.array([np.nan if each is None else each for each in values])


# -- the newest frame -----------------------------------------------------------------------------------------------


def test_the_newest_frame(books: Stage, web: FlaskClient) -> None:
    end_ms = books.play_books("BTC", NOW_NS)
    body = got(web, FRAME)
    assert (body["t_ms"], body["interval_ms"], body["as_of_ms"]) == (end_ms - FRAME_MS, FRAME_MS, end_ms)
    assert (body["age_ms"], body["stale"], body["source"], body["gaps"]) == (5000, False, "simulated", [])
    assert body["mid_price"] == body["mid_open"] == body["mid_close"] == MID
    assert body["price_step"] == 20 and (body["prices"][0], body["prices"][-1]) == (81_000, 99_000)
    for name in ("bid_usd", "ask_usd", "bid_u8", "ask_u8"):
        assert len(body[name]) == len(body["prices"])
    prices, bid, ask = np.array(body["prices"]), dollars(body["bid_usd"]), dollars(body["ask_usd"])
    assert (bid[prices > MID] == 0).all() and (ask[prices < MID] == 0).all() and bid[prices < MID].min() > 0
    assert body["total_bid_usd"] == pytest.approx(np.nansum(bid), rel=1e-6)
    assert body["coverage"] == 1.0 and body["samples"] == 20
    assert body["band"]["range_pct"] == 10 and body["band"]["total_bid_usd"] == pytest.approx(np.nansum(bid), rel=2e-3)
    assert body["band"]["least_ask_usd"] <= body["band"]["total_ask_usd"] <= body["band"]["most_ask_usd"]
    assert body["venues"]["okx"]["complete_low"] == pytest.approx(0.98 * MID) and body["norm"]["p95_usd"] > 0


def test_the_sum_is_the_sum_of_the_venues(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS)
    for side in ("bid_usd", "ask_usd"):
        alone = [dollars(got(web, FRAME, venue=venue)[side]) for venue in ("binance", "bybit", "okx")]
        assert np.allclose(np.nansum(alone, axis=0), dollars(got(web, FRAME)[side]), atol=3)
        assert np.isnan(alone[2]).sum() > 0, "what okx does not tell stays unknown"


def test_null_is_unknown_and_zero_is_empty(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS)
    body = got(web, FRAME, venue="okx")
    prices = np.array(body["prices"])
    far = np.abs(prices - MID) > 0.021 * MID
    for name in ("bid_usd", "ask_usd", "bid_u8", "ask_u8"):
        unknown = np.array([each is None for each in body[name]])
        assert unknown[far].all() and not unknown[~far & (np.abs(prices - MID) < 0.019 * MID)].any()
    assert 0.0 in body["bid_usd"] and 0 in body["bid_u8"]


def test_a_broken_book_is_told_and_not_counted_as_empty(books: Stage, web: FlaskClient) -> None:
    states = [BookState.SYNCED, BookState.BROKEN, BookState.SYNCED]
    books.play_books("BTC", NOW_NS, state=states)
    body = got(web, FRAME)
    assert body["coverage"] == 0.0 and body["band"]["total_bid_usd"] is None
    assert body["venues"]["bybit"]["covered_ms"] == 0 and body["venues"]["binance"]["covered_ms"] == FRAME_MS
    assert body["total_bid_usd"] > 0
    alone = got(web, FRAME, venue="bybit")
    assert alone["total_bid_usd"] is None and set(alone["bid_usd"]) == {None} == set(alone["ask_u8"])


def test_the_picture_is_dollars_between_the_median_and_the_top(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS)
    body = got(web, FRAME)
    usd = np.concatenate([dollars(body["bid_usd"]), dollars(body["ask_usd"])])
    u8 = dollars(body["bid_u8"] + body["ask_u8"])
    low, high = body["norm"]["p50_usd"], body["norm"]["p95_usd"]
    assert np.isclose([low, high], np.percentile(usd[usd > 0], (50, 95)), rtol=1e-3).all()
    assert np.abs(u8 - 255 * np.clip((usd - low) / (high - low), 0, 1)).max() <= 1
    assert np.nanmax(u8) == 255 and np.nanmin(u8) == 0


# -- what a parameter does ------------------------------------------------------------------------------------------


def test_range_pct_and_prices_choose_the_cells(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS)
    narrow = got(web, FRAME, range_pct=1)
    assert (narrow["prices"][0], narrow["prices"][-1]) == (0.99 * MID, 1.01 * MID)
    chosen = got(web, FRAME, price_min=89_100, price_max=90_900)
    for name in ("prices", "bid_usd", "ask_usd", "bid_u8", "norm"):
        assert chosen[name] == narrow[name]
    assert got(web, FRAME, range_pct=0.5)["total_bid_usd"] < narrow["total_bid_usd"]
    beyond = got(web, FRAME, price_min=50_000, price_max=81_100)
    assert beyond["prices"] == [81_000.0, 81_020.0, 81_040.0, 81_060.0, 81_080.0, 81_100.0]


@pytest.mark.parametrize("step", [40, 50, 100, 33.3, 20.001])
def test_a_coarser_step_keeps_every_dollar(books: Stage, web: FlaskClient, step: float) -> None:
    books.play_books("BTC", NOW_NS)
    fine, coarse = got(web, FRAME), got(web, FRAME, step=step)
    assert coarse["price_step"] == step and np.allclose(np.diff(coarse["prices"]), step)
    edge = float(np.nanmax(dollars(fine["bid_usd"] + fine["ask_usd"]))) * 0.3
    for side in ("total_bid_usd", "total_ask_usd"):
        assert coarse[side] == pytest.approx(fine[side], rel=0.005, abs=edge)
    inner = got(web, FRAME, step=40, price_min=89_500, price_max=90_500)
    prices, usd = np.array(inner["prices"]), dollars(inner["bid_usd"])
    bucket = dict(zip(fine["prices"], fine["bid_usd"], strict=True))
    for price, found in zip(prices, usd, strict=True):  # 40 is centred on every other cell: half, whole, half
        assert found == pytest.approx(bucket[price] + (bucket[price - 20] + bucket[price + 20]) / 2, abs=2)


def test_a_coarse_cell_is_unknown_only_where_nothing_of_it_is_known(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS)
    fine, coarse = got(web, FRAME, venue="okx"), got(web, FRAME, venue="okx", step=100)
    known = {p for p, v in zip(fine["prices"], fine["bid_usd"], strict=True) if v is not None}
    for price, usd in zip(coarse["prices"], coarse["bid_usd"], strict=True):
        assert (usd is not None) == any(abs(each - price) < 60 for each in known)
    assert np.nansum(dollars(coarse["bid_usd"])) == pytest.approx(np.nansum(dollars(fine["bid_usd"])), rel=1e-5)


def test_minutes_and_stride_choose_the_rows(books: Stage, web: FlaskClient) -> None:
    end_ms = books.play_books("BTC", NOW_NS, frames=14, scales=lambda frame: 1.0 + frame)
    short, long = got(web, HISTORY, minutes=5), got(web, HISTORY, minutes=7)
    assert (short["rows"], long["rows"]) == (10, 14)
    assert short["t_ms"] == [end_ms - (10 - i) * FRAME_MS for i in range(10)]
    assert short["missing"] == [] and short["interval_ms"] == short["frame_ms"] == FRAME_MS
    assert len(short["bid_usd"]) == short["rows"] * short["cols"] == len(short["ask_u8"])
    assert long["bid_usd"][4 * long["cols"] :] == short["bid_usd"], "row-major, columns the same"
    pairs = got(web, HISTORY, minutes=5, stride=2)
    fine, coarse = (dollars(each["bid_usd"]).reshape(each["rows"], -1) for each in (short, pairs))
    assert pairs["rows"] == 5 and pairs["interval_ms"] == 2 * FRAME_MS
    assert np.allclose((fine[::2] + fine[1::2]) / 2, coarse, atol=2)
    assert pairs["scale"]["p95_usd"] > pairs["scale"]["p50_usd"]


def test_a_mean_over_frames_is_weighted_by_what_they_cover(books: Stage, web: FlaskClient) -> None:
    begin_ns = NOW_NS // 10**9 * 10**9 - 65 * 10**9  # two frames and a moment
    for at, scale in ((0, 1.0), (30, 4.0), (31.5, 4.0), (33.0, 4.0), (62, 4.0)):
        books.depth["BTC"].publish(begin_ns + round(at * 1e9), MID, scale=scale)
        books._books["BTC"].turn(-1)
    one, other = (np.array(row) for row in np.reshape(got(web, HISTORY, minutes=5)["bid_usd"], (2, -1))[:, :400])
    pair = np.array(got(web, HISTORY, minutes=5, stride=2)["bid_usd"])[:400]
    assert np.allclose(pair, (1.5 * one + 4.5 * other) / 6.0, rtol=1e-3)


def test_every_symbol_has_its_own_books(books: Stage, web: FlaskClient) -> None:
    for symbol, mid in MARKS.items():
        books.play_books(symbol, NOW_NS)
        body = got(web, FRAME, symbol=symbol)
        assert body["mid_price"] == mid and body["price_step"] == books.config.symbols[symbol].step
        assert body["prices"][0] == pytest.approx(0.9 * mid) and body["symbol"] == symbol


@pytest.mark.finding("L12")
@pytest.mark.parametrize("path", [FRAME, HISTORY])
def test_tags_follow_what_was_meant_not_how_it_was_written(books: Stage, web: FlaskClient, path: str) -> None:
    books.play_books("BTC", NOW_NS)
    spellings = ("", "range_pct=10", "range_pct=1e1&step=20", "step=20.0&venue=ALL&format=JSON", "symbol=btcusdt")
    assert len({web.get(f"{path}?{each}").headers["ETag"] for each in spellings}) == 1
    others = ("range_pct=9", "step=40", "venue=okx", "format=bin", "price_min=89000&price_max=91000")
    tags = [web.get(f"{path}?{each}").headers["ETag"] for each in ("", *others)]
    assert len(set(tags)) == len(tags)


@pytest.mark.finding("M24")
def test_every_parameter_has_an_effect(books: Stage, web: FlaskClient) -> None:
    for symbol in MARKS:
        books.play_books(symbol, NOW_NS, frames=12)
    plain = {path: web.get(path).data for path in (FRAME, HISTORY, STATS, DEBUG)}
    frame = ("symbol=ETH", "range_pct=5", "price_min=88000&price_max=92000", "step=60", "venue=bybit", "format=bin")
    for path, queries in (
        (FRAME, frame),
        (HISTORY, (*frame, "minutes=5", "stride=3")),
        (STATS, ("symbol=SOL",)),
        (DEBUG, ("symbol=SOL",)),
    ):
        answers = [web.get(f"{path}?{query}") for query in queries]
        assert all(each.status_code == 200 for each in answers)
        assert len({plain[path], *(each.data for each in answers)}) == len(queries) + 1


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [FRAME, HISTORY])
def test_prices_that_make_no_sense_are_refused(books: Stage, web: FlaskClient, path: str) -> None:
    books.play_books("BTC", NOW_NS)
    assert refused(web, path, price_min=80_000)["param"] == "price_max"
    assert refused(web, path, price_max=80_000)["param"] == "price_min"
    assert refused(web, path, price_min=90_000, price_max=90_000)["allowed"] == {"minimum": 0, "maximum": 90_000}
    both = refused(web, path, range_pct=5, price_min=80_000, price_max=90_000)
    assert both["param"] == "range_pct" and both["allowed"] == ["range_pct", "price_min and price_max"]
    nowhere = refused(web, path, price_min=1, price_max=2)
    assert nowhere["param"] == "price_min" and nowhere["allowed"] == {"minimum": 81_000, "maximum": 99_000}


@pytest.mark.parametrize("path", [FRAME, HISTORY])
def test_a_step_that_cannot_be_made_is_refused_with_what_can(books: Stage, web: FlaskClient, path: str) -> None:
    books.play_books("BTC", NOW_NS)
    books.play_books("SOL", NOW_NS)
    error = refused(web, path, step=19.99)
    assert error["param"] == "step" and error["allowed"] == {"minimum": 20, "maximum": 20_000}
    assert refused(web, path, symbol="SOL", step=0.05)["allowed"] == {"minimum": 0.1, "maximum": 100}
    assert refused(web, path, step=33.33333)["allowed"]["decimals"] == 3
    coarse = refused(web, path, step=20_000)
    assert coarse["param"] == "step" and coarse["allowed"] == {"minimum": 20, "maximum": 18_000}
    assert web.get(f"{path}?step=18000").status_code == 200, "what is allowed is answered"
    narrow = refused(web, path, step=700, range_pct=0.1)
    assert narrow["param"] == "step" and narrow["allowed"]["maximum"] == pytest.approx(180, abs=1)
    assert web.get(f"{path}?step={int(narrow['allowed']['maximum'])}&range_pct=0.1").status_code == 200


def test_a_venue_whose_book_is_not_followed_is_refused() -> None:
    sections: dict[str, Any] = {
        "venues": {"okx": {"depth": False}, "bybit": {"enabled": False}},
        "symbols": {"BTC": {}, "XRP": {"step": 0.01, "leverages": [5], "weights": [1], "instruments": {}}},
    }
    config = config_of("venues", **sections)
    web = create_app(config).test_client()
    for venue in ("okx", "bybit"):
        error = refused(web, FRAME, venue=venue)
        assert (error["param"], error["allowed"]) == ("venue", ["all", "binance"])
    answer = web.get(f"{FRAME}?symbol=XRP")
    assert answer.status_code == 503 and "no order book of XRP is followed" in answer.get_json()["error"]["message"]


def test_a_symbol_that_does_not_run_says_so() -> None:
    config = config_of("disabled", symbols={"BTC": {"enabled": False}, "ETH": {}})
    for path in (FRAME, HISTORY, STATS):
        answer = create_app(config).test_client().get(f"{path}?symbol=BTC")
        assert answer.status_code == 503 and "liqmapctl add BTC" in answer.get_json()["error"]["message"]


def test_more_cells_than_one_answer_may_have_are_refused_with_what_would_do(
    books: Stage, web: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.play_books("BTC", NOW_NS, frames=12)
    monkeypatch.setattr("liqmap.client.order_books.MAX_CELLS", 4 * 901)
    error = refused(web, HISTORY, minutes=6)
    assert error["param"] == "stride" and error["allowed"] == {"minimum": 3, "maximum": 30}
    assert got(web, HISTORY, minutes=6, stride=3)["rows"] == 4
    monkeypatch.setattr("liqmap.client.order_books.MAX_READ_CELLS", 4 * 901)
    assert refused(web, HISTORY, minutes=6, stride=4)["param"] == "minutes"


# -- what is missing ------------------------------------------------------------------------------------------------


def test_before_the_first_frame_it_says_when(books: Stage, web: FlaskClient) -> None:
    for path in (FRAME, HISTORY, STATS, DEBUG):
        answer = web.get(path)
        assert answer.status_code == 503 and answer.headers["Retry-After"]
        words = answer.get_json()["error"]["message"]
        assert "no order book of BTC has been published yet" in words and "at most 32 s" in words
    books.depth["BTC"].publish(NOW_NS, MID)
    words = web.get(FRAME).get_json()["error"]["message"]
    assert "the first order-book frame of BTC closes at" in words and ":00:30 UTC" in words and "about 25 s" in words
    books.depth["BTC"].publish(NOW_NS, MID, state=[BookState.SYNCING, BookState.ABSENT, BookState.BROKEN])
    words = web.get(FRAME).get_json()["error"]["message"]
    assert "binance syncing, bybit absent, okx broken" in words
    assert web.get(STATS).status_code == 200


def test_a_frame_in_which_no_book_was_whole_is_no_frame_to_show(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS, frames=1)
    assert web.get(FRAME).status_code == 200
    books.play_books("BTC", NOW_NS + 30 * 10**9, frames=1, state=BookState.BROKEN)
    answer = web.get(FRAME)
    assert answer.status_code == 503 and "no order book of BTC is whole" in answer.get_json()["error"]["message"]
    rows = got(web, HISTORY, minutes=5)
    assert rows["rows"] == 2 and rows["mid_price"][1] is None and rows["total_ask_usd"][1] is None
    assert set(rows["bid_usd"][rows["cols"] :]) == {None}
    assert rows["missing"][-1] == [rows["t_ms"][1], rows["t_ms"][1] + FRAME_MS, "no order book was whole"]


def test_missing_stretches_say_why(books: Stage, web: FlaskClient) -> None:
    end_ms = books.play_books("BTC", NOW_NS - 120 * 10**9, frames=4)
    books.play_books("BTC", NOW_NS, frames=2, state=[BookState.SYNCED, BookState.BROKEN, BookState.SYNCED])
    body = got(web, HISTORY, minutes=10)
    assert body["rows"] == 8 and body["t_ms"] == [end_ms + (i - 4) * FRAME_MS for i in range(8)]
    first, hole = body["missing"]
    asked_ms = body["as_of_ms"] - 10 * 60_000
    assert first == [asked_ms, body["t_ms"][0], "not recorded: the first frame is the one that follows"]
    # the moment that closed the fourth frame is one sample of the fifth, which nothing followed
    assert hole[:2] == [end_ms + FRAME_MS, end_ms + 2 * FRAME_MS] and hole[2].startswith("not recorded:")
    row = slice(5 * body["cols"], 6 * body["cols"])
    assert set(body["bid_usd"][row]) == {None} and body["coverage"][5] == 0
    alone = got(web, HISTORY, minutes=10, venue="bybit")["missing"]
    assert [each[2] for each in alone][-1] == "the order book of bybit was not whole"


def test_a_recorded_gap_of_the_feed_is_named(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS, frames=2, state=[BookState.SYNCED, BookState.ABSENT, BookState.SYNCED])
    books.write_feeds(
        NOW_NS,
        gaps=(
            (Venue.BYBIT, Topic.DEPTH, "BTC", NOW_NS // 10**6 - 60_000, -1, GapReason.SEQUENCE),
            (Venue.OKX, Topic.DEPTH, "BTC", NOW_NS // 10**6 - 60_000, -1, GapReason.SILENT),
            (Venue.BYBIT, Topic.DEPTH, "ETH", NOW_NS // 10**6 - 60_000, -1, GapReason.REFUSED),
        ),
    )
    (*_, hole) = got(web, HISTORY, minutes=5, venue="bybit")["missing"]
    assert hole[2] == "the order book of bybit was not whole (bybit: sequence)"


def test_what_was_overwritten_is_not_kept(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS, frames=20)
    body = got(web, HISTORY, minutes=43_200)
    assert body["rows"] == 16
    (hole,) = body["missing"]
    assert hole == [body["as_of_ms"] - 43_200 * 60_000, body["t_ms"][0], "not kept: older frames were overwritten"]


# -- packed, tags, age ----------------------------------------------------------------------------------------------


@pytest.mark.finding("M29")
@pytest.mark.parametrize(
    "query", ["", "?venue=okx", "?step=50&stride=3", "?range_pct=0.1", "?price_min=89000&price_max=90100"]
)
def test_bytes_say_what_json_says(books: Stage, web: FlaskClient, query: str) -> None:
    books.play_books("BTC", NOW_NS - 60 * 10**9, frames=5, scales=lambda frame: 1.0 + frame)
    books.play_books("BTC", NOW_NS, frames=1)
    for path in (FRAME, HISTORY):
        if path == FRAME and "stride" in query:
            continue
        json = got(web, path + query)
        answer = web.get(f"{path}{query}{'&' if query else '?'}format=bin")
        assert answer.content_type == "application/octet-stream"
        read = lqm1.read(answer.data)
        rows, cols = json.get("rows", 1), len(json["prices"])
        assert (read.header["rows"], read.header["cols"], read.header["planes"]) == (rows, cols, 2)
        assert read.t_ms() == (json["t_ms"] if path == HISTORY else [json["t_ms"]])
        assert np.allclose(read.prices(), json["prices"]) and read.header["step"] == json["price_step"]
        for plane, side in zip(read.usd, ("bid_usd", "ask_usd"), strict=True):
            there, told = dollars([usd for row in plane for usd in row]), dollars(json[side])
            assert np.array_equal(np.isnan(there), np.isnan(told)) and np.array_equal(there == 0, told == 0)
            assert (np.abs(there - told)[~np.isnan(told)] <= 0.02 * told[~np.isnan(told)]).all()
        headers = answer.headers
        assert headers["X-Liqmap-Source"] == json["source"] and headers["X-Liqmap-Symbol"] == "BTC"
        assert int(headers["X-Liqmap-As-Of-Ms"]) == json["as_of_ms"] and headers["X-Liqmap-Stale"] == "false"
        assert int(headers["X-Liqmap-Interval-Ms"]) == json["interval_ms"]
        assert int(headers["X-Liqmap-Missing"]) == len(json.get("missing", []))


def test_the_document_covers_the_header() -> None:
    sizes = {"4s": 4, "I": 4, "H": 2, "B": 1, "q": 8, "d": 8}
    at = 0
    for offset, kind, _ in lqm1.documented():
        assert offset == at
        at += sizes[kind]
    assert at == 64


@pytest.mark.parametrize("path", [FRAME, HISTORY, f"{FRAME}?format=bin", f"{HISTORY}?format=bin", STATS, DEBUG])
def test_tags_ages_and_compression(books: Stage, web: FlaskClient, wall: ManualClock, path: str) -> None:
    books.play_books("BTC", NOW_NS)
    books.depth["BTC"].publish(NOW_NS, MID)
    first = web.get(path)
    tag = first.headers["ETag"]
    wall.advance(1.0)
    again = web.get(path, headers={"If-None-Match": tag})
    assert again.status_code == 304 and again.data == b""
    second = web.get(path, headers={"Accept-Encoding": "gzip"})
    assert second.headers["ETag"] == tag and second.headers.get("Content-Encoding") == "gzip"
    if "bin" in path:
        assert gzip.decompress(second.data) == first.data
        ages = [int(each.headers["X-Liqmap-Age-Ms"]) for each in (first, second)]
        assert ages[1] == ages[0] + 1000
    books.play_books("BTC", NOW_NS + 30 * 10**9, frames=1)
    fresh = web.get(path, headers={"If-None-Match": tag})
    assert fresh.status_code == 200 and fresh.headers["ETag"] != tag


@pytest.mark.parametrize("path", [FRAME, f"{FRAME}?format=bin", HISTORY])
def test_a_frame_that_no_other_follows_goes_stale(books: Stage, web: FlaskClient, wall: ManualClock, path: str) -> None:
    books.play_books("BTC", NOW_NS)
    tag = web.get(path).headers["ETag"]
    wall.advance(29.9)  # 34.9 s after its end: the next one may still come
    books.write_feeds(wall.now_ns())
    assert web.get(path, headers={"If-None-Match": tag}).status_code == 304
    wall.advance(0.2)
    books.write_feeds(wall.now_ns())
    stale = web.get(path, headers={"If-None-Match": tag})
    assert stale.status_code == 200
    assert stale.headers.get("X-Liqmap-Stale", "true") == "true" and b'"stale":false' not in stale.data


def test_nothing_is_made_twice(books: Stage, web: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    books.play_books("BTC", NOW_NS)
    for query in ("", "?format=bin"):
        one = web.get(HISTORY + query)
        monkeypatch.setattr("liqmap.client.order_books.summed", lambda *_: pytest.fail("made again"))
        assert web.get(HISTORY + query).data == one.data
        monkeypatch.undo()


# -- how the books stand --------------------------------------------------------------------------------------------


def test_stats_say_how_each_book_stands(books: Stage, web: FlaskClient, wall: ManualClock) -> None:
    books.play_books("BTC", NOW_NS, frames=3)
    books.depth["BTC"].publish(
        NOW_NS - 10**9,
        MID,
        state=[BookState.SYNCED, BookState.BROKEN, BookState.SYNCED],
        resyncs=[0, 4, 1],
        sequence_gaps=[0, 3, 0],
        as_of_ns=[NOW_NS - 10**9, NOW_NS - 3 * 10**9, -1],
        dropped_levels=[0, 0, 77],
        dropped_updates=[5, 0, 0],
    )
    body = got(web, STATS)
    assert (body["as_of_ms"], body["age_ms"], body["stale"]) == (NOW_NS // 10**6 - 1000, 1000, False)
    binance, bybit, okx = (body["venues"][venue] for venue in ("binance", "bybit", "okx"))
    assert (binance["state"], binance["synced"], binance["spread"]) == ("synced", True, 2.0)
    assert binance["best_bid"] < MID < binance["best_ask"] and binance["levels"] == {"bid": 400, "ask": 500}
    assert binance["last_update_age_ms"] == 1000 and binance["dropped_updates"] == 5
    assert (bybit["state"], bybit["best_bid"], bybit["spread"], bybit["complete_low"]) == ("broken", None, None, None)
    assert (bybit["resyncs"], bybit["gaps"], bybit["last_update_age_ms"]) == (4, 3, 3000)
    assert okx["last_update_ms"] is None and okx["dropped_levels"] == 77
    assert body["frames"]["kept"] == 3 and body["frames"]["capacity"] == 16
    assert body["frames"]["newest_ms"] - body["frames"]["oldest_ms"] == 2 * FRAME_MS
    assert body["memory"]["frames_bytes"] > 16 * 2 * 3 * 2 * 2048
    wall.advance(6.0)
    assert got(web, STATS)["stale"] is True


def test_debug_is_more_than_stats(books: Stage, web: FlaskClient) -> None:
    books.play_books("BTC", NOW_NS, frames=3)
    stats, debug = got(web, STATS), got(web, DEBUG)
    assert set(stats) < set(debug) and set(stats["venues"]["okx"]) < set(debug["venues"]["okx"])
    assert [debug["venues"][venue]["sequence"] for venue in ("binance", "bybit", "okx")] == [1000, 1001, 1002]
    assert debug["board"]["cells"] == 901 and debug["board"]["low"] == 81_000 and debug["board"]["published"] == 61
    assert debug["frames_written"] == 3
    assert [each["venues"]["okx"] for each in debug["recent_frames"]] == [30_000.0] * 3
    assert debug["venues"]["binance"]["bid_usd"] == pytest.approx(1.5 * debug["venues"]["bybit"]["bid_usd"], rel=1e-6)


def test_when_ingest_has_stopped_no_book_is_said_to_be_whole(books: Stage, web: FlaskClient, wall: ManualClock) -> None:
    books.play_books("BTC", NOW_NS, frames=1)
    assert got(web, STATS)["venues"]["okx"]["state"] == "synced"
    wall.advance(60)
    for told in got(web, STATS)["venues"].values():
        assert told["state"] == "absent" and told["synced"] is False
        assert told["best_bid"] is None and told["best_ask"] is None and told["complete_low"] is None
        assert told["levels"] == {"bid": 0, "ask": 0} and told["last_update_ms"] is not None

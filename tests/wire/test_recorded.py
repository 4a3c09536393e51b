"""Frames that real venues sent, recorded by others: counts of every kind, sides, units; skipped where absent."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from liqmap.cli.frame_answers import answers
from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Listing
from liqmap.exchanges.recorded import read_line
from liqmap.exchanges.registry import ADAPTERS
from tests.shared_data import shared
from tests.wire.recordings import packed_lines, sampled

SYMBOLS = {
    Venue.BINANCE: {"BTCUSDT": "BTC"},
    Venue.BYBIT: {"BTCUSDT": "BTC", "ETHUSDT": "ETH", "SOLUSDT": "SOL"},
    Venue.OKX: {"BTC-USDT-SWAP": "BTC"},
}
LISTS = {
    Venue.BINANCE: "instruments/binance_fapi_exchangeInfo_2021-07.json.gz",
    Venue.BYBIT: "instruments/bybit_v5_instruments-info_linear_2026-08-09.json.gz",
    Venue.OKX: "instruments/okx_v5_instruments_SWAP_2022-05-13.json.gz",
}


def _said(venue: Venue, lines: Iterable[bytes], listing: Listing | None = None) -> list[dict[str, Any]]:
    return list(answers(venue, lines, listing, SYMBOLS[venue]))


def _as_lines(frames: Iterable[Any]) -> Iterator[bytes]:
    return (json.dumps(frame).encode() for frame in frames)


def _listing(venue: Venue) -> Listing:
    with gzip.open(shared(f"data/{LISTS[venue]}")) as text:
        return ADAPTERS[venue].parse_listing(text.read())


def _kinds(said: list[dict[str, Any]]) -> Counter[str]:
    return Counter(answer.get("kind") or ("malformed" if "malformed" in answer else "ignored") for answer in said)


def test_binance_2024_every_trade_and_book_update_of_345_seconds() -> None:
    said = _said(Venue.BINANCE, packed_lines("wire/binance_usdm_btcusdt_20240808.gz"))
    assert _kinds(said) == {"ignored": 66_089, "trade": 21_313, "book_delta": 6_551, "book_snapshot": 1}
    facts = [answer for answer in said if "kind" in answer]
    assert {(answer["instrument"], answer["symbol"]) for answer in facts} == {("BTCUSDT", "BTC")}
    deltas = [answer for answer in facts if answer["kind"] == "book_delta"]
    assert all(b["previous_sequence"] == a["sequence"] for a, b in pairwise(deltas))
    assert all(59_000 < answer["price"] < 64_000 for answer in facts if answer["kind"] == "trade")


def test_binance_taker_side_agrees_with_the_touch_of_the_book() -> None:
    """A buyer takes from the asks. The best prices come from bookTicker frames, which the parser leaves alone."""
    lines = list(packed_lines("wire/binance_usdm_btcusdt_20240808.gz"))[:20_000]
    right = wrong = 0
    bid = ask = 0.0
    for line, answer in zip(lines, _said(Venue.BINANCE, lines), strict=True):
        if b'"e":"bookTicker"' in line:
            touch = json.loads(line.split(b" ", 1)[1])["data"]
            bid, ask = float(touch["b"]), float(touch["a"])
        elif answer.get("kind") == "trade" and answer["price"] in (bid, ask):
            agrees = answer["taker_side"] == ("buy" if answer["price"] == ask else "sell")
            right, wrong = right + agrees, wrong + (not agrees)
    assert right > 1_000
    assert wrong < right / 20


@pytest.mark.parametrize(
    ("file", "event", "key", "least"),
    [
        ("wire/binance_futures_capture.jsonl.gz", "aggTrade", "a", 90),
        ("wire/binance_usdm_btcusdt_20240808.gz", "trade", "t", 21_000),
    ],
)
def test_recorded_trades_are_numbered_one_by_one(file: str, event: str, key: str, least: int) -> None:
    """What a lost trade is known by (ingest/tape_numbers.py)."""
    last: dict[str, int] = {}
    followed = 0
    for line in packed_lines(file):
        frame = read_line(line).frame
        if frame is None or f'"e":"{event}"'.encode() not in frame:
            continue
        row = json.loads(frame)["data"]
        assert last.setdefault(row["s"], row[key] - 1) == row[key] - 1
        last[row["s"]] = row[key]
        followed += 1
    assert followed >= least


def test_bybit_2026_capture() -> None:
    said = _said(Venue.BYBIT, packed_lines("wire/bybit_capture.jsonl.gz"), _listing(Venue.BYBIT))
    kinds = _kinds(said)
    assert "malformed" not in kinds
    assert (kinds["book_delta"], kinds["book_snapshot"], kinds["trade"]) == (1_594, 4, 327)
    assert (kinds["mark_price"], kinds["open_interest"], kinds["funding"]) == (89, 20, 6)
    books: dict[str, int] = {}
    for answer in said:
        if answer.get("kind") == "book_delta":
            assert answer["sequence"] == books[answer["instrument"]] + 1
        if answer.get("kind", "").startswith("book"):
            books[answer["instrument"]] = answer["sequence"]


def test_bybit_spot_frames_of_the_same_recording_are_not_taken_for_linear_ones() -> None:
    said = _said(Venue.BYBIT, packed_lines("wire/bybit_capture.jsonl.gz"))
    assert sum(answer == {"ignored": "another market of the venue"} for answer in said) == 682


@pytest.mark.finding("X13")
def test_bybit_open_interest_is_half_of_what_both_sides_add_up_to() -> None:
    both_sides = [
        float(data["openInterest"])
        for line in packed_lines("wire/bybit_capture.jsonl.gz")
        if (record := json.loads(line))["t"] == "recv"
        and (frame := json.loads(record["data"])).get("topic", "").startswith("tickers.")
        and "openInterest" in (data := frame["data"])
    ]
    said = _said(Venue.BYBIT, packed_lines("wire/bybit_capture.jsonl.gz"))
    one_sided = [answer["open_interest_base"] for answer in said if answer.get("kind") == "open_interest"]
    assert [pytest.approx(2 * base, rel=1e-6) for base in one_sided] == both_sides


@pytest.mark.finding("X13")
def test_bybit_open_interest_of_2024_has_no_one_sided_field_and_is_halved() -> None:
    frames = sampled("wire/throttled_2024/bybit_perp_btcusdt_oifunding.json.gz")
    raw = [float(frame["data"]["openInterest"]) for frame in frames if "openInterest" in frame.get("data", {})]
    said = _said(Venue.BYBIT, _as_lines(frames))
    assert [2 * a["open_interest_base"] for a in said if a.get("kind") == "open_interest"] == raw


def test_bybit_trades_of_2024() -> None:
    kinds = _kinds(_said(Venue.BYBIT, _as_lines(sampled("wire/throttled_2024/bybit_perp_btcusdt_trades.json.gz"))))
    assert kinds == {"trade": 685, "ignored": 5}


def test_okx_capture_of_other_markets_holds_nothing_for_us_and_nothing_malformed() -> None:
    said = _said(Venue.OKX, packed_lines("wire/okx_capture.jsonl.gz"), _listing(Venue.OKX))
    assert _kinds(said) == {"ignored": len(said)}
    reasons = Counter(answer["ignored"] for answer in said)
    assert reasons["inverse contract UNI-USD-SWAP"] == 94
    assert reasons["inverse contract BTC-USD-220527"] == 103
    assert reasons["not a perpetual contract BTC-USDT"] == 167


@pytest.mark.finding("L10")
def test_okx_open_interest_and_trades_of_2024_are_contracts_of_a_hundredth_of_a_bitcoin() -> None:
    readings = [frame for frame in sampled("wire/throttled_2024/okx_perp_btcusdt_oi.json.gz") if frame]
    said = _said(Venue.OKX, _as_lines(readings))
    assert [a["open_interest_base"] for a in said] == [float(f["data"][0]["oiCcy"]) for f in readings]
    trades = [frame for frame in sampled("wire/throttled_2024/okx_perp_btcusdt_trades.json.gz") if frame]
    said = _said(Venue.OKX, _as_lines(trades))
    sizes = [float(row["sz"]) / 100 for frame in trades for row in frame["data"]]
    assert [a["qty_base"] for a in said] == pytest.approx(sizes)


def test_okx_funding_of_2024_names_the_coming_settlement() -> None:
    frames = [frame for frame in sampled("wire/throttled_2024/okx_perp_btcusdt_funding.json.gz") if frame]
    for answer, frame in zip(_said(Venue.OKX, _as_lines(frames)), frames, strict=True):
        assert answer["funding_rate"] == float(frame["data"][0]["fundingRate"])
        assert 0 < answer["next_funding_ms"] - answer["ts_ms"] <= 8 * 3_600_000


def test_binance_2021_capture_and_replies() -> None:
    said = _said(Venue.BINANCE, packed_lines("wire/binance_futures_capture.jsonl.gz"))
    assert _kinds(said) == {"ignored": 683, "book_delta": 764, "book_snapshot": 4, "trade": 91}
    snapshots = [answer["instrument"] for answer in said if answer.get("kind") == "book_snapshot"]
    assert snapshots == ["SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"]
    readings = sampled("wire/throttled_2024/binance_perp_btcusdt_oi.json.gz")
    said = _said(Venue.BINANCE, _as_lines(readings))
    assert [answer["open_interest_base"] for answer in said] == [float(r["openInterest"]) for r in readings]


@pytest.mark.finding("L20")
@pytest.mark.finding("X1")
def test_recorded_liquidations_name_the_side_of_the_position() -> None:
    lines = shared("data/wire/liquidation_frames.jsonl").read_bytes().splitlines()
    sides = {
        venue: [
            (a["instrument"], a["position_side"], a["qty_base"])
            for a in _said(venue, lines, listing)
            if a.get("kind") == "liquidation"
        ]
        for venue, listing in ((Venue.BINANCE, None), (Venue.BYBIT, None), (Venue.OKX, _listing(Venue.OKX)))
    }
    assert sides[Venue.BINANCE] == [
        ("ILVUSDT", "long", 116.5),
        ("IOTXUSDT", "long", 3661.0),
        ("BTCUSDT", "long", 0.029),
        ("COTIUSDT", "short", 288183.0),
    ]
    assert sides[Venue.BYBIT] == [
        ("ICPUSDT", "long", 19.7),
        ("MARSCOINUSDT", "short", 2380.0),
        ("BTCUSDT", "long", 0.001),
    ]
    assert sides[Venue.OKX] == [("MINA-USDT-SWAP", "short", 10975.0)]


@pytest.mark.finding("X9")
@pytest.mark.finding("L10")
def test_listings_of_real_venues_refuse_what_cannot_be_counted_in_base_coin() -> None:
    okx, bybit, binance = _listing(Venue.OKX), _listing(Venue.BYBIT), _listing(Venue.BINANCE)
    sizes = {instrument.name: instrument.contract_base for instrument in okx.instruments}
    assert (len(sizes), sizes["BTC-USDT-SWAP"], sizes["ETH-USDT-SWAP"], sizes["SOL-USDT-SWAP"]) == (126, 0.01, 0.1, 1.0)
    assert Counter(okx.refused.values()) == {"inverse contract": 40}
    assert Counter(bybit.refused.values()) == {"not settled in USDT": 68, "dated future": 40}
    assert len(bybit.instruments) == 692
    assert binance.refused["BTCUSDT_210924"] == "dated future"
    assert binance.refused["BTCBUSD"] == "not settled in USDT"

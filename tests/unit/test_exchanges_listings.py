"""Lists of contracts: what can be counted in base coin, and why the rest is refused."""

import json
from typing import Any

import pytest

from liqmap.domain.enums import Kind, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Ignored, Malformed
from liqmap.exchanges.registry import ADAPTERS

LINEAR = {"instType": "SWAP", "ctType": "linear", "settleCcy": "USDT", "ctMult": "1", "state": "live"}


def _okx(**fields: str) -> dict[str, str]:
    return {"instId": "BTC-USDT-SWAP", "ctVal": "0.01", "ctValCcy": "BTC", **LINEAR, **fields}


def _listed(body: Any, venue: Venue = Venue.OKX) -> tuple[dict[str, float], dict[str, str]]:
    listing = ADAPTERS[venue].parse_listing(json.dumps(body).encode())
    return {i.name: i.contract_base for i in listing.instruments}, dict(listing.refused)


def test_an_okx_contract_is_its_value_times_its_multiplier() -> None:
    sizes, refused = _listed(
        {"code": "0", "data": [_okx(), _okx(instId="XRP-USDT-SWAP", ctValCcy="XRP", ctVal="10", ctMult="10")]}
    )
    assert (sizes, refused) == ({"BTC-USDT-SWAP": 0.01, "XRP-USDT-SWAP": 100.0}, {})


@pytest.mark.finding("X9")
@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            _okx(instId="BTC-USD-SWAP", ctType="inverse", ctVal="100", ctValCcy="USD", settleCcy="BTC"),
            "inverse contract",
        ),
        (_okx(instId="BTC-USDC-SWAP", settleCcy="USDC"), "not settled in USDT"),
        (_okx(instId="BTC-USDT-261225", instType="FUTURES"), "dated future"),
        (_okx(instId="BTC-USDT", instType="SPOT"), "not a perpetual contract"),
        (_okx(ctValCcy="USDT"), "contract not counted in its base coin"),
    ],
)
def test_an_okx_contract_that_is_not_linear_usdt_is_refused(row: dict[str, str], why: str) -> None:
    assert _listed({"code": "0", "data": [row]}) == ({}, {row["instId"]: why})


@pytest.mark.finding("L10")
@pytest.mark.parametrize("field", ["ctVal", "ctMult"])
@pytest.mark.parametrize("value", ["", "0", "-1", "NaN", "x", "1e99"])
def test_a_contract_without_a_size_is_refused_and_never_one(field: str, value: str) -> None:
    assert _listed({"code": "0", "data": [_okx(**{field: value})]}) == ({}, {"BTC-USDT-SWAP": "no contract size"})


@pytest.mark.finding("X9")
def test_bybit_lists_usdt_perpetuals_only() -> None:
    rows = [
        {"symbol": "BTCUSDT", "contractType": "LinearPerpetual", "quoteCoin": "USDT", "settleCoin": "USDT"},
        {"symbol": "BTCPERP", "contractType": "LinearPerpetual", "quoteCoin": "USDC", "settleCoin": "USDC"},
        {"symbol": "BTCUSDT-25DEC26", "contractType": "LinearFutures", "quoteCoin": "USDT", "settleCoin": "USDT"},
        {"symbol": "BTCUSD", "contractType": "InversePerpetual", "quoteCoin": "USD", "settleCoin": "BTC"},
    ]
    body = {"retCode": 0, "result": {"list": rows, "nextPageCursor": "page2"}}
    sizes, refused = _listed(body, Venue.BYBIT)
    assert sizes == {"BTCUSDT": 1.0}
    assert refused == {
        "BTCPERP": "not settled in USDT",
        "BTCUSDT-25DEC26": "dated future",
        "BTCUSD": "inverse contract",
    }
    assert ADAPTERS[Venue.BYBIT].parse_listing(json.dumps(body).encode()).cursor == "page2"


@pytest.mark.finding("X9")
def test_binance_lists_usdt_perpetuals_that_trade() -> None:
    def row(symbol: str, kind: str = "PERPETUAL", quote: str = "USDT", status: str = "TRADING") -> dict[str, str]:
        return {"symbol": symbol, "contractType": kind, "quoteAsset": quote, "marginAsset": quote, "status": status}

    rows = [
        row("BTCUSDT"),
        row("QQQUSDT", "TRADIFI_PERPETUAL"),
        row("BTCUSDC", quote="USDC"),
        row("BTCUSDT_261225", "CURRENT_QUARTER"),
        row("BTCUSD_PERP", quote="USD"),
        row("OLDUSDT", status="SETTLING"),
    ]
    sizes, refused = _listed({"symbols": rows}, Venue.BINANCE)
    assert sizes == {"BTCUSDT": 1.0, "QQQUSDT": 1.0}
    assert refused == {
        "BTCUSDC": "not settled in USDT",
        "BTCUSDT_261225": "dated future",
        "BTCUSD_PERP": "inverse contract",
        "OLDUSDT": "not trading",
    }


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
@pytest.mark.parametrize("body", [b"", b"[]", b'{"code":"50011","msg":"slow down"}', b'{"retCode":10006,"result":{}}'])
def test_an_error_is_no_list(venue: Venue, body: bytes) -> None:
    with pytest.raises(Malformed):
        ADAPTERS[venue].parse_listing(body)


TABLE = InstrumentTable(
    [Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 0), Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.01, "BTC", 1)]
)


@pytest.mark.finding("X5")
@pytest.mark.parametrize(
    "name", ["BTCDOMUSDT", "PUMPBTCUSDT", "BTCUSDT2", "1000BTCUSDT", "btcusdt", "BTCUSD", "BTC", "BTCUSDT "]
)
def test_another_coin_whose_name_holds_a_configured_one_never_counts_as_it(name: str) -> None:
    order = {"s": name, "S": "SELL", "q": "1", "p": "2", "ap": "2", "X": "FILLED", "z": "1", "T": 1790000000000}
    raw = json.dumps({"stream": "!forceOrder@arr", "data": {"e": "forceOrder", "o": order}}).encode()
    (fact,) = ADAPTERS[Venue.BINANCE].session(TABLE).parse(raw, 1)
    assert isinstance(fact, Ignored)
    assert fact.instrument == name
    assert TABLE.find(Venue.BINANCE, name) is None


@pytest.mark.finding("X5")
def test_the_same_name_at_another_venue_is_another_contract() -> None:
    assert TABLE.find(Venue.BYBIT, "BTCUSDT") is None
    assert TABLE.of(Venue.BYBIT)["BTCUSDT"] is None


@pytest.mark.finding("L10")
@pytest.mark.finding("X9")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ETH-USDT-SWAP", "unknown instrument"),
        ("BTC-USD-SWAP", "inverse contract"),
        ("BTC-USDC-SWAP", "not settled in USDT"),
        ("BTC-USDT-261225", "dated future"),
        ("BTC-USDT", "not a perpetual contract"),
    ],
)
def test_an_okx_contract_outside_the_table_is_ignored_with_its_name_on_every_channel(name: str, why: str) -> None:
    rows = {
        "trades": {"instId": name, "tradeId": "1", "px": "5", "sz": "2", "side": "buy", "ts": "1790000000000"},
        "liquidation-orders": {
            "instId": name,
            "details": [{"side": "buy", "posSide": "short", "bkPx": "5", "sz": "2", "ts": "1790000000000"}],
        },
        "open-interest": {"instId": name, "oi": "5", "oiCcy": "5", "ts": "1790000000000"},
        "mark-price": {"instId": name, "markPx": "5", "ts": "1790000000000"},
        "funding-rate": {"instId": name, "fundingRate": "0.0001", "ts": "1790000000000"},
    }
    session = ADAPTERS[Venue.OKX].session(TABLE)
    for channel, row in rows.items():
        facts = session.parse(json.dumps({"arg": {"channel": channel, "instId": name}, "data": [row]}).encode(), 1)
        assert list(facts) == [Ignored(why, name)], channel


def test_a_session_uses_a_new_table_at_once() -> None:
    session = ADAPTERS[Venue.OKX].session(TABLE)
    raw = json.dumps(
        {
            "arg": {"channel": "trades", "instId": "ETH-USDT-SWAP"},
            "data": [
                {"instId": "ETH-USDT-SWAP", "tradeId": "1", "px": "5", "sz": "2", "side": "buy", "ts": "1790000000000"}
            ],
        }
    ).encode()
    assert isinstance(session.parse(raw, 1)[0], Ignored)
    session.use(InstrumentTable([Instrument(Venue.OKX, "ETH-USDT-SWAP", 0.1, "ETH", 4)]))
    (fact,) = session.parse(raw, 1)
    assert isinstance(fact, Event)
    assert (fact.kind, fact.quantity, fact.instrument) == (Kind.TRADE, 0.2, 4)


def test_names_that_are_not_in_the_table_are_not_remembered() -> None:
    contracts = TABLE.of(Venue.BINANCE)
    for i in range(1000):
        assert contracts[f"X{i}USDT"] is None
    assert contracts["BTCUSDT"] is not None
    assert len(contracts) == 1

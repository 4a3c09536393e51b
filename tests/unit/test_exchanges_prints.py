"""Plain trades come packed: the same facts as events, and only where nothing about the frame is unusual."""

import json
from typing import Any

import numpy as np
import pytest

from liqmap.domain.enums import TakerSide, Venue
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Ignored, Malformed
from liqmap.exchanges.facts import trade
from liqmap.exchanges.prints import events_of, path_of
from liqmap.exchanges.registry import ADAPTERS

BINANCE = Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 5)
BYBIT = Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", 6)
OKX = Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.01, "BTC", 7)
OTHER = Instrument(Venue.BYBIT, "ETHUSDT", 1.0, "ETH", 8)
TABLE = InstrumentTable([BINANCE, BYBIT, OKX, OTHER])
T = 1_790_000_000_000


def binance(**change: Any) -> dict[str, Any]:
    data = {"e": "aggTrade", "E": T, "a": 42, "s": "BTCUSDT", "p": "60000.5", "q": "0.016", "T": T, "m": True}
    return {"stream": "btcusdt@aggTrade", "data": data | change}


def bybit(*changes: dict[str, Any]) -> dict[str, Any]:
    row = {"T": T, "s": "BTCUSDT", "S": "Sell", "v": "0.004", "p": "65114.20", "BT": False}
    return {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": T, "data": [row | change for change in changes]}


def okx(*changes: dict[str, Any]) -> dict[str, Any]:
    row = {"instId": "BTC-USDT-SWAP", "tradeId": "77", "px": "43390.7", "sz": "3", "side": "buy", "ts": str(T)}
    return {"arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"}, "data": [row | change for change in changes]}


def read(venue: Venue, frame: dict[str, Any], table: InstrumentTable = TABLE) -> Any:
    return ADAPTERS[venue].session(table).read(json.dumps(frame, separators=(",", ":")).encode(), 99)


BUY, SELL = TakerSide.BUY, TakerSide.SELL
PLAIN = [
    (Venue.BINANCE, binance(), [trade(BINANCE, 99, T, 60000.5, 0.016, SELL, 42)]),
    (Venue.BINANCE, binance(m=False), [trade(BINANCE, 99, T, 60000.5, 0.016, BUY, 42)]),
    (
        Venue.BYBIT,
        bybit({}, {"S": "Buy", "v": "2"}),
        [trade(BYBIT, 99, T, 65114.2, 0.004, SELL, -1), trade(BYBIT, 99, T, 65114.2, 2.0, BUY, -1)],
    ),
    (
        Venue.OKX,
        okx({}, {"side": "sell", "tradeId": "78"}),
        [trade(OKX, 99, T, 43390.7, 3, BUY, 77), trade(OKX, 99, T, 43390.7, 3, SELL, 78)],
    ),
]


@pytest.mark.parametrize(("venue", "frame", "events"), PLAIN)
def test_plain_prints_are_the_same_events_packed(venue: Venue, frame: dict[str, Any], events: list[Event]) -> None:
    said = read(venue, frame)
    assert said == b"".join(event.packed(0) for event in events)
    assert [event.packed(0) for event in events_of(said)] == [event.packed(0) for event in events]
    first = np.frombuffer(said, EVENT_DTYPE)[0]
    assert int.from_bytes(path_of(said), "little") == int(first["instrument"]) << 16 | int(first["topic"])


UNUSUAL = [
    (Venue.BINANCE, binance(s="ETHUSDT")),
    (Venue.BINANCE, binance(st=2)),
    (Venue.BYBIT, bybit({}, {"BT": True})),
    (Venue.BYBIT, bybit({}, {"s": "ETHUSDT"})),
    (Venue.BYBIT, bybit({"s": "XUSDT"})),
    (Venue.BYBIT, bybit()),
    (Venue.OKX, okx()),
    (Venue.OKX, okx({"instId": "ETH-USDT-SWAP"})),
]


@pytest.mark.parametrize(("venue", "frame"), UNUSUAL)
def test_what_is_unusual_about_a_frame_is_told_fact_by_fact(venue: Venue, frame: dict[str, Any]) -> None:
    said = read(venue, frame)
    assert not isinstance(said, bytes)
    assert said
    assert all(isinstance(fact, Event | Ignored) for fact in said)


ABSURD = [
    (Venue.BINANCE, binance(q="200000"), "data.q"),
    (Venue.BYBIT, bybit({}, {"v": "1000000"}), "data.1.v"),
    (Venue.OKX, okx({"sz": "1000000000"}), "data.0.sz"),
]


@pytest.mark.parametrize(("venue", "frame", "field"), ABSURD)
def test_one_absurd_row_costs_its_frame_and_is_named(venue: Venue, frame: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(venue, frame)
    assert caught.value.field == field


def test_a_contract_that_no_record_can_number_is_told_as_events() -> None:
    table = InstrumentTable([Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 70_000)])
    (event,) = read(Venue.BINANCE, binance(), table)
    assert event.instrument == 70_000


def test_a_contract_that_changes_its_size_is_counted_anew() -> None:
    session = ADAPTERS[Venue.OKX].session(TABLE)
    raw = json.dumps(okx({}), separators=(",", ":")).encode()
    assert events_of(session.read(raw, 1))[0].quantity == pytest.approx(0.03)  # type: ignore[arg-type]
    session.use(InstrumentTable([Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.1, "BTC", 7)]))
    assert events_of(session.read(raw, 1))[0].quantity == pytest.approx(0.3)  # type: ignore[arg-type]

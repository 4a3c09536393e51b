"""Links of trades read them in runs: packed, the same facts as events, and only while nothing unusual comes."""

import json
from typing import Any

import pytest

from liqmap.domain.enums import TakerSide, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Ignored, Malformed
from liqmap.exchanges.facts import trade
from liqmap.exchanges.prints import Prints, event_of
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


def raw(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode()


def run(venue: Venue, *frames: bytes, table: InstrumentTable = TABLE) -> tuple[bytes | None, Prints, list[bytes]]:
    """What ended the run, what was told until then, and what was not looked at."""
    told, left = Prints(list), iter(frames)
    return ADAPTERS[venue].session(table).tape(left, 99, told), told, list(left)


BUY, SELL = TakerSide.BUY, TakerSide.SELL
PLAIN = [
    (Venue.BINANCE, binance(), [trade(BINANCE, 99, T, 60000.5, 0.016, SELL, 42)]),
    (Venue.BINANCE, binance(e="trade", t=43, X="MARKET"), [trade(BINANCE, 99, T, 60000.5, 0.016, SELL, 43)]),
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
    ended, told, left = run(venue, raw(frame), raw(frame))
    assert (ended, left) == (None, [])
    assert told == {events[0].instrument: [event.packed(0) for event in (*events, *events)]}
    assert [event_of(record).packed(0) for record in told[events[0].instrument]] == told[events[0].instrument]
    apart = ADAPTERS[venue].session(TABLE).parse(raw(frame), 99)
    assert [fact.packed(0) for fact in apart if isinstance(fact, Event)] == [event.packed(0) for event in events]


def test_prints_of_several_contracts_are_told_apart_each_in_its_order() -> None:
    other = raw(bybit({"s": "ETHUSDT", "p": "3000"}, {"s": "ETHUSDT", "p": "3001"}))
    _, told, _ = run(Venue.BYBIT, raw(bybit({"p": "1"})), other, raw(bybit({"p": "2"})))
    assert {number: [event_of(one).price for one in told[number]] for number in told} == {6: [1, 2], 8: [3000, 3001]}


UNUSUAL = [
    (Venue.BINANCE, binance(s="ETHUSDT")),
    (Venue.BINANCE, binance(st=2)),
    (Venue.BINANCE, binance(e="trade", t=5, X="INSURANCE_FUND")),
    (Venue.BYBIT, bybit({}, {"BT": True})),
    (Venue.BYBIT, bybit({}, {"s": "ETHUSDT"})),
    (Venue.BYBIT, bybit({"s": "XUSDT"})),
    (Venue.BYBIT, bybit()),
    (Venue.OKX, okx()),
    (Venue.OKX, okx({"instId": "ETH-USDT-SWAP"})),
]


@pytest.mark.parametrize(("venue", "frame"), UNUSUAL)
def test_an_unusual_frame_ends_the_run_and_is_told_fact_by_fact(venue: Venue, frame: dict[str, Any]) -> None:
    plain = raw(next(frame for known, frame, _ in PLAIN if known is venue))
    ended, told, left = run(venue, plain, raw(frame), plain)
    assert (ended, left) == (raw(frame), [plain])
    assert sum(map(len, told.values())) == len(next(events for known, _, events in PLAIN if known is venue))
    facts = ADAPTERS[venue].session(TABLE).parse(raw(frame), 99)
    assert facts
    assert all(isinstance(fact, Event | Ignored) for fact in facts)


NO_PRINTS = [b"", b"pong", b"{", b"null", b"[]", b"\xff\xfe", b'{"stream":1,"data":{}}', '{"x":"\u00e9"}'.encode()]


@pytest.mark.parametrize("venue", ADAPTERS)
@pytest.mark.parametrize("frame", NO_PRINTS)
def test_whatever_is_no_print_ends_the_run_and_raises_nothing(venue: Venue, frame: bytes) -> None:
    assert run(venue, frame) == (frame, {}, [])


ABSURD = [
    (Venue.BINANCE, binance(q="200000"), "data.q"),
    (Venue.BYBIT, bybit({}, {"v": "1000000"}), "data.1.v"),
    (Venue.OKX, okx({"sz": "1000000000"}), "data.0.sz"),
]


@pytest.mark.parametrize(("venue", "frame", "field"), ABSURD)
def test_one_absurd_row_costs_its_frame_and_is_named(venue: Venue, frame: dict[str, Any], field: str) -> None:
    assert run(venue, raw(frame)) == (raw(frame), {}, [])
    with pytest.raises(Malformed) as caught:
        ADAPTERS[venue].session(TABLE).parse(raw(frame), 99)
    assert caught.value.field == field


def test_a_contract_that_no_record_can_number_is_told_as_events() -> None:
    table = InstrumentTable([Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 70_000)])
    assert run(Venue.BINANCE, raw(binance()), table=table) == (raw(binance()), {}, [])


def test_a_contract_that_changes_its_size_is_counted_anew() -> None:
    session, quantities = ADAPTERS[Venue.OKX].session(TABLE), []
    for size in (0.01, 0.1):
        session.use(InstrumentTable([Instrument(Venue.OKX, "BTC-USDT-SWAP", size, "BTC", 7)]))
        told = Prints(list)
        session.tape(iter([raw(okx({}))]), 1, told)
        quantities.append(event_of(told[7][0]).quantity)
    assert quantities == pytest.approx([0.03, 0.3])

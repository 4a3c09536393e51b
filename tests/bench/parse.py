"""Parsing frames: what it costs over decoding them alone (msgspec, typed, the same fields), and frames per second.

The frames are our own, in the venues' shapes. Bytes of an event are included where the row says so.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from liqmap.domain.enums import Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.binance.frames import Wrapped
from liqmap.exchanges.bybit.frames import Frame as BybitFrame
from liqmap.exchanges.bybit.frames import LiquidationRow, Ticker
from liqmap.exchanges.bybit.frames import TradeRow as BybitTrade
from liqmap.exchanges.okx.rows import Frame as OkxFrame
from liqmap.exchanges.okx.rows import TradeRow as OkxTrade
from liqmap.exchanges.registry import ADAPTERS
from tests.bench.table import Row, seconds_each

MUST_RATIO = 2.0
TRADES_RATIO = 3.0
"""One trade in a frame of its own: an event costs about as much to make as to decode."""
OTHER_RATIO = 4.0
"""Rarer frames, of which some make several events or merge into a state."""
MUST_FRAMES = 40_000
TABLE = InstrumentTable(
    [
        Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 0),
        Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", 1),
        Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.01, "BTC", 2),
    ]
)
T = 1790000000000


def _raw(frame: Any) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode()


AGG_TRADE = _raw(
    {
        "stream": "btcusdt@aggTrade",
        "data": {"e": "aggTrade", "E": T, "a": 3478018549, "s": "BTCUSDT", "p": "83434.40", "q": "0.016", "nq": "0.016"}
        | {"f": 8154045700, "l": 8154045704, "T": T, "m": True, "st": 1},
    }
)
TRADE = _raw(
    {
        "stream": "btcusdt@trade",
        "data": {"e": "trade", "E": T, "T": T, "s": "BTCUSDT", "t": 526, "p": "61800.30", "q": "0.006", "X": "MARKET"}
        | {"m": False},
    }
)
DEPTH = _raw(
    {
        "stream": "btcusdt@depth@100ms",
        "data": {"e": "depthUpdate", "E": T, "T": T, "s": "BTCUSDT", "U": 10, "u": 90, "pu": 9}
        | {side: [[f"{83000 + i / 10:.2f}", f"{i / 1000:.3f}"] for i in range(50)] for side in "ba"},
    }
)


def _bybit_trades(count: int) -> bytes:
    row = {"T": T, "s": "BTCUSDT", "S": "Sell", "v": "0.004", "p": "65114.20", "L": "MinusTick", "BT": False}
    rows = [{**row, "i": "a9188a0a-82bc-50de-be60-03eedbe3cdd7", "RPI": False, "seq": 753843954913}] * count
    return _raw({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": T, "data": rows})


OKX_TRADE = _raw(
    {
        "arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"},
        "data": [
            {"instId": "BTC-USDT-SWAP", "tradeId": "732718382", "px": "43390.7", "sz": "3", "side": "sell"}
            | {"ts": str(T), "count": "1", "source": "0", "seqId": 12}
        ],
    }
)
BYBIT_TICKER = _raw(
    {
        "topic": "tickers.BTCUSDT",
        "type": "delta",
        "data": {"symbol": "BTCUSDT", "markPrice": "65117.44", "bid1Price": "65114.20", "bid1Size": "6.054"},
        "cs": 753843907770,
        "ts": T,
    }
)
BYBIT_LIQUIDATIONS = _raw(
    {
        "topic": "allLiquidation.BTCUSDT",
        "type": "snapshot",
        "ts": T,
        "data": [{"T": T, "s": "BTCUSDT", "S": "Buy", "v": "0.15", "p": "64100.50"}] * 3,
    }
)

FRAMES: dict[str, tuple[Venue, bytes, Any]] = {
    "Binance aggTrade": (Venue.BINANCE, AGG_TRADE, Wrapped),
    "Binance trade": (Venue.BINANCE, TRADE, Wrapped),
    "Binance depth, 2 x 50": (Venue.BINANCE, DEPTH, Wrapped),
    "Bybit trades, 1": (Venue.BYBIT, _bybit_trades(1), BybitFrame[tuple[BybitTrade, ...]]),
    "Bybit trades, 10": (Venue.BYBIT, _bybit_trades(10), BybitFrame[tuple[BybitTrade, ...]]),
    "Bybit liquidations, 3": (Venue.BYBIT, BYBIT_LIQUIDATIONS, BybitFrame[tuple[LiquidationRow, ...]]),
    "Bybit ticker": (Venue.BYBIT, BYBIT_TICKER, BybitFrame[Ticker]),
    "OKX trade": (Venue.OKX, OKX_TRADE, OkxFrame[OkxTrade]),
}
MIX = {"Binance aggTrade": 40, "Bybit trades, 1": 15, "Bybit trades, 10": 5, "OKX trade": 20} | {
    "Bybit liquidations, 3": 5,
    "Bybit ticker": 15,
}
"""Frames of a cascade, in hundredths."""
TRADES = frozenset(name for name in FRAMES if "rade" in name)
BOOKS_PER_HUNDRED = 25
"""A depth stream at 100 ms beside each trade stream, as a share of the frames of a cascade."""


def rows(effort: float) -> Iterator[Row]:
    """The rows of parsing in the table."""
    spent = {name: _parse_and_decode(name, effort) for name in FRAMES}
    for name, (parse_s, decode_s) in spent.items():
        ratio = parse_s / decode_s
        must = TRADES_RATIO if name in TRADES else OTHER_RATIO
        today = f"{ratio:.2f}x  ({parse_s * 1e6:.2f} us of {decode_s * 1e6:.2f})"
        yield Row(f"parse {name}", "decode alone", f"≤ {must:g}x", today, ratio <= must)
    shares = {**MIX, "Binance depth, 2 x 50": BOOKS_PER_HUNDRED}
    parse_s, decode_s = (sum(share * spent[name][i] for name, share in shares.items()) for i in (0, 1))
    today = f"{parse_s / decode_s:.2f}x"
    yield Row(
        "parse a cascade with books", "decode alone", f"≤ {MUST_RATIO:g}x", today, parse_s <= MUST_RATIO * decode_s
    )
    yield _mixed(effort)


def _parse_and_decode(name: str, effort: float) -> tuple[float, float]:
    """Seconds per frame, parsed and decoded only, taken turn by turn so that a busy machine slows both alike."""
    venue, raw, wanted = FRAMES[name]
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(wanted, strict=False).decode
    parse = ADAPTERS[venue].session(TABLE).parse
    number = max(int(20_000 * effort), 50)
    turns = [
        (seconds_each(lambda: parse(raw, 1), number, 1), seconds_each(lambda: decode(raw), number, 1))
        for _ in "1234567"
    ]
    return min(turn[0] for turn in turns), min(turn[1] for turn in turns)


def _mixed(effort: float) -> Row:
    sessions = {venue: adapter.session(TABLE) for venue, adapter in ADAPTERS.items()}
    frames = [(sessions[FRAMES[name][0]].parse, FRAMES[name][1]) for name, share in MIX.items() for _ in range(share)]

    def run() -> None:
        for parse, raw in frames:
            for fact in parse(raw, 1):
                if isinstance(fact, Event):
                    fact.packed(1)

    each_s = seconds_each(run, max(int(200 * effort), 2)) / len(frames)
    rate = 1 / each_s
    return Row(
        "parse and pack, frames of a cascade",
        "",
        f"≥ {MUST_FRAMES:,}/s",
        f"{rate:,.0f}/s",
        rate >= MUST_FRAMES,
    )

"""A cascade as three venues print it: what a second of it holds, frame by frame, for BTC, ETH and SOL together.

The rates, and why. Trades: the recorded Binance tape of 2024-08-08 holds 62 raw prints a second in calm and 1,649 in
its wildest second, for BTC alone; aggTrade joins about three of them, and 600 a second for three symbols is a cascade
that lasts. Bybit tells 2.6 prints in a frame when it is calm (recorded 2026-08-09), more in a cascade. Depth comes by
the clock whatever happens (100 ms at all three): 30 a second and venue, 20 to 60 levels changed at once (recorded: 68
at Binance's fastest stream, 12 at Bybit's shallowest, 50 at OKX). Marks, tickers and liquidation batches at the
cadences of docs/exchanges.md; Binance's and OKX's liquidation streams bring every other coin's, too, and most of those
are ignored rows. So depth is a fifteenth of the frames, and well over a third of the bytes.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from liqmap.domain.enums import Venue

SYMBOLS = ("BTC", "ETH", "SOL")
WEIGHTS = (5, 3, 2)
PRICES = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}
NAMES = {
    symbol: {Venue.BINANCE: f"{symbol}USDT", Venue.BYBIT: f"{symbol}USDT", Venue.OKX: f"{symbol}-USDT-SWAP"}
    for symbol in SYMBOLS
}


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame: the link it comes by, and its bytes."""

    venue: Venue
    link: str
    raw: bytes

    @property
    def source(self) -> str:
        """The link's name."""
        return f"{self.venue.name.lower()}/{self.link}"


class Printer:
    """Makes frames; seeded, so that two runs differ in nothing but their times."""

    def __init__(self, seed: int = 7) -> None:
        self.random = random.Random(seed)
        self.ms = time.time_ns() // 1_000_000
        self.count = 0
        self.books: dict[tuple[Venue, str], int] = {}

    def symbol(self) -> str:
        """One of the symbols, the larger the more often."""
        return self.random.choices(SYMBOLS, WEIGHTS)[0]

    def price(self, symbol: str) -> str:
        """Near the symbol's price."""
        return f"{PRICES[symbol] * (1 + self.random.gauss(0, 1e-4)):.2f}"

    def size(self) -> str:
        """An amount of base coin, or of contracts."""
        return f"{self.random.expovariate(4.0) + 0.001:.3f}"

    def ladder(self, symbol: str, levels: int) -> tuple[list[list[str]], list[list[str]]]:
        """`levels` changed levels a side; one of five is removed."""
        middle, tick = PRICES[symbol], PRICES[symbol] / 600_000

        def side(sign: int) -> list[list[str]]:
            places = sorted(self.random.sample(range(1, 20 * levels), levels))
            return [[f"{middle + sign * at * tick:.4f}", "0" if at % 5 == 0 else self.size()] for at in places]

        return side(-1), side(1)

    def sequence(self, venue: Venue, symbol: str) -> tuple[int, int]:
        """The number before and the number now of that book."""
        before = self.books.get((venue, symbol), 1_000)
        self.books[venue, symbol] = before + 1
        return before, before + 1


def _agg_trade(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    p.count += 1
    data = {"e": "aggTrade", "E": p.ms, "a": p.count, "s": f"{symbol}USDT", "p": p.price(symbol), "q": p.size()}
    data |= {"nq": "0.153", "f": p.count, "l": p.count, "T": p.ms, "m": p.count % 3 > 0, "st": 1}
    return {"stream": f"{symbol.lower()}usdt@aggTrade", "data": data}


def _binance_mark(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    price = p.price(symbol)
    data = {"e": "markPriceUpdate", "E": p.ms, "s": f"{symbol}USDT", "p": price, "ap": price, "i": price, "P": price}
    return {"stream": f"{symbol.lower()}usdt@markPrice@1s", "data": data | {"r": "0.0001", "T": p.ms + 3_600_000}}


def _forced(p: Printer, name: str, price: str) -> dict[str, Any]:
    order = {"s": name, "S": "SELL", "o": "LIMIT", "f": "IOC", "q": p.size(), "p": price, "ap": price, "X": "FILLED"}
    data = {"e": "forceOrder", "E": p.ms, "o": order | {"l": "0.014", "z": p.size(), "T": p.ms}}
    return {"stream": "!forceOrder@arr", "data": data}


def _binance_ours(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    return _forced(p, f"{symbol}USDT", p.price(symbol))


def _binance_foreign(p: Printer) -> dict[str, Any]:
    return _forced(p, f"{p.random.choice('ABCDEFGH')}DOGEUSDT", "0.12")


def _binance_depth(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    before, now = p.sequence(Venue.BINANCE, symbol)
    bids, asks = p.ladder(symbol, p.random.randint(10, 30))
    data = {"e": "depthUpdate", "E": p.ms, "T": p.ms, "s": f"{symbol}USDT", "U": now, "u": now, "pu": before}
    return {"stream": f"{symbol.lower()}usdt@depth@100ms", "data": data | {"b": bids, "a": asks}}


def _bybit_trades(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    rows = []
    for _ in range(p.random.choice((1, 1, 2, 3, 8))):
        p.count += 1
        row = {"T": p.ms, "s": f"{symbol}USDT", "S": "Sell", "v": p.size(), "p": p.price(symbol), "L": "MinusTick"}
        rows.append(row | {"i": f"{p.count:032x}", "BT": False, "RPI": False, "seq": p.count})
    return {"topic": f"publicTrade.{symbol}USDT", "type": "snapshot", "ts": p.ms, "data": rows}


def _bybit_ticker(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    data = {"symbol": f"{symbol}USDT", "markPrice": p.price(symbol), "bid1Price": p.price(symbol), "bid1Size": "6.05"}
    data |= {"openInterest": "51234.5", "openInterestValue": "3.1e9"} if p.random.random() < 0.3 else {}
    p.count += 1
    return {"topic": f"tickers.{symbol}USDT", "type": "delta", "data": data, "cs": p.count, "ts": p.ms}


def _bybit_liquidations(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    rows = [
        {"T": p.ms, "s": f"{symbol}USDT", "S": "Buy", "v": p.size(), "p": p.price(symbol)}
        for _ in range(p.random.randint(1, 9))
    ]
    return {"topic": f"allLiquidation.{symbol}USDT", "type": "snapshot", "ts": p.ms, "data": rows}


def _bybit_depth(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    _, now = p.sequence(Venue.BYBIT, symbol)
    bids, asks = p.ladder(symbol, p.random.randint(10, 30))
    data = {"s": f"{symbol}USDT", "b": bids, "a": asks, "u": now, "seq": 10 * now}
    return {"topic": f"orderbook.1000.{symbol}USDT", "type": "delta", "ts": p.ms, "data": data, "cts": p.ms}


def _okx(p: Printer, channel: str, rows: Callable[[str], dict[str, Any]], **more: str) -> dict[str, Any]:
    symbol = p.symbol()
    name = f"{symbol}-USDT" if channel == "index-tickers" else f"{symbol}-USDT-SWAP"
    return {"arg": {"channel": channel, "instId": name}, **more, "data": [rows(symbol)]}


def _okx_trade(p: Printer) -> dict[str, Any]:
    p.count += 1

    def row(symbol: str) -> dict[str, Any]:
        told = {"instId": f"{symbol}-USDT-SWAP", "tradeId": str(p.count), "px": p.price(symbol), "sz": p.size()}
        return told | {"side": "sell", "ts": str(p.ms), "count": "1", "source": "0", "seqId": p.count}

    return _okx(p, "trades", row)


def _okx_mark(p: Printer) -> dict[str, Any]:
    return _okx(
        p,
        "mark-price",
        lambda s: {"instType": "SWAP", "instId": f"{s}-USDT-SWAP", "markPx": p.price(s), "ts": str(p.ms)},
    )


def _okx_index(p: Printer) -> dict[str, Any]:
    return _okx(
        p, "index-tickers", lambda s: {"instId": f"{s}-USDT", "idxPx": p.price(s), "high24h": "1", "ts": str(p.ms)}
    )


def _okx_interest(p: Printer) -> dict[str, Any]:
    def row(symbol: str) -> dict[str, Any]:
        told = {"instType": "SWAP", "instId": f"{symbol}-USDT-SWAP", "oi": "2500000", "ts": str(p.ms)}
        return told | {"oiCcy": {"BTC": "25000", "ETH": "250000", "SOL": "2500000"}[symbol]}

    return _okx(p, "open-interest", row)


def _okx_forced(p: Printer, name: str, price: str, count: int) -> dict[str, Any]:
    details = []
    for _ in range(count):
        p.count += 1
        detail = {"side": "sell", "posSide": "long", "bkPx": price, "sz": p.size(), "bkLoss": "0", "ccy": ""}
        details.append(detail | {"ts": str(p.ms - p.count % 60_000)})
    row = {"instType": "SWAP", "instId": name, "instFamily": name[:-5], "uly": name[:-5], "details": details}
    return {"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": [row]}


def _okx_ours(p: Printer) -> dict[str, Any]:
    symbol = p.symbol()
    return _okx_forced(p, f"{symbol}-USDT-SWAP", p.price(symbol), p.random.randint(1, 6))


def _okx_foreign(p: Printer) -> dict[str, Any]:
    return _okx_forced(p, f"{p.random.choice('ABCDEFGH')}PEPE-USDT-SWAP", "0.12", 1)


def _okx_depth(p: Printer) -> dict[str, Any]:
    def row(symbol: str) -> dict[str, Any]:
        before, now = p.sequence(Venue.OKX, symbol)
        bids, asks = p.ladder(symbol, p.random.randint(10, 30))
        sides = {"asks": [[*one, "0", "3"] for one in asks], "bids": [[*one, "0", "3"] for one in bids]}
        return sides | {"ts": str(p.ms), "checksum": 0, "prevSeqId": before, "seqId": now}

    return _okx(p, "books", row, action="update")


def _pong(_p: Printer) -> bytes:
    return b"pong"


SECOND: dict[tuple[Venue, str, Callable[[Printer], Any]], int] = {
    (Venue.BINANCE, "trades", _agg_trade): 600,
    (Venue.BINANCE, "facts", _binance_mark): 3,
    (Venue.BINANCE, "facts", _binance_ours): 2,
    (Venue.BINANCE, "facts", _binance_foreign): 15,
    (Venue.BINANCE, "depth", _binance_depth): 30,
    (Venue.BYBIT, "trades", _bybit_trades): 250,
    (Venue.BYBIT, "facts", _bybit_ticker): 30,
    (Venue.BYBIT, "facts", _bybit_liquidations): 6,
    (Venue.BYBIT, "depth", _bybit_depth): 30,
    (Venue.OKX, "trades", _okx_trade): 300,
    (Venue.OKX, "facts", _okx_mark): 15,
    (Venue.OKX, "facts", _okx_index): 15,
    (Venue.OKX, "facts", _okx_interest): 1,
    (Venue.OKX, "facts", _okx_ours): 3,
    (Venue.OKX, "facts", _okx_foreign): 10,
    (Venue.OKX, "facts", _pong): 1,
    (Venue.OKX, "depth", _okx_depth): 30,
}
"""Frames in a second of a cascade."""


def cascade(count: int) -> list[Sent]:
    """`count` frames of it, well mixed."""
    return list(_frames(count))


def _frames(count: int) -> Iterator[Sent]:
    printer = Printer()
    kinds, rates = list(SECOND), list(SECOND.values())
    for venue, link, make in printer.random.choices(kinds, rates, k=count):
        frame = make(printer)
        yield Sent(venue, link, frame if isinstance(frame, bytes) else msgspec.json.encode(frame))

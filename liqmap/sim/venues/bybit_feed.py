"""Bybit V5 linear topics of a simulated market, as docs/exchanges.md describes them.

`S` of a liquidation is the side of the POSITION, `p` its bankruptcy price; `openInterest` counts both sides.
"""

import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.venues.bybit_books import BybitBooks
from liqmap.sim.venues.bybit_rest import BybitRest
from liqmap.sim.venues.clockwork import Every
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message, Reply
from liqmap.sim.venues.listings import Listing
from liqmap.sim.venues.market_feed import Liquidation, MarketFeed, Quote, Trade

POSITION_WORD = {PositionSide.LONG: "Buy", PositionSide.SHORT: "Sell"}
TAKER_WORD = {TakerSide.BUY: "Buy", TakerSide.SELL: "Sell"}
TRADES_PER_MESSAGE = 1024


class BybitFeed(MarketFeed):
    """One market's prints and states as Bybit topics."""

    venue = Venue.BYBIT

    def __init__(self, listings: Mapping[str, Listing], faults: Faults, seed: int) -> None:
        super().__init__(listings, faults, seed)
        self._sequence = 753_843_900_397
        self.recent_trades: dict[str, deque[dict[str, Any]]] = {symbol: deque(maxlen=1000) for symbol in self.quotes}
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._tickers: dict[str, dict[str, str]] = {}
        self._last_price: dict[str, float] = {}
        self._half_second = Every(500)
        self._tenth = Every(100)
        self.books: BybitBooks = BybitBooks(self)
        self._rest = BybitRest(self)

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """The snapshot that tickers and order books begin with."""
        kind, _, name = topic.rpartition(".")
        quote = self.quote_named(name)
        if quote is None:
            return
        if kind == "tickers":
            state = self._tickers.setdefault(name, self.ticker(quote))
            yield self._ticker_message(name, "snapshot", state, now_ms)
        elif kind.startswith("orderbook."):
            yield from self.books.on_subscribe(topic, now_ms)

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """REST answers from the same quotes."""
        return self._rest.answer(path, query, now_ms)

    # --- prints -------------------------------------------------------------------------------------------------

    def write_prints(
        self, quote: Quote, trades: list[Trade], liquidations: list[Liquidation], now_ms: int, out: list[Message]
    ) -> None:
        """Trades in one batch per step, liquidations kept for the next half second."""
        rows = [self._trade(quote, trade) for trade in trades]
        if rows and self.random.random() < 0.01:
            rows.append(self._block_trade(quote, rows[-1]["T"]))
        self.recent_trades[quote.listing.symbol].extend(rows)
        for start in range(0, len(rows), TRADES_PER_MESSAGE):
            batch = rows[start : start + TRADES_PER_MESSAGE]
            topic = f"publicTrade.{quote.listing.name}"
            body = {"topic": topic, "type": "snapshot", "ts": now_ms, "data": batch}
            out.append(Message(topic, orjson.dumps(body)))
        for liquidation in liquidations:
            self._waiting.setdefault(quote.listing.name, []).extend(self._forced(quote.listing, liquidation))

    def _trade(self, quote: Quote, trade: Trade) -> dict[str, Any]:
        listing = quote.listing
        before = self._last_price.get(listing.name, trade.price)
        self._last_price[listing.name] = trade.price
        direction = "PlusTick" if trade.price > before else "MinusTick" if trade.price < before else "ZeroPlusTick"
        return {
            "T": trade.ts_ms,
            "s": listing.name,
            "S": TAKER_WORD[TakerSide(trade.taker_side)],
            "v": listing.size(trade.qty_base),
            "p": listing.price(trade.price),
            "L": direction,
            "i": self._uuid(),
            "BT": False,
            "RPI": self.random.random() < 0.02,
            "seq": self.next_sequence(),
        }

    def _block_trade(self, quote: Quote, ts_ms: int) -> dict[str, Any]:
        """A negotiated trade, off the book and off the price: no taker flow, though it looks like a trade."""
        far = Trade(ts_ms, quote.last * self.random.choice((0.996, 1.004)), 2_000_000 / quote.last, TakerSide.BUY)
        before = self._last_price[quote.listing.name]
        row = self._trade(quote, far)
        self._last_price[quote.listing.name] = before
        return {**row, "BT": True, "RPI": False}

    def _forced(self, listing: Listing, liquidation: Liquidation) -> list[dict[str, Any]]:
        """One row, or two equal ones for a position closed in halves: equal rows are real (docs/exchanges.md)."""
        lots = listing.lots(liquidation.qty_base)
        halves = lots % 2 == 0 and self.random.random() < 0.05
        row = {
            "T": liquidation.ts_ms,
            "s": listing.name,
            "S": POSITION_WORD[PositionSide(liquidation.position_side)],
            "v": listing.of_lots(lots // 2 if halves else lots),
            "p": listing.price(liquidation.bankruptcy_price),
        }
        return [row, row] if halves else [row]

    def next_sequence(self) -> int:
        """Counts across topics, not by one."""
        self._sequence += self.random.randrange(1, 9)
        return self._sequence

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    # --- by the clock -------------------------------------------------------------------------------------------

    def write_states(self, now_ms: int, out: list[Message]) -> None:
        """Liquidations each half second, ticker deltas each tenth."""
        if self._half_second.due(now_ms):
            for name, rows in self._waiting.items():
                body = {"topic": f"allLiquidation.{name}", "type": "snapshot", "ts": now_ms, "data": rows}
                out.append(Message(f"allLiquidation.{name}", orjson.dumps(body)))
            self._waiting.clear()
        if self._tenth.due(now_ms):
            for quote in self.live_quotes():
                self._write_ticker(quote, now_ms, out)

    def _write_ticker(self, quote: Quote, now_ms: int, out: list[Message]) -> None:
        name = quote.listing.name
        now = self.ticker(quote)
        before = self._tickers.get(name)
        self._tickers[name] = now
        if before is None:
            return
        changed = {key: value for key, value in now.items() if before.get(key) != value}
        if changed:
            out.append(self._ticker_message(name, "delta", {"symbol": name, **changed}, now_ms))

    def _ticker_message(self, name: str, kind: str, data: dict[str, str], now_ms: int) -> Message:
        """The order of keys is not promised, so it is shuffled."""
        keys = list(data)
        self.random.shuffle(keys)
        head = [("topic", f"tickers.{name}"), ("type", kind), ("cs", self.next_sequence()), ("ts", now_ms)]
        head.append(("data", {key: data[key] for key in keys}))
        self.random.shuffle(head)
        return Message(f"tickers.{name}", orjson.dumps(dict(head)))

    def ticker(self, quote: Quote) -> dict[str, str]:
        """The full state of a ticker. Open interest is absent while the venue's own source fails."""
        listing, book = quote.listing, quote.book
        (bid, bid_size), (ask, ask_size) = book.best(book.bids), book.best(book.asks)
        state = {
            "symbol": listing.name,
            "lastPrice": listing.price(quote.last),
            "markPrice": f"{quote.mark:.{listing.price_decimals}f}",
            "indexPrice": f"{quote.index:.{listing.price_decimals}f}",
            "fundingRate": f"{quote.funding_rate:.8f}".rstrip("0").rstrip("."),
            "nextFundingTime": str(quote.next_funding_ms),
            "fundingIntervalHour": "8",
            "fundingCap": "0.005",
            "bid1Price": bid,
            "bid1Size": bid_size,
            "ask1Price": ask,
            "ask1Size": ask_size,
            "preOpenPrice": "",
            "preQty": "",
            "curPreListingPhase": "",
        }
        if self.faults.open_interest != "failing":
            one_side = round(quote.served_open_interest_base / listing.lot)
            value = one_side * listing.lot * quote.mark
            state["singleOpenInterest"] = listing.of_lots(one_side)
            state["singleOpenInterestValue"] = f"{value:.2f}"
            state["openInterest"] = listing.of_lots(2 * one_side)
            state["openInterestValue"] = f"{2 * value:.2f}"
        return state

"""Binance USD-M streams of a simulated market, as docs/exchanges.md describes them.

The side of a forced order is that of the closing order (SELL: a long was liquidated), and at most one per symbol and
1000 ms is shown: the largest of that second by the copy of May 2026, the rest is lost for ever.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.venues.binance_books import BinanceBooks
from liqmap.sim.venues.binance_rest import BinanceRest
from liqmap.sim.venues.clockwork import Every
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message, Reply
from liqmap.sim.venues.listings import Foreign, Listing
from liqmap.sim.venues.market_feed import Liquidation, MarketFeed, Quote, Trade

AGGREGATION_MS = 100
ORDER_SIDE = {PositionSide.LONG: "SELL", PositionSide.SHORT: "BUY"}


class BinanceFeed(MarketFeed):
    """One market's prints and states as Binance streams; topics are stream names."""

    venue = Venue.BINANCE

    def __init__(self, listings: Mapping[str, Listing], faults: Faults, seed: int) -> None:
        super().__init__(listings, faults, seed)
        self._trade_id = dict.fromkeys(self.quotes, 8_154_045_700)
        self._aggregate_id = dict.fromkeys(self.quotes, 3_478_018_549)
        self.recent_aggregates: dict[str, deque[dict[str, Any]]] = {
            symbol: deque(maxlen=1000) for symbol in self.quotes
        }
        self._largest: dict[str, Liquidation] = {}
        self._mark_1s = Every(1000)
        self._mark_3s = Every(3000)
        self._second = Every(1000)
        self.books: BinanceBooks = BinanceBooks(self)
        self._rest = BinanceRest(self)

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """Nothing: these streams have no snapshots."""
        return self.books.on_subscribe(topic, now_ms)

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """REST answers from the same quotes."""
        return self._rest.answer(path, query, now_ms)

    # --- prints -------------------------------------------------------------------------------------------------

    def write_prints(
        self, quote: Quote, trades: list[Trade], liquidations: list[Liquidation], now_ms: int, out: list[Message]
    ) -> None:
        """Trades, singly and aggregated; of the liquidations the largest is kept for the end of the second."""
        stream = quote.listing.name.lower()
        for group in _aggregates(quote.listing, trades):
            self._write_group(quote, stream, group, now_ms, out)
        for liquidation in liquidations:
            kept = self._largest.get(quote.listing.symbol)
            if kept is None or liquidation.qty_base > kept.qty_base:
                self._largest[quote.listing.symbol] = liquidation

    def _write_group(self, quote: Quote, stream: str, group: list[Trade], now_ms: int, out: list[Message]) -> None:
        symbol, listing = quote.listing.symbol, quote.listing
        first_id = self._trade_id[symbol]
        maker_bought = group[0].taker_side == TakerSide.SELL
        price = listing.price(group[0].price)
        for offset, trade in enumerate(group):
            row = {
                "e": "trade",
                "E": now_ms,
                "T": trade.ts_ms,
                "s": listing.name,
                "t": first_id + offset,
                "p": price,
                "q": listing.size(trade.qty_base),
                "X": "MARKET",
                "m": maker_bought,
                "st": 1,
            }
            out.append(Message(f"{stream}@trade", orjson.dumps(row)))
        lots = sum(listing.lots(trade.qty_base) for trade in group)
        retail = self.random.random() < 0.02 and lots > 1
        self._trade_id[symbol] = first_id + len(group)
        self._aggregate_id[symbol] += 1
        aggregate = {
            "e": "aggTrade",
            "E": now_ms,
            "a": self._aggregate_id[symbol],
            "s": listing.name,
            "p": price,
            "q": listing.of_lots(lots),
            "nq": listing.of_lots(lots - 1 if retail else lots),
            "f": first_id,
            "l": first_id + len(group) - 1,
            "T": group[-1].ts_ms,
            "m": maker_bought,
            "st": 1,
        }
        out.append(Message(f"{stream}@aggTrade", orjson.dumps(aggregate)))
        self.recent_aggregates[symbol].append(
            {key: aggregate[key] for key in ("a", "p", "q", "nq", "f", "l", "T", "m")}
        )

    # --- by the clock -------------------------------------------------------------------------------------------

    def write_states(self, now_ms: int, out: list[Message]) -> None:
        """Mark prices each second (and each three), forced orders at the end of their second."""
        each_second, each_three = self._mark_1s.due(now_ms), self._mark_3s.due(now_ms)
        if each_second or each_three:
            rows = {quote.listing.name: self._mark(quote, now_ms) for quote in self.live_quotes()}
            crowd = [
                self._foreign_mark(foreign, now_ms) for foreign in self.listed_foreign() if _in_mark_array(foreign)
            ]
            shares = [
                self._foreign_mark(foreign, now_ms)
                for foreign in self.listed_foreign()
                if foreign.kind.startswith("TRADI")
            ]
            for suffix, due in (("@1s", each_second), ("", each_three)):
                if due:
                    self._write_marks(suffix, rows, crowd, shares, out)
        if self._second.due(now_ms):
            self._write_forced_orders(now_ms, out)

    @staticmethod
    def _write_marks(
        suffix: str,
        rows: dict[str, dict[str, Any]],
        crowd: list[dict[str, Any]],
        shares: list[dict[str, Any]],
        out: list[Message],
    ) -> None:
        for name, row in rows.items():
            out.append(Message(f"{name.lower()}@markPrice{suffix}", orjson.dumps(row)))
        out.append(Message(f"!markPrice@arr{suffix}", orjson.dumps([*rows.values(), *crowd])))
        out.append(Message(f"!markPrice@arr{suffix}", orjson.dumps(shares)))

    @staticmethod
    def _mark(quote: Quote, now_ms: int) -> dict[str, Any]:
        return {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": quote.listing.name,
            "p": f"{quote.mark:.8f}",
            "ap": f"{quote.mark_average:.8f}",
            "i": f"{quote.index:.8f}",
            "P": f"{quote.index:.8f}",
            "r": f"{quote.funding_rate:.8f}",
            "T": quote.next_funding_ms,
            "st": 1,
            "ps": quote.listing.name,
        }

    def _foreign_mark(self, foreign: Foreign, now_ms: int) -> dict[str, Any]:
        price = f"{self.foreign_price(foreign):.8f}"
        coin_margined = foreign.kind == "COIN-M"
        scheduled = foreign.kind == "PERPETUAL"
        return {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": foreign.name,
            "p": price,
            "ap": price,
            "i": price,
            "P": price,
            "r": "0.00010000" if scheduled else "",
            "T": now_ms - now_ms % 28_800_000 + 28_800_000 if scheduled else 0,
            "st": 2 if coin_margined else 1,
            "ps": foreign.name.removesuffix("_PERP"),
        }

    def _write_forced_orders(self, now_ms: int, out: list[Message]) -> None:
        for symbol, liquidation in self._largest.items():
            listing = self.quotes[symbol].listing
            lots = listing.lots(liquidation.qty_base)
            partial = self.random.random() < 0.04 and lots > 1
            filled = lots // 2 if partial else lots
            last = filled if self.random.random() < 0.6 else max(1, filled // 3)
            order = {
                "s": listing.name,
                "S": ORDER_SIDE[PositionSide(liquidation.position_side)],
                "o": "LIMIT",
                "f": "IOC",
                "q": listing.of_lots(lots),
                "p": listing.price(liquidation.bankruptcy_price),
                "ap": f"{liquidation.fill_price:.{listing.price_decimals + 3}f}",
                "X": "PARTIALLY_FILLED" if partial else "FILLED",
                "l": listing.of_lots(last),
                "z": listing.of_lots(filled),
                "T": liquidation.ts_ms,
                "ps": listing.name,
                "st": 1,
            }
            _add_forced_order(order, now_ms, out)
        self._largest.clear()
        if self.random.random() < 0.15:
            self._write_foreign_forced_order(now_ms, out)

    def _write_foreign_forced_order(self, now_ms: int, out: list[Message]) -> None:
        foreign = self.random.choice(self.listed_foreign())
        price = self.foreign_price(foreign)
        side = self.foreign_side()
        beyond = 0.99 if side is PositionSide.LONG else 1.01
        quantity = f"{self.random.uniform(1, 120):.{foreign.lot_decimals}f}"
        order = {
            "s": foreign.name,
            "S": ORDER_SIDE[side],
            "o": "LIMIT",
            "f": "IOC",
            "q": quantity,
            "p": f"{price * beyond:.{foreign.price_decimals}f}",
            "ap": f"{price:.{foreign.price_decimals}f}",
            "X": "FILLED",
            "l": quantity,
            "z": quantity,
            "T": now_ms - self.random.randrange(900),
            "ps": foreign.name.removesuffix("_PERP"),
            "st": 2 if foreign.kind == "COIN-M" else 1,
        }
        _add_forced_order(order, now_ms, out)


def _in_mark_array(foreign: Foreign) -> bool:
    return foreign.kind != "TRADIFI_PERPETUAL"


def _add_forced_order(order: dict[str, Any], now_ms: int, out: list[Message]) -> None:
    payload = orjson.dumps({"e": "forceOrder", "E": now_ms, "o": order})
    out.append(Message("!forceOrder@arr", payload))
    out.append(Message(f"{order['s'].lower()}@forceOrder", payload))


def _aggregates(listing: Listing, trades: list[Trade]) -> list[list[Trade]]:
    """Neighbouring trades of one price and taker side within 100 ms, as the venue joins them."""
    groups: list[list[Trade]] = []
    key: tuple[str, int, int] | None = None
    for trade in trades:
        this = (listing.price(trade.price), trade.taker_side, trade.ts_ms // AGGREGATION_MS)
        if this != key:
            groups.append([])
            key = this
        groups[-1].append(trade)
    return groups

"""OKX swap channels of a simulated market, as docs/exchanges.md describes them.

Quantities are contracts. Liquidations of every swap arrive in one channel, in no order of time, and a new subscriber
is first sent recent old rows. Topics here are `channel/instId`, or `channel/instType` for liquidations.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from liqmap.domain.enums import PositionSide, TakerSide, Venue
from liqmap.sim.venues.clockwork import Every
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message, Reply
from liqmap.sim.venues.listings import Foreign, Listing
from liqmap.sim.venues.market_feed import Liquidation, MarketFeed, Quote, Trade
from liqmap.sim.venues.okx_books import LEVELS, OkxBooks
from liqmap.sim.venues.okx_rest import OkxRest

CLOSING_SIDE = {PositionSide.LONG: "sell", PositionSide.SHORT: "buy"}
POSITION_WORD = {PositionSide.LONG: "long", PositionSide.SHORT: "short"}
TAKER_WORD = {TakerSide.BUY: "buy", TakerSide.SELL: "sell"}
LIQUIDATIONS = "liquidation-orders/SWAP"
REPLAYED_ROWS = 20
LISTED_ROWS = 5000


class OkxFeed(MarketFeed):
    """One market's prints and states as OKX pushes."""

    venue = Venue.OKX

    def __init__(self, listings: Mapping[str, Listing], faults: Faults, seed: int) -> None:
        super().__init__(listings, faults, seed)
        self._trade_id = dict.fromkeys(self.quotes, 732_718_382)
        self._sequence = 1_043_377
        self._recent: deque[dict[str, Any]] = deque(maxlen=REPLAYED_ROWS)
        self.recent_trades: dict[str, deque[dict[str, Any]]] = {symbol: deque(maxlen=500) for symbol in self.quotes}
        self.recent_liquidations: deque[dict[str, Any]] = deque(maxlen=LISTED_ROWS)
        self._sent: dict[str, str] = {}
        self._fifth = Every(200)
        self._tenth = Every(100)
        self._second = Every(1000)
        self._ten_seconds = Every(10_000)
        self._three_seconds = Every(3000)
        self._half_minute = Every(30_000)
        self.books: OkxBooks = OkxBooks(self)
        self._rest = OkxRest(self)

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """The present state of what has one; of liquidations a replay of recent rows, newest not last."""
        if topic == LIQUIDATIONS:
            while len(self._recent) < 3:
                self._recent.append(self._foreign_row(now_ms - self.random.randrange(60_000, 3_600_000)))
            rows = list(self._recent)
            self.random.shuffle(rows)
            yield _liquidation_message(rows)
            return
        channel, _, name = topic.partition("/")
        quote = self._quote_of(channel, name)
        if quote is None or not quote.live or quote.listing.name in self.faults.unlisted:
            return
        if channel in _STATES:
            row = self.state(channel, quote, now_ms)
            if row is not None:
                yield _push(channel, name, [row])
        elif channel in LEVELS:
            yield from self.books.on_subscribe(topic, now_ms)

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """REST answers from the same quotes."""
        return self._rest.answer(path, query, now_ms)

    # --- prints -------------------------------------------------------------------------------------------------

    def write_prints(
        self, quote: Quote, trades: list[Trade], liquidations: list[Liquidation], now_ms: int, out: list[Message]
    ) -> None:
        """Trades aggregated per taker order and price; liquidations at once, latest first."""
        listing = quote.listing
        for group in _fills(listing, trades):
            self._trade_id[listing.symbol] += len(group)
            self._sequence += 1
            row = {
                "instId": listing.name,
                "tradeId": str(self._trade_id[listing.symbol]),
                "px": listing.price(group[0].price),
                "sz": listing.of_lots(sum(listing.lots(trade.qty_base) for trade in group)),
                "side": TAKER_WORD[TakerSide(group[0].taker_side)],
                "ts": str(group[-1].ts_ms),
                "count": str(len(group)),
                "source": "0",
                "seqId": self._sequence,
            }
            self.recent_trades[listing.symbol].append(row)
            out.append(_push("trades", listing.name, [row]))
        if liquidations:
            row = _row(listing.name, [_detail(listing, liquidation) for liquidation in reversed(liquidations)])
            self._recent.append(row)
            self.recent_liquidations.append(row)
            out.append(_liquidation_message([row]))

    # --- by the clock -------------------------------------------------------------------------------------------

    def write_states(self, now_ms: int, out: list[Message]) -> None:
        """Marks on change each 200 ms, tickers and indices each 100 ms, open interest each 3 s, funding each 30 s."""
        due = {
            "mark-price": self._fifth.due(now_ms),
            "index-tickers": self._tenth.due(now_ms),
            "open-interest": self._three_seconds.due(now_ms),
            "funding-rate": self._half_minute.due(now_ms),
        }
        due["tickers"] = due["index-tickers"]
        unchanged_too = self._ten_seconds.due(now_ms)
        for channel, is_due in due.items():
            if is_due or (unchanged_too and channel == "mark-price"):
                self._write_channel(channel, unchanged_too or channel == "funding-rate", now_ms, out)
        if self._second.due(now_ms) and self.random.random() < 0.2:
            row = self._foreign_row(now_ms - self.random.randrange(1500))
            self._recent.append(row)
            self.recent_liquidations.append(row)
            out.append(_liquidation_message([row]))

    def _write_channel(self, channel: str, unchanged_too: bool, now_ms: int, out: list[Message]) -> None:
        for quote in self.live_quotes():
            row = self.state(channel, quote, now_ms)
            if row is None:
                continue
            name = index_name(quote.listing.name) if channel == "index-tickers" else quote.listing.name
            content = repr({key: value for key, value in row.items() if key != "ts"})
            if unchanged_too or self._sent.get(f"{channel}/{name}") != content:
                self._sent[f"{channel}/{name}"] = content
                out.append(_push(channel, name, [row]))

    def state(self, channel: str, quote: Quote, now_ms: int) -> dict[str, str] | None:
        """The row of a channel that has a state, None when the venue has nothing to say."""
        listing, ts = quote.listing, str(now_ms)
        head = {"instType": "SWAP", "instId": listing.name}
        if channel == "mark-price":
            return {**head, "markPx": _fine(quote.mark, listing), "ts": ts}
        if channel == "index-tickers":
            index = _fine(quote.index, listing)
            same = dict.fromkeys(("high24h", "low24h", "open24h", "sodUtc0", "sodUtc8"), index)
            return {"instId": index_name(listing.name), "idxPx": index, **same, "ts": ts}
        if channel == "open-interest":
            if self.faults.open_interest == "failing":
                return None
            return {**head, **open_interest(quote), "ts": str(quote.served_ms)}
        if channel == "funding-rate":
            return {**head, **_funding(quote), "ts": ts}
        book = quote.book
        (bid, bid_size), (ask, ask_size) = book.best(book.bids), book.best(book.asks)
        best = {"askPx": ask, "askSz": ask_size, "bidPx": bid, "bidSz": bid_size}
        return {**head, "last": listing.price(quote.last), "lastSz": listing.of_lots(1), **best, "ts": ts}

    def _quote_of(self, channel: str, name: str) -> Quote | None:
        if channel == "index-tickers":
            return next((quote for quote in self.quotes.values() if index_name(quote.listing.name) == name), None)
        return self.by_name.get(name)

    def _foreign_row(self, ts_ms: int) -> dict[str, Any]:
        foreign: Foreign = self.random.choice(self.listed_foreign())
        side = self.foreign_side()
        detail = {
            "bkLoss": "0",
            "bkPx": f"{self.foreign_price(foreign):.{foreign.price_decimals}f}",
            "ccy": "",
            "posSide": self.random.choice((POSITION_WORD[side], "net")),
            "side": CLOSING_SIDE[side],
            "sz": f"{self.random.uniform(1, 2000):.{foreign.lot_decimals}f}",
            "ts": str(ts_ms),
        }
        return _row(foreign.name, [detail])


_STATES = ("mark-price", "index-tickers", "open-interest", "funding-rate", "tickers")


def index_name(contract: str) -> str:
    """The index of a swap: BTC-USDT of BTC-USDT-SWAP."""
    return contract.removesuffix("-SWAP")


def open_interest(quote: Quote) -> dict[str, str]:
    """One-sided open interest in contracts, base coin and dollars."""
    listing = quote.listing
    lots = round(quote.served_open_interest_base / listing.contract_base / listing.lot)
    base = lots * listing.lot * listing.contract_base
    return {
        "oi": listing.of_lots(lots),
        "oiCcy": f"{base:.8f}".rstrip("0").rstrip("."),
        "oiUsd": f"{base * quote.mark:.4f}",
    }


def _funding(quote: Quote) -> dict[str, str]:
    return {
        "fundingRate": f"{quote.funding_rate:.16f}",
        "nextFundingRate": "",
        "fundingTime": str(quote.next_funding_ms),
        "nextFundingTime": str(quote.next_funding_ms + 28_800_000),
        "minFundingRate": "-0.00375",
        "maxFundingRate": "0.00375",
        "method": "current_period",
        "formulaType": "withRate",
        "settState": "settled",
        "settFundingRate": f"{quote.funding_rate:.16f}",
        "premium": "0.0001233824646391",
    }


def _fine(price: float, listing: Listing) -> str:
    return f"{price:.{listing.price_decimals + 1}f}".rstrip("0").rstrip(".")


def _detail(listing: Listing, liquidation: Liquidation) -> dict[str, str]:
    side = PositionSide(liquidation.position_side)
    return {
        "bkLoss": "0",
        "bkPx": listing.price(liquidation.bankruptcy_price),
        "ccy": "",
        "posSide": POSITION_WORD[side],
        "side": CLOSING_SIDE[side],
        "sz": listing.size(liquidation.qty_base),
        "ts": str(liquidation.ts_ms),
    }


def _row(name: str, details: list[dict[str, str]]) -> dict[str, Any]:
    family = index_name(name)
    return {"details": details, "instFamily": family, "instId": name, "instType": "SWAP", "uly": family}


def _liquidation_message(rows: list[dict[str, Any]]) -> Message:
    body = {"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": rows}
    return Message(LIQUIDATIONS, orjson.dumps(body))


def _push(channel: str, name: str, rows: list[dict[str, Any]], action: str | None = None) -> Message:
    body: dict[str, Any] = {"arg": {"channel": channel, "instId": name}}
    if action is not None:
        body["action"] = action
    return Message(f"{channel}/{name}", orjson.dumps({**body, "data": rows}))


def _fills(listing: Listing, trades: list[Trade]) -> list[list[Trade]]:
    """Neighbouring trades of one price, side and millisecond: the fills of one taker order (docs/exchanges.md)."""
    groups: list[list[Trade]] = []
    key: tuple[str, int, int] | None = None
    for trade in trades:
        this = (listing.price(trade.price), trade.taker_side, trade.ts_ms)
        if this != key:
            groups.append([])
            key = this
        groups[-1].append(trade)
    return groups

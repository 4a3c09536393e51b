"""Bybit V5 REST answers of a simulated market (docs/exchanges.md): refusals come with HTTP 200 and a retCode."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from liqmap.sim.venues.bybit_books import REST_LEVELS
from liqmap.sim.venues.feed import Reply, json_reply
from liqmap.sim.venues.market_feed import Quote

if TYPE_CHECKING:
    from liqmap.sim.venues.bybit_feed import BybitFeed


def envelope(result: object, now_ms: int, code: int = 0, text: str = "OK") -> Reply:
    """The shape of every V5 answer."""
    return json_reply({"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": now_ms})


def refused(code: int, text: str, now_ms: int) -> Reply:
    """An error, which is HTTP 200 all the same."""
    return envelope({}, now_ms, code, text)


class BybitRest:
    """Endpoints by path; they read the quotes of the feed that streams."""

    def __init__(self, feed: "BybitFeed") -> None:
        self._feed = feed
        self._endpoints: dict[str, Callable[[Mapping[str, str], int], Reply]] = {
            "/v5/market/time": _time,
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/tickers": self._tickers,
            "/v5/market/open-interest": self._open_interest,
            "/v5/market/orderbook": self._orderbook,
        }

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """The answer to a GET of `path`; None: there is no such endpoint."""
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            return None
        if path != "/v5/market/time" and query.get("category") != "linear":
            return refused(10001, "params error: Category is invalid", now_ms)
        return endpoint(query, now_ms)

    def _instruments(self, query: Mapping[str, str], now_ms: int) -> Reply:
        rows = [
            instrument_row(listing.name, "LinearPerpetual", listing.price_decimals, listing.tick, listing.lot)
            for listing in (quote.listing for quote in self._feed.quotes.values())
        ]
        rows += [
            instrument_row(
                foreign.name,
                foreign.kind,
                foreign.price_decimals,
                10.0**-foreign.price_decimals,
                10.0**-foreign.lot_decimals,
            )
            for foreign in self._feed.foreign
        ]
        rows.sort(key=lambda row: str(row["symbol"]))
        wanted = query.get("symbol")
        if wanted is not None:
            rows = [row for row in rows if row["symbol"] == wanted]
            if not rows:
                return refused(10001, "params error: symbol invalid", now_ms)
        limit, start = query.get("limit", "500"), query.get("cursor", "0") or "0"
        if not limit.isdigit() or not 1 <= int(limit) <= 1000 or not start.isdigit():
            return refused(10001, "params error: limit or cursor invalid", now_ms)
        end = int(start) + int(limit)
        cursor = str(end) if end < len(rows) else ""
        page = {"category": "linear", "list": rows[int(start) : end], "nextPageCursor": cursor}
        return envelope(page, now_ms)

    def _tickers(self, query: Mapping[str, str], now_ms: int) -> Reply:
        quotes = self._chosen(query)
        if not quotes:
            return refused(10001, "params error: symbol invalid", now_ms)
        if self._feed.faults.open_interest == "failing":
            return refused(10016, "Server error.", now_ms)
        return envelope({"category": "linear", "list": [self._feed.ticker(quote) for quote in quotes]}, now_ms)

    def _open_interest(self, query: Mapping[str, str], now_ms: int) -> Reply:
        quotes = self._chosen(query)
        if not quotes or "symbol" not in query:
            return refused(10001, "params error: symbol invalid", now_ms)
        if query.get("intervalTime") not in ("5min", "15min", "30min", "1h", "4h", "1d"):
            return refused(10001, "params error: intervalTime invalid", now_ms)
        if self._feed.faults.open_interest == "failing":
            return refused(10016, "Server error.", now_ms)
        listing = quotes[0].listing
        one_side = round(quotes[0].served_open_interest_base / listing.lot)
        row = {
            "openInterest": listing.of_lots(2 * one_side),
            "singleOpenInterest": listing.of_lots(one_side),
            "timestamp": str(now_ms - now_ms % 300_000),
        }
        page = {"category": "linear", "symbol": listing.name, "list": [row], "nextPageCursor": ""}
        return envelope(page, now_ms)

    def _orderbook(self, query: Mapping[str, str], now_ms: int) -> Reply:
        quotes = self._chosen(query)
        if not quotes or "symbol" not in query:
            return refused(10001, "params error: symbol invalid", now_ms)
        limit = query.get("limit", "25")
        if not limit.isdigit() or not 1 <= int(limit) <= REST_LEVELS:
            return refused(10001, "params error: limit invalid", now_ms)
        return envelope(self._feed.books.rest(quotes[0], int(limit), now_ms), now_ms)

    def _chosen(self, query: Mapping[str, str]) -> list[Quote]:
        wanted = query.get("symbol")
        return [quote for quote in self._feed.live_quotes() if wanted in (None, quote.listing.name)]


def _time(query: Mapping[str, str], now_ms: int) -> Reply:
    return envelope({"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}, now_ms)


def instrument_row(name: str, kind: str, price_decimals: int, tick: float, lot: float) -> dict[str, Any]:
    """One row of instruments-info. PERP rows are settled in USDC."""
    usdc = name.endswith("PERP")
    base = name.partition("-")[0].removesuffix("PERP").removesuffix("USDT")
    return {
        "symbol": name,
        "contractType": kind,
        "status": "Trading",
        "baseCoin": base,
        "quoteCoin": "USDC" if usdc else "USDT",
        "launchTime": "1584230400000",
        "deliveryTime": "0" if kind == "LinearPerpetual" else "1806048000000",
        "deliveryFeeRate": "",
        "priceScale": str(price_decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": f"{tick:.{price_decimals}f}", "tickSize": f"{tick:.{price_decimals}f}"},
        "lotSizeFilter": {"maxOrderQty": "1500", "minOrderQty": f"{lot:g}", "qtyStep": f"{lot:g}"},
        "unifiedMarginTrade": True,
        "fundingInterval": 480 if kind == "LinearPerpetual" else 0,
        "settleCoin": "USDC" if usdc else "USDT",
        "copyTrading": "both",
        "upperFundingRate": "0.005",
        "lowerFundingRate": "-0.005",
        "isPreListing": False,
        "preListingInfo": None,
    }

"""Bybit V5 REST answers of a simulated market (docs/exchanges.md): refusals come with HTTP 200 and a retCode."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from liqmap.sim.venues.bybit_books import REST_LEVELS
from liqmap.sim.venues.bybit_history import bybit_history, envelope, refused
from liqmap.sim.venues.feed import Reply
from liqmap.sim.venues.market_feed import Quote

if TYPE_CHECKING:
    from liqmap.sim.venues.bybit_feed import BybitFeed


class BybitRest:
    """Endpoints by path; they read the quotes of the feed that streams."""

    def __init__(self, feed: "BybitFeed") -> None:
        self._feed = feed
        self._endpoints: dict[str, Callable[[Mapping[str, str], int], Reply]] = {
            "/v5/market/time": _time,
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/tickers": self._tickers,
            "/v5/market/orderbook": self._orderbook,
            **bybit_history(feed),
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
            for listing in (quote.listing for quote in self._feed.listed_quotes())
        ]
        rows += [
            instrument_row(
                foreign.name,
                foreign.kind,
                foreign.price_decimals,
                10.0**-foreign.price_decimals,
                10.0**-foreign.lot_decimals,
            )
            for foreign in self._feed.listed_foreign()
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

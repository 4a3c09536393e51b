"""Binance USD-M REST answers of a simulated market (docs/exchanges.md)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from liqmap.sim.venues.binance_history import BAD_SYMBOL, OVERLOADED, binance_history, missing, not_valid, whole
from liqmap.sim.venues.feed import Reply, json_reply
from liqmap.sim.venues.market_feed import Quote

if TYPE_CHECKING:
    from liqmap.sim.venues.binance_feed import BinanceFeed


class BinanceRest:
    """Endpoints by path; they read the quotes of the feed that streams."""

    def __init__(self, feed: "BinanceFeed") -> None:
        self._feed = feed
        self._endpoints: dict[str, Callable[[Mapping[str, str], int], Reply]] = {
            "/fapi/v1/ping": lambda _query, _now_ms: json_reply({}),
            "/fapi/v1/time": lambda _query, now_ms: json_reply({"serverTime": now_ms}),
            "/fapi/v1/exchangeInfo": self._exchange_info,
            "/fapi/v1/premiumIndex": self._premium_index,
            "/fapi/v1/openInterest": self._open_interest,
            "/fapi/v1/depth": self._depth,
            "/fapi/v1/aggTrades": self._aggregates,
            **binance_history(feed, self._quote),
        }

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """The answer to a GET of `path`; None: there is no such endpoint."""
        endpoint = self._endpoints.get(path)
        return None if endpoint is None else endpoint(query, now_ms)

    def _open_interest(self, query: Mapping[str, str], now_ms: int) -> Reply:
        quote = self._quote(query)
        if isinstance(quote, Reply):
            return quote
        if self._feed.faults.open_interest == "failing":
            return json_reply(OVERLOADED, 503)
        value = quote.listing.of_lots(round(quote.served_open_interest_base / quote.listing.lot))
        return json_reply({"symbol": quote.listing.name, "openInterest": value, "time": quote.served_ms})

    def _premium_index(self, query: Mapping[str, str], now_ms: int) -> Reply:
        if "symbol" not in query:
            return json_reply([_premium(quote, now_ms) for quote in self._feed.live_quotes()])
        quote = self._quote(query)
        return quote if isinstance(quote, Reply) else json_reply(_premium(quote, now_ms))

    def _depth(self, query: Mapping[str, str], now_ms: int) -> Reply:
        quote = self._quote(query)
        if isinstance(quote, Reply):
            return quote
        limit = query.get("limit", "500")
        if limit not in ("5", "10", "20", "50", "100", "500", "1000"):
            return not_valid("limit")
        snapshot, book = self._feed.books.snapshot(quote, int(limit), now_ms), quote.book
        bids, asks = book.written(book.bids, snapshot.bids), book.written(book.asks, snapshot.asks)
        head = {"lastUpdateId": snapshot.last_id, "E": snapshot.at_ms, "T": snapshot.matched_ms}
        return json_reply({**head, "bids": bids, "asks": asks})

    def _aggregates(self, query: Mapping[str, str], now_ms: int) -> Reply:
        quote, limit = self._quote(query), whole(query, "limit", 500, 1000)
        if isinstance(quote, Reply):
            return quote
        if isinstance(limit, Reply):
            return limit
        rows = list(self._feed.recent_aggregates[quote.listing.symbol])
        if query.get("fromId", "").isdigit():
            return json_reply([row for row in rows if row["a"] >= int(query["fromId"])][:limit])
        return json_reply(rows[-limit:])

    def _quote(self, query: Mapping[str, str]) -> Quote | Reply:
        name = query.get("symbol")
        if not name:
            return missing("symbol")
        return self._feed.quote_named(name) or json_reply(BAD_SYMBOL, 400)

    def _exchange_info(self, query: Mapping[str, str], now_ms: int) -> Reply:
        rows = [
            _symbol_row(listing.name, "PERPETUAL", listing.price_decimals, listing.lot_decimals, listing.tick)
            for listing in (quote.listing for quote in self._feed.listed_quotes())
        ]
        rows += [
            _symbol_row(
                foreign.name, foreign.kind, foreign.price_decimals, foreign.lot_decimals, 10.0**-foreign.price_decimals
            )
            for foreign in self._feed.listed_foreign()
            if foreign.kind != "COIN-M"
        ]
        return json_reply(
            {
                "timezone": "UTC",
                "serverTime": now_ms,
                "futuresType": "U_MARGINED",
                "rateLimits": [
                    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}
                ],
                "exchangeFilters": [],
                "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
                "symbols": rows,
            }
        )


def _premium(quote: Quote, now_ms: int) -> dict[str, Any]:
    return {
        "symbol": quote.listing.name,
        "markPrice": f"{quote.mark:.8f}",
        "indexPrice": f"{quote.index:.8f}",
        "estimatedSettlePrice": f"{quote.index:.8f}",
        "lastFundingRate": f"{quote.funding_rate:.8f}",
        "interestRate": "0.00010000",
        "nextFundingTime": quote.next_funding_ms,
        "time": now_ms,
    }


def _symbol_row(name: str, kind: str, price_decimals: int, lot_decimals: int, tick: float) -> dict[str, Any]:
    pair = name.partition("_")[0]
    quote_asset = "USDC" if pair.endswith("USDC") else "USDT"
    return {
        "symbol": name,
        "pair": pair,
        "contractType": kind,
        "deliveryDate": 4_133_404_800_000 if "PERPETUAL" in kind else 1_806_047_999_000,
        "onboardDate": 1_569_398_400_000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": pair.removesuffix(quote_asset),
        "quoteAsset": quote_asset,
        "marginAsset": quote_asset,
        "pricePrecision": price_decimals,
        "quantityPrecision": lot_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "EQUITY" if kind.startswith("TRADI") else "COIN",
        "underlyingSubType": ["TradFi"] if kind.startswith("TRADI") else [],
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": f"{tick:.{price_decimals}f}"},
            {"filterType": "LOT_SIZE", "stepSize": f"{10.0**-lot_decimals:.{lot_decimals}f}"},
        ],
    }

"""OKX V5 REST answers of a simulated market (docs/exchanges.md): HTTP 200 with a `code` that is a string."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from liqmap.sim.venues.feed import Reply
from liqmap.sim.venues.market_feed import Quote
from liqmap.sim.venues.okx_books import REST_LEVELS
from liqmap.sim.venues.okx_history import okx_history, refused, rows_reply

if TYPE_CHECKING:
    from liqmap.sim.venues.okx_feed import OkxFeed


class OkxRest:
    """Endpoints by path; they read the quotes of the feed that streams."""

    def __init__(self, feed: "OkxFeed") -> None:
        self._feed = feed
        self._endpoints: dict[str, Callable[[Mapping[str, str], int], Reply]] = {
            "/api/v5/public/time": lambda _query, now_ms: rows_reply([{"ts": str(now_ms)}]),
            "/api/v5/public/instruments": self._instruments,
            "/api/v5/public/open-interest": self._open_interest,
            "/api/v5/public/mark-price": lambda query, now_ms: self._states("mark-price", query, now_ms),
            "/api/v5/public/funding-rate": lambda query, now_ms: self._states("funding-rate", query, now_ms),
            "/api/v5/market/books": self._book,
            **okx_history(feed),
            "/api/v5/market/tickers": lambda query, now_ms: self._states("tickers", query, now_ms),
        }

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """The answer to a GET of `path`; None: there is no such endpoint."""
        endpoint = self._endpoints.get(path)
        return None if endpoint is None else endpoint(query, now_ms)

    def _instruments(self, query: Mapping[str, str], now_ms: int) -> Reply:
        if query.get("instType") != "SWAP":
            return refused("51000", "Parameter instType error")
        rows = [
            instrument_row(
                quote.listing.name,
                "linear",
                f"{quote.listing.contract_base:g}",
                quote.listing.name.partition("-")[0],
                f"{quote.listing.tick:g}",
                f"{quote.listing.lot:g}",
            )
            for quote in self._feed.listed_quotes()
        ]
        for foreign in self._feed.listed_foreign():
            inverse = foreign.kind == "inverse"
            base = foreign.name.partition("-")[0]
            value = ("100" if base == "BTC" else "10") if inverse else _LINEAR_VALUES.get(foreign.name, "1")
            tick, lot = f"{10.0**-foreign.price_decimals:g}", f"{10.0**-foreign.lot_decimals:g}"
            rows.append(instrument_row(foreign.name, foreign.kind, value, "USD" if inverse else base, tick, lot))
        wanted = query.get("instId")
        if wanted is not None:
            rows = [row for row in rows if row["instId"] == wanted]
            if not rows:
                return refused("51001", f"Instrument ID, Instrument ID code, or Spread ID doesn't exist. {wanted}")
        return rows_reply(rows)

    def _open_interest(self, query: Mapping[str, str], now_ms: int) -> Reply:
        if self._feed.faults.open_interest == "failing":
            return refused("50013", "Systems are busy. Please try again later.")
        return self._states("open-interest", query, now_ms)

    def _book(self, query: Mapping[str, str], now_ms: int) -> Reply:
        quote, levels = self._feed.quote_named(query.get("instId")), query.get("sz", "1")
        if quote is None:
            return refused("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
        if not levels.isdigit() or not 1 <= int(levels) <= REST_LEVELS:
            return refused("51000", "Parameter sz error")
        return rows_reply([self._feed.books.rest(quote, int(levels), now_ms)])

    def _states(self, channel: str, query: Mapping[str, str], now_ms: int) -> Reply:
        quotes = self._chosen(channel, query)
        if isinstance(quotes, Reply):
            return quotes
        return rows_reply([self._feed.state(channel, quote, now_ms) for quote in quotes])

    def _chosen(self, channel: str, query: Mapping[str, str]) -> list[Quote] | Reply:
        if channel != "funding-rate" and query.get("instType") != "SWAP":
            return refused("50014", "Parameter instType can not be empty.")
        wanted = query.get("instId")
        live = self._feed.live_quotes()
        if wanted in (None, "ANY"):
            return live
        chosen = [quote for quote in live if quote.listing.name == wanted]
        return chosen or refused("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


_LINEAR_VALUES = {"BTC-USDC-SWAP": "0.0001", "DOGE-USDT-SWAP": "1000", "PEPE-USDT-SWAP": "10000000"}


def instrument_row(name: str, kind: str, value: str, value_coin: str, tick: str, lot: str) -> dict[str, str]:
    """One row of public/instruments."""
    family = name.removesuffix("-SWAP")
    return {
        "alias": "",
        "baseCcy": "",
        "category": "1",
        "ctMult": "1",
        "ctType": kind,
        "ctVal": value,
        "ctValCcy": value_coin,
        "expTime": "",
        "instFamily": family,
        "instId": name,
        "instType": "SWAP",
        "lever": "100",
        "listTime": "1611916828000",
        "lotSz": lot,
        "minSz": lot,
        "quoteCcy": "",
        "settleCcy": family.partition("-")[0] if kind == "inverse" else family.partition("-")[2],
        "state": "live",
        "stk": "",
        "tickSz": tick,
        "uly": family,
    }

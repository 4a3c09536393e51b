"""Binance's history endpoints: minute bars, positioning ratios, taker volume, open interest, basis, fundings
(docs/exchanges.md)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from liqmap.sim.tape import Positioning
from liqmap.sim.venues.feed import Reply, json_reply
from liqmap.sim.venues.history import FUNDING_MS, KEPT_MS, PERIODS_MS, PUBLISHED_AFTER_MS, Standing, Stretch, Volume
from liqmap.sim.venues.listings import Listing
from liqmap.sim.venues.minutes import MINUTE_MS, Bar

if TYPE_CHECKING:
    from liqmap.sim.venues.binance_feed import BinanceFeed
    from liqmap.sim.venues.market_feed import Quote

Endpoint = Callable[[Mapping[str, str], int], Reply]
FindQuote = Callable[[Mapping[str, str]], "Quote | Reply"]

BAD_SYMBOL: Final = {"code": -1121, "msg": "Invalid symbol."}
OVERLOADED: Final = {
    "code": -1008,
    "msg": "Server is currently overloaded with other requests. Please try again in a few minutes.",
}
BAD_INTERVAL: Final = {"code": -1120, "msg": "Invalid interval."}
_MOST_BARS: Final = 500
_MOST_MINUTES: Final = 1500
_USUAL_PRINT_BASE: Final = 0.05
_MOST_FUNDINGS: Final = 1000
_ADJUSTED: Final = {
    "symbol": "ILVUSDT",
    "adjustedFundingRateCap": "0.02500000",
    "adjustedFundingRateFloor": "-0.02500000",
    "fundingIntervalHours": 4,
    "disclaimer": False,
}
"""Only contracts whose interval or bounds were adjusted are listed: none of the simulated ones."""


def missing(parameter: str) -> Reply:
    """The answer when a mandatory parameter is absent."""
    text = f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed."
    return json_reply({"code": -1102, "msg": text}, 400)


def not_valid(parameter: str) -> Reply:
    """The answer to a parameter that cannot be."""
    return json_reply({"code": -1130, "msg": f"Data sent for parameter '{parameter}' is not valid."}, 400)


def whole(query: Mapping[str, str], name: str, default: int, most: int) -> int | Reply:
    """A count from 1 to `most`; more is as much as there is, anything else is refused."""
    text = query.get(name, str(default))
    return min(int(text), most) if text.isdigit() and int(text) else not_valid(name)


def binance_history(feed: "BinanceFeed", find: FindQuote) -> dict[str, Endpoint]:
    """The endpoints by path."""
    data = _Data(feed, find)
    paths: dict[str, Endpoint] = {
        "/fapi/v1/klines": data.minutes,
        "/fapi/v1/fundingRate": data.fundings,
        "/fapi/v1/fundingInfo": lambda _query, _now_ms: json_reply([_ADJUSTED]),
        "/futures/data/openInterestHist": data.open_interest,
        "/futures/data/takerlongshortRatio": data.takers,
        "/futures/data/basis": data.basis,
    }
    return paths | {f"/futures/data/{name}": data.ratio(share) for name, share in _SHARES.items()}


_SHARES: Final[Mapping[str, Callable[[Positioning], float]]] = {
    "globalLongShortAccountRatio": lambda held: held.accounts,
    "topLongShortAccountRatio": lambda held: held.top_accounts,
    "topLongShortPositionRatio": lambda held: held.top_positions,
}


@dataclass(frozen=True, slots=True)
class _Data:
    feed: "BinanceFeed"
    find: FindQuote

    def ratio(self, share: Callable[[Positioning], float]) -> Endpoint:
        """One of the three ratios; the one of positions re-uses the names of accounts."""

        def row(name: str, at_ms: int, state: Standing) -> dict[str, Any] | None:
            if state.positioning is None:
                return None
            long = round(share(state.positioning), 4)
            return {
                "symbol": name,
                "longAccount": f"{long:.4f}",
                "longShortRatio": f"{long / max(1.0 - long, 1e-4):.4f}",
                "shortAccount": f"{1.0 - long:.4f}",
                "timestamp": at_ms,
            }

        def answer(query: Mapping[str, str], now_ms: int) -> Reply:
            found = self._states(query, now_ms, "symbol")
            if isinstance(found, Reply):
                return found
            listing, states = found
            rows = (row(listing.name, at_ms, state) for at_ms, state in states)
            return json_reply([row for row in rows if row is not None])

        return answer

    def open_interest(self, query: Mapping[str, str], now_ms: int) -> Reply:
        """Base and dollars, one side."""
        found = self._states(query, now_ms, "symbol")
        if isinstance(found, Reply):
            return found
        if self.feed.faults.open_interest == "failing":
            return json_reply(OVERLOADED, 503)
        listing, states = found
        return json_reply([_open_interest(listing, at_ms, state) for at_ms, state in states])

    def minutes(self, query: Mapping[str, str], now_ms: int) -> Reply:
        """Bars of a minute, ascending, the open one among them; without a start the newest."""
        quote, limit = self.find(query), whole(query, "limit", 500, _MOST_MINUTES)
        if isinstance(quote, Reply):
            return quote
        if isinstance(limit, Reply):
            return limit
        if query.get("interval") != "1m":  # no other one is simulated
            return json_reply(BAD_INTERVAL, 400) if query.get("interval") else missing("interval")
        times = []
        for name, default in (("startTime", 0), ("endTime", now_ms)):
            text = query.get(name, str(default))
            if not text.isdigit():
                return not_valid(name)
            times.append(int(text))
        bars = quote.history.minutes.between(times[0], min(times[1], now_ms), limit, newest="startTime" not in query)
        return json_reply([_candle(bar, quote.listing) for bar in bars])

    def takers(self, query: Mapping[str, str], now_ms: int) -> Reply:
        """Volume by taker; no symbol in the rows."""
        quote, stretch = self.find(query), _asked(query, now_ms)
        if isinstance(quote, Reply):
            return quote
        if isinstance(stretch, Reply):
            return stretch
        return json_reply([_taker(volume, at_ms) for at_ms, volume in quote.history.volumes(stretch)])

    def basis(self, query: Mapping[str, str], now_ms: int) -> Reply:
        """Of perpetuals; the annualised rate of one is empty."""
        if query.get("contractType") != "PERPETUAL":
            return not_valid("contractType")
        found = self._states({**query, "symbol": query.get("pair", "")}, now_ms, "pair")
        if isinstance(found, Reply):
            return found
        listing, states = found
        index = self.feed.by_name[listing.name].index
        rows = [
            {
                "indexPrice": f"{index:.8f}",
                "contractType": "PERPETUAL",
                "basisRate": f"{state.mark / index - 1.0:.4f}",
                "futuresPrice": f"{state.mark:.2f}",
                "annualizedBasisRate": "",
                "basis": f"{state.mark - index:.8f}",
                "pair": listing.name,
                "timestamp": at_ms,
            }
            for at_ms, state in states
        ]
        return json_reply(rows)

    def fundings(self, query: Mapping[str, str], now_ms: int) -> Reply:
        """Settlements, ascending: the latest without times, else the first from `startTime` on."""
        quote, limit = self.find(query), whole(query, "limit", 200 if "startTime" not in query else 100, _MOST_FUNDINGS)
        if isinstance(quote, Reply):
            return quote
        if isinstance(limit, Reply):
            return limit
        times = _times(query, now_ms)
        if isinstance(times, Reply):
            return times
        stretch = Stretch(FUNDING_MS, *times, limit, newest="startTime" not in query)
        rows = [
            {
                "symbol": quote.listing.name,
                "fundingTime": at_ms,
                "fundingRate": f"{state.funding_rate:.8f}",
                "markPrice": f"{state.mark:.8f}",
                "rateType": "Regular",
            }
            for at_ms, state in quote.history.fundings(stretch)
        ]
        return json_reply(rows)

    def _states(
        self, query: Mapping[str, str], now_ms: int, named: str
    ) -> tuple[Listing, Iterable[tuple[int, Standing]]] | Reply:
        if not query.get("symbol"):
            return missing(named)
        quote, stretch = self.find(query), _asked(query, now_ms)
        if isinstance(quote, Reply):
            return quote
        return stretch if isinstance(stretch, Reply) else (quote.listing, quote.history.states(stretch))


def _asked(query: Mapping[str, str], now_ms: int) -> Stretch | Reply:
    if not query.get("period"):
        return missing("period")
    period_ms, limit = PERIODS_MS.get(query["period"]), whole(query, "limit", 30, _MOST_BARS)
    if period_ms is None:
        return not_valid("period")
    if isinstance(limit, Reply):
        return limit
    times = _times(query, now_ms)
    if isinstance(times, Reply):
        return times
    from_ms, to_ms = times
    newest = "startTime" not in query or "endTime" in query
    return Stretch(period_ms, from_ms, min(to_ms, now_ms - PUBLISHED_AFTER_MS), limit, newest)


def _times(query: Mapping[str, str], now_ms: int) -> tuple[int, int] | Reply:
    """`startTime` and `endTime`; what lies more than thirty days back is refused."""
    found = []
    for name, default in (("startTime", now_ms - KEPT_MS), ("endTime", now_ms)):
        text = query.get(name, str(default))
        if not text.isdigit() or int(text) < now_ms - KEPT_MS:
            return not_valid(name)
        found.append(int(text))
    return found[0], min(found[1], now_ms)


def _open_interest(listing: Listing, at_ms: int, state: Standing) -> dict[str, Any]:
    return {
        "symbol": listing.name,
        "sumOpenInterest": f"{state.open_interest_base:.8f}",
        "sumOpenInterestValue": f"{state.open_interest_base * state.mark:.8f}",
        "CMCCirculatingSupply": "19950000.00000000",
        "timestamp": at_ms,
    }


def _candle(bar: Bar, listing: Listing) -> list[Any]:
    """Numbers as text among numbers; prices in whole ticks, volumes in whole lots."""
    prices = [f"{price:.{listing.price_decimals}f}" for price in (bar.open, bar.high, bar.low, bar.close)]
    bought, sold = (round(base / listing.lot) * listing.lot for base in (bar.bought_base, bar.sold_base))
    middle = (bar.high + bar.low) / 2.0
    return [
        bar.minute_ms,
        *prices,
        f"{bought + sold:.{listing.lot_decimals}f}",
        bar.minute_ms + MINUTE_MS - 1,
        f"{(bought + sold) * middle:.4f}",
        round((bought + sold) / _USUAL_PRINT_BASE),
        f"{bought:.{listing.lot_decimals}f}",
        f"{bought * middle:.4f}",
        "0",
    ]


def _taker(volume: Volume, at_ms: int) -> dict[str, Any]:
    ratio = volume.bought_base / volume.sold_base if volume.sold_base else 0.0
    bought, sold = f"{volume.bought_base:.4f}", f"{volume.sold_base:.4f}"
    return {"buySellRatio": f"{ratio:.4f}", "sellVol": sold, "buyVol": bought, "timestamp": at_ms}

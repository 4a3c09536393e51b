"""Bybit's history endpoints: open interest, ratio, fundings, recent trades, risk limits (docs/exchanges.md).

Rows come newest first, in pages where there are more than `limit`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from liqmap.domain.enums import Venue
from liqmap.sim.tiers import tiers
from liqmap.sim.venues.feed import Reply, json_reply
from liqmap.sim.venues.history import BAR_MS, FUNDING_MS, KEPT_MS, PUBLISHED_AFTER_MS, Stretch

if TYPE_CHECKING:
    from liqmap.sim.venues.bybit_feed import BybitFeed
    from liqmap.sim.venues.market_feed import Quote

Endpoint = Callable[[Mapping[str, str], int], Reply]

PERIODS_MS: Final = {
    "5min": BAR_MS,
    "15min": 3 * BAR_MS,
    "30min": 6 * BAR_MS,
    "1h": 12 * BAR_MS,
    "4h": 48 * BAR_MS,
    "1d": 288 * BAR_MS,
}
_SYMBOLS_PER_PAGE: Final = 15
"""Of risk-limit, which takes no limit."""


def envelope(result: object, now_ms: int, code: int = 0, text: str = "OK") -> Reply:
    """The shape of every V5 answer."""
    return json_reply({"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": now_ms})


def refused(code: int, text: str, now_ms: int) -> Reply:
    """An error, which is HTTP 200 all the same."""
    return envelope({}, now_ms, code, text)


class _Refused(Exception):
    """What is wrong with a request, in the venue's words."""

    def __init__(self, text: str, code: int = 10001) -> None:
        super().__init__(text)
        self.code = code


def bybit_history(feed: "BybitFeed") -> dict[str, Endpoint]:
    """The endpoints by path."""
    data = _Data(feed)
    answers: dict[str, Callable[[Mapping[str, str], int], object]] = {
        "/v5/market/open-interest": data.open_interest,
        "/v5/market/account-ratio": data.ratio,
        "/v5/market/funding/history": data.fundings,
        "/v5/market/recent-trade": data.trades,
        "/v5/market/risk-limit": data.risk_limits,
    }
    return {path: _endpoint(answer) for path, answer in answers.items()}


def _endpoint(answer: Callable[[Mapping[str, str], int], object]) -> Endpoint:
    def answered(query: Mapping[str, str], now_ms: int) -> Reply:
        try:
            return envelope(answer(query, now_ms), now_ms)
        except _Refused as why:
            return refused(why.code, str(why), now_ms)

    return answered


class _Data:
    """Each method: the `result` of one endpoint. Raises _Refused."""

    def __init__(self, feed: "BybitFeed") -> None:
        self._feed = feed

    def open_interest(self, query: Mapping[str, str], now_ms: int) -> object:
        """Base coin; `openInterest` counts both sides."""
        quote = self._quote(query)
        period_ms = _period(query, "intervalTime")
        if self._feed.faults.open_interest == "failing":
            raise _Refused("Server error.", 10016)
        listing = quote.listing
        rows = []
        for at_ms, state in quote.history.states(_everything(query, period_ms, now_ms)):
            one_side = round(state.open_interest_base / listing.lot)
            both, one = listing.of_lots(2 * one_side), listing.of_lots(one_side)
            rows.append({"openInterest": both, "singleOpenInterest": one, "timestamp": str(at_ms)})
        return {"category": "linear", "symbol": listing.name, **_page(rows[::-1], query, 50, 200)}

    def ratio(self, query: Mapping[str, str], now_ms: int) -> object:
        """The share of accounts that are long."""
        quote = self._quote(query)
        rows = []
        for at_ms, state in quote.history.states(_everything(query, _period(query, "period"), now_ms)):
            if state.positioning is not None:
                long = round(state.positioning.accounts, 4)
                shares = {"buyRatio": f"{long:.4f}", "sellRatio": f"{1.0 - long:.4f}"}
                rows.append({"symbol": quote.listing.name, **shares, "timestamp": str(at_ms)})
        return _page(rows[::-1], query, 50, 500)

    def fundings(self, query: Mapping[str, str], now_ms: int) -> object:
        """Settlements; a start without an end is refused."""
        quote = self._quote(query)
        if "startTime" in query and "endTime" not in query:
            raise _Refused("params error: startTime must be passed together with endTime")
        rows = [
            {
                "symbol": quote.listing.name,
                "fundingRate": f"{state.funding_rate:.8f}".rstrip("0").rstrip("."),
                "fundingRateTimestamp": str(at_ms),
            }
            for at_ms, state in quote.history.fundings(_everything(query, FUNDING_MS, now_ms))
        ]
        return {"category": "linear", "list": _page(rows[::-1], query, 200, 200)["list"]}

    def trades(self, query: Mapping[str, str], _now_ms: int) -> object:
        """The latest."""
        quote = self._quote(query)
        rows = [
            {
                "execId": row["i"],
                "symbol": row["s"],
                "price": row["p"],
                "size": row["v"],
                "side": row["S"],
                "time": str(row["T"]),
                "isBlockTrade": row["BT"],
                "isRPITrade": row["RPI"],
                "seq": str(row["seq"]),
            }
            for row in reversed(self._feed.recent_trades[quote.listing.symbol])
        ]
        return {"category": "linear", "list": _page(rows, query, 500, 1000)["list"]}

    def risk_limits(self, query: Mapping[str, str], _now_ms: int) -> object:
        """The tiers of one contract, or of fifteen at a time."""
        listed = sorted(quote.listing.name for quote in self._feed.listed_quotes())
        names = [self._quote(query).listing.name] if query.get("symbol") else listed
        start = _cursor(query)
        rows = [row for name in names[start : start + _SYMBOLS_PER_PAGE] for row in _tiers(name)]
        more = start + _SYMBOLS_PER_PAGE < len(names)
        return {"category": "linear", "list": rows, "nextPageCursor": str(start + _SYMBOLS_PER_PAGE) if more else ""}

    def _quote(self, query: Mapping[str, str]) -> "Quote":
        quote = self._feed.quote_named(query.get("symbol"))
        if quote is None:
            raise _Refused("params error: symbol invalid")
        return quote


def _tiers(name: str) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "symbol": name,
            "riskLimitValue": f"{min(tier.cap_usd, 1e9):.0f}",
            "maintenanceMargin": f"{tier.maintenance_rate:g}",
            "initialMargin": f"{1.0 / tier.leverage:.4g}",
            "isLowestRisk": int(number == 1),
            "maxLeverage": f"{tier.leverage:.2f}",
            "mmDeduction": f"{tier.deduction_usd:.10g}" if number > 1 else "",
        }
        for number, tier in enumerate(tiers(Venue.BYBIT), start=1)
    ]


def _period(query: Mapping[str, str], name: str) -> int:
    period_ms = PERIODS_MS.get(query.get(name, ""))
    if period_ms is None:
        raise _Refused(f"params error: {name} invalid")
    return period_ms


def _everything(query: Mapping[str, str], period_ms: int, now_ms: int) -> Stretch:
    times = []
    for name, default in (("startTime", now_ms - KEPT_MS), ("endTime", now_ms)):
        text = query.get(name, str(default))
        if not text.isdigit():
            raise _Refused(f"params error: {name} invalid")
        times.append(int(text))
    latest_ms = now_ms if period_ms == FUNDING_MS else now_ms - PUBLISHED_AFTER_MS
    return Stretch(period_ms, max(times[0], now_ms - KEPT_MS), min(times[1], latest_ms), KEPT_MS // period_ms)


def _cursor(query: Mapping[str, str]) -> int:
    text = query.get("cursor") or "0"
    if not text.isdigit():
        raise _Refused("params error: cursor invalid")
    return int(text)


def _page(rows: Sequence[object], query: Mapping[str, str], default: int, most: int) -> dict[str, Any]:
    """One page of rows and what to ask for next, "" after the last."""
    limit, start = query.get("limit", str(default)), _cursor(query)
    if not limit.isdigit() or not 1 <= int(limit) <= most:
        raise _Refused("params error: limit invalid")
    end = start + int(limit)
    return {"list": list(rows[start:end]), "nextPageCursor": str(end) if end < len(rows) else ""}

"""OKX's history endpoints: open interest, ratios, taker volume, fundings, liquidations, tiers, trades.

Rows come newest first (docs/exchanges.md).
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from liqmap.domain.enums import Venue
from liqmap.sim.tape import Positioning
from liqmap.sim.tiers import tiers
from liqmap.sim.venues.feed import Reply, json_reply
from liqmap.sim.venues.history import BAR_MS, FUNDING_MS, KEPT_MS, PERIODS_MS, PUBLISHED_AFTER_MS, Stretch

if TYPE_CHECKING:
    from liqmap.sim.venues.market_feed import Quote
    from liqmap.sim.venues.okx_feed import OkxFeed

Endpoint = Callable[[Mapping[str, str], int], Reply]

RUBIK: Final = "/api/v5/rubik/stat/"
BAR_WORDS: Final = {"1H": "1h", "2H": "2h", "4H": "4h", "6H": "6h", "12H": "12h", "1D": "1d"}
_UTC: Final = "utc"
_LONG_BARS_SHIFT_MS: Final = 8 * 3_600_000
"""Bars of six hours and more follow UTC+8, unless asked for as `6Hutc`."""
_DAY_MS: Final = 86_400_000
_MOST_LIQUIDATIONS: Final = 550
_SHARES: Final[Mapping[str, Callable[[Positioning], float]]] = {
    "contracts/long-short-account-ratio-contract": lambda held: held.accounts,
    "contracts/long-short-account-ratio-contract-top-trader": lambda held: held.top_accounts,
    "contracts/long-short-position-ratio-contract-top-trader": lambda held: held.top_positions,
}


def rows_reply(rows: list[Any]) -> Reply:
    """The shape of every good answer."""
    return json_reply({"code": "0", "data": rows, "msg": ""})


def refused(code: str, text: str, status: int = 200) -> Reply:
    """The shape of every error."""
    return json_reply({"code": code, "data": [], "msg": text}, status)


class _Refused(Exception):
    """What is wrong with a request, in the venue's words."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def okx_history(feed: "OkxFeed") -> dict[str, Endpoint]:
    """The endpoints by path."""
    data = _Data(feed)
    answers: dict[str, Callable[[Mapping[str, str], int], list[Any]]] = {
        f"{RUBIK}contracts/open-interest-history": data.open_interest,
        f"{RUBIK}taker-volume-contract": data.takers,
        "/api/v5/public/funding-rate-history": data.fundings,
        "/api/v5/public/liquidation-orders": data.liquidations,
        "/api/v5/public/position-tiers": data.tiers,
        "/api/v5/market/trades": data.trades,
    }
    answers |= {f"{RUBIK}{name}": data.ratio(share) for name, share in _SHARES.items()}
    return {path: _endpoint(answer) for path, answer in answers.items()}


def _endpoint(answer: Callable[[Mapping[str, str], int], list[Any]]) -> Endpoint:
    def answered(query: Mapping[str, str], now_ms: int) -> Reply:
        try:
            return rows_reply(answer(query, now_ms))
        except _Refused as why:
            return refused(why.code, str(why))

    return answered


class _Data:
    """Each method: the `data` of one endpoint. Raises _Refused."""

    def __init__(self, feed: "OkxFeed") -> None:
        self._feed = feed

    def ratio(self, share: Callable[[Positioning], float]) -> Callable[[Mapping[str, str], int], list[Any]]:
        """Longs by shorts, `[ts, ratio]`."""

        def rows(query: Mapping[str, str], now_ms: int) -> list[Any]:
            found = []
            for at_ms, state in self._quote(query).history.states(_bars(query, now_ms)):
                if state.positioning is not None:
                    long = share(state.positioning)
                    found.append([str(at_ms), f"{long / max(1.0 - long, 1e-4):.4f}"])
            return found[::-1]

        return rows

    def open_interest(self, query: Mapping[str, str], now_ms: int) -> list[Any]:
        """`[ts, contracts, base, dollars]`."""
        if self._feed.faults.open_interest == "failing":
            raise _Refused("50013", "Systems are busy. Please try again later.")
        quote = self._quote(query)
        per_lot = quote.listing.contract_base * quote.listing.lot
        rows = []
        for at_ms, state in quote.history.states(_bars(query, now_ms)):
            lots = round(state.open_interest_base / per_lot)
            base = lots * per_lot
            rows.append([str(at_ms), quote.listing.of_lots(lots), f"{base:.6g}", f"{base * state.mark:.4f}"])
        return rows[::-1]

    def takers(self, query: Mapping[str, str], now_ms: int) -> list[Any]:
        """`[ts, sold, bought]`: sold first. Units: 0 coin, 1 contracts, 2 dollars."""
        quote, unit = self._quote(query), query.get("unit", "1")
        factors = {"0": 1.0, "1": 1.0 / quote.listing.contract_base, "2": quote.mark}
        if unit not in factors:
            raise _Refused("51000", "Parameter unit error")
        volumes = quote.history.volumes(_bars(query, now_ms))
        rows = [
            [str(at_ms), *(f"{value * factors[unit]:.6f}" for value in (sold_base, bought_base))]
            for at_ms, (bought_base, sold_base) in volumes
        ]
        return rows[::-1]

    def fundings(self, query: Mapping[str, str], now_ms: int) -> list[Any]:
        """Settlements of three months; `realizedRate` is what was paid."""
        quote = self._quote(query)
        stretch = Stretch(FUNDING_MS, now_ms - KEPT_MS, now_ms, _limit(query, 400, 400))
        rows = [
            {
                "instType": "SWAP",
                "instId": quote.listing.name,
                "formulaType": "withRate",
                "method": "current_period",
                "fundingRate": f"{state.funding_rate * 0.97:.16f}",
                "realizedRate": f"{state.funding_rate:.16f}",
                "fundingTime": str(at_ms),
            }
            for at_ms, state in quote.history.fundings(stretch)
        ]
        return rows[::-1]

    def liquidations(self, query: Mapping[str, str], now_ms: int) -> list[Any]:
        """About a day's, all at once: paging further back brings nothing."""
        if query.get("instType") != "SWAP":
            raise _Refused("50014", "Parameter instType can not be empty.")
        family = query.get("instFamily") or query.get("uly")
        if not family:
            raise _Refused("50014", "Parameter uly or instFamily can not be empty.")
        name = f"{family}-SWAP"
        if not self._feed.lists(name):
            raise _Refused("51000", "Parameter instFamily error")
        if query.get("state") not in ("filled", "unfilled"):
            raise _Refused("51000", "Parameter state error")
        _limit(query, 100, 100)
        if query["state"] == "unfilled" or "after" in query:
            return []
        rows = [row for row in self._feed.recent_liquidations if row["instId"] == name]
        details = [detail for row in rows for detail in row["details"] if int(detail["ts"]) > now_ms - _DAY_MS]
        details = sorted(details, key=lambda detail: -int(detail["ts"]))[:_MOST_LIQUIDATIONS]
        head = {"instFamily": family, "instId": name, "instType": "SWAP", "totalLoss": "0", "uly": family}
        return [{"details": details, **head}] if details else []

    def tiers(self, query: Mapping[str, str], _now_ms: int) -> list[Any]:
        """Sizes in contracts; the rate of a tier holds for the whole position."""
        if query.get("instType") != "SWAP" or query.get("tdMode") not in ("isolated", "cross"):
            raise _Refused("51000", "Parameter instType or tdMode error")
        families = [family for family in (query.get("instFamily") or query.get("uly") or "").split(",") if family]
        if not families:
            raise _Refused("50014", "Parameter uly or instFamily can not be empty.")
        if len(families) > 5:
            raise _Refused("51000", "Parameter instFamily error")
        return [row for family in families for row in self._tiers_of(family)]

    def trades(self, query: Mapping[str, str], _now_ms: int) -> list[Any]:
        """The latest."""
        rows = list(self._feed.recent_trades[self._quote(query).listing.symbol])
        keys = ("instId", "side", "sz", "px", "source", "tradeId", "ts")
        return [{key: row[key] for key in keys} for row in rows[::-1][: _limit(query, 100, 500)]]

    def _tiers_of(self, family: str) -> list[dict[str, str]]:
        quote = self._feed.quote_named(f"{family}-SWAP")
        if quote is None:
            raise _Refused("51000", "Parameter instFamily error")
        contract_usd = quote.mark * quote.listing.contract_base
        rows = []
        for number, tier in enumerate(tiers(Venue.OKX), start=1):
            most = "999999999" if math.isinf(tier.cap_usd) else f"{tier.cap_usd / contract_usd:.0f}"
            rows.append(
                {
                    "baseMaxLoan": "",
                    "imr": f"{1.0 / tier.leverage:.4g}",
                    "instFamily": family,
                    "instId": "",
                    "maxLever": f"{tier.leverage:g}",
                    "maxSz": most,
                    "minSz": f"{tier.floor_usd / contract_usd:.0f}",
                    "mmr": f"{tier.maintenance_rate:g}",
                    "optMgnFactor": "0",
                    "quoteMaxLoan": "",
                    "tier": str(number),
                    "uly": family,
                }
            )
        return rows

    def _quote(self, query: Mapping[str, str]) -> "Quote":
        if not query.get("instId"):
            raise _Refused("50014", "Parameter instId can not be empty.")
        quote = self._feed.quote_named(query["instId"])
        if quote is None:
            raise _Refused("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
        return quote


def _bars(query: Mapping[str, str], now_ms: int) -> Stretch:
    word = query.get("period", "5m")
    plain = word.removesuffix(_UTC)
    period_ms = PERIODS_MS.get(BAR_WORDS.get(plain, plain if plain.endswith("m") else ""))
    if period_ms is None:
        raise _Refused("51000", "Parameter period error")
    times = []
    for name, default in (("begin", now_ms - KEPT_MS), ("end", now_ms)):
        text = query.get(name, str(default))
        if not text.isdigit():
            raise _Refused("51000", f"Parameter {name} error")
        times.append(int(text))
    shifted = period_ms >= 72 * BAR_MS and plain == word
    last_ms = min(times[1], now_ms - PUBLISHED_AFTER_MS)
    shift_ms = _LONG_BARS_SHIFT_MS % period_ms if shifted else 0
    return Stretch(period_ms, max(times[0], now_ms - KEPT_MS), last_ms, _limit(query, 100, 100), shift_ms=shift_ms)


def _limit(query: Mapping[str, str], default: int, most: int) -> int:
    text = query.get("limit", str(default))
    if not text.isdigit() or not int(text):
        raise _Refused("51000", "Parameter limit error")
    return min(int(text), most)

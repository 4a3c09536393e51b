"""/market_data and /trader_ratios: what each venue said last of price, funding and positioning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Response

from liqmap.api.answers import common, unkept
from liqmap.api.encode import known
from liqmap.api.parameters import Table
from liqmap.api.resource import Resource, Serving
from liqmap.client import Funding, LongShare, MarketOfVenue, Newest, Price

MARKET, RATIOS = "/market_data", "/trader_ratios"
_KINDS = {"accounts": "global_accounts"}


@dataclass(frozen=True, slots=True)
class MarketQuery:
    """Of which symbol."""

    symbol: str


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """Every fact with its age, null where a venue said nothing."""

    def market_data(query: MarketQuery) -> Response:
        found = serving.client.market_data(query.symbol)
        wanted = venues_of(serving, query.symbol)
        body = {
            **common(query.symbol, found.freshness),
            "mark_price": found.mark_price,
            "mark_source": found.mark_source,
            "mark_as_of_ms": found.mark_as_of_ms,
            "index_price": found.index_price,
            "last_price": found.last_price,
            "per_venue": {
                venue: _market(said) for venue, said in found.venues.items() if venue in wanted or said != NOTHING
            },
        }
        return unkept(MARKET, query, Newest(found.version, found.freshness), body)

    def trader_ratios(query: MarketQuery) -> Response:
        found = serving.client.trader_ratios(query.symbol)
        wanted = venues_of(serving, query.symbol)
        body = {
            **common(query.symbol, found.freshness),
            "per_venue": {
                venue: {_KINDS.get(kind, kind): _ratio(said) for kind, said in told.items()}
                for venue, told in found.venues.items()
                if venue in wanted or any(told.values())
            },
        }
        return unkept(RATIOS, query, Newest(found.version, found.freshness), body)

    table = Table(MarketQuery, (serving.symbol_parameter(serving.default_symbol),))
    return (
        Resource(
            MARKET, "/v2/market_data", "mark, index, last and middle price and funding, by venue", table, market_data
        ),
        Resource(
            RATIOS, "/v2/trader_ratios", "share of longs among accounts and top traders, by venue", table, trader_ratios
        ),
    )


NOTHING = MarketOfVenue(None, None, None, None, None)


def venues_of(serving: Serving, symbol: str) -> frozenset[str]:
    """The venues at which the symbol has a contract."""
    listed = serving.config.symbols[symbol].instruments
    return frozenset(venue for venue, name in msgspec.structs.asdict(listed).items() if name is not None)


def _market(said: MarketOfVenue) -> Mapping[str, Any]:
    return {
        **_price("mark", said.mark),
        "index_price": said.index_price,
        **_price("last", said.last),
        **_price("mid", said.mid),
        **_funding(said.funding),
    }


def _price(name: str, said: Price | None) -> Mapping[str, Any]:
    return {
        f"{name}_price": None if said is None else said.price,
        f"{name}_as_of_ms": None if said is None else said.as_of_ms,
        f"{name}_age_ms": None if said is None else said.age_ms,
    }


def _funding(said: Funding | None) -> Mapping[str, Any]:
    return {
        "funding_rate": None if said is None else said.rate,
        "funding_interval_h": None if said is None else said.interval_h,
        "next_funding_ms": None if said is None else said.next_ms,
        "funding_as_of_ms": None if said is None else said.as_of_ms,
        "funding_age_ms": None if said is None else said.age_ms,
    }


def _ratio(said: LongShare | None) -> Mapping[str, Any] | None:
    """Shares, and longs over shorts (null when there are no shorts)."""
    if said is None:
        return None
    short_share = 1 - said.long_share
    return {
        "long_share": said.long_share,
        "short_share": known(short_share, 12),
        "long_short_ratio": known(said.long_share / short_share, 6) if short_share > 0 else None,
        "bar_ms": said.bar_ms,
        "bar_age_ms": said.age_ms,
    }

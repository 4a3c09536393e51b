"""/oi: open interest now, by venue."""

from dataclasses import dataclass
from typing import Any

from flask import Response

from liqmap.api.answers import common, unkept
from liqmap.api.encode import known
from liqmap.api.parameters import Table
from liqmap.api.resource import Resource, Serving
from liqmap.client import Newest

PATH = "/oi"


@dataclass(frozen=True, slots=True)
class OpenInterestQuery:
    """Of which symbol."""

    symbol: str


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """One-sided, base units and dollars."""

    def answer(query: OpenInterestQuery) -> Response:
        oi = serving.client.open_interest(query.symbol)
        body = {
            **common(query.symbol, oi.freshness),
            "open_interest_base": oi.open_interest_base,
            "open_interest_usd": None if oi.open_interest_usd is None else known(oi.open_interest_usd, 2),
            "change_base": oi.change_base,
            "per_venue": {
                venue: {"base": of.base, "as_of_ms": of.as_of_ms, "age_ms": of.age_ms, "stale": of.stale}
                for venue, of in oi.venues.items()
            },
        }
        return unkept(PATH, query, Newest(oi.version, oi.freshness), body)

    table = Table(OpenInterestQuery, (serving.symbol_parameter(serving.default_symbol),))
    words = "open interest, one-sided, in base units and dollars, and by venue with the age of each reading"
    return (Resource(PATH, "/v2/oi", words, table, answer),)

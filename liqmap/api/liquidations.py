"""/liq_events: observed liquidations, by cursor."""

from dataclasses import dataclass
from typing import Any

from flask import Response

from liqmap.api.answers import common, data
from liqmap.api.errors import InvalidParameter
from liqmap.api.parameters import Choice, Number, Table, Whole
from liqmap.api.resource import Resource, Serving
from liqmap.client import Liquidation, Newest
from liqmap.domain.enums import PositionSide, Venue

PATH = "/liq_events"


@dataclass(frozen=True, slots=True)
class LiquidationsQuery:
    """None: no such condition."""

    symbol: str
    since_ms: int | None
    after: int | None
    limit: int
    min_notional_usd: float
    side: str | None
    venue: str | None


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """Ascending by id."""

    def answer(query: LiquidationsQuery) -> Response:
        def build() -> tuple[Newest, dict[str, Any]]:
            found = serving.client.liquidations(
                query.symbol,
                after=query.after,
                since_ms=query.since_ms,
                limit=query.limit,
                min_notional_usd=query.min_notional_usd,
                side=query.side,
                venue=query.venue,
            )
            return newest, {
                **common(query.symbol, newest.freshness),
                "events": [_event(each) for each in found.events],
                "newest_ms": found.newest_ms,
                "newest_id": found.newest_id,
                "oldest_available_ms": found.oldest_available_ms,
            }

        newest = serving.client.newest(query.symbol)
        rows = serving.client.liquidations_version(query.symbol)
        return data(serving, PATH, query, newest, build, rows)

    words = "observed liquidations, ascending by id: the oldest after a cursor, without one the newest"
    return (Resource(PATH, "/v2/liq_events", words, _table(serving), answer),)


def _table(serving: Serving) -> Table[LiquidationsQuery]:
    return Table(
        LiquidationsQuery,
        (
            serving.symbol_parameter(serving.default_symbol),
            Whole("since_ms", "only events of a later time, ms UTC"),
            Whole("after", "only events with a larger id; take the `id` of the last event, or `newest_id`"),
            Whole("limit", "at most so many events", 500, low=1, high=5000),
            Number("min_notional_usd", "only events of at least so many dollars", 0.0),
            Choice(
                "side", "side of the liquidated position", choices=tuple(side.name.lower() for side in PositionSide)
            ),
            Choice("venue", "only of this venue", choices=tuple(each.name.lower() for each in Venue)),
        ),
        check=_one_cursor,
    )


def _one_cursor(query: LiquidationsQuery) -> None:
    if query.since_ms is not None and query.after is not None:
        raise InvalidParameter("give since_ms or after, not both", param="after", allowed=["since_ms", "after"])


def _event(event: Liquidation) -> dict[str, Any]:
    return {
        "id": event.id,
        "ts_ms": event.ts_ms,
        "venue": event.venue,
        "side": event.side,
        "printed_price": event.printed_price,
        "fill_price": event.fill_price,
        "trigger_price": event.trigger_price,
        "qty_base": event.qty_base,
        "notional_usd": event.notional_usd,
    }

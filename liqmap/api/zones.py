"""/liq_zones and /liq_zones_summary: pools followed through time, one by one and summed up by side."""

from collections.abc import Callable
from typing import Any, Final

from flask import Response

from liqmap.api.answers import common, data
from liqmap.api.leverage import leverages_in_order
from liqmap.api.parameters import Table
from liqmap.api.resource import Resource, Serving
from liqmap.api.zone_choice import (
    SIDES,
    Chosen,
    ZonesQuery,
    board_version,
    choose,
    names_of,
    parameters,
    told,
    zones_common,
)
from liqmap.client import Newest, ZoneCounts, Zones

LIST: Final = "/liq_zones"
SUMMARY: Final = "/liq_zones_summary"
Body = Callable[[Zones, ZonesQuery], dict[str, Any]]


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """The list and its summary."""
    words = "zones of force-closings followed through time: created, reinforced, touched, swept"
    summed = "zones by side: how many, their dollars, the nearest and the strongest, what sweeps predicted and brought"
    return (
        Resource(LIST, "/v3/liq_zones", words, _table(serving, "active"), _answer(serving, LIST, listed)),
        Resource(SUMMARY, "/v3/liq_zones_summary", summed, _table(serving, "all"), _answer(serving, SUMMARY, summary)),
    )


def _table(serving: Serving, include: str) -> Table[ZonesQuery]:
    return Table(ZonesQuery, parameters(serving, include), check=leverages_in_order)


def _answer(serving: Serving, path: str, body: Body) -> Callable[[ZonesQuery], Response]:
    def answer(query: ZonesQuery) -> Response:
        def build() -> tuple[Newest, dict[str, Any]]:
            zones = serving.client.zones(query.symbol)
            return Newest(zones.version, zones.freshness), body(zones, query)

        newest = serving.client.newest(query.symbol)
        return data(serving, path, query, newest, build, board_version(serving, query.symbol))

    return answer


def listed(zones: Zones, query: ZonesQuery) -> dict[str, Any]:
    """The chosen zones, richest first. Raises InvalidParameter when no tier is left."""
    tiers, chosen = choose(zones, query)
    names = names_of(zones, tiers)
    return {
        **common(zones.symbol, zones.freshness),
        **zones_common(zones, tiers),
        "zones": [told(one, names, zones.mark_price) for one in chosen],
    }


def summary(zones: Zones, query: ZonesQuery) -> dict[str, Any]:
    """The chosen zones summed up, by side. Raises InvalidParameter when no tier is left."""
    tiers, chosen = choose(zones, query)
    names = names_of(zones, tiers)
    wanted = SIDES if query.side is None else (query.side,)
    return {
        **common(zones.symbol, zones.freshness),
        **zones_common(zones, tiers),
        **{side: _of_side([one for one in chosen if one.zone.side == side], names, zones) for side in wanted},
        "since_start": {side: counted(zones.counts[side]) for side in wanted},
    }


def _of_side(chosen: list[Chosen], names: list[str], zones: Zones) -> dict[str, Any]:
    """Dollars are those of zones that stand; what swept zones held is in `sweeps`."""
    standing = [one for one in chosen if one.zone.state != "swept"]
    nearest = min(standing, key=lambda one: _distance(one, zones.mark_price), default=None)
    return {
        **{state: sum(one.zone.state == state for one in chosen) for state in ("active", "touched", "swept")},
        "notional_usd": round(sum(one.notional_usd for one in standing), 2),
        "evidence_usd": round(sum(one.zone.evidence_usd for one in standing), 2),
        "projected_usd": round(sum(one.projected_usd for one in standing), 2),
        "nearest": None if nearest is None else told(nearest, names, zones.mark_price),
        "strongest": told(standing[0], names, zones.mark_price) if standing else None,
        "sweeps": _sweeps(chosen),
    }


def _distance(one: Chosen, mark_price: float | None) -> float:
    """From price to the edge of the zone that price would reach first; 0 within it."""
    if mark_price is None:
        return float(one.zone.id)
    return max(0.0, one.zone.low - mark_price, mark_price - one.zone.high)


def _sweeps(chosen: list[Chosen]) -> dict[str, Any]:
    """Of the swept zones among these whose counting is over and was heard whole."""
    found = [one.zone.post_mortem for one in chosen if one.zone.state == "swept" and one.zone.post_mortem is not None]
    whole = [each for each in found if each.complete and each.heard]
    predicted_usd, realised_usd = sum(each.predicted_usd for each in whole), sum(each.realised_usd for each in whole)
    return {"counted": len(whole), **_predicted_against_realised(predicted_usd, realised_usd)}


def counted(counts: ZoneCounts) -> dict[str, Any]:
    """What happened to the zones of one side since their state began."""
    return {
        **counts.happened,
        "sweeps": {
            "counted": counts.post_mortems,
            **_predicted_against_realised(counts.predicted_usd, counts.realised_usd),
        },
    }


def _predicted_against_realised(predicted_usd: float, realised_usd: float) -> dict[str, Any]:
    return {
        "predicted_usd": round(predicted_usd, 2),
        "realised_usd": round(realised_usd, 2),
        "realised_share": round(realised_usd / predicted_usd, 6) if predicted_usd > 0 else None,
    }

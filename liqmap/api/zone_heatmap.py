"""/liq_zones_heatmap: the zones painted on the price axis, with the dollars that the map has within them now."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from flask import Response
from numpy.typing import NDArray

from liqmap.api.answers import common, data
from liqmap.api.encode import whole_dollars
from liqmap.api.errors import NotReady
from liqmap.api.leverage import leverages_in_order
from liqmap.api.parameters import Number, Table
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
from liqmap.client import Newest, Snapshot, Zones
from liqmap.client.words import no_price_yet

PATH: Final = "/liq_zones_heatmap"
DIMMED: Final = 0.3
"""A swept zone is painted with this share of its weight."""
MODEL: Final = "inventory"
"""Zones follow the pools of this model, so its dollars are painted."""


@dataclass(frozen=True, slots=True)
class ZoneHeatmapQuery(ZonesQuery):
    """What /liq_zones takes, and a range."""

    range_pct: float


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """One picture."""

    def answer(query: ZoneHeatmapQuery) -> Response:
        def build() -> tuple[Newest, dict[str, Any]]:
            zones = serving.client.zones(query.symbol)
            snapshot = serving.client.snapshot(query.symbol, range_pct=query.range_pct, model=MODEL)
            return Newest(snapshot.version, snapshot.freshness), body(snapshot, zones, query)

        newest = serving.client.newest(query.symbol)
        return data(serving, PATH, query, newest, build, board_version(serving, query.symbol))

    range_pct = Number("range_pct", "half width around the mark price, percent", 10.0, low=0.5, high=50.0)
    table = Table(ZoneHeatmapQuery, (*parameters(serving, "active"), range_pct), check=leverages_in_order)
    words = "zones painted on the price axis: dollars of the map within them, and their weight"
    return (Resource(PATH, "/v3/liq_heatmap", words, table, answer),)


def body(snapshot: Snapshot, zones: Zones, query: ZoneHeatmapQuery) -> dict[str, Any]:
    """The answer without its age. Raises NotReady while no price is known, InvalidParameter when no tier is left."""
    if snapshot.mark_price is None:
        raise NotReady(no_price_yet(snapshot.symbol))
    tiers, chosen = choose(zones, query)
    names, prices = names_of(zones, tiers), snapshot.prices
    inside = [one for one in chosen if len(prices) and one.zone.high >= prices[0] and one.zone.low <= prices[-1]]
    painted = {
        side: _painted(snapshot, number, tiers, [one for one in inside if one.zone.side == side])
        for number, side in enumerate(SIDES)
    }
    return {
        **common(snapshot.symbol, snapshot.freshness),
        **zones_common(zones, tiers),
        "mark_price": snapshot.mark_price,
        "price_step": snapshot.step,
        "prices": prices,
        **{f"{side}_usd": whole_dollars(usd) for side, (usd, _) in painted.items()},
        **{f"{side}_weight": np.round(weight, 6) for side, (_, weight) in painted.items()},
        "zones": [told(one, names, snapshot.mark_price) for one in inside],
    }


def _painted(
    snapshot: Snapshot, side: int, tiers: list[int], chosen: list[Chosen]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(cell) dollars of the map within any of these zones, and the weight of the heaviest one there; else 0."""
    dollars = snapshot.projection_usd[side, tiers].sum(axis=0) + snapshot.evidence_usd[side]
    weight, covered = np.zeros(len(dollars)), np.zeros(len(dollars), np.bool_)
    for one in chosen:
        zone = one.zone
        cells = slice(*np.searchsorted(snapshot.prices, [zone.low - snapshot.step / 2, zone.high + snapshot.step / 2]))
        covered[cells] = True
        weight[cells] = np.maximum(weight[cells], zone.weight * (DIMMED if zone.state == "swept" else 1.0))
    return np.where(covered, dollars, 0.0), weight

"""/liq_heatmap: the map as bytes for pictures, with its dollars beside them and the richest zones named."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from flask import Response

from liqmap.api.answers import common, data
from liqmap.api.encode import whole_dollars
from liqmap.api.errors import NotReady
from liqmap.api.parameters import Number, Table
from liqmap.api.picture import picture
from liqmap.api.resource import Resource, Serving
from liqmap.api.zone_choice import ZonesQuery, choose, names_of, told
from liqmap.client import Newest, NotYet, Snapshot, Zones
from liqmap.client.words import no_price_yet

PATH: Final = "/liq_heatmap"
TOP_ZONES: Final = 10


@dataclass(frozen=True, slots=True)
class PictureQuery:
    """Of which symbol, how far around the mark."""

    symbol: str
    range_pct: float


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """One picture, of the model that is served."""

    def answer(query: PictureQuery) -> Response:
        def build() -> tuple[Newest, dict[str, Any]]:
            zones = _zones(serving, query.symbol)
            snapshot = serving.client.snapshot(query.symbol, range_pct=query.range_pct)
            return Newest(snapshot.version, snapshot.freshness), body(snapshot, zones)

        newest = serving.client.newest(query.symbol)
        return data(serving, PATH, query, newest, build, _zones_version(serving, query.symbol))

    table = Table(
        PictureQuery,
        (
            serving.symbol_parameter(serving.default_symbol),
            Number("range_pct", "half width around the mark price, percent", 8.0, low=0.5, high=50.0),
        ),
    )
    words = "the live heatmap as bytes for pictures, its dollars, and the richest zones"
    return (Resource(PATH, "/v1/liq_heatmap", words, table, answer),)


def body(snapshot: Snapshot, zones: Zones | None) -> dict[str, Any]:
    """The answer without its age. Raises NotReady while no price is known."""
    if snapshot.mark_price is None:
        raise NotReady(no_price_yet(snapshot.symbol))
    shape, unit = snapshot.projection_shape.sum(axis=1), snapshot.projection_unit
    shown, of = (snapshot.evidence_usd, "evidence") if unit is None else (shape, "projection")
    pictured = picture(shown[0], shown[1])
    p50, p95 = pictured.norm["p50_usd"], pictured.norm["p95_usd"]
    return {
        **common(snapshot.symbol, snapshot.freshness),
        "mark_price": snapshot.mark_price,
        "price_step": snapshot.step,
        "prices": snapshot.prices,
        "long_intensity": pictured.bid_u8,
        "short_intensity": pictured.ask_u8,
        "scale": None if p50 is None else (p95 - p50) / pictured.norm["levels"],
        "norm": {"method": pictured.norm["method"], "p50": p50, "p95": p95, "of": of, "unit": unit or "usd"},
        "long_usd": whole_dollars(np.asarray(snapshot.long_usd)),
        "short_usd": whole_dollars(np.asarray(snapshot.short_usd)),
        "top_long_zones": _top(zones, "long", snapshot),
        "top_short_zones": _top(zones, "short", snapshot),
    }


def _top(zones: Zones | None, side: str, snapshot: Snapshot) -> list[dict[str, Any]] | None:
    """The richest zones of a side that stand within the answered prices; None: none were made yet."""
    if zones is None:
        return None
    tiers, chosen = choose(zones, ZonesQuery(zones.symbol, side, None, None, 0.0, 0.0, "active"))
    low, high = (float(snapshot.prices[0]), float(snapshot.prices[-1])) if len(snapshot.prices) else (np.inf, -np.inf)
    inside = [one for one in chosen if low <= one.zone.price <= high]
    names = names_of(zones, tiers)
    return [told(one, names, snapshot.mark_price) for one in inside[:TOP_ZONES]]


def _zones(serving: Serving, symbol: str) -> Zones | None:
    try:
        return serving.client.zones(symbol)
    except NotYet:
        return None


def _zones_version(serving: Serving, symbol: str) -> Hashable:
    try:
        return serving.client.zones_version(symbol)
    except NotYet:
        return None

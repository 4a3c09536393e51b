"""Which zones an answer is about, and how a zone is told: shared by everything that answers with zones.

Dollars of a zone are those of the grid within it, of the chosen tiers, and its evidence, which has no tier. Weight is a
number without unit, and no dollars are made of it.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from liqmap.api.encode import known
from liqmap.api.errors import NotReady
from liqmap.api.leverage import LEVERAGE_PARAMETERS, chosen_tiers
from liqmap.api.parameters import Choice, Number, Parameter
from liqmap.api.resource import Serving
from liqmap.client import NotYet, PostMortem, Zone, Zones

SIDES: Final = ("long", "short")
INCLUDE: Final = ("active", "swept", "all")
LEAST_USD: Final = 0.5
"""What rounds to no dollar is none."""


@dataclass(frozen=True, slots=True)
class ZonesQuery:
    """None: no such condition."""

    symbol: str
    side: str | None
    min_leverage: float | None
    max_leverage: float | None
    min_weight: float
    min_notional_usd: float
    include: str


def parameters(serving: Serving, include: str) -> tuple[Parameter, ...]:
    """The rows of `ZonesQuery`; `include` is the default of that parameter."""
    return (
        serving.symbol_parameter(serving.default_symbol),
        Choice("side", "side of the positions", choices=SIDES),
        *LEVERAGE_PARAMETERS,
        Number("min_weight", "lighter zones are left out", 0.0, low=0.0, high=5.0),
        Number("min_notional_usd", "zones of fewer dollars, of the chosen tiers and evidence, are left out", 0.0),
        Choice("include", "active zones (touched ones too), swept ones, or all", include, choices=INCLUDE),
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """A zone that an answer is about, with the dollars of the chosen tiers."""

    zone: Zone
    tiers_usd: tuple[float, ...]
    projected_usd: float
    notional_usd: float


def choose(zones: Zones, query: ZonesQuery) -> tuple[list[int], list[Chosen]]:
    """The places of the chosen tiers, and the chosen zones, richest first. Raises InvalidParameter."""
    tiers = chosen_tiers(zones.symbol, zones.leverages, query)
    bounded = query.min_leverage is not None or query.max_leverage is not None
    least_usd = max(query.min_notional_usd, LEAST_USD if bounded else 0.0)
    picked = []
    for zone in zones.zones:
        swept = zone.state == "swept"
        if query.include != "all" and swept is not (query.include == "swept"):
            continue
        if (query.side is not None and zone.side != query.side) or zone.weight < query.min_weight:
            continue
        tiers_usd = tuple(zone.tiers_usd[tier] for tier in tiers)
        projected_usd = sum(tiers_usd)
        if projected_usd + zone.evidence_usd >= least_usd:
            picked.append(Chosen(zone, tiers_usd, projected_usd, projected_usd + zone.evidence_usd))
    return tiers, sorted(picked, key=lambda one: (-one.notional_usd, one.zone.id))


def told(one: Chosen, leverages: list[str], mark_price: float | None) -> dict[str, Any]:
    """A zone for JSON; `leverages` name the chosen tiers."""
    zone = one.zone
    answer = {
        "id": zone.id,
        "side": zone.side,
        "price": round(zone.price, 8),
        "low": zone.low,
        "high": zone.high,
        "distance_pct": None if mark_price is None else round(100 * (zone.price / mark_price - 1), 4),
        "weight": round(zone.weight, 6),
        "notional_usd": round(one.notional_usd, 2),
        "evidence_usd": round(zone.evidence_usd, 2),
        "projected_usd": round(one.projected_usd, 2),
        "state": zone.state,
        "source": zone.source,
        "tiers": {name: round(usd, 2) for name, usd in zip(leverages, one.tiers_usd, strict=True)},
        "created_ms": zone.created_ms,
        "created_mark_price": zone.created_mark_price,
        "fed_ms": zone.fed_ms,
        "reinforced_ms": zone.reinforced_ms,
        "reinforcements": zone.reinforcements,
        "touched_ms": zone.touched_ms,
        "swept_ms": zone.swept_ms,
    }
    if zone.post_mortem is not None:
        answer["post_mortem"] = _post_mortem(zone.post_mortem)
    return answer


def names_of(zones: Zones, tiers: list[int]) -> list[str]:
    """The chosen tiers as JSON names them."""
    return [f"{zones.leverages[tier]:g}" for tier in tiers]


def zones_common(zones: Zones, tiers: list[int]) -> dict[str, Any]:
    """What every answer about zones says beside the common fields."""
    return {
        "zones_ms": zones.zones_ms,
        "mark_price": zones.mark_price,
        "unit_usd": None if zones.unit_usd is None else known(zones.unit_usd, 2),
        "tiers": [float(zones.leverages[tier]) for tier in tiers],
    }


def board_version(serving: Serving, symbol: str) -> Hashable:
    """What an answer about zones depends on beside the newest frame. Raises NotReady before a minute has closed."""
    try:
        version = serving.client.zones_version(symbol)
    except NotYet:
        version = (0, 0)
    if version[1] == 0:
        raise NotReady(f"{symbol} has no zones yet: they are made when a minute closes, and none has closed")
    return version


def _post_mortem(found: PostMortem) -> dict[str, Any]:
    return {
        "from_ms": found.from_ms,
        "until_ms": found.until_ms,
        "predicted_usd": round(found.predicted_usd, 2),
        "realised_usd": round(found.realised_usd, 2),
        "liquidations": found.liquidations,
        "complete": found.complete,
        "heard": found.heard,
    }

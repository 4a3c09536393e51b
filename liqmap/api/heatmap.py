"""/liq_heatmap_v2: the map now, in dollars per price, with what is unknown said beside what is known."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from flask import Response
from numpy.typing import NDArray

from liqmap.api.answers import common, data
from liqmap.api.encode import known, whole_dollars
from liqmap.api.errors import NotReady
from liqmap.api.leverage import LEVERAGE_PARAMETERS, chosen_tiers, leverages_in_order
from liqmap.api.parameters import Choice, Flag, Number, Table
from liqmap.api.resource import Resource, Serving
from liqmap.client import Newest, Snapshot
from liqmap.client.words import no_price_yet
from liqmap.config import ModelConfig
from liqmap.domain.blend import EVIDENCE_SHARE, PROJECTION_SHARE, Blend, blend
from liqmap.domain.pools import EVIDENCE_ROOM, Pool, find_pools

PATH: Final = "/liq_heatmap_v2"
SIDES: Final = ("long", "short")
MODELS: Final = ("inventory", "flow")
Dollars = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class HeatmapQuery:
    """None: no such condition."""

    symbol: str
    range_pct: float
    min_notional_usd: float
    model: str
    min_leverage: float | None
    max_leverage: float | None
    tiers: bool


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """The live heatmap."""

    def answer(query: HeatmapQuery) -> Response:
        def build() -> tuple[Newest, dict[str, Any]]:
            snapshot = serving.client.snapshot(query.symbol, range_pct=query.range_pct, model=query.model)
            return Newest(snapshot.version, snapshot.freshness), body(snapshot, query, serving.config.model)

        return data(serving, PATH, query, serving.client.newest(query.symbol), build)

    words = "dollars of long and short positions that would be force-closed at each price around the mark, now"
    return (Resource(PATH, "/v2/liq_heatmap", words, _table(serving), answer),)


def _table(serving: Serving) -> Table[HeatmapQuery]:
    served = serving.config.model.served
    return Table(
        HeatmapQuery,
        (
            serving.symbol_parameter(serving.default_symbol),
            Number("range_pct", "half width around the mark price, percent", 10.0, low=0.5, high=50.0),
            Number("min_notional_usd", "pools of fewer dollars are left out of long_pools and short_pools", 0.0),
            Choice("model", "the projection model", served, choices=MODELS),
            *LEVERAGE_PARAMETERS,
            Flag("tiers", "1 adds by_tier: the projection of each tier", False),
        ),
        check=leverages_in_order,
    )


class _Side(NamedTuple):
    """One side of the map: `tiers_usd[tier, cell]` of the chosen tiers, `evidence_usd[cell]`, `intensity[cell]`."""

    tiers_usd: Dollars
    evidence_usd: Dollars
    intensity: Dollars


def body(snapshot: Snapshot, query: HeatmapQuery, model: ModelConfig) -> dict[str, Any]:
    """The answer without its age. Raises NotReady while no price is known, InvalidParameter when no tier is left."""
    if snapshot.mark_price is None:
        raise NotReady(no_price_yet(snapshot.symbol))
    chosen = chosen_tiers(snapshot.symbol, snapshot.leverages, query)
    projection, evidence = snapshot.projection_usd[:, chosen], snapshot.evidence_usd
    total = projection.sum(axis=1)
    blended = blend(snapshot.projection_shape[:, chosen].sum(axis=1), evidence)
    sides = [_Side(projection[side], evidence[side], blended.intensity[side]) for side in range(2)]
    long, short = sides
    answer = {
        **common(snapshot.symbol, snapshot.freshness),
        "mark_price": snapshot.mark_price,
        "price_step": snapshot.step,
        "prices": snapshot.prices,
        "long_usd": whole_dollars(total[0]),
        "short_usd": whole_dollars(total[1]),
        "long_intensity": np.round(long.intensity, 4),
        "short_intensity": np.round(short.intensity, 4),
        "evidence_long_usd": whole_dollars(long.evidence_usd),
        "evidence_short_usd": whole_dollars(short.evidence_usd),
        "tiers": [float(leverage) for leverage in snapshot.leverages[chosen]],
        "long_pools": _pools(snapshot, long, chosen, query, model),
        "short_pools": _pools(snapshot, short, chosen, query, model),
        "coverage": snapshot.coverage,
        "coverage_long": snapshot.coverage_by_side[0],
        "coverage_short": snapshot.coverage_by_side[1],
        "unknown_usd": snapshot.unknown_usd,
        "unknown_long_usd": snapshot.unknown_by_side_usd[0],
        "unknown_short_usd": snapshot.unknown_by_side_usd[1],
        "realisation": snapshot.realisation,
        "meta": {**_meta(snapshot, query, chosen, blended), "pools": _rule(model)},
        "stats": _stats(snapshot, sides),
    }
    if query.tiers:
        answer["by_tier"] = {
            f"{leverage:g}": {
                f"{name}_usd": whole_dollars(side.tiers_usd[tier]) for name, side in zip(SIDES, sides, strict=True)
            }
            for tier, leverage in enumerate(snapshot.leverages[chosen])
        }
    return answer


def _pools(
    snapshot: Snapshot, side: _Side, chosen: list[int], query: HeatmapQuery, model: ModelConfig
) -> list[dict[str, Any]]:
    found = find_pools(
        snapshot.prices,
        side.tiers_usd,
        side.evidence_usd,
        width_pct=model.pool_width_pct,
        limit=model.pools_per_side,
        min_notional_usd=query.min_notional_usd,
    )
    leverages = [f"{leverage:g}" for leverage in snapshot.leverages[chosen]]
    return [_pool(pool, side, leverages, snapshot.projection_known) for pool in found]


def _rule(model: ModelConfig) -> dict[str, Any]:
    """How pools are made and ranked."""
    return {
        "ranking": "dollars, with places kept for evidence-only pools",
        "limit_per_side": model.pools_per_side,
        "evidence_share": EVIDENCE_ROOM,
        "width_pct": model.pool_width_pct,
    }


def _pool(pool: Pool, side: _Side, leverages: list[str], projection_known: bool) -> dict[str, Any]:
    by_tier = dict(zip(leverages, (round(usd, 2) for usd in pool.by_tier_usd), strict=True))
    return {
        "price": round(pool.price, 8),
        "low": pool.low,
        "high": pool.high,
        "notional_usd": round(pool.notional_usd, 2),
        "evidence_usd": round(pool.evidence_usd, 2),
        "projected_usd": round(pool.projected_usd, 2) if projection_known else None,
        "by_tier_usd": by_tier if projection_known else None,
        "intensity": round(float(side.intensity[pool.first_cell : pool.last_cell + 1].max()), 4),
        "source": pool.source,
        "buckets": pool.buckets,
    }


def _meta(snapshot: Snapshot, query: HeatmapQuery, chosen: list[int], blended: Blend) -> dict[str, Any]:
    """What one has to know to read the numbers."""
    return {
        "model": query.model,
        "range_pct": query.range_pct,
        "frame": snapshot.version.frame,
        "sequence": snapshot.version.sequence,
        "generation": str(snapshot.version.generation),
        "born_ms": snapshot.born_ms,
        "minute_ms": snapshot.minute_ms,
        "mark_source": snapshot.mark_source,
        "mark_as_of_ms": snapshot.mark_as_of_ms,
        "index_price": snapshot.index_price,
        "last_price": snapshot.last_price,
        "open_interest_base": snapshot.open_interest_base,
        "open_interest_usd": snapshot.open_interest_usd,
        "projection_known": snapshot.projection_known,
        "projection_unit": snapshot.projection_unit,
        "weights": {
            name: {f"{snapshot.leverages[tier]:g}": known(snapshot.weights[side, tier], 6) for tier in chosen}
            for side, name in enumerate(SIDES)
        },
        "map_low": snapshot.low,
        "map_high": snapshot.high,
        "intensity": {
            "evidence_share": EVIDENCE_SHARE,
            "projection_share": PROJECTION_SHARE,
            "evidence_p99_usd": known(blended.evidence_p99_usd, 2),
            "projection_p99_usd": known(blended.projection_p99_usd, 2) if snapshot.projection_known else None,
        },
    }


def _stats(snapshot: Snapshot, sides: list[_Side]) -> dict[str, Any]:
    """Sums over the answered range, and counters since `born_ms`."""
    long, short = sides
    return {
        "long_usd": _sum(long.tiers_usd),
        "short_usd": _sum(short.tiers_usd),
        "evidence_long_usd": _sum(long.evidence_usd),
        "evidence_short_usd": _sum(short.evidence_usd),
        "below_map_long_usd": snapshot.below_long_usd,
        "above_map_long_usd": snapshot.above_long_usd,
        "below_map_short_usd": snapshot.below_short_usd,
        "above_map_short_usd": snapshot.above_short_usd,
        "at_risk_long_usd": known(snapshot.at_risk_long_usd, 2),
        "at_risk_short_usd": known(snapshot.at_risk_short_usd, 2),
        "liquidated_long_usd": snapshot.liquidated_long_usd,
        "liquidated_short_usd": snapshot.liquidated_short_usd,
        "liquidations": snapshot.liquidations,
        "events": snapshot.events,
        "lost_events": snapshot.lost_events,
        "minutes": snapshot.minutes,
        "gap_minutes": snapshot.gap_minutes,
    }


def _sum(dollars: Dollars) -> float | None:
    return known(dollars.sum(), 2)

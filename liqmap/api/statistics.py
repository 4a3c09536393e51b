"""/liq_stats: what was counted, what the map sums up to, and how complete each venue's liquidations are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Response

from liqmap.api.answers import common, data
from liqmap.api.calibration import short
from liqmap.api.encode import known
from liqmap.api.market import venues_of
from liqmap.api.parameters import Table
from liqmap.api.resource import Resource, Serving
from liqmap.api.zones import counted
from liqmap.client import Calibration, LiquidationStats, MinuteHistory, Newest, NotYet, PrintedByVenue, Zones

PATH = "/liq_stats"
_SIDES = ("long", "short")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StatisticsQuery:
    """Of which symbol."""

    symbol: str


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """Made of one frame of its own; nothing is shared with another answer."""

    def answer(query: StatisticsQuery) -> Response:
        def build() -> tuple[Newest, dict[str, Any]]:
            found = serving.client.liquidation_stats(query.symbol)
            kept = serving.client.minute_history(query.symbol)
            now = Newest(found.snapshot.version, found.snapshot.freshness)
            learned = _if_there(lambda: serving.client.calibration(query.symbol))
            zones = _if_there(lambda: serving.client.zones(query.symbol))
            wanted = venues_of(serving, query.symbol)
            return now, body(found, kept, (learned, zones), wanted, serving.config.model.served)

        newest = serving.client.newest(query.symbol)
        return data(serving, PATH, query, newest, build, _if_there(lambda: serving.client.zones_version(query.symbol)))

    table = Table(StatisticsQuery, (serving.symbol_parameter(serving.default_symbol),))
    words = "liquidations counted, sums of the map, completeness and saturation by venue, minutes with gaps"
    return (Resource(PATH, "/v2/liq_stats", words, table, answer),)


def _if_there(read: Callable[[], T]) -> T | None:
    """What is there; None: no minute has closed yet."""
    try:
        return read()
    except NotYet:
        return None


def body(
    found: LiquidationStats,
    kept: MinuteHistory,
    of_the_minute: tuple[Calibration | None, Zones | None],
    wanted: frozenset[str],
    model: str,
) -> dict[str, Any]:
    """The answer without its age. Calibration and zones are null before a minute has closed."""
    learned, zones = of_the_minute
    snapshot = found.snapshot
    projected, evidence = snapshot.projection_usd.sum(axis=(1, 2)), snapshot.evidence_usd.sum(axis=1)
    return {
        **common(snapshot.symbol, snapshot.freshness),
        "since_ms": snapshot.born_ms,
        "minute_ms": snapshot.minute_ms,
        "minutes": snapshot.minutes,
        "gap_minutes": snapshot.gap_minutes,
        "events": snapshot.events,
        "lost_events": snapshot.lost_events,
        "liquidations": snapshot.liquidations,
        "liquidated_long_usd": known(snapshot.liquidated_long_usd, 2),
        "liquidated_short_usd": known(snapshot.liquidated_short_usd, 2),
        "per_venue": {
            venue: _venue(of) for venue, of in found.venues.items() if venue in wanted or of.liquidations > 0
        },
        **{f"evidence_{side}_usd": known(usd, 2) for side, usd in zip(_SIDES, evidence, strict=True)},
        **{f"projected_{side}_usd": known(usd, 2) for side, usd in zip(_SIDES, projected, strict=True)},
        "open_interest_usd": None if snapshot.open_interest_usd is None else known(snapshot.open_interest_usd, 2),
        "coverage": snapshot.coverage,
        "unknown_usd": snapshot.unknown_usd,
        "at_risk_long_usd": known(snapshot.at_risk_long_usd, 2),
        "at_risk_short_usd": known(snapshot.at_risk_short_usd, 2),
        "realisation": snapshot.realisation,
        "model": {
            "name": model,
            "projection_unit": snapshot.projection_unit,
            "tiers": [float(leverage) for leverage in snapshot.leverages],
            "weights": {
                side: [known(weight, 6) for weight in weights]
                for side, weights in zip(_SIDES, snapshot.weights, strict=True)
            },
        },
        "calibration": short(learned),
        "zones": None if zones is None else _zones(zones),
        "history_frames": kept.frames,
        "history": {
            "from_ms": kept.from_ms,
            "to_ms": kept.to_ms,
            "gap_minutes": kept.gap_minutes,
            "lost_minutes": kept.lost_minutes,
            "feed_gap_minutes": {venue: dict(topics) for venue, topics in kept.feed_gap_minutes.items()},
        },
    }


def _zones(zones: Zones) -> dict[str, Any]:
    """How many there are, by side and state, and what happened to them since their state began."""
    return {
        "zones_ms": zones.zones_ms,
        "unit_usd": None if zones.unit_usd is None else known(zones.unit_usd, 2),
        **{
            side: {
                **{
                    state: sum(zone.side == side and zone.state == state for zone in zones.zones)
                    for state in ("active", "touched", "swept")
                },
                "since_start": counted(zones.counts[side]),
            }
            for side in _SIDES
        },
    }


def _venue(of: PrintedByVenue) -> dict[str, Any]:
    return {
        "liquidations": of.liquidations,
        "long_usd": known(of.long_usd, 2),
        "short_usd": known(of.short_usd, 2),
        "saturation": None if of.saturation is None else known(of.saturation, 4),
        "completeness": None if of.completeness is None else known(of.completeness, 4),
    }

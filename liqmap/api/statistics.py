"""/liq_stats: what was counted, what the map sums up to, and how complete each venue's liquidations are."""

from dataclasses import dataclass
from typing import Any

from flask import Response

from liqmap.api.answers import common, data
from liqmap.api.calibration import short
from liqmap.api.encode import known
from liqmap.api.market import venues_of
from liqmap.api.parameters import Table
from liqmap.api.resource import Resource, Serving
from liqmap.client import Calibration, LiquidationStats, MinuteHistory, Newest, NotYet, PrintedByVenue

PATH = "/liq_stats"
_SIDES = ("long", "short")


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
            learned = _learned(serving, query.symbol)
            return now, body(found, kept, learned, venues_of(serving, query.symbol), serving.config.model.served)

        return data(serving, PATH, query, serving.client.newest(query.symbol), build)

    table = Table(StatisticsQuery, (serving.symbol_parameter(serving.default_symbol),))
    words = "liquidations counted, sums of the map, completeness and saturation by venue, minutes with gaps"
    return (Resource(PATH, "/v2/liq_stats", words, table, answer),)


def _learned(serving: Serving, symbol: str) -> Calibration | None:
    """None before a minute is closed."""
    try:
        return serving.client.calibration(symbol)
    except NotYet:
        return None


def body(
    found: LiquidationStats, kept: MinuteHistory, learned: Calibration | None, wanted: frozenset[str], model: str
) -> dict[str, Any]:
    """The answer without its age. What this version does not compute (zones) is null."""
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
        "zones": None,
        "history_frames": kept.frames,
        "history": {
            "from_ms": kept.from_ms,
            "to_ms": kept.to_ms,
            "gap_minutes": kept.gap_minutes,
            "lost_minutes": kept.lost_minutes,
            "feed_gap_minutes": {venue: dict(topics) for venue, topics in kept.feed_gap_minutes.items()},
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

"""/orderbook_heatmap_stats and _debug: how each venue's order book stands, and what is kept of the past."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Response

from liqmap.api.answers import common, unkept
from liqmap.api.book_queries import ALIAS, FRAME, listened_venues
from liqmap.api.book_words import no_frame_yet
from liqmap.api.errors import WarmingUp
from liqmap.api.parameters import Table
from liqmap.api.resource import Resource, Serving
from liqmap.client import BookStanding, BookStandings, Newest, NotYet


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """Of which symbol."""

    symbol: str


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """For who watches, and for who looks for a fault."""
    return (
        _standing(serving, "stats", "how each venue's order book stands", _stats),
        _standing(serving, "debug", "the same with what finds faults", _debug),
    )


Told = Callable[[Serving, BookStandings], dict[str, Any]]


def _standing(serving: Serving, kind: str, words: str, told: Told) -> Resource[Any]:
    path = f"{FRAME}_{kind}"

    def answer(query: StandingQuery) -> Response:
        try:
            found = serving.client.books.standing(query.symbol)
        except NotYet as error:
            raise WarmingUp(no_frame_yet(serving, query.symbol, listened_venues(serving, query.symbol))) from error
        body = {**common(query.symbol, found.freshness), **told(serving, found)}
        return unkept(path, query, Newest(found.version, found.freshness), body)

    table = Table(StandingQuery, (serving.symbol_parameter(serving.default_symbol),))
    return Resource(path, f"{ALIAS}_{kind}", words, table, answer)


def _stats(serving: Serving, found: BookStandings) -> dict[str, Any]:
    listened = listened_venues(serving, found.symbol)
    frames = found.frames
    return {
        "venues": {name: _venue(each) for name, each in found.venues.items() if name in listened},
        "frames": {
            "kept": frames.kept,
            "capacity": frames.capacity,
            "interval_ms": serving.config.depth.frame_s * 1000,
            "oldest_ms": frames.oldest_ms,
            "newest_ms": frames.newest_ms,
        },
        "memory": {"depth_board_bytes": found.bytes, "frames_bytes": frames.bytes},
    }


def _venue(each: BookStanding) -> dict[str, Any]:
    spread = None if each.best_bid is None or each.best_ask is None else each.best_ask - each.best_bid
    return {
        "state": each.state,
        "synced": each.synced,
        "resyncs": each.resyncs,
        "gaps": each.sequence_gaps,
        "levels": {"bid": each.bid_levels, "ask": each.ask_levels},
        "best_bid": each.best_bid,
        "best_ask": each.best_ask,
        "spread": None if spread is None else float(f"{spread:.6g}"),  # prices are exact, their difference is not
        "last_update_ms": each.as_of_ms,
        "last_update_age_ms": each.age_ms,
        "complete_low": each.complete_low,
        "complete_high": each.complete_high,
        "dropped_levels": each.dropped_levels,
        "dropped_updates": each.dropped_updates,
    }


def _debug(serving: Serving, found: BookStandings) -> dict[str, Any]:
    stats = _stats(serving, found)
    for name, told in stats["venues"].items():
        each = found.venues[name]
        told |= {
            "sequence": each.sequence,
            "venue_ms": each.venue_ms,
            "updates": each.updates,
            "snapshots": each.snapshots,
            "crossed": each.crossed,
            "bid_usd": None if each.bid_usd is None else round(each.bid_usd),
            "ask_usd": None if each.ask_usd is None else round(each.ask_usd),
        }
    listened = listened_venues(serving, found.symbol)
    return {
        **stats,
        "board": {
            "published": found.published,
            "generation": str(found.version.generation),
            "price_step": found.step,
            "low": found.low,
            "high": found.high,
            "cells": found.cells,
            "cells_capacity": found.capacity,
        },
        "frames_written": found.frames.written,
        "recent_frames": [
            {"t_ms": t_ms, "covered_ms": covered, "venues": {name: by_venue[name] for name in listened}}
            for t_ms, by_venue, covered in found.frames.recent
        ],
    }

"""/symbols: what is configured."""

from typing import Any

import msgspec
from flask import Response

from liqmap.api.answers import plain
from liqmap.api.resource import NO_PARAMETERS, NoQuery, Resource, Serving
from liqmap.config import SymbolConfig


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """One list."""

    def symbols(_: NoQuery) -> Response:
        running = set(serving.client.enabled())
        return plain(
            {
                "source": serving.client.source(),
                "default": serving.default_symbol,
                "symbols": [
                    {"symbol": name, "enabled": name in running, **_described(table)}
                    for name, table in serving.config.symbols.items()
                ],
            }
        )

    words = "configured symbols, their price steps, leverage tiers and instruments"
    return (Resource("/symbols", "/v2/symbols", words, NO_PARAMETERS, symbols),)


def _described(table: SymbolConfig) -> dict[str, Any]:
    listed = msgspec.structs.asdict(table.instruments)
    return {
        "price_step": table.step,
        "range_pct": table.range_pct,
        "tiers": [
            {"leverage": leverage, "prior_weight": weight}
            for leverage, weight in zip(table.leverages, table.weights, strict=True)
        ],
        "instruments": {venue: name for venue, name in listed.items() if name is not None},
    }

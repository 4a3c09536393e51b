"""The Flask application: every resource under its path and its alias, errors as envelopes, nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, request

from liqmap.api import (
    book_standing,
    calibration,
    errors,
    health,
    heatmap,
    intensity_heatmap,
    liquidations,
    market,
    open_interest,
    order_books,
    statistics,
    symbols,
    zone_heatmap,
    zones,
)
from liqmap.api.answers import BYTES_HEADERS
from liqmap.api.memo import Memo
from liqmap.api.resource import Resource, Serving, blueprint
from liqmap.client import Client
from liqmap.config import Config

MODULES: Final[tuple[Callable[[Serving], tuple[Resource[Any], ...]], ...]] = (
    health.resources,
    symbols.resources,
    intensity_heatmap.resources,
    heatmap.resources,
    zones.resources,
    zone_heatmap.resources,
    liquidations.resources,
    open_interest.resources,
    market.resources,
    statistics.resources,
    calibration.resources,
    order_books.resources,
    book_standing.resources,
)

_EXPOSED: Final = ", ".join(("ETag", *BYTES_HEADERS))


def create_app(config: Config, client: Client | None = None, var_dir: Path | None = None) -> Flask:
    """The application over one instance. `client` None: of the instance that `config` names. `var_dir`: where the
    daemon writes, so that a full disk is told."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 0
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False  # else `//oi` is answered with a redirect in HTML
    app.url_map.redirect_defaults = False
    errors.install(app)
    serving = serving_of(config, client, var_dir)
    for resource in resources(serving):
        app.register_blueprint(blueprint(resource, serving))
    if config.api.cors_origins:
        app.after_request(_cors(frozenset(config.api.cors_origins)))
    return app


def serving_of(config: Config, client: Client | None = None, var_dir: Path | None = None) -> Serving:
    """What the resources of one process share."""
    return Serving(config, client or _client_of(config), Memo(), var_dir)


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """Everything that can be asked for."""
    return tuple(resource for module in MODULES for resource in module(serving))


def _client_of(config: Config) -> Client:
    return Client(
        config.daemon.instance,
        stale_after_ms=config.api.stale_after_ms,
        expected=config.enabled_symbols,
        model=config.model.served,
    )


def _cors(origins: frozenset[str]) -> Callable[[Response], Response]:
    def allow(response: Response) -> Response:
        origin = request.headers.get("Origin")
        response.vary.add("Origin")
        if origin in origins or "*" in origins:
            response.headers["Access-Control-Allow-Origin"] = origin or "*"
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    return allow

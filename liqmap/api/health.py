"""/health: for people, for load balancers (live) and for whoever wants to know whether the data can be used (ready)."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from flask import Response

from liqmap import __version__
from liqmap.api.answers import plain
from liqmap.api.errors import envelope
from liqmap.api.parameters import Table
from liqmap.api.resource import NO_PARAMETERS, NoQuery, Resource, Serving

DISK_FULL_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReadyQuery:
    """`symbol` None: any."""

    symbol: str | None


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """Three questions that must not be one."""

    def health(_: NoQuery) -> Response:
        return plain(body(serving))

    def live(_: NoQuery) -> Response:
        return plain({"ok": True, "version": __version__})

    def ready(query: ReadyQuery) -> Response:
        return _ready(serving, query.symbol)

    return (
        Resource("/health", "/v1/health", "the whole instance; 200 while the API lives", NO_PARAMETERS, health),
        Resource("/health/live", "/v1/health/live", "200 while the API lives", NO_PARAMETERS, live),
        Resource(
            "/health/ready",
            "/v1/health/ready",
            "200 when at least one symbol (or the named one) is fresh, else 503 and why",
            Table(ReadyQuery, (serving.symbol_parameter(),)),
            ready,
        ),
    )


def body(serving: Serving) -> dict[str, Any]:
    """What /health says."""
    status = serving.client.status()
    return {
        "ok": status.status == "ok",
        "status": status.status,
        "version": __version__,
        "uptime_s": None if status.uptime_s is None else round(status.uptime_s, 3),
        "source": status.source,
        "processes": {name: _rounded(asdict(process)) for name, process in status.processes.items()},
        "feeds": {name: asdict(venue) for name, venue in status.feeds.items()},
        "symbols": {name: asdict(symbol) for name, symbol in status.symbols.items()},
        "margins": {
            symbol: {venue: asdict(margin) for venue, margin in venues.items()}
            for symbol, venues in status.margins.items()
        },
        "quarantine": asdict(status.kept.quarantine),
        "journal": asdict(status.kept.journal),
        "capture": asdict(status.kept.capture),
        "problems": [*status.problems, *_disk_problems(serving.var_dir)],
    }


def _disk_problems(directory: Path | None) -> Iterator[str]:
    """What a full disk costs: logs, the quarantine, changes of the configuration. Maps live in memory and go on."""
    if directory is None:
        return
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        yield f"{directory} cannot be looked at: {error.strerror}"
        return
    free = disk.f_bavail * disk.f_frsize
    if free < DISK_FULL_BYTES:
        yield f"the disk of {directory} is full ({free // 1024} KiB free): logs are lost, changes refused"


def _rounded(process: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 1) if isinstance(value, float) else value for key, value in process.items()}


def _ready(serving: Serving, symbol: str | None) -> Response:
    wanted = (symbol,) if symbol else serving.client.enabled()
    reasons = {name: serving.client.why_not(name) for name in wanted}
    ready = [name for name, reason in reasons.items() if reason is None]
    if ready:
        return plain({"ready": True, "symbols": ready})
    why = "; ".join(filter(None, reasons.values())) or "no symbol is enabled"
    return envelope(503, "not_ready", why, ready=False, reason=why)

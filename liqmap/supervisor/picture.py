"""The daemon in one answer: what `liqmapctl status` shows and monitoring reads."""

import math
import os
from collections.abc import Iterable
from typing import Any, Final

from liqmap import __version__
from liqmap.config import Effective
from liqmap.domain.enums import Source
from liqmap.supervisor.household import Sight
from liqmap.supervisor.lifecycle import State, describe

_NS: Final = 1_000_000_000


def picture(
    effective: Effective,
    sights: Iterable[Sight],
    address: str,
    uptime_s: float,
    stopping: bool,
    faults: Iterable[str] = (),
) -> dict[str, Any]:
    """Everything about the daemon and its children, as JSON; None is unknown or does not apply.

    `faults`: those that are switched on at simulated venues.
    """
    config, seen = effective.config, list(sights)
    return {
        "ok": True,
        "instance": config.daemon.instance,
        "version": __version__,
        "pid": os.getpid(),
        "source": Source(effective.mode.source).name.lower(),
        "address": address,
        "uptime_s": round(uptime_s, 1),
        "stopping": stopping,
        "symbols": {name: table.enabled for name, table in config.symbols.items()},
        "processes": [process(sight) for sight in seen],
        "problems": [*problems(seen), *(f"simulated fault: {words}" for words in faults)],
    }


def process(sight: Sight) -> dict[str, Any]:
    """One child."""
    beat_age_ns = sight.beat_age_ns
    return {
        "name": sight.name,
        "state": sight.state.value,
        "pid": sight.pid,
        "uptime_s": None if sight.age_ns is None else round(sight.age_ns / _NS, 1),
        "heartbeat_age_ms": None if beat_age_ns is None else beat_age_ns // 1_000_000,
        "restarts": sight.restarts,
        "cpu_pct": _known(sight.usage.cpu_pct),
        "rss_mb": _known(sight.usage.rss_mb),
        "exit": None if sight.exit_code is None else describe(sight.exit_code),
        "reason": sight.reason,
        "next_start_in_s": None if sight.state is not State.BACKOFF else round((sight.due_in_ns or 0) / _NS, 1),
    }


def problems(sights: Iterable[Sight]) -> list[str]:
    """What a person should know, in words. A past restart alone is no problem."""
    found = []
    for sight in sights:
        if sight.state is State.FATAL:
            found.append(f"{sight.name} is given up: {sight.reason}")
        elif sight.state is State.BACKOFF:
            found.append(f"{sight.name} is down: {sight.reason}")
        elif sight.state is State.ABORTING:
            found.append(f"{sight.name} hangs: {sight.reason}")
        elif sight.state is State.STOPPED:
            found.append(f"{sight.name} is stopped by an operator")
        elif sight.state is State.STARTING and sight.restarts:
            found.append(f"{sight.name} is starting again" + (f": {sight.reason}" if sight.reason else ""))
    return found


def _known(number: float) -> float | None:
    return None if math.isnan(number) else round(number, 1)

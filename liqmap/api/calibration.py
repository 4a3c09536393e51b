"""/calibration: how the weights of the leverage tiers are learned, and why a window did or did not move them."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from flask import Response
from numpy.typing import NDArray

from liqmap.api.answers import common, unkept
from liqmap.api.encode import known
from liqmap.api.market import venues_of
from liqmap.api.parameters import Table
from liqmap.api.resource import Resource, Serving
from liqmap.client import Calibration, JudgedWindow, Newest

PATH: Final = "/calibration"
SIDES: Final = ("long", "short")


@dataclass(frozen=True, slots=True)
class CalibrationQuery:
    """Of which symbol."""

    symbol: str


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """One answer a minute."""

    def answer(query: CalibrationQuery) -> Response:
        found = serving.client.calibration(query.symbol)
        told = body(found, venues_of(serving, query.symbol))
        return unkept(PATH, query, Newest(found.version, found.freshness), told)

    table = Table(CalibrationQuery, (serving.symbol_parameter(serving.default_symbol),))
    words = "weights of the leverage tiers, observed over expected liquidations, verdicts and guard rails"
    return (Resource(PATH, "/v2/calibration", words, table, answer),)


def body(found: Calibration, wanted: frozenset[str]) -> dict[str, Any]:
    """The answer without its age; `wanted`: the venues that have a contract of the symbol."""
    observed, expected = found.observed_base.sum(axis=0), found.expected_base.sum(axis=0)
    return {
        **common(found.symbol, found.freshness),
        "tiers": [float(leverage) for leverage in found.leverages],
        "prior": _by_side(found.prior, 6),
        "weights": _by_side(found.weights, 6),
        "window": {
            "minutes": found.window_minutes,
            "observed_base": _by_side(found.observed_base, 6),
            "expected_base": _by_side(found.expected_base, 6),
            "observed_over_expected": [
                known(seen / due, 6) if due > 0 else None for seen, due in zip(observed, expected, strict=True)
            ],
        },
        "realisation": realisation(found),
        "completeness": {
            venue: {"completeness": of.completeness, "saturation": of.saturation}
            for venue, of in found.venues.items()
            if venue in wanted or of.completeness is not None
        },
        "verdicts": [verdict(each) for each in found.verdicts],
        "counters": {
            "windows": found.windows,
            "applied": found.applied,
            "learned_minutes": found.learned_minutes,
        },
        "guard_rails": dict(found.guard_rails),
    }


def short(found: Calibration | None) -> dict[str, Any] | None:
    """What /liq_stats says of it; None: no minute is closed yet."""
    if found is None:
        return None
    last = found.verdicts[-1] if found.verdicts else None
    return {
        "windows": found.windows,
        "applied": found.applied,
        "last_verdict": None if last is None else verdict(last),
        "realisation": realisation(found),
    }


def realisation(found: Calibration) -> dict[str, Any]:
    """Which realisations are known, and by which one observed quantities are divided."""
    of = found.realisation
    return {"configured": of.configured, "long_run": of.long_run, "divided_by": of.divided_by}


def verdict(window: JudgedWindow) -> dict[str, Any]:
    """One judged window."""
    return {
        "end_ms": window.end_ms,
        "minutes": window.minutes,
        "verdict": window.verdict,
        "level": window.level,
        "entropy": window.entropy,
        "largest": window.largest,
        "furthest": window.furthest,
    }


def _by_side(rows: NDArray[np.float64], digits: int) -> dict[str, list[float | None]]:
    return {side: [known(value, digits) for value in row] for side, row in zip(SIDES, rows, strict=True)}

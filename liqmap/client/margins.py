"""What ingest says about margin tables: what the venues publish now, against what the maps are made with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from numpy.typing import NDArray

from liqmap.client.timing import Timing
from liqmap.client.words import known, text
from liqmap.domain.enums import Source, Venue
from liqmap.domain.margin_drift import TOLERATED


@dataclass(frozen=True, slots=True)
class MarginStatus:
    """The margin table of one symbol at one venue. Rates are shares of notional, None: unknown.

    `refreshed_ms`: when the venue last told its tiers. `leverage`, `used_mmr`, `published_mmr`: the leverage tier that
    differs most, `drift` its difference as a share of what is in use. `tiers_off`: how many tiers differ by more than
    10 %. `used_as_of`: date of the table in use; `own`: it is one of that venue, else the mix that stands for it.
    `late`: asked for long, without an answer. `reason`: why nothing was compared or kept, "" when it was.
    """

    refreshed_ms: int | None
    refreshed_age_ms: int | None
    used_as_of: str | None
    own: bool
    leverage: float | None
    used_mmr: float | None
    published_mmr: float | None
    drift: float | None
    tiers_off: int | None
    late: bool
    reason: str


Margins = Mapping[str, Mapping[str, MarginStatus]]
"""By symbol and venue."""


def decode(board: NDArray[Any], timing: Timing) -> Margins:
    """Every margin table on a feeds board."""
    found: dict[str, dict[str, MarginStatus]] = {}
    for row in board["margins"][: int(board["margin_count"])]:
        venue = Venue(int(row["venue"])).name.lower()
        found.setdefault(text(row["symbol"]), {})[venue] = _status(row, timing)
    return found


def _status(row: Any, timing: Timing) -> MarginStatus:
    refreshed_ms = int(row["refreshed_ms"])
    used, published = known(row["used_mmr"]), known(row["published_mmr"])
    drift = None if used is None or published is None else round(published / used - 1.0, 6)
    return MarginStatus(
        refreshed_ms=refreshed_ms if refreshed_ms >= 0 else None,
        refreshed_age_ms=timing.age_ms(refreshed_ms * 1_000_000) if refreshed_ms >= 0 else None,
        used_as_of=text(row["used_as_of"]) or None,
        own=bool(row["own"]),
        leverage=known(row["leverage"]),
        used_mmr=used,
        published_mmr=published,
        drift=drift,
        tiers_off=None if drift is None else int(row["tiers_off"]),
        late=bool(row["late"]),
        reason=text(row["reason"]),
    )


def problems(margins: Margins, source: str) -> Iterator[str]:
    """What a person should look at. Only of live venues: the tiers of simulated ones differ from the shipped tables on
    purpose, so that the model is not graded on its own numbers."""
    if source != Source.LIVE.name.lower():
        return
    for symbol, venues in margins.items():
        for venue, status in venues.items():
            if status.tiers_off:
                yield _drifted(symbol, venue, status)
            if status.late:
                yield f"margins of {symbol} at {venue} {_untold(status)}"


def _drifted(symbol: str, venue: str, status: MarginStatus) -> str:
    whose = "" if status.own else ", of other venues"
    off = f"{status.tiers_off} tier{'s' if status.tiers_off != 1 else ''} off by more than {100 * TOLERATED:g} %"
    return (
        f"margins of {symbol} at {venue} differ from those in use: {_percent(status.published_mmr)} "
        f"({_when(status.refreshed_ms)}) instead of {_percent(status.used_mmr)} ({status.used_as_of}{whose}) "
        f"at {status.leverage:g}x; {off}"
    )


def _percent(rate: float | None) -> str:
    return "?" if rate is None else f"{100 * rate:.3g} %"


def _when(time_ms: int | None) -> str:
    return "?" if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


def _untold(status: MarginStatus) -> str:
    when = "were never told" if status.refreshed_ms is None else f"are not told since {_when(status.refreshed_ms)}"
    return f"{when} ({status.reason})" if status.reason else when

"""The market sheet: what each venue said last about price, funding and positioning. Kept for people, not for the map.

Facts are told as their venue told them; only the reference price of the map is guarded against absurd prints. A fact
counts by the venue's own time of it, so an answer that was long on its way never overwrites a newer one; of two facts
of one time the later one to arrive stays. That makes the sheet the same however the stream is cut into batches.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Kind, Ratio, Venue
from liqmap.domain.event import EVENT_DTYPE, MISSING
from liqmap.engine.bars import VENUE_CLOCK_NS
from liqmap.engine.spec import MILLISECOND_NS, MINUTE_NS

VENUES: Final = len(Venue)

BAR_AHEAD_NS: Final = 5 * MINUTE_NS
"""A ratio's bar may be named by its end; one that ends later than the shortest bar allows is no fact."""

_MARK, _LAST, _MID, _FUNDING, _INTERVAL, _RATIO = range(6)
_ROWS: Final = _RATIO + len(Ratio)
_RARE: Final = _FUNDING
"""Rows from here on are told by their quantity, and seldom."""

_ROW_OF_KIND: Final = np.full(256, -1, dtype=np.int64)
_ROW_OF_KIND[[Kind.MARK_PRICE, Kind.TRADE, Kind.MID_PRICE, Kind.FUNDING, Kind.RATIO]] = (
    _MARK,
    _LAST,
    _MID,
    _FUNDING,
    _RATIO,
)


class MarketSheet:
    """One symbol. Rows are kinds of facts, columns venues by number."""

    def __init__(self) -> None:
        nothing = np.zeros((), dtype=EVENT_DTYPE)
        for name in ("price", "quantity", "extra"):
            nothing[name] = np.nan
        nothing["detail"] = MISSING
        self._said = np.full(_ROWS * VENUES, nothing, dtype=EVENT_DTYPE)
        self._at_ns = np.full(_ROWS * VENUES, MISSING, dtype=np.int64)

    def take(self, events: NDArray[np.void]) -> None:
        """Keep what is newer than what is known; `events` are EVENT_DTYPE, in order of arrival."""
        rows = _ROW_OF_KIND[events["kind"]]
        own = (rows >= 0) & (events["venue"] < VENUES)
        if not own.all():
            events, rows = events[own], rows[own]
        if len(events) == 0:
            return
        at_ns = _times(events)
        good = (events["price"] > 0) & (events["price"] < np.inf)
        if rows.max() >= _RARE:
            rows, at_ns, good = _rare(events, rows, at_ns, good)
        if not good.all():
            events, rows, at_ns = events[good], rows[good], at_ns[good]
        slots = rows * VENUES + events["venue"]
        np.maximum.at(self._at_ns, slots, at_ns)
        newest = np.flatnonzero(at_ns == self._at_ns[slots])
        self._said[slots[newest]] = events[newest]  # of several to one slot the last one stays

    def facts(self) -> dict[str, Any]:
        """The fields of `frames.Facts` that the sheet fills, by venue number; NaN and -1 are unknown."""
        said, at_ns = self._said.reshape(_ROWS, VENUES), self._at_ns.reshape(_ROWS, VENUES)
        index, told_alone = said["extra"][_MARK], said["extra"][_INTERVAL]
        interval_h = np.where(np.isnan(told_alone), said["extra"][_FUNDING], told_alone)
        return {
            "venue_mark": _floats(said["price"][_MARK]),
            "venue_index": _floats(np.where(index > 0, index, np.nan)),
            "venue_mark_as_of_ns": _wholes(at_ns[_MARK]),
            "venue_last": _floats(said["price"][_LAST]),
            "venue_last_as_of_ns": _wholes(at_ns[_LAST]),
            "venue_mid": _floats(said["price"][_MID]),
            "venue_mid_as_of_ns": _wholes(at_ns[_MID]),
            "venue_funding_rate": _floats(said["quantity"][_FUNDING]),
            "venue_funding_interval_h": _floats(np.where(interval_h > 0, interval_h, np.nan)),
            "venue_next_funding_ms": _wholes(np.maximum(said["detail"][_FUNDING], MISSING)),
            "venue_funding_as_of_ns": _wholes(at_ns[_FUNDING]),
            "venue_long_share": tuple(map(tuple, said["quantity"][_RATIO:].T.tolist())),
            "venue_ratio_ms": tuple(map(tuple, (at_ns[_RATIO:].T // MILLISECOND_NS).tolist())),
        }


def _times(events: NDArray[np.void]) -> NDArray[np.int64]:
    """When each was true: the venue's own time, that of receipt where it says none or one of the future."""
    venue_ms, receive_ns = events["venue_ms"], events["receive_ns"]
    venue_ns = venue_ms * MILLISECOND_NS
    believed = (venue_ms > 0) & (venue_ns <= receive_ns + VENUE_CLOCK_NS)
    return np.asarray(np.where(believed, venue_ns, receive_ns), dtype=np.int64)


def _rare(
    events: NDArray[np.void], rows: NDArray[np.int64], at_ns: NDArray[np.int64], good: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows, times and validity, with fundings and ratios judged by what they tell."""
    rows, at_ns, good = rows.copy(), at_ns.copy(), good.copy()
    funding, ratio = rows == _FUNDING, rows == _RATIO
    alone = funding & np.isnan(events["quantity"])
    rows[alone] = _INTERVAL
    good[funding] = np.isfinite(events["quantity"][funding])
    good[alone] = events["extra"][alone] > 0
    rows[ratio] += np.clip(events["side"][ratio].astype(np.int64), 1, len(Ratio)) - 1
    shares, bar_ns = events["quantity"], events["venue_ms"] * MILLISECOND_NS
    at_ns[ratio] = bar_ns[ratio]
    known = (events["venue_ms"] > 0) & (bar_ns <= events["receive_ns"] + BAR_AHEAD_NS)
    known &= (events["side"] >= 1) & (events["side"] <= len(Ratio))
    good[ratio] = ((shares >= 0) & (shares <= 1) & known)[ratio]
    return rows, at_ns, good


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(values.tolist())


def _wholes(values: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(values.tolist())

"""What ingest says about its feeds: the gaps that are open now, and the state of venues for people."""

import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.client.records import Gap, TopicStatus, VenueStatus
from liqmap.client.timing import Timing
from liqmap.client.words import known, text
from liqmap.domain.enums import GapReason, Topic, Venue

ALL: Final = "all"

PRICE_TOPICS: Final = (Topic.MARK_PRICE, Topic.TRADE, Topic.DEPTH)
"""What a map can follow the price by."""


@dataclass(frozen=True, slots=True)
class Feeds:
    """One published feeds board, decoded. `gaps_version` is the same for equal gaps in every process.

    `priceless`: symbols of which no venue delivers any price now. `finished`: a replay has come to its end.
    """

    gaps: tuple[Gap, ...]
    gaps_version: int
    board: NDArray[Any] | None
    priceless: frozenset[str] = frozenset()
    finished: bool = False

    def gaps_of(self, symbol: str) -> tuple[Gap, ...]:
        """The gaps that concern one symbol."""
        return tuple(gap for gap in self.gaps if gap.symbol in (None, symbol))


NO_FEEDS: Final = Feeds((Gap(ALL, ALL, None, None, "not_connected"),), 1, None)
"""Nothing was ever said about any feed."""


def decode(board: NDArray[Any], *, silent: bool) -> Feeds:
    """The feeds of a board. `silent`: ingest itself has stopped speaking, so nothing arrives."""
    gaps = tuple(sorted(_stopped(board) if silent else _open(board), key=_order))
    return Feeds(gaps, zlib.crc32(repr(gaps).encode()), board, _priceless(board), bool(board["finished"]))


def venue_names(board: NDArray[Any]) -> list[str]:
    """The enabled venues on a board."""
    return [_venue(row["venue"]) for row in _rows(board, "venues", "venue_count") if row["enabled"]]


def statuses(board: NDArray[Any], timing: Timing) -> Mapping[str, VenueStatus]:
    """Every venue on a board, with its topics over all symbols."""
    topics = _rows(board, "topics", "topic_count")
    return {
        _venue(row["venue"]): VenueStatus(
            state=text(row["state"]),
            enabled=bool(row["enabled"]),
            delivering=bool(row["delivering"]),
            topics=_topics(topics[topics["venue"] == row["venue"]], timing),
            reconnects=int(row["reconnects"]),
            backoff_s=float(row["backoff_s"]),
            reason=text(row["reason"]),
            malformed=int(row["malformed"]),
            refused_instruments=int(row["refused_instruments"]),
            clock_offset_ms=known(row["clock_offset_ms"]),
            round_trip_ms=known(row["round_trip_ms"]),
            lag_ms=known(row["lag_ms"]),
            budget_used=round(float(row["budget_used"]), 4),
        )
        for row in _rows(board, "venues", "venue_count")
    }


def depth_gap_in_words(feeds: Feeds, symbol: str, venues: Collection[str], from_ms: int, to_ms: int) -> str:
    """Which recorded gaps of the depth feed lie in a stretch: `binance: disconnected, okx: silent`; "" without one."""
    if feeds.board is None:
        return ""
    rows = _rows(feeds.board, "gaps", "gap_count")
    rows = rows[(rows["topic"] == Topic.DEPTH) & (rows["from_ms"] < to_ms)]
    rows = rows[((rows["to_ms"] == -1) | (rows["to_ms"] > from_ms)) & np.isin(rows["symbol"], (b"", symbol.encode()))]
    found = {f"{_venue(row['venue'])}: {_reason(row).replace('_', ' ')}": None for row in rows}
    return ", ".join(each for each in found if each.partition(":")[0] in venues)


def _topics(rows: NDArray[Any], timing: Timing) -> dict[str, TopicStatus]:
    found: dict[str, TopicStatus] = {}
    for number in np.unique(rows["topic"]):
        own = rows[rows["topic"] == number]
        newest_ns = int(own["last_event_ns"].max())
        found[_topic(number)] = TopicStatus(
            last_event_age_ms=timing.age_ms(newest_ns) if newest_ns >= 0 else None,
            events=int(own["events"].sum()),
            gaps=int(own["gaps"].sum()),
            silent=bool(own["silent"].any()),
            missing=bool(own["missing"].any()),
            gap_ms=int(own["gap_ms"].max()),
            dropped=int(own["dropped"].max()),
        )
    return found


def _open(board: NDArray[Any]) -> Iterator[Gap]:
    """Open gap records, and missing topics that no record names."""
    gaps = _rows(board, "gaps", "gap_count")
    named: set[tuple[str, str, str | None]] = set()
    for row in gaps[gaps["to_ms"] == -1]:
        gap = Gap(
            _venue(row["venue"]), _topic(row["topic"]), text(row["symbol"]) or None, int(row["from_ms"]), _reason(row)
        )
        named.add((gap.venue, gap.topic, gap.symbol))
        yield gap
    topics = _rows(board, "topics", "topic_count")
    for row in topics[topics["missing"] == 1]:
        key = (_venue(row["venue"]), _topic(row["topic"]), text(row["symbol"]) or None)
        if key not in named and (key[0], key[1], None) not in named:
            last_ns = int(row["last_event_ns"])
            reason = GapReason.SILENT if row["silent"] else GapReason.NOT_CONNECTED
            yield Gap(*key, last_ns // 1_000_000 if last_ns >= 0 else None, reason.name.lower())


def _priceless(board: NDArray[Any]) -> frozenset[str]:
    """Symbols that have price feeds, every one of them missing."""
    rows = _rows(board, "topics", "topic_count")
    rows = rows[np.isin(rows["topic"], PRICE_TOPICS)]
    there = {bytes(symbol) for symbol in rows["symbol"][rows["missing"] == 0]}
    return frozenset(text(symbol) for symbol in {bytes(symbol) for symbol in rows["symbol"]} - there)


def _stopped(board: NDArray[Any]) -> Iterator[Gap]:
    since_ms = int(board["as_of_ns"]) // 1_000_000
    for venue in venue_names(board) or [ALL]:
        yield Gap(venue, ALL, None, since_ms, GapReason.STOPPED.name.lower())


def _rows(board: NDArray[Any], rows: str, count: str) -> NDArray[Any]:
    taken: NDArray[Any] = board[rows][: int(board[count])]
    return taken


def _order(gap: Gap) -> tuple[str, str, str, int]:
    return (gap.venue, gap.topic, gap.symbol or "", gap.from_ms or 0)


def _venue(number: Any) -> str:
    return Venue(int(number)).name.lower()


def _topic(number: Any) -> str:
    return Topic(int(number)).name.lower()


def _reason(row: Any) -> str:
    number = int(row["reason"])
    return GapReason(number).name.lower() if number else "unknown"

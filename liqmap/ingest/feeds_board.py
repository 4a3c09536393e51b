"""The feeds board: `Feeds` painted into one FEEDS record, with every reason in words. See shm/layout.py."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import GapReason, Topic, Venue
from liqmap.ingest.feeds import Feeds, FeedState, SourceState, VenueState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import LinkState
from liqmap.ingest.set_aside import SetAside
from liqmap.shm.layout import (
    GAP_ROW,
    GAP_ROWS,
    LINK_ROW,
    LINK_ROWS,
    MARGIN_ROW,
    MARGIN_ROWS,
    REASON_ROW,
    REASON_ROWS,
    TOPIC_ROW,
    TOPIC_ROWS,
    VENUE_ROW,
    VENUE_ROWS,
)

_REASON_BYTES: Final = 160
_WHY_BYTES: Final = 96
_NAMED: Final = 4
"""How many names a reason lists before it says "and N more"."""

_WAITED_FOR: Final = {GapReason.NOT_CONNECTED: "nothing came yet", GapReason.DISCONNECTED: "not back yet"}

_NOT_OF_THE_MAP: Final = frozenset({Topic.RATIO, Topic.CLOCK, Topic.INSTRUMENTS})
"""A venue without these delivers all the same; their absence is a gap and a sentence in /health."""

_UP: Final = (LinkState.UP, LinkState.STOPPED)


def painter(feeds: Feeds, as_of_ns: int, set_aside: SetAside | None = None) -> Callable[[NDArray[np.void]], None]:
    """A function that fills one FEEDS record (a 0-d or one-element structured array) with the present state.

    `set_aside` None: nothing is ever set aside (tables are refused as a whole).
    """

    def paint(record: NDArray[np.void]) -> None:
        venues = [_venue_row(feeds, venue, state) for venue, state in feeds.venues.items()][:VENUE_ROWS]
        links = [_link_row(state) for state in feeds.sources.values() if state.is_link][:LINK_ROWS]
        topics = _topic_rows(feeds, as_of_ns)[:TOPIC_ROWS]
        gaps = [
            (int(gap.feed.venue), int(gap.feed.topic), gap.feed.symbol.encode(), gap.from_ms, gap.to_ms, gap.reason)
            for gap in feeds.gaps.rows(GAP_ROWS)
        ]
        record["as_of_ns"] = as_of_ns
        record["gaps_version"] = feeds.gaps.version
        record["quarantined"] = feeds.quarantined
        reasons = [] if set_aside is None else _paint_quarantine(record, set_aside)
        margins = [standing.row() for standing in feeds.margins.values()][:MARGIN_ROWS]
        record["finished"] = int(feeds.finished)
        record["journal_state"], record["journal_bytes"], record["journal_unwritten"] = feeds.journal
        record["capture_state"], record["capture_bytes"], record["capture_dropped"] = feeds.capture
        for name, rows, dtype in (
            ("venue", venues, VENUE_ROW),
            ("link", links, LINK_ROW),
            ("topic", topics, TOPIC_ROW),
            ("gap", gaps, GAP_ROW),
            ("reason", reasons, REASON_ROW),
            ("margin", margins, MARGIN_ROW),
        ):
            record[f"{name}_count"] = len(rows)
            if rows:
                record[f"{name}s"][..., : len(rows)] = np.array(rows, dtype=dtype)

    return paint


def _paint_quarantine(record: NDArray[np.void], set_aside: SetAside) -> list[tuple[object, ...]]:
    """What became of the bad frames; returns the rows of reasons."""
    kept = set_aside.quarantine
    record["quarantine_kept"] = kept.kept
    record["quarantine_skipped"] = kept.skipped
    record["quarantine_failed"] = kept.failed
    record["quarantine_bytes"] = kept.size_bytes
    return [
        (int(reason.venue), reason.count, reason.last_ns, reason.why.encode("ascii", "replace")[:_WHY_BYTES])
        for reason in set_aside.reasons(REASON_ROWS)
    ]


def _venue_row(feeds: Feeds, venue: Venue, state: VenueState) -> tuple[object, ...]:
    sources = [source for source in feeds.sources.values() if source.venue is venue]
    links = [source for source in sources if source.is_link]
    missing = any(
        feeds.is_missing(feed) for feed in feeds.feeds if feed.venue is venue and feed.topic not in _NOT_OF_THE_MAP
    )
    speaking = [source.state is LinkState.UP for source in links or sources]
    told_by_others = not sources and any(feed.venue is venue for feed in feeds.feeds)  # a table that names its venue
    delivering = state.enabled and not missing and (any(speaking) or told_by_others)
    return (
        int(venue),
        int(state.enabled),
        int(delivering),
        sum(source.reconnects for source in sources),
        state.malformed,
        len(state.refused_rows) + state.refused_rows.total(),
        max((source.delay_s for source in sources), default=0.0),
        state.clock.offset_ms,
        state.lag_ms,
        sum(source.frames for source in sources),
        _state_word(feeds, venue, state, sources).encode(),
        _reason(feeds, venue, state, sources),
        state.budget_used,
        state.clock.round_trip_ms,
    )


def _state_word(feeds: Feeds, venue: Venue, state: VenueState, sources: list[SourceState]) -> str:
    """The worst thing that is true."""
    states = {source.state for source in sources}
    if not state.enabled:
        return "disabled"
    if LinkState.REFUSED in states:
        return "refused"
    if any(feed.silent for key, feed in feeds.feeds.items() if key.venue is venue):
        return "silent"
    for word in (LinkState.BACKOFF, LinkState.CONNECTING, LinkState.OPEN):
        if word in states:
            return "connecting" if word is LinkState.OPEN else word.value
    return "stopped" if LinkState.STOPPED in states else "up"


def _reason(feeds: Feeds, venue: Venue, state: VenueState, sources: list[SourceState]) -> bytes:
    """Everything that stands against this venue, the gravest first, in one line."""
    silent = [
        f"{feed.topic.name.lower()} {feed.symbol}"
        for feed, known in feeds.feeds.items()
        if feed.venue is venue and known.silent and not known.quiet
    ]
    parts = list(state.problems.values())
    parts += [f"silent: {_named(silent)}"] if silent else []
    parts += dict.fromkeys(source.reason for source in sources if source.state not in _UP and source.reason)
    parts += dict.fromkeys(source.complaint for source in sources if source.complaint)
    if state.refused_rows:
        parts.append(f"refused, contract size unknown: {_named(list(state.refused_rows))}")
    return _bytes("; ".join(parts or _missing(feeds, venue)))


def _missing(feeds: Feeds, venue: Venue) -> list[str]:
    """Nothing stands against the venue, but not everything is there (yet)."""
    names: dict[str, list[str]] = {}
    for feed in feeds.feeds:
        reason = feeds.gaps.reason(feed) if feed.venue is venue else None
        if reason is not None:
            words = _WAITED_FOR.get(reason, reason.name.lower().replace("_", " "))
            names.setdefault(words, []).append(f"{feed.topic.name.lower()} {feed.symbol}")
    return [f"{words}: {_named(missing)}" for words, missing in names.items()]


def _named(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _bytes(text: str) -> bytes:
    return text.encode("ascii", "replace")[:_REASON_BYTES]


def _link_row(source: SourceState) -> tuple[object, ...]:
    return (
        int(source.venue),
        source.name.encode()[:24],
        source.state.value.encode(),
        source.reconnects,
        source.frames,
        source.size,
        source.dropped,
        source.delay_s,
        source.opened_ns,
        source.last_frame_ns,
        _bytes(source.complaint if source.state is LinkState.UP else source.reason or source.complaint),
    )


def _topic_rows(feeds: Feeds, as_of_ns: int) -> list[tuple[object, ...]]:
    return [
        (
            int(feed.venue),
            int(feed.topic),
            feed.symbol.encode(),
            state.events,
            state.last_event_ns,
            state.gaps,
            int(state.silent),
            int(feeds.is_missing(feed)),
            feeds.gap_ms(feed, as_of_ns),
            _dropped(feeds, feed, state),
        )
        for feed, state in feeds.feeds.items()
    ]


def _dropped(feeds: Feeds, feed: Feed, state: FeedState) -> int:
    """Only frames of links that carry order books and nothing else are ever given up: per link, not per symbol."""
    source = feeds.sources.get(state.source)
    return source.dropped if source is not None and feed.topic is Topic.DEPTH else 0

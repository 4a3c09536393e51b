"""Captures of other recorders through the router: which link a frame would have come by is told by its topic.

There are no outages in such a file, only frames and their times: every connection opens with its first frame, and time
passes by the times of the frames.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.config import Config
from liqmap.domain.enums import Venue
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.handoff import Frames, Opened, Polled
from liqmap.ingest.offline import OfflineIngest
from liqmap.store.capture import Capture, Record, RecordKind
from liqmap.store.capture_topics import is_served

_STEP_NS: Final = 50_000_000
_LONGEST_WALK_NS: Final = 600 * 10**9
"""Through a longer hole of the recording time does not walk, it jumps."""


def foreign_events(
    capture: Capture, config: Config, directory: Path, first_ns: int
) -> Iterator[dict[str, NDArray[np.void]]]:
    """Events by symbol. `config`: restricted to what the capture holds; `first_ns`: its first time. Raises
    CaptureUnreadable."""
    ingest = OfflineIngest(config, directory, first_ns, 0)
    sources = _Sources(ingest)
    now_ns = origin_ns = first_ns
    for record in capture:
        if not is_served(record.venue, record.route):
            continue
        if record.receive_ns - now_ns > _LONGEST_WALK_NS:
            now_ns = record.receive_ns - _STEP_NS
        while now_ns + _STEP_NS <= record.receive_ns:
            now_ns += _STEP_NS
            ingest.turn(now_ns, now_ns - origin_ns)
            if events := ingest.drain():
                yield events
        sources.give(record)
    ingest.turn(now_ns + _STEP_NS, now_ns + _STEP_NS - origin_ns)
    if events := ingest.drain():
        yield events


class _Sources:
    """Which link or poll of ours a record belongs to."""

    def __init__(self, ingest: OfflineIngest) -> None:
        self._ingest = ingest
        self._opened: set[str] = set()

    def give(self, record: Record) -> None:
        """Hand it over as the link or the poll would have."""
        if record.kind is RecordKind.HTTP:
            name = ADAPTERS[record.venue].request_of(record.url, record.raw)
            source = f"{record.venue.name.lower()}/{name}"
            if name is not None and source in self._ingest.router.replies.askers:
                self._ingest.give(Polled(source, record.receive_ns, record.raw))
            return
        link = self._link_of(record.venue, record.topic)
        if link is None:
            return
        if link not in self._opened:
            self._opened.add(link)
            self._ingest.give(Opened(link, 1, record.receive_ns))
        self._ingest.give(Frames(link, 1, record.receive_ns, [record.raw]))

    def _link_of(self, venue: Venue, topic: str) -> str | None:
        """The link that asks for the topic; for what no link asks for, the venue's first one."""
        first: str | None = None
        for source, listener in self._ingest.router.listeners.items():
            if listener.venue is venue:
                first = first or source
                if topic and any(stream.name in (topic, topic.replace("/", ":")) for stream in listener.plan.streams):
                    return source
        return first

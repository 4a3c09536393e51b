"""Frames that cannot be used: each one costs itself and nothing else. Counted per venue and per reason, kept for a
person to look at. Part of the router, in the router's thread."""

import logging
from dataclasses import dataclass
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.ingest.feeds import Feeds
from liqmap.logs import fields
from liqmap.store.quarantine import BadFact, Quarantine

_REASONS: Final = 64
"""Different reasons that are told apart; what comes beyond them is counted under one name. A hostile venue could
invent reasons without end."""

OTHER: Final = "other reasons"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReasonCount:
    """How often frames of a venue were set aside for one reason, and when last (engine time)."""

    venue: Venue
    why: str
    count: int = 0
    last_ns: int = -1


class SetAside:
    """Owned by the router."""

    def __init__(self, feeds: Feeds, quarantine: Quarantine) -> None:
        self._feeds = feeds
        self._reasons: dict[tuple[Venue, str], ReasonCount] = {}
        self.quarantine = quarantine

    def take(self, source: str, at_ns: int, why: str, where: str, frame: bytes, size: int) -> None:
        """A bad frame of a source. `where`: dotted path of the culprit, "" for the whole frame."""
        state = self._feeds.sources[source]
        venue = self._feeds.venues[state.venue]
        venue.malformed += 1
        self._feeds.quarantined += 1
        if venue.malformed & (venue.malformed - 1) == 0:
            log.warning(
                "bad frame", extra=fields(link=source, reason=why, field=where, size=size, times=venue.malformed)
            )
        self._count(state.venue, why, at_ns)
        self.quarantine.keep(BadFact(at_ns, state.venue.name.lower(), state.name, why, where, frame, size))

    def _count(self, venue: Venue, why: str, at_ns: int) -> None:
        reason = self._reasons.get((venue, why))
        if reason is None:
            why = why if len(self._reasons) < _REASONS else OTHER
            reason = self._reasons.setdefault((venue, why), ReasonCount(venue, why))
        reason.count += 1
        reason.last_ns = max(reason.last_ns, at_ns)

    def reasons(self, most: int) -> list[ReasonCount]:
        """The most frequent reasons, first the most frequent."""
        return sorted(self._reasons.values(), key=lambda reason: (-reason.count, reason.why))[:most]

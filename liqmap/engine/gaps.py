"""Which feeds were missing in a minute, told by the GAP events of ingest."""

from dataclasses import dataclass, field
from typing import Final

from liqmap.domain.enums import Venue

TOPIC_BITS: Final = 16


@dataclass(slots=True)
class GapBook:
    """Gaps that are open, and those that closed lately, by bit (venue * 16 + topic)."""

    _open_ms: dict[int, int] = field(default_factory=dict)
    _closed_ms: list[tuple[int, int, int]] = field(default_factory=list)

    def note(self, venue: int, topic: int, from_ms: int, to_ms: int) -> None:
        """A gap opened (`to_ms` -1) or closed. Feeds beyond the bits of a frame are not kept."""
        bit = venue * TOPIC_BITS + topic
        if topic >= TOPIC_BITS or venue >= len(Venue):
            return
        if to_ms < 0:
            self._open_ms.setdefault(bit, from_ms)
        else:
            from_ms = min(from_ms, self._open_ms.pop(bit, from_ms))
            self._closed_ms.append((bit, from_ms, to_ms))

    def missed(self, venue: int, topic: int, at_ms: int) -> None:
        """One print of a feed could not be used."""
        bit = venue * TOPIC_BITS + topic
        if topic < TOPIC_BITS and venue < len(Venue):
            self._closed_ms.append((bit, at_ms, at_ms + 1))

    def bits(self, from_ms: int, to_ms: int) -> int:
        """The feeds that were missing for a part of [from_ms, to_ms); closed gaps before its end are forgotten."""
        bits = 0
        for bit, start_ms in self._open_ms.items():
            bits |= (start_ms < to_ms) << bit
        for bit, start_ms, end_ms in self._closed_ms:
            bits |= (start_ms < to_ms and end_ms > from_ms) << bit
        self._closed_ms = [gap for gap in self._closed_ms if gap[2] > to_ms]
        return bits


def topic_missing(bits: int, topic: int) -> bool:
    """Whether any venue's feed of that topic is among the bits."""
    return any(bits >> (venue * TOPIC_BITS + topic) & 1 for venue in Venue)

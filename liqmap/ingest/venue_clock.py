"""How far our clock is from a venue's: questions of the time, each with a beginning and an end. Pure bookkeeping.

The venue's time is held against the middle of the question. Whatever the way there and back took unequally is at most
half of the round trip, so the answers with the shortest round trips are the ones to believe; of those the median.
`offset_ms` is ours less the venue's: positive when our clock is ahead. A lag (receipt less the venue's own time of a
fact) contains it in full: the time that a fact was really on its way is `lag_ms - offset_ms`.

Nothing is ever refused because of an offset: it is shown, and said aloud beyond ALARM_MS.
"""

from collections import deque
from typing import Final

ALARM_MS: Final = 500.0
"""Beyond this a person should look at the clock of the machine; what is normal is a hundredth of it."""

_KEPT: Final = 5
_BELIEVED: Final = 3
_UNKNOWN: Final = float("nan")


class VenueClock:
    """The newest answers of one venue."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def answered(self, asked_ns: int, received_ns: int, venue_ms: int) -> None:
        """The venue told its time. Both of our times are of our wall clock; a question during which that clock was set
        back tells nothing."""
        round_trip_ms = (received_ns - asked_ns) / 1e6
        if asked_ns < 0 or round_trip_ms < 0:
            return
        self._answers.append((round_trip_ms, (asked_ns + received_ns) / 2e6 - venue_ms))

    @property
    def offset_ms(self) -> float:
        """Our clock less the venue's; NaN: never measured."""
        return self._best()[1]

    @property
    def round_trip_ms(self) -> float:
        """Of the question that measured the offset; NaN: never measured."""
        return self._best()[0]

    def _best(self) -> tuple[float, float]:
        believed = sorted(sorted(self._answers)[:_BELIEVED], key=lambda answer: answer[1])
        return believed[len(believed) // 2] if believed else (_UNKNOWN, _UNKNOWN)

    def alarm(self) -> str | None:
        """In words, when somebody should look at it."""
        round_trip_ms, offset_ms = self._best()
        if not abs(offset_ms) > ALARM_MS + round_trip_ms / 2:
            return None
        direction = "ahead of" if offset_ms > 0 else "behind"
        return f"our clock is {abs(offset_ms):.0f} ms {direction} the venue's (round trip {round_trip_ms:.0f} ms)"

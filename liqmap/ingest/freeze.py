"""The freeze of one venue: it does not serve this country, so nobody of its links and polls asks before the hour is up.

Shared by the threads of one venue, and by nothing else: another venue never notices.
"""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Frozen:
    until_ns: int
    reason: str


class VenueFreeze:
    """Set by whoever was refused, looked at by everybody before a try. Times are monotonic ns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frozen = _Frozen(0, "")

    def freeze(self, now_ns: int, seconds: float, reason: str) -> None:
        """Nobody asks for that long; a shorter freeze never cuts a longer one."""
        frozen = _Frozen(now_ns + int(seconds * 1e9), reason)
        with self._lock:
            if frozen.until_ns > self._frozen.until_ns:
                self._frozen = frozen

    def left(self, now_ns: int) -> tuple[float, str]:
        """Seconds still to wait, and why; (0, "") when the venue may be asked."""
        with self._lock:
            frozen = self._frozen
        left_s = (frozen.until_ns - now_ns) / 1e9
        return (left_s, frozen.reason) if left_s > 0 else (0.0, "")

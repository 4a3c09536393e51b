"""Engine time: the largest receive time seen, never going back, and never standing still either.

A wall clock that is set back would freeze the market for as long as it was set back; so while the wall is behind,
engine time runs on with the monotonic clock until the wall has caught up. A wall clock set forward is followed.
"""


class EngineTime:
    """Owned by the router. All times ns; `monotonic_ns` of the same moment as `wall_ns`."""

    def __init__(self, wall_ns: int, monotonic_ns: int) -> None:
        self.now_ns = wall_ns
        self._monotonic_ns = monotonic_ns

    def at(self, receive_ns: int) -> int:
        """The engine time of something received then: its own, unless that would be going back."""
        if receive_ns > self.now_ns:
            self.now_ns = receive_ns
        return self.now_ns

    def look(self, wall_ns: int, monotonic_ns: int) -> int:
        """Engine time now."""
        passed_ns = max(0, monotonic_ns - self._monotonic_ns)
        self._monotonic_ns = monotonic_ns
        self.now_ns = wall_ns if wall_ns >= self.now_ns else self.now_ns + self._catching_up(wall_ns, passed_ns)
        return self.now_ns

    def _catching_up(self, wall_ns: int, passed_ns: int) -> int:
        """Frames stamped a moment ahead of this look are no clock step: wait for the wall; else run on."""
        return passed_ns if self.now_ns - wall_ns > _STEP_NS else 0


_STEP_NS = 1_000_000_000

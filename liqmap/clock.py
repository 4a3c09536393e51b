"""Time, as something that can be handed in: the system's, a replay's, or one that a test or a recording moves by hand.

`now_ns` is engine time: nanoseconds UTC of the market being watched. `monotonic_ns` is for durations and is
comparable between the processes of one machine (CLOCK_MONOTONIC). Nothing on the ground floor asks for time at all.
"""

import threading
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """What code that needs time is given."""

    def now_ns(self) -> int:
        """Engine time, ns UTC."""

    def monotonic_ns(self) -> int:
        """A clock that never goes back, for durations and heartbeats."""

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Sleep until `event` is set or `timeout_s` (of this clock) has passed; True when set."""


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Wall time."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Real waiting."""
        return event.wait(timeout_s)


@dataclass(frozen=True, slots=True)
class ReplayTime:
    """The line that maps wall time to the time of a recording, and back."""

    engine_origin_ns: int
    wall_origin_ns: int
    speed: float

    def engine_ns(self, wall_ns: int) -> int:
        """Engine time at a wall time."""
        return self.engine_origin_ns + int((wall_ns - self.wall_origin_ns) * self.speed)

    def wall_ns(self, engine_ns: int) -> int:
        """The wall time at which the recording reaches an engine time."""
        return self.wall_origin_ns + int((engine_ns - self.engine_origin_ns) / self.speed)


class ReplayClock(SystemClock):
    """Wall time moved to a recording's time and run at its speed; durations stay real."""

    def __init__(self, line: ReplayTime) -> None:
        self._line = line

    def now_ns(self) -> int:
        """The recording's time now."""
        return self._line.engine_ns(time.time_ns())


class ManualClock:
    """A clock for tests and recordings: stands still until moved; waiting moves it, so that no test sleeps."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._monotonic_ns = 1_000_000_000
        self.waits_s: list[float] = []

    def now_ns(self) -> int:
        """Where the test put it."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Moves with `advance` only."""
        return self._monotonic_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_ns += int(seconds * 1e9)
        self._monotonic_ns += int(seconds * 1e9)

    def set(self, wall_ns: int, monotonic_ns: int) -> None:
        """Put it anywhere, as a recording does."""
        self._now_ns, self._monotonic_ns = wall_ns, monotonic_ns

    def step_wall(self, seconds: float) -> None:
        """An administrator sets the clock: wall time jumps, durations do not notice."""
        self._now_ns += int(seconds * 1e9)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Record the wait, let that time pass at once."""
        if event.is_set():
            return True
        self.waits_s.append(timeout_s)
        self.advance(timeout_s)
        return event.is_set()

"""How old something is: wall time since it was true, in live runs and in recordings played at any speed."""

from dataclasses import dataclass

from liqmap.clock import ReplayTime


@dataclass(frozen=True, slots=True)
class Timing:
    """One moment (wall, ns) and, in a replay, the line from wall time to the recording's."""

    wall_ns: int
    source: str
    line: ReplayTime | None = None

    def age_ms(self, engine_ns: int) -> int:
        """Wall milliseconds since engine time was `engine_ns`; never negative."""
        then_ns = engine_ns if self.line is None else self.line.wall_ns(engine_ns)
        return max(0, (self.wall_ns - then_ns) // 1_000_000)

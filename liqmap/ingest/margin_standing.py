"""How the margin table of a symbol at a venue stands against what the venue publishes, for the feeds board."""

from dataclasses import dataclass
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.domain.margin_drift import Drift

_NAN: Final = float("nan")
_NEVER: Final = -1
_REASON_BYTES: Final = 96
_DATE_BYTES: Final = 24


@dataclass(slots=True)
class MarginStanding:
    """`refreshed_ms`: when the venue last told its tiers, ms UTC; -1: it is not known that it ever did. `drift` None:
    nothing was compared, and `reason` says why. `late`: it was asked long ago, and again and again, without an answer.
    """

    venue: Venue
    symbol: str
    since_ns: int
    every_s: float
    refreshed_ms: int = _NEVER
    drift: Drift | None = None
    reason: str = "not told yet"
    late: bool = False

    def row(self) -> tuple[object, ...]:
        """A MARGIN_ROW of the feeds board."""
        largest = self.drift.largest if self.drift is not None else None
        return (
            int(self.venue),
            self.symbol.encode(),
            self.refreshed_ms,
            int(self.late),
            0 if self.drift is None else self.drift.off,
            int(self.drift is not None and self.drift.own),
            _NAN if largest is None else largest.leverage,
            _NAN if largest is None else largest.used_mmr,
            _NAN if largest is None else largest.published_mmr,
            b"" if self.drift is None else self.drift.used_as_of.encode("ascii", "replace")[:_DATE_BYTES],
            self.reason.encode("ascii", "replace")[:_REASON_BYTES],
        )

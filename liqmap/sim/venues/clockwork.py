"""Cadences of the simulated venues."""


class Every:
    """Says once per period of the market's time that it is due."""

    def __init__(self, period_ms: int) -> None:
        self._period_ms = period_ms
        self._last: int | None = None

    def due(self, now_ms: int) -> bool:
        """True when a multiple of the period was reached since the last call."""
        turn = now_ms // self._period_ms
        passed = self._last is not None and turn > self._last
        self._last = turn
        return passed

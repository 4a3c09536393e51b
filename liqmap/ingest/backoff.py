"""How long to wait before the next try. Full jitter: a uniform draw below a doubling ceiling, so that sockets that
died together do not come back together. Only sustained data resets it (the caller knows); a handshake does not.
"""

from collections.abc import Callable
from typing import Final

from liqmap.exchanges.adapter import Refusal, RefusalKind
from liqmap.ingest.accounts import LONGEST_S

TOO_FAST_S: Final = 120.0
"""Least wait after 418 or 429: the shortest ban of Binance, and what other clients keep to."""

REGION_S: Final = 3600.0
"""A venue that does not serve this country is asked once an hour at most."""

_LEAST_S: Final = 0.05
_MOST_DOUBLINGS: Final = 30


_LEAST_S_BY_KIND: Final = {
    RefusalKind.RATE_LIMITED: TOO_FAST_S,
    RefusalKind.BANNED: TOO_FAST_S,
    RefusalKind.REGION: REGION_S,
}


class Backoff:
    """Delays of one link or poller. `draw` returns a uniform number in [0, 1)."""

    def __init__(self, first_s: float, ceiling_s: float, draw: Callable[[], float]) -> None:
        self._first_s = first_s
        self._ceiling_s = ceiling_s
        self._draw = draw
        self._tries = 0

    def next_s(self, refusal: Refusal | None = None) -> float:
        """Seconds until the next try; each call doubles the ceiling of the following one.

        What the venue asks for (Retry-After, the least wait of that kind of refusal) comes first, the jitter on top;
        a time that no venue means (LONGEST_S) is not waited out.
        """
        ceiling_s = min(self._ceiling_s, self._first_s * 2.0 ** min(self._tries, _MOST_DOUBLINGS))
        self._tries += 1
        jitter_s = max(_LEAST_S, self._draw() * ceiling_s)
        if refusal is None:
            return jitter_s
        told_s = min(refusal.retry_after_s or 0.0, LONGEST_S)
        return max(told_s, _LEAST_S_BY_KIND.get(refusal.kind, 0.0)) + jitter_s

    def reset(self) -> None:
        """Data came for long enough."""
        self._tries = 0

"""Which prices are believed: one absurd print must not sweep the map.

Adapters refuse what no price can be; a mark of ten times the price can be one, and comes from a venue's fault. A print
that lies further than JUMP_LIMIT from the last believed one of its kind (mark, mid, trade) waits until somebody agrees:

* the last believed price of another kind, while that is fresh, or
* another venue whose print of that kind jumped as well, within FRESH_S, or
* the same venue again, REPEAT_S or more after it jumped, while nobody else has spoken for FRESH_S (about any kind),

and in the meantime nobody printed that kind near its old price. What nobody agrees with is held back: it moves no bar,
no window and no sweep, and the minute's frame names its feed as missing. Real jumps of that size are confirmed within
a second where several venues speak. The first price of all is believed, for there is nothing to doubt it by. Prints
made from minute bars are believed as well: each of them stands for many, and a bar's extreme is told only once.

Prints are judged one by one in the order of arrival, so that no cut into batches changes a verdict.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.event import FLAG_FROM_BAR
from liqmap.engine.spec import SECOND_NS

JUMP_LIMIT: Final = 0.05
"""Share by which a price may differ from the one before: twice what any whole minute of the recorded tables ranges over
(2.0 %), half of the drift that moves the window."""

REPEAT_S: Final = 2

FRESH_S: Final = 10
"""A price older than this does not stand for the mark while another source is fresher (Bybit and OKX print marks at
least each 10 s, Binance each second)."""

_NONE: Final = float("nan")
_VENUE_BITS: Final = 8


class PriceGuard:
    """One symbol. Sources are places of the chain mark → mid → last trade."""

    def __init__(self, sources: int) -> None:
        self._believed = [_NONE] * sources
        self._spoke_ns: list[dict[int, int]] = [{} for _ in range(sources)]
        """By source, when each venue was last believed."""
        self._waiting: list[dict[int, tuple[float, int]]] = [{} for _ in range(sources)]
        """By source, the price to which each venue jumped, and when."""
        self.held_back = 0
        """Prints that were not believed, all in all."""

    def believes(
        self,
        events: NDArray[np.void],
        prices: NDArray[np.float64],
        sources: NDArray[np.int64],
        at_ns: NDArray[np.int64],
    ) -> NDArray[np.bool_] | None:
        """Which of these prints count; None: all. Prices are positive and finite, `at_ns` the time of each."""
        if self._ordinary(prices, sources):
            keys = (sources << _VENUE_BITS) + events["venue"]
            _, from_end = np.unique(keys[::-1], return_index=True)
            last = len(keys) - 1 - from_end
            for place in np.sort(last).tolist():
                self._believe(int(sources[place]), int(events["venue"][place]), float(prices[place]), int(at_ns[place]))
            return None
        rows = zip(
            sources.tolist(),
            events["venue"].tolist(),
            prices.tolist(),
            at_ns.tolist(),
            (events["flags"] & FLAG_FROM_BAR != 0).tolist(),
            strict=True,
        )
        verdicts = np.array([self._judge(*row) for row in rows], dtype=np.bool_)
        self.held_back += int(np.count_nonzero(~verdicts))
        return verdicts

    def _ordinary(self, prices: NDArray[np.float64], sources: NDArray[np.int64]) -> bool:
        """The quick look: no kind of price jumps, in whatever order these are taken."""
        for source, believed in enumerate(self._believed):
            own = prices[sources == source]
            if len(own) and not _near(min(believed, float(own.min())), max(believed, float(own.max()))):
                return False
        return True

    def _judge(self, source: int, venue: int, price: float, at_ns: int, from_bar: bool) -> bool:
        """One print; True: it counts."""
        if from_bar or _near(price, self._believed[source]) or self._confirmed(source, venue, price, at_ns):
            self._believe(source, venue, price, at_ns)
            return True
        own = self._waiting[source].get(venue)
        if own is None or not _near(price, own[0]):
            self._waiting[source][venue] = price, at_ns
        return False

    def _confirmed(self, source: int, venue: int, price: float, at_ns: int) -> bool:
        """Whether somebody agrees with a price that is far from the last one of its kind, or there is nobody to ask."""
        fresh = [other for other in range(len(self._believed)) if self._is_fresh(other, at_ns)]
        if not fresh and self._believed[source] != self._believed[source]:
            return True
        if any(_near(price, self._believed[other]) for other in fresh):
            return True
        alone = all(other == source and not self._is_fresh(other, at_ns, but=venue) for other in fresh)
        for who, (jumped, since_ns) in self._waiting[source].items():
            passed_ns = at_ns - since_ns
            repeated = who == venue and passed_ns >= REPEAT_S * SECOND_NS and alone
            joined = who != venue and passed_ns <= FRESH_S * SECOND_NS
            if (repeated or joined) and _near(price, jumped):
                return True
        return False

    def _is_fresh(self, source: int, at_ns: int, but: int = -1) -> bool:
        """Whether anybody (but one venue) was believed about that kind lately."""
        return any(
            abs(at_ns - spoke_ns) <= FRESH_S * SECOND_NS
            for who, spoke_ns in self._spoke_ns[source].items()
            if who != but
        )

    def _believe(self, source: int, venue: int, price: float, at_ns: int) -> None:
        self._believed[source] = price
        self._spoke_ns[source][venue] = at_ns
        if self._waiting[source]:
            self._waiting[source].clear()


def _near(one: float, other: float) -> bool:
    """Within JUMP_LIMIT of each other; False when one is unknown."""
    return one <= other * (1 + JUMP_LIMIT) and other <= one * (1 + JUMP_LIMIT)

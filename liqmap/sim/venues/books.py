"""The order books that the simulated venues keep, each from what its market says changed, in whole ticks and lots.

What a venue makes of its book (diffs, windows, snapshots) is in `binance_books.py`, `bybit_books.py`, `okx_books.py`.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import TakerSide
from liqmap.sim.venues.feed import Message
from liqmap.sim.venues.listings import Listing

Levels = dict[int, int]
"""Whole lots by whole tick."""

_BUY = int(TakerSide.BUY)
_WRITTEN_PRICES = 20_000
_DUST = 1e-6


class Side:
    """One side of a book. `sign` is 1 for bids, whose best price is the highest, and −1 for asks."""

    def __init__(self, sign: int) -> None:
        self.lots: Levels = {}
        self._sign = sign
        self._order: list[int] = []
        """Ticks times −sign, ascending: the best first."""

    def __len__(self) -> int:
        return len(self._order)

    def put(self, tick: int, lots: int) -> None:
        """So many lots stand at `tick` from now on; 0: none. Removing what is not there is normal."""
        if lots > 0:
            if tick not in self.lots:
                insort(self._order, -self._sign * tick)
            self.lots[tick] = lots
        elif self.lots.pop(tick, 0):
            del self._order[bisect_left(self._order, -self._sign * tick)]

    def top(self, count: int) -> Levels:
        """The best `count` levels, the best first."""
        lots, sign = self.lots, -self._sign
        return {sign * place: lots[sign * place] for place in self._order[:count]}

    def sorted(self, ticks: Iterable[int]) -> list[int]:
        """These ticks, the best first."""
        return sorted(ticks, reverse=self._sign > 0)


class LevelBook:
    """The book of one contract at one venue now, and which ticks the last step changed."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self.bids = Side(1)
        self.asks = Side(-1)
        self.changed_bids: list[int] = []
        self.changed_asks: list[int] = []
        self._prices: dict[int, str] = {}

    def apply(self, changes: NDArray[np.void]) -> None:
        """Take over tape.BOOK_CHANGES. Where the venue's ticks are coarser than the market's, bids are rounded down
        and asks up."""
        self.changed_bids, self.changed_asks = [], []
        if not len(changes):
            return
        listing, bid = self._listing, changes["side"] == _BUY
        steps = changes["price"] / listing.tick
        ticks = np.where(bid, np.floor(steps + _DUST), np.ceil(steps - _DUST)).astype(np.int64)
        lots = np.rint(changes["qty_base"] / listing.contract_base / listing.lot).astype(np.int64)
        lots = np.where(changes["qty_base"] > 0.0, np.maximum(lots, 1), 0)
        for is_bid, tick, count in zip(bid.tolist(), ticks.tolist(), lots.tolist(), strict=True):
            if is_bid:
                self.bids.put(tick, count)
                self.changed_bids.append(tick)
            else:
                self.asks.put(tick, count)
                self.changed_asks.append(tick)

    def written(self, side: Side, levels: Mapping[int, int]) -> list[list[str]]:
        """Levels as [price, size] in the venue's writing, the best first; no lots are "0"."""
        return [[self._price(tick), self.size(levels[tick])] for tick in side.sorted(levels)]

    def best(self, side: Side) -> tuple[str, str]:
        """Price and size of the best level, both "" when the side is empty."""
        return next(((self._price(tick), self.size(lots)) for tick, lots in side.top(1).items()), ("", ""))

    def size(self, lots: int) -> str:
        """Lots in the venue's writing."""
        return self._listing.of_lots(lots) if lots else "0"

    def in_base(self, side: Side) -> Iterator[tuple[float, float]]:
        """(price, base quantity) of every level, the best first."""
        listing = self._listing
        for tick, lots in side.top(len(side)).items():
            yield float(self._price(tick)), round(lots * listing.lot * listing.contract_base, 12)

    def _price(self, tick: int) -> str:
        text = self._prices.get(tick)
        if text is None:
            if len(self._prices) >= _WRITTEN_PRICES:
                self._prices.clear()
            text = self._prices[tick] = self._listing.price(tick * self._listing.tick)
        return text


def difference(before: Levels, now: Levels) -> Levels:
    """What turns one window of a side into the other: new and changed levels, and 0 for those that are gone."""
    changed: Levels = dict.fromkeys(before.keys() - now.keys(), 0)
    changed.update(now.items() - before.items())
    return changed


class BookStreams(Protocol):
    """A venue's streams of order books, made from its `LevelBook`s once per step.

    Beside the ordinary course of things: `restart` begins every book anew, as after a restart of the venue's service,
    with a snapshot in mid-stream where the stream brings snapshots; `reset_sequence` sets the numbers of updates back
    once, as after maintenance; `hold_snapshots` makes REST snapshots old.
    """

    def write(self, now_ms: int, out: list[Message]) -> None:
        """The messages of the step that ends at `now_ms`."""

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """The snapshot that a new subscriber is sent."""

    def restart(self) -> None:
        """At the next step books begin anew."""

    def reset_sequence(self) -> None:
        """At the next step the numbers are smaller than before."""

    def hold_snapshots(self, period_ms: int) -> None:
        """From now on REST serves the books of this moment, and new ones each `period_ms`; 0: always the present."""

    def sequences(self, contract: str) -> dict[str, Any]:
        """The numbers by which the venue's messages name the state of this book, by topic or REST."""

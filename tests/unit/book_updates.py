"""Updates of order books in each venue's way of numbering, and a venue that keeps the right book beside."""

import random
from dataclasses import dataclass, field

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import BookRule, BookUpdate

Levels = tuple[tuple[float, float], ...]

VENUE_OF = {BookRule.BINANCE: Venue.BINANCE, BookRule.BYBIT: Venue.BYBIT, BookRule.OKX: Venue.OKX}


def update(
    rule: BookRule,
    sequence: int,
    previous: int | None = None,
    first: int | None = None,
    *,
    bids: Levels = (),
    asks: Levels = (),
    snapshot: bool = False,
) -> BookUpdate:
    """One update or snapshot."""
    return BookUpdate(
        VENUE_OF[rule], "BTCUSDT", "BTC", 1_700_000_000_000, snapshot, bids, asks, sequence, previous, first
    )


@dataclass
class ReferenceVenue:
    """A venue with one book, which it changes at random and tells of as its rule says. `books[sequence]` is what
    stood after that update."""

    rule: BookRule
    seed: int
    bids: dict[float, float] = field(default_factory=lambda: {99.0 - i: 1.0 + i for i in range(8)})
    asks: dict[float, float] = field(default_factory=lambda: {101.0 + i: 1.0 + i for i in range(8)})
    sequence: int = 100

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.books = {self.sequence: self._copy()}

    def _copy(self) -> tuple[dict[float, float], dict[float, float]]:
        return dict(self.bids), dict(self.asks)

    def snapshot(self) -> BookUpdate:
        """What the venue answers now: by REST at Binance, to a new subscription elsewhere."""
        bids, asks = tuple(self.bids.items()), tuple(self.asks.items())
        return update(self.rule, self.sequence, bids=bids, asks=asks, snapshot=True)

    def step(self, *, calm: bool = False) -> BookUpdate:
        """A change, told as the next update; `calm`: as it ordinarily is, and price stays where it was at first."""
        draw = self._random
        bids, asks = self._changes(range(80, 100)), self._changes(range(101, 121))
        if calm:
            bids, asks = (*bids, (99.0, 1.0)), (*asks, (101.0, 1.0))
        previous = self.sequence
        first = previous + 1
        if self.rule is BookRule.BYBIT:
            self.sequence += 1
        elif not calm and draw.random() < 0.05:
            self.sequence -= draw.randint(1, 50) * 1000 + 500  # maintenance: the number falls once, and is new
        elif self.rule is BookRule.OKX and draw.random() < 0.1:
            bids, asks = (), ()  # nothing changed: the number stays
        else:
            self.sequence += draw.randint(1, 5)
        for changes, side in ((bids, self.bids), (asks, self.asks)):
            for price, quantity in changes:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self.books[self.sequence] = self._copy()
        told = None if self.rule is BookRule.BYBIT else previous
        return update(self.rule, self.sequence, told, first, bids=bids, asks=asks)

    def _changes(self, prices: range) -> Levels:
        draw = self._random
        picked = draw.sample(prices, draw.randint(0, 3))
        return tuple((float(price), draw.choice([0.0, float(draw.randint(1, 9))])) for price in picked)

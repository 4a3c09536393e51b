"""A simulated market with all that its venues show: an order book each, around the price its trades print at, and each
minute the shares of its accounts that are long."""

from dataclasses import replace

import numpy as np

from liqmap.config.simulation import SimConfig
from liqmap.domain.enums import Venue
from liqmap.sim.market.book import BookScale, VenueBook
from liqmap.sim.market.positioning import positioning
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.tape import Positioning, Tape

_BOOKS = 0xB00C
"""Sets the seeds of books apart from every other stream of chance of the market."""
_COUNTED_EVERY_MS = 60_000


class BookedMarket:
    """See the module; implements `liqmap.sim.tape.Market`. What `market` prints is untouched by its books."""

    def __init__(self, market: SimulatedMarket, config: SimConfig) -> None:
        self.symbol = market.symbol
        self._market = market
        about = config.symbols[market.symbol]
        self._books = {
            venue: VenueBook(
                BookScale(about.price_tick, about.lot_base, about.start_price, open_interest_base),
                np.random.SeedSequence([config.seed, *market.symbol.encode(), _BOOKS, int(venue)]),
            )
            for venue, open_interest_base in (
                (Venue[name.upper()], base) for name, base in about.open_interest_base.items()
            )
        }

        self._positioning: dict[Venue, Positioning | None] = {}
        self._counted_minute = -1

    def advance(self, to_ms: int) -> Tape:
        """See Market. The books are those at `to_ms`, about the price that a trade would print at then."""
        tape = self._market.advance(to_ms)
        last = self._market.last_price
        if to_ms // _COUNTED_EVERY_MS != self._counted_minute:
            self._counted_minute = to_ms // _COUNTED_EVERY_MS
            rows = self._market.positions.rows
            self._positioning = {venue: positioning(rows, venue) for venue in self._books}
        venues = {
            venue: replace(
                venue_tape,
                book_changes=self._books[venue].changes(to_ms, last),
                positioning=self._positioning[venue],
            )
            for venue, venue_tape in tape.venues.items()
        }
        return replace(tape, venues=venues)

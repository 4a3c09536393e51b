"""Instruments: one contract at one venue, what its quantities mean, and to which symbol it belongs.

A table refuses duplicates and never guesses: what is not in it does not exist for the daemon.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from liqmap.domain.enums import Venue
from liqmap.domain.event import NO_INSTRUMENT


class DuplicateInstrument(ValueError):
    """The same contract was registered twice, or would belong to two symbols."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One linear contract quoted in USDT.

    `contract_base`: base coin per unit of the venue's quantity (1 where the venue counts in base coin).
    `symbol`: None when no configured symbol owns it. `number`: its place in the configured table, as events carry it.
    """

    venue: Venue
    name: str
    contract_base: float
    symbol: str | None = None
    number: int = NO_INSTRUMENT


class InstrumentTable:
    """Exact look-up by venue and name. Raises DuplicateInstrument when built from repeats."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._by_key: dict[tuple[int, str], Instrument] = {}
        owned: set[tuple[int, str]] = set()
        for instrument in instruments:
            key = (int(instrument.venue), instrument.name)
            if key in self._by_key:
                raise DuplicateInstrument(f"{instrument.venue.name.lower()} {instrument.name} is listed twice")
            if instrument.symbol is not None:
                owner = (int(instrument.venue), instrument.symbol)
                if owner in owned:
                    raise DuplicateInstrument(
                        f"{instrument.symbol} has two instruments at {instrument.venue.name.lower()}"
                    )
                owned.add(owner)
            self._by_key[key] = instrument

    def find(self, venue: Venue, name: str) -> Instrument | None:
        """The instrument of exactly that name, or None."""
        return self._by_key.get((int(venue), name))

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

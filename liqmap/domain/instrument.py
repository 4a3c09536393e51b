"""Instruments: one contract at one venue, what its quantities mean, and to which symbol it belongs.

A table refuses duplicates and never guesses: what is not in it does not exist for the daemon.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

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

    def of(self, venue: Venue) -> "Contracts":
        """Look-up within one venue, for its parser."""
        return Contracts(self, venue)


class Contracts(dict[str, Instrument | None]):
    """`contracts[name]`: the venue's instrument of exactly that name, or None; quick for names seen before.

    Names that are not in the table are not remembered, so hostile frames cannot make it grow.
    """

    def __init__(self, table: InstrumentTable, venue: Venue) -> None:
        super().__init__()
        self._table = table
        self._venue = venue

    def __missing__(self, name: str) -> Instrument | None:
        """Ask the table."""
        found = self._table.find(self._venue, name)
        if found is not None:
            self[name] = found
        return found

    def everyone(self) -> list[Instrument]:
        """Every contract of the venue in the table."""
        return [instrument for instrument in self._table if instrument.venue is self._venue]


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A configured contract whose size nobody told us: it is refused, and named in /health."""

    venue: Venue
    name: str
    symbol: str


def configured_table(
    wanted: Mapping[str, Mapping[Venue, str]], listed: Iterable[Instrument]
) -> tuple[InstrumentTable, tuple[Unlisted, ...]]:
    """The table of the configured symbols, and what had to be refused.

    `wanted`: symbol → venue → the venue's name of its one contract. `listed`: what the venues (or the shipped lists)
    say a contract holds; a contract that is not listed is refused, never taken as one coin. Numbers count up in the
    order of `wanted`, refused ones included, so that a list that arrives later changes no number.
    """
    sizes = {(instrument.venue, instrument.name): instrument for instrument in listed}
    found: list[Instrument] = []
    refused: list[Unlisted] = []
    order = [(symbol, venue, name) for symbol, names in wanted.items() for venue, name in names.items()]
    for number, (symbol, venue, name) in enumerate(order):
        instrument = sizes.get((venue, name))
        if instrument is None:
            refused.append(Unlisted(venue, name, symbol))
        else:
            found.append(replace(instrument, symbol=symbol, number=number))
    return InstrumentTable(found), tuple(refused)

"""What venues list: the contracts whose size is known, and why others are refused. Part of the router's thread.

A list that comes in pages (Bybit) is read page by page; only after the last one can be said what is not in it. A
contract that is listed while we run is taken in by the next list, one that is gone is named.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import Listing

_MOST_PAGES: Final = 64
"""A venue that always names one more page is not followed for ever."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a page of a list brought. `changed`: contracts of ours, with their size before and now in words. `absent`:
    contracts of ours that the whole list does not have; None while pages are to come."""

    changed: dict[str, str]
    absent: tuple[str, ...] | None
    cursor: str


class ContractLists:
    """The contracts of all venues. `shipped`: what is known before any venue has told."""

    def __init__(self, shipped: Iterable[Instrument]) -> None:
        self._listed = {(instrument.venue, instrument.name): instrument for instrument in shipped}
        self._refused: dict[tuple[Venue, str], str] = {}
        self._passes: dict[Venue, tuple[int, set[str]]] = {}
        """Of the list that is being read: pages so far, and the names in them."""

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._listed.values())

    def refusal(self, venue: Venue, name: str) -> str | None:
        """Why the venue's list says that a contract cannot be counted; None when it says nothing of the kind."""
        return self._refused.get((venue, name))

    def take(self, venue: Venue, listing: Listing, ours: set[str], *, first: bool) -> Taken:
        """A page of a venue's list, the first one or a later one; `ours`: the names of the contracts we want."""
        before = {name: self._listed.get((venue, name)) for name in ours}
        for instrument in listing.instruments:
            self._listed[venue, instrument.name] = instrument
            self._refused.pop((venue, instrument.name), None)
        for name in ours & listing.refused.keys():
            self._listed.pop((venue, name), None)
            self._refused[venue, name] = listing.refused[name]
        pages, seen = (0, set[str]()) if first else self._passes.get(venue, (0, set[str]()))
        seen = seen | {instrument.name for instrument in listing.instruments} | listing.refused.keys()
        self._passes[venue] = pages + 1, seen
        cursor = listing.cursor if pages + 1 < _MOST_PAGES else ""
        after = {name: self._listed.get((venue, name)) for name in ours}
        changed = {name: f"{_size(before[name])}->{_size(after[name])}" for name in ours if before[name] != after[name]}
        return Taken(changed, None if cursor else tuple(sorted(ours - seen)), cursor)


def _size(instrument: Instrument | None) -> str:
    return "refused" if instrument is None else f"{instrument.contract_base:g}"

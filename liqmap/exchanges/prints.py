"""Prints of the tape, packed the moment they are read.

Nine frames of ten in a cascade are trades, and making an Event of one costs as much as decoding it, packing the Event
as much again (docs/decisions/0017). So a frame that holds nothing but plain trades of one known contract becomes bytes
at once: whole records of EVENT_DTYPE without their numbers. Whatever is unusual about a frame sends it the way of all
other frames, where events are made one by one and where it is said what is wrong.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from liqmap.domain.enums import Kind, TakerSide, Topic
from liqmap.domain.event import EVENT_BYTES, NO_INSTRUMENT, Event
from liqmap.domain.instrument import Contracts, Instrument
from liqmap.exchanges.adapter import Fact, Prints

pack_print: Final = struct.Struct("<8xqqdddqQ").pack
"""(receive_ns, venue_ms, price, qty_base, NAN, identity, ending) → one record; the ending is its last 8 bytes."""

_ENDING: Final = struct.Struct("<BBBBHH")
_RECORDS: Final = struct.Struct("<8xqqdddqBBBBHH")
_PATH_FROM: Final = EVENT_BYTES - 4


class Traded(NamedTuple):
    """What a print of one contract needs beside what the venue said: worked out once, not per print."""

    base: float
    """Base coin per unit of the venue's quantity."""
    buy: int
    sell: int
    """The ending of a record by the taker's side."""


class TradedContracts(dict[str, Traded | None]):
    """`traded[name]`: what is known of the venue's contract of exactly that name, or None; as `Contracts`."""

    def __init__(self, contracts: Contracts) -> None:
        super().__init__()
        self._contracts = contracts

    def __missing__(self, name: str) -> Traded | None:
        """Ask the table; names that are not in it are not remembered."""
        contract = self._contracts[name]
        if contract is None or contract.number > NO_INSTRUMENT:  # a table without bounds: no record can name it
            return None
        traded = self[name] = Traded(
            contract.contract_base, _ending(contract, TakerSide.BUY), _ending(contract, TakerSide.SELL)
        )
        return traded


def _ending(contract: Instrument, side: TakerSide) -> int:
    ending = _ENDING.pack(Kind.TRADE, contract.venue, side, 0, Topic.TRADE, contract.number)
    return int.from_bytes(ending, "little")


def path_of(prints: Prints) -> bytes:
    """Topic and contract number of the prints, as four bytes of a record."""
    return prints[_PATH_FROM:EVENT_BYTES]


def events_of(prints: Prints) -> list[Event]:
    """The same facts as events."""
    return [Event._make(fields) for fields in _RECORDS.iter_unpack(prints)]


def spelled(said: Prints | Sequence[Fact]) -> Sequence[Fact]:
    """What a frame said, in facts only."""
    return events_of(said) if isinstance(said, bytes) else said

"""Prints of the tape, packed the moment they are read.

Nine frames of ten in a cascade are trades, and making an Event of one costs as much as decoding it, packing the Event
as much again (docs/decisions/0017). So a link that carries trades reads them in a run (`Session.tape`): frame after
frame that holds nothing but plain trades of one known contract becomes records of EVENT_DTYPE at once, still without
their numbers. The first frame with anything unusual about it ends the run and goes the way of all other frames
(`Session.parse`), where it is said what it is, or what is wrong with it.
"""

import struct
from collections import defaultdict
from typing import Final, NamedTuple

from liqmap.domain.enums import Kind, TakerSide, Topic
from liqmap.domain.event import NO_INSTRUMENT, Event
from liqmap.domain.instrument import Contracts, Instrument

Prints = defaultdict[int, list[bytes]]
"""By contract number its trades in order: records of EVENT_DTYPE whose `sequence` is 0."""

pack_print: Final = struct.Struct("<8xqqdddqQ").pack
"""(receive_ns, venue_ms, price, qty_base, NAN, identity, ending) → one record; the ending is its last 8 bytes."""

_ENDING: Final = struct.Struct("<BBBBHH")
_RECORD: Final = struct.Struct("<8xqqdddqBBBBHH")


class Traded(NamedTuple):
    """What a print of one contract needs beside what the venue said: worked out once, not per print."""

    base: float
    """Base coin per unit of the venue's quantity."""
    number: int
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
        buy, sell = _ending(contract, TakerSide.BUY), _ending(contract, TakerSide.SELL)
        traded = self[name] = Traded(contract.contract_base, contract.number, buy, sell)
        return traded


def _ending(contract: Instrument, side: TakerSide) -> int:
    ending = _ENDING.pack(Kind.TRADE, contract.venue, side, 0, Topic.TRADE, contract.number)
    return int.from_bytes(ending, "little")


def event_of(record: bytes) -> Event:
    """The same fact as an event."""
    return Event._make(_RECORD.unpack(record))

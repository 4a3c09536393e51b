"""The router's side of one link."""

import queue
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Adapter, LinkPlan, Session
from liqmap.ingest.handoff import Cargo, cargo_of
from liqmap.ingest.link import Order
from liqmap.ingest.merge import Overlap, Repeats
from liqmap.ingest.tape_numbers import TapeNumbers


@dataclass(slots=True)
class Listener:
    """A parser per connection of one link, and the way back to it."""

    venue: Venue
    adapter: Adapter
    orders: "queue.SimpleQueue[Order]"
    plan: LinkPlan
    """What the link was told last; its own copy may lag behind by a turn."""
    sessions: dict[int, Session] = field(default_factory=dict)
    overlap: Overlap | None = None
    told_ns: dict[int, int] = field(default_factory=dict)
    repeats: Repeats = field(default_factory=Repeats)
    is_tape: bool = field(init=False)
    """It carries trades only, and does so for ever: changes of its plan are other symbols."""
    numbers: TapeNumbers | None = field(init=False)
    """Where the venue counts its trades."""

    def __post_init__(self) -> None:
        self.is_tape = cargo_of(self.plan) is Cargo.TRADES
        self.numbers = TapeNumbers() if any(stream.counted for stream in self.plan.streams) else None

    @property
    def probed(self) -> bool:
        """False: it carries quiet streams only (now; a plan changes), so anything at all confirms it."""
        return any(not stream.quiet for stream in self.plan.streams)

    def lost(self, told: Mapping[int, Sequence[bytes]]) -> Iterator[tuple[int, int]]:
        """(contract, how many) of the trades that are missing before or among these: none while two connections tell
        the same, each at its own pace."""
        if self.numbers is not None and self.overlap is None:
            for contract, records in told.items():
                if count := self.numbers.missing_in(contract, records):
                    yield contract, count

    def begin_anew(self) -> None:
        """The numbers of trades go on anywhere: another connection, other contracts, or a loss that is told already."""
        if self.numbers is not None:
            self.numbers.forget()

"""The contract of a venue adapter: tables plus pure functions.

An adapter turns raw frames into facts and says which streams to ask for. It keeps no connection, reads no clock and
no file; what it must remember between frames of one connection (Bybit's ticker deltas are merged into a state) lives
in a `Session` that the link makes anew for every connection.

`parse(raw, receive_ns)` of a session returns what the frame said, in order:
`Event` (domain.event), `BookUpdate`, `Control` (acknowledgements, pongs, notices, venue errors) or `Ignored`.
It raises `Malformed` when the frame is not what the venue's documentation promises: the caller quarantines that one
frame. A fact about an instrument outside the table is `Ignored`, never guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import InstrumentTable


class Malformed(Exception):
    """The frame breaks the venue's own format. `field` is the dotted path of the culprit, "" for the whole frame."""

    def __init__(self, why: str, field: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.field = field


@dataclass(frozen=True, slots=True)
class Ignored:
    """A well-formed frame, or a row of one, that says nothing we use."""

    why: str
    instrument: str = ""


class ControlKind(Enum):
    """What a non-market frame is."""

    SUBSCRIBED = "subscribed"
    PONG = "pong"
    NOTICE = "notice"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Control:
    """A frame about the connection itself. `text` is the venue's wording, `code` its number if it gives one."""

    kind: ControlKind
    text: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class BookUpdate:
    """A snapshot or a delta of one order book, levels as (price, qty_base), quantity 0 removes."""

    venue: Venue
    instrument: str
    symbol: str | None
    ts_ms: int
    snapshot: bool
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    sequence: int
    previous_sequence: int | None
    first_sequence: int | None = None


Fact = Event | BookUpdate | Control | Ignored


@dataclass(frozen=True, slots=True)
class Stream:
    """One subscription: `name` as the venue spells it, and what it carries. `quiet`: silence is normal."""

    name: str
    topic: Topic
    symbols: tuple[str, ...]
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """One websocket to hold: where, what to ask for, and how it is kept alive.

    `ping`: text to send when `ping_every_s` passed (None: the venue pings, or protocol pings do).
    `subscribe`: the texts to send after connecting; empty when the URL itself names the streams.
    """

    venue: Venue
    name: str
    url: str
    streams: tuple[Stream, ...]
    subscribe: tuple[str, ...] = ()
    ping: str | None = None
    ping_every_s: float = 20.0


@dataclass(frozen=True, slots=True)
class PollPlan:
    """One REST request to repeat. `weight` in the venue's own units, charged to one budget per venue and IP."""

    venue: Venue
    name: str
    url: str
    topic: Topic
    symbols: tuple[str, ...]
    every_s: float
    weight: int = 1


class Session(Protocol):
    """Parses the frames of one connection."""

    def parse(self, raw: bytes, receive_ns: int) -> Sequence[Fact]:
        """What the frame said. Raises Malformed."""


class Adapter(Protocol):
    """What ingest, the parser command and the tests know of a venue."""

    venue: Venue

    def session(self, instruments: InstrumentTable) -> Session:
        """A parser with the memory of one connection."""

    def parse_reply(self, poll: PollPlan, body: bytes, receive_ns: int, instruments: InstrumentTable) -> Sequence[Fact]:
        """What a REST reply with status 200 said. Raises Malformed (also for the venue's error envelopes)."""

"""The contract of a venue adapter: tables plus pure functions.

An adapter turns raw frames into facts and says which streams to ask for. It keeps no connection, reads no clock and
no file; what it must remember between frames of one connection (Bybit's ticker deltas are merged into a state) lives
in a `Session` that the link makes anew for every connection.

`parse(raw, receive_ns)` of a session returns what the frame said, in order:
`Event` (domain.event), `BookUpdate`, `Control` (acknowledgements, pongs, notices, venue errors) or `Ignored`.
It raises `Malformed` when the frame is not what the venue's documentation promises: the caller quarantines that one
frame. A fact about an instrument outside the table is `Ignored`, never guessed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.envelope import Envelope


class Malformed(Exception):
    """The frame breaks the venue's own format. `field` is the dotted path of the culprit, "" for the whole frame."""

    def __init__(self, why: str, field: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.field = field

    def within(self, outer: str) -> "Malformed":
        """The same fault, its path told from the frame around the row it was found in."""
        return Malformed(self.why, f"{outer}{self.field}")


class Ignored(Struct, frozen=True):
    """A well-formed frame, or a row of one, that says nothing we use.

    `why` is one of a small closed set of words, so that it can name a counter; `instrument` says which contract.
    """

    why: str
    instrument: str = ""


class ControlKind(Enum):
    """What a non-market frame is."""

    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    PONG = "pong"
    NOTICE = "notice"
    ERROR = "error"


class Control(Struct, frozen=True):
    """A frame about the connection itself. `text` is the venue's wording, `code` its number if it gives one. Of a
    cancelled subscription `text` is the stream's name, where the venue says it."""

    kind: ControlKind
    text: str = ""
    code: str = ""


class BookUpdate(Struct, frozen=True):
    """A snapshot or a delta of one order book, levels as (price, qty_base), quantity 0 removes.

    `instrument` is "" for a REST snapshot whose body does not name one. `sequence` is -1 and `previous_sequence`
    None where the venue does not say (Bybit counts up by one within a topic; see docs/exchanges.md).
    """

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


@dataclass(frozen=True, slots=True)
class VenueTime:
    """What a venue's clock says: the answer to a poll of Topic.CLOCK."""

    venue: Venue
    time_ms: int


Fact = Event | BookUpdate | VenueTime | Control | Ignored


class BookRule(Enum):
    """How the updates of an order book follow one another (docs/exchanges.md, "Order books")."""

    BINANCE = "a REST snapshot bridges the buffered stream, then `pu` equals the `u` before"
    BYBIT = "a snapshot by stream at any time, `u` counts up by one"
    OKX = "a snapshot by stream, then `prevSeqId` equals the `seqId` before; a reset may lower it"


@dataclass(frozen=True, slots=True)
class Stream:
    """One subscription: `name` as the venue spells it, and what it carries. `quiet`: silence is normal. `counted`: the
    `detail` of its trades counts up by one, so that a lost one is known."""

    name: str
    topic: Topic
    symbols: tuple[str, ...]
    quiet: bool = False
    counted: bool = False


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """One websocket to hold: where, what to ask for, and how it is kept alive.

    `ping`: text to send when `ping_every_s` passed (None: the venue pings, or protocol pings do).
    `subscribe`: the texts to send after connecting; empty when the URL itself names the streams.
    `rotate_after_s`: the venue cuts connections of about this age; open the next one before (None: it does not).
    """

    venue: Venue
    name: str
    url: str
    streams: tuple[Stream, ...]
    subscribe: tuple[str, ...] = ()
    ping: str | None = None
    ping_every_s: float = 20.0
    rotate_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class PollPlan:
    """One REST request to repeat. `weight` in the venue's own units, charged to the budget named `budget`.

    `name` is `<request>` or `<request>.<instrument>`: it says how to read the answer and whose answer it must be.
    `after_s`: ask that long after each multiple of `every_s` UTC (a bar was closed then); None: in any rhythm.
    """

    venue: Venue
    name: str
    url: str
    topic: Topic
    symbols: tuple[str, ...]
    every_s: float
    weight: int = 1
    budget: str = "rest"
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What a venue allows one IP: `limit` units of weight (or requests) in any `per_s` seconds."""

    name: str
    limit: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a venue allows one IP or one connection, beside its request budgets.

    `connects`: new websockets per IP. `messages`: texts a client may send on one connection (pings count).
    `operations`: subscriptions and cancellations on one connection. None: the venue states no such limit.
    """

    connects: Budget | None = None
    messages: Budget | None = None
    operations: Budget | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a venue says, with an answer, of one of our request budgets. None: it does not say that.

    `used`: weight that this IP has spent in the venue's running window, other programs' requests included.
    `until_ms`: the budget is spent, and this is when (by the venue's clock) there will be more.
    """

    budget: str
    used: int | None = None
    until_ms: int | None = None


class RefusalKind(Enum):
    """Why a venue did not answer a request or a handshake; decides what the caller does next."""

    RATE_LIMITED = "rate_limited"
    BANNED = "banned"
    REGION = "region"
    OVERLOAD = "overload"
    SHAPE = "shape"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused request. `retry_after_s`: None when the venue does not say and the caller's own backoff applies."""

    kind: RefusalKind
    retry_after_s: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A venue's own list of contracts: those we can count in base coin, and why each other one is refused.

    `cursor`: what to ask for next when the list comes in pages, else "".
    """

    instruments: tuple[Instrument, ...]
    refused: Mapping[str, str]
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Tiers:
    """The margin tiers of one contract as a venue publishes them, smallest positions first: each (up to which size or
    None for open, maintenance margin rate, highest leverage). `in_contracts`: sizes are contracts, else USD."""

    venue: Venue
    instrument: str
    rows: tuple[tuple[float | None, float, float], ...]
    in_contracts: bool


class PastBar(NamedTuple):
    """One whole minute of a contract's past: prices quote, volumes base, by who took liquidity."""

    minute_ms: int
    open: float
    high: float
    low: float
    close: float
    taker_buy_base: float
    taker_sell_base: float
    covers_ms: int = 60_000


class PastLevel(NamedTuple):
    """A level of open interest of a contract's past: when, base coin, one side counted."""

    ts_ms: int
    open_interest_base: float


@dataclass(frozen=True, slots=True)
class Past:
    """What one reply tells of the past of a contract, in order of time."""

    bars: tuple[PastBar, ...] = ()
    levels: tuple[PastLevel, ...] = ()


class Session(Protocol):
    """Parses the frames of one connection."""

    def parse(self, raw: bytes, receive_ns: int) -> Sequence[Fact]:
        """What the frame said. Raises Malformed, and nothing else, whatever the bytes are."""

    def tape(self, frames: Iterator[bytes], receive_ns: int, told: "defaultdict[int, list[bytes]]") -> bytes | None:
        """Pack plain trades into `told` (exchanges.prints) while nothing else comes: returns the first frame that is
        anything else, of which nothing was told, or None when there are no more frames. Raises nothing."""

    def use(self, instruments: InstrumentTable) -> None:
        """From now on look contracts up in this table (a symbol was added or taken away)."""


def no_tiers(_config: object, _instruments: InstrumentTable) -> tuple[PollPlan, ...]:
    """The requests for margin tiers of a venue that shows them to nobody without a key."""
    return ()


def unread_tiers(asked: PollPlan, _body: bytes) -> Tiers:
    """What such a venue answers is not read."""
    raise Malformed(f"{asked.venue.name.lower()} publishes no margin tiers")


@dataclass(frozen=True, slots=True)
class Adapter:
    """What ingest, the parser command and the tests know of a venue: a table of pure functions.

    `session(instruments)`: a parser with the memory of one connection.
    `parse_reply(poll, body, receive_ns, instruments)`: what a REST reply with status 200 said; raises Malformed (also
    for the venue's error envelopes). The answer to a poll of Topic.INSTRUMENTS holds no facts: read it with
    `parse_listing(body)`, which raises Malformed, too.
    `link_plans(config, instruments)`, `poll_plans(…)`, `ratio_plans(…)`: the websockets to hold and the REST requests
    to repeat for the configured instruments of the table; `config` is the venue's section of the configuration.
    `tier_plans(config, instruments)`: the requests for the margin tiers of these contracts, read with
    `parse_tiers(poll, body)`, which raises Malformed; none where they are shown only to holders of a key.
    `subscribe_texts(streams)`, `unsubscribe_texts(streams)`: what to send on an open connection when symbols change.
    `classify_refusal(status, content_type, headers, body)`: why an HTTP answer (also of a refused handshake) is none;
    None when it is one.
    `refused_name(name)`: why a contract of that name cannot be counted in base coin; None: the name is fine.
    `request_of(url, body)`: the PollPlan.name that a recorded reply answers, by its URL ("": by its shape), or None.
    `past_plans(config, instrument, from_ms, to_ms)`: the requests, made once each, that tell of that stretch of a
    contract's past, the newest first; `every_s` of each is the period of its rows. `parse_past(plan, body,
    instruments)`: what the answer to one of them said; raises Malformed.
    `budgets`: the request budgets of one IP; PollPlan.budget names one of them.
    `limits`: what else a venue allows.
    `usage(headers)`: what an answer (names of headers in lower case) says of a request budget; None: nothing.
    `envelope`: how its frames are told apart in a capture.
    `book_rule`: how its order books are followed.
    `book_plan(config, instrument)`: the request for a book's snapshot; None where the stream brings it.
    `book_levels(config)`: how many levels a side the stream of a book tells of; None: of all.
    `counts_in_base`: every quantity is base coin, so a contract's name alone says what a size means.
    `resubscribes_once_acknowledged`: a new subscription before the old one's cancellation is acknowledged would be
    taken for the old one.
    `closing_notices`: codes by which the venue says that it will close the connection.
    `replays_liquidations`: whether a new subscriber is told recent liquidations again.
    """

    venue: Venue
    budgets: tuple[Budget, ...]
    session: Callable[[InstrumentTable], Session]
    parse_reply: Callable[[PollPlan, bytes, int, InstrumentTable], Sequence[Fact]]
    parse_listing: Callable[[bytes], Listing]
    link_plans: Callable[[Any, InstrumentTable], tuple[LinkPlan, ...]]
    poll_plans: Callable[[Any, InstrumentTable], tuple[PollPlan, ...]]
    ratio_plans: Callable[[Any, InstrumentTable], tuple[PollPlan, ...]]
    subscribe_texts: Callable[[Sequence[Stream]], tuple[str, ...]]
    unsubscribe_texts: Callable[[Sequence[Stream]], tuple[str, ...]]
    classify_refusal: Callable[[int, str, Mapping[str, str], bytes], Refusal | None]
    refused_name: Callable[[str], str | None]
    request_of: Callable[[str, bytes], str | None]
    past_plans: Callable[[Any, Instrument, int, int], tuple[PollPlan, ...]]
    parse_past: Callable[[PollPlan, bytes, InstrumentTable], Past]
    limits: Limits
    usage: Callable[[Mapping[str, str]], Usage | None]
    envelope: Envelope
    book_rule: BookRule
    book_plan: Callable[[Any, Instrument], PollPlan | None]
    book_levels: Callable[[Any], int | None]
    tier_plans: Callable[[Any, InstrumentTable], tuple[PollPlan, ...]] = no_tiers
    parse_tiers: Callable[[PollPlan, bytes], Tiers] = unread_tiers
    counts_in_base: bool = False
    resubscribes_once_acknowledged: bool = False
    closing_notices: frozenset[str] = frozenset()
    replays_liquidations: bool = False

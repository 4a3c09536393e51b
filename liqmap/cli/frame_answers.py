"""Raw frames as the plain answers of `liqmap parse`: the words of the contract, nothing of files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Kind, PositionSide, Ratio, TakerSide, Topic, Venue
from liqmap.domain.event import MISSING, NO_INSTRUMENT, Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import (
    Adapter,
    BookUpdate,
    Control,
    ControlKind,
    Fact,
    Ignored,
    Listing,
    Malformed,
    PollPlan,
    Session,
    VenueTime,
)
from liqmap.exchanges.recorded import Recorded, read_array, read_line
from liqmap.exchanges.registry import ADAPTERS

Answer = dict[str, Any]


class OpenTable(InstrumentTable):
    """The contracts of one venue, and, where sizes are base coin, any other linear USDT contract it may name.

    Only this command is so open: the daemon knows its configured instruments and nothing else.
    """

    def __init__(self, venue: Venue, listed: Iterable[Instrument], symbols: Mapping[str, str]) -> None:
        numbered = [
            replace(instrument, symbol=symbols.get(instrument.name), number=number)
            for number, instrument in enumerate(listed)
        ]
        super().__init__(numbered)
        self._venue = venue
        self._symbols = symbols
        self._by_number = {instrument.number: instrument for instrument in numbered}

    def find(self, venue: Venue, name: str) -> Instrument | None:
        """The listed contract, or one made from its name."""
        found = super().find(venue, name)
        adapter = ADAPTERS[venue]
        if found is not None or not adapter.counts_in_base or adapter.refused_name(name):
            return found
        number = len(self._by_number)
        if number >= NO_INSTRUMENT:
            return None
        made = self._by_number[number] = Instrument(venue, name, 1.0, self._symbols.get(name), number)
        return made

    def numbered(self, number: int) -> Instrument:
        """The contract an event speaks of."""
        return self._by_number[number]


class FrameReader:
    """Answers for the lines of one recording of one venue. Each recorded connection has a session of its own."""

    def __init__(self, adapter: Adapter, table: OpenTable, refused: Mapping[str, str]) -> None:
        self._adapter = adapter
        self._table = table
        self._refused = refused
        self._sessions: dict[str, Session] = {}
        self._other_markets: set[str] = set()
        self._books: set[str] = set()

    def answers(self, recorded: Recorded) -> Iterator[Answer]:
        """What one line of the recording said, as the contract of the command wants it."""
        if recorded.frame is None:
            yield self._note(recorded)
            return
        if recorded.venue and not recorded.venue.startswith(self._adapter.venue.name.lower()):
            yield {"ignored": f"frame of {recorded.venue}"}
            return
        if recorded.connection in self._other_markets or self._is_other_market(recorded.address):
            yield {"ignored": "another market of the venue"}
            return
        try:
            facts = self._facts(recorded, recorded.frame)
        except Malformed as fault:
            yield {"malformed": fault.why, "field": fault.field}
            return
        for fact in facts:
            yield self._answer(fact)

    def _is_other_market(self, address: str) -> bool:
        """Whether that address serves another market of the venue (spot, inverse …), where names mean other things."""
        markets = self._adapter.envelope.other_market
        return markets is not None and bool(markets.search(address))

    def _note(self, recorded: Recorded) -> Answer:
        if recorded.note == "connect":
            self._sessions.pop(recorded.connection, None)
            if self._is_other_market(recorded.address):
                self._other_markets.add(recorded.connection)
        return {"ignored": f"recording: {recorded.note}"}

    def _facts(self, recorded: Recorded, frame: bytes) -> Sequence[Fact]:
        receive_ns = recorded.receive_ns or 0
        if recorded.reply:
            request = self._adapter.request_of(recorded.address, frame)
            return (Ignored("reply not used"),) if request is None else self._reply(request, frame, receive_ns)
        session = self._sessions.get(recorded.connection)
        if session is None:
            session = self._sessions[recorded.connection] = self._adapter.session(self._table)
        try:
            facts = session.parse(frame, receive_ns)
        except Malformed:
            request = self._adapter.request_of("", frame)
            if request is None:
                raise
            return self._reply(request, frame, receive_ns)
        self._books.update(fact.instrument for fact in facts if isinstance(fact, BookUpdate))
        return facts

    def _reply(self, request: str, body: bytes, receive_ns: int) -> Sequence[Fact]:
        """A REST reply. A book without a name is that of the one instrument whose book was recorded, if it is one."""
        if request == "instruments":
            return (Ignored("list of contracts"),)
        if request == "depth" and len(self._books) == 1:
            request = f"depth.{next(iter(self._books))}"
        poll = PollPlan(self._adapter.venue, request, "", Topic.DEPTH, (), 0.0)
        return self._adapter.parse_reply(poll, body, receive_ns, self._table)

    def _answer(self, fact: Fact) -> Answer:
        if isinstance(fact, Event):
            instrument = self._table.numbered(fact.instrument)
            return {**_head(Kind(fact.kind).name.lower(), instrument, fact.venue_ms), **_WORDS[Kind(fact.kind)](fact)}
        if isinstance(fact, BookUpdate):
            return _book(fact)
        if isinstance(fact, Control):
            return {"ignored": _control(fact)}
        if isinstance(fact, VenueTime):
            return {"ignored": "time of the venue"}
        why = self._refused.get(fact.instrument, fact.why) if fact.why == "unknown instrument" else fact.why
        return {"ignored": f"{why} {fact.instrument}".rstrip()}


def _head(kind: str, instrument: Instrument, venue_ms: int) -> Answer:
    return {
        "kind": kind,
        "venue": instrument.venue.name.lower(),
        "instrument": instrument.name,
        "symbol": instrument.symbol,
        "ts_ms": _time(venue_ms),
    }


def _number(value: float) -> float | None:
    """NaN is null; products of a contract size lose the last bit, which nobody sent."""
    return None if value != value else float(f"{value:.15g}")


def _time(time_ms: int) -> int | None:
    return None if time_ms == MISSING else time_ms


_WORDS: Final[Mapping[Kind, Any]] = {
    Kind.LIQUIDATION: lambda event: {
        "position_side": PositionSide(event.side).name.lower(),
        "printed_price": event.price,
        "fill_price": _number(event.extra),
        "qty_base": _number(event.quantity),
    },
    Kind.TRADE: lambda event: {
        "taker_side": TakerSide(event.side).name.lower(),
        "price": event.price,
        "qty_base": _number(event.quantity),
    },
    Kind.MARK_PRICE: lambda event: {"mark_price": event.price, "index_price": _number(event.extra)},
    Kind.OPEN_INTEREST: lambda event: {"open_interest_base": _number(event.quantity)},
    Kind.FUNDING: lambda event: {
        "funding_rate": _number(event.quantity),
        "interval_h": _number(event.extra),
        "next_funding_ms": _time(event.detail),
    },
    Kind.RATIO: lambda event: {"ratio": Ratio(event.side).name.lower(), "long_share": _number(event.quantity)},
}


def _book(book: BookUpdate) -> Answer:
    return {
        "kind": "book_snapshot" if book.snapshot else "book_delta",
        "venue": book.venue.name.lower(),
        "instrument": book.instrument or None,
        "symbol": book.symbol,
        "ts_ms": _time(book.ts_ms),
        "bids": [(price, _number(quantity)) for price, quantity in book.bids],
        "asks": [(price, _number(quantity)) for price, quantity in book.asks],
        "sequence": _time(book.sequence),
        "previous_sequence": book.previous_sequence,
    }


def _control(control: Control) -> str:
    if control.kind is ControlKind.ERROR:
        return f"venue error {control.code} {control.text}".replace("  ", " ").rstrip()
    if control.kind is ControlKind.NOTICE:
        return f"notice {control.code} {control.text}".replace("  ", " ").rstrip()
    return str(control.kind.value)


def answers(
    venue: Venue, lines: Iterable[bytes], listing: Listing | None, symbols: Mapping[str, str]
) -> Iterator[Answer]:
    """Answers for the lines of one recording. `symbols`: the venue's contract names → symbols."""
    shipped = (instrument for instrument in shipped_instruments() if instrument.venue == venue)
    table = OpenTable(venue, shipped if listing is None else listing.instruments, symbols)
    reader = FrameReader(ADAPTERS[venue], table, {} if listing is None else listing.refused)
    for recorded in _recorded(iter(lines)):
        if isinstance(recorded, Malformed):
            yield {"malformed": recorded.why, "field": recorded.field}
        else:
            yield from reader.answers(recorded)


def _recorded(lines: Iterator[bytes]) -> Iterator[Recorded | Malformed]:
    for number, line in enumerate(lines):
        try:
            if number == 0 and line.strip() == b"[":
                yield from read_array(line + b"".join(lines))
            elif line.strip():
                yield read_line(line)
        except Malformed as fault:
            yield fault

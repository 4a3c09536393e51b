"""OKX V5 swaps: what its REST replies say; errors come with status 200 as often as not (docs/exchanges.md)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Generic, TypeVar

from msgspec import Meta, Struct

from liqmap.domain.enums import Ratio, Venue
from liqmap.domain.instrument import Contracts, InstrumentTable
from liqmap.exchanges.adapter import Fact, Ignored, Malformed, PollPlan, VenueTime
from liqmap.exchanges.facts import ratio
from liqmap.exchanges.okx.frames import books, fundings, interests, liquidations, marks, unused_row
from liqmap.exchanges.okx.rows import BookRow, FundingRow, InterestRow, LiquidationRow, MarkRow
from liqmap.exchanges.wire import DECODING_FAULTS, Milliseconds, decoder, refuse

Row = TypeVar("Row")


class _Answer(Struct, Generic[Row], gc=False):
    """The envelope of every REST reply: the code is a string, "0" is success, errors come with status 200."""

    code: str
    data: tuple[Row, ...] = ()
    msg: str = ""


_RatioRow = tuple[Milliseconds, Annotated[float, Meta(ge=0, le=1e6)]]


class _Time(Struct, gc=False):
    ts: Milliseconds


_time_answer = decoder(_Answer[_Time])
_interest_answer = decoder(_Answer[InterestRow])
_mark_answer = decoder(_Answer[MarkRow])
_funding_answer = decoder(_Answer[FundingRow])
_liquidation_answer = decoder(_Answer[LiquidationRow])
_book_answer = decoder(_Answer[BookRow])
_ratio_answer: Callable[[bytes], _Answer[_RatioRow]] = decoder(_Answer[_RatioRow])

_Reader = Callable[[bytes, str, int, Contracts], Sequence[Fact]]


def _rows(answer: _Answer[Row]) -> tuple[Row, ...]:
    if answer.code != "0":
        raise Malformed(f"refused: {answer.code} {answer.msg}", "code")
    return answer.data


def _check_asked(rows: Sequence[MarkRow | InterestRow | FundingRow], asked: str) -> None:
    for index, row in enumerate(rows):
        if asked and row.instId != asked:
            raise Malformed(f"asked for {asked}, answered for {row.instId}", f"data.{index}.instId")


def _read_interest(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    rows = _rows(_interest_answer(body))
    _check_asked(rows, asked)
    return interests(rows, receive_ns, contracts)


def _read_marks(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    rows = _rows(_mark_answer(body))
    _check_asked(rows, asked)
    return marks(rows, receive_ns, contracts, {})


def _read_funding(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    rows = _rows(_funding_answer(body))
    _check_asked(rows, asked)
    return fundings(rows, receive_ns, contracts)


def _read_liquidations(body: bytes, _asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    return liquidations(_rows(_liquidation_answer(body)), receive_ns, contracts)


def _read_depth(body: bytes, asked: str, _receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
    rows = _rows(_book_answer(body))
    return books(rows, asked, True, contracts) if asked else (Ignored("a book without a name"),)


def _ratio_reader(which: Ratio) -> _Reader:
    def read(body: bytes, asked: str, receive_ns: int, contracts: Contracts) -> Sequence[Fact]:
        contract = contracts[asked]
        if contract is None:
            return (unused_row(asked),)
        rows = sorted(_rows(_ratio_answer(body)))
        return [ratio(contract, receive_ns, ts, longs / (1.0 + longs), which) for ts, longs in rows]

    return read


def _read_time(body: bytes, _asked: str, _receive_ns: int, _contracts: Contracts) -> Sequence[Fact]:
    return [VenueTime(Venue.OKX, row.ts) for row in _rows(_time_answer(body))[:1]]


_REPLIES: Final[Mapping[str, _Reader]] = {
    "open_interest": _read_interest,
    "mark_price": _read_marks,
    "funding": _read_funding,
    "liquidations": _read_liquidations,
    "clock": _read_time,
    "depth": _read_depth,
    "ratio_accounts": _ratio_reader(Ratio.ACCOUNTS),
    "ratio_top_accounts": _ratio_reader(Ratio.TOP_ACCOUNTS),
    "ratio_top_positions": _ratio_reader(Ratio.TOP_POSITIONS),
}

OKX_SHAPES: Final = (
    ("open_interest", frozenset({"code", "instId", "oi"})),
    ("mark_price", frozenset({"code", "instId", "markPx"})),
    ("funding", frozenset({"code", "instId", "fundingRate"})),
    ("liquidations", frozenset({"code", "instId", "details"})),
    ("depth", frozenset({"code", "asks", "bids", "ts"})),
    ("instruments", frozenset({"code", "instId", "ctVal"})),
    ("clock", frozenset({"code", "ts"})),
)


def okx_reply(poll: PollPlan, body: bytes, receive_ns: int, instruments: InstrumentTable) -> Sequence[Fact]:
    """What a REST reply said: see Adapter.parse_reply. Raises Malformed."""
    request, _, asked = poll.name.partition(".")
    try:
        return _REPLIES[request](body, asked, receive_ns, instruments.of(Venue.OKX)) or (Ignored("empty answer"),)
    except DECODING_FAULTS as error:
        refuse(error, body)

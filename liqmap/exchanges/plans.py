"""What the venues' plans have in common: who is configured, how streams are cut into links, lists and ratios.

Facts (liquidations, mark price, open interest, funding) and trades travel on separate links, so that a storm of trades
delays no liquidation. Routes, limits and their sources: docs/exchanges.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import Malformed, PollPlan, Stream
from liqmap.exchanges.wire import decode_any


class Polled(Protocol):
    """What every venue's section of the configuration says about polls."""

    @property
    def rest(self) -> str:
        """Base address of the REST interface."""

    @property
    def open_interest_poll_s(self) -> float:
        """Seconds between two readings of one contract."""

    @property
    def instruments_poll_s(self) -> float:
        """Seconds between two lists of contracts."""

    @property
    def ratios_poll_s(self) -> float:
        """Seconds between two readings of one positioning ratio."""

    @property
    def clock_poll_s(self) -> float:
        """Seconds between two looks at the venue's clock."""


RATIO_AFTER_S: Final = 60.0
"""How long after the close of a bar its ratio is asked for; nobody documents when it is published."""


def request_of(
    requests: Mapping[str, str], shapes: Iterable[tuple[str, frozenset[str]]], url: str, body: bytes
) -> str | None:
    """The PollPlan.name that a recorded reply answers: by the path of its URL, without one by the keys it has."""
    if url:
        address = urlsplit(url)
        query = dict(part.partition("=")[::2] for part in address.query.split("&"))
        asked = query.get("symbol") or query.get("instId") or ""
        for request, path in requests.items():
            if address.path == path:
                return f"{request}.{asked}" if asked else request
        return None
    try:
        reply = decode_any(body)
    except Malformed:
        return None
    keys = _keys(reply)
    return next((request for request, needed in shapes if needed <= keys), None)


def _keys(reply: Any) -> frozenset[str]:
    """The keys of a reply, or of its first row, and of what is in its `result`, `data` or `list`."""
    found: set[str] = set()
    while isinstance(reply, dict | list) and reply:
        if isinstance(reply, list):
            reply = reply[0]
        else:
            found.update(reply)
            reply = reply.get("result") or reply.get("data") or reply.get("list")
    return frozenset(found)


def configured(instruments: InstrumentTable, venue: Venue) -> list[tuple[str, Instrument]]:
    mine = (instrument for instrument in instruments if instrument.venue == venue)
    return [(instrument.symbol, instrument) for instrument in mine if instrument.symbol is not None]


def listing_plan(venue: Venue, url: str, mine: list[tuple[str, Instrument]], every_s: float) -> PollPlan:
    symbols = tuple(symbol for symbol, _ in mine)
    return PollPlan(venue, "instruments", url, Topic.INSTRUMENTS, symbols, every_s)


def next_page(plan: PollPlan, cursor: str) -> PollPlan:
    """The request for the rest of a list that comes in pages (Bybit): once, right after the page that named the
    cursor. `plan` is the poll of the first page."""
    return replace(plan, url=f"{plan.url}&cursor={quote(cursor, safe='')}")


def clock_plan(venue: Venue, config: Polled, requests: Mapping[str, str]) -> PollPlan:
    """What time it is at the venue."""
    url = f"{config.rest.rstrip('/')}{requests['clock']}"
    return PollPlan(venue, "clock", url, Topic.CLOCK, (), config.clock_poll_s)


def ratio_plans(
    venue: Venue, config: Polled, requests: Mapping[str, str], query: str, instruments: InstrumentTable, budget: str
) -> tuple[PollPlan, ...]:
    """The positioning ratios of each contract, each of them after the close of its bars."""
    return tuple(
        PollPlan(
            venue,
            f"{request}.{instrument.name}",
            f"{config.rest.rstrip('/')}{path}{query}{quote(instrument.name)}",
            Topic.RATIO,
            (symbol,),
            config.ratios_poll_s,
            budget=budget,
            after_s=RATIO_AFTER_S,
        )
        for symbol, instrument in configured(instruments, venue)
        for request, path in requests.items()
        if request.startswith("ratio_")
    )


def names(streams: Sequence[Stream]) -> list[str]:
    """Names without repeats: one ticker carries several topics."""
    return list(dict.fromkeys(stream.name for stream in streams))


def split(streams: Sequence[Stream], cost: Callable[[Stream], int], limit: int) -> list[tuple[Stream, ...]]:
    """Cut where the names' cost would pass the limit; streams of one name stay together."""
    parts: list[list[Stream]] = []
    spent, last = limit, ""
    for stream in streams:
        price = 0 if stream.name == last else cost(stream)
        if spent + price > limit or not parts:
            parts.append([])
            spent = 0
        parts[-1].append(stream)
        spent, last = spent + price, stream.name
    return [tuple(part) for part in parts]


def part_name(name: str, index: int) -> str:
    return name if index == 0 else f"{name}-{index + 1}"


def json_text(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()


def windows(from_ms: int, to_ms: int, period_ms: int, most: int) -> list[tuple[int, int]]:
    """The multiples of `period_ms` in [from_ms, to_ms], cut into runs of at most `most`: first and last of each run,
    the newest run first."""
    first, last = -(-from_ms // period_ms), to_ms // period_ms
    ends = range(last, first - 1, -most)
    return [(max(first, end - most + 1) * period_ms, end * period_ms) for end in ends]


def past_plan(venue: Venue, instrument: Instrument, request: str, url: str, period_ms: int) -> PollPlan:
    """A request for a stretch of the past of a contract; its `every_s` is the period of the rows."""
    topic = Topic.TRADE if request == "bars" else Topic.OPEN_INTEREST
    return PollPlan(venue, f"{request}.{instrument.name}", url, topic, (instrument.symbol or "",), period_ms / 1000)

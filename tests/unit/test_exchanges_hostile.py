"""Whatever a socket delivers: facts, or Malformed with a path. Never another exception, never an impossible number."""

import contextlib
import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges import binance, bybit, okx
from liqmap.exchanges.adapter import BookUpdate, Control, Fact, Ignored, Malformed, PollPlan, VenueTime
from liqmap.exchanges.recorded import read_line
from liqmap.exchanges.registry import ADAPTERS
from tests.wire.golden_files import GOLDEN

TABLE = InstrumentTable(
    [
        Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 0),
        Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", 1),
        Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.01, "BTC", 2),
    ]
)
REQUESTS = {Venue.BINANCE: binance.plans.REQUESTS, Venue.BYBIT: bybit.plans.REQUESTS, Venue.OKX: okx.plans.REQUESTS}

FRAMES = {
    venue: [
        json.loads(line)["raw"]
        for path in sorted((GOLDEN / venue.name.lower()).glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    for venue in ADAPTERS
}


def _trees(venue: Venue) -> list[Any]:
    trees = []
    for raw in FRAMES[venue]:
        try:
            trees.append(json.loads(raw))
        except ValueError:
            continue
    return trees


venues = st.sampled_from(sorted(ADAPTERS))
junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "NaN", "nan", "Infinity", "-Infinity", "-1", "0", "1e400", "1e30", " 1", "0x1", "1_0", "٣"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([10**30, -(10**30), 2**63, 2**64, 1.5, 1e-320]),
)


def _parse(venue: Venue, raw: bytes) -> Sequence[Fact] | Malformed:
    try:
        return ADAPTERS[venue].session(TABLE).parse(raw, 1)
    except Malformed as fault:
        return fault


def _check(facts: Sequence[Fact] | Malformed) -> None:
    if isinstance(facts, Malformed):
        assert facts.why
        return
    assert facts
    for fact in facts:
        assert isinstance(fact, Event | BookUpdate | VenueTime | Control | Ignored)
        if isinstance(fact, VenueTime):
            assert 0 < fact.time_ms < 10**13
        if isinstance(fact, Event):
            _check_event(fact)
        if isinstance(fact, BookUpdate):
            for price, quantity in (*fact.bids, *fact.asks):
                assert 0 < price <= 1e9
                assert 0 <= quantity <= 1e18


def _check_event(event: Event) -> None:
    assert len(event.packed(1)) == 64
    assert event.venue_ms == -1 or 1_400_000_000_000 <= event.venue_ms <= 4_200_000_000_000
    if event.kind in (Kind.LIQUIDATION, Kind.TRADE):
        assert 0 < event.price <= 1e9
        assert 0 < event.quantity <= 1e18
        assert event.price * event.quantity <= 1e10
        assert event.side in (1, 2)
    if event.kind == Kind.MARK_PRICE:
        assert 0 < event.price <= 1e9
    if event.kind == Kind.OPEN_INTEREST:
        assert 0 < event.quantity <= 1e18
    assert math.isnan(event.extra) or event.extra > 0


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a tree of JSON values."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, part in inner for place in _places(part, (*path, key)))]


def _with(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value at one place."""
    if not path:
        return value
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = _with(tree[path[0]], path[1:], value)
    return copy


@given(venues, st.binary(max_size=200))
@example(Venue.OKX, b"pong")
@example(Venue.BINANCE, b"[" * 100_000)
@example(Venue.BYBIT, b'{"topic":"publicTrade.' + b'{"a":' * 100_000)
@example(Venue.OKX, b'{"arg":{"channel":"trades' + b"[" * 100_000)
@example(Venue.BYBIT, b'{"topic":"publicTrade.BTCUSDT","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
def test_any_bytes_are_facts_or_malformed(venue: Venue, raw: bytes) -> None:
    _check(_parse(venue, raw))


@pytest.mark.parametrize("venue", ADAPTERS, ids=lambda venue: venue.name.lower())
def test_the_envelope_alone_names_the_topic_of_every_frame_with_market_data(venue: Venue) -> None:
    """Captures are described, filtered and played by it."""
    named = set()
    for raw in FRAMES[venue]:
        facts = _parse(venue, raw.encode())
        if not isinstance(facts, Malformed) and any(isinstance(fact, Event | BookUpdate) for fact in facts):
            named.add(ADAPTERS[venue].envelope.identify(raw.encode(), "").topic)
    assert len(named) > 3 and all(named), named


@given(venues, st.binary(max_size=200))
def test_an_envelope_of_any_bytes_is_a_topic_or_no_json(venue: Venue, raw: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        assert ADAPTERS[venue].envelope.identify(raw, "").data in raw


@settings(max_examples=400)
@given(st.data())
def test_a_frame_with_anything_at_any_place_is_facts_or_malformed(data: st.DataObject) -> None:
    venue = data.draw(venues)
    tree = data.draw(st.sampled_from(_trees(venue)))
    place = data.draw(st.sampled_from(_places(tree)))
    changed = _with(tree, place, data.draw(junk))
    compact = data.draw(st.booleans())
    raw = json.dumps(changed, separators=(",", ":") if compact else None, ensure_ascii=data.draw(st.booleans()))
    _check(_parse(venue, raw.encode("utf-8", "surrogatepass")))


@settings(max_examples=200)
@given(st.data())
def test_a_frame_cut_or_flipped_anywhere_is_facts_or_malformed(data: st.DataObject) -> None:
    venue = data.draw(venues)
    raw = bytearray(data.draw(st.sampled_from(FRAMES[venue])).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        del raw[at:]
    else:
        raw[at] = data.draw(st.integers(0, 255))
    _check(_parse(venue, bytes(raw)))


@settings(max_examples=300)
@given(st.data())
def test_a_reply_with_anything_at_any_place_is_facts_or_malformed(data: st.DataObject) -> None:
    venue = data.draw(venues)
    request = data.draw(st.sampled_from([name for name in REQUESTS[venue] if name != "instruments"]))
    tree = data.draw(st.sampled_from(_trees(venue)))
    changed = _with(tree, data.draw(st.sampled_from(_places(tree))), data.draw(junk))
    asked = data.draw(st.sampled_from(["", ".BTCUSDT", ".BTC-USDT-SWAP", ".NOPE"]))
    poll = PollPlan(venue, request + asked, "", Topic.DEPTH, (), 1.0)
    try:
        facts: Sequence[Fact] | Malformed = ADAPTERS[venue].parse_reply(poll, json.dumps(changed).encode(), 1, TABLE)
    except Malformed as fault:
        facts = fault
    _check(facts)


@given(venues, st.binary(max_size=100))
def test_a_list_of_contracts_may_be_anything(venue: Venue, raw: bytes) -> None:
    for body in (raw, b'{"symbols":' + raw, b'{"data":' + raw + b"}"):
        try:
            ADAPTERS[venue].parse_listing(body)
        except Malformed as fault:
            assert fault.why


@given(st.binary(max_size=100))
@example(b'{"t":"recv","data":')
@example(b'{"t":"recv"}')
@example(b'{"venue":"okx","frame":')
def test_a_line_of_a_recording_may_be_anything(raw: bytes) -> None:
    try:
        read_line(raw)
    except Malformed as fault:
        assert fault.why


@given(venues, st.integers(100, 599), st.text(max_size=30), st.dictionaries(st.text(max_size=12), st.text(max_size=30)))
def test_any_http_answer_can_be_classified(venue: Venue, status: int, kind: str, headers: dict[str, str]) -> None:
    for body in (b"", b"{}", b"\xff", b'{"code":-1003,"msg":"banned until 9999999999999"}', kind.encode()):
        refusal = ADAPTERS[venue].classify_refusal(status, kind, headers, body)
        assert refusal is None or refusal.retry_after_s is None or refusal.retry_after_s >= 0


@pytest.mark.finding("M13")
@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_a_session_goes_on_after_every_kind_of_bad_frame(venue: Venue) -> None:
    session = ADAPTERS[venue].session(TABLE)
    good = {
        Venue.BINANCE: b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","s":"BTCUSDT","a":1,"p":"5","q":"2",'
        b'"T":1790000000000,"m":true}}',
        Venue.BYBIT: b'{"topic":"publicTrade.BTCUSDT","ts":1790000000000,"data":[{"T":1790000000000,"s":"BTCUSDT",'
        b'"S":"Sell","v":"2","p":"5"}]}',
        Venue.OKX: b'{"arg":{"channel":"trades","instId":"BTC-USDT-SWAP"},"data":[{"instId":"BTC-USDT-SWAP",'
        b'"tradeId":"1","px":"5","sz":"200","side":"sell","ts":"1790000000000"}]}',
    }[venue]
    for bad in (b"", b"\xff\xfe", good[:-9], good.replace(b'"5"', b"NaN"), good.replace(b'"5"', b'"x"'), b"[" * 5000):
        with pytest.raises(Malformed):
            session.parse(bad, 1)
        (fact,) = session.parse(good, 2)
        assert isinstance(fact, Event)
        assert (fact.kind, fact.price, fact.quantity, fact.side) == (Kind.TRADE, 5.0, 2.0, 2)

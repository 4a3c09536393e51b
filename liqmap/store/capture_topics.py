"""Which topic a raw frame belongs to: just enough of each venue's envelope, for players and descriptions of captures.

Topics are named as the venue servers name them: Binance streams, Bybit topics, OKX `channel/instrument`.
"""

from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from liqmap.domain.enums import Venue


class Found(NamedTuple):
    """What a frame is. `topic` is "" for control frames; `data` is the frame without a combined-stream envelope."""

    topic: str
    instrument: str
    data: bytes


SERVED_ROUTES = {
    Venue.BINANCE: ("", "market", "public", "legacy"),
    Venue.BYBIT: ("", "linear"),
    Venue.OKX: ("", "public"),
}
"""Sockets whose topics mean the contracts we know: a spot socket uses the same names for something else."""


class _Combined(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Order(msgspec.Struct):
    s: str = ""


class _BinanceEvent(msgspec.Struct):
    e: str = ""
    s: str = ""
    o: _Order | msgspec.UnsetType = msgspec.UNSET


class _BybitHead(msgspec.Struct):
    topic: str = ""


class _Argument(msgspec.Struct):
    channel: str = ""
    inst_id: str = msgspec.field(default="", name="instId")
    inst_type: str = msgspec.field(default="", name="instType")


class _OkxHead(msgspec.Struct):
    arg: _Argument = msgspec.field(default_factory=_Argument)
    event: str = ""


_combined = msgspec.json.Decoder(_Combined)
_bybit = msgspec.json.Decoder(_BybitHead)
_okx = msgspec.json.Decoder(_OkxHead)

_STREAM_OF_EVENT = {
    "aggTrade": "aggTrade",
    "trade": "trade",
    "markPriceUpdate": "markPrice@1s",
    "forceOrder": "forceOrder",
    "bookTicker": "bookTicker",
    "depthUpdate": "depth@100ms",
}
"""For raw (not combined) Binance frames of connections whose address is not known: the usual stream of the event."""


def venue_of_text(frame: bytes) -> Venue | None:
    """The venue that sends frames of this shape, None when it cannot be told."""
    head = frame[:256]
    if b'"stream"' in head or (b'"e"' in head and b'"E"' in head) or (b'"result"' in head and b'"id"' in head):
        return Venue.BINANCE
    if b'"topic"' in frame or b'"ret_msg"' in head:
        return Venue.BYBIT
    okx = b'"arg"' in frame or b'"event"' in head or head.strip() == b"pong"
    return Venue.OKX if okx else None


def identify(venue: Venue, raw: bytes, single_stream: str = "") -> Found:
    """The topic and contract of a frame. Raises msgspec.DecodeError when it is not the JSON object it should be."""
    if venue is Venue.BINANCE:
        return _identify_binance(raw, single_stream)
    if venue is Venue.BYBIT:
        topic = _bybit.decode(raw).topic
        return Found(topic, topic.rpartition(".")[2], raw)
    if raw.strip() == b"pong":
        return Found("", "", raw)
    head = _okx.decode(raw)
    if head.event or not head.arg.channel:
        return Found("", "", raw)
    return Found(f"{head.arg.channel}/{head.arg.inst_id or head.arg.inst_type}", head.arg.inst_id, raw)


def route_of_address(address: str) -> tuple[str, str]:
    """(route, the one stream of a raw Binance address or "") of a websocket address."""
    parts = urlsplit(address)
    steps = [step for step in parts.path.split("/") if step]
    # The routes of Binance, and of nobody else: known also where they are played on loopback.
    routed = bool(steps) and steps[0] in ("market", "public", "private")
    if routed or "fstream.binance" in parts.netloc:
        route = steps[0] if routed else "legacy"
        streams = steps[steps.index("ws") + 1 :] if "ws" in steps else []
        return route, streams[0] if len(streams) == 1 else ""
    return (steps[-1] if steps else ""), ""


def key_of_request(url: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A REST address without what does not change which answer is meant: host, order and size of a page."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items() if name not in _NOT_MEANT}
    return parts.path, tuple(sorted(query.items()))


_NOT_MEANT = ("limit", "status", "cursor", "sz")


def _identify_binance(raw: bytes, single_stream: str) -> Found:
    if raw[:1] == b"[":
        # An array is an all-market stream; its address alone says which.
        msgspec.json.decode(raw)
        return Found(single_stream or "!markPrice@arr@1s", "", raw)
    combined = _combined.decode(raw)
    if combined.stream:
        return Found(combined.stream, _contract_of(combined.stream, bytes(combined.data)), bytes(combined.data))
    event = msgspec.json.decode(raw, type=_BinanceEvent)
    if not event.e:
        return Found("", "", raw)
    name = event.o.s if isinstance(event.o, _Order) else event.s
    topic = single_stream or f"{name.lower()}@{_STREAM_OF_EVENT.get(event.e, event.e)}"
    return Found(topic, name, raw)


def _contract_of(stream: str, data: bytes) -> str:
    if not stream.startswith("!"):
        return stream.partition("@")[0].upper()
    if data[:1] != b"{":
        return ""
    event = msgspec.json.decode(data, type=_BinanceEvent)
    return event.o.s if isinstance(event.o, _Order) else event.s

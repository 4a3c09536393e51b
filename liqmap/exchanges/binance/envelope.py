"""The outside of Binance's frames: raw, or in the envelope of a combined stream."""

import re
from typing import Final

import msgspec

from liqmap.exchanges.envelope import Envelope, Found


class _Combined(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Order(msgspec.Struct):
    s: str = ""


class _Event(msgspec.Struct):
    e: str = ""
    s: str = ""
    o: _Order | msgspec.UnsetType = msgspec.UNSET


_combined = msgspec.json.Decoder(_Combined)
_event = msgspec.json.Decoder(_Event)

_STREAM_OF_EVENT = {
    "aggTrade": "aggTrade",
    "trade": "trade",
    "markPriceUpdate": "markPrice@1s",
    "forceOrder": "forceOrder",
    "bookTicker": "bookTicker",
    "depthUpdate": "depth@100ms",
}
"""For raw (not combined) frames of connections whose address is not known: the usual stream of the event."""


def speaks(frame: bytes) -> bool:
    """By the first words of a stream, an event or an answer to a subscription."""
    head = frame[:256]
    return b'"stream"' in head or (b'"e"' in head and b'"E"' in head) or (b'"result"' in head and b'"id"' in head)


def identify(raw: bytes, single_stream: str) -> Found:
    """The stream, by the combined envelope or the event's own names."""
    if raw[:1] == b"[":
        # An array is an all-market stream; its address alone says which.
        msgspec.json.decode(raw)
        return Found(single_stream or "!markPrice@arr@1s", "", raw)
    combined = _combined.decode(raw)
    if combined.stream:
        return Found(combined.stream, _contract_of(combined.stream, bytes(combined.data)), bytes(combined.data))
    event = _event.decode(raw)
    if not event.e:
        return Found("", "", raw)
    name = event.o.s if isinstance(event.o, _Order) else event.s
    return Found(single_stream or f"{name.lower()}@{_STREAM_OF_EVENT.get(event.e, event.e)}", name, raw)


def _contract_of(stream: str, data: bytes) -> str:
    if not stream.startswith("!"):
        return stream.partition("@")[0].upper()
    if data[:1] != b"{":
        return ""
    event = _event.decode(data)
    return event.o.s if isinstance(event.o, _Order) else event.s


ENVELOPE: Final = Envelope(
    routes=frozenset({"", "market", "public", "legacy"}),
    other_market=re.compile(r"//(?:d?stream|data-stream|d?api|data-api)\d*\.binance\.(?:com|vision)|/(?:d|e)api/"),
    speaks=speaks,
    identify=identify,
)

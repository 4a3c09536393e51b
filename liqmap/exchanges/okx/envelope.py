"""The outside of OKX's frames: an argument that names channel and contract, or a bare pong."""

import re
from typing import Final

import msgspec

from liqmap.exchanges.envelope import Envelope, Found


class _Argument(msgspec.Struct):
    channel: str = ""
    inst_id: str = msgspec.field(default="", name="instId")
    inst_type: str = msgspec.field(default="", name="instType")


class _Head(msgspec.Struct):
    arg: _Argument = msgspec.field(default_factory=_Argument)
    event: str = ""


_head = msgspec.json.Decoder(_Head)


def speaks(frame: bytes) -> bool:
    """By its argument or event, or because it is a pong."""
    head = frame[:256]
    return b'"arg"' in frame or b'"event"' in head or head.strip() == b"pong"


def identify(raw: bytes, _single_stream: str) -> Found:
    """Channel and contract (or kind of contracts), of market data alone."""
    if raw.strip() == b"pong":
        return Found("", "", raw)
    head = _head.decode(raw)
    if head.event or not head.arg.channel:
        return Found("", "", raw)
    return Found(f"{head.arg.channel}/{head.arg.inst_id or head.arg.inst_type}", head.arg.inst_id, raw)


ENVELOPE: Final = Envelope(
    routes=frozenset({"", "public"}),
    other_market=re.compile(r"[?&]instType=(?!SWAP)\w+"),
    speaks=speaks,
    identify=identify,
)

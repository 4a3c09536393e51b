"""The outside of Bybit's frames: a topic that ends with the contract."""

import re
from typing import Final

import msgspec

from liqmap.exchanges.envelope import Envelope, Found


class _Head(msgspec.Struct):
    topic: str = ""


_head = msgspec.json.Decoder(_Head)


def speaks(frame: bytes) -> bool:
    """By its topic, or the word of an answer."""
    return b'"topic"' in frame or b'"ret_msg"' in frame[:256]


def identify(raw: bytes, _single_stream: str) -> Found:
    """The topic as it is."""
    topic = _head.decode(raw).topic
    return Found(topic, topic.rpartition(".")[2], raw)


ENVELOPE: Final = Envelope(
    routes=frozenset({"", "linear"}),
    other_market=re.compile(r"/v5/(?:public|private)/(?!linear)\w+|[?&]category=(?!linear)\w+"),
    speaks=speaks,
    identify=identify,
)

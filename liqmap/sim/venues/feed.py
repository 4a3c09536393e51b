"""What a venue server needs from whoever makes its data: messages to send, and answers to REST requests.

Two makers exist: a simulated market (`*_feed.py`) and a capture of raw frames (`playback.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import orjson


class Message(NamedTuple):
    """One message of one topic. `wrapped` is the same inside the venue's envelope, where a recording kept that."""

    topic: str
    payload: bytes
    wrapped: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One REST answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(value: object, status: int = 200) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, orjson.dumps(value))


class Feed(Protocol):
    """The data behind one venue server."""

    def lists(self, name: str) -> bool:
        """Is there a contract of that name? Venues that check subscriptions ask."""

    def on_subscribe(self, topic: str, now_ms: int) -> Iterable[Message]:
        """What a new subscriber of `topic` is sent at once (snapshots, replays of recent rows)."""

    def answer(self, path: str, query: Mapping[str, str], now_ms: int) -> Reply | None:
        """The answer to a GET, None when there is no such endpoint."""

    def book_truth(self, contract: str, now_ms: int) -> dict[str, Any] | None:
        """The true order book of a contract, for tests; None where nobody knows it."""

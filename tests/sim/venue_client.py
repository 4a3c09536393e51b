"""What tests of the venue servers use: a plain websocket client that waits for messages, never for a time, and feeds
that a test steps by hand."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import websocket

from liqmap.sim.tape import Market
from liqmap.sim.venues.feed import Message
from liqmap.sim.venues.market_feed import MarketFeed

DEADLINE_S = 15.0
START_MS = 1_700_000_000_000


def steps(feed: MarketFeed, market: Market, step_ms: int, count: int, before: Callable[[], None]) -> Iterator[Message]:
    """Every message of `count` steps; `before` each, the test tells the market what to print."""
    for step in range(count):
        before()
        at_ms = START_MS + step_ms * step
        yield from feed.step([market.advance(at_ms)], at_ms)


class Client:
    """One connection; every text is kept in `seen`."""

    def __init__(self, url: str) -> None:
        self.socket = websocket.create_connection(url, timeout=DEADLINE_S)
        self.seen: list[Any] = []

    def send(self, body: object) -> None:
        """Send a text, or anything else as JSON."""
        self.socket.send(body if isinstance(body, str) else json.dumps(body))

    def next(self) -> Any:
        """The next message, decoded when it is JSON."""
        text = self.socket.recv()
        try:
            message = json.loads(text)
        except ValueError:
            message = text
        self.seen.append(message)
        return message

    def until(self, wanted: Callable[[Any], object]) -> Any:
        """The first message that `wanted` likes. Fails after the deadline."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            message = self.next()
            if wanted(message):
                return message
        raise AssertionError(f"not among {len(self.seen)} messages, the last: {self.seen[-1:]}")

    def close_code(self) -> int | None:
        """Read until the server ends the connection; its close code, None when it was reset."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            try:
                operation, data = self.socket.recv_data(control_frame=True)
            except (ConnectionError, websocket.WebSocketConnectionClosedException):
                return None
            if operation == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")
        raise AssertionError("the server did not end the connection")


@contextmanager
def client(url: str) -> Iterator[Client]:
    """A connection that is closed at the end."""
    connected = Client(url)
    try:
        yield connected
    finally:
        connected.socket.shutdown()  # type: ignore[no-untyped-call]

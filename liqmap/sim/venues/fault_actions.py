"""What faults do beside being on: to connections, to messages of their own, to the books of a simulated market."""

import asyncio
import random
import re
from typing import TYPE_CHECKING, Final

from liqmap.sim.venues.books import BookStreams
from liqmap.sim.venues.fault_parameters import Given
from liqmap.sim.venues.faults import Switched, UnknownFault
from liqmap.sim.venues.feed import Reply
from liqmap.sim.venues.market_feed import MarketFeed

if TYPE_CHECKING:
    from liqmap.sim.venues.server import VenueServer

MALFORMED_KINDS: Final = (
    "truncated",
    "wrong_types",
    "blank_numbers",
    "bad_utf8",
    "not_json",
    "nested",
    "garbage",
)
_NUMBER_TEXT: Final = re.compile(rb'"-?\d[\d.]*"')
_NESTING: Final = 5000


def broken(kind: str, payload: bytes) -> bytes:
    """A message as a venue should never send it; see MALFORMED_KINDS."""
    if kind == "truncated":
        return payload[: max(1, len(payload) // 2)]
    if kind == "wrong_types":
        return _NUMBER_TEXT.sub(b'"not a number"', payload)
    if kind == "blank_numbers":
        return _NUMBER_TEXT.sub(b'""', payload)
    if kind == "bad_utf8":
        return payload[:-1] + b',"\xff\xfe":1}'
    if kind == "not_json":
        return b"<html>502 Bad Gateway</html>"
    if kind == "nested":
        return b'{"data":' * _NESTING + b"1" + b"}" * _NESTING
    return random.Random(7).randbytes(64)


def disconnect(server: "VenueServer", given: Given) -> int:
    """Close the connections, or reset them."""
    code = given.get("code")
    there = server.carrying(given["topic"])
    for connection in there:
        # 1006 is what a client calls an end without a close frame: no server can send it.
        connection.cut(None if code in (None, 1006) else int(code), str(given.get("reason", "")))
    return len(there)


def half_open(server: "VenueServer", given: Given) -> int:
    """Nobody is behind these connections any more."""
    there = server.carrying(given["topic"])
    for connection in there:
        connection.half_open = True
    return len(there)


def malformed(server: "VenueServer", given: Given) -> int:
    """Broken messages, made of the latest good ones."""
    latest = server.last_payload
    samples = [payload for topic, payload in latest.items() if server.matches(given["topic"], topic)]
    text = broken(given["kind"], samples[-1] if samples else b'{"e":"x","ts":"1"}')
    return max(server.send_raw(text, given["topic"]) for _ in range(given["count"]))


def oversized(server: "VenueServer", given: Given) -> int:
    """Messages of that size."""
    head, tail = b'{"stream":"x","topic":"x","data":"', b'"}'
    text = head + b"A" * max(0, given["bytes"] - len(head) - len(tail)) + tail
    return max(server.send_raw(text, given["topic"]) for _ in range(given["count"]))


def inject(server: "VenueServer", given: Given) -> int:
    """Whatever text an operator wants."""
    return server.send_raw(given["text"].encode(), given["topic"])


def reply_to_refused(server: "VenueServer", given: Given) -> Reply | None:
    """What a refused handshake or request is answered now; None: the connection is reset. Raises UnknownFault."""
    kind = given.get("kind", "reset")
    if "status" in given:
        body = given.get("body")
        if body is None:
            return server.refusal_of(given["status"])
        return Reply(given["status"], body.encode(), given.get("content_type", "text/html"))
    if kind == "reset":
        return None
    reply = server.refusal(kind)
    if reply is None:
        venue, known = server.venue.name.lower(), ", ".join(("reset", *server.refusals))
        raise UnknownFault(f"{venue} has no refusal called {kind!r}; it has {known}")
    return reply


def release(server: "VenueServer", _fault: Switched) -> None:
    """What was held back goes out."""
    server.release()


def trickle(server: "VenueServer", _given: Given) -> int:
    """Lines of so many bytes a second."""
    server.set_rates()
    return len(server.connections)


def untrickle(server: "VenueServer", _fault: Switched) -> None:
    """Lines as fast as they are read."""
    server.set_rates()


def restart(server: "VenueServer", given: Given) -> int:
    """Announce the end, then throw everybody out."""
    server.announce_restart()
    there = list(server.connections.values())

    def throw_out() -> None:
        for connection in there:
            connection.cut(1001, "restart")

    asyncio.get_running_loop().call_later(given["after_s"], throw_out)
    return len(there)


def books(server: "VenueServer", _given: Given) -> BookStreams:
    """The books behind the server. Raises UnknownFault."""
    if not isinstance(server.feed, MarketFeed):
        raise UnknownFault("a capture is played here: its books are what was recorded")
    return server.feed.books


def listed(server: "VenueServer", given: Given) -> None:
    """Is there such a contract? Raises UnknownFault."""
    if not server.feed.lists(given["contract"]):
        raise UnknownFault(f"{server.venue.name.lower()} lists no contract called {given['contract']!r}")


def stale_snapshot(server: "VenueServer", given: Given) -> int:
    """Snapshots are as old as that from now on."""
    books(server, given).hold_snapshots(int(given["period_s"] * 1000))
    return 0


def fresh_snapshot(server: "VenueServer", fault: Switched) -> None:
    """Snapshots are of the present again."""
    books(server, fault.given).hold_snapshots(0)


def sequence_reset(server: "VenueServer", given: Given) -> int:
    """Set the numbers back."""
    books(server, given).reset_sequence()
    return len(server.connections)


def book_restart(server: "VenueServer", given: Given) -> int:
    """Begin all books anew."""
    books(server, given).restart()
    return len(server.connections)

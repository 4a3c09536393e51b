"""Whose a raw frame of a recording is, and which socket or request it belongs to, where the recording does not say."""

from typing import Final
from urllib.parse import parse_qs, urlsplit

from liqmap.domain.enums import Venue
from liqmap.exchanges.registry import ADAPTERS


def is_served(venue: Venue, route: str) -> bool:
    """Whether the topics of that socket mean the contracts we know."""
    return route in ADAPTERS[venue].envelope.routes


def venue_of_text(frame: bytes) -> Venue | None:
    """The venue that sends frames of this shape, None when it cannot be told."""
    return next((venue for venue, adapter in ADAPTERS.items() if adapter.envelope.speaks(frame)), None)


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


_NOT_MEANT: Final = ("limit", "status", "cursor", "sz")

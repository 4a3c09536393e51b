"""Why there is no order-book frame, and when there will be one: for people who wait."""

from datetime import UTC, datetime

from liqmap.api.resource import Serving
from liqmap.client import BookStandings, ClientError


def no_frame_yet(serving: Serving, symbol: str, listened: list[str]) -> str:
    """One sentence for a 503. `listened`: venues whose order book of the symbol is wanted."""
    frame_s = serving.config.depth.frame_s
    if symbol not in serving.client.enabled():
        return serving.client.why_not(symbol) or f"{symbol} is not enabled"
    if not listened:
        return f"no order book of {symbol} is followed: depth is off at every venue, or none lists it"
    try:
        found = serving.client.books.standing(symbol)
    except ClientError:
        began = f"no order book of {symbol} has been published yet"
        return f"{began}; a frame is there at most {frame_s + 2} s after the first one is"
    whole = [name for name in listened if found.venues[name].synced]
    if not whole:
        states = ", ".join(f"{name} {found.venues[name].state}" for name in listened)
        return f"no order book of {symbol} is whole ({states}); a frame is there at most {frame_s + 2} s after one is"
    which = "next" if found.frames.kept else "first"
    return f"the {which} order-book frame of {symbol} closes at {_next_end(found, frame_s)}"


def _next_end(found: BookStandings, frame_s: int) -> str:
    as_of_s = found.freshness.as_of_ms / 1000
    end_s = (int(as_of_s) // frame_s + 1) * frame_s
    return f"{datetime.fromtimestamp(end_s, UTC):%H:%M:%S} UTC of the market's time, in about {end_s - as_of_s:.0f} s"

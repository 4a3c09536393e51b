"""How the raw frames of a venue are told from those of others and from one another without parsing them: for captures,
which are described, filtered and played by topic.

Topics are named as the venue servers name them: Binance streams, Bybit topics, OKX `channel/instrument`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Found(NamedTuple):
    """What a frame is. `topic` is "" for control frames; `data` is the frame without a combined-stream envelope."""

    topic: str
    instrument: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """The outside of a venue's frames.

    `routes`: the sockets whose topics mean the contracts we know, by the last step of their address, "" when a
    recording does not say; a socket of another market uses the same names for something else.
    `other_market`: addresses of other markets of the venue (spot, inverse …); None: there are none.
    `speaks(frame)`: whether a frame of a recording that names no venue has the venue's shape.
    `identify(frame, single_stream)`: its topic and contract; `single_stream`: what the address of its socket asked for,
    when that was one stream. Raises msgspec.DecodeError when it is not the JSON object it should be.
    """

    routes: frozenset[str]
    other_market: re.Pattern[str] | None
    speaks: Callable[[bytes], bool]
    identify: Callable[[bytes, str], Found]

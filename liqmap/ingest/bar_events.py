"""A minute bar as events, and a reading of open interest as one: what recorded tables and venues' histories share.

A bar becomes four MARK_PRICE events at :00, :15, :30, :45 along open → nearer extreme → other extreme → close; where
its taker volumes are known, one BUY and one SELL trade with a quarter of them at each of these prices. Both carry
FLAG_FROM_BAR (docs/decisions/0007).
"""

import math
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Kind, TakerSide, Topic
from liqmap.domain.event import EVENT_DTYPE, FLAG_FROM_BAR, MISSING, NO_INSTRUMENT

MINUTE_MS: Final = 60_000
MS: Final = 1_000_000
"""Nanoseconds."""

_PATH_MS: Final = (0, 15_000, 30_000, 45_000)
_QUARTER: Final = 0.25
_TAKERS: Final = (int(TakerSide.BUY), int(TakerSide.SELL))

Events = NDArray[np.void]


class Barred(Protocol):
    """A minute bar, wherever it is from: prices quote, volumes base, NaN where they are unknown."""

    @property
    def minute_ms(self) -> int:
        """Where it begins."""

    @property
    def open(self) -> float:
        """First price."""

    @property
    def high(self) -> float:
        """Highest price."""

    @property
    def low(self) -> float:
        """Lowest price."""

    @property
    def close(self) -> float:
        """Last price."""

    @property
    def taker_buy_base(self) -> float:
        """What takers bought."""

    @property
    def taker_sell_base(self) -> float:
        """What takers sold."""

    @property
    def covers_ms(self) -> int:
        """How long it is; a longer one than a minute is told in its last minute."""


def blank(count: int) -> Events:
    """`count` events that say nothing."""
    events = np.zeros(count, dtype=EVENT_DTYPE)
    for name in ("price", "quantity", "extra"):
        events[name] = np.nan
    events["venue_ms"] = events["detail"] = MISSING
    events["instrument"] = NO_INSTRUMENT
    return events


def marks_of(bars: Sequence[Barred]) -> Events:
    """The paths of their prices, bar by bar."""
    events = blank(len(bars) * len(_PATH_MS))
    events["kind"], events["topic"], events["flags"] = Kind.MARK_PRICE, Topic.MARK_PRICE, FLAG_FROM_BAR
    times_ms, prices = _paths(bars)
    events["venue_ms"], events["price"] = times_ms.ravel(), prices.ravel()
    events["receive_ns"] = events["venue_ms"] * MS
    covers_ms = np.repeat([bar.covers_ms for bar in bars], len(_PATH_MS)).astype(np.int64)
    events["detail"] = np.where(covers_ms > MINUTE_MS, covers_ms, MISSING)
    return events


def path_of(bar: Barred) -> tuple[float, float, float, float]:
    """Open, the extreme nearer to it, the other one, close."""
    low_first = bar.open - bar.low <= bar.high - bar.open
    return (bar.open, bar.low, bar.high, bar.close) if low_first else (bar.open, bar.high, bar.low, bar.close)


def trades_of(bars: Sequence[Barred]) -> Events:
    """A quarter of each known, non-zero volume at each price of the path, bar by bar: BUY before SELL."""
    shape = (len(bars), len(_PATH_MS), len(_TAKERS))
    volumes = np.array([(bar.taker_buy_base, bar.taker_sell_base) for bar in bars]).reshape(-1, 1, len(_TAKERS))
    times_ms, prices = _paths(bars)
    events = blank(math.prod(shape))
    events["kind"], events["topic"], events["flags"] = Kind.TRADE, Topic.TRADE, FLAG_FROM_BAR
    events["quantity"] = np.broadcast_to(volumes * _QUARTER, shape).ravel()
    events["side"] = np.broadcast_to(_TAKERS, shape).ravel()
    events["price"] = np.broadcast_to(prices[:, :, None], shape).ravel()
    events["venue_ms"] = np.broadcast_to(times_ms[:, :, None], shape).ravel()
    events["receive_ns"] = events["venue_ms"] * MS
    return events[events["quantity"] > 0.0]


def _paths(bars: Sequence[Barred]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times and prices, a row per bar."""
    begins_ms = np.array([bar.minute_ms for bar in bars], dtype=np.int64).reshape(-1, 1)
    prices = np.array([path_of(bar) for bar in bars]).reshape(-1, len(_PATH_MS))
    return begins_ms + np.array(_PATH_MS), prices


def interest_of(kind: Kind, known_ms: int, quantity: float, covers_ms: int) -> Events:
    """One reading of open interest, a level or a change; none when the number is unknown."""
    if math.isnan(quantity):
        return blank(0)
    event = blank(1)
    event["kind"], event["topic"] = kind, Topic.OPEN_INTEREST
    event["receive_ns"], event["venue_ms"] = known_ms * MS, known_ms
    event["quantity"], event["detail"] = quantity, covers_ms
    return event

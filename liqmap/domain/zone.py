"""Zones as rows: what a worker shows of its zones, and of what happened to them.

All fields are 8 bytes; dollars are the grid's, never made from a weight. Times are ms UTC, -1: never.
"""

from typing import Final

import numpy as np

ACTIVE_ZONES: Final = 64
"""Zones of one side that are followed at most."""

SWEPT_ZONES: Final = 64
"""Swept zones of one side that stay visible at most."""

MOST_ZONES: Final = 2 * (ACTIVE_ZONES + SWEPT_ZONES)
"""Of both sides."""

KEPT_CHANGES: Final = 256
"""The newest changes that are kept."""


def zone_dtype(tiers: int) -> np.dtype[np.void]:
    """One zone. Dollars are as of the end of the minute; of a swept zone, what stood there when price reached it."""
    return np.dtype(
        [
            ("id", "<u8"),  # unique and rising, also across restarts
            ("side", "<u8"),  # PositionSide
            ("state", "<u8"),  # ZoneState
            ("source", "<u8"),  # ZoneSource
            ("price", "<f8"),  # weighted by dollars
            ("low", "<f8"),  # centres of the outermost buckets
            ("high", "<f8"),
            ("weight", "<f8"),  # no dollars: the zone's importance, decayed
            ("notional_usd", "<f8"),  # evidence and projection
            ("evidence_usd", "<f8"),
            ("projected_usd", "<f8"),
            ("tiers_usd", "<f8", (tiers,)),  # projected, by leverage tier
            ("created_ms", "<i8"),
            ("created_mark", "<f8"),  # price when it was created
            ("fed_ms", "<i8"),  # when a pool was last found there
            ("reinforced_ms", "<i8"),
            ("reinforcements", "<u8"),
            ("touched_ms", "<i8"),  # begin of the minute in which price last came within it
            ("swept_ms", "<i8"),  # begin of the minute in which price passed it
            ("until_ms", "<i8"),  # liquidations are counted until then, -1: not swept
            ("predicted_usd", "<f8"),  # what stood there when it was touched; NaN: not touched
            ("realised_usd", "<f8"),  # liquidated in its range and side since then
            ("realised", "<u8"),  # so many liquidations
            ("heard", "<u8"),  # 1: every minute of that was heard whole
        ]
    )


ZONE_CHANGE: Final = np.dtype(
    [
        ("number", "<u8"),  # unique and rising, also across restarts
        ("id", "<u8"),  # of the zone
        ("at_ms", "<i8"),  # end of the minute that brought it
        ("kind", "<u8"),  # domain.enums.ZoneChange
        ("side", "<u8"),  # PositionSide
        ("price", "<f8"),
        ("weight", "<f8"),
        ("notional_usd", "<f8"),
    ]
)
"""Something happened to a zone."""

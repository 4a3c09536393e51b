"""Dollars as bytes for pictures: 0 to 255 between the middle and the top of what an answer holds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.api.encode import known

Dollars = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Picture:
    """Flat lists of bytes, None where the dollars are unknown, and the scale they were made with."""

    bid_u8: list[int | None]
    ask_u8: list[int | None]
    norm: dict[str, Any]


def picture(bid_usd: Dollars, ask_usd: Dollars) -> Picture:
    """Both sides on one scale: 0 up to the median of the cells with dollars, 255 from their 95th percentile on."""
    both = (bid_usd, ask_usd)
    there = np.concatenate([usd[usd > 0] for usd in both])
    low, high = (float(each) for each in np.percentile(there, (50, 95))) if len(there) else (np.nan, np.nan)
    bid, ask = (_bytes(usd.ravel(), low, high) for usd in both)
    return Picture(bid, ask, {"method": "p50-p95", "p50_usd": known(low, 2), "p95_usd": known(high, 2), "levels": 255})


def _bytes(usd: Dollars, low: float, high: float) -> list[int | None]:
    """Where both percentiles are one number, what reaches it is 255 and the rest 0; without any dollars all is 0."""
    if high > low:
        shares = np.clip((usd - low) / (high - low), 0, 1)
    else:
        shares = (usd >= high).astype(np.float64)
    scaled = np.rint(255 * np.nan_to_num(shares)).astype(np.uint8)
    listed: list[int | None] = np.ma.array(scaled, mask=np.isnan(usd)).tolist()
    return listed

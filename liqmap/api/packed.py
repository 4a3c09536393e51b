"""`format=bin`: planes of dollars over time and price as bytes. docs/api.md describes them byte by byte; a test reads
them with a reader written from there.

A cell is one byte: 0 is zero, 255 is unknown, 1 to 254 are dollars on a logarithmic scale whose top is the largest cell
of the answer. Two neighbouring codes are 4 % apart, so a cell is right to 2 % down to 1/20,000 of the largest; what is
smaller, and not zero, is code 1. The scale stands in the header. Pure.
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"LQM1"
HEADER: Final = struct.Struct("<4sIIHBBqqdddd")
"""magic, rows, columns, planes, encoding, reserved, first_ms, last_ms, price_min, step, lowest, ratio."""
LOG_U8: Final = 1
"""The one encoding there is."""
ZERO: Final = 0
UNKNOWN: Final = 255
LARGEST: Final = 254
RATIO: Final = 1.04
_STEPS: Final = LARGEST - 1
_TINIEST: Final = 1e-300

assert HEADER.size == 64


def packed(
    planes: NDArray[np.float64], first_ms: int, last_ms: int, price_min: float, step: float, encoding: int = LOG_U8
) -> bytes:
    """`planes[plane, row, column]` in dollars, NaN unknown, never negative; row times are evenly spaced.

    `price_min`: centre of the first column, `step` from one to the next.
    """
    count, rows, columns = planes.shape
    lowest = _lowest(planes)
    head = HEADER.pack(MAGIC, rows, columns, count, encoding, 0, first_ms, last_ms, price_min, step, lowest, RATIO)
    return head + codes(planes, lowest).tobytes()


def codes(usd: NDArray[np.float64], lowest: float) -> NDArray[np.uint8]:
    """The byte of each cell on the scale that begins at `lowest`."""
    coded = np.full(usd.shape, UNKNOWN, np.uint8)
    coded[usd == 0] = ZERO
    there = usd > 0
    places = 1 + np.rint(np.log(usd[there] / lowest) / np.log(RATIO))
    coded[there] = np.clip(places, 1, LARGEST).astype(np.uint8)
    return coded


def _lowest(usd: NDArray[np.float64]) -> float:
    """Dollars of code 1, so that the largest cell is code 254; 1 where there is no cell with dollars."""
    largest = float(np.max(usd, initial=0.0, where=usd > 0))
    return max(largest / RATIO**_STEPS, _TINIEST) if largest > 0 else 1.0

"""The codes of packed columns: 2 % over the promised range, zero and unknown apart, small ones never zero."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from liqmap.api.packed import HEADER, LARGEST, RATIO, UNKNOWN, ZERO, packed

PROMISED = 20_000
CELLS = st.one_of(st.just(0.0), st.just(np.nan), st.floats(1e-3, 1e12), st.floats(1e5, 2e9), st.floats(1e-290, 1.0))


def unpacked(data: bytes) -> np.ndarray:
    """Dollars of the first plane, flat."""
    *_, lowest, ratio = HEADER.unpack_from(data)
    code = np.frombuffer(data, np.uint8, offset=HEADER.size).astype(float)
    usd = lowest * ratio ** (code - 1)
    return np.where(code == UNKNOWN, np.nan, np.where(code == ZERO, 0.0, usd))


@given(arrays(np.float64, st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 9)), elements=CELLS))
def test_every_cell_is_right_to_two_percent_or_said_to_be_small(planes: np.ndarray) -> None:
    data = packed(planes, 1, 2, 3.0, 4.0)
    assert len(data) == 64 + planes.size
    usd, back = planes.ravel(), unpacked(data)
    assert np.array_equal(np.isnan(usd), np.isnan(back))
    assert np.array_equal(usd == 0, back == 0), "zero has its own code, and nothing else has it"
    there = usd > 0
    if not there.any():
        return
    largest = usd[there].max()
    promised = there & (usd >= largest / PROMISED)
    assert (np.abs(back[promised] / usd[promised] - 1) <= 0.02).all()
    small = there & ~promised
    assert (back[small] <= largest / PROMISED * 1.02).all()
    assert back[there].max() == pytest.approx(largest)


def test_the_header_is_64_bytes_in_the_order_that_is_documented() -> None:
    data = packed(np.array([[[1.0, 100.0]], [[np.nan, 0.0]]]), 1_000, 2_000, 90_000.0, 20.0)
    assert struct.unpack_from("<4sIIHBBqqdd", data) == (b"LQM1", 1, 2, 2, 1, 0, 1_000, 2_000, 90_000.0, 20.0)
    assert struct.unpack_from("<dd", data, 48) == (pytest.approx(100 / RATIO**253), RATIO)
    assert data[64:] == bytes([1 + 253 - round(np.log(100) / np.log(RATIO)), LARGEST, UNKNOWN, ZERO])


def test_nothing_known_is_a_map_of_unknown() -> None:
    assert packed(np.full((1, 2, 3), np.nan), 0, 0, 1.0, 1.0)[64:] == bytes([UNKNOWN] * 6)
    assert packed(np.zeros((1, 2, 3)), 0, 0, 1.0, 1.0)[64:] == bytes([ZERO] * 6)

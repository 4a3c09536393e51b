"""Prepared answers: the age is added to encoded bytes, plain and compressed, and the memo is bounded."""

import gzip
import json
import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from liqmap.api.encode import Prepared, encode
from liqmap.api.memo import Memo


@given(
    st.dictionaries(st.text(min_size=1), st.one_of(st.none(), st.integers(-(2**53), 2**53), st.text()), min_size=1),
    st.one_of(st.none(), st.integers(0, 2**60)),
)
def test_plain_and_gzip_say_the_same(content: dict[str, object], age_ms: int | None) -> None:
    content.pop("age_ms", None)
    prepared = Prepared(encode({"a": 1, **content}), 'W/"x"')
    expected = {"age_ms": age_ms, "a": 1, **content}
    assert json.loads(prepared.json(age_ms)) == expected
    assert json.loads(gzip.decompress(prepared.gzip(age_ms))) == expected


def test_one_gzip_member_that_every_decoder_takes() -> None:
    prepared = Prepared(encode({"values": np.arange(5000.0)}), 'W/"x"')
    for age_ms in (0, 12, 345_678):
        decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
        assert decoder.decompress(prepared.gzip(age_ms)) + decoder.flush() == prepared.json(age_ms)
        assert decoder.eof and decoder.unused_data == b""
    assert len(prepared.gzip(1)) < len(prepared.json(1)) / 2


def test_nan_and_infinity_become_null() -> None:
    body = encode({"x": np.array([1.5, np.nan, np.inf]), "y": float("nan")})
    assert json.loads(body) == {"x": [1.5, None, None], "y": None}


def test_the_memo_is_bounded_in_number_and_bytes_and_drops_what_was_not_used() -> None:
    memo = Memo(max_answers=3, max_bytes=1000)
    answers = {name: Prepared(b"x" * 100, name) for name in "abcd"}
    for name in "abc":
        memo.put(name, answers[name])
    assert memo.get("a") is answers["a"]
    memo.put("d", answers["d"])
    assert memo.get("b") is None and memo.get("a") is answers["a"] and len(memo) == 3
    memo.put("large", Prepared(b"x" * 800, "large"))
    assert memo.bytes <= 1000 and memo.get("large") is not None
    memo.put("too large", Prepared(b"x" * 2000, "too large"))
    assert memo.get("too large") is None and memo.bytes <= 1000
    memo.put("a", Prepared(b"x" * 10, "new"))
    memo.put("a", Prepared(b"x" * 20, "newer"))
    assert memo.bytes == 20 and len(memo) == 1

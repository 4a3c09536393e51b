"""Websocket framing: whatever way the bytes are cut, and whatever is wrong with a frame, the next one is read."""

import os
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.ingest.frames import BadFrame, Close, FrameReader, FramingLost, Ping, Pong

LIMIT = 70_000


def frame(
    payload: bytes, opcode: int = 1, final: bool = True, key: bytes = b"", rsv: int = 0, claim: int | None = None
) -> bytes:
    """One frame as a server sends it; `claim`: the length it says it has."""
    size = len(payload) if claim is None else claim
    mask = 0x80 if key else 0
    head = bytes([(0x80 if final else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload)) if key else payload
    return head + key + masked


def read(data: bytes, limit: int = LIMIT) -> tuple[list[bytes], FrameReader]:
    reader = FrameReader(limit)
    return reader.feed(data), reader


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=400) | st.integers(126, 66_000).map(os.urandom), min_size=1, max_size=6),
    st.lists(st.integers(1, 5000), min_size=1, max_size=50),
)
def test_messages_come_out_whole_however_the_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frame(message, opcode=1 + i % 2) for i, message in enumerate(messages))
    reader, got, at = FrameReader(LIMIT), [], 0
    for size in (*cuts, len(data)):
        got += reader.feed(data[at : at + size])
        at += size
    assert got == messages
    assert reader.notices == []


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4), st.integers(1, 7))
def test_a_message_in_pieces_is_put_together_around_control_frames(body: bytes, cuts: list[int], step: int) -> None:
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    parts = [body[a:b] for a, b in pairwise(edges)] or [b""]
    data = b""
    for i, part in enumerate(parts):
        data += frame(part, opcode=1 if i == 0 else 0, final=i == len(parts) - 1) + frame(b"hi", opcode=9)
    reader = FrameReader(LIMIT)
    got = [message for at in range(0, len(data), step) for message in reader.feed(data[at : at + step])]
    assert got == [body]
    assert reader.notices == [Ping(b"hi")] * len(parts)


@settings(deadline=None)
@given(st.integers(LIMIT + 1, 300_000), st.integers(500, 65_536))
def test_a_frame_that_is_too_large_is_stepped_over_and_never_held(size: int, step: int) -> None:
    data = frame(b"before") + frame(b"x" * size) + frame(b"after")
    reader = FrameReader(LIMIT)
    got: list[bytes] = []
    for at in range(0, len(data), step):
        got += reader.feed(data[at : at + step])
        assert len(reader._pending) <= step + 16
    assert got == [b"before", b"after"]
    [bad] = reader.notices
    assert isinstance(bad, BadFrame)
    assert bad.size == size


def test_pieces_that_grow_too_large_are_dropped_to_their_end() -> None:
    pieces = frame(b"a" * 40_000, final=False) + frame(b"b" * 40_000, opcode=0, final=False)
    got, reader = read(pieces + frame(b"c", opcode=0) + frame(b"next"))
    assert got == [b"next"]
    assert len(reader.notices) == 1


def test_a_too_large_piece_takes_its_message_with_it() -> None:
    data = frame(b"a", final=False) + frame(b"b" * (LIMIT + 1), opcode=0, final=False) + frame(b"c", opcode=0)
    got, reader = read(data + frame(b"next"))
    assert got == [b"next"]
    assert len(reader.notices) == 1


def test_hostile_frames_cost_themselves_only() -> None:
    hostile = [
        frame(b"extension", rsv=4),
        frame(b"unknown opcode", opcode=3),
        frame(b"unknown control", opcode=11),
        frame(b"continues nothing", opcode=0),
        frame(b"ping in pieces", opcode=9, final=False),
        frame(b"p" * 126, opcode=9),
    ]
    got, reader = read(b"".join(bad + frame(b"good") for bad in hostile))
    assert got == [b"good"] * len(hostile)
    assert len(reader.notices) == len(hostile)
    assert all(isinstance(notice, BadFrame) for notice in reader.notices)


def test_a_new_message_inside_an_unfinished_one_drops_the_unfinished() -> None:
    got, reader = read(frame(b"half", final=False) + frame(b"whole"))
    assert got == [b"whole"]
    assert isinstance(reader.notices[0], BadFrame)


def test_a_masked_frame_is_still_read() -> None:
    assert read(frame(b"masked payload", key=b"\x01\x02\x03\x04"))[0] == [b"masked payload"]


def test_control_frames_are_told() -> None:
    _, reader = read(frame(b"p", opcode=9) + frame(b"", opcode=10) + frame(b"\x03\xe9going", opcode=8))
    assert reader.notices == [Ping(b"p"), Pong(), Close(1001, "going")]


def test_a_close_without_a_code_is_1005() -> None:
    assert read(frame(b"", opcode=8))[1].notices == [Close(1005, "")]


def test_a_length_that_cannot_be_stepped_over_ends_the_reading_but_keeps_what_came_before() -> None:
    got, reader = read(frame(b"before") + frame(b"", claim=1 << 63) + frame(b"after"))
    assert got == [b"before"]
    assert isinstance(reader.notices[0], FramingLost)
    assert reader.feed(frame(b"more")) == []


@settings(deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 64))
def test_any_bytes_at_all_are_survived_the_same_way_however_they_are_cut(data: bytes, step: int) -> None:
    whole, reader = read(data, limit=1000)
    again = FrameReader(1000)
    pieces = [message for at in range(0, len(data), step) for message in again.feed(data[at : at + step])]
    assert pieces == whole

    def essence(notices: list[object]) -> list[object]:
        return [(type(n), n.why, n.size) if isinstance(n, BadFrame) else n for n in notices]

    assert essence([*again.notices]) == essence([*reader.notices])

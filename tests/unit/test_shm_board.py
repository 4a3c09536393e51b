"""Boards: the newest whole payload, whatever the writer does and wherever it dies."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from liqmap.shm.board import ATTEMPTS, BoardReader, BoardWriter, create_board
from liqmap.shm.faults import BoardBusy, LayoutMismatch, NeverPublished, SegmentRetired
from liqmap.shm.layout import BOARD_HEADER, BOARD_SLOTS, SEGMENT_HEADER
from liqmap.shm.segment import Segment
from tests.unit.dying import Killed, WordsUntilDeath

PAYLOAD = np.dtype([("number", "<u8"), ("cells", "<f4", (2, 50))])
Fill = Callable[[NDArray[Any]], None]


@pytest.fixture(params=[False, True], ids=["plain", "checksums"])
def segment(instance: str, request: pytest.FixtureRequest) -> Iterator[Segment]:
    made = create_board(f"liqmap.{instance}.live.BTC", PAYLOAD, checksums=request.param)
    yield made
    made.unlink()
    made.close()


@pytest.fixture
def plain(instance: str) -> Iterator[Segment]:
    """Without checksums: with them the copy is made as bytes, which nothing can interrupt within one process."""
    made = create_board(f"liqmap.{instance}.live.BTC", PAYLOAD, checksums=False)
    yield made
    made.unlink()
    made.close()


def filled(number: int) -> Fill:
    def fill(payload: NDArray[Any]) -> None:
        payload["number"] = number
        payload["cells"][...] = number

    return fill


def whole(payload: NDArray[Any]) -> int:
    """The number all of the payload agrees on."""
    number = int(payload["number"])
    assert (payload["cells"] == number).all(), "torn"
    return number


def test_nothing_is_there_before_the_first_payload(segment: Segment) -> None:
    reader = BoardReader(segment, PAYLOAD)
    assert reader.sequence_hint() == 0
    with pytest.raises(NeverPublished):
        reader.read()
    with pytest.raises(NeverPublished):
        reader.read_with(whole)


def test_a_reader_gets_the_newest_payload_and_its_number(segment: Segment) -> None:
    writer, reader = BoardWriter(segment, PAYLOAD), BoardReader.open(segment.name, PAYLOAD)
    for number in range(1, 3 * BOARD_SLOTS):
        assert writer.publish(filled(number)) == number == reader.sequence_hint()
        assert whole(reader.read()) == number
        assert reader.read_with(whole) == number


@pytest.mark.finding("M3")
def test_what_is_read_is_a_copy_that_nobody_can_edit(segment: Segment) -> None:
    writer, reader = BoardWriter(segment, PAYLOAD), BoardReader.open(segment.name, PAYLOAD)
    writer.publish(filled(1))
    first = reader.read()
    for number in range(2, 9):
        writer.publish(filled(number))
    assert whole(first) == 1
    with pytest.raises(ValueError, match="read-only"):
        first["number"] = 5
    with pytest.raises(ValueError, match="read-only"):
        reader.read_with(lambda payload: payload["cells"].fill(0))


def test_a_fill_that_raises_publishes_nothing(segment: Segment) -> None:
    def fail(payload: NDArray[Any]) -> None:
        payload["number"] = 999
        raise RuntimeError("no price")

    writer, reader = BoardWriter(segment, PAYLOAD), BoardReader(segment, PAYLOAD)
    writer.publish(filled(1))
    for _ in range(2 * BOARD_SLOTS):
        with pytest.raises(RuntimeError):
            writer.publish(fail)
        assert whole(reader.read()) == 1
    writer.publish(filled(2))
    assert whole(reader.read()) == 2


def slot_versions(segment: Segment) -> list[int]:
    stride = segment.shape[1]
    first = SEGMENT_HEADER.itemsize + BOARD_HEADER.itemsize
    return [segment.words(first + slot * stride, 1)[0] for slot in range(BOARD_SLOTS)]


@pytest.mark.parametrize("published", range(6))
def test_a_successor_keeps_an_abandoned_slot_odd_while_it_writes(segment: Segment, published: int) -> None:
    def die(payload: NDArray[Any]) -> None:
        payload["number"] = 999
        raise Killed

    writer, reader = BoardWriter(segment, PAYLOAD), BoardReader(segment, PAYLOAD)
    for number in range(1, published + 1):
        writer.publish(filled(number))
    with pytest.raises(Killed):
        writer.publish(die)
    slot, version = published % BOARD_SLOTS, 2 * (published + 1)
    assert slot_versions(segment)[slot] == version - 1

    def look(payload: NDArray[Any]) -> None:
        payload["number"] = 1234  # half a payload
        assert slot_versions(segment)[slot] == version - 1
        if published:
            assert whole(reader.read()) == published
        filled(published + 1)(payload)

    BoardWriter(segment, PAYLOAD).publish(look)
    assert slot_versions(segment)[slot] == version
    assert whole(reader.read()) == published + 1


def test_a_version_says_whose_payload_it_is(segment: Segment) -> None:
    writer = BoardWriter(segment, PAYLOAD)
    for number in range(1, BOARD_SLOTS + 2):
        writer.publish(lambda payload: None)
        assert slot_versions(segment)[(number - 1) % BOARD_SLOTS] == 2 * number


class Sluggish:
    """Words of a reader that was stopped right after it asked for `latest`, and goes on a lap later."""

    def __init__(self, words: Any, at: int, meanwhile: Callable[[], None]) -> None:
        self._words, self._at, self._meanwhile = words, at, [meanwhile]

    def __getitem__(self, at: int) -> int:
        word = int(self._words[at])
        if at == self._at and self._meanwhile:
            self._meanwhile.pop()()
        return word


@pytest.mark.parametrize("short", [True, False])
def test_a_reader_is_never_ahead_of_what_is_published(segment: Segment, short: bool) -> None:
    """A lap later the slot holds a payload that is whole but not yet said to be there. Shown it, the reader would see
    the one before it next."""
    writer, reader, newest = BoardWriter(segment, PAYLOAD), BoardReader(segment, PAYLOAD), BOARD_SLOTS + 1
    writer.publish(filled(1))

    def lap() -> None:
        for number in range(2, newest):
            writer.publish(filled(number))
        vars(writer)["_words"] = WordsUntilDeath(segment.words(0, len(segment.view()) // 8), 2 + segment.checksums)
        with pytest.raises(Killed):
            writer.publish(filled(newest))
        assert slot_versions(segment)[0] == 2 * newest, "whole, and nobody was told"

    vars(reader)["_words"] = Sluggish(segment.words(0, len(segment.view()) // 8), SEGMENT_HEADER.itemsize // 8, lap)
    read = reader.read if short else lambda: reader.read_with(np.copy)
    assert whole(read()) == newest - 1
    assert BoardWriter(segment, PAYLOAD).publish(filled(newest)) == newest
    assert whole(read()) == newest


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lives=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=12))
def test_wherever_writers_die_readers_are_served_the_newest_whole_payload(
    segment: Segment, lives: list[tuple[int, int, int]]
) -> None:
    """Each life is a writer that dies before a store, or in its fill after some cells; readers look at every step."""
    reader = BoardReader(segment, PAYLOAD)
    newest = reader.sequence_hint()

    def look() -> None:
        if not newest:
            return
        assert whole(reader.read()) == newest
        assert whole(reader.read_with(np.copy)) == newest

    for stores, cells, publishes in lives:
        writer = BoardWriter(segment, PAYLOAD)
        for _ in range(publishes):
            newest = writer.publish(filled(newest + 1))
            look()

        def fill(payload: NDArray[Any], number: int = newest + 1, cells: int = cells) -> None:
            look()
            payload["number"] = number
            payload["cells"].reshape(-1)[:cells] = number
            look()
            if cells < 50:
                raise Killed
            payload["cells"][...] = number
            look()

        vars(writer)["_words"] = WordsUntilDeath(segment.words(0, len(segment.view()) // 8), stores)
        try:
            newest = writer.publish(fill)
        except Killed:
            newest = reader.sequence_hint()
        look()


@pytest.mark.parametrize("rounds", [1, 5, ATTEMPTS - 1])
def test_a_lapped_reader_tries_again_and_never_returns_what_changed_under_it(plain: Segment, rounds: int) -> None:
    writer, reader = BoardWriter(plain, PAYLOAD), BoardReader(plain, PAYLOAD)
    writer.publish(filled(1))
    calls = 0

    def copy(payload: NDArray[Any]) -> int:
        nonlocal calls
        calls += 1
        number = int(payload["number"])
        if calls <= rounds:
            for _ in range(BOARD_SLOTS):
                writer.publish(filled(writer.published + 1))
        return number

    assert reader.read_with(copy) == 1 + rounds * BOARD_SLOTS
    assert (calls, reader.retries) == (rounds + 1, rounds)


def test_a_reader_lapped_every_time_gives_up(plain: Segment) -> None:
    writer, reader = BoardWriter(plain, PAYLOAD), BoardReader(plain, PAYLOAD)
    writer.publish(filled(1))

    def copy(payload: NDArray[Any]) -> None:
        for _ in range(BOARD_SLOTS):
            writer.publish(filled(2))

    with pytest.raises(BoardBusy, match=str(ATTEMPTS)):
        reader.read_with(copy)
    assert reader.retries == ATTEMPTS


def test_a_board_whose_newest_slot_is_being_written_is_busy_not_torn(segment: Segment) -> None:
    """As a reader sees it that was stopped between loading `latest` and the version, each time."""
    BoardWriter(segment, PAYLOAD).publish(filled(1))
    segment.words(SEGMENT_HEADER.itemsize + BOARD_HEADER.itemsize, 1)[0] += 1
    with pytest.raises(BoardBusy):
        BoardReader(segment, PAYLOAD).read()


def test_a_payload_that_does_not_fit_its_checksum_is_refused(instance: str) -> None:
    made = create_board(f"liqmap.{instance}.live.BTC", PAYLOAD, checksums=True)
    BoardWriter(made, PAYLOAD).publish(filled(1))
    reader = BoardReader(made, PAYLOAD)
    assert whole(reader.read()) == 1
    made.view()[-1] ^= 1  # beyond the payload: nobody's business
    assert whole(reader.read()) == 1
    made.view()[SEGMENT_HEADER.itemsize + BOARD_HEADER.itemsize + 64 + 9] ^= 1
    with pytest.raises(BoardBusy):
        reader.read()
    with pytest.raises(BoardBusy):
        reader.read_with(whole)
    made.unlink()
    made.close()


def test_readers_of_a_retired_board_are_told_to_reopen(segment: Segment) -> None:
    BoardWriter(segment, PAYLOAD).publish(filled(1))
    reader = BoardReader.open(segment.name, PAYLOAD)
    before = reader.retired
    segment.retire()
    assert (before, reader.retired) == (False, True)
    with pytest.raises(SegmentRetired):
        reader.read()
    with pytest.raises(SegmentRetired):
        reader.read_with(whole)


@pytest.mark.parametrize(
    "other",
    [
        np.dtype([("number", "<i8"), ("cells", "<f4", (2, 50))]),
        np.dtype([("number", "<u8"), ("cells", "<f4", (4, 25))]),
        np.dtype([("number", "<u8"), ("cells", "<f4", (2, 60))]),
    ],
)
def test_another_payload_type_is_refused_also_at_equal_size(segment: Segment, other: np.dtype[Any]) -> None:
    for kind in (BoardReader, BoardWriter):
        with pytest.raises(LayoutMismatch):
            kind(segment, other)

"""The event ring: every event is read, pending or counted as lost, and a deadly batch is set aside after two deaths."""

import itertools
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from liqmap.domain.event import Event
from liqmap.shm.board import create_board
from liqmap.shm.faults import LayoutMismatch
from liqmap.shm.layout import DIRECTORY, RING_HEADER, SEGMENT_HEADER, word_indexes
from liqmap.shm.ring import RingReader, RingWriter, create_ring, next_sequence, ring_counters
from liqmap.shm.segment import Segment
from tests.events import events_array
from tests.numbered import numbered, numbers_of
from tests.unit.dying import Killed, WordsUntilDeath

CAPACITY = 16


@pytest.fixture
def segment(instance: str) -> Iterator[Segment]:
    made = create_ring(f"liqmap.{instance}.ring.BTC", CAPACITY)
    yield made
    made.unlink()
    made.close()


def test_events_come_out_as_they_went_in(segment: Segment) -> None:
    writer, reader = RingWriter.open(segment.name), RingReader.open(segment.name)
    sent = events_array([Event(receive_ns=5, price=0.1, kind=3), Event(receive_ns=6)], first_sequence=9)
    assert writer.write(sent.tobytes()) == 2
    assert writer.write(sent) == 4
    assert reader.take(10).tobytes() == sent.tobytes() * 2
    assert reader.take(10).tobytes() == sent.tobytes() * 2, "a take without commit is repeated"
    reader.commit()
    assert len(reader.take(10)) == 0


def test_take_is_bounded_and_crosses_the_end_of_the_ring(segment: Segment) -> None:
    writer, reader = RingWriter(segment), RingReader(segment)
    for start in range(0, 300, 7):
        writer.write(numbered(start, 7))
        assert numbers_of(reader.take(5)) == list(range(start, start + 5))
        reader.commit()
        assert numbers_of(reader.take(100)) == [start + 5, start + 6]
        reader.commit()
    assert (reader.lost, reader.pending) == (0, 0)


def test_a_slow_reader_is_overrun_and_knows_how_much_it_missed(segment: Segment) -> None:
    writer, reader = RingWriter(segment), RingReader(segment)
    writer.write(numbered(0, 4))
    reader.take(3)
    reader.commit()
    writer.write(numbered(4, 3 * CAPACITY))
    total = 4 + 3 * CAPACITY
    assert reader.pending == total - 3
    assert numbers_of(reader.take(100)) == list(range(total - CAPACITY, total))
    assert reader.lost == total - CAPACITY - 3
    reader.commit()
    assert (reader.read, reader.pending) == (3 + CAPACITY, 0)


def test_a_write_larger_than_the_ring_is_lost_but_for_its_end(segment: Segment) -> None:
    writer, reader = RingWriter(segment), RingReader(segment)
    writer.write(numbered(0, 10 * CAPACITY + 3))
    assert numbers_of(reader.take(100)) == list(range(9 * CAPACITY + 3, 10 * CAPACITY + 3))
    assert reader.lost == 9 * CAPACITY + 3


def during_the_copy(reader: RingReader, act: Callable[[], object]) -> None:
    """Let `act` happen between the two halves of the reader's next copies."""
    copy_out = reader._copy_out

    def halves(first: int, count: int) -> bytes:
        early = copy_out(first, count // 2)
        act()
        return early + copy_out(first + count // 2, count - count // 2)

    vars(reader)["_copy_out"] = halves


def test_what_is_overwritten_under_the_copy_is_dropped_from_it(segment: Segment) -> None:
    writer, reader = RingWriter(segment), RingReader(segment)
    writer.write(numbered(0, CAPACITY))
    during_the_copy(reader, lambda: writer.write(numbered(writer.written, 5)))
    assert numbers_of(reader.take(CAPACITY)) == list(range(5, CAPACITY))
    assert reader.lost == 5


def test_what_a_writer_is_only_about_to_overwrite_is_dropped_too(segment: Segment) -> None:
    """The writer is stopped between its bytes and `written`: the counter alone could not tell."""

    def half_a_write() -> None:
        writer = RingWriter(segment)
        vars(writer)["_words"] = WordsUntilDeath(segment.words(0, 32), 1)
        with pytest.raises(Killed):
            writer.write(numbered(CAPACITY, 5))

    RingWriter(segment).write(numbered(0, CAPACITY))
    reader = RingReader(segment)
    during_the_copy(reader, half_a_write)
    assert numbers_of(reader.take(CAPACITY)) == list(range(5, CAPACITY))


def test_a_reader_overrun_at_every_attempt_returns_nothing_and_accounts_for_it(segment: Segment) -> None:
    writer, reader = RingWriter(segment), RingReader(segment)
    writer.write(numbered(0, CAPACITY))
    during_the_copy(reader, lambda: writer.write(numbered(writer.written, 2 * CAPACITY)))
    assert len(reader.take(4)) == 0
    assert reader.read == 0
    assert reader.lost + reader.pending == writer.written
    assert reader.lost > 0


def test_a_successor_of_a_writer_that_died_ahead_does_not_revive_what_it_overwrote(segment: Segment) -> None:
    writer, reader = RingWriter(segment), RingReader(segment)
    writer.write(numbered(0, CAPACITY))
    vars(writer)["_words"] = WordsUntilDeath(segment.words(0, 32), 1)
    with pytest.raises(Killed):
        writer.write(numbered(900, 8))  # bytes of 8 events written, never counted
    RingWriter(segment).write(numbered(CAPACITY, 2))
    assert numbers_of(reader.take(100)) == list(range(8, CAPACITY + 2))
    assert reader.lost == 8


def test_a_reader_that_dies_gets_the_same_batch_again_cut_at_the_same_place(segment: Segment) -> None:
    writer = RingWriter(segment)
    writer.write(numbered(0, 5))
    assert numbers_of(RingReader(segment).take(3)) == [0, 1, 2]
    writer.write(numbered(5, 5))
    successor = RingReader(segment)
    assert (successor.take_over.deaths, len(successor.take_over.set_aside)) == (1, 0)
    assert numbers_of(successor.take(100)) == [0, 1, 2]
    successor.commit()
    assert numbers_of(successor.take(100)) == list(range(3, 10))
    successor.commit()
    assert successor.quarantined == 0


def test_a_second_death_at_the_same_sequence_sets_the_batch_aside(segment: Segment) -> None:
    writer = RingWriter(segment)
    writer.write(numbered(0, 9))
    first = RingReader(segment)
    first.take(2)
    first.commit()
    first.take(3)
    RingReader(segment).take(100)
    third = RingReader(segment)
    assert third.take_over.deaths == 2
    assert numbers_of(third.take_over.set_aside) == [2, 3, 4]
    assert numbers_of(third.take(100)) == [5, 6, 7, 8]
    assert (third.quarantined, third.read, third.lost, third.pending) == (3, 5, 0, 4)
    third.commit()
    assert RingReader(segment).take_over.deaths == 0


def test_who_comes_later_can_see_where_the_ring_goes_on_without_taking_it_over(segment: Segment) -> None:
    assert next_sequence(segment) == 0, "nothing was ever written"
    writer, first = RingWriter(segment), int(numbered(0, 1)["sequence"][0])
    writer.write(numbered(100, 5))
    reader = RingReader(segment)
    reader.take(2)
    assert next_sequence(segment) == first + 100, "what is taken and not committed comes again"
    reader.commit()
    assert next_sequence(segment) == first + 102
    reader.take(3)
    reader.commit()
    assert next_sequence(segment) == first + 105, "all was taken: whatever comes is newer"
    writer.write(numbered(105, CAPACITY + 3))
    assert next_sequence(segment) == first + 108, "three were overrun"
    assert (reader.lost, reader.take_over.deaths) == (0, 0)
    assert RingReader(segment).take_over.deaths == 0


def test_deaths_in_different_batches_do_not_add_up(segment: Segment) -> None:
    RingWriter(segment).write(numbered(0, 9))
    RingReader(segment).take(3)
    second = RingReader(segment)
    second.take(3)
    second.commit()
    second.take(3)
    third = RingReader(segment)
    assert third.take_over.deaths == 1
    assert numbers_of(third.take(3)) == [3, 4, 5]


def test_a_reader_that_stops_in_order_counts_as_no_death(segment: Segment) -> None:
    RingWriter(segment).write(numbered(0, 9))
    for _ in range(4):
        reader = RingReader(segment)
        assert reader.take_over.deaths == 0
        assert numbers_of(reader.take(3)) == [0, 1, 2]
        reader.abandon()


def test_a_deadly_batch_that_was_overrun_meanwhile_is_forgotten(segment: Segment) -> None:
    writer = RingWriter(segment)
    writer.write(numbered(0, 9))
    RingReader(segment).take(3)
    writer.write(numbered(9, CAPACITY))
    successor = RingReader(segment)
    assert successor.take_over.deaths == 0
    assert numbers_of(successor.take(100)) == list(range(9, 9 + CAPACITY))
    assert successor.lost == 9


def test_a_batch_to_be_tried_again_that_is_overrun_first_no_longer_cuts_the_next_one(segment: Segment) -> None:
    writer = RingWriter(segment)
    writer.write(numbered(0, 9))
    RingReader(segment).take(3)
    successor = RingReader(segment)
    writer.write(numbered(9, CAPACITY))
    assert numbers_of(successor.take(100)) == list(range(9, 9 + CAPACITY))


def test_wherever_a_reader_dies_nothing_is_lost_and_nothing_is_counted_twice(segment: Segment) -> None:
    """Dies before its n-th store for n = 0, 1, 2 …, until it no longer dies; after each a healthy one goes on."""
    writer = RingWriter(segment)
    for stores in itertools.count():
        start = writer.written
        writer.write(numbered(start, 6))
        reader = RingReader(segment)
        vars(reader)["_words"] = WordsUntilDeath(segment.words(0, 32), stores)
        committed = 0
        died = False
        try:
            reader.take(4)
            reader.commit()
        except Killed:
            died = True
        committed = ring_counters(segment).read - start
        assert committed in (0, 4)
        healthy = RingReader(segment)
        assert healthy.quarantined == 0
        seen = []
        while len(events := healthy.take(100)):
            seen += numbers_of(events)
            healthy.commit()
        assert seen == list(range(start + committed, start + 6))
        assert healthy.read == writer.written
        if not died:
            break
    assert stores >= 4, "there were places to die"


def test_a_capacity_that_is_no_power_of_two_is_refused(instance: str) -> None:
    for capacity in (0, 1, 3, 1000):
        with pytest.raises(ValueError, match="power of two"):
            create_ring(f"liqmap.{instance}.ring.BTC", capacity)


def test_what_is_no_event_is_refused(segment: Segment) -> None:
    writer = RingWriter(segment)
    with pytest.raises(ValueError, match="whole events"):
        writer.write(b"x" * 65)
    with pytest.raises(ValueError, match="EVENT_DTYPE"):
        writer.write(np.zeros(3))
    assert writer.write(numbered(0, 8)[::2]) == 4
    assert RingReader(segment).take(9)["price"].tolist() == [0, 2, 4, 6]


def test_another_segment_is_no_ring(instance: str) -> None:
    board = create_board(f"liqmap.{instance}.directory", DIRECTORY)
    for kind in (RingWriter, RingReader, ring_counters):
        with pytest.raises(LayoutMismatch):
            kind(board)
    board.unlink()
    board.close()


def ring_words(segment: Segment) -> dict[str, int]:
    words = segment.words(SEGMENT_HEADER.itemsize, RING_HEADER.itemsize // 8)
    return {name: words[at] for name, at in word_indexes(RING_HEADER).items()}


class RingAccounts(RuleBasedStateMachine):
    """Writers and readers come, die and go on in any order; the model is the list of what was written."""

    names = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.segment = create_ring(f"liqmap.t{os.getpid()}-m{next(self.names)}.ring.BTC", CAPACITY)
        self.written = 0
        self.cursor = 0
        self.taken: list[int] = []
        self.seen: list[int] = []
        self.set_aside: list[int] = []
        self.writer = RingWriter(self.segment)
        self.reader = RingReader(self.segment)

    def teardown(self) -> None:
        self.segment.unlink()
        self.segment.close()

    def write(self, count: int) -> None:
        assert self.writer.write(numbered(self.written, count)) == self.written + count
        self.written += count

    @rule(count=st.integers(0, 3 * CAPACITY))
    def writer_writes(self, count: int) -> None:
        self.write(count)

    @rule(count=st.integers(1, CAPACITY // 2), before_the_bytes=st.booleans())
    def writer_dies_in_the_middle(self, count: int, before_the_bytes: bool) -> None:
        ahead = ring_words(self.segment)["writing"] >= self.written + count  # then `writing` needs no store
        stores = 0 if before_the_bytes or ahead else 1
        vars(self.writer)["_words"] = WordsUntilDeath(self.segment.words(0, 32), stores)
        with pytest.raises(Killed):
            self.writer.write(numbered(10**6, count))
        self.writer = RingWriter(self.segment)

    @rule(limit=st.integers(1, 2 * CAPACITY), meanwhile=st.lists(st.integers(0, 2 * CAPACITY), max_size=3))
    def reader_takes(self, limit: int, meanwhile: list[int]) -> None:
        writes = iter(meanwhile)
        during_the_copy(self.reader, lambda: self.write(next(writes, 0)))
        lost_before = self.reader.lost
        self.taken = numbers_of(self.reader.take(limit))
        vars(self.reader).pop("_copy_out")
        assert len(self.taken) <= limit
        self.cursor += self.reader.lost - lost_before
        assert self.taken == list(range(self.cursor, self.cursor + len(self.taken)))

    @precondition(lambda self: self.taken)
    @rule()
    def reader_commits(self) -> None:
        self.reader.commit()
        self.seen += self.taken
        self.cursor += len(self.taken)
        self.taken = []

    @rule()
    def reader_dies(self) -> None:
        lost_before = self.reader.lost
        self.reader = RingReader(self.segment)
        aside = numbers_of(self.reader.take_over.set_aside)
        self.cursor += self.reader.lost - lost_before
        assert aside == list(range(self.cursor, self.cursor + len(aside)))
        self.cursor += len(aside)
        self.set_aside += aside
        self.taken = []

    @invariant()
    def accounts_balance(self) -> None:
        counters = ring_counters(self.segment)
        assert counters.written == self.written
        assert counters.read + counters.lost + counters.pending == counters.written
        assert counters.read == len(self.seen) + len(self.set_aside)
        assert counters.quarantined == len(self.set_aside)
        assert counters.read + counters.lost == self.cursor
        assert counters.pending == self.written - self.cursor >= 0

    @invariant()
    def nothing_is_seen_twice_or_out_of_order(self) -> None:
        assert self.seen == sorted(set(self.seen))
        assert not set(self.seen) & set(self.set_aside)


TestRingAccounts = RingAccounts.TestCase
TestRingAccounts.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_writers_and_the_readers_words_share_no_cache_line() -> None:
    at = word_indexes(RING_HEADER)
    head = SEGMENT_HEADER.itemsize // 8
    lines = {name: (head + word) // 8 for name, word in at.items()}
    assert lines["written"] == lines["writing"]
    assert lines["written"] != lines["read"] == lines["lost"] == lines["batch_first"] == lines["quarantined"]

"""Order books in step with their venue: each rule and the trap behind it, then drops, repeats, reorders at random."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liqmap.domain.enums import BookState
from liqmap.exchanges.adapter import BookRule, BookUpdate
from liqmap.exchanges.booksync import BookSync, Wish
from tests.unit.book_updates import ReferenceVenue, update

BINANCE, BYBIT, OKX = BookRule.BINANCE, BookRule.BYBIT, BookRule.OKX
BIDS, ASKS = ((99.0, 1.0), (98.0, 1.0)), ((101.0, 1.0), (102.0, 1.0))


def _sync(rule: BookRule, depth: int | None = None, buffer: int = 64) -> BookSync:
    return BookSync(rule, depth, buffer)


def _snapshot(rule: BookRule, sequence: int) -> BookUpdate:
    return update(rule, sequence, bids=BIDS, asks=ASKS, snapshot=True)


def _best(sync: BookSync) -> tuple[float, float]:
    book = sync.shown
    assert book is not None
    return book.best_bid, book.best_ask


# Binance


def test_binance_nothing_is_asked_before_the_stream_speaks() -> None:
    sync = _sync(BINANCE)
    assert (sync.state, sync.wish) == (BookState.ABSENT, Wish.NOTHING)
    sync.take(update(BINANCE, 105, 100, 101))
    assert (sync.state, sync.wish, sync.shown) == (BookState.SYNCING, Wish.SNAPSHOT, None)
    sync.granted()
    assert sync.wish is Wish.NOTHING


def test_binance_the_first_update_must_hold_the_snapshots_number_and_older_ones_are_dropped() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 105, 100, 101, bids=((90.0, 7.0),)))
    sync.take(update(BINANCE, 110, 105, 106, bids=((99.5, 2.0),)))
    sync.take(update(BINANCE, 115, 110, 111, asks=((100.5, 2.0),)))
    sync.take(_snapshot(BINANCE, 108))
    assert sync.state is BookState.SYNCED
    assert _best(sync) == (99.5, 100.5)
    assert (90.0, 7.0) not in sync.book.bids, "what lies before the snapshot is in it already"


def test_binance_a_break_while_a_snapshot_waits_to_be_reached_asks_for_another_one() -> None:
    """Lost under load while its snapshot, ahead of the stream, was held: nothing was on its way any more."""
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 105, 100, 101))
    sync.granted()
    sync.take(_snapshot(BINANCE, 200))
    sync.lose(3)
    sync.take(update(BINANCE, 300, 290, 291))
    assert (sync.state, sync.wish) == (BookState.BROKEN, Wish.SNAPSHOT)


def test_binance_spots_rule_of_one_more_is_not_futures() -> None:
    """An update that ends exactly at lastUpdateId bridges; by spot's rule it would be dropped and the next refused."""
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 108, 100, 101))
    sync.take(_snapshot(BINANCE, 108))
    assert sync.state is BookState.SYNCED
    sync.take(update(BINANCE, 120, 108, 115))
    assert sync.state is BookState.SYNCED, "U and u are not contiguous, only pu counts"


def test_binance_a_first_update_whose_pu_is_the_snapshots_number_is_accepted() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 120, 108, 115))
    sync.take(_snapshot(BINANCE, 108))
    assert sync.state is BookState.SYNCED


def test_binance_a_snapshot_that_is_too_old_is_asked_for_again_and_the_buffer_is_kept() -> None:
    """A cached snapshot does not catch up with a buffer that is thrown away each time: an endless resync."""
    sync = _sync(BINANCE)
    for number in range(110, 150, 10):
        sync.take(update(BINANCE, number + 9, number - 1, number, bids=((float(number) / 2, 1.0),)))
    sync.granted()
    sync.take(_snapshot(BINANCE, 80))
    assert (sync.state, sync.wish) == (BookState.SYNCING, Wish.SNAPSHOT)
    sync.granted()
    sync.take(_snapshot(BINANCE, 125))
    assert sync.state is BookState.SYNCED
    assert (70.0, 1.0) in sync.book.bids, "updates that waited all the while are in it"


def test_binance_a_snapshot_ahead_of_the_stream_waits_for_it() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 105, 100, 101))
    sync.granted()
    sync.take(_snapshot(BINANCE, 112))
    assert (sync.state, sync.shown, sync.wish) == (BookState.SYNCING, None, Wish.NOTHING)
    sync.take(update(BINANCE, 110, 105, 106))
    assert sync.shown is None
    sync.take(update(BINANCE, 115, 110, 111))
    assert sync.state is BookState.SYNCED
    far = _sync(BINANCE)
    far.take(update(BINANCE, 105, 100, 101))
    far.granted()
    far.take(_snapshot(BINANCE, 9_999_999))
    far.failed()
    far.take(update(BINANCE, 110, 105, 106))
    assert far.wish is Wish.SNAPSHOT, "one that the stream never reaches is given up"


def test_binance_a_missing_update_breaks_the_book_at_once_and_what_came_is_the_new_beginning() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 108, 100, 101))
    sync.take(_snapshot(BINANCE, 108))
    sync.take(update(BINANCE, 130, 120, 121))
    assert (sync.state, sync.shown, sync.wish, sync.counts.sequence_gaps) == (BookState.BROKEN, None, Wish.SNAPSHOT, 1)
    sync.take(update(BINANCE, 140, 130, 131))
    sync.take(_snapshot(BINANCE, 125))
    assert sync.state is BookState.SYNCED


def test_binance_a_hole_in_what_waits_starts_the_waiting_anew() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 105, 100, 101))
    sync.take(update(BINANCE, 120, 110, 111))
    assert sync.counts.sequence_gaps == 1
    sync.take(_snapshot(BINANCE, 103))
    assert sync.shown is None, "it bridges to an update that another one is missing behind"
    sync.take(_snapshot(BINANCE, 115))
    assert sync.state is BookState.SYNCED


def test_binance_numbers_that_fall_while_it_waits_start_the_waiting_anew() -> None:
    """Set back in the middle of an interval, the stream still names the update before: what waited would be older than
    every snapshot for ever."""
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 1105, 1100, 1101, bids=((90.0, 7.0),)))
    sync.granted()
    sync.take(_snapshot(BINANCE, 1200))  # ahead of a stream that will never come to it now
    sync.take(update(BINANCE, 110, 1105, 106))
    assert sync.wish is Wish.SNAPSHOT
    sync.granted()
    sync.take(_snapshot(BINANCE, 108))
    assert sync.shown is not None and (90.0, 7.0) not in sync.book.bids


def test_binance_numbers_that_fall_in_a_whole_book_break_it() -> None:
    sync = _whole()
    assert sync.last is not None
    sync.take(update(BINANCE, 7, sync.last.sequence, 5))
    assert (sync.shown, sync.wish, sync.counts.sequence_gaps) == (None, Wish.SNAPSHOT, 1)


def test_binance_waiting_is_bounded_and_what_was_given_up_is_counted() -> None:
    sync = _sync(BINANCE, buffer=4)
    for number in range(100, 200, 10):
        sync.take(update(BINANCE, number + 10, number, number + 1))
    assert (len(sync.buffer), sync.counts.dropped_updates) == (4, 6)
    sync.take(_snapshot(BINANCE, 150))
    assert (sync.state, sync.wish) == (BookState.SYNCING, Wish.SNAPSHOT)
    sync.take(_snapshot(BINANCE, 175))
    assert sync.state is BookState.SYNCED


@pytest.mark.finding("X4")
def test_binance_a_snapshot_of_another_contract_that_fits_by_number_is_refused_because_it_crosses() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 108, 100, 101, bids=((60_000.0, 1.0),), asks=((60_001.0, 1.0),)))
    sync.granted()
    sync.take(_snapshot(BINANCE, 104))
    assert (sync.state, sync.shown, sync.wish) == (BookState.SYNCING, None, Wish.SNAPSHOT)
    own = update(BINANCE, 104, bids=((59_999.0, 1.0),), asks=((60_002.0, 1.0),), snapshot=True)
    sync.take(own)
    assert _best(sync) == (60_000.0, 60_001.0)


def test_binance_a_late_snapshot_changes_nothing_in_a_whole_book() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 108, 100, 101, bids=((99.5, 1.0),)))
    sync.take(_snapshot(BINANCE, 108))
    sync.take(_snapshot(BINANCE, 104))
    assert _best(sync) == (99.5, 101.0)


def _whole(depth_of_snapshot: int = 108) -> BookSync:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, depth_of_snapshot, 100, 101))
    sync.take(_snapshot(BINANCE, depth_of_snapshot))
    return sync


def test_binance_a_renewal_moves_what_is_complete_to_where_price_is_and_keeps_what_was_touched() -> None:
    sync = _whole()
    sync.take(update(BINANCE, 120, 108, 109, bids=((50.0, 7.0),), asks=((101.0, 0.0), (102.0, 0.0), (110.0, 1.0))))
    sync.renew()
    assert (sync.wish, sync.state) == (Wish.SNAPSHOT, BookState.SYNCED)
    sync.granted()
    sync.take(update(BINANCE, 130, 120, 121, bids=((109.0, 1.0), (50.0, 6.0))))
    sync.take(update(BINANCE, 140, 130, 131, bids=((108.0, 2.0),)))
    held = sync.shown
    new = update(BINANCE, 130, bids=((109.0, 1.0), (90.0, 3.0)), asks=((110.0, 1.0), (120.0, 4.0)), snapshot=True)
    sync.take(new)
    book = sync.shown
    assert book is not None
    assert book is not held
    assert book.complete == (90.0, 120.0)
    assert book.bids == [(109.0, 1.0), (108.0, 2.0), (90.0, 3.0), (50.0, 6.0)]
    assert (sync.counts.snapshots, sync.counts.resyncs, sync.wish, len(sync.buffer)) == (2, 0, Wish.NOTHING, 0)
    sync.take(update(BINANCE, 150, 140, 141))
    assert sync.state is BookState.SYNCED


def test_binance_a_renewal_that_is_too_old_or_refused_leaves_the_book_as_it_is() -> None:
    for refused in (False, True):
        sync = _whole()
        sync.renew()
        sync.granted()
        sync.take(update(BINANCE, 120, 108, 109, bids=((99.5, 1.0),)))
        if refused:
            sync.failed()
        else:
            sync.take(_snapshot(BINANCE, 90))
        assert (_best(sync), sync.renewing, len(sync.buffer)) == ((99.5, 101.0), False, 0)
        sync.take(update(BINANCE, 130, 120, 121, bids=((99.6, 1.0),)))
        assert _best(sync) == (99.6, 101.0)


@pytest.mark.finding("X4")
def test_binance_a_renewal_that_contradicts_the_book_makes_it_begin_anew() -> None:
    sync = _whole()
    sync.renew()
    sync.granted()
    sync.take(update(BINANCE, 120, 108, 109))
    sync.take(update(BINANCE, 110, bids=((2_999.0, 1.0),), asks=((3_001.0, 1.0),), snapshot=True))
    assert (sync.state, sync.shown) == (BookState.BROKEN, None)


@pytest.mark.finding("X4")
@pytest.mark.parametrize("others", [(89_990.0, 90_000.0), (50.0, 51.0)])
def test_binance_a_renewal_of_another_contract_is_refused_also_when_price_had_left_the_book(
    others: tuple[float, float],
) -> None:
    sync = _whole()
    best = _best(sync)
    gone = tuple((price, 0.0) for price, _ in sync.book.bids), tuple((price, 0.0) for price, _ in sync.book.asks)
    fall = update(BINANCE, 120, 108, 109, bids=(*gone[0], (best[0] / 1.5, 1.0)), asks=(*gone[1], (best[1] * 1.5, 1.0)))
    sync.take(fall)
    assert sync.book.astray
    sync.renew()
    sync.granted()
    sync.take(update(BINANCE, 130, 120, 121))
    sync.take(update(BINANCE, 120, bids=((others[0], 1.0),), asks=((others[1], 1.0),), snapshot=True))
    assert (sync.state, sync.shown) == (BookState.BROKEN, None)


def test_binance_a_renewal_of_a_book_with_an_empty_side_is_one() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 100, 90, 91))
    sync.take(update(BINANCE, 100, bids=((99.0, 1.0), (98.0, 1.0)), snapshot=True))
    sync.renew()
    sync.granted()
    sync.take(update(BINANCE, 110, 100, 101))
    sync.take(update(BINANCE, 110, bids=((99.0, 1.0), (97.0, 1.0)), snapshot=True))
    assert (sync.state, sync.counts.snapshots, sync.counts.resyncs) == (BookState.SYNCED, 2, 0)


def test_binance_a_renewal_that_price_has_left_already_does_not_replace_a_book_that_knows_better() -> None:
    sync = _sync(BINANCE)
    sync.take(update(BINANCE, 100, 90, 91))
    sync.take(update(BINANCE, 100, bids=((99.0, 1.0), (80.0, 1.0)), asks=((101.0, 1.0),), snapshot=True))
    sync.renew()
    sync.granted()
    sync.take(update(BINANCE, 110, 100, 101))
    sync.take(update(BINANCE, 120, 110, 111, bids=((99.0, 0.0), (90.0, 1.0))))
    sync.take(update(BINANCE, 110, bids=((99.0, 1.0),), asks=((101.0, 1.0),), snapshot=True))
    assert (_best(sync), sync.counts.snapshots, sync.renewing, sync.awaits) == ((90.0, 101.0), 1, False, False)


def test_binance_a_gap_while_a_snapshot_waits_for_the_stream_wishes_for_another() -> None:
    sync = _whole()
    sync.renew()
    sync.granted()
    sync.take(_snapshot(BINANCE, 150))
    sync.take(update(BINANCE, 140, 130, 131))
    assert (sync.state, sync.wish) == (BookState.BROKEN, Wish.SNAPSHOT)


@pytest.mark.parametrize("rule", [BYBIT, OKX])
def test_books_of_the_best_levels_need_no_renewal(rule: BookRule) -> None:
    sync = _sync(rule)
    sync.take(_snapshot(rule, 7))
    sync.renew()
    assert (sync.renewing, sync.wish) == (False, Wish.NOTHING)


# Bybit


def test_bybit_a_snapshot_begins_and_each_update_is_one_more() -> None:
    sync = _sync(BYBIT)
    sync.take(_snapshot(BYBIT, 7))
    sync.take(update(BYBIT, 8, bids=((99.5, 1.0),)))
    assert (sync.state, _best(sync)) == (BookState.SYNCED, (99.5, 101.0))
    sync.take(update(BYBIT, 10))
    assert (sync.state, sync.shown, sync.wish, sync.counts.sequence_gaps) == (
        BookState.BROKEN,
        None,
        Wish.RESUBSCRIBE,
        1,
    )
    sync.granted()
    sync.take(update(BYBIT, 11))
    assert (sync.state, sync.wish) == (BookState.BROKEN, Wish.NOTHING), "the old subscription's last words"
    sync.take(_snapshot(BYBIT, 12))
    assert sync.state is BookState.SYNCED


def test_bybit_a_snapshot_in_the_middle_of_the_stream_is_a_new_beginning_and_no_gap() -> None:
    sync = _sync(BYBIT)
    sync.take(_snapshot(BYBIT, 7))
    sync.take(update(BYBIT, 400, bids=((88.0, 1.0),), asks=((90.0, 1.0),), snapshot=True))
    assert (sync.state, _best(sync), sync.counts.sequence_gaps) == (BookState.SYNCED, (88.0, 90.0), 0)
    sync.take(update(BYBIT, 401))
    assert sync.state is BookState.SYNCED


def test_bybit_number_one_is_a_new_beginning_whatever_the_message_calls_itself() -> None:
    sync = _sync(BYBIT)
    sync.take(_snapshot(BYBIT, 70_000))
    sync.take(update(BYBIT, 1, bids=((88.0, 1.0),), asks=((90.0, 1.0),)))
    assert (sync.state, sync.book.bids, sync.counts.sequence_gaps) == (BookState.SYNCED, [(88.0, 1.0)], 0)
    sync.take(update(BYBIT, 2))
    assert sync.state is BookState.SYNCED


def test_bybit_repeats_of_a_quiet_level_one_book_are_no_gap() -> None:
    sync = _sync(BYBIT, depth=1)
    for _ in range(3):
        sync.take(update(BYBIT, 7, bids=((99.0, 1.0),), asks=((101.0, 1.0),), snapshot=True))
    assert (sync.state, sync.counts.sequence_gaps) == (BookState.SYNCED, 0)
    sync.take(update(BYBIT, 8, bids=((99.5, 1.0),)))
    sync.take(update(BYBIT, 8, bids=((99.5, 1.0),)))
    assert (sync.state, sync.counts.sequence_gaps, sync.counts.updates) == (BookState.SYNCED, 0, 1)


def test_bybit_levels_that_fell_out_of_the_window_untold_are_gone() -> None:
    sync = _sync(BYBIT, depth=2)
    sync.take(_snapshot(BYBIT, 7))
    sync.take(update(BYBIT, 8, bids=((99.5, 1.0),)))
    assert sync.book.bids == [(99.5, 1.0), (99.0, 1.0)]


def test_bybit_updates_without_a_beginning_want_a_new_subscription() -> None:
    sync = _sync(BYBIT)
    sync.take(update(BYBIT, 8))
    assert (sync.state, sync.shown, sync.wish) == (BookState.SYNCING, None, Wish.RESUBSCRIBE)


# OKX


def test_okx_each_update_names_the_one_before() -> None:
    sync = _sync(OKX)
    sync.take(_snapshot(OKX, 10))
    sync.take(update(OKX, 15, 10, bids=((99.5, 1.0),)))
    assert (sync.state, _best(sync)) == (BookState.SYNCED, (99.5, 101.0))
    sync.take(update(OKX, 30, 20))
    assert (sync.state, sync.shown, sync.wish, sync.counts.sequence_gaps) == (
        BookState.BROKEN,
        None,
        Wish.RESUBSCRIBE,
        1,
    )


def test_okx_the_heartbeat_of_a_quiet_book_is_kept() -> None:
    """Taken for a repeat and passed over, it would do no harm here, but the next would if `last` were not kept."""
    sync = _sync(OKX)
    sync.take(_snapshot(OKX, 10))
    sync.take(update(OKX, 10, 10))
    sync.take(update(OKX, 10, 10))
    sync.take(update(OKX, 15, 10))
    assert (sync.state, sync.counts.updates) == (BookState.SYNCED, 3)


def test_okx_a_number_that_falls_once_after_maintenance_is_valid_while_it_names_the_one_before() -> None:
    sync = _sync(OKX)
    sync.take(_snapshot(OKX, 10_000))
    sync.take(update(OKX, 3, 10_000, bids=((99.5, 1.0),)))
    sync.take(update(OKX, 5, 3))
    assert (sync.state, _best(sync)) == (BookState.SYNCED, (99.5, 101.0))
    sync.take(update(OKX, 2, 9_999))
    assert sync.state is BookState.BROKEN


def test_okx_a_snapshot_in_the_middle_is_a_new_beginning() -> None:
    sync = _sync(OKX)
    sync.take(_snapshot(OKX, 10))
    sync.take(_snapshot(OKX, 500))
    sync.take(update(OKX, 505, 500))
    assert (sync.state, sync.counts.snapshots, sync.counts.sequence_gaps) == (BookState.SYNCED, 2, 0)


def test_okx_an_update_without_sequence_ids_cannot_be_checked_so_the_book_is_not_shown() -> None:
    """Frames of before 2023 have none: the archive is verified by its checksums instead (tests/wire)."""
    sync = _sync(OKX)
    sync.take(_snapshot(OKX, -1))
    sync.take(update(OKX, -1, None))
    assert (sync.state, sync.shown) == (BookState.BROKEN, None)


# All


@pytest.mark.parametrize("rule", list(BookRule))
def test_lost_frames_break_a_book_at_once_and_are_counted(rule: BookRule) -> None:
    sync = _sync(rule)
    sync.lose(3)
    assert (sync.state, sync.counts.dropped_updates) == (BookState.ABSENT, 3)
    sync.take(update(rule, 10, 5, 6))
    sync.take(_snapshot(rule, 10))
    assert sync.state is BookState.SYNCED
    sync.lose(2)
    assert (sync.state, sync.shown, sync.counts.dropped_updates, sync.counts.sequence_gaps) == (
        BookState.BROKEN,
        None,
        5,
        0,
    )


def test_a_wish_that_came_to_nothing_stands_again() -> None:
    sync = _sync(OKX)
    sync.take(_snapshot(OKX, 10))
    sync.lose(1)
    sync.granted()
    sync.failed()
    assert sync.wish is Wish.RESUBSCRIBE


# Drops, repeats and reorders at random


def _told(venue: ReferenceVenue, harm: random.Random, count: int) -> Iterator[BookUpdate]:
    """What arrives of `count` updates of the venue: some are lost, some come twice, some change places."""
    held: BookUpdate | None = None
    for _ in range(count):
        said = venue.step()
        fate = harm.random()
        if fate < 0.05:
            continue
        if fate < 0.10 and held is None:
            held = said
            continue
        yield said
        if fate < 0.15:
            yield said
        if held is not None:
            yield held
            held = None


def _grant(sync: BookSync, venue: ReferenceVenue, answers: list[BookUpdate], harm: random.Random) -> None:
    """Do what the book wishes for; the answer is of now, or (by REST) of a while ago."""
    sync.granted()
    if venue.rule is BINANCE and answers and harm.random() < 0.3:
        sync.take(harm.choice(answers))
    else:
        sync.take(venue.snapshot())


@pytest.mark.parametrize("rule", list(BookRule))
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whenever_a_book_is_shown_it_is_the_venues_book_of_that_number(rule: BookRule, seed: int) -> None:
    venue, harm = ReferenceVenue(rule, seed), random.Random(seed + 1)
    sync = _sync(rule)
    if rule is not BINANCE:
        sync.take(venue.snapshot())
    answers: list[BookUpdate] = []
    previous: BookUpdate | None = None
    shown = 0
    for said in _told(venue, harm, 150):
        before, gaps = sync.state, sync.counts.sequence_gaps
        sync.take(said)
        if before is BookState.SYNCED and _is_missing_something(rule, previous, said):
            assert sync.shown is None, "a loss went unnoticed"
            assert sync.counts.sequence_gaps == gaps + 1
        if harm.random() < 0.2:
            answers.append(venue.snapshot())
        if harm.random() < 0.1:
            sync.renew()
        if sync.wish is not Wish.NOTHING and harm.random() < 0.5:
            _grant(sync, venue, answers, harm)
        previous = sync.last
        if sync.shown is not None:
            shown += 1
            assert previous is not None
            bids, asks = venue.books[previous.sequence]
            assert dict(sync.shown.bids) == bids
            assert dict(sync.shown.asks) == asks
    assert shown > 0
    for _ in range(3):  # no more harm: it is right again after what it wishes for is granted
        sync.failed()  # what was on its way has come to nothing
        sync.take(venue.step(calm=True))
        if sync.wish is not Wish.NOTHING:
            sync.granted()
            sync.take(venue.snapshot())
        sync.take(venue.step(calm=True))
    assert sync.shown is not None
    assert dict(sync.shown.bids) == venue.bids
    assert dict(sync.shown.asks) == venue.asks


def _is_missing_something(rule: BookRule, last: BookUpdate | None, said: BookUpdate) -> bool:
    """By the venue's numbers, whether an update is missing between the two (and it is not the same one again)."""
    if last is None or (said.sequence, said.bids, said.asks) == (last.sequence, last.bids, last.asks):
        return False
    if rule is BYBIT:
        return said.sequence != last.sequence + 1
    if rule is BINANCE and said.sequence < last.sequence:
        return True
    return said.previous_sequence != last.sequence

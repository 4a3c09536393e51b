"""Order books of real venues, as others recorded them, through the state machine: in sequence, never crossed, and at
the end where the recording says; in the throttled recordings every hole is found. Skipped where absent."""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from liqmap.domain.book import Book
from liqmap.domain.enums import BookState, Topic, Venue
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.adapter import BookUpdate, Fact, Malformed, PollPlan
from liqmap.exchanges.booksync import BookSync, Wish
from liqmap.exchanges.registry import ADAPTERS
from liqmap.store.capture import Capture, Record, RecordKind
from tests.shared_data import shared
from tests.wire.recordings import sampled


def _table(venue: Venue, names: Iterable[str]) -> InstrumentTable:
    """Every recorded contract, counted in its own unit: prices and sequence are what matters here."""
    return InstrumentTable(Instrument(venue, name, 1.0, name, number) for number, name in enumerate(names))


def updates(venue: Venue, file: str, names: tuple[str, ...], route: str = "") -> Iterator[tuple[Record, BookUpdate]]:
    """The books' updates of a capture, REST snapshots among them, in order of receipt."""
    adapter, table = ADAPTERS[venue], _table(venue, names)
    session = adapter.session(table)
    for record in sorted(Capture(shared(f"data/wire/{file}")), key=lambda record: record.receive_ns):
        facts: Iterable[Fact] = ()
        if record.kind is RecordKind.HTTP:
            name = adapter.request_of(record.url, record.data) or ""
            if name.startswith("depth."):
                plan = PollPlan(venue, name, record.url, Topic.DEPTH, (), 0.0)
                facts = adapter.parse_reply(plan, record.data, record.receive_ns, table)
        elif record.route == route and record.kind is RecordKind.FRAME:
            facts = session.parse(record.raw, record.receive_ns)
        for fact in facts:
            if isinstance(fact, BookUpdate):
                yield record, fact


def _sync(venue: Venue, depth: int | None = None) -> BookSync:
    return BookSync(ADAPTERS[venue].book_rule, depth, 4096)


def test_binance_2024_bridges_at_the_fifth_update_and_ends_at_the_touch_of_the_recording() -> None:
    sync, states = _sync(Venue.BINANCE), []
    touch: tuple[str, str] | None = None
    agreed = compared = 0
    adapter, table = ADAPTERS[Venue.BINANCE], _table(Venue.BINANCE, ("BTCUSDT",))
    session = adapter.session(table)
    for record in Capture(shared("data/wire/binance_usdm_btcusdt_20240808.gz")):
        if record.kind is RecordKind.HTTP:
            plan = PollPlan(Venue.BINANCE, "depth.BTCUSDT", record.url, Topic.DEPTH, (), 0.0)
            facts = adapter.parse_reply(plan, record.data, record.receive_ns, table)
        elif record.topic.endswith("@bookTicker"):
            ticker = json.loads(record.data)
            touch = (ticker["b"], ticker["a"])
            continue
        else:
            facts = session.parse(record.raw, record.receive_ns)
        for update in facts:
            if isinstance(update, BookUpdate):
                sync.take(update)
                states.append(sync.state)
        if sync.shown is not None and touch is not None:
            compared += 1
            agreed += (sync.shown.best_bid, sync.shown.best_ask) == (float(touch[0]), float(touch[1]))
    assert sync.shown is not None
    assert (sync.counts.updates + sync.counts.sequence_gaps, sync.counts.snapshots, sync.counts.crossed) == (
        sync.counts.updates,
        1,
        0,
    )
    assert states.count(BookState.BROKEN) == 0
    assert sync.counts.updates > 6_500
    assert (sync.shown.best_bid, sync.shown.best_ask) == (61659.7, 61659.8)
    assert touch == ("61659.70", "61659.80")
    assert agreed > 0.5 * compared, "bookTicker runs ahead of the book by parts of a second, and agrees otherwise"


def test_binance_2021_four_contracts_bridge_with_one_update_each_and_never_break() -> None:
    names = ("SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT")
    syncs = {name: _sync(Venue.BINANCE) for name in names}
    for _, update in updates(Venue.BINANCE, "binance_futures_capture.jsonl.gz", names, "legacy"):
        syncs[update.instrument].take(update)
    for name, sync in syncs.items():
        assert sync.state is BookState.SYNCED, name
        assert (sync.counts.sequence_gaps, sync.counts.crossed) == (0, 0)
        assert sync.counts.updates > 0
        assert sync.book.best_bid < sync.book.best_ask


def test_bybit_2026_four_contracts_in_step_to_the_end() -> None:
    names = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT")
    syncs = {name: _sync(Venue.BYBIT, 200) for name in names}
    longest = 0
    for _, update in updates(Venue.BYBIT, "bybit_capture.jsonl.gz", names, "linear"):
        syncs[update.instrument].take(update)
        unbounded = len(syncs[update.instrument].book.bids)
        longest = max(longest, unbounded)
    assert sum(sync.counts.updates for sync in syncs.values()) == 1_594
    for name, sync in syncs.items():
        assert sync.state is BookState.SYNCED, name
        assert (sync.counts.snapshots, sync.counts.sequence_gaps, sync.counts.crossed) == (1, 0, 0)
    assert longest == 200


def test_bybit_tells_of_every_level_that_leaves_its_window_so_cutting_off_changes_nothing() -> None:
    names = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT")
    cut = {name: _sync(Venue.BYBIT, 200) for name in names}
    whole = {name: _sync(Venue.BYBIT) for name in names}
    for _, update in updates(Venue.BYBIT, "bybit_capture.jsonl.gz", names, "linear"):
        for syncs in (cut, whole):
            syncs[update.instrument].take(update)
        a, b = cut[update.instrument].book, whole[update.instrument].book
        assert (a.bids, a.asks) == (b.bids, b.asks)


OKX_BOOKS = ("BTC-USDT", "UNI-USD-SWAP", "BTC-USD-220527")


def _checksum(book: Book, spelled: dict[float, str]) -> int:
    """CRC32 of the best 25 levels of both sides, interleaved, in the venue's spelling (docs/exchanges.md)."""
    bids, asks = book.bids[:25], book.asks[:25]
    parts = []
    for place in range(25):
        for side in (bids, asks):
            if place < len(side):
                parts += [spelled[side[place][0]], spelled[side[place][1]]]
    crc = zlib.crc32(":".join(parts).encode())
    return crc - (1 << 32) if crc >= 1 << 31 else crc


def test_okx_2022_every_checksum_of_the_archive_is_that_of_our_book() -> None:
    """These frames are older than sequence ids: the checksum, retired since, verifies the book level by level."""
    books = {name: Book(400) for name in OKX_BOOKS}
    spelled: dict[float, str] = {}
    matched: Counter[bool] = Counter()
    crossed = 0
    for record, update in updates(Venue.OKX, "okx_capture.jsonl.gz", OKX_BOOKS, "public"):
        assert (update.sequence, update.previous_sequence) == (-1, None)
        row = json.loads(record.data)["data"][0]
        for price, size, *_ in row["bids"] + row["asks"]:
            spelled[float(price)], spelled[float(size)] = price, size
        book = books[update.instrument]
        (book.replace if update.snapshot else book.apply)(update.bids, update.asks)
        matched[_checksum(book, spelled) == row["checksum"]] += 1
        crossed += book.crossed
    assert matched == {True: 290}
    assert crossed == 0


def test_okx_2022_the_state_machine_shows_none_of_it_for_its_order_cannot_be_checked() -> None:
    syncs = {name: _sync(Venue.OKX, 400) for name in OKX_BOOKS}
    for _, update in updates(Venue.OKX, "okx_capture.jsonl.gz", OKX_BOOKS, "public"):
        syncs[update.instrument].take(update)
        if not update.snapshot:
            assert syncs[update.instrument].shown is None
            assert syncs[update.instrument].wish is Wish.RESUBSCRIBE


def _throttled(venue: Venue, file: str, name: str) -> list[BookUpdate]:
    session = ADAPTERS[venue].session(_table(venue, (name,)))
    found = []
    for frame in sampled(f"wire/throttled_2024/{file}"):
        if "topic" not in frame and "arg" not in frame:
            continue  # the recorder kept a REST reply and empty rows among them
        found += [fact for fact in session.parse(json.dumps(frame).encode(), 0) if isinstance(fact, BookUpdate)]
    return found


@pytest.mark.parametrize(
    ("venue", "file", "name", "gaps"),
    [
        (Venue.BYBIT, "bybit_perp_btcusdt_depth.json.gz", "BTCUSDT", 634),
        (Venue.OKX, "okx_perp_btcusdt_depth.json.gz", "BTC-USDT", 599),
    ],
)
def test_throttled_2024_every_hole_is_found_a_resync_is_asked_for_and_nothing_is_shown_meanwhile(
    venue: Venue, file: str, name: str, gaps: int
) -> None:
    sync, holes = _sync(venue), 0
    last: BookUpdate | None = None
    for update in _throttled(venue, file, name):
        before = last.sequence if last is not None else None
        expected = before if venue is Venue.OKX else (before or 0) + 1
        told = update.previous_sequence if venue is Venue.OKX else update.sequence
        hole = last is not None and not update.snapshot and told != expected
        holes += hole
        sync.take(update)
        if hole or last is None:
            assert sync.shown is None or update.snapshot
            assert sync.wish is (Wish.NOTHING if update.snapshot else Wish.RESUBSCRIBE)
        if sync.wish is not Wish.NOTHING:
            # The test plays the venue: its new subscription begins with what stands now, numbered like this update.
            sync.granted()
            sync.take(BookUpdate(venue, name, name, 0, True, ((1.0, 1.0),), ((2.0, 1.0),), update.sequence, None))
        assert sync.state is BookState.SYNCED
        last = update
    assert (holes, sync.counts.sequence_gaps) == (gaps, gaps)


def test_throttled_2024_left_alone_a_book_is_not_shown_from_its_first_hole_to_its_next_snapshot() -> None:
    for venue, file, name in (
        (Venue.BYBIT, "bybit_perp_btcusdt_depth.json.gz", "BTCUSDT"),
        (Venue.OKX, "okx_perp_btcusdt_depth.json.gz", "BTC-USDT"),
    ):
        sync, whole = _sync(venue), False
        last: BookUpdate | None = None
        for update in _throttled(venue, file, name):
            follows = last is not None and (
                update.previous_sequence == last.sequence
                if venue is Venue.OKX
                else update.sequence == last.sequence + 1
            )
            whole = update.snapshot or (whole and follows)
            sync.take(update)
            assert (sync.shown is not None) == whole
            last = update


def test_a_frame_of_a_book_that_breaks_its_format_is_no_update() -> None:
    session = ADAPTERS[Venue.OKX].session(_table(Venue.OKX, ("BTC-USDT-SWAP",)))
    with pytest.raises(Malformed):
        session.parse(b'{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"delta","data":[]}', 0)

"""The journal on disk: what was handed to it is read back; whatever happens to the bytes is told, never believed."""

import errno
import os
import queue
import random
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.config.records import JournalConfig
from liqmap.domain.enums import Kind, Source, Venue
from liqmap.domain.event import EVENT_BYTES, EVENT_DTYPE, Event
from liqmap.domain.instrument import Instrument
from liqmap.store import journal_keeper
from liqmap.store.journal import Journals
from liqmap.store.journal_format import BATCH_HEADER, FILE_HEADER, HOLE_RECORD
from liqmap.store.journal_reader import (
    Events,
    Hole,
    JournalFile,
    JournalUnreadable,
    SymbolJournalReader,
    journal_end,
    journal_files,
    newest_epoch,
)
from tests.waiting import wait_until

START_NS = 1_790_000_000_000_000_000
HOUR_NS = 3_600_000_000_000
FIRST = (7 << 40) + 1


def packed(first: int, count: int, at_ns: int = START_NS) -> bytes:
    """`count` numbered events that differ from each other."""
    rows = (
        Event(at_ns + i * 1000, price=float(first + i - FIRST), kind=int(Kind.TRADE), instrument=3)
        for i in range(count)
    )
    return b"".join(row.packed(first + i) for i, row in enumerate(rows))


def opened(directory: Path, **settings: Any) -> Journals:
    return Journals(directory, JournalConfig(**{"fsync_s": 0.02, **settings}), "test", Source.SIMULATED)


def written(directory: Path, sizes: list[int], **settings: Any) -> bytes:
    """A journal of batches of these sizes, closed; the events as one."""
    journals = opened(directory, **{"compress": False, **settings})
    journals.use([Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", 3)])
    said, next_sequence = b"", FIRST
    for size in sizes:
        batch = packed(next_sequence, size, START_NS + (next_sequence - FIRST) * 10**6)
        journals.of("BTC").append(next_sequence, batch)
        said, next_sequence = said + batch, next_sequence + size
    journals.close()
    return said


def read(directory: Path) -> tuple[bytes, list[Hole], SymbolJournalReader]:
    reader = SymbolJournalReader(directory)
    items = list(reader)
    events = b"".join(item.events.tobytes() for item in items if isinstance(item, Events))
    return events, [item for item in items if isinstance(item, Hole)], reader


def test_what_was_written_is_read_with_its_description(tmp_path: Path) -> None:
    said = written(tmp_path, [1, 2048, 7])
    events, holes, reader = read(tmp_path / "BTC")
    assert (events, holes, reader.losses) == (said, [], [])
    told = reader.descriptions[0]
    assert (told.instance, told.symbol, told.source) == ("test", "BTC", "simulated")
    assert [(one.number, one.venue, one.name) for one in told.contracts] == [(3, "bybit", "BTCUSDT")]
    end = journal_end(tmp_path / "BTC")
    assert end is not None and end.asked
    assert end.last_ns == int(np.frombuffer(said, EVENT_DTYPE)["receive_ns"][-1])
    assert newest_epoch(tmp_path) == 7


def test_each_hour_of_engine_time_has_its_file_and_closed_ones_are_compressed(tmp_path: Path) -> None:
    journals = opened(tmp_path)
    for hour in range(3):
        journals.of("BTC").append(FIRST + hour * 10, packed(FIRST + hour * 10, 10, START_NS + hour * HOUR_NS))
    names = [path.name for path in journal_files(tmp_path / "BTC")]
    assert [name[:11] for name in names] == ["20260921T14", "20260921T15", "20260921T16"]
    wait_until(lambda: sum(path.suffix == ".gz" for path in journal_files(tmp_path / "BTC")) == 2, "two files")
    journals.close()
    events, holes, reader = read(tmp_path / "BTC")
    assert np.frombuffer(events, EVENT_DTYPE)["sequence"].tolist() == list(range(FIRST, FIRST + 30))
    assert (holes, reader.losses) == ([], [])


def test_other_contracts_begin_another_file(tmp_path: Path) -> None:
    journals = opened(tmp_path, compress=False)
    for number in (3, 4):
        journals.use([Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", number)])
        journals.of("BTC").append(FIRST + number, packed(FIRST + number, 1))
    journals.close()
    _, _, reader = read(tmp_path / "BTC")
    assert [told.contracts[0].number for told in reader.descriptions] == [3, 4]


@pytest.mark.finding("M28")
def test_a_writer_killed_at_any_byte_leaves_every_batch_before_it(tmp_path: Path) -> None:
    sizes = [3, 1, 5, 2]
    said = written(tmp_path, sizes)
    path = journal_files(tmp_path / "BTC")[0]
    whole = path.read_bytes()
    ends = [len(whole) - BATCH_HEADER.itemsize]  # behind the last events stands the END
    for size in reversed(sizes):
        ends.insert(0, ends[0] - size * EVENT_BYTES - BATCH_HEADER.itemsize)
    for cut in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:cut])
        events, _, reader = read(tmp_path / "BTC")
        batches = sum(cut >= end for end in ends[1:])
        assert events == said[: sum(sizes[:batches]) * EVENT_BYTES], f"cut at {cut}"
        intact = max(end for end in [*ends, len(whole)] if end <= cut)
        told = [(loss.path, loss.offset, loss.size) for loss in reader.losses]
        assert told == ([] if intact == cut else [(path, intact, cut - intact)]), f"cut at {cut}"
        end = journal_end(tmp_path / "BTC")
        assert (end is not None and end.asked) == (cut == len(whole)), f"cut at {cut}"


@pytest.mark.finding("M28")
@given(seed=st.integers(0, 2**32))
def test_damage_anywhere_costs_what_it_touches_and_is_told(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw = random.Random(seed)
    directory = tmp_path_factory.mktemp("damaged")
    sizes = [draw.randint(1, 6) for _ in range(8)]
    said = np.frombuffer(written(directory, sizes), EVENT_DTYPE)
    path = journal_files(directory / "BTC")[0]
    content = bytearray(path.read_bytes())
    first = int(np.frombuffer(bytes(content[: FILE_HEADER.itemsize]), FILE_HEADER)["batches_at"][0])
    starts = [first]
    for size in sizes:
        starts.append(starts[-1] + BATCH_HEADER.itemsize + size * EVENT_BYTES)
    at = draw.randrange(first, starts[-1])
    content[at] ^= draw.randint(1, 255)
    path.write_bytes(content)
    events, holes, reader = read(directory / "BTC")
    hit = max(index for index, start in enumerate(starts) if start <= at)
    before, after = sum(sizes[:hit]), sum(sizes[: hit + 1])
    assert events == said[:before].tobytes() + said[after:].tobytes()
    assert [(loss.offset, loss.size) for loss in reader.losses] == [(starts[hit], starts[hit + 1] - starts[hit])]
    if 0 < hit < len(sizes) - 1:
        assert [hole.events for hole in holes] == [sizes[hit]], "and what is missing has its place among the events"


def test_a_torn_compressed_file_is_used_up_to_the_tear(tmp_path: Path) -> None:
    said = written(tmp_path, [2048] * 6)
    packed_file = journal_keeper.compress(journal_files(tmp_path / "BTC")[0])
    packed_file.write_bytes(packed_file.read_bytes()[: packed_file.stat().st_size // 2])
    events, _, reader = read(tmp_path / "BTC")
    assert 0 < len(events) < len(said)
    assert said.startswith(events)
    assert "compressed data is damaged" in str(reader.losses[0])
    assert "all behind it is lost, at least " in str(reader.losses[0]), "how much that is nobody can know"
    assert str(packed_file) in str(reader.losses[0])


def test_a_damaged_compressed_hour_leaves_a_hole_in_front_of_the_next_one(tmp_path: Path) -> None:
    journals = opened(tmp_path, compress=False)
    for number in range(40):  # hours of 18 batches, 100 events each
        first = FIRST + 100 * number
        journals.of("BTC").append(first, packed(first, 100, START_NS + number * HOUR_NS // 18))
    journals.close()
    hours = [journal_keeper.compress(path) for path in journal_files(tmp_path / "BTC")]
    damaged = bytearray(hours[0].read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    hours[0].write_bytes(damaged)
    events, holes, reader = read(tmp_path / "BTC")
    assert len(reader.losses) == 1
    assert [hole.events for hole in holes] == [4000 - len(events) // EVENT_BYTES]


def test_foreign_files_are_refused_in_words(tmp_path: Path) -> None:
    written(tmp_path, [1])
    path = journal_files(tmp_path / "BTC")[0]
    content = bytearray(path.read_bytes())
    assert content[8] == 1
    content[8] = 9
    path.write_bytes(content)
    with pytest.raises(JournalUnreadable, match="journal version 9, this program reads version 1"):
        list(JournalFile(path))
    path.write_bytes(b"something else")
    with pytest.raises(JournalUnreadable, match="does not begin like a journal"):
        list(JournalFile(path))
    content[8], content[70] = 1, content[70] ^ 1
    path.write_bytes(content)
    with pytest.raises(JournalUnreadable, match="its header is damaged"):
        list(JournalFile(path))
    assert journal_end(tmp_path / "BTC") is None, "and whoever begins to write is not stopped by it"


@pytest.mark.finding("M28")
@pytest.mark.parametrize("scratch_left", [False, True])
def test_a_compression_killed_at_any_line_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, scratch_left: bool
) -> None:
    said = written(tmp_path, [100, 200])
    path = journal_files(tmp_path / "BTC")[0]
    if scratch_left:
        path.with_name(f".{path.name}.gz.new").write_bytes(b"\x1f\x8bof a keeper that was killed")
    seen: list[bytes] = []

    def look(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename != journal_keeper.__file__:
            return None
        if event == "line":
            seen.append(read(tmp_path / "BTC")[0])
        return look

    sys.settrace(look)
    try:
        journal_keeper.compress(path)
    finally:
        sys.settrace(None)
    seen.append(read(tmp_path / "BTC")[0])
    assert len(seen) > 8
    assert all(found == said for found in seen)
    assert [found.suffix for found in journal_files(tmp_path / "BTC")] == [".gz"]


@pytest.mark.parametrize("renamed", [False, True])
def test_what_a_killed_writer_or_keeper_left_is_compressed_by_its_successor(tmp_path: Path, renamed: bool) -> None:
    said = written(tmp_path, [10])
    path = journal_files(tmp_path / "BTC")[0]
    if renamed:  # killed between the name of the new file and the end of the old one
        content = path.read_bytes()[: -BATCH_HEADER.itemsize]
        path.write_bytes(content)
        journal_keeper.compress(path)
        path.write_bytes(content)
    path.write_bytes(path.read_bytes()[: -BATCH_HEADER.itemsize])
    journals = opened(tmp_path)
    assert not journals.ends["BTC"].asked
    wait_until(lambda: not path.exists(), "the compressed file")
    journals.close()
    assert read(tmp_path / "BTC")[0] == said


def test_a_closed_hour_that_somebody_removed_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    """It was to be compressed; asking for it again and again would keep /health degraded for ever."""
    written(tmp_path, [10])
    path = journal_files(tmp_path / "BTC")[0]
    reports: queue.SimpleQueue[journal_keeper.Report] = queue.SimpleQueue()
    keeper = journal_keeper._Keeper(tmp_path, JournalConfig(), reports, [path])
    path.unlink()
    for _ in range(2):
        keeper._turn()
        assert reports.get().fault == ""


class Disk:
    """os.writev, until it is told to be full: then it takes a part of what it gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full: int | None = None
        self._writev = os.writev
        monkeypatch.setattr(os, "writev", self.writev)

    def writev(self, fd: int, parts: list[bytes]) -> int:
        if not self.full:
            if self.full == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._writev(fd, parts)
        return self._writev(fd, [b"".join(parts)[: self.full]])


@pytest.mark.parametrize("room", [0, 1, 40, 90])
def test_a_full_disk_stops_nobody_and_the_hole_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    disk = Disk(monkeypatch)
    journals = opened(tmp_path, compress=False)
    journal = journals.of("BTC")
    journal.append(FIRST, packed(FIRST, 2))
    disk.full = room
    for index in range(5):
        journal.append(FIRST + 2 + index, packed(FIRST + 2 + index, 1, START_NS + (index + 1) * 10**9))
    standing = journals.standing()
    assert (standing.state, standing.lost) == (2, 5)
    disk.full = None
    journal.append(FIRST + 7, packed(FIRST + 7, 3, START_NS + 9 * 10**9))
    assert (journals.standing().state, journals.standing().lost) == (1, 5)
    journals.close()
    events, holes, reader = read(tmp_path / "BTC")
    numbers = np.frombuffer(events, EVENT_DTYPE)["sequence"] - FIRST
    assert numbers.tolist() == [0, 1, 7, 8, 9]
    assert holes == [Hole(START_NS + 10**9, START_NS + 5 * 10**9, 5)]
    assert reader.losses == []
    said = [record.getMessage() for record in caplog.records if "journal" in record.getMessage()]
    assert len(said) == 2, "once when it begins, once when it is over"


def test_a_directory_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "BTC").write_text("in the way")
    journals = opened(tmp_path, compress=False)
    journal = journals.of("BTC")
    journal.append(FIRST, packed(FIRST, 2))
    assert journals.standing().state == 2
    (tmp_path / "BTC").unlink()
    journal.append(FIRST + 2, packed(FIRST + 2, 1, START_NS + 10**6))
    assert journals.standing().lost == 3, "not before a second has passed"
    journal.append(FIRST + 3, packed(FIRST + 3, 1, START_NS + 2 * 10**9))
    journals.close()
    events, holes, _ = read(tmp_path / "BTC")
    assert [hole.events for hole in holes] == [3]
    assert len(events) == EVENT_BYTES


def test_a_file_removed_while_it_is_written_is_left_and_another_begun(tmp_path: Path) -> None:
    journals = opened(tmp_path, compress=False)
    journal = journals.of("BTC")
    journal.append(FIRST, packed(FIRST, 1))
    wait_until(lambda: journals.standing().size, "the keeper has seen it")
    journal_files(tmp_path / "BTC")[0].unlink()
    (tmp_path / "BTC").rmdir()
    number = FIRST

    def again() -> bool:
        nonlocal number
        number += 1
        journal.append(number, packed(number, 1))
        return journals.standing().state == 1 and (tmp_path / "BTC").is_dir()

    wait_until(again, "another file")
    journals.close()
    events, _, reader = read(tmp_path / "BTC")
    assert np.frombuffer(events, EVENT_DTYPE)["sequence"][-1] == number
    assert reader.losses == []


@pytest.mark.finding("M30")
def test_a_disk_that_never_answers_a_sync_stalls_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, release = threading.Event(), threading.Event()

    def never(_fd: int) -> None:
        stuck.set()
        release.wait(30)

    monkeypatch.setattr(os, "fdatasync", never)
    journals = opened(tmp_path, compress=False)
    journal = journals.of("BTC")
    try:
        journal.append(FIRST, packed(FIRST, 1))
        assert stuck.wait(20)
        for index in range(1, 2000):
            journal.append(FIRST + index, packed(FIRST + index, 1, START_NS + index * HOUR_NS // 1000))
        assert journals.standing().lost == 0
    finally:
        release.set()
        journals.close()
    assert len(read(tmp_path / "BTC")[0]) == 2000 * EVENT_BYTES


@pytest.mark.finding("M30")
def test_the_keeper_is_told_and_tells_and_shares_nothing_else() -> None:
    """What its thread is given: where, how, and two queues of frozen messages. No lock, no callback, no object."""
    hints = journal_keeper.start_keeper.__annotations__
    assert hints.keys() - {"return"} == {"directory", "settings", "orders", "reports"}
    for message in (journal_keeper.Begun(Path("x")), journal_keeper.Ended(Path("x")), journal_keeper.Report()):
        with pytest.raises((AttributeError, TypeError)):
            message.path = Path("y")  # type: ignore[misc, union-attr]


def test_age_and_size_give_up_the_oldest_hours_and_never_the_open_one(tmp_path: Path) -> None:
    journals = opened(tmp_path, compress=False)
    for hour in range(40):
        for symbol in ("BTC", "ETH"):
            journals.of(symbol).append(FIRST + hour, packed(FIRST + hour, 1, START_NS + hour * HOUR_NS))
    journals.close()
    every = [*journal_files(tmp_path / "BTC"), *journal_files(tmp_path / "ETH")]
    left = journal_keeper.tidy(tmp_path, JournalConfig(keep_days=1.0), frozenset())
    kept = [*journal_files(tmp_path / "BTC"), *journal_files(tmp_path / "ETH")]
    assert len(kept) == 2 * 25
    assert left == sum(path.stat().st_size for path in kept)
    journal_keeper.tidy(tmp_path, JournalConfig(keep_bytes=2**20), frozenset())
    assert len(journal_files(tmp_path / "BTC")) == 25, "there is room"
    in_use = frozenset({journal_files(tmp_path / "BTC")[0]})
    size = sum(path.stat().st_size for path in kept)
    small = JournalConfig(keep_bytes=size // 2)
    journal_keeper.tidy(tmp_path, small, in_use)
    kept = [*journal_files(tmp_path / "BTC"), *journal_files(tmp_path / "ETH")]
    assert sum(path.stat().st_size for path in kept) <= size // 2
    assert in_use <= set(kept)
    assert every[39] in kept and every[79] in kept, "the newest stay"


def test_a_reader_written_from_the_document_alone_parses_the_bytes(tmp_path: Path) -> None:
    said = written(tmp_path, [2, 3])
    content = journal_files(tmp_path / "BTC")[0].read_bytes()
    document = (Path(__file__).parents[2] / "docs" / "journal.md").read_text()
    places = {}
    for section in ("FILE_HEADER", "BATCH_HEADER", "HOLE_RECORD"):
        table = document.split(f"### {section} (")[1].split("\n#")[0]
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 4 and cells[0].isdigit():
                places[section, cells[2].strip("`")] = (int(cells[0]), int(cells[1]))

    def number(base: int, section: str, name: str) -> int:
        offset, size = places[section, name]
        return int.from_bytes(content[base + offset : base + offset + size], "little")

    assert content[:8] == b"LQMAPJNL"
    at, found = number(0, "FILE_HEADER", "batches_at"), b""
    while at < len(content):
        assert content[at : at + 4] == b"LQMB"
        length = number(at, "BATCH_HEADER", "length")
        if number(at, "BATCH_HEADER", "kind") == 1:
            found += content[at + 32 : at + 32 + length]
        at += 32 + length
    assert found == said
    for section, dtype in (("FILE_HEADER", FILE_HEADER), ("BATCH_HEADER", BATCH_HEADER), ("HOLE_RECORD", HOLE_RECORD)):
        assert f"### {section} ({dtype.itemsize} bytes)" in document
        told = {name: place for (of, name), place in places.items() if of == section}
        fields: Any = dtype.fields
        assert told == {name: (fields[name][1], fields[name][0].itemsize) for name in dtype.names or ()}

"""A journal read by somebody who knows what was before: from there on, with a word about whatever is missing there."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from liqmap.config.records import JournalConfig
from liqmap.domain.enums import Kind, Source
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.store import journal_keeper
from liqmap.store.journal import Journals
from liqmap.store.journal_reader import Events, Hole, Resume, SymbolJournalReader, journal_files

START_NS = 1_790_000_000_000_000_000
MINUTE_NS = 60_000_000_000
EPOCH = 1 << 40
FIRST = 7 * EPOCH + 1


def batch(first: int, count: int) -> bytes:
    """One event a minute, so that a hundred are in three files."""
    events = (Event(START_NS + (first + i) % EPOCH * MINUTE_NS, price=1.0, kind=int(Kind.TRADE)) for i in range(count))
    return b"".join(event.packed(first + i) for i, event in enumerate(events))


def written(directory: Path, first: int = FIRST, batches: int = 10, compress: bool = False) -> Path:
    """`batches` of ten events each."""
    journals = Journals(directory, JournalConfig(compress=False), "test", Source.LIVE)
    for number in range(batches):
        journals.of("BTC").append(first + 10 * number, batch(first + 10 * number, 10))
    journals.close()
    for path in journal_files(directory / "BTC") if compress else ():
        journal_keeper.compress(path)
    return directory / "BTC"


def resumed(
    directory: Path, after: int, since_ns: int = 0, source: str = "live"
) -> tuple[SymbolJournalReader, list[int]]:
    """The reader, and the numbers of what it found; -1 for a hole."""
    reader = SymbolJournalReader(directory, Resume(after, START_NS, since_ns, source))
    found: list[int] = []
    for item in reader:
        found += [-1] if isinstance(item, Hole) else (item.events["sequence"] - np.uint64(FIRST - 1)).tolist()
    return reader, found


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_behind_any_event_is_read_and_nothing_else(tmp_path: Path, compress: bool) -> None:
    directory = written(tmp_path, compress=compress)
    assert len(journal_files(directory)) >= 2
    for known in range(1, 101):
        reader, found = resumed(directory, FIRST - 1 + known)
        assert found == list(range(known + 1, 101))
        assert reader.joins and reader.losses == []


def test_without_anything_known_all_is_read(tmp_path: Path) -> None:
    directory = written(tmp_path)
    assert resumed(directory, 0)[1] == list(range(1, 101))
    assert resumed(tmp_path / "nowhere", 0)[1] == []


def test_a_pruned_hour_is_a_hole_and_what_was_known_does_not_join(tmp_path: Path) -> None:
    directory = written(tmp_path)
    journal_files(directory)[0].unlink()
    left = int(next(item.events["sequence"][0] for item in SymbolJournalReader(directory) if isinstance(item, Events)))
    reader, found = resumed(directory, FIRST + 4)
    assert found == [-1, *range(left - FIRST + 1, 101)]
    assert not reader.joins
    for path in journal_files(directory):
        path.unlink()
    reader, found = resumed(directory, FIRST + 4)
    assert (found, reader.joins) == ([], False)


def test_another_ingest_tells_its_own_hole_unless_what_was_known_is_nowhere(tmp_path: Path) -> None:
    directory = written(tmp_path)
    written(tmp_path, FIRST + EPOCH, 2)
    after = EPOCH + 1
    assert resumed(directory, FIRST + 94)[1] == [*range(96, 101), *range(after, after + 20)]
    assert resumed(directory, FIRST + 99)[1] == [*range(after, after + 20)]
    for path in journal_files(directory)[:-1]:
        path.unlink()
    assert resumed(directory, FIRST + 94)[1][:2] == [-1, after]


def test_a_tail_that_is_just_being_written_is_not_there_yet(tmp_path: Path) -> None:
    directory = written(tmp_path)
    newest = journal_files(directory)[-1]
    whole = newest.read_bytes()
    for cut in (33, 40, 100):  # the END is 32 bytes
        newest.write_bytes(whole[:-cut])
        reader, found = resumed(directory, FIRST + 50)
        assert found == list(range(52, 91))
        assert reader.losses == []


def test_damage_in_the_middle_is_a_loss_and_a_hole(tmp_path: Path) -> None:
    directory = written(tmp_path)
    path = journal_files(directory)[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    reader, found = resumed(directory, FIRST + 2)
    assert found.count(-1) == 1
    assert found[0] == 4 and found[-1] == 100
    assert [loss.path for loss in reader.losses] == [path]


@pytest.mark.finding("M25")
def test_an_hour_that_cannot_be_read_costs_that_hour_and_is_reported(tmp_path: Path) -> None:
    directory = written(tmp_path, batches=20)
    first, second, *_ = journal_files(directory)
    second.write_bytes(b"nothing of the kind")
    reader, found = resumed(directory, FIRST + 2)
    assert found[0] == 4 and found[-1] == 200 and found.count(-1) == 1
    assert "does not begin like a journal" in str(reader.losses[0])
    journal_keeper.compress(first)
    packed = journal_files(directory)[0]
    content = bytearray(packed.read_bytes())
    content[len(content) * 2 // 3 :] = bytes(len(content) - len(content) * 2 // 3)
    packed.write_bytes(content)
    reader, found = resumed(directory, FIRST + 30)
    assert -1 in found and found[-1] == 200
    assert any(loss.path == packed for loss in reader.losses)
    with pytest.raises((EOFError, gzip.BadGzipFile, OSError)):
        gzip.decompress(bytes(content))


def test_what_is_older_or_of_another_market_is_not_read(tmp_path: Path) -> None:
    directory = written(tmp_path)
    assert resumed(directory, 0, START_NS + 70 * MINUTE_NS)[1] == list(range(70, 101))
    reader, found = resumed(directory, 0, source="simulated")
    assert found == []
    assert all("of a live market" in str(loss) for loss in reader.losses)


def test_the_events_are_those_that_were_written(tmp_path: Path) -> None:
    directory = written(tmp_path)
    reader = SymbolJournalReader(directory, Resume(FIRST + 12, START_NS, 0, "live"))
    events = np.concatenate([item.events for item in reader if isinstance(item, Events)])
    whole = np.frombuffer(b"".join(batch(FIRST + 10 * number, 10) for number in range(10)), EVENT_DTYPE)
    assert events.tobytes() == whole[13:].tobytes()

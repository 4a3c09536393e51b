"""Replay of a quiet stretch of journal: three symbols, compressed files, engine, digest and frames on disk."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from liqmap.backtest.replay import Replay
from liqmap.config.records import JournalConfig
from liqmap.domain.enums import Kind, Source, TakerSide, Topic, Venue
from liqmap.domain.event import EVENT_DTYPE
from liqmap.store.journal import Journals
from liqmap.store.journal_keeper import compress
from liqmap.store.journal_reader import Events, SymbolJournalReader, journal_files
from tests.bench.table import Row
from tests.unit.engine_tape import BTC

SYMBOLS = ("BTC", "ETH", "SOL")
PER_SECOND = 30
START_NS = 1_790_000_000_000_000_000 // (3600 * 10**9) * (3600 * 10**9)


def quiet_events(seconds: int) -> np.ndarray:
    """Of one symbol: a TICK each quarter, a mark of each venue each second, open interest each 10 s, trades."""
    count = seconds * PER_SECOND
    events = np.zeros(count, EVENT_DTYPE)
    for name in ("price", "quantity", "extra"):
        events[name] = np.nan
    number = np.arange(count)
    second, place = number // PER_SECOND, number % PER_SECOND
    events["sequence"] = number + 1
    events["receive_ns"] = START_NS + second * 10**9 + place * (10**9 // PER_SECOND)
    events["venue_ms"] = events["receive_ns"] // 10**6 - 40
    events["detail"], events["instrument"] = -1, 0
    price = 60_000.0 + np.round(40.0 * np.sin(second / 400.0), 1)
    tick, mark = place % 8 == 0, (place > 0) & (place < 4)
    level = (place == 4) & (second % 10 == 0)
    trade = ~(tick | mark | level)
    events["kind"] = np.select([tick, mark, level], [Kind.TICK, Kind.MARK_PRICE, Kind.OPEN_INTEREST], Kind.TRADE)
    events["topic"] = np.select([tick, mark, level], [0, Topic.MARK_PRICE, Topic.OPEN_INTEREST], Topic.TRADE)
    events["venue"] = np.where(tick, 0, np.where(level, 1 + second // 10 % 3, Venue.BINANCE))
    events["price"][mark | trade] = price[mark | trade]
    events["quantity"][trade] = 0.02
    events["quantity"][level] = 79_000.0 + second[level] * 0.1
    events["side"][trade] = np.where(place[trade] % 2, TakerSide.BUY, TakerSide.SELL)
    return events


def rows(effort: float) -> Iterator[Row]:
    """Six hours at full effort."""
    seconds = max(600, int(6 * 3600 * effort))
    events = quiet_events(seconds)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        journals = Journals(root / "journal", JournalConfig(compress=False), "bench", Source.SIMULATED)
        for symbol in SYMBOLS:
            for start in range(0, len(events), 8):  # batches as short as a quiet market's
                batch = events[start : start + 8]
                journals.of(symbol).append(int(batch["sequence"][0]), batch.tobytes())
        journals.close()
        packed = [compress(path) for symbol in SYMBOLS for path in journal_files(root / "journal" / symbol)]
        size = sum(path.stat().st_size for path in packed)
        replay = Replay(lambda _symbol: BTC, root)
        began_s = time.perf_counter()
        for symbol in SYMBOLS:
            for item in SymbolJournalReader(root / "journal" / symbol):
                assert isinstance(item, Events)
                replay.feed(symbol, item.events)
        replay.close()
        took_s = time.perf_counter() - began_s
    ratio = seconds / took_s
    told = f"{ratio:,.0f}×, {replay.events / took_s / 1000:,.0f} k events/s, {size / replay.events:.1f} B/event packed"
    yield Row("replay of a quiet journal, 3 symbols", "real time", "≥ 1,000×", told, ratio >= 1000)

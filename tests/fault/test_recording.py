"""A recording made over real sockets, outages and bad frames in it, plays again to the events that were journalled."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from liqmap.backtest.replay import Replay
from liqmap.clock import SystemClock
from liqmap.config import Config
from liqmap.domain.enums import Kind, PositionSide, Source, Venue
from liqmap.domain.event import EVENT_DTYPE
from liqmap.ingest.offline import played
from liqmap.ingest.recorded_turns import RecordedTurns
from liqmap.ingest.recording import Recording
from liqmap.store.capture import describe
from liqmap.store.journal_reader import Events, SymbolJournalReader
from tests.fault.test_ingest_sockets import FAST, TRADED, config_of, trade_everywhere
from tests.unit.engine_tape import BTC
from tests.venue_servers import RunningVenues, ScriptedMarket, venue_servers

DEADLINE_S = 30.0


def until(recording: Recording, condition: Callable[[], object], what: str) -> None:
    """Record until the condition holds. Fails after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        recording.turn()


def quick(venues: RunningVenues, *symbols: str, **ingest: Any) -> Config:
    """A configuration whose polls do not make a test wait."""
    config_of(venues, *symbols)
    polls = {venue.name.lower(): {"open_interest_poll_s": 0.3} for venue in TRADED}
    return venues.config(ingest=FAST | ingest, symbols={symbol: {} for symbol in symbols}, venues=polls)


def all_up(recording: Recording, venues: RunningVenues, *symbols: str) -> Callable[[], bool]:
    def up() -> bool:
        trade_everywhere(venues, *symbols)
        return not any(state.missing for state in recording.feeds.feeds.values())

    return up


def journalled(directory: Path, symbol: str) -> NDArray[np.void]:
    reader = SymbolJournalReader(directory / "journal" / symbol)
    events = [item.events for item in reader if isinstance(item, Events)]
    assert reader.losses == []
    return np.concatenate(events)


def captures(directory: Path) -> list[Path]:
    return sorted((directory / "capture").iterdir())


def played_again(directory: Path, into: Path) -> dict[str, NDArray[np.void]]:
    events: dict[str, list[NDArray[np.void]]] = {}
    turns = RecordedTurns(captures(directory))
    for batch in played(turns, into):
        for symbol, taken in batch.items():
            events.setdefault(symbol, []).append(taken)
    assert turns.losses == 0
    return {symbol: np.concatenate(taken) for symbol, taken in events.items()}


def without_ticks(events: NDArray[np.void]) -> list[Any]:
    """Everything but the sequence number, of every event that is no TICK."""
    names = [name for name in EVENT_DTYPE.names or () if name != "sequence"]
    said = events[events["kind"] != Kind.TICK]
    return [repr(row) for row in said[names].tolist()]


def digest_of(events: dict[str, NDArray[np.void]]) -> str:
    replay = Replay(lambda _symbol: BTC)
    for symbol, taken in events.items():
        replay.feed(symbol, taken)
    return replay.close()


def test_a_recording_plays_again_to_what_was_journalled(tmp_path: Path) -> None:
    markets = [ScriptedMarket(symbol, price) for symbol, price in (("BTC", 60_000.0), ("ETH", 3_000.0))]
    with venue_servers(*markets) as venues:
        config = quick(venues, "BTC", "ETH")
        recording = Recording(config, tmp_path / "made", Source.SIMULATED, SystemClock())
        until(recording, all_up(recording, venues, "BTC", "ETH"), "all feeds")
        for number, venue in enumerate(TRADED, start=1):
            for kind in ("truncated", "bad_utf8", "not_json"):
                venues.fault(venue, {"fault": "malformed", "kind": kind})
            markets[0].liquidate(venue, PositionSide.LONG, price=58_000.0, fill=58_300.0, qty_base=1.5)

            def bad(least: int = 3 * number) -> bool:
                trade_everywhere(venues, "BTC", "ETH")
                return recording.feeds.quarantined >= least

            until(recording, bad, "bad frames")
            venues.fault(venue, {"fault": "disconnect"})
        connects = sum(source.reconnects for source in recording.feeds.sources.values())
        until(
            recording,
            lambda: sum(source.reconnects for source in recording.feeds.sources.values()) >= connects + 3,
            "lost connections",
        )
        until(recording, all_up(recording, venues, "BTC", "ETH"), "all feeds again")
        done = recording.close()
    assert done.lost_frames == done.lost_events == 0
    again = played_again(tmp_path / "made", tmp_path / "again")
    assert again.keys() == {"BTC", "ETH"}
    for symbol, events in again.items():
        was = journalled(tmp_path / "made", symbol)
        kinds = set(was["kind"].tolist())
        assert {Kind.TRADE, Kind.MARK_PRICE, Kind.OPEN_INTEREST, Kind.GAP} <= kinds
        assert without_ticks(events) == without_ticks(was)
    assert Kind.LIQUIDATION in set(journalled(tmp_path / "made", "BTC")["kind"].tolist())
    assert digest_of(again) == digest_of({symbol: journalled(tmp_path / "made", symbol) for symbol in again})
    told = json.loads((tmp_path / "made" / "recording.json").read_text())
    assert told["ended"] and told["source"] == "simulated"
    assert told["events"] == {symbol: len(journalled(tmp_path / "made", symbol)) for symbol in ("BTC", "ETH")}


def test_a_recording_is_a_capture_like_any_other(tmp_path: Path) -> None:
    with venue_servers() as venues:
        recording = Recording(quick(venues, "BTC"), tmp_path, Source.SIMULATED, SystemClock())
        until(recording, all_up(recording, venues, "BTC"), "all feeds")
        recording.close()
    held = describe(captures(tmp_path)[0])
    assert held.losses == 0
    assert set(held.venues) == {Venue.BINANCE, Venue.BYBIT, Venue.OKX}
    assert "BTC-USDT-SWAP" in held.instruments[Venue.OKX]
    assert any("openInterest" in path for path in held.requests[Venue.BINANCE])


@pytest.mark.parametrize("cut", [0.3, 0.7])
def test_a_torn_recording_is_used_up_to_the_tear(tmp_path: Path, cut: float) -> None:
    with venue_servers() as venues:
        recording = Recording(quick(venues, "BTC"), tmp_path / "made", Source.SIMULATED, SystemClock())
        until(recording, all_up(recording, venues, "BTC"), "all feeds")
        begun = time.monotonic()
        until(recording, lambda: time.monotonic() > begun + 2.5, "some members")
        recording.close()
    path = captures(tmp_path / "made")[0]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    turns = RecordedTurns([path])
    events = [batch["BTC"] for batch in played(turns, tmp_path / "again") if "BTC" in batch]
    assert turns.losses >= 1
    was, again = without_ticks(journalled(tmp_path / "made", "BTC")), without_ticks(np.concatenate(events))
    assert 0 < len(again) < len(was)
    assert was[: len(again)] == again

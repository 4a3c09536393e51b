"""A recording: the parts of ingest, listening, with a journal and a capture and nobody behind them.

    recording = Recording(config, directory, Source.LIVE, SystemClock())
    while …: recording.turn()
    recording.close()

Below `directory`: capture/, journal/SYMBOL/, and recording.json, which says what it is.
"""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from liqmap import __version__
from liqmap.clock import Clock
from liqmap.config import Config
from liqmap.config.digest import config_digest
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Source
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.fetcher import RequestsFetcher
from liqmap.ingest.handoff import Handoff
from liqmap.ingest.keeping import Keeping
from liqmap.ingest.lanes import Lane
from liqmap.ingest.router import Router
from liqmap.ingest.switchboard import Surroundings, Switchboard
from liqmap.ingest.transport import WebsocketConnector
from liqmap.store.atomic import write_atomic
from liqmap.store.quarantine import Quarantine

DESCRIPTION: Final = "recording.json"
_STOP_S: Final = 3.0
_LONGEST_TURN_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is. `fault`: why the disk does not take it, "" when it does."""

    frames: int
    events: int
    size: int
    gaps: int
    lost_frames: int
    lost_events: int
    fault: str


class _Nobody:
    """Behind the journal there is no ring."""

    def write(self, events: bytes) -> int:
        """Let them go."""
        return len(events)


class Recording:
    """Owned by the thread that makes it. Raises OSError when the directory cannot be made."""

    def __init__(self, config: Config, directory: Path, source: Source, clock: Clock) -> None:
        replace = msgspec.structs.replace
        config = replace(
            config,
            journal=replace(config.journal, enabled=True),
            capture=replace(config.capture, enabled=True),
        )
        settings = config.ingest
        directory.mkdir(parents=True, exist_ok=True)
        self._config = config
        self._directory = directory
        self._source = source
        self._clock = clock
        self._began_ns = clock.now_ns()
        self.feeds = Feeds(settings.silent_after_s)
        self._handoff = Handoff(settings.queue_frames)
        quarantine = Quarantine(directory / "quarantine", settings.quarantine_frames, settings.quarantine_bytes)
        self.router = Router(settings, clock, self._handoff, self.feeds, quarantine)
        self._keeping = Keeping(config, directory, source, self.router, clock)
        self._lanes: dict[str, Lane] = {}
        around = Surroundings(
            clock=clock,
            accounts=AccountBook(config, clock),
            handoff=self._handoff,
            connect=WebsocketConnector(settings.connect_timeout_s, settings.max_frame_bytes, clock.now_ns),
            fetcher=lambda: RequestsFetcher(settings.connect_timeout_s),
            draw=random.random,
            lane=self._lane,
            use=self._keeping.use,
            desk_draw=self._keeping.desk_draw,
        )
        self._switchboard = Switchboard(self.router, config, shipped_instruments(), around)
        self.router.replies.take_listing = self._switchboard.take_listing
        self._switchboard.apply(config)
        self._describe(ended=False)

    def _lane(self, symbol: str) -> Lane:
        self._lanes[symbol] = Lane(symbol, _Nobody(), 1, self._keeping.journal(symbol))
        return self._lanes[symbol]

    def turn(self) -> None:
        """Deal with what came; waits a quarter of a second at most."""
        if self.router.turn(min(_LONGEST_TURN_S, self.router.until_tick_s)):
            self._switchboard.check()
            self._keeping.tell()

    @property
    def fault(self) -> str:
        """Why the disk does not take it, "" when it does."""
        return self._keeping.fault

    def progress(self) -> Progress:
        """How far it is."""
        journal, capture = self.feeds.journal, self.feeds.capture
        return Progress(
            frames=self.router.frames,
            events=sum(lane.next_sequence - 1 for lane in self._lanes.values()),
            size=journal.size + capture.size,
            gaps=sum(state.gaps for state in self.feeds.feeds.values()),
            lost_frames=capture.lost,
            lost_events=journal.lost,
            fault=self._keeping.fault,
        )

    def close(self) -> Progress:
        """End every connection and every file; writes the description. Raises OSError when that cannot be written."""
        self._switchboard.stop(_STOP_S, lambda: self.router.turn(0.05))
        self.router.stop()
        self._keeping.close()
        self._describe(ended=True)
        return self.progress()

    def _describe(self, *, ended: bool) -> None:
        done = self.progress()
        about: dict[str, Any] = {
            "format": "liqmap recording 1",
            "liqmap": __version__,
            "source": self._source.name.lower(),
            "config_digest": config_digest(self._config),
            "ended": ended,
            "from_ms": self._began_ns // 1_000_000,
            "to_ms": self.router.time.now_ns // 1_000_000,
            "symbols": list(self._config.enabled_symbols),
            "instruments": [
                {"venue": one.venue.name.lower(), "name": one.name, "symbol": one.symbol, "number": one.number}
                for one in self.router.instruments
            ],
            "frames": done.frames,
            "events": {symbol: lane.next_sequence - 1 for symbol, lane in self._lanes.items()},
            "gaps": done.gaps,
            "lost_frames": done.lost_frames,
            "lost_events": done.lost_events,
            "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_atomic(self._directory / DESCRIPTION, orjson.dumps(about, option=orjson.OPT_INDENT_2))

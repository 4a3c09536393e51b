"""The router without sockets: frames of a recording in, the events of each symbol out.

Adapters, tables of contracts, numbering, gaps and all of the router's own logic are those of the daemon; only the
clock says what the recording says, and no link and no poll is ever started.
"""

import queue
import random
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.clock import ManualClock
from liqmap.config import Config
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import GapReason, Kind
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.fetcher import FetchError, Reply
from liqmap.ingest.handoff import Handoff, Message
from liqmap.ingest.lanes import Lane
from liqmap.ingest.recorded_turns import Configured, LeftOut, Step, Stopped, Turn
from liqmap.ingest.router import Router
from liqmap.ingest.switchboard import Surroundings, Switchboard
from liqmap.ingest.transport import CannotConnect, Transport
from liqmap.store.quarantine import Quarantine

_MS: Final = 1_000_000


class Gathered:
    """A ring that is emptied by whoever looks."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, events: bytes) -> int:
        """Append."""
        self._written.append(events)
        return len(events)

    def drain(self) -> NDArray[np.void]:
        """What came since the last look."""
        events = np.frombuffer(b"".join(self._written), dtype=EVENT_DTYPE)
        self._written.clear()
        return events


class _Nowhere:
    """What a link or a poll would reach."""

    def __call__(self, url: str) -> Transport:
        raise CannotConnect(f"{url} is not asked: this is a recording")

    def get(self, url: str) -> Reply:
        raise FetchError(f"{url} is not asked: this is a recording")

    def close(self) -> None:
        """Nothing is open."""


class _InOrder(Handoff):
    """Everything is taken in the order in which it was given: that was decided when the recording was made."""

    def __init__(self) -> None:
        super().__init__(1)
        self._given: list[Message] = []

    def announce(self, message: Message) -> None:
        """Hand over, frames too."""
        self._given.append(message)

    def take(self, timeout_s: float) -> list[Message]:  # noqa: ARG002
        """All of it, without waiting."""
        given, self._given = self._given, []
        return given


class OfflineIngest:
    """Ingest of a recording that begins at `at_ns` (engine time) and `monotonic_ns`. `directory`: for bad frames."""

    def __init__(self, config: Config, directory: Path, at_ns: int, monotonic_ns: int, seed: int = 0) -> None:
        settings = config.ingest
        self._clock = ManualClock(at_ns)
        self._clock.set(at_ns, monotonic_ns)
        self._handoff = _InOrder()
        quarantine = Quarantine(directory / "quarantine", settings.quarantine_frames, settings.quarantine_bytes)
        self.router = Router(settings, self._clock, self._handoff, Feeds(settings.silent_after_s), quarantine)
        self._sinks: dict[str, Gathered] = {}
        self._next: dict[str, Lane] = {}
        nowhere = _Nowhere()
        around = Surroundings(
            clock=self._clock,
            accounts=AccountBook(config, self._clock, directory / "bans.json"),
            handoff=self._handoff,
            connect=nowhere,
            fetcher=lambda: nowhere,
            draw=random.Random(0).random,
            lane=self._lane,
            desk_draw=random.Random(seed).random,
            start=_not_started,
        )
        self._switchboard = Switchboard(self.router, config, shipped_instruments(), around)
        self.router.replies.take_listing = self._switchboard.take_listing
        self.apply(config)

    def apply(self, config: Config) -> None:
        """From now on this configuration holds."""
        self._switchboard.apply(config)
        self._forget_orders()

    def give(self, message: Message) -> None:
        """The next thing that was received; handled in the next turn."""
        self._handoff.announce(message)

    def turn(self, wall_ns: int, monotonic_ns: int) -> None:
        """Handle what was given, with clocks that say this."""
        self._clock.set(wall_ns, monotonic_ns)
        self.router.turn(0.0)
        self._forget_orders()

    def stop(self) -> None:
        """The recording was ended by whoever made it."""
        self.router.stop()

    def leave_out(self, hole: LeftOut) -> None:
        """Frames are missing here: whatever they said is not known, and every symbol is told so."""
        at_ns = self.router.time.at(hole.to_ns)
        gap = Event(
            at_ns, hole.from_ns // _MS, detail=at_ns // _MS, kind=int(Kind.GAP), side=int(GapReason.NOT_RECORDED)
        )
        for lane in self.router.lanes.values():
            lane.add(gap)

    def drain(self) -> dict[str, NDArray[np.void]]:
        """Events by symbol since the last look; symbols without any are left out."""
        taken = {symbol: sink.drain() for symbol, sink in self._sinks.items()}
        return {symbol: events for symbol, events in taken.items() if len(events)}

    def _lane(self, symbol: str) -> Lane:
        first = self._next[symbol].next_sequence if symbol in self._next else 1
        sink = self._sinks.setdefault(symbol, Gathered())
        self._next[symbol] = Lane(symbol, sink, first)
        return self._next[symbol]

    def _forget_orders(self) -> None:
        """What links would be told; nobody reads it."""
        for listener in self.router.listeners.values():
            while not listener.orders.empty():
                try:
                    listener.orders.get_nowait()
                except queue.Empty:
                    break


def _not_started(_thread: threading.Thread) -> None:
    """Nobody listens."""


def played(steps: Iterable[Step], directory: Path) -> Iterator[dict[str, NDArray[np.void]]]:
    """The events of a recording, by symbol, turn by turn. `directory`: where bad frames are set aside."""
    ingest: OfflineIngest | None = None
    for step in steps:
        if isinstance(step, Configured):
            if ingest is None:
                ingest = OfflineIngest(step.config, directory, step.engine_ns, step.monotonic_ns, step.seed)
            else:
                ingest.apply(step.config)
        elif ingest is None:
            continue  # a recording whose beginning is lost: nothing can be said before the configuration is known
        elif isinstance(step, Turn):
            ingest.turn(step.wall_ns, step.monotonic_ns)
        elif isinstance(step, Stopped):
            ingest.stop()
        elif isinstance(step, LeftOut):
            ingest.leave_out(step)
        else:
            ingest.give(step)
            continue
        if events := ingest.drain():
            yield events

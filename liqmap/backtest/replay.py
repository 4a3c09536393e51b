"""Events of any number of symbols through their engines, to minute frames and one digest.

The events alone determine the frames: however they are cut into batches and however fast they come, the digest is the
same. Symbols do not know of each other, so the order in which they are fed does not matter either.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.backtest.frame_bytes import FrameDigest
from liqmap.backtest.frame_files import FrameFiles
from liqmap.domain.enums import GapReason, Kind
from liqmap.domain.event import EVENT_DTYPE, Event
from liqmap.engine.engine import Engine
from liqmap.engine.spec import EngineSpec

_MS: Final = 1_000_000
_TOGETHER: Final = 16_384
"""Events of one symbol that are applied at once."""


@dataclass(slots=True)
class _Track:
    engine: Engine
    digest: FrameDigest
    files: FrameFiles | None
    waiting: list[NDArray[np.void]] = field(default_factory=list)
    waits: int = 0


class Replay:
    """`spec_of`: the engine of a symbol. `directory`: where frames go, None: nowhere."""

    def __init__(self, spec_of: Callable[[str], EngineSpec], directory: Path | None = None) -> None:
        self._spec_of = spec_of
        self._directory = directory
        self._tracks: dict[str, _Track] = {}
        self.events = 0
        self.frames = 0

    def feed(self, symbol: str, events: NDArray[np.void]) -> None:
        """The next events (EVENT_DTYPE) of a symbol. Raises OSError when frames cannot be written."""
        track = self._tracks.get(symbol) or self._begin(symbol)
        track.waiting.append(events)
        track.waits += len(events)
        self.events += len(events)
        if track.waits >= _TOGETHER:
            self._apply(track)

    def _apply(self, track: _Track) -> None:
        """Whatever waits, in one batch: the engine is asked a thousand times less often than a quiet market speaks."""
        if not track.waits:
            return
        for frame in track.engine.apply(np.concatenate(track.waiting)):
            self.frames += 1
            track.digest.add(frame)
            if track.files is not None:
                track.files.add(frame)
        track.engine.drain_liquidations()
        track.waiting, track.waits = [], 0

    def hole(self, symbol: str, from_ns: int, to_ns: int) -> None:
        """Between these engine times events of the symbol are missing."""
        track = self._tracks.get(symbol) or self._begin(symbol)
        gap = Event(to_ns, from_ns // _MS, detail=to_ns // _MS, kind=int(Kind.GAP), side=int(GapReason.NOT_RECORDED))
        last = int(track.waiting[-1]["sequence"][-1]) if track.waiting else track.engine.sequence
        self.feed(symbol, np.frombuffer(gap.packed(last), EVENT_DTYPE))
        self.events -= 1

    def close(self) -> str:
        """Write what waits; the digest of all frames of all symbols. Raises OSError."""
        whole = hashlib.sha256()
        for symbol, track in sorted(self._tracks.items()):
            self._apply(track)
            if track.files is not None:
                track.files.flush()
            whole.update(f"{symbol} {track.digest.hexdigest()}\n".encode())
        return whole.hexdigest()

    def _begin(self, symbol: str) -> _Track:
        files = FrameFiles(self._directory, symbol) if self._directory is not None else None
        self._tracks[symbol] = _Track(Engine(self._spec_of(symbol)), FrameDigest(), files)
        return self._tracks[symbol]

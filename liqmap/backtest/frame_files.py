"""Minute frames on disk: `frames_BTC_0001.npz` and so on, numpy archives of columns, one row per frame.

Columns carry the names of the fields of a frame (docs/layout.md, MINUTE): `minute_ms`, `open` …, `projection_usd` and
`evidence_usd` as [frame, side, cell], float32 dollars. A file holds at most FRAMES frames and one window: the price of
cell i is (first_bucket[0] + i) × step[0]. Liquidations are in the columns `liquidation_*`, one row each.
Zones are not among them.
"""

import dataclasses
from pathlib import Path
from typing import Any, Final

import numpy as np

from liqmap.engine.frames import Facts, Liquidation, MinuteFrame

FRAMES: Final = 240


class FrameFiles:
    """Writes the frames of one symbol. Raises OSError when the disk does not take them."""

    def __init__(self, directory: Path, symbol: str) -> None:
        self._directory = directory
        self._symbol = symbol
        self._frames: list[MinuteFrame] = []
        self._files = 0

    def add(self, frame: MinuteFrame) -> None:
        """The next frame."""
        if self._frames and (len(self._frames) >= FRAMES or _window(frame) != _window(self._frames[0])):
            self.flush()
        self._frames.append(frame)

    def flush(self) -> None:
        """Write what waits."""
        if not self._frames:
            return
        self._files += 1
        path = self._directory / f"frames_{self._symbol}_{self._files:04d}.npz"
        np.savez_compressed(path, **_columns(self._frames))
        self._frames = []


def _window(frame: MinuteFrame) -> tuple[int, int]:
    return frame.facts.first_bucket, frame.facts.buckets


def _columns(frames: list[MinuteFrame]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        field.name: np.array([getattr(frame.facts, field.name) for frame in frames])
        for field in dataclasses.fields(Facts)
    }
    for field in dataclasses.fields(MinuteFrame):
        if field.name not in ("facts", "liquidations", "zones"):
            columns[field.name] = np.stack([np.asarray(getattr(frame, field.name)) for frame in frames])
    rows = [liquidation for frame in frames for liquidation in frame.liquidations]
    for field in dataclasses.fields(Liquidation):
        columns[f"liquidation_{field.name}"] = np.array([getattr(row, field.name) for row in rows])
    return columns

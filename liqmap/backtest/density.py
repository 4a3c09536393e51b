"""What each model said at the end of chosen minutes, as a table: `ts_ms,model,position_side,price,usd`.

Projection only, all tiers, the buckets within REACH of the mark that hold something. Absolute dollars; relative where
no level of open interest was known.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np

from liqmap.backtest.run import end_of, window_of
from liqmap.domain.enums import Model
from liqmap.domain.grid import Grid
from liqmap.engine.frames import MinuteFrame

REACH: Final = 0.10
HEADER: Final = "ts_ms,model,position_side,price,usd\n"
_MINUTE_MS: Final = 60_000
_SIDES: Final = ("long", "short")


class DensityTable:
    """Writes while the run goes on; gzip where the name ends in .gz. Raises OSError."""

    def __init__(self, path: Path, models: Sequence[Model], grid: Grid, every_min: int) -> None:
        opened = gzip.open if path.suffix == ".gz" else open
        self._file: IO[str] = opened(path, "wt", encoding="ascii")
        self._file.write(HEADER)
        self._models = models
        self._grid = grid
        self._every_ms = every_min * _MINUTE_MS
        self.times = 0

    def watch(self, frame: MinuteFrame) -> None:
        """Write the minute down if it ends at a multiple of the interval and its price is known."""
        ts_ms, mark = end_of(frame), frame.facts.mark_price
        if ts_ms % self._every_ms or not mark > 0:
            return
        self.times += 1
        prices = window_of(frame, self._grid).prices()
        near = np.flatnonzero(np.abs(prices / mark - 1) <= REACH)
        for model in self._models:
            if not frame.facts.projection_known[model - 1]:
                continue
            for side, word in enumerate(_SIDES):
                usd = frame.projection_usd[model - 1, side, near]
                rows = zip(prices[near][usd > 0].tolist(), usd[usd > 0].tolist(), strict=True)
                name = model.name.lower()
                self._file.writelines(f"{ts_ms},{name},{word},{price:.10g},{dollars:.6g}\n" for price, dollars in rows)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

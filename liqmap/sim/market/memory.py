"""What the venues will tell of the time before the market opened: marks, open interest and volumes.

The marks are those of the path that people came along (`past`) and of the warm-up, so that whoever builds a map from
them can find the people. Nobody simulated the open interest and the volumes of the path: the first wanders back from
the level at its end as it will wander later, the second is the ordinary turnover, more of it when price moves.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import TakerSide, Venue
from liqmap.sim.market.brackets import Floats
from liqmap.sim.market.past import STEP_MS
from liqmap.sim.market.price import DAY_MS
from liqmap.sim.tape import Past

_HALF_LIFE_MS: Final = DAY_MS / 2
_LEAST_ACTIVITY, _MOST_ACTIVITY = 0.55, 1.7
_TILT: Final = 0.3
"""How far takers lean towards where price goes: from half to half plus this."""


class Memory:
    """Of one market. Lots count one side."""

    def __init__(
        self,
        path: Floats,
        end_ms: int,
        level_lots: Mapping[Venue, int],
        habits: tuple[float, float],
        generator: np.random.Generator,
    ) -> None:
        """`path` ends at `end_ms`; `habits`: turnover of the level in a day, spread of the level."""
        turnover_per_day, spread = habits
        self._times = (end_ms - STEP_MS * np.arange(len(path) - 1, -1, -1)).tolist()
        self._marks = path.tolist()
        returns = np.diff(np.log(path), prepend=np.log(path[0]))
        usual = max(float(np.abs(returns).mean()), 1e-9)
        activity = np.clip(np.sqrt(np.abs(returns) / usual), _LEAST_ACTIVITY, _MOST_ACTIVITY)
        bought_share = 0.5 + _TILT * np.tanh(returns / usual)
        self._lots: dict[Venue, list[float]] = {}
        self._bought: dict[Venue, list[float]] = {}
        self._sold: dict[Venue, list[float]] = {}
        for venue, level in level_lots.items():
            traded = level * turnover_per_day * STEP_MS / DAY_MS * activity
            self._lots[venue] = (level * np.exp(_wandered(len(path), spread, generator))).tolist()
            self._bought[venue] = (traded * bought_share).tolist()
            self._sold[venue] = (traded * (1.0 - bought_share)).tolist()
        self._known = len(path)

    def add(
        self, now_ms: int, mark: float, open_lots: Mapping[Venue, int], trades: Mapping[Venue, NDArray[np.void]]
    ) -> None:
        """One tick of the warm-up; `trades` (tape.TRADES) were printed in it."""
        self._times.append(now_ms)
        self._marks.append(mark)
        for venue, lots in open_lots.items():
            bought = trades[venue]["taker_side"] == int(TakerSide.BUY)
            base = trades[venue]["qty_base"]
            self._lots[venue].append(lots)
            self._bought[venue].append(float(base[bought].sum()))
            self._sold[venue].append(float(base[~bought].sum()))

    def told(self, lot_base: float) -> dict[Venue, Past]:
        """All of it, by venue."""
        units = np.where(np.arange(len(self._times)) < self._known, lot_base, 1.0)  # prints are counted in base already
        return {
            venue: Past(
                np.array(self._times, dtype=np.int64),
                np.array(self._marks),
                np.array(self._lots[venue]) * lot_base,
                np.array(self._bought[venue]) * units,
                np.array(self._sold[venue]) * units,
            )
            for venue in self._lots
        }


def _wandered(count: int, spread: float, generator: np.random.Generator) -> Floats:
    """Logarithms of the level against its last one, which is 0."""
    keep = 0.5 ** (STEP_MS / _HALF_LIFE_MS)
    steps = spread * np.sqrt(1.0 - keep * keep) * generator.standard_normal(count)
    steps[-1] = 0.0
    back, x = np.zeros(count), 0.0
    for i in range(count - 2, -1, -1):
        x = back[i] = keep * x + steps[i]
    return back

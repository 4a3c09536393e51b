"""Calibration: what was observed over what was expected, tier by tier, moves the weights of new positions.

Observed liquidations over-sample high leverage, so they are never counted as they come, nor attributed by how far they
lie from the price of the moment (that always says "the highest leverage"). Each one is attributed to the tiers by what
the inventory held within REACH cells of its trigger before price passed there; what was expected is what the inventory
lost in the same minute. At the end of a window, per side,

    f_i = (observed_i / realisation + a_i) / (expected_i + a_i)        a_i = ANCHOR * sum(expected) * prior_i
    w_i <- w_i * f_i ** eta, within the guard rails, normalised; half of the tallies is carried over

and the standing book is re-tiered by the same factors. The realisation (c phi) is the part of what leaves at its trigger
that is printed as a liquidation. It is held at its long-run value and never divided out of one window, because the level
of observed over expected is the only evidence on tiers that price never reached.

Before anything is applied the window and the weights it asks for are judged (`Verdict`); whatever is not CLEAR keeps the
old weights. Source: shared/model.md section 7.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.engine.frames import SIDES, Liquidation
from liqmap.engine.inventory import InventoryModel
from liqmap.engine.spec import significant

Floats = NDArray[np.float64]

REACH: Final = 3
ANCHOR: Final = 0.05
SHORTEST_MIN: Final = 120
LONGEST_MIN: Final = 240
FIRST_DAY_MIN: Final = 1440

"""The parameters that choose leverage tiers: their rows in a table, their check, and what they choose."""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from liqmap.api.errors import InvalidParameter
from liqmap.api.parameters import Number

LOWEST: Final = 1.0
HIGHEST: Final = 500.0

LEVERAGE_PARAMETERS: Final = (
    Number("min_leverage", "only tiers of at least this leverage are projected", low=LOWEST, high=HIGHEST),
    Number("max_leverage", "only tiers of at most this leverage are projected", low=LOWEST, high=HIGHEST),
)


class LeverageRange(Protocol):
    """A query with these parameters; None: no such bound."""

    @property
    def min_leverage(self) -> float | None:
        """The lowest leverage wanted."""

    @property
    def max_leverage(self) -> float | None:
        """The highest leverage wanted."""


def leverages_in_order(query: LeverageRange) -> None:
    """Raises InvalidParameter when the range is none."""
    low, high = query.min_leverage, query.max_leverage
    if low is not None and high is not None and low > high:
        raise InvalidParameter(
            f"min_leverage must not be above max_leverage, which is {high:.15g}",
            param="min_leverage",
            allowed={"minimum": LOWEST, "maximum": high},
        )


def chosen_tiers(symbol: str, leverages: Sequence[float] | NDArray[np.float64], query: LeverageRange) -> list[int]:
    """Which places of `leverages` the query wants. Raises InvalidParameter when there is none."""
    low = 0.0 if query.min_leverage is None else query.min_leverage
    high = np.inf if query.max_leverage is None else query.max_leverage
    chosen = [place for place, leverage in enumerate(leverages) if low <= leverage <= high]
    if not chosen:
        param = "min_leverage" if query.max_leverage is None else "max_leverage"
        allowed = [float(leverage) for leverage in leverages]
        raise InvalidParameter(f"{symbol} has no leverage tier in that range", param=param, allowed=allowed)
    return chosen

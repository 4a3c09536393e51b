"""What `make run` relies on: in the shipped demo new money comes in from the first minute, so a map appears soon."""

import numpy as np
import pytest

from liqmap import config
from liqmap.sim.worlds import open_market

START_MS = 1_795_000_000_000


@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
def test_open_interest_grows_in_the_first_minute_and_a_half_however_minutes_are_cut(symbol: str) -> None:
    market = open_market(config.parse({}).sim, symbol, START_MS)
    tapes = [market.advance(START_MS + 1000 * second) for second in range(151)]
    level = np.array([sum(venue.open_interest_base for venue in tape.venues.values()) for tape in tapes])
    for phase in range(60):
        edges = [0, *range(60 - phase, 91, 60)]
        assert np.diff(level[edges]).max() > 0, f"no growth in any minute when the clock starts {phase} s into one"

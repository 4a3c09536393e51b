"""Who is long and who is short at a venue, counted from the true positions of people (market makers left out)."""

import numpy as np

from liqmap.domain.enums import Venue
from liqmap.sim.market.positions import Rows
from liqmap.sim.tape import Positioning

TOP = 0.2
"""The accounts with the largest margin that venues call top traders; one position is one account here."""


def positioning(rows: Rows, venue: Venue) -> Positioning | None:
    """The shares at a venue; None where nobody holds anything."""
    here = rows[rows["venue"] == venue]
    if not len(here):
        return None
    long = here["sign"] > 0
    count = max(round(TOP * len(here)), 1)
    top = np.argpartition(here["margin_usd"], len(here) - count)[-count:]
    lots = here["qty_lots"][top]
    return Positioning(float(long.mean()), float(long[top].mean()), float(lots[long[top]].sum() / lots.sum()))

"""What the venues' margin tiers have in common: the request for each contract, and what a table of tiers must be."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated, Final
from urllib.parse import quote

from msgspec import Meta

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import InstrumentTable
from liqmap.exchanges.adapter import Malformed, PollPlan
from liqmap.exchanges.plans import configured

REQUEST: Final = "margins"
"""PollPlan.name is this and the contract."""

TierRate = Annotated[float, Meta(gt=0, lt=1)]
TierLeverage = Annotated[float, Meta(ge=1, le=1000)]
TierSize = Annotated[float, Meta(gt=0, le=1e15)]

Row = tuple[float | None, float, float]
"""Up to which size (None: open), maintenance margin rate, highest leverage."""


def plans_of(
    venue: Venue, url: str, named: Callable[[str], str], every_s: float, instruments: InstrumentTable, budget: str
) -> tuple[PollPlan, ...]:
    """One request per contract, so that one that is refused takes no other with it. `named`: what the URL calls a
    contract. None at all when `every_s` is 0."""
    if not every_s:
        return ()
    return tuple(
        PollPlan(
            venue,
            f"{REQUEST}.{instrument.name}",
            url + quote(named(instrument.name)),
            Topic.MARGINS,
            (symbol,),
            every_s,
            budget=budget,
        )
        for symbol, instrument in configured(instruments, venue)
    )


def checked(rows: Iterable[Row], where: str) -> tuple[Row, ...]:
    """The same rows, when they are a table: sizes rise, larger positions are never treated more mildly, and only the
    last tier is open. Raises Malformed, at `where`."""
    table = tuple(rows)
    if not table:
        raise Malformed("no tiers", where)
    for (lower, lower_mmr, lower_leverage), (upper, upper_mmr, upper_leverage) in pairwise(table):
        if lower is None or (upper is not None and upper <= lower):
            raise Malformed(f"two tiers up to {'any size' if lower is None else f'{lower:g}'}", where)
        if upper_mmr < lower_mmr or upper_leverage > lower_leverage:
            raise Malformed(f"the tier above {lower:g} is milder than the one below", where)
    return table

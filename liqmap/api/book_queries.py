"""What may be asked of the order books: parameters, and what of them makes no sense together."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec
from flask import Response

from liqmap.api.errors import InvalidParameter
from liqmap.api.parameters import Choice, Number, Parameter, Table, Whole
from liqmap.api.resource import Serving
from liqmap.client import Prices
from liqmap.domain.enums import Venue
from liqmap.domain.grid import Grid

FRAME: Final = "/orderbook_heatmap"
ALIAS: Final = "/v2/orderbook_heatmap_30s"
ALL: Final = "all"
VENUES: Final = tuple(venue.name.lower() for venue in Venue if venue != Venue.UNKNOWN)
WIDEST_PCT: Final = 10.0
COARSEST: Final = 1000
"""The coarsest step is so many of the symbol's own."""
EXTRA_DECIMALS: Final = 3
"""A step may have so many decimals more than the symbol's own."""
LARGEST_STRIDE: Final = 30


@dataclass(frozen=True, slots=True)
class FrameQuery:
    """None: no such condition. `range_pct` or both prices; made so by `normalised`."""

    symbol: str
    range_pct: float | None
    price_min: float | None
    price_max: float | None
    step: float | None
    venue: str
    format: str

    def prices(self) -> Prices:
        """The cells that are asked for."""
        return Prices(self.range_pct, self.price_min, self.price_max, self.step)


@dataclass(frozen=True, slots=True)
class HistoryQuery(FrameQuery):
    """And how far back, in which pieces."""

    minutes: int
    stride: int


Q = TypeVar("Q", bound=FrameQuery)


def frame_table(serving: Serving) -> Table[FrameQuery]:
    """Of the newest frame."""
    return Table(FrameQuery, _parameters(serving), check=_checked(serving))


def history_table(serving: Serving) -> Table[HistoryQuery]:
    """Of frames over time."""
    more = (
        Whole("minutes", "so far back from the end of the newest frame", 60, low=5, high=43_200),
        Whole("stride", "frames in a row: their mean, weighted by coverage", 1, low=1, high=LARGEST_STRIDE),
    )
    return Table(HistoryQuery, (*_parameters(serving), *more), check=_checked(serving))


def _parameters(serving: Serving) -> tuple[Parameter, ...]:
    words = f"half width around the middle, percent; {WIDEST_PCT:g} unless prices are given"
    return (
        serving.symbol_parameter(serving.default_symbol),
        Number("range_pct", words, low=0.1, high=WIDEST_PCT),
        Number("price_min", "instead of range_pct, with price_max: the lowest price", high=1e12),
        Number("price_max", "instead of range_pct, with price_min: the highest price", high=1e12),
        Number("step", "price step, the symbol's own or coarser; dollars are shared by overlap", low=1e-12, high=1e9),
        Choice("venue", "the order book of one venue, or of all together", ALL, choices=(ALL, *VENUES)),
        Choice("format", "json, or bin: packed columns", "json", choices=("json", "bin")),
    )


def _checked(serving: Serving) -> Callable[[FrameQuery], None]:
    def check(query: FrameQuery) -> None:
        _prices_make_sense(query)
        _step_can_be_made(serving, query)
        listened = listened_venues(serving, query.symbol)
        if query.venue != ALL and query.venue not in listened:
            raise InvalidParameter(
                f"no order book of {query.symbol} is followed at {query.venue}", param="venue", allowed=[ALL, *listened]
            )

    return check


def listened_venues(serving: Serving, symbol: str) -> list[str]:
    """The venues whose order book of the symbol is wanted by the configuration."""
    listed = msgspec.structs.asdict(serving.config.symbols[symbol].instruments)
    venues = msgspec.structs.asdict(serving.config.venues)
    return [name for name, venue in venues.items() if listed[name] and venue.enabled and venue.depth]


def _prices_make_sense(query: FrameQuery) -> None:
    low, high = query.price_min, query.price_max
    if (low is None) != (high is None):
        lacking = "price_min" if low is None else "price_max"
        raise InvalidParameter("give price_min and price_max together", param=lacking, allowed="a price")
    if low is None or high is None:
        return
    if query.range_pct is not None:
        allowed = ["range_pct", "price_min and price_max"]
        raise InvalidParameter("give range_pct, or price_min and price_max", param="range_pct", allowed=allowed)
    if low >= high:
        raise InvalidParameter(
            f"price_min must be below price_max, which is {high:.15g}",
            param="price_min",
            allowed={"minimum": 0.0, "maximum": high},
        )


def _step_can_be_made(serving: Serving, query: FrameQuery) -> None:
    if query.step is None:
        return
    own = Grid.of(serving.config.symbols[query.symbol].step)
    low, high = own.step, own.step * COARSEST
    if not low <= query.step <= high:
        raise InvalidParameter(
            f"step must be a number from {low:.15g}, the price step of {query.symbol}, to {high:.15g}",
            param="step",
            allowed={"minimum": low, "maximum": high},
        )
    if Grid.of(query.step).denominator > own.denominator * 10**EXTRA_DECIMALS:
        decimals = len(str(own.denominator)) - 1 + EXTRA_DECIMALS
        allowed = {"minimum": low, "maximum": high, "decimals": decimals}
        raise InvalidParameter(f"step must have at most {decimals} decimals", param="step", allowed=allowed)


def normalised(serving: Serving, answer: Callable[[Q], Response]) -> Callable[[Q], Response]:
    """`answer` for queries of which equal ones are equal objects: defaults filled in, the own step left out."""

    def answered(query: Q) -> Response:
        own = serving.config.symbols[query.symbol].step
        wide = WIDEST_PCT if query.range_pct is None and query.price_min is None else query.range_pct
        return answer(replace(query, range_pct=wide, step=None if query.step == own else query.step))

    return answered

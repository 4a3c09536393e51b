"""What to ask each venue for its order books: streams on links of their own, and snapshots where REST brings them."""

from typing import Literal, Protocol
from urllib.parse import quote

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import PollPlan
from liqmap.exchanges.plans import BINANCE_REQUESTS

_SNAPSHOT_WEIGHT = {100: 5, 500: 10, 1000: 20}
"""What a snapshot of so many levels costs at Binance."""


class BinanceBooks(Protocol):
    """What the configuration says about Binance's books."""

    @property
    def rest(self) -> str:
        """Base address of the REST interface."""

    @property
    def depth_snapshot_levels(self) -> Literal[100, 500, 1000]:
        """Levels a side of a snapshot."""


def binance_book(config: BinanceBooks, instrument: Instrument) -> PollPlan:
    """The snapshot that bridges the stream of one contract's book. Asked for once, whenever the book must begin anew:
    `every_s` means nothing."""
    url = f"{config.rest.rstrip('/')}{BINANCE_REQUESTS['depth']}"
    return PollPlan(
        Venue.BINANCE,
        f"depth.{instrument.name}",
        f"{url}?symbol={quote(instrument.name)}&limit={config.depth_snapshot_levels}",
        Topic.DEPTH,
        (instrument.symbol or "",),
        every_s=0.0,
        weight=_SNAPSHOT_WEIGHT[config.depth_snapshot_levels],
    )


def bybit_book(_config: object, _instrument: Instrument) -> None:
    """The stream begins with a snapshot."""


def okx_book(_config: object, _instrument: Instrument) -> None:
    """The stream begins with a snapshot."""

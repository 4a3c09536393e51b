"""The reader library: frozen snapshots of what the daemon publishes.

    from liqmap.client import Client
    Client("demo").snapshot("BTC", range_pct=5)

Reads shared memory of a daemon of the same machine and user; writes nothing, computes nothing, holds nobody up.
"""

from liqmap.client.faults import Busy, ClientError, Incompatible, NotYet, UnknownSymbol
from liqmap.client.reader import Client
from liqmap.client.records import (
    Freshness,
    Gap,
    Liquidation,
    Liquidations,
    Newest,
    OpenInterest,
    OpenInterestOfVenue,
    ProcessStatus,
    Snapshot,
    Status,
    SymbolStatus,
    TopicStatus,
    VenueStatus,
    Version,
)
from liqmap.client.sheet import (
    Funding,
    LiquidationStats,
    LongShare,
    MarketData,
    MarketOfVenue,
    MinuteHistory,
    Price,
    PrintedByVenue,
    TraderRatios,
)

__all__ = [
    "Busy",
    "Client",
    "ClientError",
    "Freshness",
    "Funding",
    "Gap",
    "Incompatible",
    "Liquidation",
    "LiquidationStats",
    "Liquidations",
    "LongShare",
    "MarketData",
    "MarketOfVenue",
    "MinuteHistory",
    "Newest",
    "NotYet",
    "OpenInterest",
    "OpenInterestOfVenue",
    "Price",
    "PrintedByVenue",
    "ProcessStatus",
    "Snapshot",
    "Status",
    "SymbolStatus",
    "TopicStatus",
    "TraderRatios",
    "UnknownSymbol",
    "VenueStatus",
    "Version",
]

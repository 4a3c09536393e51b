"""The reader library: frozen snapshots of what the daemon publishes.

    from liqmap.client import Client
    Client("demo").snapshot("BTC", range_pct=5)

Reads shared memory of a daemon of the same machine and user; writes nothing, computes nothing, holds nobody up.
"""

from liqmap.client.book_records import (
    BookColumns,
    BookFrame,
    BookMeans,
    BookStanding,
    BookStandings,
    KeptFrames,
    Missing,
)
from liqmap.client.calibration import Calibration, CompletenessOfVenue, JudgedWindow, Realisation
from liqmap.client.faults import (
    Busy,
    ClientError,
    Incompatible,
    NotYet,
    OutOfRange,
    StepTooCoarse,
    TooMuch,
    UnknownSymbol,
)
from liqmap.client.order_books import Prices
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
from liqmap.client.zones import Happening, PostMortem, Zone, ZoneCounts, Zones

__all__ = [
    "BookColumns",
    "BookFrame",
    "BookMeans",
    "BookStanding",
    "BookStandings",
    "Busy",
    "Calibration",
    "Client",
    "ClientError",
    "CompletenessOfVenue",
    "Freshness",
    "Funding",
    "Gap",
    "Happening",
    "Incompatible",
    "JudgedWindow",
    "KeptFrames",
    "Liquidation",
    "LiquidationStats",
    "Liquidations",
    "LongShare",
    "MarketData",
    "MarketOfVenue",
    "MinuteHistory",
    "Missing",
    "Newest",
    "NotYet",
    "OpenInterest",
    "OpenInterestOfVenue",
    "OutOfRange",
    "PostMortem",
    "Price",
    "Prices",
    "PrintedByVenue",
    "ProcessStatus",
    "Realisation",
    "Snapshot",
    "Status",
    "StepTooCoarse",
    "SymbolStatus",
    "TooMuch",
    "TopicStatus",
    "TraderRatios",
    "UnknownSymbol",
    "VenueStatus",
    "Version",
    "Zone",
    "ZoneCounts",
    "Zones",
]

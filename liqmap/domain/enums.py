"""The closed vocabularies of liqmap, as small integers that fit an event record.

Numbers are part of the journal and shared-memory formats: never renumber, only append.
Zero always means "not said", never a valid choice.
"""

from enum import IntEnum


class Venue(IntEnum):
    """Where a fact comes from. UNKNOWN: the recorder of a table did not keep it."""

    UNKNOWN = 0
    BINANCE = 1
    BYBIT = 2
    OKX = 3


class Kind(IntEnum):
    """What an event says; the meaning of its numeric fields follows (see `liqmap.domain.event`)."""

    TICK = 1
    LIQUIDATION = 2
    TRADE = 3
    MARK_PRICE = 4
    OPEN_INTEREST = 5
    OPEN_INTEREST_CHANGE = 6
    FUNDING = 7
    MID_PRICE = 8
    GAP = 9
    RATIO = 10


class PositionSide(IntEnum):
    """The side of a position. Liquidations carry only this, never an order side."""

    LONG = 1
    SHORT = 2


class TakerSide(IntEnum):
    """The side of the order that took liquidity."""

    BUY = 1
    SELL = 2


class Topic(IntEnum):
    """One kind of feed of one venue; the unit of freshness, silence and gaps."""

    LIQUIDATION = 1
    TRADE = 2
    MARK_PRICE = 3
    OPEN_INTEREST = 4
    FUNDING = 5
    DEPTH = 6
    RATIO = 7
    INSTRUMENTS = 8
    CLOCK = 9
    MARGINS = 10


class Ratio(IntEnum):
    """Whose share of longs a RATIO event tells: all accounts, the top accounts, or the top accounts' positions."""

    ACCOUNTS = 1
    TOP_ACCOUNTS = 2
    TOP_POSITIONS = 3


class BookState(IntEnum):
    """How far one venue's order book of one contract can be trusted now. Only SYNCED may be shown."""

    ABSENT = 1
    """Nothing was ever received, its connection is gone, or nothing is told of it any more (its feed is silent)."""
    SYNCING = 2
    """Updates come and are kept, the snapshot that they build on does not stand yet."""
    SYNCED = 3
    BROKEN = 4
    """An update was missing in the sequence: what was known is thrown away, a new beginning was asked for."""


class GapReason(IntEnum):
    """Why a feed was absent."""

    NOT_CONNECTED = 1
    DISCONNECTED = 2
    SILENT = 3
    REFUSED = 4
    OVERRUN = 5
    NOT_RECORDED = 6
    SEQUENCE = 7
    STOPPED = 8


class Source(IntEnum):
    """Where the events come from, said in every answer. A simulation always says so."""

    LIVE = 1
    SIMULATED = 2
    REPLAY = 3


class PriceSource(IntEnum):
    """Which price stands for the mark at the moment: the fallback chain mark → mid → last trade."""

    MARK = 1
    MID = 2
    LAST_TRADE = 3


class Projection(IntEnum):
    """What the numbers of a frame's projection are. 0: nothing is known, they say nothing.

    RELATIVE: only changes of open interest were ever seen, no level. What was opened is booked, but nobody knows of how
    much the closings are a share, so nothing closes: densities compare with each other, and are no dollars.
    """

    DOLLARS = 1
    RELATIVE = 2


class Verdict(IntEnum):
    """What was decided on a window of the calibration. Only CLEAR moved the weights."""

    CLEAR = 1
    TOO_LITTLE = 2
    """Price passed too little of the inventory to learn from."""
    REPEATS = 3
    """Too many liquidations came more than once."""
    UNATTRIBUTED = 4
    """Too many were printed where the inventory holds nothing."""
    AGAINST_PRICE = 5
    """Most were printed while price went the other way: sides are swapped somewhere."""
    VENUE_MISSING = 6
    """A venue that usually prints much printed next to nothing."""
    LEVEL = 7
    """Far more, or far less, was printed than the inventory lost."""
    LARGEST = 8
    """One tier would weigh more than is allowed."""
    ENTROPY = 9
    """The weights would be too decided."""

    @property
    def is_of_the_stream(self) -> bool:
        """The stream is not sound: what was seen does not count."""
        return Verdict.REPEATS <= self <= Verdict.LEVEL


class Divisor(IntEnum):
    """By what the calibration divides what was observed, to compare it with what was expected."""

    ANCHORED = 1
    """The configured realisation."""
    LONG_RUN = 2
    """Observed over expected of all windows so far, older ones faded."""
    OWN = 3
    """Nothing is known yet: the first window is divided by its own level, and moves the tiers against each other."""


class Model(IntEnum):
    """The projection models, side by side in every frame: model m stands at place m - 1."""

    FLOW = 1
    INVENTORY = 2


class ZoneState(IntEnum):
    """How far a zone has come (engine.zones)."""

    ACTIVE = 1
    TOUCHED = 2
    """Price is within it, or came there and has not left it by more than a pool's width."""
    SWEPT = 3
    """Price passed all of it; it stays visible for a while, with what became of it."""


class ZoneSource(IntEnum):
    """What the dollars of a zone are: the words of domain.pools, as numbers."""

    EVIDENCE = 1
    PROJECTION = 2
    BOTH = 3


class ZoneChange(IntEnum):
    """What happened to a zone."""

    CREATED = 1
    REINFORCED = 2
    TOUCHED = 3
    SWEPT = 4
    EXPIRED = 5
    MERGED = 6

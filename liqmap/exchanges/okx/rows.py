"""The shapes of OKX's data: what a row of each channel is decoded into, bounds included. Only what is used is named."""

from typing import Annotated, Generic, Literal, TypeVar

from msgspec import Meta, Struct

from liqmap.domain.event import MISSING
from liqmap.exchanges.wire import (
    Identity,
    Level,
    MaybeLevel,
    MaybeMilliseconds,
    MaybeRate,
    Milliseconds,
    Price,
    Quantity,
)


class TradeRow(Struct, gc=False):
    """`trades`: one taker order at one price."""

    instId: str  # noqa: N815
    tradeId: Identity  # noqa: N815
    px: Price
    sz: Quantity
    side: Literal["buy", "sell"]
    ts: Milliseconds


class LiquidationDetail(Struct, gc=False):
    """One liquidation: `bkPx` the price at which the position was taken over, `sz` contracts."""

    side: Literal["buy", "sell"]
    bkPx: Price  # noqa: N815
    sz: Quantity
    ts: Milliseconds
    posSide: Literal["long", "short", "net", ""] = ""  # noqa: N815


class LiquidationRow(Struct, gc=False):
    """`liquidation-orders`: the liquidations of one contract."""

    instId: str  # noqa: N815
    details: tuple[LiquidationDetail, ...]


class MarkRow(Struct, gc=False):
    """`mark-price`."""

    instId: str  # noqa: N815
    markPx: Price  # noqa: N815
    ts: Milliseconds


class IndexRow(Struct, gc=False):
    """`index-tickers`; the index of BTC-USDT-SWAP is called BTC-USDT."""

    instId: str  # noqa: N815
    idxPx: Price  # noqa: N815


class InterestRow(Struct, gc=False):
    """`open-interest`: `oi` contracts, `oiCcy` base coin, one side."""

    instId: str  # noqa: N815
    ts: Milliseconds
    oi: MaybeLevel = None
    oiCcy: MaybeLevel = None  # noqa: N815


class FundingRow(Struct, gc=False):
    """`funding-rate`: the rate that is settled at `fundingTime`; the interval is from there to `nextFundingTime`."""

    instId: str  # noqa: N815
    fundingRate: MaybeRate = None  # noqa: N815
    fundingTime: MaybeMilliseconds = None  # noqa: N815
    nextFundingTime: MaybeMilliseconds = None  # noqa: N815
    ts: MaybeMilliseconds = None


class BookLevel(Struct, array_like=True, gc=False):
    """`[price, contracts, "0", orders]`."""

    price: Price
    contracts: Level


class BookRow(Struct, gc=False):
    """`books`: absolute sizes; `prevSeqId` must equal the `seqId` before. `seqId` may go back after maintenance."""

    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    ts: Milliseconds
    seqId: Annotated[int, Meta(ge=-1, le=2**63 - 1)] = MISSING  # noqa: N815
    prevSeqId: Annotated[int, Meta(ge=-1, le=2**63 - 1)] = MISSING  # noqa: N815


class Arg(Struct, gc=False):
    """Which subscription a frame belongs to."""

    channel: str
    instId: str = ""  # noqa: N815


Row = TypeVar("Row")


class Frame(Struct, Generic[Row], gc=False):
    """A frame of a channel."""

    arg: Arg
    data: tuple[Row, ...]
    action: str = ""

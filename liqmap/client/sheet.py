"""What each venue said last, and how much of its liquidations is seen: the market sheet of a frame, for people."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from liqmap.client.records import Freshness, Newest, Snapshot, Version
from liqmap.client.timing import Timing
from liqmap.client.words import known, known_ms
from liqmap.domain.enums import PriceSource, Ratio, Topic, Venue
from liqmap.shm.layout import OI_VENUES, minute_dtype
from liqmap.shm.rows import RowsReader
from liqmap.shm.segment import Segment

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Price:
    """A price a venue told, and when it was so by the venue's own time."""

    price: float
    as_of_ms: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class Funding:
    """The rate of the coming settlement, per interval; None: the venue did not say."""

    rate: float
    interval_h: float | None
    next_ms: int | None
    as_of_ms: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class LongShare:
    """The share of longs, 0 to 1, in the bar that the venue calls `bar_ms`."""

    long_share: float
    bar_ms: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class MarketOfVenue:
    """What one venue said last; None: nothing yet. `index_price` came with the mark."""

    mark: Price | None
    index_price: float | None
    last: Price | None
    mid: Price | None
    funding: Funding | None


@dataclass(frozen=True, slots=True)
class MarketData:
    """The market sheet of a symbol. The prices above the venues are those the map goes by; venues by name."""

    freshness: Freshness
    version: Version
    mark_price: float | None
    mark_source: str | None
    mark_as_of_ms: int | None
    index_price: float | None
    last_price: float | None
    venues: Mapping[str, MarketOfVenue]


@dataclass(frozen=True, slots=True)
class TraderRatios:
    """Positioning ratios of a symbol, by venue and kind (`accounts`, `top_accounts`, `top_positions`)."""

    freshness: Freshness
    version: Version
    venues: Mapping[str, Mapping[str, LongShare | None]]


@dataclass(frozen=True, slots=True)
class PrintedByVenue:
    """Liquidations one venue printed since the map began, and how complete they are; see docs/model.md."""

    liquidations: int
    long_usd: float
    short_usd: float
    saturation: float | None
    completeness: float | None


@dataclass(frozen=True, slots=True)
class MinuteHistory:
    """The closed minutes that are kept: how many, from when to when, and how many of them each feed was missing in.

    `feed_gap_minutes[venue][topic]`; minutes in which events were lost between ingest and the worker are apart.
    """

    frames: int
    from_ms: int | None
    to_ms: int | None
    gap_minutes: int
    lost_minutes: int
    feed_gap_minutes: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class LiquidationStats:
    """Sums and counters of one frame, all of it; by venue name."""

    snapshot: Snapshot
    venues: Mapping[str, PrintedByVenue]


class MinutesReader(RowsReader):
    """Reads the closed minutes of one symbol, whatever their width."""

    def __init__(self, segment: Segment) -> None:
        nothing = minute_dtype(0).itemsize
        super().__init__(segment, minute_dtype((segment.item_size - nothing) // (minute_dtype(1).itemsize - nothing)))


def market_data(facts: NDArray[Any], newest: Newest, timing: Timing) -> MarketData:
    """The market sheet of a frame."""
    source = int(facts["mark_source"])
    return MarketData(
        freshness=newest.freshness,
        version=newest.version,
        mark_price=known(facts["mark_price"]),
        mark_source=PriceSource(source).name.lower() if source else None,
        mark_as_of_ms=known_ms(facts["mark_as_of_ns"]) if source else None,
        index_price=known(facts["index_price"]),
        last_price=known(facts["last_price"]),
        venues=_by_venue(lambda venue: _market(facts, venue, timing)),
    )


def trader_ratios(facts: NDArray[Any], newest: Newest, timing: Timing) -> TraderRatios:
    """The positioning ratios of a frame."""
    return TraderRatios(newest.freshness, newest.version, _by_venue(lambda venue: _ratios(facts, venue, timing)))


def printed(facts: NDArray[Any]) -> Mapping[str, PrintedByVenue]:
    """What each venue printed, as a frame has it."""
    return _by_venue(
        lambda venue: PrintedByVenue(
            liquidations=int(facts["venue_liquidations"][venue]),
            long_usd=float(facts["venue_liquidated_usd"][venue][0]),
            short_usd=float(facts["venue_liquidated_usd"][venue][1]),
            saturation=known(facts["venue_saturation"][venue]),
            completeness=known(facts["venue_completeness"][venue]),
        )
    )


def history(reader: MinutesReader) -> MinuteHistory:
    """What the kept minutes say of themselves."""
    rows = reader.last_with(reader.capacity, _times_and_gaps).rows
    minutes_ms, gaps = rows[:, 0], rows[:, 1:]
    by_venue: dict[str, dict[str, int]] = {}
    for venue in Venue:
        for topic in Topic:
            missing = int(np.count_nonzero(gaps[:, venue] >> topic & 1))
            if missing:
                by_venue.setdefault(venue.name.lower(), {})[topic.name.lower()] = missing
    return MinuteHistory(
        frames=len(rows),
        from_ms=int(minutes_ms.min()) if len(rows) else None,
        to_ms=int(minutes_ms.max()) if len(rows) else None,
        gap_minutes=int(np.count_nonzero(gaps.any(axis=1))),
        lost_minutes=int(np.count_nonzero(gaps[:, Venue.UNKNOWN] & 1)),
        feed_gap_minutes=MappingProxyType(by_venue),
    )


def _times_and_gaps(rows: NDArray[Any]) -> NDArray[Any]:
    return np.column_stack([rows["minute_ms"], rows["gap_topics"].astype(np.int64)])


def _by_venue(of: Callable[[int], T]) -> Mapping[str, T]:
    return MappingProxyType({Venue(number).name.lower(): of(number) for number in range(OI_VENUES)})


def _market(facts: NDArray[Any], venue: int, timing: Timing) -> MarketOfVenue:
    return MarketOfVenue(
        mark=_price(facts, "venue_mark", venue, timing),
        index_price=known(facts["venue_index"][venue]),
        last=_price(facts, "venue_last", venue, timing),
        mid=_price(facts, "venue_mid", venue, timing),
        funding=_funding(facts, venue, timing),
    )


def _price(facts: NDArray[Any], name: str, venue: int, timing: Timing) -> Price | None:
    price, as_of_ns = known(facts[name][venue]), int(facts[f"{name}_as_of_ns"][venue])
    return None if price is None else Price(price, as_of_ns // 1_000_000, timing.age_ms(as_of_ns))


def _funding(facts: NDArray[Any], venue: int, timing: Timing) -> Funding | None:
    rate, as_of_ns = known(facts["venue_funding_rate"][venue]), int(facts["venue_funding_as_of_ns"][venue])
    if rate is None:
        return None
    next_ms = int(facts["venue_next_funding_ms"][venue])
    return Funding(
        rate=rate,
        interval_h=known(facts["venue_funding_interval_h"][venue]),
        next_ms=next_ms if next_ms >= 0 else None,
        as_of_ms=as_of_ns // 1_000_000,
        age_ms=timing.age_ms(as_of_ns),
    )


def _ratios(facts: NDArray[Any], venue: int, timing: Timing) -> Mapping[str, LongShare | None]:
    told: dict[str, LongShare | None] = {}
    for kind in Ratio:
        share, bar_ms = known(facts["venue_long_share"][venue][kind - 1]), int(facts["venue_ratio_ms"][venue][kind - 1])
        age_ms = timing.age_ms(bar_ms * 1_000_000)
        told[kind.name.lower()] = None if share is None else LongShare(share, bar_ms, age_ms)
    return MappingProxyType(told)

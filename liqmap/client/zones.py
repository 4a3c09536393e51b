"""Zones as a worker showed them when the last minute closed, as records for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from liqmap.client.faults import Incompatible
from liqmap.client.records import Freshness, Newest, Version
from liqmap.client.words import known
from liqmap.domain.enums import PositionSide, ZoneChange, ZoneSource, ZoneState
from liqmap.shm.board import BoardReader
from liqmap.shm.layout import fingerprint, zones_dtype
from liqmap.shm.segment import Segment

MAX_TIERS: Final = 64
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class PostMortem:
    """What stood in a zone when price touched it, and what was liquidated there from `from_ms` on, dollars.

    `until_ms` None: price did not pass it yet. `complete`: the time of counting is over. `heard`: all liquidations of
    that time were.
    """

    from_ms: int
    until_ms: int | None
    predicted_usd: float
    realised_usd: float
    liquidations: int
    complete: bool
    heard: bool


@dataclass(frozen=True, slots=True)
class Zone:
    """One zone. `state`: active, touched or swept; `source`: evidence, projection or both.

    Dollars are the grid's at the end of the minute, of a swept zone those that stood there when price touched it;
    `tiers_usd` by leverage, in the order of `Zones.leverages`. `weight` is no dollars. Times are ms, None: never.
    """

    id: int
    side: str
    state: str
    source: str
    price: float
    low: float
    high: float
    weight: float
    evidence_usd: float
    tiers_usd: tuple[float, ...]
    created_ms: int
    created_mark_price: float
    fed_ms: int
    reinforced_ms: int | None
    reinforcements: int
    touched_ms: int | None
    swept_ms: int | None
    post_mortem: PostMortem | None


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a zone. `number` rises; `kind` is a word of domain.enums.ZoneChange."""

    number: int
    id: int
    at_ms: int
    kind: str
    side: str
    price: float
    weight: float
    notional_usd: float


@dataclass(frozen=True, slots=True)
class ZoneCounts:
    """Of one side, since the zones' state began: how often each thing happened, and all sweeps whose counting is over
    and was heard whole, predicted against realised dollars."""

    happened: Mapping[str, int]
    post_mortems: int
    predicted_usd: float
    realised_usd: float


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones of one symbol at the end of a minute (`zones_ms`), and the newest of what happened, oldest first.

    `unit_usd` is what a weight of 1 stands for, None: unknown. `board` tells this from every other publication.
    """

    symbol: str
    freshness: Freshness
    version: Version
    board: tuple[int, int]
    zones_ms: int
    mark_price: float | None
    unit_usd: float | None
    leverages: tuple[float, ...]
    zones: tuple[Zone, ...]
    happenings: tuple[Happening, ...]
    counts: Mapping[str, ZoneCounts]


class ZonesReader(BoardReader):
    """Reads the zones of one symbol, whatever its number of tiers."""

    def __init__(self, segment: Segment) -> None:
        self.tiers = _tiers_of(segment)
        super().__init__(segment, zones_dtype(self.tiers))

    def version(self) -> tuple[int, int]:
        """Generation and number of the newest publication, 0: there is none yet."""
        return self.generation, self.sequence_hint()

    def newest(self) -> tuple[tuple[int, int], NDArray[Any]]:
        """The newest publication, under a version that is its own or an older one's."""
        version = self.version()
        return version, self.read()


def _tiers_of(segment: Segment) -> int:
    nothing = zones_dtype(0).itemsize
    tiers, rest = divmod(segment.item_size - nothing, zones_dtype(1).itemsize - nothing)
    if rest or not 0 < tiers <= MAX_TIERS or fingerprint(zones_dtype(tiers)) != segment.fingerprint:
        raise Incompatible("the board of zones is of another version of liqmap")
    return tiers


def zones(symbol: str, board: tuple[int, int], row: NDArray[Any], newest: Newest, mark_price: float | None) -> Zones:
    """A publication as records."""
    zones_ms = int(row["minute_ms"]) + MINUTE_MS
    return Zones(
        symbol=symbol,
        freshness=newest.freshness,
        version=newest.version,
        board=board,
        zones_ms=zones_ms,
        mark_price=mark_price,
        unit_usd=known(row["unit_usd"]),
        leverages=tuple(row["leverages"].tolist()),
        zones=tuple(_zone(each, zones_ms) for each in row["zones"][: int(row["count"])]),
        happenings=tuple(_happening(each) for each in row["changes"][: int(row["change_count"])]),
        counts=MappingProxyType({side.name.lower(): _counts(row, side - 1) for side in PositionSide}),
    )


def _zone(row: np.void, zones_ms: int) -> Zone:
    return Zone(
        id=int(row["id"]),
        side=PositionSide(row["side"]).name.lower(),
        state=ZoneState(row["state"]).name.lower(),
        source=ZoneSource(row["source"]).name.lower(),
        price=float(row["price"]),
        low=float(row["low"]),
        high=float(row["high"]),
        weight=float(row["weight"]),
        evidence_usd=float(row["evidence_usd"]),
        tiers_usd=tuple(row["tiers_usd"].tolist()),
        created_ms=int(row["created_ms"]),
        created_mark_price=float(row["created_mark"]),
        fed_ms=int(row["fed_ms"]),
        reinforced_ms=_ms(row["reinforced_ms"]),
        reinforcements=int(row["reinforcements"]),
        touched_ms=_ms(row["touched_ms"]),
        swept_ms=_ms(row["swept_ms"]),
        post_mortem=None if row["state"] == ZoneState.ACTIVE else _post_mortem(row, zones_ms),
    )


def _post_mortem(row: np.void, zones_ms: int) -> PostMortem:
    until_ms = _ms(row["until_ms"])
    return PostMortem(
        from_ms=int(row["touched_ms"]),
        until_ms=until_ms,
        predicted_usd=float(row["predicted_usd"]),
        realised_usd=float(row["realised_usd"]),
        liquidations=int(row["realised"]),
        complete=until_ms is not None and until_ms <= zones_ms,
        heard=bool(row["heard"]),
    )


def _happening(row: np.void) -> Happening:
    return Happening(
        number=int(row["number"]),
        id=int(row["id"]),
        at_ms=int(row["at_ms"]),
        kind=ZoneChange(row["kind"]).name.lower(),
        side=PositionSide(row["side"]).name.lower(),
        price=float(row["price"]),
        weight=float(row["weight"]),
        notional_usd=float(row["notional_usd"]),
    )


def _counts(row: NDArray[Any], side: int) -> ZoneCounts:
    happened = {kind.name.lower(): int(row["counts"][side][kind - 1]) for kind in ZoneChange}
    return ZoneCounts(
        happened=MappingProxyType(happened),
        post_mortems=int(row["post_mortems"][side]),
        predicted_usd=float(row["predicted_usd"][side]),
        realised_usd=float(row["realised_usd"][side]),
    )


def _ms(value: Any) -> int | None:
    number = int(value)
    return None if number < 0 else number

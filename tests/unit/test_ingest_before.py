"""What an ingest learns from what its predecessor left in shared memory."""

from typing import Any

from liqmap.config import parse
from liqmap.domain.enums import Kind, PositionSide, Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument
from liqmap.ingest.before import last_written_ns, liquidations_said
from liqmap.ingest.merge import Replays, row_of
from liqmap.shm.layout import LIQUIDATION, segment_name
from liqmap.shm.plan import create_all
from liqmap.shm.ring import RingWriter
from liqmap.shm.rows import RowsWriter

NOW_MS = 1_790_000_000_000
CONTRACT = Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.01, "BTC", 2)


def liquidated(qty_base: float, instrument: int = 2, venue: Venue = Venue.OKX) -> Event:
    return Event(
        NOW_MS * 10**6,
        NOW_MS - 50,
        58_000.0,
        qty_base,
        kind=int(Kind.LIQUIDATION),
        venue=int(venue),
        side=int(PositionSide.LONG),
        topic=int(Topic.LIQUIDATION),
        instrument=instrument,
    )


def test_liquidations_of_ring_and_worker_are_known_and_no_others(instance: str) -> None:
    raw = {"daemon": {"instance": instance}, "symbols": {"BTC": {}}, "ingest": {"ring_events": 1024}}
    holding = create_all(parse(raw))
    try:
        name = segment_name(instance, "ring", "BTC")
        assert last_written_ns(name) == -1
        assert list(liquidations_said(instance, CONTRACT)) == []
        ticks = [Event(NOW_MS * 10**6 + i, kind=Kind.TICK) for i in range(1020)]
        mine, others = liquidated(1.5), [liquidated(7.0, 0, Venue.BINANCE), liquidated(8.0, 5)]
        ring = RingWriter.open(name)
        for number, event in enumerate([*ticks[:10], mine, *others, *ticks[10:]], start=1):
            ring.write(event.packed(number))

        def fill(row: Any) -> None:
            row["venue"], row["side"], row["ts_ms"] = Venue.OKX, PositionSide.LONG, NOW_MS - 50
            row["printed_price"], row["qty_base"] = 58_000.0, 2.5

        RowsWriter.open(segment_name(instance, "recent", "BTC"), LIQUIDATION).append(fill)
        assert last_written_ns(name) == ticks[-1].receive_ns
        said = list(liquidations_said(instance, CONTRACT))
        assert said == [row_of(mine), row_of(liquidated(2.5))]
        replays = Replays()
        replays.remember(said)
        assert [replays.is_news(liquidated(qty)) for qty in (1.5, 2.5, 3.5, 3.5)] == [False, False, True, False]
    finally:
        holding.retire_all()

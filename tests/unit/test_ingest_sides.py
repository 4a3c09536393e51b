"""The alarm on sides: longs are liquidated while price falls, shorts while it rises; other venues are named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from liqmap.domain.enums import Kind, PositionSide, Venue
from liqmap.domain.event import Event
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.sides import SideAlarm
from tests.unit.router_desk import Desk, forced, mark


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield Desk(tmp_path)


def minutes_of_a_market(alarm: SideAlarm, inverted: Venue | None, count: int = 20) -> None:
    """Minutes that fall and rise by half a percent; longs are liquidated in the falling ones."""
    price = 60_000.0
    for number in range(count):
        fell = number % 2 == 0
        at_ns = (1_000_000 + number) * 60 * 10**9
        alarm.note("BTC", Event(at_ns, price=price, kind=Kind.MARK_PRICE, venue=Venue.BYBIT))
        price *= 0.995 if fell else 1.005
        for venue in ADAPTERS:
            truth = PositionSide.LONG if fell else PositionSide.SHORT
            wrong = PositionSide.SHORT if fell else PositionSide.LONG
            for second in range(5):
                side = wrong if venue is inverted else truth
                alarm.note("BTC", Event(at_ns + second, kind=Kind.LIQUIDATION, venue=venue, side=side))
        alarm.note("BTC", Event(at_ns + 10**9, price=price, kind=Kind.MARK_PRICE, venue=Venue.BYBIT))


@pytest.mark.finding("L20")
@pytest.mark.parametrize("venue", list(ADAPTERS), ids=lambda venue: venue.name.lower())
def test_a_venue_whose_sides_contradict_the_price_is_named_and_no_other(venue: Venue) -> None:
    alarm = SideAlarm()
    minutes_of_a_market(alarm, inverted=venue)
    for other in ADAPTERS:
        said = alarm.contradiction(other)
        assert (said is not None) == (other is venue)


@pytest.mark.finding("L20")
def test_the_alarm_on_sides_stands_in_the_venues_reason_and_goes_away(desk: Desk) -> None:
    desk.router.flow.sides = SideAlarm()
    minutes_of_a_market(desk.router.flow.sides, inverted=Venue.BINANCE)
    desk.clock.advance(1.0)
    desk.turn()
    rows = {int(row["venue"]): row for row in desk.board()["venues"]}
    assert b"contradict the price" in rows[int(Venue.BINANCE)]["reason"]
    assert b"contradict" not in rows[int(Venue.OKX)]["reason"]
    desk.router.flow.sides = SideAlarm()
    desk.clock.advance(1.0)
    desk.turn()
    assert b"contradict" not in desk.board()["venues"]["reason"][0]


@pytest.mark.finding("L20")
def test_frames_with_order_sides_fit_the_price_through_the_whole_router(desk: Desk) -> None:
    """SELL orders close longs while price falls: the recorded meaning, watched by the running check."""
    desk.open()
    price = 60_000.0
    for minute in range(12):
        falls = minute % 2 == 0
        desk.frames(mark(price))
        price *= 0.995 if falls else 1.005
        sides = ["SELL" if falls else "BUY"] * 4
        at_ms = desk.clock.now_ns() // 1_000_000
        desk.frames(mark(price), *[forced(side, at_ms + i) for i, side in enumerate(sides)])
        desk.turn()
        desk.clock.advance(60.0)
    assert desk.router.flow.sides.contradiction(Venue.BINANCE) is None
    verdicts = desk.router.flow.sides._verdicts[int(Venue.BINANCE)]
    assert len(verdicts) >= 10
    assert not any(verdicts)


def test_calm_minutes_and_few_liquidations_decide_nothing() -> None:
    alarm = SideAlarm()
    for number in range(50):
        at_ns = number * 60 * 10**9
        alarm.note("BTC", Event(at_ns, price=60_000.0 + number, kind=Kind.MARK_PRICE))
        for _ in range(9):
            alarm.note("BTC", Event(at_ns, kind=Kind.LIQUIDATION, venue=Venue.OKX, side=PositionSide.LONG))
    assert alarm.contradiction(Venue.OKX) is None

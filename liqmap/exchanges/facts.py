"""How a venue's row becomes an Event: one maker per kind, so that units and sides are set in one place.

Quantities come in the venue's own units and leave in base coin: the contract knows the factor.
"""

from typing import Final

from liqmap.domain.enums import Kind, PositionSide, Ratio, TakerSide, Topic
from liqmap.domain.event import MISSING, NAN, Event
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import Malformed

MAX_NOTIONAL_USD: Final = 1e10
"""No single print of any venue was ever near this; one that is has a wrong price or a wrong quantity."""

LONG, SHORT = int(PositionSide.LONG), int(PositionSide.SHORT)
BUY, SELL = int(TakerSide.BUY), int(TakerSide.SELL)

_TRADE, _TRADES = int(Kind.TRADE), int(Topic.TRADE)
_new = tuple.__new__  # the constructor of a NamedTuple costs twice as much, and trades come in thousands a second


def trade(
    contract: Instrument, receive_ns: int, venue_ms: int, price: float, quantity: float, side: int, identity: int
) -> Event:
    """A print of the tape; `side` is the taker's, `identity` the venue's trade number or MISSING.

    Raises Malformed, without a path, when the dollars cannot be.
    """
    base = quantity * contract.contract_base
    if price * base > MAX_NOTIONAL_USD:
        raise _absurd(price, base)
    venue, number = contract.venue, contract.number
    fields = (receive_ns, venue_ms, price, base, NAN, identity, _TRADE, venue, side, 0, _TRADES, number)
    return _new(Event, fields)


def liquidation(
    contract: Instrument,
    receive_ns: int,
    venue_ms: int,
    printed_price: float,
    fill_price: float,
    quantity: float,
    position_side: int,
) -> Event:
    """A forced closing; `position_side` is the side of the position that was closed. Raises Malformed, as `trade`."""
    quantity_base = quantity * contract.contract_base
    if printed_price * quantity_base > MAX_NOTIONAL_USD:
        raise _absurd(printed_price, quantity_base)
    return Event(
        receive_ns,
        venue_ms,
        price=printed_price,
        quantity=quantity_base,
        extra=fill_price,
        kind=Kind.LIQUIDATION,
        venue=contract.venue,
        side=position_side,
        topic=Topic.LIQUIDATION,
        instrument=contract.number,
    )


def mark_price(contract: Instrument, receive_ns: int, venue_ms: int, mark: float, index: float = NAN) -> Event:
    """The venue's mark price, with its index price where it says one."""
    return Event(
        receive_ns,
        venue_ms,
        price=mark,
        extra=index,
        kind=Kind.MARK_PRICE,
        venue=contract.venue,
        topic=Topic.MARK_PRICE,
        instrument=contract.number,
    )


def funding(contract: Instrument, receive_ns: int, venue_ms: int, rate: float, next_ms: int = MISSING) -> Event:
    """The rate of the coming settlement, per interval, and its time."""
    return Event(
        receive_ns,
        venue_ms,
        quantity=rate,
        detail=next_ms,
        kind=Kind.FUNDING,
        venue=contract.venue,
        topic=Topic.FUNDING,
        instrument=contract.number,
    )


def open_interest(contract: Instrument, receive_ns: int, venue_ms: int, one_sided_base: float) -> Event:
    """The level of open interest, base coin, one side counted."""
    return Event(
        receive_ns,
        venue_ms,
        quantity=one_sided_base,
        kind=Kind.OPEN_INTEREST,
        venue=contract.venue,
        topic=Topic.OPEN_INTEREST,
        instrument=contract.number,
    )


def ratio(contract: Instrument, receive_ns: int, venue_ms: int, long_share: float, which: Ratio) -> Event:
    """The share of longs, 0 to 1, among those whom `which` names."""
    return Event(
        receive_ns,
        venue_ms,
        quantity=long_share,
        kind=Kind.RATIO,
        venue=contract.venue,
        side=which,
        topic=Topic.RATIO,
        instrument=contract.number,
    )


def _absurd(price: float, quantity_base: float) -> Malformed:
    return Malformed(f"absurd size: {quantity_base:g} at {price:g}")

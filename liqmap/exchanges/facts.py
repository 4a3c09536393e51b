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

_LIQUIDATION, _LIQUIDATIONS = int(Kind.LIQUIDATION), int(Topic.LIQUIDATION)
_TRADE, _TRADES = int(Kind.TRADE), int(Topic.TRADE)
_MARK, _MARKS = int(Kind.MARK_PRICE), int(Topic.MARK_PRICE)
_INTEREST, _INTERESTS = int(Kind.OPEN_INTEREST), int(Topic.OPEN_INTEREST)
_FUNDING, _FUNDINGS = int(Kind.FUNDING), int(Topic.FUNDING)
_RATIO, _RATIOS = int(Kind.RATIO), int(Topic.RATIO)

# Facts come in thousands a second, and a NamedTuple's constructor with names costs four times as much as this. The
# order is Event's: receive_ns, venue_ms, price, quantity, extra, detail, kind, venue, side, flags, topic, instrument.
_new = tuple.__new__


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
    return _new(Event, (receive_ns, venue_ms, price, base, NAN, identity, _TRADE, venue, side, 0, _TRADES, number))


def liquidation(
    contract: Instrument, receive_ns: int, venue_ms: int, printed: float, fill: float, quantity: float, side: int
) -> Event:
    """A forced closing: printed price, fill price or NaN, the side of the position that was closed.

    Raises Malformed, without a path, when the dollars cannot be.
    """
    base = quantity * contract.contract_base
    if printed * base > MAX_NOTIONAL_USD:
        raise _absurd(printed, base)
    venue, number, kind, topic = contract.venue, contract.number, _LIQUIDATION, _LIQUIDATIONS
    return _new(Event, (receive_ns, venue_ms, printed, base, fill, MISSING, kind, venue, side, 0, topic, number))


def mark_price(contract: Instrument, receive_ns: int, venue_ms: int, mark: float, index: float = NAN) -> Event:
    """The venue's mark price, with its index price where it says one."""
    venue, number = contract.venue, contract.number
    return _new(Event, (receive_ns, venue_ms, mark, NAN, index, MISSING, _MARK, venue, 0, 0, _MARKS, number))


def funding(
    contract: Instrument, receive_ns: int, venue_ms: int, rate: float, next_ms: int = MISSING, interval_h: float = NAN
) -> Event:
    """The rate of the coming settlement, per interval, its time, and the interval in hours.

    A rate of NaN: the interval alone, as a list of intervals tells it; it outranks the one that comes with a rate.
    """
    venue, number = contract.venue, contract.number
    return _new(Event, (receive_ns, venue_ms, NAN, rate, interval_h, next_ms, _FUNDING, venue, 0, 0, _FUNDINGS, number))


def open_interest(contract: Instrument, receive_ns: int, venue_ms: int, one_sided_base: float) -> Event:
    """The level of open interest, base coin, one side counted."""
    venue, number, kind, topic = contract.venue, contract.number, _INTEREST, _INTERESTS
    return _new(Event, (receive_ns, venue_ms, NAN, one_sided_base, NAN, MISSING, kind, venue, 0, 0, topic, number))


def ratio(contract: Instrument, receive_ns: int, venue_ms: int, long_share: float, which: Ratio) -> Event:
    """The share of longs, 0 to 1, among those whom `which` names."""
    venue, number = contract.venue, contract.number
    return _new(Event, (receive_ns, venue_ms, NAN, long_share, NAN, MISSING, _RATIO, venue, which, 0, _RATIOS, number))


def _absurd(price: float, quantity_base: float) -> Malformed:
    return Malformed(f"absurd size: {quantity_base:g} at {price:g}")

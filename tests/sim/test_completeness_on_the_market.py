"""The completeness estimate against a market that knows the truth: Binance's server shows one liquidation a second.

Figures over more seeds stand in docs/model.md.
"""

from dataclasses import replace

import numpy as np
import pytest

from liqmap.config import parse
from liqmap.domain.enums import Kind, Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.engine.engine import Engine
from liqmap.exchanges.registry import ADAPTERS
from liqmap.sim.market.simulated import SimulatedMarket
from liqmap.sim.tape import TRADES, Tape
from liqmap.sim.venues.binance_feed import BinanceFeed
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.listings import listings_of
from tests.events import events_array
from tests.unit.engine_tape import BTC

START_MS = 1_700_000_040_000
SEED = 2
MINUTES = 75
VENUES = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)


def only_liquidations(tape: Tape) -> Tape:
    """The tape without what this test does not look at."""
    bare = {
        venue: replace(prints, trades=np.zeros(0, TRADES), book_changes=prints.book_changes[:0])
        for venue, prints in tape.venues.items()
    }
    return replace(tape, venues=bare)


def complete_prints(tape: Tape, venue: Venue) -> list[Event]:
    """Every liquidation of a venue."""
    ns, topic = tape.to_ms * 1_000_000, Topic.LIQUIDATION
    rows = tape.venues[venue].liquidations.tolist()
    return [
        Event(ns, ts, price, qty, fill, kind=Kind.LIQUIDATION, venue=venue, topic=topic, side=side)
        for ts, side, price, fill, qty in rows
    ]


def test_the_estimate_comes_near_the_truth_of_a_throttled_venue() -> None:
    config = parse({"sim": {"preset": "lively", "seed": SEED}})
    market = SimulatedMarket(config.sim, "BTC", START_MS)
    feed = BinanceFeed(listings_of(config, Venue.BINANCE), Faults(), seed=SEED)
    table = InstrumentTable([Instrument(Venue.BINANCE, "BTCUSDT", 1.0, "BTC", 0)])
    parse_frame = ADAPTERS[Venue.BINANCE].session(table).parse
    engine, happened, printed, sequence = Engine(BTC), 0.0, 0.0, 1
    for second in range(60 * MINUTES + 3):
        tape = only_liquidations(market.advance(START_MS + 1000 * (second + 1)))
        ns, ms = tape.to_ms * 1_000_000, tape.to_ms
        shown = [
            fact
            for message in feed.step([tape], tape.to_ms)
            if message.topic == "!forceOrder@arr"
            for fact in parse_frame(message.payload, ns)
            if isinstance(fact, Event)
        ]
        happened += float(tape.venues[Venue.BINANCE].liquidations["qty_base"].sum())
        printed += sum(event.quantity for event in shown)
        events = [Event(ns, ms, tape.mark_price, kind=Kind.MARK_PRICE, venue=Venue.BYBIT, topic=Topic.MARK_PRICE)]
        events += [*shown, *complete_prints(tape, Venue.BYBIT), *complete_prints(tape, Venue.OKX)]
        if second % 10 == 0:
            events += [
                Event(ns, ms, quantity=tape.venues[venue].open_interest_base, kind=Kind.OPEN_INTEREST, venue=venue)
                for venue in VENUES
            ]
        engine.apply(events_array([*events, Event(ns, kind=Kind.TICK)], sequence))
        sequence += len(events) + 1
    live = engine.live()
    assert live is not None
    truth, estimate = printed / happened, live.facts.venue_completeness[Venue.BINANCE]
    assert truth < 0.6, "the venue throttles for real"
    assert estimate == pytest.approx(truth, rel=0.3), f"seed {SEED}"
    assert live.facts.venue_completeness[Venue.BYBIT] == 1.0
    assert live.facts.venue_completeness[Venue.OKX] > 1.3 * estimate, "OKX shows all of it here"
    assert 0.03 < live.facts.venue_saturation[Venue.BINANCE] < 0.5

"""What the simulated venues print, read back by the adapters of the real ones: nothing malformed, every unit and side
right, and the books still balance at the other end of the wire."""

from dataclasses import dataclass, field

import pytest

from liqmap import config as configuration
from liqmap.config.simulation import sim_config
from liqmap.domain.enums import Kind, PositionSide, TakerSide, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import Instrument, InstrumentTable
from liqmap.exchanges.registry import ADAPTERS
from liqmap.sim.tape import Tape
from liqmap.sim.venues.binance_feed import BinanceFeed
from liqmap.sim.venues.bybit_feed import BybitFeed
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.listings import listings_of
from liqmap.sim.venues.market_feed import MarketFeed
from liqmap.sim.venues.okx_feed import OkxFeed
from liqmap.sim.worlds import open_market

START_MS = 1_790_000_000_000
MOST_SECONDS = 4 * 3600
TRADE_TOPICS = ("btcusdt@aggTrade", "publicTrade.BTCUSDT", "trades/BTC-USDT-SWAP")
FACT_TOPICS = (
    *("!forceOrder@arr", "btcusdt@markPrice@1s", "tickers.BTCUSDT", "allLiquidation.BTCUSDT"),
    *(
        "liquidation-orders/SWAP",
        "mark-price/BTC-USDT-SWAP",
        "open-interest/BTC-USDT-SWAP",
        "funding-rate/BTC-USDT-SWAP",
    ),
)


@dataclass
class Sums:
    """Base quantities by side, and the latest level of what has one."""

    traded: dict[TakerSide, float] = field(default_factory=lambda: dict.fromkeys(TakerSide, 0.0))
    liquidated: dict[PositionSide, float] = field(default_factory=lambda: dict.fromkeys(PositionSide, 0.0))
    latest: dict[Kind, float] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        if event.kind == Kind.TRADE:
            self.traded[TakerSide(event.side)] += event.quantity
        elif event.kind == Kind.LIQUIDATION:
            self.liquidated[PositionSide(event.side)] += event.quantity
        elif event.kind == Kind.MARK_PRICE:
            self.latest[Kind.MARK_PRICE] = event.price
        elif event.kind == Kind.OPEN_INTEREST:
            self.latest[Kind.OPEN_INTEREST] = event.quantity


@pytest.fixture(scope="module")
def printed() -> list[Tape]:
    """A lively market, until longs and shorts were liquidated at every venue."""
    sim = sim_config(preset="lively", seed=2, symbols={"BTC": {"positions": 4000}})
    market = open_market(sim, "BTC", START_MS)
    tapes: list[Tape] = []
    seen: set[tuple[Venue, int]] = set()
    while len(seen) < 2 * len(ADAPTERS):
        assert len(tapes) < MOST_SECONDS, f"in {MOST_SECONDS} s only {seen} were liquidated"
        tapes.append(market.advance(START_MS + 1000 * (len(tapes) + 1)))
        for venue, tape in tapes[-1].venues.items():
            seen.update((venue, int(side)) for side in tape.liquidations["position_side"])
    return tapes


def read_back(feed: MarketFeed, tapes: list[Tape]) -> Sums:
    (listing,) = [quote.listing for quote in feed.quotes.values() if quote.listing.symbol == "BTC"]
    table = InstrumentTable([Instrument(feed.venue, listing.name, listing.contract_base, "BTC", 0)])
    facts, trades = (ADAPTERS[feed.venue].session(table) for _ in range(2))
    sums = Sums()
    end_ms = tapes[-1].to_ms
    # Two steps without a print let everything out that waits for the end of its second.
    for now_ms, printed in [*((tape.to_ms, [tape]) for tape in tapes), (end_ms + 1000, []), (end_ms + 2000, [])]:
        messages = feed.step(printed, now_ms)
        if now_ms == tapes[0].to_ms:
            messages = [*feed.on_subscribe("tickers.BTCUSDT", now_ms), *messages]
        for message in messages:
            session = trades if message.topic in TRADE_TOPICS else facts if message.topic in FACT_TOPICS else None
            if session is not None:
                for fact in session.parse(message.payload, now_ms * 1_000_000):
                    if isinstance(fact, Event):
                        sums.add(fact)
    return sums


@pytest.mark.parametrize("maker", [BinanceFeed, BybitFeed, OkxFeed])
def test_quantities_sides_and_levels_survive_the_wire(maker: type[MarketFeed], printed: list[Tape]) -> None:
    venue = maker.venue
    got = read_back(maker(listings_of(configuration.parse({}), venue), Faults(), seed=1), printed)
    traded = dict.fromkeys(TakerSide, 0.0)
    liquidated = dict.fromkeys(PositionSide, 0.0)
    for tape in printed:
        for _, _, qty_base, taker in tape.venues[venue].trades.tolist():
            traded[TakerSide(taker)] += qty_base
        for _, side, _, _, qty_base in tape.venues[venue].liquidations.tolist():
            liquidated[PositionSide(side)] += qty_base
    for taker in TakerSide:
        assert got.traded[taker] == pytest.approx(traded[taker], rel=0.01)
    for side in PositionSide:
        if venue is Venue.BINANCE:
            assert 0 < got.liquidated[side] <= liquidated[side] * 1.001, "some are never shown"
        else:
            assert got.liquidated[side] == pytest.approx(liquidated[side], rel=0.02)
    assert got.latest[Kind.MARK_PRICE] == pytest.approx(printed[-1].mark_price, rel=0.001)
    if venue is Venue.BINANCE:
        return  # no stream carries it
    assert got.latest[Kind.OPEN_INTEREST] == pytest.approx(printed[-1].venues[venue].open_interest_base, rel=0.01)

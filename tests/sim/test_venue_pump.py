"""The pump: fixed steps, nothing skipped, wall time on every print; and the same seed prints the same."""

from liqmap import config as configuration
from liqmap.config.simulation import sim_config
from liqmap.domain.enums import TakerSide, Venue
from liqmap.sim.tape import Tape
from liqmap.sim.venues.binance_feed import BinanceFeed
from liqmap.sim.venues.bybit_feed import BybitFeed
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message
from liqmap.sim.venues.listings import listings_of
from liqmap.sim.venues.market_feed import MarketFeed
from liqmap.sim.venues.okx_feed import OkxFeed
from liqmap.sim.venues.pump import MarketPump
from liqmap.sim.worlds import open_market
from tests.sim.venue_client import START_MS
from tests.venue_servers import ScriptedMarket

FEEDS: tuple[type[MarketFeed], ...] = (BinanceFeed, BybitFeed, OkxFeed)


class Watched(ScriptedMarket):
    """Remembers up to when it was moved, and prints one trade in the middle of each step."""

    def __init__(self) -> None:
        super().__init__("BTC", 60_000.0)
        self.reached: list[int] = []

    def advance(self, to_ms: int) -> Tape:
        self.reached.append(to_ms)
        self.trade(Venue.BINANCE, 60_000.0, 1.0, TakerSide.BUY)
        tape = super().advance(to_ms)
        tape.venues[Venue.BINANCE].trades["ts_ms"] -= (to_ms - tape.from_ms) // 2
        return tape


class Heard:
    """Stands where a feed and a server stand."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.tapes: list[Tape] = []
        self.ends_ms: list[int] = []

    def step(self, tapes: list[Tape], now_ms: int) -> list[Message]:
        self.tapes += tapes
        self.ends_ms.append(now_ms)
        return []

    def publish(self, messages: list[Message]) -> None:
        assert messages == []


def test_a_market_moves_in_equal_steps_and_its_prints_carry_wall_time_at_any_speed() -> None:
    for speed in (1.0, 20.0):
        market, heard = Watched(), Heard()
        pump = MarketPump(
            [market],
            [(heard, heard)],  # type: ignore[list-item]
            now_ms=lambda: START_MS,
            speed=speed,
            step_ms=100,
        )
        for _ in range(4):
            pump.step()
        assert market.reached == [START_MS + int(100 * speed * n) for n in (1, 2, 3, 4)]
        assert heard.ends_ms == [START_MS + 100 * n for n in (1, 2, 3, 4)]
        prints = [int(tape.venues[Venue.BINANCE].trades["ts_ms"][0]) for tape in heard.tapes[1:]]
        assert prints == [START_MS + 100 * n - 50 for n in (2, 3, 4)]


def _texts(maker: type[MarketFeed]) -> list[Message]:
    market = open_market(sim_config(preset="lively", seed=3, symbols={"BTC": {"positions": 500}}), "BTC", START_MS)
    feed = maker(listings_of(configuration.parse({}), maker.venue), Faults(), seed=3)
    steps = (START_MS + 100 * n for n in range(1, 600))
    return [message for at_ms in steps for message in feed.step([market.advance(at_ms)], at_ms)]


def test_the_same_seed_prints_the_same_frames() -> None:
    for maker in FEEDS:
        first = _texts(maker)
        assert len(first) > 100
        assert first == _texts(maker)

"""The simulated market of one symbol: people, makers and a price, one tick after another.

A tick: price moves; what it touches happens (liquidations by mark, stops and take-profits by last, added margin,
impatience, panic); newcomers open; market makers take the other side of the difference, so that in every venue and
tick lots bought = lots sold and afterwards longs = shorts = open interest, exactly, in whole lots. Who takes the
closing order of a liquidation: whoever trades against it in that tick, an opener on the same side or a closer on the
other, and for the rest a maker, who closes opposite inventory before opening new. Forced orders move the next price.

Whole ticks are simulated on a fixed grid from the start; `advance` hands out what lies before its time, so the tape
does not depend on how time is cut.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.config.simulation import SimConfig
from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.market.makers import Lots, Makers
from liqmap.sim.market.memory import Memory
from liqmap.sim.market.past import level_lots, populate
from liqmap.sim.market.people import Mood, People, liquidation_prices
from liqmap.sim.market.positions import Indices, Positions, Rows, summed_by_venue
from liqmap.sim.market.price import DAY_MS, PriceProcess, Prices
from liqmap.sim.market.prints import Stretch, liquidation_prints, merged, ordinary_prints, taker_split
from liqmap.sim.tape import LIQUIDATIONS, TRADES, Tape, VenueTape

FUNDING_MS = 8 * 3_600_000
_LONG, _SHORT = PositionSide.LONG, PositionSide.SHORT
_REVIEW_MS = 300_000
"""Each cross account is looked at once in this time, on average …"""
_REVIEW_PART = 0.01
"""… and this share of people, or more, at a time."""
_CLOSINGS_MEMORY_MS = 900_000.0
_WARM_UP_MS = 1_200_000
_WARM_UP_TICK_MS = 10_000
_PANIC_FROM = 2.0
"""Volatility, against its long-run level, from which people panic."""
_LIQUIDATION_FEE = 5e-4
_EAGER_ARRIVALS = 0.6
_CLEAR_OF_MARK = 0.001
_LEVEL_HALF_LIFE_DAYS = 0.5


@dataclass(frozen=True, slots=True)
class State:
    """The market at the end of a tick."""

    ts_ms: int
    prices: Prices
    funding_rate: float
    open_interest_lots: dict[Venue, int]


@dataclass(slots=True)
class _Orders:
    """Whole lots by venue number that people buy and sell in one tick, and how much of it is in a hurry."""

    bought: Lots
    sold: Lots
    eager_bought: Lots
    eager_sold: Lots

    @classmethod
    def none(cls) -> "_Orders":
        return cls(*(np.zeros(4, np.int64) for _ in range(4)))

    def add(self, rows: Rows, buys: NDArray[np.bool_], eager_share: float) -> None:
        lots, venue = rows["qty_lots"], rows["venue"]
        bought, sold = summed_by_venue(venue[buys], lots[buys]), summed_by_venue(venue[~buys], lots[~buys])
        self.bought += bought
        self.sold += sold
        self.eager_bought += (bought * eager_share).astype(np.int64)
        self.eager_sold += (sold * eager_share).astype(np.int64)


class SimulatedMarket:
    """See the module; implements `liqmap.sim.tape.Market`. Same configuration, symbol and start: the same tape."""

    def __init__(self, config: SimConfig, symbol: str, start_ms: int) -> None:
        self.symbol = symbol
        self._config, self._about = config, config.symbols[symbol]
        seeds = np.random.SeedSequence([config.seed, *symbol.encode()]).spawn(5)
        price_random, past_random, self._random, self._print_random, memory_random = map(np.random.default_rng, seeds)
        about = self._about
        self._price = PriceProcess(config.price, about.start_price, about.volatility_multiple, price_random)
        self._people = People(config, about, self._random)
        self.positions = Positions(2 * about.positions)
        people_share = 1.0 - config.makers_share
        self._start_ms, self._now_ms = start_ms, start_ms - _WARM_UP_MS
        path = populate(self.positions, self._people, self._price, about, people_share, self._now_ms, past_random)
        turnover_per_day = config.round_trips_per_day + 2.0 * people_share * self._people.turnover_per_ms * DAY_MS
        spread = config.level_spread
        self._memory = Memory(path, self._now_ms, level_lots(about), (turnover_per_day, spread), memory_random)
        self._level = level_lots(about)
        self.makers = self._first_makers()
        self._level_wander = 0.0
        nominal = 2.0 * people_share * self._people.turnover_per_ms
        self._closings = {venue: nominal * lots for venue, lots in self._level.items()}
        self._forced_pct = 0.0
        self._review_due = 0.0
        self._states = deque([self._state()])
        self._trades: dict[Venue, list[NDArray[np.void]]] = {venue: [] for venue in self._level}
        self._prints: dict[Venue, list[NDArray[np.void]]] = {venue: [] for venue in self._level}
        self._told_ms = start_ms
        self._warm_up()
        self._untold = self._memory.told(self._about.lot_base)

    @property
    def now_ms(self) -> int:
        """End of the last whole tick that was simulated; `positions` and `makers` are as of then."""
        return self._now_ms

    @property
    def lot_base(self) -> float:
        """Base quantity of one lot."""
        return self._about.lot_base

    @property
    def prices(self) -> Prices:
        """Index, last and mark at `now_ms`."""
        return self._price.prices

    @property
    def last_price(self) -> float:
        """The price that a trade prints at where `advance` stopped: on the straight line between two ticks."""
        before = self._states[0]
        after = self._states[1] if len(self._states) > 1 else before
        along = (self._told_ms - before.ts_ms) / max(after.ts_ms - before.ts_ms, 1)
        return before.prices.last + (after.prices.last - before.prices.last) * min(max(along, 0.0), 1.0)

    def advance(self, to_ms: int) -> Tape:
        """See Market. Prints up to and including `to_ms`; prices and open interest of the last whole tick before it."""
        if to_ms < self._told_ms:
            raise ValueError(f"the market is at {self._told_ms}, it cannot go back to {to_ms}")
        while self._now_ms < to_ms:
            self._tick(self._config.tick_ms)
        while len(self._states) > 1 and self._states[1].ts_ms <= to_ms:
            self._states.popleft()
        state, from_ms = self._states[0], self._told_ms
        self._told_ms = to_ms
        past, self._untold = self._untold, {}
        return Tape(
            symbol=self.symbol,
            from_ms=from_ms,
            to_ms=to_ms,
            mark_price=state.prices.mark,
            index_price=state.prices.index,
            last_price=state.prices.last,
            funding_rate=state.funding_rate,
            next_funding_ms=(to_ms // FUNDING_MS + 1) * FUNDING_MS,
            venues={
                venue: VenueTape(
                    trades=_taken(self._trades[venue], to_ms, TRADES),
                    liquidations=_taken(self._prints[venue], to_ms, LIQUIDATIONS),
                    open_interest_base=round(lots * self._about.lot_base, 10),
                    past=past.get(venue),
                )
                for venue, lots in state.open_interest_lots.items()
            },
        )

    def _warm_up(self) -> None:
        """Let the population drawn from the past find its pace of closing and opening before anybody watches."""
        while self._now_ms < self._start_ms:
            self._tick(_WARM_UP_TICK_MS)
            self._memory.add(
                self._now_ms,
                self._price.prices.mark,
                self._states[-1].open_interest_lots,
                {venue: prints[-1] for venue, prints in self._trades.items()},
            )
        for queue in (*self._trades.values(), *self._prints.values()):
            queue.clear()
        self._states = deque([self._states[-1]])

    def _tick(self, dt_ms: int) -> None:
        before, now_ms = self._price.prices, self._now_ms + dt_ms
        self._now_ms = now_ms
        after = self._price.step(dt_ms, self._forced_pct)
        orders, forced = _Orders.none(), _Orders.none()
        touched = self.positions.touched(min(after.mark, after.last), max(after.mark, after.last), now_ms)
        panicked = self._panicking(dt_ms)
        if len(panicked):
            touched = np.union1d(touched, panicked)
        liquidated = self._happen(touched, np.isin(touched, panicked), after, orders, forced)
        self._settle_closings(orders, dt_ms)
        self._arrive(dt_ms, after, orders)
        self._print(dt_ms, (before, after), orders, liquidated, self._make(dt_ms, orders, liquidated))
        self._review(dt_ms, after.mark)
        self._states.append(self._state())
        open_interest = sum(self._states[-1].open_interest_lots.values())
        self._forced_pct = 100.0 * float((forced.bought - forced.sold).sum()) / max(open_interest, 1)

    def _happen(
        self, touched: Indices, panicked: NDArray[np.bool_], price: Prices, orders: _Orders, forced: _Orders
    ) -> Rows:
        """Let happen what the tick brought upon the touched rows; returns the liquidated, with the lots that were."""
        rows = self.positions.rows[touched]
        sign = rows["sign"]
        beyond = sign * price.mark <= sign * rows["liquidation"]
        stopped = ~beyond & ((sign * price.last <= sign * rows["stop"]) | panicked)
        leaves = (sign * price.last >= sign * rows["target"]) | (rows["due_ms"] <= self._now_ms)
        adds = ~beyond & ~stopped & ~leaves & (sign * price.mark <= sign * rows["topup"]) & (rows["topups_left"] > 0)
        large = rows["qty_lots"] * self.lot_base * price.mark > self._config.partial_above_usd
        partly = beyond & large
        liquidated = rows[beyond]
        kept = np.where(large[beyond], liquidated["qty_lots"] // 2, 0)
        liquidated["margin_usd"] *= 1.0 - kept / liquidated["qty_lots"]
        liquidated["qty_lots"] -= kept
        for closed, eager_share in ((liquidated, 0.0), (rows[stopped], 1.0), (rows[~beyond & ~stopped & leaves], 0.5)):
            orders.add(closed, closed["sign"] < 0, eager_share)
        for closed in (liquidated, rows[stopped]):
            forced.add(closed, closed["sign"] < 0, 0.0)
        self._add_margin(touched[adds], rows[adds], price.mark)
        self._cut_down(touched[partly], rows[partly], price.mark)
        self.positions.remove(touched[(beyond & ~large) | stopped | (~beyond & leaves)])
        return np.asarray(liquidated)

    def _add_margin(self, indices: Indices, rows: Rows, mark: float) -> None:
        if not len(indices):
            return
        rows["margin_usd"] += rows["opening_margin_usd"] * self._random.uniform(0.3, 1.0, len(rows))
        rows["topups_left"] -= 1
        rows["liquidation"] = liquidation_prices(rows, self.lot_base)
        reachable = np.where(np.isfinite(rows["liquidation"]), rows["liquidation"], np.nan)
        rows["topup"] = reachable + (mark - reachable) * self._random.uniform(0.1, 0.4, len(rows))
        self.positions.put(indices, rows)

    def _cut_down(self, indices: Indices, rows: Rows, mark: float) -> None:
        """Partial liquidation: half the lots go at mark, their loss and a fee leave the margin, the rest stays."""
        if not len(indices):
            return
        gone = rows["qty_lots"] - rows["qty_lots"] // 2
        rows["qty_lots"] -= gone
        gone_base = gone * self.lot_base
        gain = rows["sign"] * (mark - rows["entry"]) * gone_base
        rows["margin_usd"] += gain - _LIQUIDATION_FEE * mark * gone_base
        rows["liquidation"] = liquidation_prices(rows, self.lot_base)
        self.positions.put(indices, rows)

    def _panicking(self, dt_ms: int) -> Indices:
        """Losing positions whose owners lose their nerve this tick: only while volatility is extreme."""
        if self._price.volatility_ratio < _PANIC_FROM:
            return np.zeros(0, np.intp)
        hazard = self._people.panic_per_min * (dt_ms / 60_000.0)
        asked = self._random.binomial(len(self.positions), min(float(hazard.max()), 1.0))
        some = np.unique(self._random.integers(0, len(self.positions), asked))
        rows = self.positions.rows[some]
        losing = rows["sign"] * (self._price.prices.last - rows["entry"]) < 0
        answer = self._random.random(len(some)) * hazard.max() < hazard[rows["person"]]
        return np.asarray(some[losing & answer])

    def _settle_closings(self, orders: _Orders, dt_ms: int) -> None:
        """Remember how much people close: about as much will be opened by those who replace them."""
        weight = 1.0 - np.exp(-dt_ms / _CLOSINGS_MEMORY_MS)
        closed = orders.bought + orders.sold
        for venue, rate in self._closings.items():
            self._closings[venue] = rate + weight * (float(closed[venue]) / dt_ms - rate)

    def _arrive(self, dt_ms: int, price: Prices, orders: _Orders) -> None:
        """Newcomers: as many as leave, more while open interest is below its level; in crowds after moves."""
        config, days = self._config, dt_ms / DAY_MS
        keep = 0.5 ** (days / _LEVEL_HALF_LIFE_DAYS)
        self._level_wander = keep * self._level_wander + np.sqrt(1.0 - keep**2) * self._random.standard_normal()
        hours = max(self._now_ms - self._start_ms + _WARM_UP_MS, 0) / 3_600_000.0
        growth = 1.0 + config.open_interest_growth * (1.0 - np.exp(-hours / config.growth_hours))
        growth *= np.exp(config.level_spread * self._level_wander)
        trend = self._price.trend
        crowd = 1.0 + config.crowding * min(max(abs(trend) - 1.0, 0.0), 3.0)
        restore = 1.0 - np.exp(-dt_ms / (config.restore_min * 60_000.0))
        newcomer_lots = self._people.arrival_usd / (price.last * self.lot_base)
        now = self._states[-1].open_interest_lots
        counts = []
        for venue, level in self._level.items():
            wanted = self._closings[venue] * dt_ms * crowd + 2.0 * restore * (level * growth - now[venue])
            counts.append(self._random.poisson(max(wanted, 0.0) / newcomer_lots))
        venues = np.repeat(np.array(list(self._level), dtype=np.uint8), counts)
        if not len(venues):
            return
        longs, shorts = self.positions.lots(_LONG).sum(), self.positions.lots(_SHORT).sum()
        mood = Mood(trend, float(longs - shorts) / max(float(sum(now.values())), 1.0))
        rows = self._people.arrive(venues, price.last, self._now_ms, mood)
        self.positions.add(rows)
        orders.add(rows, rows["sign"] > 0, _EAGER_ARRIVALS)

    def _make(self, dt_ms: int, orders: _Orders, liquidated: Rows) -> dict[Venue, int]:
        """Makers take the difference; returns the lots that changed hands at each venue, round trips included.

        Liquidations of both sides in one tick both take: a maker stands between them, so the lots count twice.
        """
        forced = summed_by_venue(liquidated["venue"], liquidated["qty_lots"])
        share = 1.0 - 0.5 ** (dt_ms / 60_000.0 / self._config.makers_half_life_min)
        traded = {}
        for venue, makers in self.makers.items():
            bought, sold = int(orders.bought[venue]), int(orders.sold[venue])
            makers.trade(sold - bought, self._random)
            round_trips = self._config.round_trips_per_day * dt_ms / DAY_MS * self._level[venue] * self._activity
            traded[venue] = (
                max(bought, sold, int(forced[venue])) + makers.settle(share) + int(self._random.poisson(round_trips))
            )
        return traded

    @property
    def _activity(self) -> float:
        """Prints against an ordinary moment: busier when price moves."""
        return float(min(max(math.sqrt(self._price.volatility_ratio), 0.55), 1.7))

    def _print(
        self, dt_ms: int, prices: tuple[Prices, Prices], orders: _Orders, liquidated: Rows, traded: dict[Venue, int]
    ) -> None:
        (before, after), about = prices, self._about
        stretch = Stretch(self._now_ms - dt_ms, self._now_ms, before.last, after.last, about.price_tick, about.lot_base)
        forced_lots = summed_by_venue(liquidated["venue"], liquidated["qty_lots"])
        largest = max(self._level.values())
        usual = self._config.trades_per_s * dt_ms / 1000.0 * self._activity
        tilt = 0.5 + 0.3 * math.tanh(math.log(after.last / before.last) * 2e3)
        split, counts = [], []
        for venue, lots in traded.items():
            eager = (int(orders.eager_bought[venue]), int(orders.eager_sold[venue]))
            split.append(taker_split(lots - int(forced_lots[venue]), *eager, tilt))
            counts.append(usual * math.sqrt(self._level[venue] / largest))
        everywhere = ordinary_prints(stretch, split, counts, self._print_random)
        for venue, trades in zip(traded, everywhere, strict=True):
            if forced_lots[venue]:
                mine = liquidated[liquidated["venue"] == venue]
                fills, forced = liquidation_prints(mine, before.mark, after.mark, stretch, self._print_random)
                self._prints[venue].append(forced)
                trades = merged(trades, fills)
            self._trades[venue].append(trades)

    def _review(self, dt_ms: int, mark: float) -> None:
        """Cross accounts earn and lose elsewhere, and their liquidation prices with it, but never right onto the mark:
        their owners move money in before (so every liquidation is one that mark came to)."""
        count = len(self.positions)
        self._review_due += min(dt_ms / _REVIEW_MS, 1.0)
        if self._review_due < _REVIEW_PART or not count:
            return
        size, self._review_due = int(self._review_due * count), 0.0
        some = (int(self._random.integers(0, count)) + np.arange(size)) % count
        some = some[self.positions.rows["cross"][some]]
        rows = self.positions.rows[some]
        wander = self._config.account_wander_pct / 100.0 * (max(_REVIEW_MS, dt_ms) / 3_600_000.0) ** 0.5
        notional = rows["qty_lots"] * self.lot_base * mark
        rows["margin_usd"] += wander * notional * self._random.standard_normal(len(rows))
        rows["liquidation"] = liquidation_prices(rows, self.lot_base)
        clear = rows["sign"] * (mark - rows["liquidation"]) > _CLEAR_OF_MARK * mark
        self.positions.put(some[clear], rows[clear])

    def _first_makers(self) -> dict[Venue, Makers]:
        longs = self.positions.lots(_LONG)  # as many as shorts: the population starts even
        makers = {}
        for venue, level in self._level.items():
            makers[venue] = Makers.with_gross(level - int(longs[venue]), self._random)
        return makers

    def _state(self) -> State:
        longs = self.positions.lots(_LONG)
        return State(
            ts_ms=self._now_ms,
            prices=self._price.prices,
            funding_rate=float(np.clip(1e-4 + self._price.premium, -3e-3, 3e-3)),
            open_interest_lots={v: int(longs[v]) + makers.long_lots for v, makers in self.makers.items()},
        )


def _taken(queue: list[NDArray[np.void]], to_ms: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Take what was printed up to `to_ms` out of the queue (sorted by time)."""
    every = np.concatenate(queue) if queue else np.zeros(0, dtype)
    split = int(np.searchsorted(every["ts_ms"], to_ms, side="right"))
    queue[:] = [every[split:]] if split < len(every) else []
    return every[:split]

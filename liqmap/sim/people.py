"""Who trades: kinds of people, how much they open, with what leverage, plans and patience.

`People.draw` turns numbers of newcomers into rows of POSITION. The two families differ in law, not only in numbers:
sizes and patience log-normal or Pareto, leverage around habits or out of one wide budget, entries alone or in crowds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.config.simulation import SimConfig, SimSymbolConfig
from liqmap.domain.enums import PositionSide, Venue
from liqmap.sim.brackets import BRACKETS, Floats
from liqmap.sim.positions import POSITION, Rows

Numbers = NDArray[np.intp]

_LONGEST_HOLD_MS = 45 * 86_400_000.0
_LARGEST_SHARE = 0.0005
"""No one position is more than this share of the symbol's open interest."""
_SMALLEST_LEVERAGE = 1.02
_MS_PER_MIN = 60_000.0


@dataclass(frozen=True, slots=True)
class Law:
    """A positive quantity of each kind of people: log-normal or Pareto, capped; arrays (kinds,)."""

    pareto: bool
    median: Floats
    spread: Floats
    cap: float

    def draw(self, kind: Numbers, generator: np.random.Generator) -> Floats:
        """One value for each entry of `kind`."""
        median, spread = self.median[kind], self.spread[kind]
        if self.pareto:
            values = median * (2.0 * (1.0 - generator.random(len(kind)))) ** -spread
        else:
            values = median * np.exp(spread * generator.standard_normal(len(kind)))
        return np.minimum(values, self.cap)

    def mean(self) -> Floats:
        """Expected value of each kind, the cap included (log-normal: ignored, it is far away)."""
        if not self.pareto:
            return np.asarray(self.median * np.exp(self.spread**2 / 2.0))
        least, exponent = self.median * 2.0**-self.spread, 1.0 / self.spread
        tail = (1.0 - (least / self.cap) ** (exponent - 1.0)) / (exponent - 1.0)
        return np.asarray(least * (1.0 + tail))


@dataclass(frozen=True, slots=True)
class Mood:
    """What newcomers see: the trend of the last half hour (1 = ordinary size) and how one-sided people already are."""

    trend: float | Floats
    imbalance: float
    """(people's longs − people's shorts) / open interest, −1 … 1: funding makes the crowded side dear."""


class People:
    """Draws newcomers of one symbol."""

    def __init__(self, config: SimConfig, symbol: SimSymbolConfig, generator: np.random.Generator) -> None:
        self._generator = generator
        self._lot_base = symbol.lot_base
        self._leverage_multiple = config.leverage_multiple
        self._kinds = tuple(config.people.values())
        self._share = self._column("share") / self._column("share").sum()
        self._trend, self._bias = self._column("trend"), self._column("long_bias")
        open_interest_usd = sum(symbol.open_interest_base.values()) * symbol.start_price
        self._sizes = self._scaled_sizes(
            config, 2.0 * open_interest_usd * (1.0 - config.makers_share), symbol.positions
        )
        hold = self._column("hold_min") * _MS_PER_MIN * config.hold_multiple
        self._holds = Law(config.hold_law == "pareto", hold, self._column("hold_spread"), _LONGEST_HOLD_MS)
        self.panic_per_min = self._column("panic_per_min")
        self._standing_chance = _normal(self._share / self._sizes.mean())
        self._arrival_chance = _normal(self._share / self._sizes.mean() / self._holds.mean())

    @property
    def arrival_usd(self) -> float:
        """Mean notional of a newcomer."""
        return float(self._arrival_chance @ self._sizes.mean())

    @property
    def standing_usd(self) -> float:
        """Mean notional of a standing position, were nobody liquidated or stopped."""
        return float(self._standing_chance @ self._sizes.mean())

    @property
    def turnover_per_ms(self) -> float:
        """Share of people's open interest that is replaced per ms, were nobody liquidated or stopped."""
        return float((self._share / self._holds.mean()).sum())

    def arrive(self, venue: NDArray[np.uint8], price: float, now_ms: int, mood: Mood) -> Rows:
        """Newcomers, one for each entry of `venue`, at about `price`, opening now."""
        count = len(venue)
        kind = self._generator.choice(len(self._kinds), count, p=self._arrival_chance)
        rows = np.zeros(count, POSITION)
        rows["venue"], rows["person"], rows["opened_ms"] = venue, kind, now_ms
        rows["due_ms"] = now_ms + self._holds.draw(kind, self._generator).astype(np.int64) + 1
        rows["entry"] = price
        self._decide(rows, kind, mood)
        return rows

    def standing(self, count: int, now_ms: int) -> Rows:
        """People who would be found at `now_ms`: kind, patience and age only; entries are for the caller to fill.

        Whoever stays longer is more likely to be met: patience is drawn in proportion to itself, age uniform in it.
        """
        generator = self._generator
        kind = generator.choice(len(self._kinds), count, p=self._standing_chance)
        rows = np.zeros(count, POSITION)
        for number in range(len(self._kinds)):
            mine = np.flatnonzero(kind == number)
            pool = self._holds.draw(np.full(20_000, number), generator)
            hold = generator.choice(pool, len(mine), p=pool / pool.sum())
            age = hold * generator.random(len(mine))
            rows["opened_ms"][mine] = now_ms - age.astype(np.int64)
            rows["due_ms"][mine] = now_ms + (hold - age).astype(np.int64) + 1
        rows["person"] = kind
        return rows

    def decide(self, rows: Rows, mood: Mood) -> None:
        """Side, size, leverage and plans of rows whose person, venue and entry are set."""
        self._decide(rows, rows["person"].astype(np.intp), mood)

    def _decide(self, rows: Rows, kind: Numbers, mood: Mood) -> None:
        generator, count = self._generator, len(rows)
        pull = 0.6 * self._trend[kind] * mood.trend + self._bias[kind] - 5.0 * mood.imbalance
        long = generator.random(count) < 0.5 + 0.48 * np.tanh(pull)
        rows["sign"] = np.where(long, 1.0, -1.0)
        rows["side"] = np.where(long, PositionSide.LONG, PositionSide.SHORT)
        lot_usd = self._lot_base * rows["entry"]
        rows["qty_lots"] = np.maximum(np.rint(self._sizes.draw(kind, generator) / lot_usd), 1.0)
        notional = rows["qty_lots"] * lot_usd
        rows["leverage"] = self._leverage(rows["venue"], kind, notional)
        rows["cross"] = generator.random(count) < self._column("cross_share")[kind]
        spare = np.where(rows["cross"], np.exp(0.5 * np.abs(generator.standard_normal(count))), 1.0)
        rows["margin_usd"] = rows["opening_margin_usd"] = notional / rows["leverage"] * spare
        rows["liquidation"] = liquidation_prices(rows, self._lot_base)
        self._plan(rows, kind)

    def _leverage(self, venue: NDArray[np.uint8], kind: Numbers, notional: Floats) -> Floats:
        """Around the habits of the kind, never beyond what the venue grants for the size (and seldom right at it)."""
        generator = self._generator
        chosen = np.empty(len(kind))
        for number, person in enumerate(self._kinds):
            mine = np.flatnonzero(kind == number)
            habit = generator.choice(person.habits, len(mine), p=_normal(np.array(person.habit_weights)))
            chosen[mine] = habit * np.exp(person.habit_spread * generator.standard_normal(len(mine)))
        limit = np.empty(len(kind))
        for each in BRACKETS:
            mine = np.flatnonzero(venue == each)
            limit[mine] = BRACKETS[each].leverage_limit(notional[mine])
        limit *= 1.0 - 0.25 * generator.random(len(kind)) ** 2
        return np.clip(chosen * self._leverage_multiple, _SMALLEST_LEVERAGE, limit)

    def _plan(self, rows: Rows, kind: Numbers) -> None:
        """Stops, take-profits and added margin as barriers, in units of the distance to liquidation."""
        generator, count = self._generator, len(rows)
        entry, sign = rows["entry"], rows["sign"]
        reach = np.minimum(np.abs(rows["liquidation"] / entry - 1.0), 1.0)
        stop = np.minimum(self._column("stop_distance")[kind] * np.exp(0.4 * generator.standard_normal(count)), 0.95)
        target = self._column("target_distance")[kind] * np.exp(0.5 * generator.standard_normal(count))
        topup = generator.uniform(0.55, 0.9, count)
        rows["stop"] = _or_nan(entry * (1.0 - sign * reach * stop), self._wants("stop_share", kind))
        gain = np.minimum(reach * target, 0.9)
        rows["target"] = _or_nan(entry * (1.0 + sign * gain), self._wants("target_share", kind))
        adds = self._wants("topup_share", kind)
        rows["topup"] = _or_nan(entry * (1.0 - sign * reach * topup), adds)
        rows["topups_left"] = np.where(adds, generator.integers(1, 4, count), 0)

    def _wants(self, share: str, kind: Numbers) -> NDArray[np.bool_]:
        return self._generator.random(len(kind)) < self._column(share)[kind]

    def _column(self, name: str) -> Floats:
        return np.array([getattr(person, name) for person in self._kinds], dtype=np.float64)

    def _scaled_sizes(self, config: SimConfig, both_sides_usd: float, positions: int) -> Law:
        """The kinds' sizes, scaled so that about `positions` positions make up `both_sides_usd`."""
        median, spread, cap = self._column("size_usd"), self._column("size_spread"), _LARGEST_SHARE * both_sides_usd
        law = Law(config.size_law == "pareto", median, spread, cap)
        for _ in range(4):  # the cap does not scale with the sizes: a fixed point, reached at once
            expected = float((self._share * both_sides_usd / law.mean()).sum())
            law = Law(law.pareto, law.median * (expected / positions), spread, cap)
        return law


def liquidation_prices(rows: Rows, lot_base: float) -> Floats:
    """Mark prices at which these positions are liquidated, by the brackets of their venues (−inf: none)."""
    prices = np.full(len(rows), -np.inf)
    for venue in Venue:
        mine = np.flatnonzero(rows["venue"] == venue)
        if len(mine):
            some = rows[mine]
            prices[mine] = BRACKETS[venue].liquidation_price(
                some["sign"], some["qty_lots"] * lot_base, some["entry"], some["margin_usd"]
            )
    return prices


def _normal(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum())


def _or_nan(prices: Floats, wanted: NDArray[np.bool_]) -> Floats:
    return np.where(wanted, prices, np.nan)

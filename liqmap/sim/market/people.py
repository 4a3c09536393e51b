"""Who trades: kinds of people, how much they open, with what leverage, plans and patience.

A person is first a PLAN, drawn in batches and free of price; `open` puts plans on a venue at a price. The two families
differ in law, not only in numbers: sizes and patience log-normal or Pareto, leverage around habits or out of one wide
budget, entries alone or in crowds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liqmap.config.simulation import SimConfig, SimSymbolConfig
from liqmap.domain.enums import PositionSide
from liqmap.sim.market.brackets import Floats, leverage_limit, liquidation_price
from liqmap.sim.market.positions import POSITION, Rows

Numbers = NDArray[np.intp]

PLAN = np.dtype(
    [
        ("person", "u1"),  # number in the configured people
        ("hold_ms", "<f8"),
        ("size_usd", "<f8"),
        ("leverage", "<f8"),  # wished for
        ("modesty", "<f8"),  # the share of the venue's limit they take where they wished for more
        ("cross", "?"),
        ("spare", "<f8"),  # account over initial margin
        ("stop", "<f8"),  # as a share of the distance to liquidation; NaN: none; so `target` and `topup`
        ("target", "<f8"),
        ("topup", "<f8"),
        ("topups_left", "u1"),
        ("side_luck", "<f8"),
    ]
)
"""What one newcomer has in mind before seeing a price."""

_POOL = 2048
_LONGEST_HOLD_MS = 45 * 86_400_000.0
_LARGEST_OF_MEAN = 40.0
"""No position is larger than so many mean ones."""
_SMALLEST_LEVERAGE = 1.02
_MS_PER_MIN = 60_000.0
_LONG, _SHORT = int(PositionSide.LONG), int(PositionSide.SHORT)


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
        least, exponent = np.minimum(self.median * 2.0**-self.spread, self.cap), 1.0 / self.spread
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
        self._share = _normal(self._column("share"))
        self._trend, self._bias = self._column("trend"), self._column("long_bias")
        self.panic_per_min = self._column("panic_per_min")
        open_interest_usd = sum(symbol.open_interest_base.values()) * symbol.start_price
        both_sides_usd = 2.0 * open_interest_usd * (1.0 - config.makers_share)
        self._sizes = self._scaled_sizes(config, both_sides_usd, symbol.positions)
        hold_ms = self._column("hold_min") * _MS_PER_MIN * config.hold_multiple
        self._holds = Law(config.hold_law == "pareto", hold_ms, self._column("hold_spread"), _LONGEST_HOLD_MS)
        self._standing_chance = _normal(self._share / self._sizes.mean())
        self._arrival_chance = _normal(self._share / self._sizes.mean() / self._holds.mean())
        self._pool: Rows = np.zeros(0, PLAN)

    @property
    def arrival_usd(self) -> float:
        """Mean notional of a newcomer."""
        return float(self._arrival_chance @ self._sizes.mean())

    @property
    def turnover_per_ms(self) -> float:
        """Share of people's open interest that is replaced per ms, were nobody liquidated or stopped."""
        return float((self._share / self._holds.mean()).sum())

    def arrive(self, venue: NDArray[np.uint8], price: float, now_ms: int, mood: Mood) -> Rows:
        """Newcomers, one for each entry of `venue`, at `price`, opening now."""
        while len(self._pool) < len(venue):
            kind = self._generator.choice(len(self._kinds), _POOL, p=self._arrival_chance)
            self._pool = np.concatenate([self._pool, self._plans(kind)])
        plans, self._pool = self._pool[: len(venue)], self._pool[len(venue) :]
        return self.open(plans, venue, np.full(len(venue), price), np.full(len(venue), now_ms), mood)

    def standing(self, count: int) -> tuple[Rows, Floats]:
        """PLANs of people who would be met at one moment, and their ages, ms.

        Whoever stays longer is more likely to be met: patience is drawn in proportion to itself, age uniform in it.
        """
        generator = self._generator
        kind = generator.choice(len(self._kinds), count, p=self._standing_chance)
        plans = self._plans(kind)
        for number in range(len(self._kinds)):
            mine = np.flatnonzero(kind == number)
            pool = self._holds.draw(np.full(20_000, number), generator)
            plans["hold_ms"][mine] = generator.choice(pool, len(mine), p=pool / pool.sum())
        return plans, plans["hold_ms"] * generator.random(count)

    def open(
        self, plans: Rows, venue: NDArray[np.uint8], entry: Floats, opened_ms: NDArray[np.int64], mood: Mood
    ) -> Rows:
        """POSITIONs of these plans: side by mood, leverage within the venue's limit, plans as prices."""
        person = plans["person"]
        pull = 0.6 * self._trend[person] * mood.trend + self._bias[person] - 5.0 * mood.imbalance
        long = plans["side_luck"] < 0.5 + 0.48 * np.tanh(pull)
        lots = np.maximum(np.rint(plans["size_usd"] / (self._lot_base * entry)), 1.0)
        notional = lots * self._lot_base * entry
        limit = leverage_limit(venue, notional) * plans["modesty"]
        rows = np.zeros(len(plans), POSITION)
        for name in ("person", "cross", "topups_left"):
            rows[name] = plans[name]
        rows["venue"], rows["entry"], rows["qty_lots"] = venue, entry, lots
        rows["opened_ms"] = opened_ms
        rows["due_ms"] = opened_ms + plans["hold_ms"].astype(np.int64) + 1
        rows["sign"] = sign = np.where(long, 1.0, -1.0)
        rows["side"] = np.where(long, _LONG, _SHORT)
        rows["leverage"] = np.clip(plans["leverage"], _SMALLEST_LEVERAGE, limit)
        rows["margin_usd"] = rows["opening_margin_usd"] = notional / rows["leverage"] * plans["spare"]
        rows["liquidation"] = liquidation_prices(rows, self._lot_base)
        reach = np.minimum(np.abs(rows["liquidation"] / entry - 1.0), 1.0)
        rows["stop"] = entry * (1.0 - sign * reach * plans["stop"])
        rows["target"] = entry * (1.0 + sign * np.minimum(reach * plans["target"], 0.9))
        rows["topup"] = entry * (1.0 - sign * reach * plans["topup"])
        return rows

    def _plans(self, kind: Numbers) -> Rows:
        generator, count = self._generator, len(kind)
        plans = np.zeros(count, PLAN)
        plans["person"] = kind
        plans["hold_ms"] = self._holds.draw(kind, generator)
        plans["size_usd"] = self._sizes.draw(kind, generator)
        plans["leverage"] = self._wished_leverage(kind)
        plans["modesty"] = 1.0 - 0.25 * generator.random(count) ** 2
        plans["cross"] = self._wants("cross_share", kind)
        plans["spare"] = np.where(plans["cross"], np.exp(0.5 * np.abs(generator.standard_normal(count))), 1.0)
        stop = self._column("stop_distance")[kind] * np.exp(0.4 * generator.standard_normal(count))
        target = self._column("target_distance")[kind] * np.exp(0.5 * generator.standard_normal(count))
        adds = self._wants("topup_share", kind)
        plans["stop"] = np.where(self._wants("stop_share", kind), np.minimum(stop, 0.95), np.nan)
        plans["target"] = np.where(self._wants("target_share", kind), target, np.nan)
        plans["topup"] = np.where(adds, generator.uniform(0.55, 0.9, count), np.nan)
        plans["topups_left"] = np.where(adds, generator.integers(1, 4, count), 0)
        plans["side_luck"] = generator.random(count)
        return plans

    def _wished_leverage(self, kind: Numbers) -> Floats:
        chosen = np.empty(len(kind))
        for number, person in enumerate(self._kinds):
            mine = np.flatnonzero(kind == number)
            habits, chances = np.array(person.habits), _normal(np.array(person.habit_weights, dtype=np.float64))
            spread = np.exp(person.habit_spread * self._generator.standard_normal(len(mine)))
            chosen[mine] = self._generator.choice(habits, len(mine), p=chances) * spread
        return chosen * self._leverage_multiple

    def _wants(self, share: str, kind: Numbers) -> NDArray[np.bool_]:
        return self._generator.random(len(kind)) < self._column(share)[kind]

    def _column(self, name: str) -> Floats:
        return np.array([getattr(person, name) for person in self._kinds], dtype=np.float64)

    def _scaled_sizes(self, config: SimConfig, both_sides_usd: float, positions: int) -> Law:
        """The kinds' sizes, scaled so that about `positions` positions make up `both_sides_usd`."""
        median, spread, cap = (
            self._column("size_usd"),
            self._column("size_spread"),
            _LARGEST_OF_MEAN * both_sides_usd / positions,
        )
        law = Law(config.size_law == "pareto", median, spread, cap)
        for _ in range(4):  # the cap does not scale with the sizes: a fixed point, reached at once
            expected = float((self._share * both_sides_usd / law.mean()).sum())
            law = Law(law.pareto, law.median * (expected / positions), spread, cap)
        return law


def liquidation_prices(rows: Rows, lot_base: float) -> Floats:
    """Mark prices at which these POSITIONs are liquidated, by the brackets of their venues (−inf: none)."""
    return liquidation_price(
        rows["venue"], rows["sign"], rows["qty_lots"] * lot_base, rows["entry"], rows["margin_usd"]
    )


def _normal(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum())

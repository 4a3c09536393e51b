"""How the simulated index, last and mark move, and what forced orders do to them.

Two laws. *Stochastic volatility*: the logarithm of volatility returns slowly to its mean, with jumps. *Regimes*: a
price that is calm, climbs, slides or crashes, and changes its mind at random. In both, forced orders (liquidations,
stops, panic) move price: a part for good, the rest as a premium of last over index that fades. The mark is the index
times the averaged premium, as venues build it, so that index, mark and last are three different numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from liqmap.config.simulation import PriceConfig

DAY_MS = 86_400_000
_BLOCK = 4096
_LARGEST_JUMP = 0.15
_LARGEST_IMPACT = 0.02
"""What forced orders may move price in one second: venues' price bands stop more."""


class Luck(NamedTuple):
    """Random numbers of one step of the weather: a law uses the one it needs."""

    normal: float
    uniform: float


class Weather(Protocol):
    """The law of volatility and drift; one step per tick."""

    volatility_ratio: float
    """Volatility now against its long-run level."""

    def step(self, dt_day: float, luck: Luck) -> float:
        """Move on by `dt_day`; returns the drift of the logarithm of price over the step."""


class StochasticVolatility:
    """The logarithm of volatility as an Ornstein-Uhlenbeck process with mean square 1."""

    def __init__(self, config: PriceConfig) -> None:
        self._spread = config.volatility_of_volatility
        self._rate_per_day = math.log(2.0) * 1440.0 / config.volatility_half_life_min
        self._x = 0.0
        self.volatility_ratio = 1.0

    def step(self, dt_day: float, luck: Luck) -> float:
        """See Weather."""
        keep = math.exp(-self._rate_per_day * dt_day)
        self._x = keep * self._x + math.sqrt(1.0 - keep * keep) * luck.normal
        self.volatility_ratio = math.exp(self._spread * self._x - self._spread**2)
        return 0.0


class Regimes:
    """A Markov chain over the configured regimes."""

    def __init__(self, config: PriceConfig) -> None:
        self._table = config.regimes
        chances = [regime.chance for regime in config.regimes]
        self._bounds = [sum(chances[: i + 1]) / sum(chances) for i in range(len(chances))]
        self._now = 0
        self.volatility_ratio = config.regimes[0].volatility_multiple

    def step(self, dt_day: float, luck: Luck) -> float:
        """See Weather."""
        regime = self._table[self._now]
        leaves = 1.0 - math.exp(-dt_day * 1440.0 / regime.mean_min)
        if luck.uniform < leaves:
            pick = luck.uniform / leaves
            self._now = next((i for i, bound in enumerate(self._bounds) if pick < bound), len(self._bounds) - 1)
            regime = self._table[self._now]
            self.volatility_ratio = regime.volatility_multiple
        return regime.drift_pct_per_day / 100.0 * dt_day


_LAWS: dict[str, type[StochasticVolatility] | type[Regimes]] = {
    "stochastic_volatility": StochasticVolatility,
    "regimes": Regimes,
}


@dataclass(slots=True)
class Prices:
    """The three prices at one moment, quote currency."""

    index: float
    last: float
    mark: float


class PriceProcess:
    """Index, last and mark of one symbol, stepped with the order flow that was forced upon it."""

    def __init__(
        self, config: PriceConfig, start_price: float, volatility_multiple: float, generator: np.random.Generator
    ) -> None:
        self._config = config
        self._generator = generator
        self._weather: Weather = _LAWS[config.law](config)
        self._daily = config.daily_volatility_pct / 100.0 * volatility_multiple
        self._log_index = math.log(start_price)
        self._swing_size = config.swing_pct / 100.0 * volatility_multiple
        self._swing = 0.0
        self._basis = 0.0
        self._premium = 0.0
        self._average = 0.0
        self._return_half_hour = 0.0
        self._draws = self._drawn()
        self.prices = Prices(start_price, start_price, start_price)

    @property
    def volatility_ratio(self) -> float:
        """Volatility now against its long-run level."""
        return self._weather.volatility_ratio

    @property
    def trend(self) -> float:
        """The return of about the last half hour in units of its ordinary size."""
        return self._return_half_hour / (self._daily / math.sqrt(48.0))

    @property
    def premium(self) -> float:
        """Averaged last over index, as a share of price."""
        return self._average

    def step(self, dt_ms: int, forced_pct: float) -> Prices:
        """Move on by `dt_ms`; `forced_pct` is the open interest bought (−: sold) by force before it, per cent."""
        config, dt_day = self._config, dt_ms / DAY_MS
        normals, uniforms = next(self._draws)
        move = self._weather.step(dt_day, Luck(normals[0], uniforms[0]))
        move += self._daily * self._weather.volatility_ratio * math.sqrt(dt_day) * normals[1]
        move += self._jump(dt_day, uniforms[1], uniforms[2], normals[2])
        impact = self._impact(forced_pct)
        stay = 0.5 ** (dt_ms / 60_000.0 / config.swing_half_life_min)
        swung = (stay - 1.0) * self._swing + math.sqrt(1.0 - stay * stay) * self._swing_size * normals[4]
        self._swing += swung
        move += swung
        self._log_index += move + impact * config.impact_lasting
        fade = 0.5 ** (dt_ms / 1000.0 / config.basis_half_life_s)
        ordinary = config.basis_bp / 1e4
        self._basis = fade * self._basis + math.sqrt(1.0 - fade * fade) * ordinary * normals[3]
        self._premium = fade * self._premium + impact * (1.0 - config.impact_lasting)
        keep = math.exp(-dt_ms / 1000.0 / config.mark_average_s)
        self._average = keep * self._average + (1.0 - keep) * (self._basis + self._premium)
        remember = math.exp(-dt_ms / 1_800_000.0)
        self._return_half_hour = remember * self._return_half_hour + move + impact * config.impact_lasting
        index = math.exp(self._log_index)
        self.prices = Prices(index, index * (1.0 + self._basis + self._premium), index * (1.0 + self._average))
        return self.prices

    def move_to(self, price: float) -> None:
        """Put the whole process at `price` (the end of the synthetic past); volatility and trend stay."""
        self._log_index = math.log(price)
        self._basis = self._premium = self._average = 0.0
        self.prices = Prices(price, price, price)

    def _jump(self, dt_day: float, chance: float, direction: float, normal: float) -> float:
        if chance >= 1.0 - math.exp(-self._config.jumps_per_day * dt_day):
            return 0.0
        size = min(self._config.jump_pct / 100.0 * math.exp(0.6 * normal), _LARGEST_JUMP)
        return size if direction < 0.5 else -size

    def _impact(self, forced_pct: float) -> float:
        """Linear for small flows, with a ceiling: a book refills, and venues band their prices."""
        linear = self._config.impact_pct / 100.0 * forced_pct
        return _LARGEST_IMPACT * math.tanh(linear / _LARGEST_IMPACT)

    def _drawn(self) -> Iterator[tuple[list[float], list[float]]]:
        """Random numbers of each step, drawn in blocks: a call per step would cost more than the step."""
        while True:
            normals = self._generator.standard_normal((_BLOCK, 5)).tolist()
            uniforms = self._generator.random((_BLOCK, 3)).tolist()
            yield from zip(normals, uniforms, strict=True)

"""The simulated market's configuration, `[sim]`: symbols, price, people, activity; three presets of two families.

A file says `preset` and `family`; what it leaves out is taken from there (`with_preset`). docs/model.md explains
every number and lists where the simulated market differs from the model that is graded on it.
"""

import functools
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from liqmap.domain.enums import Venue

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


SIMULATED_VENUES: Final = (Venue.BINANCE, Venue.BYBIT, Venue.OKX)
"""The venues that have a venue server."""


class _Section(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A table of the file: frozen, and no key beyond the ones named."""


class SimSymbolConfig(_Section, frozen=True):
    """One simulated symbol. Open interest is the level at each venue at time 0, one side, base."""

    start_price: Positive
    open_interest_base: dict[Literal["binance", "bybit", "okx"], Positive]
    lot_base: Positive
    """Quantities are whole multiples of this, at every venue: that is what lets the books balance exactly."""
    price_tick: Positive
    positions: Annotated[int, Meta(ge=100, le=200_000)] = 24_000
    """About how many positions stand at time 0; the sizes of people are scaled to it."""
    volatility_multiple: Positive = 1.0


class RegimeConfig(_Section, frozen=True):
    """One state of the weather of a regime-switching price."""

    volatility_multiple: Positive
    drift_pct_per_day: float
    mean_min: Positive
    """Mean stay, minutes."""
    chance: Share
    """Relative chance of being the next state."""


class PriceConfig(_Section, frozen=True):
    """How the index, the last and the mark price move."""

    law: Literal["stochastic_volatility", "regimes"]
    daily_volatility_pct: Positive
    volatility_of_volatility: NotNegative = 0.55
    """Standard deviation of the logarithm of volatility (stochastic_volatility)."""
    volatility_half_life_min: Positive = 90.0
    jumps_per_day: NotNegative = 3.0
    jump_pct: NotNegative = 0.7
    """Median size of a jump, per cent of price."""
    swing_pct: NotNegative = 0.0
    """Standard deviation of swings around the path, per cent of price: what goes up for minutes and comes back."""
    swing_half_life_min: Positive = 8.0
    regimes: tuple[RegimeConfig, ...] = ()
    impact_pct: NotNegative = 0.05
    """Price move, per cent, when 1 % of the open interest is closed by force at once; fades in for larger flows."""
    impact_lasting: Share = 0.5
    """Share of that move that stays; the rest is a premium that fades like the basis."""
    basis_bp: NotNegative = 2.0
    """Standard deviation of last against index, basis points."""
    basis_half_life_s: Positive = 40.0
    mark_average_s: Positive = 20.0
    """The mark is the index plus the basis averaged over this time."""


class PersonConfig(_Section, frozen=True):
    """One kind of people: what they hold, for how long, with what leverage and what plans."""

    share: Positive
    """Relative share of standing open interest, were nobody liquidated or stopped."""
    size_usd: Positive
    """Median notional of a position relative to the other kinds (the symbol's `positions` sets the scale)."""
    size_spread: NotNegative
    """lognormal: standard deviation of the logarithm; pareto: 1 / tail exponent."""
    hold_min: Positive
    """Median of the time they mean to stay, minutes."""
    hold_spread: NotNegative
    """As size_spread."""
    habits: tuple[Positive, ...]
    """Leverages people of this kind like to choose …"""
    habit_weights: tuple[Positive, ...]
    habit_spread: NotNegative = 0.15
    """… and how far from it they end, as standard deviation of the logarithm."""
    cross_share: Share = 0.2
    stop_share: Share = 0.2
    stop_distance: Positive = 0.5
    """Median distance of a stop, as a share of the distance to liquidation."""
    target_share: Share = 0.4
    target_distance: Positive = 1.0
    """Median distance of a take-profit, as a share of the distance to liquidation."""
    topup_share: Share = 0.1
    """Share that adds margin when price has gone most of the way to liquidation."""
    trend: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    """Above 0 they open in the direction of the last half hour, below 0 against it."""
    long_bias: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    panic_per_min: NotNegative = 0.01
    """Hazard of closing a losing position while volatility is extreme."""


class SimConfig(_Section, frozen=True):
    """The simulated market of every symbol."""

    preset: Literal["demo", "lively", "quiet"]
    family: Literal["habits", "crowds"]
    symbols: dict[str, SimSymbolConfig]
    price: PriceConfig
    people: dict[str, PersonConfig]
    size_law: Literal["lognormal", "pareto"]
    hold_law: Literal["lognormal", "pareto"]
    seed: Annotated[int, Meta(ge=0)] = 1
    tick_ms: Annotated[int, Meta(ge=50, le=60_000)] = 1000
    """Inner step. Coarser is faster: 5 s for days of tables."""
    leverage_multiple: Positive = 1.0
    hold_multiple: Positive = 1.0
    makers_share: Annotated[float, Meta(ge=0.01, le=0.5)] = 0.08
    """Share of open interest that market makers hold on each side."""
    makers_half_life_min: Positive = 30.0
    """Time in which market makers return halfway to that."""
    open_interest_growth: float = 0.0
    """New money: the level the market tends to rises by this share of itself …"""
    growth_hours: Positive = 2.0
    """… and most of it (63 %) within this time."""
    level_spread: NotNegative = 0.03
    """Standard deviation of the slow wandering of that level (logarithm)."""
    restore_min: Positive = 45.0
    """Time in which openings make up for a missing share of open interest."""
    crowding: NotNegative = 0.0
    """How much openings bunch in time after price moves (0: as volatility alone has it)."""
    trades_per_s: Positive = 12.0
    """Prints per second and symbol at the largest venue, ordinary activity; others by the root of their share."""
    round_trips_per_day: NotNegative = 1.5
    """Volume, in multiples of open interest a day, of trades opened and closed again within one inner step."""
    partial_above_usd: Positive = 3_000_000.0
    """Larger positions are liquidated in parts, half at a time."""
    account_wander_pct: NotNegative = 1.0
    """Cross margin: standard deviation over an hour, per cent of notional, of what the rest of the account earns."""


_SYMBOLS: dict[str, Any] = {
    "BTC": {
        "start_price": 91_000.0,
        "open_interest_base": {"binance": 79_000.0, "bybit": 45_000.0, "okx": 28_000.0},
        "lot_base": 0.001,
        "price_tick": 0.1,
        "positions": 30_000,
    },
    "ETH": {
        "start_price": 3_100.0,
        "open_interest_base": {"binance": 1_100_000.0, "bybit": 600_000.0, "okx": 380_000.0},
        "lot_base": 0.01,
        "price_tick": 0.01,
        "positions": 24_000,
        "volatility_multiple": 1.25,
    },
    "SOL": {
        "start_price": 140.0,
        "open_interest_base": {"binance": 5_200_000.0, "bybit": 2_900_000.0, "okx": 1_600_000.0},
        "lot_base": 0.1,
        "price_tick": 0.01,
        "positions": 20_000,
        "volatility_multiple": 1.4,
    },
}

_HABITS: dict[str, Any] = {
    "size_law": "lognormal",
    "hold_law": "lognormal",
    "price": {"law": "stochastic_volatility"},
    "people": {
        "scalper": {
            "share": 0.004, "size_usd": 25e3, "size_spread": 0.9, "hold_min": 7, "hold_spread": 0.9,
            "habits": [5, 10, 20, 50], "habit_weights": [2, 4, 4, 1], "cross_share": 0.3,
            "stop_share": 0.4, "stop_distance": 0.3, "target_share": 0.5, "target_distance": 0.4,
            "topup_share": 0.0, "trend": 0.3,
        },
        "gambler": {
            "share": 0.06, "size_usd": 25e3, "size_spread": 1.1, "hold_min": 240, "hold_spread": 1.1,
            "habits": [20, 50, 75, 100, 125], "habit_weights": [4, 4, 1, 2, 0.5], "habit_spread": 0.1,
            "cross_share": 0.05, "stop_share": 0.08, "target_share": 0.45, "target_distance": 1.5,
            "topup_share": 0.12, "trend": 0.6,
        },
        "day_trader": {
            "share": 0.31, "size_usd": 120e3, "size_spread": 1.2, "hold_min": 500, "hold_spread": 1.0,
            "habits": [5, 10, 20, 25, 50], "habit_weights": [3, 5, 4, 2, 1], "cross_share": 0.2,
            "stop_share": 0.3, "target_share": 0.5, "topup_share": 0.12, "trend": 0.2,
        },
        "swing": {
            "share": 0.33, "size_usd": 250e3, "size_spread": 1.3, "hold_min": 2500, "hold_spread": 0.9,
            "habits": [3, 5, 10, 15], "habit_weights": [3, 4, 4, 1], "cross_share": 0.3,
            "stop_share": 0.3, "stop_distance": 0.6, "target_share": 0.4, "topup_share": 0.2, "trend": -0.2,
        },
        "hedger": {
            "share": 0.22, "size_usd": 1.5e6, "size_spread": 0.9, "hold_min": 7000, "hold_spread": 0.8,
            "habits": [1.5, 2, 3], "habit_weights": [1, 2, 1], "habit_spread": 0.25, "cross_share": 0.8,
            "stop_share": 0.02, "target_share": 0.05, "topup_share": 0.6, "long_bias": -0.5, "panic_per_min": 0.0,
        },
    },
}  # fmt: skip
"""Family one: each kind of people has its leverage habits; mostly isolated margin; volatility wanders smoothly."""

_CROWDS: dict[str, Any] = {
    "size_law": "pareto",
    "hold_law": "pareto",
    "crowding": 0.7,
    "account_wander_pct": 2.5,
    "price": {
        "law": "regimes",
        "jumps_per_day": 5.0,
        "regimes": [
            {"volatility_multiple": 0.5, "drift_pct_per_day": 0.0, "mean_min": 240, "chance": 0.45},
            {"volatility_multiple": 0.9, "drift_pct_per_day": 9.0, "mean_min": 120, "chance": 0.22},
            {"volatility_multiple": 0.9, "drift_pct_per_day": -9.0, "mean_min": 120, "chance": 0.22},
            {"volatility_multiple": 2.6, "drift_pct_per_day": -12.0, "mean_min": 25, "chance": 0.11},
        ],
    },
    "people": {
        "follower": {
            "share": 0.45, "size_usd": 15e3, "size_spread": 0.72, "hold_min": 240, "hold_spread": 0.75,
            "habits": [9], "habit_weights": [1], "habit_spread": 0.8, "cross_share": 0.7,
            "stop_share": 0.55, "stop_distance": 0.35, "target_share": 0.25, "target_distance": 1.5,
            "topup_share": 0.3, "trend": 1.6, "panic_per_min": 0.03,
        },
        "bargain_hunter": {
            "share": 0.25, "size_usd": 25e3, "size_spread": 0.75, "hold_min": 300, "hold_spread": 0.8,
            "habits": [5], "habit_weights": [1], "habit_spread": 0.7, "cross_share": 0.75,
            "stop_share": 0.35, "stop_distance": 0.6, "target_share": 0.6, "target_distance": 0.6,
            "topup_share": 0.6, "trend": -1.2, "panic_per_min": 0.01,
        },
        "gambler": {
            "share": 0.08, "size_usd": 6e3, "size_spread": 0.65, "hold_min": 120, "hold_spread": 0.7,
            "habits": [45], "habit_weights": [1], "habit_spread": 0.5, "cross_share": 0.3,
            "stop_share": 0.2, "target_share": 0.4, "target_distance": 2.0, "topup_share": 0.35, "trend": 1.0,
        },
        "holder": {
            "share": 0.22, "size_usd": 150e3, "size_spread": 0.7, "hold_min": 2500, "hold_spread": 0.8,
            "habits": [2.2], "habit_weights": [1], "habit_spread": 0.45, "cross_share": 0.9,
            "stop_share": 0.1, "target_share": 0.1, "topup_share": 0.5, "long_bias": 0.2, "panic_per_min": 0.002,
        },
    },
}  # fmt: skip
"""Family two: no habits but budgets (one wide spread of leverage), heavy tails of size and age, mostly cross margin,
stops and added margin, crowds that run with or against price together, a price with regimes."""

_FAMILIES: dict[str, dict[str, Any]] = {"habits": _HABITS, "crowds": _CROWDS}

_PRESETS: dict[str, dict[str, Any]] = {
    "demo": {
        "seed": 7,
        "price": {
            "daily_volatility_pct": 2.5,
            "swing_pct": 0.28,
            "volatility_of_volatility": 0.3,
            "jumps_per_day": 6.0,
            "jump_pct": 0.4,
        },
        "people": {
            "gambler": {
                "share": 0.02,
                "hold_min": 50.0,
                "habits": [40.0, 75.0, 100.0, 125.0],
                "habit_weights": [1.0, 2.0, 4.0, 3.0],
                "trend": 0.2,
            },
        },
        "trades_per_s": 18.0,
        "leverage_multiple": 0.9,
        "open_interest_growth": 0.14,
        "growth_hours": 1.5,
        "level_spread": 0.01,
        "restore_min": 2.0,
    },
    "lively": {"price": {"daily_volatility_pct": 6.7}, "leverage_multiple": 2.3},
    "quiet": {
        "price": {"daily_volatility_pct": 1.6, "jumps_per_day": 1.0},
        "leverage_multiple": 0.7,
        "hold_multiple": 2.0,
    },
}
_FAMILY_PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("lively", "crowds"): {"price": {"daily_volatility_pct": 6.0}, "leverage_multiple": 2.2},
    ("quiet", "crowds"): {"leverage_multiple": 0.55},
}
"""What a preset needs differently in one family to liquidate about as much."""


def with_preset(table: object) -> object:
    """The `[sim]` table over its preset and family; anything but a table is left for the validation to refuse."""
    if not isinstance(table, dict):
        return table
    preset, family = table.get("preset", "demo"), table.get("family", "habits")
    if preset not in _PRESETS or family not in _FAMILIES:
        return {**_merged(_FAMILIES["habits"], _PRESETS["demo"]), "symbols": _SYMBOLS, **table}
    chosen = {"preset": preset, "family": family, "symbols": _SYMBOLS}
    layers = (_PRESETS[preset], _FAMILY_PRESETS.get((preset, family), {}), chosen, table)
    return functools.reduce(_merged, layers, _FAMILIES[family])


def sim_tables(table: object) -> Iterator[tuple[str, object, type[Struct]]]:
    """The named tables within a `[sim]` table with their records, so that a fault in one can be told by its name."""
    for key, record in (("symbols", SimSymbolConfig), ("people", PersonConfig)):
        named = table.get(key) if isinstance(table, dict) else None
        if isinstance(named, dict):
            yield from ((f"{key}.{name}", one, record) for name, one in named.items())


def sim_faults(sim: SimConfig) -> Iterator[tuple[str, object, str]]:
    """What the types cannot say: dotted key below `sim`, value, and what is allowed."""
    if not sim.symbols:
        yield "symbols", {}, "at least one symbol is needed"
    for name, symbol in sim.symbols.items():
        if not symbol.open_interest_base:
            yield f"symbols.{name}.open_interest_base", {}, "at least one venue is needed"
    if not sim.people:
        yield "people", {}, "at least one kind of people is needed"
    for name, person in sim.people.items():
        if not person.habits or len(person.habits) != len(person.habit_weights):
            yield (
                f"people.{name}.habit_weights",
                list(person.habit_weights),
                f"one for each of {len(person.habits)} habits",
            )
        for law, key in ((sim.size_law, "size_spread"), (sim.hold_law, "hold_spread")):
            spread = getattr(person, key)
            if law == "pareto" and not 0.0 < spread < 1.0:
                yield f"people.{name}.{key}", spread, "between 0 and 1 where the law is pareto (the mean must exist)"
    if sim.price.law == "regimes" and sum(regime.chance for regime in sim.price.regimes) <= 0:
        yield "price.regimes", list(sim.price.regimes), "the law regimes needs regimes with a chance"


def sim_config(**table: Any) -> SimConfig:
    """The validated record of a `[sim]` table over its preset. Raises msgspec.ValidationError."""
    return msgspec.convert(with_preset(table), SimConfig)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables within tables are merged key by key; anything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged

"""What an engine is told before its first event, and the two numeric habits of the state path.

The state path uses + - * /, comparisons and tables; whatever needs exp, log or pow is computed once and rounded to
12 significant digits, so that two machines' libraries cannot disagree about a bit of the map.
"""

from dataclasses import dataclass

from liqmap.domain.grid import Grid, Window

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
MINUTE_S = 60
MINUTE_NS = MINUTE_S * SECOND_NS
MINUTE_MS = MINUTE_S * 1000


def significant(value: float) -> float:
    """`value` rounded to 12 significant digits."""
    return float(f"{value:.11e}")


@dataclass(frozen=True, slots=True)
class ZoneRules:
    """How zones are made: `unit_share` of the open interest in dollars weighs 1, pools within `range_pct` of price are
    followed, `width_pct` is how far a bucket may lie from the seed of its pool, `pools` how many pools of a side are
    looked at in a minute; swept zones stay for `swept_minutes`."""

    unit_share: float
    range_pct: float
    width_pct: float
    pools: int
    swept_minutes: float


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One symbol's engine. Prices in quote currency, times in seconds, shares 0..1; tuples run over leverage tiers.

    `mmr` is the effective maintenance margin rate of each tier (see `domain.margin.effective_mmr`), `weights` the
    prior share of new positions in each tier, summing to 1. `realisation`: see `calibration`;
    0 is unknown. Raises ValueError when the tiers contradict each other.
    """

    symbol: str
    step: float
    range_pct: float
    buckets: int
    leverages: tuple[float, ...]
    weights: tuple[float, ...]
    mmr: tuple[float, ...]
    decay_per_minute: float
    oi_max_age_s: float
    oi_jump_limit: float
    shrink_limit: float
    sweep_share: float
    turnover_per_minute: float
    realisation: float
    anchor_drift: float
    trigger_clamp_s: float
    zones: ZoneRules

    def __post_init__(self) -> None:
        if not len(self.leverages) == len(self.weights) == len(self.mmr):
            raise ValueError("leverages, weights and mmr must name the same tiers")
        for leverage, mmr in zip(self.leverages, self.mmr, strict=True):
            if not 0 <= mmr < 1 / leverage:
                raise ValueError(f"maintenance margin {mmr!r} leaves nothing of the margin at leverage {leverage:g}")

    @property
    def grid(self) -> Grid:
        """The grid of the symbol's step."""
        return Grid.of(self.step)

    @property
    def distances(self) -> tuple[float, ...]:
        """Per tier, how far price moves from entry to liquidation, as a share of the entry: 1/L - mmr."""
        pairs = zip(self.leverages, self.mmr, strict=True)
        return tuple(significant(1 / leverage - mmr) for leverage, mmr in pairs)

    @property
    def trigger_mmr(self) -> float:
        """The maintenance margin taken out of a printed price: the mean of the tiers by weight."""
        pairs = zip(self.weights, self.mmr, strict=True)
        return significant(sum(weight * mmr for weight, mmr in pairs) / sum(self.weights))

    def window(self, anchor: float) -> Window:
        """The window around a price."""
        return Window.around(self.grid, anchor, self.range_pct, self.buckets)

    def decay(self, minutes: int) -> float:
        """What is left of a dollar after whole minutes."""
        return self.decay_per_minute if minutes == 1 else significant(self.decay_per_minute**minutes)

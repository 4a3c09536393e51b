"""The sections of the configuration file as frozen records. Every default of liqmap stands here, once."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from liqmap.config.simulation import SimConfig, sim_config

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
WsUrl = Annotated[str, Meta(pattern=r"^wss?://[^\s]+$")]
MarketRoute = Annotated[str, Meta(pattern=r"^wss?://[^\s]+/market/?$")]
PublicRoute = Annotated[str, Meta(pattern=r"^wss?://[^\s]+/public/?$")]
"""Binance's unrouted addresses connect, acknowledge and stay silent: only the routes are accepted."""
HttpUrl = Annotated[str, Meta(pattern=r"^https?://[^\s]+$")]


class _Section(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A table of the file: frozen, and no key beyond the ones named."""


class DaemonConfig(_Section, frozen=True):
    """`instance` names the shared-memory segments and the directories below var/."""

    instance: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,23}$")] = "main"
    var_dir: str = "var"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_max_bytes: Annotated[int, Meta(ge=65536)] = 16 * 1024 * 1024
    log_keep: Annotated[int, Meta(ge=1, le=100)] = 5


class SupervisorConfig(_Section, frozen=True):
    """How children are watched. Times in seconds; `fatal_deaths` within `fatal_window_s` gives up on a child."""

    heartbeat_timeout_s: Positive = 5.0
    start_timeout_s: Positive = 60.0
    stop_timeout_s: Positive = 10.0
    abort_grace_s: Positive = 2.0
    backoff_first_s: Positive = 0.5
    backoff_ceiling_s: Positive = 30.0
    fatal_deaths: Annotated[int, Meta(ge=2)] = 8
    fatal_window_s: Positive = 120.0
    worker_nice: Annotated[int, Meta(ge=0, le=19)] = 5


class ApiConfig(_Section, frozen=True):
    """`bind` is `host:port` or `unix:PATH`."""

    bind: str = "127.0.0.1:8899"
    workers: Annotated[int, Meta(ge=1, le=64)] = 2
    threads: Annotated[int, Meta(ge=1, le=64)] = 4
    backlog: Annotated[int, Meta(ge=16, le=65535)] = 2048
    stale_after_ms: Annotated[int, Meta(ge=500)] = 5000
    cors_origins: tuple[str, ...] = ()


class IngestConfig(_Section, frozen=True):
    """Links, rings and the care for bad frames."""

    ring_events: Annotated[int, Meta(ge=1024, le=2**24)] = 2**16
    tick_ms: Annotated[int, Meta(ge=50, le=1000)] = 250
    connect_timeout_s: Positive = 10.0
    backoff_first_s: Positive = 1.0
    backoff_ceiling_s: Positive = 32.0
    sustained_s: Positive = 30.0
    """A connection that delivered data for this long resets the backoff."""
    probe_timeout_s: Positive = 15.0
    """Nothing at all on a socket for this long: it is half-open, reconnect."""
    silent_after_s: Positive = 30.0
    """A topic that should speak and did not for this long is reported as silent."""
    max_frame_bytes: Annotated[int, Meta(ge=65536)] = 16 * 1024 * 1024
    queue_frames: Annotated[int, Meta(ge=1024)] = 65536
    backfill_days: Annotated[float, Meta(ge=0, le=30)] = 7.0
    """A symbol of which nothing is on disk begins with so much of its venues' public history; 0: with nothing."""
    backfill_limit_s: Positive = 10.0
    """So long it waits for that history; what has not come by then is missing."""
    quarantine_frames: Annotated[int, Meta(ge=2)] = 1000
    quarantine_bytes: Annotated[int, Meta(ge=65536)] = 16 * 1024 * 1024


class VenueConfig(_Section, frozen=True):
    """What all venues have. Polls in seconds."""

    enabled: bool = True
    open_interest_poll_s: Positive = 10.0
    instruments_poll_s: Positive = 300.0
    ratios_poll_s: Positive = 300.0
    clock_poll_s: Positive = 60.0
    depth: bool = True
    """Whether order books are listened to."""


class BinanceConfig(VenueConfig, frozen=True):
    """USD-M futures. `market_ws` carries trades, marks and liquidations, `public_ws` books and raw trades."""

    market_ws: MarketRoute = "wss://fstream.binance.com/market"
    public_ws: PublicRoute = "wss://fstream.binance.com/public"
    rest: HttpUrl = "https://fapi.binance.com"
    trades: Literal["aggTrade", "trade"] = "aggTrade"
    depth_stream: Literal["depth@0ms", "depth@100ms", "depth", "depth@500ms"] = "depth@100ms"
    depth_snapshot_levels: Literal[100, 500, 1000] = 1000


class BybitConfig(VenueConfig, frozen=True):
    """V5 linear."""

    margins_poll_s: NotNegative = 21_600.0
    """How often the published margin tiers are asked for; 0: never."""
    ws: WsUrl = "wss://stream.bybit.com/v5/public/linear"
    rest: HttpUrl = "https://api.bybit.com"
    depth_levels: Literal[50, 200, 1000] = 1000


class OkxConfig(VenueConfig, frozen=True):
    """V5 swaps."""

    margins_poll_s: NotNegative = 21_600.0
    """How often the published margin tiers are asked for; 0: never."""
    public_ws: WsUrl = "wss://ws.okx.com:8443/ws/v5/public"
    rest: HttpUrl = "https://www.okx.com"


class VenuesConfig(_Section, frozen=True):
    """One table per venue."""

    binance: BinanceConfig = field(default_factory=BinanceConfig)
    bybit: BybitConfig = field(default_factory=BybitConfig)
    okx: OkxConfig = field(default_factory=OkxConfig)


class InstrumentNames(_Section, frozen=True):
    """The one linear USDT contract of a symbol at each venue; a venue left out does not list it."""

    binance: str | None = None
    bybit: str | None = None
    okx: str | None = None


class SymbolConfig(_Section, frozen=True):
    """One symbol. `leverages` and `weights` are the leverage tiers and the prior share of new positions in each.

    `step` is the price step of a bucket in quote currency, `range_pct` the half width of the window around its
    anchor price, `buckets` the capacity of the shared arrays: a window that would need more is cut at that width.
    """

    step: Positive
    leverages: tuple[Annotated[float, Meta(gt=1, le=500)], ...]
    weights: tuple[Share, ...]
    instruments: InstrumentNames
    enabled: bool = True
    range_pct: Annotated[float, Meta(ge=5, le=95)] = 60.0
    buckets: Annotated[int, Meta(ge=64, le=65536)] = 8192
    margin_table: str | None = None
    """A file of maintenance-margin brackets, relative to the configuration file; None: the shipped table."""


POOL_WIDTH_PCT = 0.5
"""How far a bucket may lie from the seed of its pool, per cent: in the pools of answers and in those followed."""


class ModelConfig(_Section, frozen=True):
    """The engine. See docs/model.md for each number."""

    served: Literal["inventory", "flow"] = "inventory"
    """The model that answers show unless they are asked for the other one; both run all the time."""
    decay_per_minute: Annotated[float, Meta(gt=0.5, lt=1)] = 0.995
    oi_max_age_s: Positive = 90.0
    oi_jump_limit: Positive = 0.0025
    """A change of one venue's open interest beyond this share of it per minute waits for a second reading."""
    flow_shrink_limit: Share = 0.25
    flow_sweep_share: Share = 0.7
    turnover_per_minute: Annotated[float, Meta(ge=0, le=0.01)] = 0.0003
    """Share of the open interest that is closed and opened anew in a minute of ordinary volume (inventory)."""
    anchor_drift: Share = 0.1
    """The window moves when price is this share of the anchor away from it."""
    trigger_clamp_s: Positive = 2.0
    pool_width_pct: Positive = POOL_WIDTH_PCT
    pools_per_side: Annotated[int, Meta(ge=1, le=64)] = 12


class ZonesConfig(_Section, frozen=True):
    """Pools followed through time. See docs/model.md."""

    unit_share: Annotated[float, Meta(gt=0, le=1)] = 0.002
    """Share of a symbol's open interest, in dollars, that makes a weight of 1."""
    range_pct: Annotated[float, Meta(ge=0.5, le=50)] = 10.0
    """Pools within this distance of price become zones."""
    width_pct: Positive = POOL_WIDTH_PCT
    pools: Annotated[int, Meta(ge=1, le=64)] = 24
    """Pools of each side that are looked at in a minute."""
    swept_minutes: NotNegative = 240.0
    """How long a swept zone stays visible."""


class CalibrationConfig(_Section, frozen=True):
    """How the weights of the leverage tiers are learned. See docs/model.md."""

    realisation: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Of what leaves at its trigger, the part that is printed as a liquidation. 0: not known, the long-run ratio of
    observed to expected stands for it."""


class DepthConfig(_Section, frozen=True):
    """Order books, and the heatmap made of them."""

    range_pct: Annotated[float, Meta(ge=0.5, le=20)] = 10.0
    """Levels farther from the middle than this are dropped."""
    frame_s: Annotated[int, Meta(ge=5, le=300)] = 30
    """A frame is the mean over this time; frames begin at its multiples."""
    publish_ms: Annotated[int, Meta(ge=50, le=5000)] = 250
    buckets: Annotated[int, Meta(ge=64, le=16384)] = 2048
    """Capacity of the shared arrays; a window that would need more is cut at that width."""
    frames: Annotated[int, Meta(ge=8, le=86400)] = 960
    """Frames of each symbol that are kept in shared memory."""
    buffer_updates: Annotated[int, Meta(ge=64, le=65536)] = 4096
    """Updates of one book that wait for their snapshot at most."""


class JournalConfig(_Section, frozen=True):
    """Every event on disk, before anything is made of it. One directory per symbol, one file per hour."""

    enabled: bool = True
    fsync_s: Positive = 1.0
    compress: bool = True
    keep_days: Positive = 14.0
    keep_bytes: Annotated[int, Meta(ge=2**20)] = 20 * 2**30
    """Of all symbols together; the oldest hours are given up first."""


class CaptureConfig(_Section, frozen=True):
    """Raw frames on disk, as they came. Off unless asked for: it is a hundred times the journal."""

    enabled: bool = False
    file_bytes: Annotated[int, Meta(ge=2**20)] = 512 * 2**20
    """A file is closed, and the next one begun, at this size."""
    keep_bytes: Annotated[int, Meta(ge=2**20)] = 20 * 2**30
    queue_bytes: Annotated[int, Meta(ge=2**16)] = 64 * 2**20
    """What may wait for a slow disk; beyond it frames are left out, counted, and the hole is written down."""


class HistoryConfig(_Section, frozen=True):
    """What is kept in shared memory for readers."""

    minute_columns: Annotated[int, Meta(ge=8, le=10080)] = 240
    recent_liquidations: Annotated[int, Meta(ge=256, le=2**20)] = 16384


class Config(_Section, frozen=True):
    """The whole file."""

    daemon: DaemonConfig = field(default_factory=DaemonConfig)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    api: ApiConfig = field(default_factory=ApiConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    venues: VenuesConfig = field(default_factory=VenuesConfig)
    symbols: dict[str, SymbolConfig] = field(
        default_factory=lambda: symbol_records({name: {} for name in SHIPPED_SYMBOLS})
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    zones: ZonesConfig = field(default_factory=ZonesConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    journal: JournalConfig = field(default_factory=JournalConfig)
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    sim: SimConfig = field(default_factory=sim_config)

    @property
    def enabled_symbols(self) -> tuple[str, ...]:
        """Names of the symbols that run, in the order of the file."""
        return tuple(name for name, symbol in self.symbols.items() if symbol.enabled)


SHIPPED_SYMBOLS: dict[str, dict[str, Any]] = {
    "BTC": {
        "step": 20.0,
        "leverages": [3, 5, 10, 20, 25, 50, 75, 100, 125, 150],
        "weights": [0.05, 0.11, 0.22, 0.19, 0.12, 0.14, 0.05, 0.08, 0.03, 0.01],
        "instruments": {"binance": "BTCUSDT", "bybit": "BTCUSDT", "okx": "BTC-USDT-SWAP"},
    },
    "ETH": {
        "step": 1.0,
        "leverages": [3, 5, 10, 20, 25, 50, 75, 100, 125],
        "weights": [0.05, 0.12, 0.23, 0.20, 0.12, 0.14, 0.05, 0.07, 0.02],
        "instruments": {"binance": "ETHUSDT", "bybit": "ETHUSDT", "okx": "ETH-USDT-SWAP"},
    },
    "SOL": {
        "step": 0.1,
        "leverages": [3, 5, 10, 20, 25, 50, 75, 100],
        "weights": [0.06, 0.14, 0.25, 0.21, 0.12, 0.14, 0.04, 0.04],
        "instruments": {"binance": "SOLUSDT", "bybit": "SOLUSDT", "okx": "SOL-USDT-SWAP"},
    },
}
"""What liqmap ships for well-known symbols; a file that names one of them need not repeat it."""


def with_shipped(symbol: str, table: object) -> object:
    """`table` over what is shipped for `symbol`; anything but a table is left for the validation to refuse."""
    return {**SHIPPED_SYMBOLS.get(symbol, {}), **table} if isinstance(table, dict) else table


def symbol_records(tables: dict[str, dict[str, Any]]) -> dict[str, SymbolConfig]:
    """Records of several symbols, filled up with what is shipped."""
    filled = {name: with_shipped(name, table) for name, table in tables.items()}
    return msgspec.convert(filled, dict[str, SymbolConfig])

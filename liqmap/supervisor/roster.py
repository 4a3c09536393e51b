"""Which children a configuration asks for, how each is started, and which of them a change of it concerns."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from liqmap.config import Config, Effective, dump, paths
from liqmap.supervisor.children import Launch


class Phase(IntEnum):
    """The order of an ordered stop: who feeds others ends first; children of one phase end together."""

    INGEST = 1
    WORKERS = 2
    API = 3
    SIM = 4


@dataclass(frozen=True, slots=True)
class Simulation:
    """The venue servers of this run: their listening descriptors (Binance, Bybit, OKX), and a capture to play."""

    descriptors: tuple[int, int, int]
    capture: Path | None = None
    console: int | None = None
    """The listening descriptor by which faults are asked for."""


@dataclass(frozen=True, slots=True)
class Post:
    """One child that should be running. `symbol` is None for those that serve all symbols."""

    launch: Launch
    phase: Phase
    symbol: str | None = None

    @property
    def name(self) -> str:
        """Its name in the control protocol, /health, its log and its lock."""
        return self.launch.name


INGEST: Final = "ingest"
API: Final = "api"
SIM: Final = "sim"


def roster(effective: Effective, api_fd: int, simulation: Simulation | None) -> dict[str, Post]:
    """All children of this configuration, in the order in which they are started."""
    config = effective.config
    where = paths(config, effective.base_dir)
    file = ("--effective", str(where.effective))
    posts = []
    if simulation is not None:
        fds = ",".join(str(fd) for fd in simulation.descriptors)
        capture = ("--capture", str(simulation.capture)) if simulation.capture else ()
        console = () if simulation.console is None else (simulation.console,)
        asked = ("--console-fd", str(simulation.console)) if console else ()
        inherited = (*simulation.descriptors, *console)
        sim = Launch(SIM, ("liqmap.sim", *file, "--fds", fds, *asked, *capture), where.log(SIM), inherited)
        posts.append(Post(sim, Phase.SIM))
    posts.append(Post(Launch(INGEST, ("liqmap.ingest", *file), where.log(INGEST)), Phase.INGEST))
    nice = config.supervisor.worker_nice
    for symbol in config.enabled_symbols:
        worker = Launch(symbol, ("liqmap.worker", symbol, *file), where.log(symbol), nice=nice)
        posts.append(Post(worker, Phase.WORKERS, symbol))
    api = Launch(API, ("liqmap.api", *file, "--fd", str(api_fd)), where.log(API), (api_fd,), family=True)
    posts.append(Post(api, Phase.API))
    return {post.name: post for post in posts}


_NO_CONCERN: Final[dict[Phase, frozenset[str]]] = {
    Phase.INGEST: frozenset({"supervisor", "api", "model", "zones", "history", "sim", "symbols"}),
    Phase.WORKERS: frozenset({"supervisor", "api", "venues", "ingest", "sim", "symbols", "journal", "capture"}),
    Phase.API: frozenset({"supervisor", "ingest", "model", "zones", "sim", "symbols", "journal", "capture"}),
    Phase.SIM: frozenset({"supervisor", "api", "model", "zones", "history", "ingest", "depth", "journal", "capture"}),
}
"""Sections whose change a child does not need to be restarted for. Ingest and the API follow changes of the symbols on
HUP, the API also those of the model (see `learns`); a worker cares for its own symbol only. A section not named here
concerns everybody."""


SERVED_MODEL: Final = ("served", "pool_width_pct", "pools_per_side")
"""Keys of [model] that only the API reads (pools are found when they are asked for): no worker restarts for them."""


def concern(post: Post, config: Config) -> Mapping[str, Any]:
    """The part of the configuration that a child was started with: when it changes, the child has to be restarted."""
    tables = {name: table for name, table in dump(config).items() if name not in _NO_CONCERN[post.phase]}
    if post.phase is Phase.API:
        tables["api"] = {**tables["api"], "bind": None}  # the descriptor stands in the launch
    if post.phase is Phase.SIM:  # plays every configured symbol, enabled or not, and knows nothing of models
        symbols = tables["symbols"].items()
        tables["symbols"] = {name: (table["instruments"], table["step"]) for name, table in symbols}
    if post.phase is Phase.WORKERS:
        tables["model"] = {key: value for key, value in tables["model"].items() if key not in SERVED_MODEL}
    if post.symbol is not None:
        symbol = config.symbols.get(post.symbol)
        tables["symbols"] = None if symbol is None else msgspec.to_builtins(symbol)
        tables["ring_events"] = config.ingest.ring_events
    return tables


def learns(post: Post, before: Config, after: Config) -> bool:
    """Whether a running child has to be told of a change that it need not be restarted for."""
    if post.phase not in (Phase.INGEST, Phase.API):
        return False
    served = post.phase is Phase.API and any(
        getattr(before.model, key) != getattr(after.model, key) for key in SERVED_MODEL
    )
    return served or before.symbols != after.symbols

"""Configuration: one TOML file into frozen, validated records.

`load(path)` reads a file; `write_effective` and `load_effective` carry the validated result, with the mode of this
run, from the supervisor to its children. A fault raises ConfigError, whose text names the file, the dotted key, the
value and what is allowed; the commands turn it into one line and exit code 78.
"""

from liqmap.config.reading import ConfigError, dump, load, parse, with_bind
from liqmap.config.records import (
    ApiConfig,
    BinanceConfig,
    BybitConfig,
    Config,
    DepthConfig,
    HistoryConfig,
    IngestConfig,
    ModelConfig,
    OkxConfig,
    SupervisorConfig,
    SymbolConfig,
    VenueConfig,
    VenuesConfig,
)
from liqmap.config.running import Effective, Paths, RunMode, load_effective, paths, prepare_effective, write_effective

EXIT_CONFIG = 78
EXIT_TRY_AGAIN = 75
EXIT_BUG = 70

__all__ = [
    "EXIT_BUG",
    "EXIT_CONFIG",
    "EXIT_TRY_AGAIN",
    "ApiConfig",
    "BinanceConfig",
    "BybitConfig",
    "Config",
    "ConfigError",
    "DepthConfig",
    "Effective",
    "HistoryConfig",
    "IngestConfig",
    "ModelConfig",
    "OkxConfig",
    "Paths",
    "RunMode",
    "SupervisorConfig",
    "SymbolConfig",
    "VenueConfig",
    "VenuesConfig",
    "dump",
    "load",
    "load_effective",
    "parse",
    "paths",
    "prepare_effective",
    "with_bind",
    "write_effective",
]

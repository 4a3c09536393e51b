"""What the supervisor hands to its children: the validated configuration, the mode of this run, and where files are."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct, field

from liqmap.config.reading import ConfigError
from liqmap.config.records import Config
from liqmap.domain.enums import Source


class RunMode(Struct, frozen=True, forbid_unknown_fields=True):
    """How this run came about; written by the supervisor, never by an operator.

    Engine time at wall time w is `engine_origin_ns + (w - wall_origin_ns) * speed` in a replay, w otherwise.
    `tables` is a directory of the contract's tabular formats to play instead of listening to venues.
    """

    source: int = int(Source.LIVE)
    engine_origin_ns: int = 0
    wall_origin_ns: int = 0
    speed: float = 1.0
    tables: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    ends_ns: int | None = None
    """Engine time of the last frame of a capture that is played; tables know their end themselves."""


class Effective(Struct, frozen=True, forbid_unknown_fields=True):
    """What the supervisor hands to its children."""

    config: Config
    mode: RunMode = field(default_factory=RunMode)
    base_dir: str = "."
    """Where relative paths of the configuration start."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where one instance keeps its files."""

    run_dir: Path
    log_dir: Path
    lib_dir: Path

    @property
    def control_socket(self) -> Path:
        """The supervisor's control socket."""
        return self.run_dir / "control.sock"

    @property
    def venues_socket(self) -> Path:
        """Where the simulated venues are asked for faults."""
        return self.run_dir / "venues.sock"

    @property
    def effective(self) -> Path:
        """The validated configuration in force."""
        return self.run_dir / "effective.json"

    def lock(self, name: str) -> Path:
        """The lock file that proves there is one writer of that name."""
        return self.run_dir / f"{name}.lock"

    def log(self, name: str) -> Path:
        """The log file of the process of that name."""
        return self.log_dir / f"{name}.log"


def write_effective(effective: Effective, path: Path) -> None:
    """Write what the children read, atomically: a child never sees half of it. Raises OSError."""
    prepare_effective(effective, path).replace(path)


def prepare_effective(effective: Effective, path: Path) -> Path:
    """The file beside `path` that takes its place when the time has come: then no disk can be full any more.
    Raises OSError, and leaves nothing behind."""
    scratch = path.with_suffix(".new")
    try:
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(effective), indent=1))
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return scratch


def load_effective(path: Path) -> Effective:
    """What `write_effective` wrote. Raises ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Effective)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def paths(config: Config, base_dir: str = ".") -> Paths:
    """Where the instance of `config` keeps its files; a relative var_dir starts at `base_dir`."""
    var = Path(base_dir) / config.daemon.var_dir
    instance = config.daemon.instance
    return Paths(run_dir=var / "run" / instance, log_dir=var / "log" / instance, lib_dir=var / "lib" / instance)

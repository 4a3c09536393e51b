"""The configuration that a tool goes by: the file that is named, else the one in force, with its tables found."""

from pathlib import Path

from liqmap.config import Effective
from liqmap.config.home import base_dir, configuration_file
from liqmap.supervisor.modes import Flags, run_of


def configured(file: Path | None) -> Effective:
    """What the file says. Raises ConfigError."""
    run = run_of((file or configuration_file()).absolute(), base_dir(), Flags())
    return Effective(run.read(), run.mode, str(run.base_dir))

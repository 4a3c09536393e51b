"""Where liqmap is at home: the checkout it runs from, or the directory in which an installed one was started."""

import os
from pathlib import Path
from typing import Final

from liqmap.config.shipped import ShippedFileMissing, shipped_file

PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]
"""The directory that holds the package `liqmap`."""


def base_dir() -> Path:
    """Where relative paths of a configuration start: the checkout, or the current directory of an installed package."""
    return PACKAGE_ROOT if (PACKAGE_ROOT / "etc" / "liqmap.toml").is_file() else Path.cwd()


def configuration_file() -> Path:
    """The file in force when no flag names one: LIQMAP_CONFIG, etc/liqmap.toml, or the one that was installed."""
    named = os.environ.get("LIQMAP_CONFIG")
    if named:
        return Path(named).absolute()
    local = base_dir() / "etc" / "liqmap.toml"
    try:
        return local if local.is_file() else shipped_file("liqmap.toml")
    except ShippedFileMissing:
        return local

"""Recordings outside the repository: found beside the checkout or by LIQMAP_SHARED, else the test skips."""

import os
from pathlib import Path

import pytest


def shared(path: str) -> Path:
    """The file `path` (such as `data/wire/…`) of the shared directory; skips the test with a reason when absent."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    found = Path(os.environ.get("LIQMAP_SHARED", beside)) / path
    if not found.exists():
        pytest.skip(
            f"no recording at {found}: put the shared directory beside the checkout or name it in LIQMAP_SHARED"
        )
    return found

"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 90.0
"""As long as a busy machine may need for anything that takes a moment."""


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Look again and again until the condition holds. Raises AssertionError that says what did not happen."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}"
        time.sleep(0.02)

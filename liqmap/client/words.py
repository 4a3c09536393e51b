"""From the numbers and bytes of shared layouts to Python: unknown becomes None."""

from typing import Any


def known(value: Any) -> float | None:
    """A float, or None for NaN."""
    number = float(value)
    return None if number != number else number


def known_ms(time_ns: Any) -> int | None:
    """Milliseconds of a time in ns, or None for a negative one (never)."""
    number = int(time_ns)
    return None if number < 0 else number // 1_000_000


def no_price_yet(symbol: str) -> str:
    """Why there is no map of a symbol whose market has spoken, but not of its price."""
    return f"{symbol} has no price yet: no mark, mid or last trade has arrived"


def text(value: Any) -> str:
    """A text field."""
    return bytes(value).decode("utf-8", "replace")

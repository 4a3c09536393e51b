"""How the recordings of real venues are packed."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

from tests.shared_data import shared


def packed_lines(relative: str) -> Iterator[bytes]:
    """The lines of a gzip file below shared/data."""
    with gzip.open(shared(f"data/{relative}")) as lines:
        yield from lines


def sampled(relative: str) -> list[Any]:
    """The `data` of each row of a throttled recording."""
    with gzip.open(shared(f"data/{relative}")) as text:
        return [row["data"] for row in json.load(text)]

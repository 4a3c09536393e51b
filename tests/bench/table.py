"""What one line of the table of speeds says, and how long a thing takes."""

import timeit
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One path: what it is measured against, what it must reach, and what it does today."""

    path: str
    floor: str
    must_reach: str
    today: str
    reached: bool


def seconds_each(
    act: Callable[[], object], number: int, repeat: int = 7, before: Callable[[], object] = lambda: None
) -> float:
    """Seconds per call: the best of `repeat` series of `number`, since everything else on the machine only adds.

    `before` runs in front of each series, untimed.
    """
    return min(timeit.repeat(act, setup=before, number=number, repeat=repeat)) / number


def in_turns(
    act: Callable[[], object], floor: Callable[[], object], number: int, turns: int = 25
) -> tuple[float, float]:
    """Seconds per call of both, best of short series taken in turns: whatever slows the machine slows both."""
    pairs = [(seconds_each(act, number, 1), seconds_each(floor, number, 1)) for _ in range(turns)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)

"""What one line of the table of speeds says, and how long a thing takes."""

import timeit
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One path of design.md, section 10: what it is measured against, what it must reach, and what it does today."""

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

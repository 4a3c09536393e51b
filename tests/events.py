"""Events as the engine and the ring take them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.event import EVENT_DTYPE, Event


def events_array(events: Iterable[Event], first_sequence: int = 1) -> NDArray[np.void]:
    """Array of EVENT_DTYPE for `events`, numbered from `first_sequence`."""
    buffer = b"".join(event.packed(first_sequence + i) for i, event in enumerate(events))
    return np.frombuffer(buffer, dtype=EVENT_DTYPE)

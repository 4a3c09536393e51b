"""A batch that holds hours of a market's past is dealt with in pieces, so that the worker beats between them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.event import EVENT_DTYPE
from liqmap.worker.loop import PIECE_NS, pieces


@given(st.lists(st.integers(0, 20 * PIECE_NS), min_size=1, max_size=60))
def test_pieces_are_all_the_events_in_order_and_none_spans_more_than_one_stretch(times: list[int]) -> None:
    events = np.zeros(len(times), EVENT_DTYPE)
    events["receive_ns"], events["sequence"] = sorted(times), np.arange(1, len(times) + 1)
    cut = pieces(events)
    assert np.concatenate(cut).tobytes() == events.tobytes() and min(map(len, cut)) > 0
    for piece in cut:
        assert len(np.unique(piece["receive_ns"] // PIECE_NS)) == 1


def test_a_live_batch_is_one_piece() -> None:
    events = np.zeros(4096, EVENT_DTYPE)
    assert len(pieces(events)) == 1 and pieces(events)[0] is events

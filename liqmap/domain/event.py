"""The event: one normalised market fact, 64 bytes, the only thing that travels from ingest to a worker.

The meaning of the numeric fields by kind (NaN in a float field and -1 in `venue_ms` or `detail` mean "not said";
absence is never zero):

| kind                 | price         | quantity             | extra       | side         | detail           |
|----------------------|---------------|----------------------|-------------|--------------|------------------|
| TICK                 | NaN           | NaN                  | NaN         | 0            | -1               |
| LIQUIDATION          | printed price | qty_base             | fill price  | PositionSide | -1               |
| TRADE                | price         | qty_base             | NaN         | TakerSide    | venue's trade id |
| MARK_PRICE           | mark price    | NaN                  | index price | 0            | -1 or covers_ms  |
| OPEN_INTEREST        | NaN           | one-sided base       | NaN         | 0            | covers_ms        |
| OPEN_INTEREST_CHANGE | NaN           | change, base, signed | NaN         | 0            | covers_ms        |
| FUNDING              | NaN           | rate per interval    | interval, h | 0            | next funding, ms |
| MID_PRICE            | mid price     | NaN                  | NaN         | 0            | -1               |
| GAP                  | NaN           | NaN                  | NaN         | GapReason    | to_ms, -1 = open |
| RATIO                | NaN           | long share 0..1      | NaN         | Ratio        | -1               |

`venue_ms` is the venue's own time of the fact (for GAP: from_ms); `receive_ns` is ingest's, and is engine time.
`covers_ms`: the span an open-interest reading speaks for when it is longer than an instant (an hourly close), else -1.
A FUNDING without a rate (NaN) tells the interval alone: what the venue's list of intervals says of a contract.
`topic` is the feed it came by; `instrument` its number in the configured instrument table (0xFFFF: none).
`flags`: see FLAG_*. A GAP record is written when a gap opens (detail -1) and again when it closes.
"""

import struct
from typing import Final, NamedTuple

import numpy as np

NO_INSTRUMENT: Final = 0xFFFF
MISSING: Final = -1
NAN: Final = float("nan")

FLAG_FROM_BAR: Final = 1
"""The event was made from a minute bar of a table, not from a print of a venue."""

FLAG_BACKFILLED: Final = 2
"""The event was fetched from a venue's public history, not heard: its `receive_ns` is the time it tells of."""

EVENT_DTYPE: Final = np.dtype(
    [
        ("sequence", "<u8"),
        ("receive_ns", "<i8"),
        ("venue_ms", "<i8"),
        ("price", "<f8"),
        ("quantity", "<f8"),
        ("extra", "<f8"),
        ("detail", "<i8"),
        ("kind", "u1"),
        ("venue", "u1"),
        ("side", "u1"),
        ("flags", "u1"),
        ("topic", "<u2"),
        ("instrument", "<u2"),
    ]
)

EVENT_BYTES: Final = EVENT_DTYPE.itemsize
_PACK: Final = struct.Struct("<QqqdddqBBBBHH").pack

SEQUENCE_EPOCH_SHIFT: Final = 40
"""A sequence number is (ingest epoch << 40) + counter: a restarted ingest takes a new epoch, so none is reused."""


class Event(NamedTuple):
    """One fact before it is given a sequence number: the fields of EVENT_DTYPE after `sequence`, in order."""

    receive_ns: int
    venue_ms: int = MISSING
    price: float = NAN
    quantity: float = NAN
    extra: float = NAN
    detail: int = MISSING
    kind: int = 0
    venue: int = 0
    side: int = 0
    flags: int = 0
    topic: int = 0
    instrument: int = NO_INSTRUMENT

    def packed(self, sequence: int) -> bytes:
        """The 64 bytes of EVENT_DTYPE for this fact under `sequence`."""
        return _PACK(sequence, *self)

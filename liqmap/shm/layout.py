"""Every byte that processes share, as numpy dtypes. docs/layout.md is rendered from this file; a test compares.

Rules: all scalars are 8 bytes and aligned, so that one store or load is whole on x86-64; text lives only inside
payloads that a version protects, or never changes once it can be seen (the names of processes); sizes that depend on
configuration are arguments, and the segment header says them. `reserved` words are zero: they fill a header, or one
party's part of it, to whole cache lines, so that a writer's stores do not slow a reader of its neighbour.
A change of any dtype here raises LAYOUT_VERSION: readers and writers of different versions refuse each other.

Segments are named `liqmap.<instance>.<role>[.<symbol>]`:

| role         | written by | content                                                               |
|--------------|------------|-----------------------------------------------------------------------|
| directory    | supervisor | board of DIRECTORY: which symbols live, with the generation of theirs  |
| status       | supervisor, children | CLOCK row, names, one HEARTBEAT row per process (owned by it) |
| processes    | supervisor | board of PROCESSES: the lifecycle table for people                    |
| feeds        | ingest     | board of FEEDS: venues, topics, links, gaps                           |
| ring.SYM     | ingest     | ring of events (64 bytes each), read by the worker of SYM             |
| live.SYM     | worker     | board of `live_dtype`: the map now                                    |
| minutes.SYM  | worker     | rows of `minute_dtype`, one per closed minute                         |
| recent.SYM   | worker     | rows of LIQUIDATION: the newest liquidations                          |
| depth.SYM    | ingest     | board of `depth_dtype`: the order books of all venues now             |
| books.SYM    | worker     | rows of `book_dtype`, one per order-book frame                        |
| calibration.SYM | worker  | board of `calibration_dtype`: how the tiers' weights are learned      |
| zones.SYM    | worker     | board of `zones_dtype`: the zones at the end of the last minute        |
"""

import hashlib
from typing import Any, Final

import numpy as np

from liqmap.domain.enums import Model, Venue, ZoneChange
from liqmap.domain.zone import KEPT_CHANGES, MOST_ZONES, ZONE_CHANGE, zone_dtype

MAGIC: Final = 0x3150414D5149_4C  # "LIQMAP1" read as little-endian bytes
LAYOUT_VERSION: Final = 7

SEGMENT_LIVE: Final = 1
SEGMENT_RETIRED: Final = 2

SEGMENT_HEADER: Final = np.dtype(
    [
        ("magic", "<u8"),
        ("layout_version", "<u8"),
        ("generation", "<i8"),  # creation time, ns: never reused, so a reader can tell a successor from the same
        ("state", "<u8"),  # SEGMENT_LIVE or SEGMENT_RETIRED
        ("size", "<u8"),  # bytes of the whole segment
        ("owner_pid", "<u8"),
        ("shape", "<u8", (4,)),  # what the role needs to know of its geometry (slots, capacity, buckets, tiers …)
        ("item_size", "<u8"),  # bytes of one payload, row or event
        ("fingerprint", "<u8"),  # of the payload's dtype, so that equal sizes of different types are told apart
        ("checksums", "<u8"),  # 1: payloads and rows carry a CRC-32 (machines that reorder stores)
        ("reserved", "<u8", (3,)),
    ]
)
"""128 bytes at the head of every segment."""

BOARD_HEADER: Final = np.dtype([("latest", "<u8"), ("reserved", "<u8", (7,))])
"""After the segment header. `latest` is the number of the newest whole payload, counted from 1 (0: never published);
payload n stands in slot (n - 1) modulo BOARD_SLOTS."""

BOARD_SLOTS: Final = 4

SLOT_HEADER: Final = np.dtype([("version", "<u8"), ("checksum", "<u8"), ("reserved", "<u8", (6,))])
"""Before each payload of a board. `version` of payload n is 2n - 1 while it is written, 2n when it is whole. `checksum`
is the CRC-32 of the payload, begun with the low 32 bits of that 2n; kept only where the segment header says so."""

RING_HEADER: Final = np.dtype(
    [
        ("written", "<u8"),  # events ever written whole; by the writer
        ("writing", "<u8"),  # what `written` will be after the write in progress: events before writing - capacity
        # may already be overwritten, whatever `written` says. Never falls.
        ("writer_reserved", "<u8", (6,)),
        ("read", "<u8"),  # events ever consumed (the cursor is read + lost); by the reader, like all below
        ("lost", "<u8"),  # events overrun before they were read
        ("batch_first", "<u8"),  # sequence of the first event of the batch in progress, 0: none
        ("batch_count", "<u8"),
        ("batch_deaths", "<u8"),  # how often a reader died in the batch that starts there
        ("quarantined", "<u8"),  # events set aside because readers died of them; counted in `read` too
        ("reader_reserved", "<u8", (2,)),
    ]
)
"""Head of the event ring; event i (from 0) stands at i modulo capacity. The writer's and the reader's words stand on
cache lines of their own."""

ROWS_HEADER: Final = np.dtype([("written", "<u8"), ("reserved", "<u8", (7,))])
"""Head of a row ring: rows ever written; row i (from 0) stands at i modulo capacity. Behind it come `capacity`
versions, then `capacity` checksums (8 bytes each, zero where the segment header has none), then the rows. The version
of row i is 2i + 1 while it is written and 2i + 2 when it is whole."""

STATUS_HEADER: Final = np.dtype([("processes", "<u8"), ("reserved", "<u8", (7,))])
"""Head of the status segment. `processes` is how many names stand; a name below it never changes."""

CLOCK: Final = np.dtype(
    [
        ("source", "<u8"),  # domain.enums.Source
        ("engine_origin_ns", "<i8"),
        ("wall_origin_ns", "<i8"),
        ("speed", "<f8"),  # 1.0 and origins 0 for live and simulated
        ("started_ns", "<i8"),  # wall time the daemon started
        ("supervisor_beat_ns", "<i8"),  # CLOCK_MONOTONIC of the supervisor's last turn
        ("supervisor_pid", "<u8"),
        ("reserved", "<u8"),
    ]
)

HEARTBEAT: Final = np.dtype(
    [
        ("pid", "<u8"),
        ("beat_ns", "<i8"),  # CLOCK_MONOTONIC of the last sign of life
        ("ready", "<u8"),  # 0 starting, 1 does its work
        ("engine_ns", "<i8"),  # engine time it has reached, -1: none
        ("sequence", "<u8"),  # last event sequence it has dealt with
        ("lag_events", "<i8"),  # events waiting for it, -1: does not apply
        ("errors", "<u8"),  # what went wrong and was survived, since it started
        ("work", "<u8"),  # what it has done, since it started: frames in, minutes rolled, requests …
    ]
)
"""One 64-byte row per process, in the order of the status segment's names."""

STATUS_PROCESSES: Final = 64
PROCESS_NAME: Final = "S16"

PROCESS_ROW: Final = np.dtype(
    [
        ("name", PROCESS_NAME),
        ("state", "S16"),
        ("pid", "<u8"),
        ("started_ns", "<i8"),
        ("restarts", "<u8"),
        ("exit_code", "<i8"),  # of the last death: code, -signal, or -1000: has not died
        ("cpu_pct", "<f8"),
        ("rss_mb", "<f8"),
        ("reason", "S160"),
    ]
)
SHOWN_FAULTS: Final = 24
PROCESSES: Final = np.dtype(
    [
        ("count", "<u8"),
        ("fault_count", "<u8"),  # faults that are switched on at simulated venues
        ("rows", PROCESS_ROW, (STATUS_PROCESSES,)),
        ("faults", "S96", (SHOWN_FAULTS,)),
    ]
)

DIRECTORY_SYMBOLS: Final = 48
DIRECTORY_ROW: Final = np.dtype(
    [
        ("symbol", "S16"),
        ("enabled", "<u8"),
        ("step", "<f8"),
        ("generation", "<i8"),  # of its live board
    ]
)
DIRECTORY: Final = np.dtype([("count", "<u8"), ("rows", DIRECTORY_ROW, (DIRECTORY_SYMBOLS,))])

LINK_ROWS: Final = 32
TOPIC_ROWS: Final = 1024
GAP_ROWS: Final = 256
VENUE_ROWS: Final = 8
REASON_ROWS: Final = 16
MARGIN_ROWS: Final = 96

VENUE_ROW: Final = np.dtype(
    [
        ("venue", "<u8"),
        ("enabled", "<u8"),
        ("delivering", "<u8"),  # 1: at least one link of it delivers and nothing it should carry is missing
        ("reconnects", "<u8"),
        ("malformed", "<u8"),
        ("refused_instruments", "<u8"),
        ("backoff_s", "<f8"),
        ("clock_offset_ms", "<f8"),  # NaN: not measured
        ("lag_ms", "<f8"),
        ("frames", "<u8"),
        ("state", "S16"),  # in words: connecting, up, backoff, refused, disabled
        ("reason", "S160"),
        ("budget_used", "<f8"),  # share of the tightest request budget that is spent now, 0 to 1
        ("round_trip_ms", "<f8"),  # of the request that measured clock_offset_ms; NaN: not measured
    ]
)
LINK_ROW: Final = np.dtype(
    [
        ("venue", "<u8"),  # /health tells venues and topics; single links are for metrics and for who looks closer
        ("name", "S24"),
        ("state", "S16"),
        ("reconnects", "<u8"),
        ("frames", "<u8"),
        ("bytes", "<u8"),
        ("dropped", "<u8"),
        ("backoff_s", "<f8"),
        ("connected_ns", "<i8"),
        ("last_frame_ns", "<i8"),
        ("reason", "S160"),
    ]
)
TOPIC_ROW: Final = np.dtype(
    [
        ("venue", "<u8"),
        ("topic", "<u8"),
        ("symbol", "S16"),
        ("events", "<u8"),
        ("last_event_ns", "<i8"),  # engine time; -1: never
        ("gaps", "<u8"),
        ("silent", "<u8"),
        ("missing", "<u8"),  # 1: not delivering now
        ("gap_ms", "<u8"),  # how long it was missing in all, closed gaps and the open one
        ("dropped", "<u8"),  # frames or events of it that were given up under load
    ]
)
REASON_ROW: Final = np.dtype(
    [
        ("venue", "<u8"),
        ("count", "<u8"),
        ("last_ns", "<i8"),  # engine time
        ("why", "S96"),
    ]
)
"""Why frames were set aside, the most frequent reasons first."""

MARGIN_ROW: Final = np.dtype(
    [
        ("venue", "<u8"),
        ("symbol", "S16"),
        ("refreshed_ms", "<i8"),  # when the venue last told its tiers; -1: it is not known that it ever did
        ("late", "<u8"),  # 1: asked for long, and no answer
        ("tiers_off", "<u8"),  # leverage tiers whose rate differs by more than is tolerated
        ("own", "<u8"),  # 1: compared with a table of that venue, 0: with the mix that stands for it
        ("leverage", "<f8"),  # of the tier that differs most, NaN: nothing was compared …
        ("used_mmr", "<f8"),  # … its rate in use …
        ("published_mmr", "<f8"),  # … and as published
        ("used_as_of", "S24"),
        ("reason", "S96"),  # why nothing was compared or kept, "" when it was
    ]
)
"""The margin tiers that a venue publishes, against the table that the map of a symbol is made with."""

GAP_ROW: Final = np.dtype(
    [
        ("venue", "<u8"),
        ("topic", "<u8"),
        ("symbol", "S16"),
        ("from_ms", "<i8"),
        ("to_ms", "<i8"),  # -1: still open
        ("reason", "<u8"),  # domain.enums.GapReason
    ]
)
FEEDS: Final = np.dtype(
    [
        ("as_of_ns", "<i8"),
        ("gaps_version", "<u8"),  # rises with every change of the gap list
        ("venue_count", "<u8"),
        ("link_count", "<u8"),
        ("topic_count", "<u8"),
        ("gap_count", "<u8"),
        ("quarantined", "<u8"),  # bad frames seen
        ("quarantine_kept", "<u8"),  # of them: written down …
        ("quarantine_skipped", "<u8"),  # … left out because too many came at once …
        ("quarantine_failed", "<u8"),  # … or because the disk did not take them
        ("quarantine_bytes", "<u8"),  # on disk now
        ("reason_count", "<u8"),
        ("journal_state", "<u8"),  # 0: off, 1: written, 2: the disk does not take it
        ("journal_bytes", "<u8"),  # on disk now
        ("journal_unwritten", "<u8"),  # events that are in no journal because it could not be written
        ("capture_state", "<u8"),  # like journal_state
        ("capture_bytes", "<u8"),
        ("capture_dropped", "<u8"),  # frames left out of the capture because the disk was too slow
        ("finished", "<u8"),  # 1: a replay came to its end
        ("margin_count", "<u8"),
        ("venues", VENUE_ROW, (VENUE_ROWS,)),
        ("links", LINK_ROW, (LINK_ROWS,)),
        ("topics", TOPIC_ROW, (TOPIC_ROWS,)),
        ("gaps", GAP_ROW, (GAP_ROWS,)),
        ("reasons", REASON_ROW, (REASON_ROWS,)),
        ("margins", MARGIN_ROW, (MARGIN_ROWS,)),
    ]
)

LIQUIDATION: Final = np.dtype(
    [
        ("id", "<u8"),  # the event's sequence number: unique, rising
        ("ts_ms", "<i8"),
        ("receive_ns", "<i8"),
        ("venue", "<u8"),
        ("side", "<u8"),  # PositionSide
        ("printed_price", "<f8"),
        ("fill_price", "<f8"),
        ("trigger_price", "<f8"),
        ("qty_base", "<f8"),
        ("notional_usd", "<f8"),  # qty_base × trigger_price
    ]
)

OI_VENUES: Final = len(Venue)
"""Per-venue facts by Venue number; 0 is the recorder that did not keep it."""

MODELS: Final = len(Model)
"""Projection models by domain.enums.Model, less one."""

RATIOS: Final = 3
"""Positioning ratios by domain.enums.Ratio, less one."""

_FRAME_FACTS: Final = [
    ("as_of_ns", "<i8"),  # engine time up to which the market has spoken: it stands still while every feed is dead
    ("sequence", "<u8"),  # last event contained
    ("frame", "<u8"),  # rises by one with every frame of this worker's life
    ("born_ns", "<i8"),  # engine time of the first event this map has seen: what came before is not in it
    ("minute_ms", "<i8"),  # last closed minute, -1: none
    ("first_bucket", "<i8"),  # price of cell i = (first_bucket + i) × step
    ("buckets", "<i8"),  # cells in use
    ("step", "<f8"),
    ("mark_price", "<f8"),  # NaN: unknown
    ("mark_source", "<u8"),  # PriceSource, 0: none
    ("mark_as_of_ns", "<i8"),
    ("index_price", "<f8"),
    ("last_price", "<f8"),
    ("open_interest_base", "<f8"),  # sum of last known levels; NaN: no level was ever seen
    ("open_interest_usd", "<f8"),
    ("open_interest_change_base", "<f8"),  # of the last closed minute; NaN: unknown
    ("venue_oi_base", "<f8", (OI_VENUES,)),
    ("venue_oi_as_of_ns", "<i8", (OI_VENUES,)),
    ("venue_oi_stale", "<u8", (OI_VENUES,)),
    ("coverage", "<f8", (MODELS, 2)),  # by model and side, share of open interest whose entry is known; NaN: unknown
    ("unknown_usd", "<f8", (MODELS, 2)),
    ("realisation", "<f8"),  # of what leaves at its trigger, the part that is printed; NaN: unknown
    ("projection_known", "<u8", (MODELS,)),  # Projection: 1 dollars, 2 relative densities, 0 the arrays say nothing
    ("at_risk_usd", "<f8", (2,)),  # inventory that price traversed, since born_ns
    ("evidence_outside_usd", "<f8", (2, 2)),  # what lies below and above the window, by side
    ("projection_outside_usd", "<f8", (MODELS, 2, 2)),
    ("events", "<u8"),
    ("liquidations", "<u8"),
    ("liquidated_long_usd", "<f8"),  # since born_ns
    ("liquidated_short_usd", "<f8"),
    ("lost_events", "<u8"),
    # The market sheet, by venue: NaN and -1 are unknown.
    ("venue_mark", "<f8", (OI_VENUES,)),
    ("venue_index", "<f8", (OI_VENUES,)),
    ("venue_mark_as_of_ns", "<i8", (OI_VENUES,)),
    ("venue_last", "<f8", (OI_VENUES,)),
    ("venue_last_as_of_ns", "<i8", (OI_VENUES,)),
    ("venue_mid", "<f8", (OI_VENUES,)),
    ("venue_mid_as_of_ns", "<i8", (OI_VENUES,)),
    ("venue_funding_rate", "<f8", (OI_VENUES,)),  # per interval
    ("venue_funding_interval_h", "<f8", (OI_VENUES,)),
    ("venue_next_funding_ms", "<i8", (OI_VENUES,)),
    ("venue_funding_as_of_ns", "<i8", (OI_VENUES,)),
    ("venue_long_share", "<f8", (OI_VENUES, RATIOS)),  # 0 to 1
    ("venue_ratio_ms", "<i8", (OI_VENUES, RATIOS)),  # the venue's own time of the bar
    # How complete the liquidations of a venue are (docs/model.md, "Completeness").
    ("venue_liquidations", "<u8", (OI_VENUES,)),  # since born_ns
    ("venue_liquidated_usd", "<f8", (OI_VENUES, 2)),  # long, short
    ("venue_saturation", "<f8", (OI_VENUES,)),  # share of the seconds with liquidations that are at the venue's cap
    ("venue_completeness", "<f8", (OI_VENUES,)),  # printed dollars per open interest, over those of the complete venue
    ("minutes", "<u8"),  # minutes closed since born_ns
    ("gap_minutes", "<u8"),  # of them, minutes with a gap in some feed
]


def live_dtype(tiers: int, buckets: int) -> np.dtype[np.void]:
    """The map now: facts, then dollars per cell. `projection_usd[model, side, tier, cell]` (domain.enums.Model, less
    one), `evidence_usd[side, cell]`, side 0 long and 1 short, float32 dollars; `leverages` and `weights[side, tier]`
    name the tiers."""
    return np.dtype(
        [
            *_FRAME_FACTS,
            ("leverages", "<f8", (tiers,)),
            ("weights", "<f8", (2, tiers)),
            ("projection_usd", "<f4", (MODELS, 2, tiers, buckets)),
            ("evidence_usd", "<f4", (2, buckets)),
        ]
    )


def minute_dtype(buckets: int) -> np.dtype[np.void]:
    """One closed minute: its bar, its facts, and the map at its end (tiers summed, float32 dollars)."""
    return np.dtype(
        [
            *_FRAME_FACTS,
            ("open", "<f8"),
            ("high", "<f8"),
            ("low", "<f8"),
            ("close", "<f8"),
            ("taker_buy_base", "<f8"),
            ("taker_sell_base", "<f8"),
            ("minute_long_usd", "<f8"),  # liquidated in this minute
            ("minute_short_usd", "<f8"),
            ("minute_at_risk_usd", "<f8", (2,)),  # inventory that price traversed in this minute
            ("gap_topics", "<u8", (OI_VENUES,)),  # by venue; bit of a topic: it was missing for a part of the minute;
            # bit 0 of venue 0: events were lost between ingest and the worker
            ("projection_usd", "<f4", (MODELS, 2, buckets)),
            ("evidence_usd", "<f4", (2, buckets)),
        ]
    )


CALIBRATION_WINDOWS: Final = 64
"""Judged windows of the calibration that are shown."""

JUDGED_ROW: Final = np.dtype(
    [
        ("end_ms", "<i8"),
        ("minutes", "<u8"),  # how long it was
        ("verdict", "<u8"),  # domain.enums.Verdict
        ("level", "<f8"),  # observed over expected, the realisation taken out; NaN, here and below: not looked at
        ("entropy", "<f8"),  # nats, of the weights that were asked for
        ("largest", "<f8"),  # the largest of them
        ("furthest", "<f8"),  # the factor farthest from 1 that was applied, 1: none
    ]
)
"""One window of the calibration, and what was decided."""

GUARD_RAILS: Final = np.dtype(
    [
        ("factor_low", "<f8"),  # a window multiplies no tier by less …
        ("factor_high", "<f8"),  # … or more than this
        ("largest_weight", "<f8"),
        ("least_entropy", "<f8"),  # nats
        ("level_low", "<f8"),  # observed over expected
        ("level_high", "<f8"),
        ("repeated_share", "<f8"),  # shares of the observed quantity, at most
        ("unattributed_share", "<f8"),
        ("against_price_share", "<f8"),
        ("usual_venue_share", "<f8"),  # a venue that usually prints this share …
        ("venue_left_share", "<f8"),  # … must print this part of what is usual
        ("least_events", "<u8"),  # liquidations from which on repeats, directions and venues are looked at
        ("enough_share", "<f8"),  # of the open interest must be at risk in a window
        ("shortest_min", "<u8"),  # a window lasts at least this long …
        ("longest_min", "<u8"),  # … and is given up as too little after this
    ]
)
"""What a window of the calibration has to pass before its weights are applied; those in force for the next one."""


def calibration_dtype(tiers: int) -> np.dtype[np.void]:
    """How the weights of the tiers are learned, as of the last closed minute. Side 0 is long, 1 short; NaN: unknown."""
    return np.dtype(
        [
            ("as_of_ns", "<i8"),  # engine time at the end of the last closed minute
            ("sequence", "<u8"),  # last event contained
            ("learned_minutes", "<u8"),  # minutes learned from, in all
            ("window_minutes", "<u8"),  # age of the running window
            ("windows", "<u8"),  # windows judged, in all
            ("applied", "<u8"),  # of them, those that moved the weights
            ("realisation_configured", "<f8"),  # NaN: none is
            ("realisation_long_run", "<f8"),  # NaN: nothing was expected yet
            ("divisor", "<u8"),  # domain.enums.Divisor: by which of them observed quantities are divided
            ("venue_completeness", "<f8", (OI_VENUES,)),  # as in the frame of that minute
            ("venue_saturation", "<f8", (OI_VENUES,)),
            ("guard_rails", GUARD_RAILS),
            ("judged_count", "<u8"),
            ("judged", JUDGED_ROW, (CALIBRATION_WINDOWS,)),  # the newest windows, oldest first
            ("leverages", "<f8", (tiers,)),
            ("prior", "<f8", (2, tiers)),
            ("weights", "<f8", (2, tiers)),  # in force
            ("observed_base", "<f8", (2, tiers)),  # attributed, in the running window and carried over
            ("expected_base", "<f8", (2, tiers)),  # what price passed of the inventory, likewise
        ]
    )


BOOK_VENUES: Final = len(Venue) - 1
"""Order books by Venue number, less one."""

BOOK_UNIT_USD: Final = 10_000.0
"""Dollars of one unit of the half-precision cells of `book_dtype`: 1 dollar to 650 million, 0.05 % apart."""

BOOK_STANDING: Final = np.dtype(
    [
        ("state", "<u8"),  # domain.enums.BookState, 0: no book of this venue is wanted
        ("as_of_ns", "<i8"),  # engine time of the last update, -1: none
        ("venue_ms", "<i8"),  # the venue's own time of it
        ("sequence", "<i8"),  # the venue's number of it
        ("best_bid", "<f8"),  # NaN while not SYNCED, like all prices here; also when price has left what is complete
        ("best_ask", "<f8"),
        ("complete_low", "<f8"),  # every order between these two prices is in the book; beyond them, what was touched
        ("complete_high", "<f8"),
        ("bid_levels", "<u8"),
        ("ask_levels", "<u8"),
        ("updates", "<u8"),
        ("snapshots", "<u8"),
        ("resyncs", "<u8"),  # new beginnings that were asked for
        ("sequence_gaps", "<u8"),
        ("crossed", "<u8"),  # times the best bid was seen at or above the best ask
        ("dropped_levels", "<u8"),  # levels given up because they lay outside the band
        ("dropped_updates", "<u8"),  # updates given up under load, before or behind the parser
    ]
)


def depth_dtype(buckets: int) -> np.dtype[np.void]:
    """The order books of one symbol now. `usd[venue, side, cell]`, side 0 bid and 1 ask, float32 dollars of what stands
    in the bucket; NaN: unknown (no synced book, or beyond what it is complete for and nothing was touched there)."""
    return np.dtype(
        [
            ("as_of_ns", "<i8"),
            ("first_bucket", "<i8"),  # price of cell i = (first_bucket + i) × step
            ("buckets", "<i8"),  # cells in use
            ("step", "<f8"),
            ("venues", BOOK_STANDING, (BOOK_VENUES,)),
            ("usd", "<f4", (BOOK_VENUES, 2, buckets)),
        ]
    )


BOOK_MEANS: Final = np.dtype(
    [
        ("covered_ms", "<f8"),  # how much of the frame its book was whole
        ("resyncs", "<u8"),  # within the frame
        ("complete_low", "<f8"),  # the narrowest within the frame; NaN: never whole
        ("complete_high", "<f8"),
        ("total_usd", "<f8", (2,)),  # within the band, bid and ask: mean over time …
        ("total_min_usd", "<f8", (2,)),  # … least …
        ("total_max_usd", "<f8", (2,)),  # … and most
    ]
)


def book_dtype(buckets: int) -> np.dtype[np.void]:
    """One order-book frame: the time-weighted mean of the books over `interval_ms` from `t_ms` on.
    `cells[venue, side, cell]` × BOOK_UNIT_USD are dollars in half precision; NaN: unknown for all of the frame."""
    return np.dtype(
        [
            ("t_ms", "<i8"),
            ("interval_ms", "<i8"),
            ("first_bucket", "<i8"),
            ("buckets", "<i8"),
            ("step", "<f8"),
            ("mid_open", "<f8"),  # mean of the venues' middles; NaN: no book was whole
            ("mid_mean", "<f8"),
            ("mid_close", "<f8"),
            ("samples", "<u8"),  # states of the depth board that went into it
            ("summed", BOOK_MEANS),  # over the venues, while all wanted books were whole
            ("venues", BOOK_MEANS, (BOOK_VENUES,)),
            ("cells", "<f2", (BOOK_VENUES, 2, buckets)),
        ]
    )


ZONE_CHANGES: Final = len(ZoneChange)
"""What can happen to a zone, by domain.enums.ZoneChange, less one."""


def zones_dtype(tiers: int) -> np.dtype[np.void]:
    """The zones of one symbol at the end of a closed minute, active ones before swept ones, longs before shorts, and
    the newest of what happened to zones, oldest first. Rows beyond `count` and `change_count` are zero."""
    return np.dtype(
        [
            ("minute_ms", "<i8"),  # the minute that closed
            ("sequence", "<u8"),  # last event contained
            ("count", "<u8"),
            ("change_count", "<u8"),
            ("unit_usd", "<f8"),  # dollars of a weight of 1 now; NaN: unknown
            ("counts", "<u8", (2, ZONE_CHANGES)),  # by side and kind, how often it happened since the state began
            ("post_mortems", "<u8", (2,)),  # sweeps whose time of counting is over and was heard whole …
            ("predicted_usd", "<f8", (2,)),  # … what stood there in all …
            ("realised_usd", "<f8", (2,)),  # … and what was liquidated
            ("leverages", "<f8", (tiers,)),
            ("zones", zone_dtype(tiers), (MOST_ZONES,)),
            ("changes", ZONE_CHANGE, (KEPT_CHANGES,)),
        ]
    )


def fingerprint(dtype: np.dtype[Any]) -> int:
    """A number that tells payload types apart: 63 bits of a hash over field names, types, shapes and offsets."""
    digest = hashlib.sha256(repr((dtype.descr, dtype.itemsize)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def word_indexes(header: np.dtype[np.void]) -> dict[str, int]:
    """Index of each 8-byte word of a header, by field name."""
    return {name: header.fields[name][1] // 8 for name in header.names or ()} if header.fields else {}


def segment_name(instance: str, role: str, symbol: str | None = None) -> str:
    """The name below /dev/shm."""
    return ".".join(part for part in ("liqmap", instance, role, symbol) if part)

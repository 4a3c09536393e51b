"""What a worker shows to readers: the live board, a row per closed minute, zones, liquidations, what was learned.

Nothing is shown twice, also after a restart: rows carry the sequence of the event they end with, and what is not newer
than the last row found in shared memory was shown by the predecessor. Of the minutes that one TICK closed (after a hole
there are several, all with its sequence) the later one is the newer.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liqmap.config import Config
from liqmap.engine.frames import Facts, Liquidation, LiveFrame, MinuteFrame, ZonesFrame
from liqmap.engine.gaps import TOPIC_BITS
from liqmap.engine.judgement import Judged
from liqmap.engine.learned import CalibrationFrame, GuardRails
from liqmap.shm.board import BoardWriter
from liqmap.shm.layout import CALIBRATION_WINDOWS, OI_VENUES
from liqmap.shm.plan import Role, symbol_segments
from liqmap.shm.rows import RowsReader, RowsWriter

_BAR = (
    "open",
    "high",
    "low",
    "close",
    "taker_buy_base",
    "taker_sell_base",
    "minute_long_usd",
    "minute_short_usd",
    "minute_at_risk_usd",
)

_ZONE_SUMS = ("unit_usd", "counts", "post_mortems", "predicted_usd", "realised_usd")


class Publication:
    """The four segments of one symbol that its worker writes."""

    def __init__(self, config: Config, symbol: str) -> None:
        """Opens them for writing. Raises SegmentMissing, LayoutMismatch."""
        plans = {plan.role: plan for plan in symbol_segments(config, symbol)}
        live, minutes, recent, zones = (plans[role] for role in (Role.LIVE, Role.MINUTES, Role.RECENT, Role.ZONES))
        self._live: BoardWriter = BoardWriter.open(live.name, live.dtype)
        self._minutes: RowsWriter = RowsWriter.open(minutes.name, minutes.dtype)
        self._recent: RowsWriter = RowsWriter.open(recent.name, recent.dtype)
        learned = plans[Role.CALIBRATION]
        self._calibration: BoardWriter = BoardWriter.open(learned.name, learned.dtype)
        self._zones: BoardWriter = BoardWriter.open(zones.name, zones.dtype)
        self._leverages = config.symbols[symbol].leverages
        self._last_minute = _last(RowsReader.open(minutes.name, minutes.dtype), "sequence", "minute_ms")
        self._last_id = _last(RowsReader.open(recent.name, recent.dtype), "id")[0]
        self._frames = 0

    def live(self, frame: LiveFrame, lost_events: int) -> None:
        """Show the map as it is now."""
        self._frames += 1

        def fill(row: NDArray[Any]) -> None:
            _fill_facts(row, frame.facts, self._frames, lost_events)
            row["leverages"] = frame.leverages
            row["weights"] = frame.weights
            _fill_cells(row, frame)

        self._live.publish(fill)

    def minute(self, frame: MinuteFrame, lost_events: int) -> None:
        """Show a closed minute and its zones, unless a predecessor did."""
        place = (frame.facts.sequence, frame.facts.minute_ms)
        if place <= self._last_minute:
            return
        self._last_minute = place
        self._frames += 1

        def fill(row: NDArray[Any]) -> None:
            _fill_facts(row, frame.facts, self._frames, lost_events)
            for name in _BAR:
                row[name] = getattr(frame, name)
            row["gap_topics"] = _by_venue(frame.gap_topics)
            _fill_cells(row, frame)

        self._minutes.append(fill)
        if frame.zones is not None:
            self._show_zones(frame.facts, frame.zones)

    def _show_zones(self, facts: Facts, shown: ZonesFrame) -> None:
        def fill(board: NDArray[Any]) -> None:
            board["minute_ms"], board["sequence"] = facts.minute_ms, facts.sequence
            for name in _ZONE_SUMS:
                board[name] = getattr(shown, name)
            board["leverages"] = self._leverages
            for count, rows, values in (
                ("count", "zones", shown.zones),
                ("change_count", "changes", shown.changes),
            ):
                board[count] = len(values)
                board[rows][: len(values)] = values
                board[rows][len(values) :] = np.zeros((), board[rows].dtype)

        self._zones.publish(fill)

    def calibration(self, learned: CalibrationFrame) -> None:
        """Show how the tiers' weights are learned, as of the last closed minute."""

        def fill(row: NDArray[Any]) -> None:
            for name in _LEARNED:
                row[name] = getattr(learned, name)
            for name in _RAILS:
                row["guard_rails"][name] = getattr(learned.guard_rails, name)
            shown = learned.judged[-CALIBRATION_WINDOWS:]
            row["judged_count"] = len(shown)
            row["judged"] = 0
            for place, judged in enumerate(shown):
                for name in _JUDGED:
                    row["judged"][place][name] = getattr(judged, name)

        self._calibration.publish(fill)

    def liquidations(self, seen: Iterable[Liquidation]) -> None:
        """Show liquidations in the order of their ids, those that a predecessor showed left out."""
        for liquidation in seen:
            if liquidation.id > self._last_id:
                self._last_id = liquidation.id
                self._recent.append(_filler(asdict(liquidation)))


def _by_venue(gap_topics: int) -> NDArray[np.uint64]:
    """The bits of a frame's gaps, a word of topics for each venue."""
    words = gap_topics.to_bytes(OI_VENUES * TOPIC_BITS // 8, "little")
    return np.frombuffer(words, dtype="<u2").astype(np.uint64)


def _filler(values: dict[str, Any]) -> Any:
    def fill(row: NDArray[Any]) -> None:
        for name, value in values.items():
            row[name] = value

    return fill


def _fill_facts(row: NDArray[Any], facts: Facts, frame: int, lost_events: int) -> None:
    for name in _FACTS:
        row[name] = getattr(facts, name)
    row["frame"] = frame
    row["lost_events"] = lost_events


def _fill_cells(row: NDArray[Any], frame: LiveFrame | MinuteFrame) -> None:
    """Dollars into the cells in use, zero into the rest of the capacity."""
    used = frame.facts.buckets
    for name, dollars in (("projection_usd", frame.projection_usd), ("evidence_usd", frame.evidence_usd)):
        cells = row[name]
        cells[..., :used] = dollars
        cells[..., used:] = 0


def _last(rows: RowsReader, *names: str) -> tuple[int, ...]:
    newest = rows.last(1)
    return tuple(int(newest[0][name]) if len(newest) else 0 for name in names)


_FACTS = tuple(Facts.__dataclass_fields__)
_RAILS = tuple(GuardRails.__dataclass_fields__)
_JUDGED = tuple(Judged.__dataclass_fields__)
_LEARNED = tuple(name for name in CalibrationFrame.__dataclass_fields__ if name not in ("guard_rails", "judged"))

"""The engine of one symbol: events in, minute frames out, a live view at any time.

Time is an event: engine time is the largest `receive_ns` seen, and a minute closes at the first TICK two seconds after
its end. Until then what it brings is only collected (in the order of arrival); the map changes when it closes. So
`apply(x + y)` is `apply(x)` then `apply(y)`, bit for bit, wherever the stream is cut.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Kind, Model, PositionSide, PriceSource, Projection, Topic
from liqmap.domain.grid import Window
from liqmap.engine.bars import MinuteBar, MinuteTape
from liqmap.engine.calibration import Calibration
from liqmap.engine.entries import EntryHistory
from liqmap.engine.frames import SIDES, Facts, Liquidation, LiveFrame, MinuteFrame
from liqmap.engine.gaps import topic_missing
from liqmap.engine.intake import Intake
from liqmap.engine.learned import CalibrationFrame
from liqmap.engine.spec import MILLISECOND_NS, MINUTE_MS, MINUTE_S, SECOND_NS, EngineSpec
from liqmap.engine.state import NOTHING_KNOWN, MapState

GRACE_NS: Final = 2 * SECOND_NS
"""How long after its end a minute waits for late events."""

HOLE_MINUTES: Final = 120
"""When more minutes than this are due at one tick, the older ones without any event get no frame: time just passes."""

UNKNOWN: Final = float("nan")


class Engine:
    """One symbol. Feed it with `apply`; look at it with `live`."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.weights: NDArray[np.float64] = np.tile(np.array(spec.weights), (SIDES, 1))
        """Shares of new positions by (side, tier). This is their one owner: put others here and the next minute, and
        every frame from now on, goes by them."""
        self.calibration = Calibration(spec)
        self.born_ns = -1
        self.engine_ns = -1
        self.tick_ns = -1
        self.sequence = 0
        self._intake: Intake | None = None
        self._state: MapState | None = None
        self._entries = EntryHistory(spec.grid)
        self._minute_s = -1
        self._minutes = 0
        self._gap_minutes = 0
        self._change_base = UNKNOWN
        self._at_risk_usd: NDArray[np.float64] = np.zeros(SIDES)

    def apply(self, events: NDArray[np.void]) -> list[MinuteFrame]:
        """Take events (EVENT_DTYPE, in the order of their sequence); the frames of the minutes they closed."""
        frames: list[MinuteFrame] = []
        if len(events) == 0:
            return frames
        if self._intake is None:
            self.born_ns = self.engine_ns = int(events["receive_ns"][0])
            self._intake = Intake(self.spec, self.born_ns // SECOND_NS // MINUTE_S * MINUTE_S)
        clock_ns = np.maximum(np.maximum.accumulate(events["receive_ns"]), self.engine_ns)
        ticks = np.flatnonzero(events["kind"] == Kind.TICK)
        start = 0
        while True:
            ahead = ticks[np.searchsorted(ticks, start) :]
            first = int(np.searchsorted(clock_ns[ahead], self._due_ns(self._intake)))
            if first == len(ahead):
                break
            end = int(ahead[first]) + 1
            self._take(self._intake, events[start:end], clock_ns[start:end])
            self._tick(self._intake, frames)
            start = end
        self._take(self._intake, events[start:], clock_ns[start:])
        if len(ticks):
            self.tick_ns = int(clock_ns[ticks[-1]])
        return frames

    def live(self) -> LiveFrame | None:
        """The map now, None before the first event. The state is not changed by looking."""
        intake, state = self._intake, self._state
        if intake is None:
            return None
        now_ns = self.engine_ns
        mark, source, mark_ns = intake.tape.newest(now_ns)
        if state is None:
            projection, evidence = self._nothing()
        else:
            tape = intake.tape
            projection, evidence = state.seen_with(tape.open_liquidations, tape.open_range(now_ns), mark)
        return LiveFrame(
            facts=self._facts(intake, (intake.as_of_ns(now_ns), now_ns), mark, source, mark_ns),
            leverages=self.spec.leverages,
            weights=self.weights.copy(),
            projection_usd=projection,
            evidence_usd=evidence,
        )

    def learned(self, frame: MinuteFrame) -> CalibrationFrame:
        """What the calibration makes of everything up to the last closed minute, whose frame this is."""
        return CalibrationFrame.of(self.calibration, frame.facts, self.spec.leverages, self.weights)

    @property
    def window(self) -> Window | None:
        """Where the map lies, None before the first price."""
        return self._state.window if self._state else None

    @property
    def held_back(self) -> int:
        """Prices that were not believed so far; see `guard`."""
        return self._intake.tape.held_back if self._intake else 0

    def drain_liquidations(self) -> list[Liquidation]:
        """The liquidations taken since the last call, in the order of their ids."""
        if self._intake is None:
            return []
        taken, self._intake.outbox = self._intake.outbox, []
        return taken

    # -- time ----------------------------------------------------------------------------------------------------

    def _due_ns(self, intake: Intake) -> int:
        """From when on a TICK has something to do: close the open minute, or lay out the map as soon as it can."""
        return 0 if self._state is None else (intake.tape.open_s + MINUTE_S) * SECOND_NS + GRACE_NS

    def _take(self, intake: Intake, events: NDArray[np.void], clock_ns: NDArray[np.int64]) -> None:
        if len(events):
            intake.take(events, clock_ns)
            self.engine_ns = int(clock_ns[-1])
            self.sequence = int(events["sequence"][-1])

    def _tick(self, intake: Intake, frames: list[MinuteFrame]) -> None:
        """At a TICK: lay out the map when the first price is known, close the minutes that are due."""
        if self._state is None:
            price, source, _ = intake.tape.newest(self.engine_ns)
            price = price if source is not None else intake.last_trigger
            if price == price:
                self._state = MapState.around(self.spec, price)
        open_s = intake.tape.open_s
        last_s = (self.engine_ns - GRACE_NS) // SECOND_NS // MINUTE_S * MINUTE_S - MINUTE_S
        recent_s = max(open_s, last_s - (HOLE_MINUTES - 1) * MINUTE_S)
        older = [start_s for start_s in intake.tape.spoken_of(last_s) if start_s < recent_s]
        covered = intake.tape.covered(last_s)
        for start_s in (*older, *range(recent_s, last_s + 1, MINUTE_S)):
            if start_s not in covered:
                frames.append(self._close(intake, start_s))

    def _close(self, intake: Intake, start_s: int) -> MinuteFrame:
        """Close the minute that starts at `start_s`; the first one ever counts as one minute."""
        minutes = 1 if self._minute_s < 0 else (start_s - self._minute_s) // MINUTE_S
        self._minute_s = start_s
        gap_topics = intake.gaps.bits(start_s * 1000, (start_s + MINUTE_S) * 1000)
        end_ns = (start_s + MINUTE_S) * SECOND_NS
        bar, tape = intake.tape.close(
            start_s,
            trades_missing=topic_missing(gap_topics, Topic.TRADE),
            levels_fresh=intake.ledger.levels(end_ns).fresh,
        )
        self._entries.skip(minutes - bar.covers_min)
        self._entries.append(bar, tape)
        if self._state is not None:
            self._roll(self._state, bar, tape, minutes, gap_topics)
        self._minutes += 1
        self._gap_minutes += gap_topics != 0
        self._change_base = bar.open_interest.change_base
        levels = intake.ledger.levels(self.engine_ns)
        intake.completeness.close(bar.minute_ms, minutes, tape.liquidations, levels, gap_topics)
        return self._frame(intake, bar, tape, gap_topics)

    def _roll(self, state: MapState, bar: MinuteBar, tape: MinuteTape, minutes: int, gap_topics: int) -> None:
        """Move the map, learn from it, and put what was learned in force."""
        heard = minutes == 1 and bar.known and not topic_missing(gap_topics, Topic.LIQUIDATION) and not gap_topics & 1
        in_dollars = state.inventory.projection is Projection.DOLLARS
        learning = self.calibration if heard and in_dollars else None
        state.roll(bar, tape, minutes, self._entries, self.weights, learning)
        self._at_risk_usd += state.inventory.at_risk_usd
        level_base = bar.open_interest.level_base
        learned = self.calibration.close(bar.minute_ms + MINUTE_MS, minutes, self.weights, level_base)
        if learned is not None:
            self.weights, factors = learned
            state.inventory.retier(factors)
        state.follow_zones(bar, tape, minutes, heard=heard)

    # -- frames --------------------------------------------------------------------------------------------------

    def _frame(self, intake: Intake, bar: MinuteBar, tape: MinuteTape, gap_topics: int) -> MinuteFrame:
        end_ns = (bar.minute_ms + MINUTE_MS) * MILLISECOND_NS
        mark, source, mark_ns = intake.tape.at_close()
        projection, evidence = np.zeros((len(Model), SIDES, 0), np.float32), np.zeros((SIDES, 0), np.float32)
        at_risk = (0.0,) * SIDES
        if self._state is not None:
            projection = self._state.projection_by_side()
            evidence = self._state.evidence.usd.astype(np.float32)
            at_risk = tuple(self._state.inventory.at_risk_usd.tolist())
        by_side = [0.0, 0.0]
        for liquidation in tape.liquidations:
            by_side[liquidation.side - 1] += liquidation.notional_usd
        return MinuteFrame(
            facts=self._facts(intake, (end_ns, end_ns), bar.close if bar.known else mark, source, mark_ns),
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            taker_buy_base=bar.taker_buy_base,
            taker_sell_base=bar.taker_sell_base,
            minute_long_usd=by_side[0],
            minute_short_usd=by_side[1],
            minute_at_risk_usd=at_risk,
            gap_topics=gap_topics,
            projection_usd=projection,
            evidence_usd=evidence,
            liquidations=tuple(tape.liquidations),
            zones=self._state.zones.frame() if self._state else None,
        )

    def _nothing(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Projection and evidence of a map that has no window yet."""
        tiers = len(self.spec.leverages)
        return np.zeros((len(Model), SIDES, tiers, 0), np.float32), np.zeros((SIDES, 0), np.float32)

    def _facts(
        self, intake: Intake, times_ns: tuple[int, int], mark: float, source: PriceSource | None, mark_ns: int
    ) -> Facts:
        """The facts of a frame; `times_ns`: what it is as of, and engine time, by which staleness is judged."""
        as_of_ns, now_ns = times_ns
        state, levels = self._state, intake.ledger.levels(now_ns)
        open_interest_usd = levels.total_base * mark
        known = state.known_share(open_interest_usd) if state else NOTHING_KNOWN
        return Facts(
            as_of_ns=as_of_ns,
            sequence=self.sequence,
            born_ns=self.born_ns,
            minute_ms=self._minute_s * 1000 if self._minutes else -1,
            first_bucket=state.window.first if state else 0,
            buckets=state.window.count if state else 0,
            step=self.spec.step,
            mark_price=mark,
            mark_source=int(source or 0),
            mark_as_of_ns=mark_ns,
            index_price=intake.tape.index_price,
            last_price=intake.tape.last_trade,
            open_interest_base=levels.total_base,
            open_interest_usd=open_interest_usd,
            open_interest_change_base=self._change_base,
            venue_oi_base=levels.venue_base,
            venue_oi_as_of_ns=levels.as_of_ns,
            venue_oi_stale=levels.stale,
            realisation=self.calibration.realisation,
            at_risk_usd=tuple(self._at_risk_usd.tolist()),
            coverage=known.coverage,
            unknown_usd=known.unknown_usd,
            projection_known=known.projection,
            evidence_outside_usd=known.evidence_outside_usd,
            projection_outside_usd=known.projection_outside_usd,
            events=intake.events,
            liquidations=intake.liquidations,
            liquidated_long_usd=intake.liquidated_usd[PositionSide.LONG],
            liquidated_short_usd=intake.liquidated_usd[PositionSide.SHORT],
            minutes=self._minutes,
            gap_minutes=self._gap_minutes,
            **intake.sheet.facts(),
            **intake.completeness.facts(),
        )

"""The inventory model: every contract of open interest is somewhere, in a tier at a trigger price or in `unknown`.

State, per side: the quantity that will be liquidated in each (tier, trigger cell), smeared when it is opened, and
`unknown`, the open interest whose entry nobody saw. At the end of each minute, on each side,

    sum over tiers and cells + unknown = open interest (the sum of the last known levels)

Per minute, quantities in base, one side at a time:
  liquidate  what price traversed is gone; it is kept as the minute's quantity at risk;
  turn over  G = OI * turnover * (volume / mean volume) is opened, at most half of the volume; where the known change of
             open interest plus what was liquidated is more, G is that, so that no closing is ever negative;
  close      C = G - change - liquidated, in proportion to quantity times hazard 1 + leverage / 15; `unknown` closes
             with the mean hazard of the book that stands, so it shrinks as the book turns over;
  open       G by weight over the tiers, at the minute's volume at price, ahead of its closing price. What the change
             asks for beyond the turnover is entered in the change's own stretch of time.

What is not known:
  * A level says nothing of what was liquidated after its reading: that waits in `unknown` (as `deferred`) and is
    settled with the next known change. A minute without a reading waits as a whole.
  * A level that moves without a known change is a venue that came, left or returned: more of it is unknown, less of it
    closes everything alike.
  * While no level is fresh, and in minutes that nobody saw, the book turns over unseen: what closes becomes unknown.
  * Before any level was known the book is one unit: shares of it. `Projection.RELATIVE` says so; the first level makes
    quantities of them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Projection
from liqmap.domain.grid import Window, rebin
from liqmap.engine.frames import SIDES
from liqmap.engine.model import Minute, traversed
from liqmap.engine.smear import LONG_SIGN, SIGNS, Placement, Smear, smear
from liqmap.engine.spec import EngineSpec, significant

Floats = NDArray[np.float64]

HAZARD_LEVERAGE: Final = 15.0
"""A tier closes 1 + leverage / 15 times as fast as one without leverage (shared/model.md section 6.3)."""

MEAN_VOLUME_MINUTES: Final = 1440
"""The mean volume is that of about the last day."""

LARGEST_TURNOVER: Final = 0.25
"""Share of the open interest that one minute opens at most, where no known change asks for more."""

LEAST_AHEAD: Final = 0.05
"""When less than this of an opening lies ahead of the closing price, it is entered at that price instead."""

TOLERANCE: Final = 1e-9
_UNKNOWN: Final = float("nan")
_LEAST_SCALE: Final = 1e-6
_LONGEST_MINUTES: Final = 60 * 1440


class BookDoesNotAdd(AssertionError):
    """The quantities of a side do not sum to the open interest: liqmap is wrong. The text says by how much."""


class InventoryModel:
    """One symbol. Implements `ProjectionModel`."""

    def __init__(self, spec: EngineSpec, window: Window) -> None:
        self._spec = spec
        self._window = window
        self._prices = window.prices()
        tiers = len(spec.leverages)
        self._hazard = 1.0 + np.array(spec.leverages) / HAZARD_LEVERAGE
        self._raw: Floats = np.zeros((SIDES, tiers, window.count))
        self._scale: Floats = np.ones((SIDES, tiers))
        self._outside: Floats = np.zeros((SIDES, tiers, 2))
        self.unknown_base: Floats = np.ones(SIDES)
        """By side, base: open interest whose entry is not known; shares of the book before any level was known."""
        self.at_risk_base: Floats = np.zeros((SIDES, tiers))
        """By side and tier: what price traversed in the last minute."""
        self.at_risk_usd: Floats = np.zeros(SIDES)
        self._deferred: Floats = np.zeros(SIDES)
        self._level_base = _UNKNOWN
        self._mean_volume = _UNKNOWN
        self._volumes = 0
        self._opened = False

    @property
    def projection(self) -> Projection | None:
        """What the numbers are: dollars, densities that compare with each other, or nothing yet."""
        if self._level_base == self._level_base:
            return Projection.DOLLARS
        return Projection.RELATIVE if self._opened else None

    @property
    def swept_share(self) -> float:
        """All of what price passes is gone."""
        return 1.0

    @property
    def base(self) -> Floats:
        """(side, tier, cell) quantities; a copy."""
        return self._raw * self._scale[:, :, None]

    @property
    def usd(self) -> Floats:
        """(side, tier, cell) dollars at the trigger price; a copy."""
        usd = self._raw * self._scale[:, :, None]
        usd *= self._prices
        return usd

    def show(self, kept: Floats, shown: NDArray[np.float32]) -> None:
        """Write the dollars into `shown` (side, tier, cell), of each cell the share `kept` (side, cell)."""
        worth = self._prices * kept
        for side, tier in np.ndindex(self._scale.shape):
            np.multiply(
                self._raw[side, tier] * self._scale[side, tier], worth[side], out=shown[side, tier], casting="same_kind"
            )

    def usd_within(self, side: int, cells: slice) -> Floats:
        """(tier, cell) dollars of some cells of one side; a copy."""
        return np.asarray(self._raw[side, :, cells] * self._scale[side, :, None] * self._prices[cells])

    @property
    def outside_usd(self) -> Floats:
        """(side, tier, end) dollars beyond the window, at the price of its edge; a copy."""
        return self._outside * self._scale[:, :, None] * self._prices[[0, -1]]

    @property
    def known_base(self) -> Floats:
        """By side and tier, all that stands, beyond the window too."""
        return np.asarray((self._raw.sum(axis=2) + self._outside.sum(axis=2)) * self._scale)

    def coverage(self, _open_interest_usd: float, /) -> Floats:
        """By side, the share of the open interest whose place is known: of quantities, whatever they are worth."""
        known = self.known_base.sum(axis=1)
        return np.asarray(known / (known + self.unknown_base))

    def usd_by_side(self) -> Floats:
        """(side, cell) dollars, all tiers summed."""
        by_side = np.zeros((SIDES, self._window.count))
        for tier in range(self._raw.shape[1]):
            by_side += self._raw[:, tier] * self._scale[:, tier, None]
        return by_side * self._prices

    def around(self, side: int, cells: NDArray[np.int64], reach: int) -> Floats:
        """(tier, event) quantity that stands within `reach` cells of each of `cells`, on one side."""
        count = self._window.count
        summed = np.zeros((self._raw.shape[1], count + 1))
        np.cumsum(self._raw[side], axis=1, out=summed[:, 1:])
        low = np.clip(cells - reach, 0, count)
        high = np.clip(cells + reach + 1, 0, count)
        return (summed[:, high] - summed[:, low]) * self._scale[side, :, None]

    def advance(self, minute: Minute) -> None:
        """Close a minute, in the order of the module's text. Raises BookDoesNotAdd."""
        if minute.minutes > minute.bar.covers_min:
            self._turn_over_unseen(minute.minutes - minute.bar.covers_min)
        step = minute.bar.open_interest
        change = step.change_base if not step.change_base >= step.level_base else _UNKNOWN
        self._follow_level(step.level_base, change)
        self._liquidate(minute)
        if step.fresh or self._level_base != self._level_base:
            self._turn_over(minute, change)
        else:
            self.unknown_base += self.at_risk_base.sum(axis=1)
            self._deferred += self.at_risk_base.sum(axis=1)
            self._turn_over_unseen(minute.bar.covers_min)
        self._check()

    def retier(self, factors: Floats) -> None:
        """Multiply the tiers of the standing book by `factors[side, tier]`; each side keeps its sum."""
        before = self.known_base
        wanted = before * factors
        sums = wanted.sum(axis=1, keepdims=True)
        kept = np.where(sums > 0, before.sum(axis=1, keepdims=True) / np.where(sums > 0, sums, 1.0), 1.0)
        self._scale *= factors * kept

    def move(self, window: Window) -> None:
        """Look through another window."""
        moved = rebin(self._raw, self._window, window)
        self._raw = moved.values
        self._outside[..., 0] += moved.below
        self._outside[..., 1] += moved.above
        self._window, self._prices = window, window.prices()

    # -- one minute ----------------------------------------------------------------------------------------------

    def _follow_level(self, level_base: float, change_base: float) -> None:
        """Take over what the level moved beyond the known change."""
        known_change = change_base if change_base == change_base else 0.0
        if level_base != level_base:
            return
        if self._level_base != self._level_base:  # from shares of the book to quantities
            self._level_base = level_base - known_change
            self._scale *= self._level_base
            self.unknown_base *= self._level_base
        moved = level_base - known_change - self._level_base
        if moved > 0:
            self.unknown_base += moved
        elif moved < 0:
            kept = (self._level_base + moved) / self._level_base
            self._scale *= kept
            self.unknown_base *= kept
            self._deferred *= kept
        self._level_base += moved

    def _liquidate(self, minute: Minute) -> None:
        self.at_risk_base[:] = 0.0
        self.at_risk_usd[:] = 0.0
        bar = minute.bar
        if not bar.known:
            return
        for side, cells in enumerate(traversed(self._prices, bar.low, bar.high)):
            passed = self._raw[side, :, cells]
            self.at_risk_base[side] = passed.sum(axis=1) * self._scale[side]
            self.at_risk_usd[side] = ((passed * self._scale[side, :, None]).sum(axis=0) * self._prices[cells]).sum()
            self._raw[side, :, cells] = 0.0
            self._liquidate_outside(side)

    def _liquidate_outside(self, side: int) -> None:
        """What lies beyond the end of the window that is behind the mark: price leapt over it."""
        end = 1 if SIGNS[side] == LONG_SIGN else 0
        passed = self._outside[side, :, end] * self._scale[side]
        if passed.any():
            self.at_risk_base[side] += passed
            self.at_risk_usd[side] += float(passed.sum()) * self._prices[-1 if end else 0]
            self._outside[side, :, end] = 0.0

    def _turn_over(self, minute: Minute, known_change: float) -> None:
        """`known_change`: of open interest, NaN: unknown. No more is opened than stands in the end."""
        relative = self._level_base != self._level_base
        told = known_change == known_change and not relative
        book = 1.0 if relative else self._level_base
        change = known_change if told else 0.0
        untold = 0.0 if relative else minute.bar.open_interest.untold if told else 1.0
        turnover = self._turnover(minute.bar.volume_base, minute.bar.covers_min, book)
        if minute.at_volume is None:
            turnover = 0.0
        for side in range(SIDES):
            removed = float(self.at_risk_base[side].sum())
            waiting = untold * removed
            settled = float(self._deferred[side]) if told else 0.0
            self._deferred[side] += waiting - settled
            self.unknown_base[side] += waiting - settled
            need = change + settled + removed - waiting
            turned = min(turnover, max(book + change - float(self._deferred[side]), 0.0))
            opened = max(turned, need)
            self._close(side, opened - need)
            self._open(side, min(turned, opened), minute.at_volume, minute)
            self._open(side, opened - min(turned, opened), minute.at_change or minute.at_volume, minute)
        if not relative:
            self._level_base += change

    def _turnover(self, volume_base: float, minutes: int, book: float) -> float:
        """G before anything raises it: base per side, in so many minutes."""
        rate = self._spec.turnover_per_minute * minutes
        if volume_base != volume_base:
            return book * rate
        per_minute = volume_base / minutes
        self._volumes = min(self._volumes + minutes, MEAN_VOLUME_MINUTES)
        if self._volumes == minutes:
            self._mean_volume = per_minute
        self._mean_volume += (per_minute - self._mean_volume) * minutes / self._volumes
        if self._mean_volume <= 0:
            return book * rate
        turned = min(book * rate * (per_minute / self._mean_volume), LARGEST_TURNOVER * book)
        return turned if self._level_base != self._level_base else min(turned, volume_base / 2)

    def _close(self, side: int, quantity: float) -> None:
        """Close in proportion to quantity times hazard; what one tier has not, the others close. What waits to be
        settled is not there any more and closes nothing."""
        while quantity > 0:
            known = self.known_base[side]
            total = float(known.sum())
            hazard = float((known * self._hazard).sum()) / total if total > 0 else 1.0
            unknown = float(self.unknown_base[side] - self._deferred[side])
            exposed = float((known * self._hazard).sum()) + unknown * hazard
            if exposed <= 0:
                break
            rate = quantity / exposed
            shares = np.minimum(rate * self._hazard, 1.0)
            share = min(rate * hazard, 1.0)
            closed = float((known * shares).sum()) + unknown * share
            self._scale[side] *= 1.0 - shares
            self.unknown_base[side] -= unknown * share
            quantity = quantity - closed if closed < quantity * (1 - TOLERANCE) else 0.0
        self._fold()

    def _open(self, side: int, quantity: float, placement: Placement | None, minute: Minute) -> None:
        if quantity <= 0:
            return
        if placement is None:
            self.unknown_base[side] += quantity
            return
        self._opened = True
        close = minute.bar.close
        for tier, one in enumerate(placement.by[side]):
            share = quantity * float(minute.weights[side, tier])
            if share > 0:
                one = self._ahead(one, side, tier, close)
                one.add_to(self._raw[side, tier], self._outside[side, tier], share / float(self._scale[side, tier]))

    def _ahead(self, one: Smear, side: int, tier: int, close: float) -> Smear:
        """The part of a placement that lies ahead of the closing price, as a whole."""
        if close != close:
            return one
        longs, shorts = traversed(self._prices, close, close)
        first, last = one.first, one.first + len(one.shares)
        if SIGNS[side] == LONG_SIGN:
            if last <= longs.start:
                return one
            kept = one.shares[: max(0, longs.start - first)]
            left = one.below + float(kept.sum())
            cut = Smear(first, kept, one.below, 0.0)
        else:
            if first >= shorts.stop:
                return one
            kept = one.shares[max(0, shorts.stop - first) :]
            left = one.above + float(kept.sum())
            cut = Smear(max(first, shorts.stop), kept, 0.0, one.above)
        if left < LEAST_AHEAD:
            at_close, unit = np.array([close]), np.ones(1)
            return smear(self._window, at_close, unit, SIGNS[side], self._spec.distances[tier])
        return Smear(cut.first, cut.shares / left, cut.below / left, cut.above / left)

    def _turn_over_unseen(self, minutes: int) -> None:
        """Positions were closed and opened, and nobody saw where: what closes becomes unknown."""
        kept = significant((1.0 - self._spec.turnover_per_minute) ** min(minutes, _LONGEST_MINUTES))
        for side in range(SIDES):
            stands = float(self.known_base[side].sum() + self.unknown_base[side] - self._deferred[side])
            turned = max(stands, 0.0) * (1.0 - kept)
            self._close(side, turned)
            self.unknown_base[side] += turned

    def _fold(self) -> None:
        """Keep the scales away from nothing."""
        small = self._scale < _LEAST_SCALE
        if small.any():
            for side, tier in np.argwhere(small).tolist():
                self._raw[side, tier] *= self._scale[side, tier]
                self._outside[side, tier] *= self._scale[side, tier]
                self._scale[side, tier] = 1.0

    def _check(self) -> None:
        """The invariant; what rounding leaves over goes to `unknown`, so that it never adds up."""
        book = 1.0 if self._level_base != self._level_base else self._level_base
        over = self.known_base.sum(axis=1) + self.unknown_base - book
        if not (np.abs(over) <= TOLERANCE * book).all() or (self.unknown_base < -TOLERANCE * book).any():
            raise BookDoesNotAdd(f"{self._spec.symbol}: {over.tolist()} too much in a book of {book!r}")
        self.unknown_base = np.maximum(self.unknown_base - over, 0.0)

"""Drives the simulated markets along the wall clock and hands each step to the venue servers.

Steps have a fixed length, so what a market prints depends on its seed alone and not on when the loop woke up.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from liqmap.domain.enums import Venue
from liqmap.sim.tape import Market, Tape
from liqmap.sim.venues.market_feed import MarketFeed
from liqmap.sim.venues.server import VenueServer


def wall_ms() -> int:
    """Milliseconds UTC."""
    return time.time_ns() // 1_000_000


class MarketPump:
    """All symbols, all venues, one step after another. `speed`: market seconds per wall second.

    Frames carry wall time at any speed: a fast market is a lively one, not one of another day.
    """

    def __init__(
        self,
        markets: Sequence[Market],
        venues: Sequence[tuple[MarketFeed, VenueServer]],
        now_ms: Callable[[], int] = wall_ms,
        speed: float = 1.0,
        step_ms: int = 100,
    ) -> None:
        self._markets = markets
        self._venues = venues
        self._now_ms = now_ms
        self._speed = speed
        self._step_ms = step_ms
        self._origin_ms = now_ms()
        self._at_ms = self._origin_ms
        self.steps = 0

    async def run(self) -> None:
        """Go on until cancelled; after a pause of the process the missed steps are made up one by one."""
        while True:
            behind_ms = self._now_ms() - self._at_ms
            if behind_ms >= self._step_ms:
                self.step()
                await asyncio.sleep(0)
            else:
                await asyncio.sleep((self._step_ms - behind_ms) / 1000)

    def step(self) -> None:
        """One step of every market, published at every venue."""
        from_ms, self._at_ms = self._at_ms, self._at_ms + self._step_ms
        market_ms = self._origin_ms + round((self._at_ms - self._origin_ms) * self._speed)
        tapes = [self._on_wall(market.advance(market_ms), from_ms) for market in self._markets]
        self.steps += 1
        for feed, server in self._venues:
            skew_ms = server.faults.skew_ms
            told = [_skewed(tape, feed.venue, skew_ms) for tape in tapes] if skew_ms else tapes
            server.publish(feed.step(told, self._at_ms + skew_ms))

    def _on_wall(self, tape: Tape, from_ms: int) -> Tape:
        """The tape with its times moved from the market's clock to the wall's."""
        if self._speed == 1.0:
            return tape
        venues = {
            venue: replace(
                venue_tape,
                trades=self._moved(venue_tape.trades, tape.from_ms, from_ms),
                liquidations=self._moved(venue_tape.liquidations, tape.from_ms, from_ms),
            )
            for venue, venue_tape in tape.venues.items()
        }
        next_funding_ms = self._at_ms + round((tape.next_funding_ms - tape.to_ms) / self._speed)
        return replace(tape, venues=venues, next_funding_ms=next_funding_ms, from_ms=from_ms, to_ms=self._at_ms)

    def _moved(self, prints: NDArray[np.void], market_from_ms: int, wall_from_ms: int) -> NDArray[np.void]:
        moved = prints.copy()
        moved["ts_ms"] = wall_from_ms + ((prints["ts_ms"] - market_from_ms) / self._speed).astype(np.int64)
        return moved


def _skewed(tape: Tape, venue: Venue, skew_ms: int) -> Tape:
    """The tape as a venue tells it whose clock is `skew_ms` ahead."""
    told = tape.venues.get(venue)
    if told is None:
        return tape
    trades, liquidations = told.trades.copy(), told.liquidations.copy()
    trades["ts_ms"] += skew_ms
    liquidations["ts_ms"] += skew_ms
    return replace(tape, venues={**tape.venues, venue: replace(told, trades=trades, liquidations=liquidations)})

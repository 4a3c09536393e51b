"""Requests for the past: one thread per venue beside its poller, so that no history delays a book or a reading.

They are made once each, in the order in which they are asked for, and spend from the venue's account like everything
else that is asked of it: its budgets, its 429 and its bans hold them back, too. What comes of them is taken by the
thread that asked.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

from liqmap.clock import Clock
from liqmap.config import IngestConfig
from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.fetcher import Fetcher
from liqmap.ingest.handoff import Handoff, Polled, PollFailed
from liqmap.ingest.poller import Poller, poll_forever

_LINES: Final = 1024


class PastRequests:
    """Owned by the router's thread. Threads begin with the first request of their venue and end with `stop`."""

    def __init__(
        self,
        settings: IngestConfig,
        clock: Clock,
        accounts: AccountBook,
        fetcher: Callable[[], Fetcher],
        draw: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._accounts = accounts
        self._fetcher = fetcher
        self._draw = draw
        self._handoff = Handoff(_LINES)
        self._pollers: dict[Venue, Poller] = {}

    def ask(self, plans: Iterable[PollPlan]) -> None:
        """Make these requests as soon as the accounts allow, in this order."""
        begun = []
        for plan in plans:
            poller = self._pollers.get(plan.venue)
            if poller is None:
                poller = self._pollers[plan.venue] = self._poller(plan.venue)
                begun.append(poller)
            poller.ask(plan)
        for poller in begun:
            name = f"{poller.venue.name.lower()}/past"
            threading.Thread(target=poll_forever, args=(poller,), name=name, daemon=True).start()

    def answers(self) -> list[Polled | PollFailed]:
        """What came since the last call."""
        return [message for message in self._handoff.take(0.0) if isinstance(message, Polled | PollFailed)]

    def held(self, venue: Venue) -> tuple[float, str]:
        """Seconds for which the venue refuses all requests of ours, and why; (0, "") when it does not."""
        now_ns = self._clock.monotonic_ns()
        holds = self._accounts[venue].holds(now_ns)
        found = [((held.until_ns - now_ns) / 1e9, held.reason) for what, held in holds.items() if what != "connects"]
        return max(found, default=(0.0, ""))

    def stop(self) -> None:
        """Ask for nothing more; a request that is on its way is not waited for."""
        for poller in self._pollers.values():
            poller.stop.set()
        self._pollers = {}

    def _poller(self, venue: Venue) -> Poller:
        account, adapter = self._accounts[venue], ADAPTERS[venue]
        clock, draw, stop = self._clock, self._draw, threading.Event()
        return Poller(venue, adapter, self._settings, clock, self._fetcher(), self._handoff, account, draw, stop)

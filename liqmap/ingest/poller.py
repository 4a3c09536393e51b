"""REST requests of one venue: one thread, one session, the venue's account, one queue of what is due.

A reply with status 200 is handed over as bytes; everything else writes nothing: a failed poll is an absence, never a
zero. A refusal that concerns the address (too fast, banned, region) stops every request of the venue until its time is
over, and what should have been told meanwhile is said to be refused; a fault of one request delays that one only.

Beside the polls there are requests that are made once (`ask`): the snapshot of a book, the next page of a list. They
spend from the same account and wait for it, but are tried once only: who asked hears of the failure and decides.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from liqmap.clock import Clock
from liqmap.config import IngestConfig
from liqmap.domain.enums import GapReason, Venue
from liqmap.exchanges.adapter import Adapter, PollPlan, Refusal
from liqmap.ingest.accounts import VenueAccount
from liqmap.ingest.backoff import Backoff
from liqmap.ingest.fetcher import Fetcher, FetchError
from liqmap.ingest.handoff import Changed, Handoff, LinkState, Polled, PollFailed
from liqmap.logs import fields

_TURN_S: Final = 0.25
_RARE_BACKOFF: Final = 1 / 24
"""What is asked for rarely is asked for again rarely, too: pauses grow up to this share of its rhythm."""
_BAR_JITTER: Final = 0.05
"""What is asked after the close of a bar is spread over this share of the bar."""

log = logging.getLogger(__name__)


def source_of(plan: PollPlan) -> str:
    """The name of a poll in messages, logs and the feeds board."""
    return f"{plan.venue.name.lower()}/{plan.name}"


@dataclass(slots=True)
class _Due:
    """One request and when it is next due. `once`: it is made once; the others are repeated."""

    plan: PollPlan
    backoff: Backoff
    due_ns: int
    once: bool = False
    failure: str = ""
    failures: int = 0
    held: bool = False
    """It was told that the venue holds it back."""


_Dues = dict[str, _Due]
"""By name of the poll; what is asked once by its address."""


@dataclass(slots=True)
class Poller:
    """What the requests of one venue are given. `replan` and `ask` may be called by another thread; the rest is its
    own."""

    venue: Venue
    adapter: Adapter
    settings: IngestConfig
    clock: Clock
    fetcher: Fetcher
    handoff: Handoff
    account: VenueAccount
    draw: Callable[[], float]
    stop: threading.Event
    wanted: "queue.SimpleQueue[tuple[PollPlan, ...]]" = field(default_factory=queue.SimpleQueue)
    asked: "queue.SimpleQueue[PollPlan]" = field(default_factory=queue.SimpleQueue)

    def replan(self, plans: tuple[PollPlan, ...]) -> None:
        """Poll exactly these from the next turn on; what was polled before keeps its rhythm."""
        self.wanted.put(plans)

    def ask(self, plan: PollPlan) -> None:
        """Make this request once, as soon as the account allows. `Polled` or `PollFailed` names the plan; asking for an
        address that already waits changes nothing."""
        self.asked.put(plan)


def poll_forever(poller: Poller) -> None:
    """The thread of one venue: until asked to stop. Never raises for what the world does."""
    due: _Dues = {}
    try:
        while not poller.stop.is_set():
            _take_plans(poller, due)
            _take_asked(poller, due)
            poller.clock.wait(poller.stop, turn(poller, due))
    finally:
        poller.fetcher.close()


def turn(poller: Poller, due: _Dues) -> float:
    """Make the request that is most overdue, if any; returns how long to wait before the next turn, at most _TURN_S."""
    now_ns = poller.clock.monotonic_ns()
    if not due:
        return _TURN_S
    item = min(due.values(), key=lambda candidate: candidate.due_ns)
    if item.due_ns > now_ns:
        return min(_TURN_S, (item.due_ns - now_ns) / 1e9)
    held_s, why = poller.account.requests_held(now_ns)
    if held_s > 0:
        _hold_back(poller, item, held_s, why)
        return 0.0
    wait_s = poller.account.ask(item.plan.budget, item.plan.weight, now_ns)
    if wait_s > 0:
        item.due_ns = now_ns + int(wait_s * 1e9)
        return 0.0
    if item.once:
        del due[item.plan.url]
    _request(poller, item)
    return 0.0


def _hold_back(poller: Poller, item: _Due, held_s: float, why: str) -> None:
    """The venue refuses all of us: later, and what this request should have told is refused meanwhile."""
    now_ns = poller.clock.monotonic_ns()
    item.due_ns = now_ns + int(held_s * 1e9)
    if item.held or item.once:
        return
    item.held = True
    source = source_of(item.plan)
    poller.handoff.announce(PollFailed(source, poller.clock.now_ns(), why, GapReason.REFUSED, held_s))


def _request(poller: Poller, item: _Due) -> None:
    asked_ns = poller.clock.now_ns()
    try:
        reply = poller.fetcher.get(item.plan.url)
    except FetchError as error:
        _failed(poller, item, str(error), GapReason.NOT_CONNECTED, item.backoff.next_s())
        return
    receive_ns = poller.clock.now_ns()
    poller.account.heard(reply.headers, poller.clock.monotonic_ns(), receive_ns)
    kind = reply.headers.get("content-type", "")
    refusal = poller.adapter.classify_refusal(reply.status, kind, reply.headers, reply.body)
    if refusal is None:
        poller.account.served(handshake=False)
        _succeeded(poller, item)
        plan = item.plan if item.once else None
        poller.handoff.announce(Polled(source_of(item.plan), receive_ns, reply.body, asked_ns, plan))
        return
    _refused(poller, item, refusal)


def _refused(poller: Poller, item: _Due, refusal: Refusal) -> None:
    delay_s = item.backoff.next_s(refusal)
    concerns_all = poller.account.refused(refusal, poller.clock.monotonic_ns(), delay_s, handshake=False)
    item.held = concerns_all
    _failed(poller, item, refusal.text, GapReason.REFUSED if concerns_all else GapReason.NOT_CONNECTED, delay_s)


def _succeeded(poller: Poller, item: _Due) -> None:
    item.backoff.reset()
    item.due_ns = poller.clock.monotonic_ns() + int(_until_next_s(poller, item.plan) * 1e9)
    if item.failure or item.held:
        log.info("poll", extra=fields(venue=poller.venue.name.lower(), poll=item.plan.name, state="up"))
        item.failure, item.failures, item.held = "", 0, False
        poller.handoff.announce(Changed(source_of(item.plan), LinkState.UP, poller.clock.now_ns()))


def _until_next_s(poller: Poller, plan: PollPlan) -> float:
    """A period; or, of a plan that follows bars, until the next bar was closed and had time to be published."""
    if plan.after_s is None:
        return plan.every_s
    now_s = poller.clock.now_ns() / 1e9
    next_s = ((now_s - plan.after_s) // plan.every_s + 1.0) * plan.every_s + plan.after_s
    return next_s - now_s + poller.draw() * _BAR_JITTER * plan.every_s


def _failed(poller: Poller, item: _Due, reason: str, gap: GapReason, delay_s: float) -> None:
    """Say so (the same failure at the 1st, 2nd, 4th … time) and try again later."""
    item.due_ns = poller.clock.monotonic_ns() + int(max(delay_s, 0.0) * 1e9)
    item.failures = item.failures + 1 if reason == item.failure else 1
    item.failure = reason
    if item.failures & (item.failures - 1) == 0:
        log.warning(
            "poll",
            extra=fields(
                venue=poller.venue.name.lower(),
                poll=item.plan.name,
                state="refused" if gap is GapReason.REFUSED else "backoff",
                reason=reason,
                delay_s=f"{delay_s:.3f}",
                times=item.failures,
            ),
        )
    plan = item.plan if item.once else None
    poller.handoff.announce(PollFailed(source_of(item.plan), poller.clock.now_ns(), reason, gap, delay_s, plan))


def _take_plans(poller: Poller, due: _Dues) -> None:
    """Follow the newest wish; new polls begin spread over a second, so that they do not all come at once."""
    wanted: tuple[PollPlan, ...] | None = None
    while not poller.wanted.empty():
        wanted = poller.wanted.get_nowait()
    if wanted is None:
        return
    names = {plan.name for plan in wanted}
    for name in [name for name, item in due.items() if not item.once and name not in names]:
        del due[name]
    now_ns = poller.clock.monotonic_ns()
    settings = poller.settings
    for plan in wanted:
        if plan.name in due:
            due[plan.name].plan = plan
            continue
        ceiling_s = max(settings.backoff_ceiling_s, _RARE_BACKOFF * plan.every_s)
        backoff = Backoff(settings.backoff_first_s, ceiling_s, poller.draw)
        due[plan.name] = _Due(plan, backoff, now_ns + int(poller.draw() * 1e9 * min(1.0, plan.every_s)))


def _take_asked(poller: Poller, due: _Dues) -> None:
    """What is to be asked once."""
    settings = poller.settings
    while not poller.asked.empty():
        plan = poller.asked.get_nowait()
        if plan.url not in due:
            backoff = Backoff(settings.backoff_first_s, settings.backoff_ceiling_s, poller.draw)
            due[plan.url] = _Due(plan, backoff, poller.clock.monotonic_ns(), once=True)

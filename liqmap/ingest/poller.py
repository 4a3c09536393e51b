"""REST polls of one venue: one thread, one session, the venue's budgets, one queue of what is due.

A reply with status 200 is handed over as bytes; everything else writes nothing: a failed poll is an absence, never a
zero. A refusal that concerns the IP (too fast, banned, region) stops every poll of the venue; a fault of one request
delays that one only. Proxies and credentials of the environment are not used, redirects are not followed.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests

from liqmap.clock import Clock
from liqmap.config import IngestConfig
from liqmap.domain.enums import GapReason, Venue
from liqmap.exchanges.adapter import Adapter, Budget, PollPlan, Refusal, RefusalKind
from liqmap.ingest.backoff import Backoff
from liqmap.ingest.freeze import VenueFreeze
from liqmap.ingest.handoff import Changed, Handoff, LinkState, Polled, PollFailed
from liqmap.logs import fields

_MAX_REPLY_BYTES: Final = 32 * 1024 * 1024
_TURN_S: Final = 0.25
_SHARE_OF_BUDGET: Final = 0.5
"""Stay well below what the venue allows: other programs of the same IP spend from it too."""

_WHOLE_VENUE: Final = frozenset({RefusalKind.RATE_LIMITED, RefusalKind.BANNED, RefusalKind.REGION})

log = logging.getLogger(__name__)


class FetchError(Exception):
    """No reply; the text is fit for an operator."""


class Reply(NamedTuple):
    """An HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetcher(Protocol):
    """Fetches over a session of its own."""

    def get(self, url: str) -> Reply:
        """Raises FetchError."""

    def close(self) -> None:
        """Close the session's sockets."""


class RequestsFetcher:
    """By requests. `timeout_s` holds for connecting and for every read; replies have a largest size."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, url: str) -> Reply:
        """Raises FetchError."""
        try:
            with self._session.get(url, timeout=self._timeout_s, allow_redirects=False, stream=True) as response:
                headers = {key.lower(): value for key, value in response.headers.items()}
                return Reply(response.status_code, headers, _bounded_body(response))
        except requests.RequestException as error:
            raise FetchError(_words(url, error)) from error

    def close(self) -> None:
        """Close the session's sockets."""
        self._session.close()


def _bounded_body(response: requests.Response) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_content(65536):
        size += len(piece)
        if size > _MAX_REPLY_BYTES:
            raise FetchError(f"reply of more than {_MAX_REPLY_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _words(url: str, error: requests.RequestException) -> str:
    host = urlsplit(url).hostname
    text = str(error)
    for sign, words in (
        ("NameResolutionError", "cannot resolve"),
        ("ConnectTimeout", "timed out connecting to"),
        ("timed out", "timed out reading from"),
        ("Connection refused", "connection refused by"),
        ("SSL", "no trusted TLS with"),
    ):
        if sign in text or sign in type(error).__name__:
            return f"{words} {host}"
    return f"no reply from {host}: {type(error).__name__}"


class Spending:
    """One budget in a sliding window: `limit` units in any `per_s` seconds, of which we take a share."""

    def __init__(self, budget: Budget) -> None:
        self._limit = budget.limit * _SHARE_OF_BUDGET
        self._per_ns = int(budget.per_s * 1e9)
        self._spent: deque[tuple[int, int]] = deque()
        self._sum = 0

    def wait_s(self, now_ns: int, weight: int) -> float:
        """Seconds until `weight` may be spent; 0: now."""
        while self._spent and now_ns - self._spent[0][0] >= self._per_ns:
            self._sum -= self._spent.popleft()[1]
        if not self._spent or self._sum + weight <= self._limit:
            return 0.0
        over = self._sum + weight - self._limit
        for at_ns, spent in self._spent:
            over -= spent
            if over <= 0:
                return max(0.0, (at_ns + self._per_ns - now_ns) / 1e9)
        return self._per_ns / 1e9

    def spend(self, now_ns: int, weight: int) -> None:
        """Charge it."""
        self._spent.append((now_ns, weight))
        self._sum += weight


def source_of(plan: PollPlan) -> str:
    """The name of a poll in messages, logs and the feeds board."""
    return f"{plan.venue.name.lower()}/{plan.name}"


@dataclass(slots=True)
class _Due:
    """One poll and when it is next due."""

    plan: PollPlan
    backoff: Backoff
    due_ns: int
    failure: str = ""
    failures: int = 0


@dataclass(slots=True)
class Poller:
    """What the polls of one venue are given. `replan` may be called by another thread; the rest is its own."""

    venue: Venue
    adapter: Adapter
    settings: IngestConfig
    clock: Clock
    fetcher: Fetcher
    handoff: Handoff
    freeze: VenueFreeze
    draw: Callable[[], float]
    stop: threading.Event
    wanted: "queue.SimpleQueue[tuple[PollPlan, ...]]" = field(default_factory=queue.SimpleQueue)

    def replan(self, plans: tuple[PollPlan, ...]) -> None:
        """Poll exactly these from the next turn on; what was polled before keeps its rhythm."""
        self.wanted.put(plans)


def poll_forever(poller: Poller) -> None:
    """The thread of one venue: until asked to stop. Never raises for what the world does."""
    due: dict[str, _Due] = {}
    budgets = {budget.name: Spending(budget) for budget in poller.adapter.budgets}
    try:
        while not poller.stop.is_set():
            _take_plans(poller, due)
            poller.clock.wait(poller.stop, turn(poller, due, budgets))
    finally:
        poller.fetcher.close()


def turn(poller: Poller, due: dict[str, _Due], budgets: dict[str, Spending]) -> float:
    """Do the poll that is most overdue, if any; returns how long to wait before the next turn, at most _TURN_S."""
    now_ns = poller.clock.monotonic_ns()
    if not due:
        return _TURN_S
    item = min(due.values(), key=lambda candidate: candidate.due_ns)
    if item.due_ns > now_ns:
        return min(_TURN_S, (item.due_ns - now_ns) / 1e9)
    frozen_s, _ = poller.freeze.left(now_ns)
    budget = budgets.get(item.plan.budget)
    wait_s = max(frozen_s, budget.wait_s(now_ns, item.plan.weight) if budget else 0.0)
    if wait_s > 0:
        item.due_ns = now_ns + int(wait_s * 1e9)
        return 0.0
    if budget is not None:
        budget.spend(now_ns, item.plan.weight)
    _poll(poller, item, due)
    return 0.0


def _poll(poller: Poller, item: _Due, due: dict[str, _Due]) -> None:
    try:
        reply = poller.fetcher.get(item.plan.url)
    except FetchError as error:
        _failed(poller, item, str(error), GapReason.NOT_CONNECTED, item.backoff.next_s())
        return
    receive_ns = poller.clock.now_ns()
    kind = reply.headers.get("content-type", "")
    refusal = poller.adapter.classify_refusal(reply.status, kind, reply.headers, reply.body)
    if refusal is None:
        _succeeded(poller, item)
        poller.handoff.announce(Polled(source_of(item.plan), receive_ns, reply.body))
        return
    _refused(poller, item, due, refusal)


def _refused(poller: Poller, item: _Due, due: dict[str, _Due], refusal: Refusal) -> None:
    delay_s = item.backoff.next_s(refusal)
    concerns_all = refusal.kind in _WHOLE_VENUE
    _failed(poller, item, refusal.text, GapReason.REFUSED if concerns_all else GapReason.NOT_CONNECTED, delay_s)
    if not concerns_all:
        return
    for other in due.values():
        other.due_ns = max(other.due_ns, item.due_ns)
    if refusal.kind is RefusalKind.REGION:
        poller.freeze.freeze(poller.clock.monotonic_ns(), delay_s, refusal.text)


def _succeeded(poller: Poller, item: _Due) -> None:
    item.backoff.reset()
    item.due_ns = poller.clock.monotonic_ns() + int(item.plan.every_s * 1e9)
    if item.failure:
        log.info("poll", extra=fields(venue=poller.venue.name.lower(), poll=item.plan.name, state="up"))
        item.failure, item.failures = "", 0
        poller.handoff.announce(Changed(source_of(item.plan), LinkState.UP, poller.clock.now_ns()))


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
    poller.handoff.announce(PollFailed(source_of(item.plan), poller.clock.now_ns(), reason, gap, delay_s))


def _take_plans(poller: Poller, due: dict[str, _Due]) -> None:
    """Follow the newest wish; new polls begin spread over a second, so that they do not all come at once."""
    wanted: tuple[PollPlan, ...] | None = None
    while not poller.wanted.empty():
        wanted = poller.wanted.get_nowait()
    if wanted is None:
        return
    names = {plan.name for plan in wanted}
    for name in [name for name in due if name not in names]:
        del due[name]
    now_ns = poller.clock.monotonic_ns()
    settings = poller.settings
    for plan in wanted:
        if plan.name in due:
            due[plan.name].plan = plan
            continue
        backoff = Backoff(settings.backoff_first_s, settings.backoff_ceiling_s, poller.draw)
        due[plan.name] = _Due(plan, backoff, now_ns + int(poller.draw() * 1e9 * min(1.0, plan.every_s)))

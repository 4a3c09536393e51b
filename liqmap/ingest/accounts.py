"""What a venue allows this address, kept in one account per venue: request budgets, new connections, bans.

Everything of a venue that asks by REST spends from the same budgets, however many polls and one-shot requests there
are, and every link takes its connections from the same allowance, so that links which died together come back one
after another. What the venue itself says is used (`X-MBX-USED-WEIGHT-1M` and the like) counts, too: other programs
behind the same address spend from it.

Three things hold an account back, each until its time:

* `requests`: too fast, or banned. No REST request of the venue; websockets live on and may be opened.
* `connects`: a handshake was refused for being too fast. No new connection; those that stand live on.
* `region`: the venue does not serve this country. Neither; when the time is over one asks for all.

Times are monotonic ns unless a name says wall. Links and polls of one venue share an account, so it has a lock: held
for a few sums, never while anything waits, computes or is written (decision 0014).
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from liqmap.exchanges.adapter import Adapter, Refusal, RefusalKind, Usage
from liqmap.ingest.spending import Spending

REQUEST_SHARE: Final = 0.5
"""Of a request budget, what liqmap itself spends at most."""
TOGETHER_SHARE: Final = 0.8
"""Of a request budget, how far liqmap goes when the venue says that others spend, too."""
CONNECT_SHARE: Final = 0.7
"""Of the new connections."""

REGION_PROBE_S: Final = 60.0
"""After a region freeze one asks; the others wait this long for what it learns."""

_ANOTHERS_PROBE_S: Final = 1.0
"""How long who may not ask for all waits before it looks again."""

LONGEST_S: Final = 3 * 86_400.0
"""The longest ban any venue documents. What a file says beyond it was written by another clock, what an answer says
beyond it is a mistake."""


class Hold(Enum):
    """What is held back."""

    REQUESTS = "requests"
    CONNECTS = "connects"
    REGION = "region"


@dataclass(frozen=True, slots=True)
class Held:
    """Until when, and the venue's words. `handshake`: a handshake was refused, else a request."""

    until_ns: int = 0
    reason: str = ""
    handshake: bool = False


class _Reported:
    """A request budget, and what the venue said of it."""

    def __init__(self, spending: Spending, per_s: float) -> None:
        self.spending = spending
        self._per_ns = int(per_s * 1e9)
        self._told: int | None = None
        self._told_ns = 0
        self._since = 0
        self.until_ns = 0

    def told(self, now_ns: int, used: int) -> None:
        self._told, self._told_ns, self._since = used, now_ns, 0

    def wait_s(self, now_ns: int, weight: int) -> float:
        wait_ns = max(self.spending.wait_s(now_ns, weight) * 1e9, self.until_ns - now_ns, 0.0)
        if self._count(now_ns) + weight > TOGETHER_SHARE * self.spending.limit and self._told:
            wait_ns = max(wait_ns, self._told_ns + self._per_ns - now_ns)
        return wait_ns / 1e9

    def spend(self, now_ns: int, weight: int) -> None:
        self.spending.spend(now_ns, weight)
        self._since += weight

    def used(self, now_ns: int) -> float:
        return max(self.spending.spent(now_ns), self._count(now_ns)) / self.spending.limit

    def _count(self, now_ns: int) -> int:
        """What the venue has counted in its running window, as far as it is known: 0 when its word is too old."""
        if self._told is not None and now_ns - self._told_ns >= self._per_ns:
            self._told = None
        return 0 if self._told is None else self._told + self._since


class VenueAccount:
    """The account of one venue. Every method may be called by any thread."""

    def __init__(self, adapter: Adapter) -> None:
        self._usage = adapter.usage
        self._lock = threading.Lock()
        self._budgets = {
            budget.name: _Reported(Spending(budget, REQUEST_SHARE), budget.per_s) for budget in adapter.budgets
        }
        connects = adapter.limits.connects
        self._connects = None if connects is None else Spending(connects, CONNECT_SHARE)
        self._held = dict.fromkeys(Hold, Held())

    # Asking -------------------------------------------------------------------------------------------------------

    def ask(self, budget: str, weight: int, now_ns: int) -> float:
        """Take `weight` from a budget for a request that leaves now. Seconds to wait before asking again; 0: taken."""
        with self._lock:
            known = self._budgets.get(budget)
            wait_s = 0.0 if known is None else known.wait_s(now_ns, weight)
            if known is not None and wait_s <= 0:
                known.spend(now_ns, weight)
        return wait_s

    def connect(self, now_ns: int) -> tuple[float, str]:
        """Take one new connection. Seconds to wait before asking again, and why if the venue refused us; (0, ""):
        taken."""
        with self._lock:
            pace_s = 0.0 if self._connects is None else self._connects.wait_s(now_ns)
            if pace_s > 0:
                return pace_s, ""
            left_s, why = _left(self._held[Hold.CONNECTS], now_ns) or self._region_left(now_ns, True)
            if left_s <= 0 and self._connects is not None:
                self._connects.spend(now_ns)
        return left_s, why

    def heard(self, headers: Mapping[str, str], now_ns: int, wall_ns: int) -> None:
        """The venue answered a request: what it says of our budget. `headers` have lower-case names."""
        usage = self._usage(headers)
        if usage is None:
            return
        with self._lock:
            known = self._budgets.get(usage.budget)
            if known is not None:
                _take_word(known, usage, now_ns, wall_ns)

    def used(self, now_ns: int) -> float:
        """The share of the tightest request budget that is spent now, of the venue's own limit."""
        with self._lock:
            return max((budget.used(now_ns) for budget in self._budgets.values()), default=0.0)

    # Being refused ------------------------------------------------------------------------------------------------

    def hold(self, what: Hold, now_ns: int, seconds: float, reason: str, *, handshake: bool = False) -> None:
        """Hold back for that long; a shorter time never cuts a longer one."""
        held = Held(now_ns + int(seconds * 1e9), reason, handshake)
        with self._lock:
            if held.until_ns > self._held[what].until_ns:
                self._held[what] = held

    def refused(self, refusal: Refusal, now_ns: int, seconds: float, *, handshake: bool) -> bool:
        """A request (or a handshake) was refused, to be tried again in that time. True when it concerns the venue."""
        if refusal.kind is RefusalKind.REGION:
            self.hold(Hold.REGION, now_ns, seconds, refusal.text, handshake=handshake)
        elif refusal.kind in (RefusalKind.RATE_LIMITED, RefusalKind.BANNED):
            self.hold(Hold.CONNECTS if handshake else Hold.REQUESTS, now_ns, seconds, refusal.text)
        else:
            return False
        return True

    def served(self, *, handshake: bool) -> None:
        """A request (or a handshake) was answered as it should be: a country refusal of such is over. The other kind is
        another door: a venue may serve websockets to a country and refuse it requests."""
        with self._lock:
            if self._held[Hold.REGION].handshake == handshake:
                self._held[Hold.REGION] = Held()

    def requests_held(self, now_ns: int) -> tuple[float, str]:
        """Seconds for which no REST request may leave, and why; (0, "") when one may."""
        with self._lock:
            return _left(self._held[Hold.REQUESTS], now_ns) or self._region_left(now_ns, False)

    def _region_left(self, now_ns: int, handshake: bool) -> tuple[float, str]:
        """Seconds for which this venue may not be asked at all, and why; (0, "") for one who may ask now.

        When a freeze is over, the first of the kind that was refused asks for all; if nothing is heard of it, the next
        one does. The lock is held.
        """
        held = self._held[Hold.REGION]
        if not 0 < held.until_ns <= now_ns:
            return _left(held, now_ns) or (0.0, "")
        probe_ns = int(REGION_PROBE_S * 1e9)
        if held.handshake != handshake and now_ns < held.until_ns + probe_ns:
            return _ANOTHERS_PROBE_S, held.reason  # unless nobody of that kind asks at all
        self._held[Hold.REGION] = replace(held, until_ns=now_ns + probe_ns)
        return 0.0, ""

    # Across a restart ---------------------------------------------------------------------------------------------

    def holds(self, now_ns: int) -> dict[str, Held]:
        """What is held back now, by the name of what."""
        with self._lock:
            return {what.value: held for what, held in self._held.items() if held.until_ns > now_ns}

    def recall(self, holds: Iterable[tuple[str, float, str]], now_ns: int) -> None:
        """What an ingest before us was told: (what, seconds left, reason). Unknown names are passed over."""
        known = {what.value: what for what in Hold}
        for name, seconds, reason in holds:
            if name in known and seconds > 0:
                self.hold(known[name], now_ns, min(seconds, LONGEST_S), reason)


def _left(held: Held, now_ns: int) -> tuple[float, str] | None:
    left_s = (held.until_ns - now_ns) / 1e9
    return (left_s, held.reason) if left_s > 0 else None


_LONGEST_WORD_NS: Final = 60 * 10**9
"""A venue that says "nothing before" names a moment of its own clock, which may be off: believed for this long."""


def _take_word(known: _Reported, usage: Usage, now_ns: int, wall_ns: int) -> None:
    if usage.used is not None:
        known.told(now_ns, usage.used)
    if usage.until_ms is not None:
        known.until_ns = now_ns + min(max(0, usage.until_ms * 1_000_000 - wall_ns), _LONGEST_WORD_NS)

"""What is done about a feed that stays silent on a connection that stands: the link is given another connection.

A venue that lost our subscription, refused one of many, or forgot it later says nothing more of it; no reconnect comes,
since everything else on the connection speaks. The silence is named at once (`feeds`), a refusal is a complaint of the
venue (of a quiet stream it is all that tells). When it lasts, the connection is rotated: the next one asks for
everything anew, and nothing else of the link is missed meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from liqmap.ingest.feeds import Feeds
from liqmap.ingest.handoff import LinkState

_LASTING_NS: Final = 60 * 10**9
"""It lasts for so long before anything is done about it."""
_AGAIN_NS: Final = 600 * 10**9
_MOST_NS: Final = 3600 * 10**9
"""What did not help is tried again after this, then after twice as long, up to that. What is so for another
reason (a contract that is gone) costs its venue a connection an hour."""


@dataclass(slots=True)
class _Case:
    """A link on which something is wrong, or was lately. Times are engine ns."""

    since_ns: int
    next_ns: int
    wait_ns: int


class Remedy:
    """Owned by the router."""

    def __init__(self) -> None:
        self._cases: dict[str, _Case] = {}

    def look(self, feeds: Feeds, now_ns: int) -> Iterator[tuple[str, str]]:
        """The links that are to be given another connection now, each with the reason in words."""
        for source, state in feeds.sources.items():
            silent = (
                f"{feed.topic.name.lower()} {feed.symbol} is silent" for feed in state.feeds if feeds.is_silent(feed)
            )
            why = next(silent, state.complaint)
            case = self._cases.get(source)
            if not state.is_link or not why or state.state is not LinkState.UP:
                if case is not None:
                    self._is_well(source, case, now_ns)
            elif case is None:
                self._cases[source] = _Case(now_ns, now_ns + _LASTING_NS, _AGAIN_NS)
            elif now_ns - case.since_ns >= _LASTING_NS and now_ns >= case.next_ns:
                case.next_ns, case.wait_ns = now_ns + case.wait_ns, min(2 * case.wait_ns, _MOST_NS)
                yield source, why

    def _is_well(self, source: str, case: _Case, now_ns: int) -> None:
        """Nothing is wrong: the next time it has to last anew; what was tried lately is remembered."""
        case.since_ns = now_ns
        if now_ns >= case.next_ns + _MOST_NS:
            del self._cases[source]

"""Who speaks now, and so can tell that somebody else should: the question behind silence. Pure.

A market may rest: a contract that does not trade yet, a stock perpetual on Sunday. A topic that says nothing is only
called silent when there is a witness that the market is awake:

* the same topic of the same symbol speaks at another venue; or
* another topic of the same symbol speaks at the same venue on a websocket. A poll is no witness (a venue answers for a
  market that rests, too), and for trades and the order book only the other of the two is one: marks are published for
  markets that rest.

The list of contracts and the clock are of no symbol: whoever speaks at the venue, or the same at another one, tells.
"""

from collections.abc import Iterable
from typing import Final

from liqmap.domain.enums import Topic, Venue
from liqmap.ingest.gaps import Feed

_PUSHED_AT_REST: Final = frozenset({Topic.MARK_PRICE, Topic.OPEN_INTEREST, Topic.FUNDING, Topic.RATIO})
"""What venues publish by the clock, whether the market is awake or not."""


_OF_AN_OPEN_MARKET: Final = frozenset({Topic.TRADE, Topic.DEPTH})


class Witnesses:
    """The feeds that spoke lately, and whether they come by a websocket."""

    def __init__(self, speaking: Iterable[tuple[Feed, bool]]) -> None:
        self._venues: dict[tuple[Topic, str], set[Venue]] = {}
        self._siblings: dict[tuple[Venue, str], set[Topic]] = {}
        for feed, by_websocket in speaking:
            self._venues.setdefault((feed.topic, feed.symbol), set()).add(feed.venue)
            if by_websocket:
                for symbol in (feed.symbol, ""):
                    self._siblings.setdefault((feed.venue, symbol), set()).add(feed.topic)

    def trades(self, feed: Feed) -> bool:
        """Whether its contract is traded at its venue: then its book changes, too."""
        return Topic.TRADE in self._siblings.get((feed.venue, feed.symbol), set())

    def expect(self, feed: Feed) -> bool:
        """Whether somebody who speaks shows that this feed should."""
        if self._venues.get((feed.topic, feed.symbol), set()) - {feed.venue}:
            return True
        siblings = self._siblings.get((feed.venue, feed.symbol), set()) - {feed.topic}
        return bool(siblings - _PUSHED_AT_REST if feed.topic in _OF_AN_OPEN_MARKET else siblings)

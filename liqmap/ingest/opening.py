"""Opens the way of a symbol's events into its ring and journal, and knows which symbols begin with nothing."""

from liqmap.domain.enums import Source
from liqmap.ingest.before import last_written_ns
from liqmap.ingest.keeping import Keeping
from liqmap.ingest.lanes import Lane
from liqmap.ingest.ring_reader import WatchedRing
from liqmap.ingest.router import Router
from liqmap.ingest.sequence import first_sequence
from liqmap.shm.layout import segment_name


class Opening:
    """Owned by the router's thread."""

    def __init__(self, instance: str, epoch: int, source: Source, router: Router, keeping: Keeping) -> None:
        self._instance = instance
        self._epoch = epoch
        self._replay = source is Source.REPLAY
        self._router = router
        self._keeping = keeping
        self._numbered: dict[str, Lane] = {}
        self._cold: set[str] = set()
        self.rings: dict[str, WatchedRing] = {}
        """By symbol, the newest."""

    def lane(self, symbol: str) -> Lane:
        """Open the way of a symbol. Raises SegmentMissing, LayoutMismatch."""
        name = segment_name(self._instance, "ring", symbol)
        ring = self.rings[symbol] = WatchedRing(name)
        known = self._numbered.get(symbol)
        if not self._replay:
            if known is None and ring.written == 0 and not self._keeping.knows(symbol):
                self._cold.add(symbol)
            # An ingest before us may have been ahead of a wall clock that was set back since. Workers do not go back.
            self._router.time.at(last_written_ns(name))
        # A symbol that was taken away and comes back goes on counting: no number is given twice.
        first = first_sequence(self._epoch) if known is None else known.next_sequence
        lane = self._numbered[symbol] = Lane(symbol, ring, first, self._keeping.journal(symbol))
        return lane

    def cold(self) -> dict[str, Lane]:
        """The lanes opened since the last call whose symbol nobody has ever told anything of: nothing is in its ring,
        nothing of it on disk. Never those of a replay."""
        lanes = self._router.lanes
        found = {symbol: lanes[symbol] for symbol in lanes if symbol in self._cold}
        self._cold.clear()
        return found

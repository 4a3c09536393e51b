"""What ingest keeps on disk beside the rings: the journal of every event, and, when asked for, the capture of frames.

Live and simulated markets are journalled and captured. A replay is not: what it plays is on disk already, and a
journal of it, stamped with its times, would lie among those of the days when they were lived.
"""

import logging
import random
from pathlib import Path
from typing import Final

from liqmap import __version__
from liqmap.clock import Clock
from liqmap.config import Config
from liqmap.domain.enums import GapReason, Source
from liqmap.domain.instrument import InstrumentTable
from liqmap.ingest.capturing import Capturing
from liqmap.ingest.router import Router
from liqmap.logs import fields
from liqmap.store.capture_writer import CaptureWriter
from liqmap.store.journal import Journals, SymbolJournal

_MS: Final = 1_000_000

log = logging.getLogger(__name__)


class Keeping:
    """Owned by the router's thread. `directory`: where journals and captures are, or are to be."""

    def __init__(self, config: Config, directory: Path, source: Source, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._seed = random.getrandbits(32)
        self.desk_draw = random.Random(self._seed).random
        """Uniform numbers for what the router decides; a capture tells their seed."""
        self._journals: Journals | None = None
        self._capture: CaptureWriter | None = None
        self._capturing: Capturing | None = None
        if config.capture.enabled and source is not Source.REPLAY:
            about = {"liqmap": __version__, "instance": config.daemon.instance, "source": source.name.lower()}
            self._capture = CaptureWriter(directory / "capture", config.capture, about)
            self._capturing = router.frame_log = Capturing(self._capture, router)
            self.configured(config)
        if config.journal.enabled and source is not Source.REPLAY:
            self._journals = Journals(directory / "journal", config.journal, config.daemon.instance, source)
            self._tell_what_was_missed(self._journals)

    def journal(self, symbol: str) -> SymbolJournal | None:
        """What keeps the events of a symbol; None when no journal is wanted."""
        if self._journals is None:
            return None
        journal = self._journals.of(symbol)
        if journal.last_ns >= 0:  # it was taken away while we ran, and comes back
            self._router.feeds.kept_until[symbol] = (journal.last_ns, GapReason.STOPPED)
        return journal

    def knows(self, symbol: str) -> bool:
        """Whether a journal holds events of the symbol, of this process or of one before it."""
        journals = self._journals
        return journals is not None and (symbol in journals.ends or journals.of(symbol).last_ns >= 0)

    def use(self, instruments: InstrumentTable) -> None:
        """The numbers of contracts change: what was numbered by the old ones is written before."""
        if self._journals is not None:
            for lane in self._router.lanes.values():
                lane.flush()
            self._journals.use(instruments)

    def configured(self, config: Config) -> None:
        """From now on this configuration holds; say so before it is applied."""
        if self._capturing is not None:
            self._capturing.configured(config, self._seed, self._router.time.now_ns, self._clock.monotonic_ns())

    def tell(self) -> None:
        """Let the feeds board know how it goes."""
        if self._journals is not None:
            self._router.feeds.journal = self._journals.standing()
        if self._capture is not None:
            self._router.feeds.capture = self._capture.standing()

    @property
    def fault(self) -> str:
        """Why the disk does not take what is to be kept, "" when it does."""
        said = [kept.fault for kept in (self._journals, self._capture) if kept is not None]
        return "; ".join(filter(None, said))

    def close(self) -> None:
        """End every file properly."""
        if self._journals is not None:
            self._journals.close()
        if self._capture is not None and self._capturing is not None:
            self._capturing.ended(self._router.time.now_ns)
            self._capture.close()
        self.tell()

    def _tell_what_was_missed(self, journals: Journals) -> None:
        """From where a journal ended until now nothing is known: a gap of every feed, and a line in the log."""
        now_ns = self._router.time.now_ns
        for symbol, end in journals.ends.items():
            for loss in end.losses:
                log.error("a part of the journal is lost", extra=fields(symbol=symbol, loss=loss))
            said = fields(symbol=symbol, from_ms=end.last_ns // _MS, lost_s=(now_ns - end.last_ns) / 1e9)
            if end.asked:
                log.info("nothing was recorded since ingest was stopped", extra=said)
            else:
                log.warning("nothing was recorded since ingest was killed", extra=said)
            reason = GapReason.STOPPED if end.asked else GapReason.NOT_RECORDED
            self._router.feeds.kept_until[symbol] = (end.last_ns, reason)

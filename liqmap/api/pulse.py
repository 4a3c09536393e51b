"""The master's pulse: heartbeats into the status board, and the size of the log, while gunicorn minds its workers."""

import contextlib
import logging
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from liqmap.api.tally import Tallies
from liqmap.child import Child

BEAT_S: Final = 0.5


class Pulse(threading.Thread):
    """Beats until `end`. Ready means: at least one worker answers."""

    def __init__(self, child: Child, tallies: Tallies) -> None:
        super().__init__(name="pulse", daemon=True)
        self._child, self._tallies = child, tallies
        self._ended = threading.Event()

    def run(self) -> None:
        """The thread."""
        while not self._ended.wait(BEAT_S):
            self.beat()
            rotate_if_due()

    def beat(self) -> None:
        """One beat."""
        tallies = self._tallies
        self._child.beat(ready=tallies.booted > 0, work=tallies.requests, errors=tallies.errors)

    def end(self) -> None:
        """Beat no more."""
        self._ended.set()


def rotate_if_due() -> None:
    """Rotate the log when the workers, who only append to it, have made it too large."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RotatingFileHandler) and handler.maxBytes and handler.stream:
            path = Path(handler.baseFilename)
            if path.exists() and path.stat().st_size >= handler.maxBytes:
                with handler.lock or threading.RLock(), contextlib.suppress(OSError):  # the next beat tries again
                    handler.doRollover()

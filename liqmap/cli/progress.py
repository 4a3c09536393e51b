"""A line on the terminal that says how far a long command is; nothing where nobody looks."""

import sys
import time
from typing import Final

_EVERY_S: Final = 0.25


class ProgressLine:
    """Rewrites one line of standard error, when that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._due_s = 0.0
        self._length = 0

    @property
    def is_due(self) -> bool:
        """Whether it is time to say something."""
        return self._shown and time.monotonic() >= self._due_s

    def say(self, text: str) -> None:
        """Put this in place of what was said before."""
        if self._shown:
            sys.stderr.write(f"\r{text:{self._length}}")
            sys.stderr.flush()
            self._length = len(text)
            self._due_s = time.monotonic() + _EVERY_S

    def end(self) -> None:
        """Leave the line as it stands."""
        if self._length:
            sys.stderr.write("\n")
            self._length = 0

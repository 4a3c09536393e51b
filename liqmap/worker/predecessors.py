"""What a worker is left by those that died before it, in two small files beside the checkpoint.

    BTC.attempts     how many recoveries in a row were begun and not brought to an end
    BTC.set_aside    first and last sequence of each batch that workers died of: no recovery takes it from the journal

A disk that does not take them is told, and stops nobody.
"""

import logging
from pathlib import Path
from typing import Final

from liqmap.logs import fields
from liqmap.store.atomic import write_atomic

REMEMBERED: Final = 256
"""Batches that are set aside and remembered; older ones lie far before any checkpoint."""

log = logging.getLogger(__name__)


class Attempts:
    """Counts recoveries that ended in death."""

    def __init__(self, directory: Path, symbol: str) -> None:
        self._path = directory / f"{symbol}.attempts"

    def begin(self) -> int:
        """A recovery begins; how many before it, without a success in between, did not end."""
        deaths = 0
        try:
            deaths = int(self._path.read_text(encoding="ascii"))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:
            log.warning("the count of recoveries cannot be read: it begins anew", extra=fields(reason=str(error)))
        _write(self._path, f"{deaths + 1}\n")
        return deaths

    def ended(self) -> None:
        """It ended well, or was asked to stop."""
        try:
            self._path.unlink(missing_ok=True)
        except NotADirectoryError:
            pass  # it was told when it could not be written
        except OSError:
            log.exception("the count of recoveries cannot be removed", extra=fields(file=self._path))


class SetAside:
    """The batches that killed workers, by sequence."""

    def __init__(self, directory: Path, symbol: str) -> None:
        self._path = directory / f"{symbol}.set_aside"
        self.ranges: list[tuple[int, int]] = []
        """(first, last) of each."""
        try:
            lines = self._path.read_text(encoding="ascii").splitlines()
            self.ranges = [(int(first), int(last)) for first, last in map(str.split, lines)]
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:
            log.error(  # noqa: TRY400
                "what was set aside cannot be read: it is tried again", extra=fields(file=self._path, reason=str(error))
            )

    def note(self, first: int, last: int) -> None:
        """Another one."""
        self.ranges = [*self.ranges, (first, last)][-REMEMBERED:]
        _write(self._path, "".join(f"{first} {last}\n" for first, last in self.ranges))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode("ascii"))
    except OSError:
        log.exception("a note for the next worker cannot be written", extra=fields(file=path))

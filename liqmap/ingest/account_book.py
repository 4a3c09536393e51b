"""The accounts of all venues, and the small file that keeps their bans across a restart.

An ingest that dies during a ban is started again within a second. It must not ask before the ban is over: every request
during it makes it longer. The file holds wall times, by venue and REST address: what a simulated venue said is nothing
to the real one. Only the router's thread writes it, and only when something changed.

A file that cannot be read is reported and forgotten; a disk that does not take it is reported once. Both cost at most
one request during a ban.
"""

import logging
from pathlib import Path
from typing import Final

import msgspec
import orjson

from liqmap.clock import Clock
from liqmap.config import Config
from liqmap.domain.enums import Venue
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.accounts import VenueAccount
from liqmap.logs import fields
from liqmap.store.atomic import write_atomic

_WORTH_S: Final = 5.0
"""A shorter wait is over before anybody is started again."""

_FILE_BYTES: Final = 65_536

_Kept = dict[str, dict[str, tuple[int, str]]]
"""By venue and address, by what is held: until when (wall ms), and the venue's words."""

_decode: Final = msgspec.json.Decoder(_Kept).decode

log = logging.getLogger(__name__)


class AccountBook:
    """One account per venue. `path` None: nothing is kept."""

    def __init__(self, config: Config, clock: Clock, path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._names = {
            venue: f"{venue.name.lower()} {getattr(config.venues, venue.name.lower()).rest}" for venue in ADAPTERS
        }
        self._accounts = {venue: VenueAccount(adapter) for venue, adapter in ADAPTERS.items()}
        self._kept: _Kept = {}
        self._failing = False
        if path is not None:
            self._recall(path)

    def __getitem__(self, venue: Venue) -> VenueAccount:
        """The account of a venue."""
        return self._accounts[venue]

    def save(self) -> None:
        """Write down what is held back, if that has changed. Never raises for a disk that does not take it."""
        if self._path is None:
            return
        wall_ms, now_ns = self._clock.now_ns() // 1_000_000, self._clock.monotonic_ns()
        ahead_ms = wall_ms - now_ns // 1_000_000
        kept = {
            self._names[venue]: holds
            for venue, account in self._accounts.items()
            if (holds := _as_kept(account, now_ns, ahead_ms))
        }
        if _same(kept, self._kept, wall_ms):
            return
        try:
            write_atomic(self._path, orjson.dumps(kept))
        except OSError as error:
            if not self._failing:
                log.exception("bans cannot be kept", extra=fields(file=str(self._path), reason=str(error)))
            self._failing = True
            return
        self._kept, self._failing = kept, False

    def _recall(self, path: Path) -> None:
        now_ns, wall_ms = self._clock.monotonic_ns(), self._clock.now_ns() // 1_000_000
        try:
            kept = _read(path)
        except (OSError, msgspec.MsgspecError) as error:
            log.error("kept bans cannot be read", extra=fields(file=str(path), reason=str(error)))  # noqa: TRY400
            return
        for venue, account in self._accounts.items():
            holds = kept.get(self._names[venue], {})
            told = [(what, (until_ms - wall_ms) / 1000, reason) for what, (until_ms, reason) in holds.items()]
            account.recall(told, now_ns)
            for what, seconds, reason in told:
                if seconds > 0:
                    log.warning(
                        "still held back",
                        extra=fields(venue=venue.name.lower(), what=what, left_s=f"{seconds:.0f}", reason=reason),
                    )
        self._kept = kept


def _as_kept(account: VenueAccount, now_ns: int, ahead_ms: int) -> dict[str, tuple[int, str]]:
    return {
        what: (held.until_ns // 1_000_000 + ahead_ms, held.reason)
        for what, held in account.holds(now_ns).items()
        if held.until_ns - now_ns > _WORTH_S * 1e9
    }


def _same(new: _Kept, old: _Kept, wall_ms: int) -> bool:
    """Whether the file says this already, but for what is over, and for milliseconds between two clocks."""

    def lasting(kept: _Kept) -> dict[tuple[str, str], int]:
        return {
            (name, what): until_ms
            for name, holds in kept.items()
            for what, (until_ms, _) in holds.items()
            if until_ms > wall_ms + _WORTH_S * 1000
        }

    now, before = lasting(new), lasting(old)
    return now.keys() == before.keys() and all(abs(now[key] - before[key]) < 1000 for key in now)


def _read(path: Path) -> _Kept:
    """Raises OSError, MsgspecError."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        return _decode(file.read(_FILE_BYTES))

"""The ingest process in a replay of tables: opens the tables and the rings, plays, and goes on serving at the end."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from liqmap.child import Child
from liqmap.config import ConfigError, RunMode
from liqmap.ingest.before import last_written_ns
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.feeds_board import painter
from liqmap.ingest.ring_reader import WatchedRing
from liqmap.ingest.sequence import first_sequence
from liqmap.ingest.table_player import TablePlayer, Track
from liqmap.ingest.table_tape import TableTape
from liqmap.logs import fields
from liqmap.shm.board import BoardWriter
from liqmap.shm.layout import FEEDS, segment_name
from liqmap.store.atomic import write_atomic
from liqmap.store.tables import TableError, tables_of

_TURN_S: Final = 0.05
_PUBLISH_NS: Final = 250_000_000
_MS: Final = 1_000_000

log = logging.getLogger(__name__)


def play_tables(child: Child, epoch: int) -> None:
    """Play `child.mode.tables` until asked to stop. Raises ConfigError when there is nothing to play."""
    feeds = Feeds(child.config.ingest.silent_after_s)
    board = BoardWriter.open(segment_name(child.config.daemon.instance, "feeds"), FEEDS)
    tracks = _tracks(child, epoch)
    player = TablePlayer(tracks, feeds, child.clock, child.mode.to_ms)
    published_ns = 0
    while not child.should_stop():
        player.turn()
        now_ns = child.clock.monotonic_ns()
        if now_ns - published_ns >= _PUBLISH_NS:
            published_ns = now_ns
            board.publish(painter(feeds, max(player.engine_ns, 0)))
            child.beat(
                ready=True,
                engine_ns=player.engine_ns,
                sequence=max(track.next_sequence for track in tracks) - 1,
                lag_events=0,
                errors=sum(track.said_faults for track in tracks),
                work=player.written,
            )
        if child.reload.is_set():
            child.reload.clear()
            log.warning("a replay of tables keeps the symbols it began with")
        child.clock.wait(child.stop, _TURN_S)


def _tracks(child: Child, epoch: int) -> list[Track]:
    mode, config = child.mode, child.config
    directory = Path(mode.tables or ".")
    from_ms = mode.from_ms if mode.from_ms is not None else mode.engine_origin_ns // _MS
    goes_on = _goes_on(child.paths.lib_dir / "ingest.replay", mode)
    tracks = []
    for symbol in config.enabled_symbols:
        child.beat()
        name = segment_name(config.daemon.instance, "ring", symbol)
        skip_ns = last_written_ns(name) if goes_on else -1
        try:
            tape = TableTape(tables_of(directory, symbol), max(from_ms, skip_ns // _MS), config.ingest.tick_ms)
        except (TableError, OSError) as error:
            raise ConfigError(f"replay: {error}") from error
        tracks.append(Track(tape, WatchedRing(name), first_sequence(epoch), skip_ns))
    if not any(track.tape.end_ms > from_ms for track in tracks):
        raise ConfigError(f"replay: {directory}: no bars of {', '.join(config.enabled_symbols)} after {from_ms} ms")
    log.info("playing tables", extra=fields(directory=str(directory), from_ms=from_ms, speed=mode.speed))
    return tracks


def _goes_on(path: Path, mode: RunMode) -> bool:
    """True when an ingest of this very replay died before us; leaves word for the next one."""
    told = msgspec.json.encode(mode)
    same = path.exists() and path.read_bytes() == told
    if not same:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, told)
    return same

"""The ingest process: listens to the venues, or plays tables, and writes the rings and the feeds board.

    python -m liqmap.ingest --effective var/run/main/effective.json

The main thread is the router's thread. Threads beside it only listen (see `link`, `poller`) and hand over. It lives
without a network: every feed's reason stands on the board, and the links keep trying.
"""

import argparse
import logging
import random
from pathlib import Path
from typing import Final

from liqmap.child import Child, open_child
from liqmap.config import EXIT_TRY_AGAIN, ConfigError, RunMode
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Source
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.before import last_written_ns, liquidations_said
from liqmap.ingest.feeds import Feeds
from liqmap.ingest.feeds_board import painter
from liqmap.ingest.fetcher import RequestsFetcher
from liqmap.ingest.handoff import Handoff
from liqmap.ingest.keeping import Keeping
from liqmap.ingest.lanes import Lane
from liqmap.ingest.margins import Margins
from liqmap.ingest.router import Router
from liqmap.ingest.sequence import EpochUnreadable, EpochUnwritable, first_sequence, next_epoch
from liqmap.ingest.switchboard import Surroundings, Switchboard
from liqmap.ingest.table_main import play_tables
from liqmap.ingest.transport import WebsocketConnector
from liqmap.logs import fields
from liqmap.shm.board import BoardWriter
from liqmap.shm.layout import FEEDS, depth_dtype, segment_name
from liqmap.shm.ring import RingWriter
from liqmap.store.journal_reader import newest_epoch
from liqmap.store.quarantine import Quarantine

_STOP_S: Final = 3.0
_ARRIVAL_S: Final = 1.0
_LONGEST_TURN_S: Final = 0.25

log = logging.getLogger(__name__)


def main() -> None:
    """Entry point. Exit codes as `open_child`: 78 configuration, 75 something outside stands in the way."""
    parser = argparse.ArgumentParser(prog="python -m liqmap.ingest", description="listens to the venues")
    parser.add_argument("--effective", type=Path, required=True, help="what the supervisor wrote: effective.json")
    path = parser.parse_args().effective
    with open_child("ingest", path) as child:
        try:
            lib_dir = child.paths.lib_dir
            epoch = next_epoch(lib_dir / "ingest.epoch", newest_epoch(lib_dir / "journal"))
        except EpochUnreadable as error:
            raise ConfigError(str(error)) from error
        except EpochUnwritable as error:
            log.critical(str(error))
            raise SystemExit(EXIT_TRY_AGAIN) from None
        if child.mode.tables is not None:
            play_tables(child, epoch)
        else:
            listen(child, epoch)


def listen(child: Child, epoch: int) -> None:
    """Listen to the venues until asked to stop; to a replayed capture until its end, and rest from then on."""
    config = child.config
    settings, instance = config.ingest, config.daemon.instance
    handoff = Handoff(settings.queue_frames)
    feeds = Feeds(settings.silent_after_s)
    board = BoardWriter.open(segment_name(instance, "feeds"), FEEDS)
    quarantine = Quarantine(child.paths.lib_dir / "quarantine", settings.quarantine_frames, settings.quarantine_bytes)

    router = Router(settings, child.clock, handoff, feeds, quarantine, child.mode.speed)

    keeping = Keeping(config, child.paths.lib_dir, Source(child.mode.source), router, child.clock)
    numbered: dict[str, Lane] = {}

    def lane(symbol: str) -> Lane:
        name = segment_name(instance, "ring", symbol)
        if child.mode.source != Source.REPLAY:
            # An ingest before us may have been ahead of a wall clock that was set back since. Workers do not go back.
            router.time.at(last_written_ns(name))
        # A symbol that was taken away and comes back goes on counting: no number is given twice.
        first = numbered[symbol].next_sequence if symbol in numbered else first_sequence(epoch)
        numbered[symbol] = Lane(symbol, RingWriter.open(name), first, keeping.journal(symbol))
        return numbered[symbol]

    accounts = AccountBook(config, child.clock, child.paths.lib_dir / "bans.json")
    around = Surroundings(
        clock=child.clock,
        accounts=accounts,
        handoff=handoff,
        connect=WebsocketConnector(settings.connect_timeout_s, settings.max_frame_bytes, child.clock.now_ns),
        fetcher=lambda: RequestsFetcher(settings.connect_timeout_s),
        draw=random.random,
        lane=lane,
        depth_board=lambda symbol: depth_board(instance, symbol, config.depth.buckets),
        use=keeping.use,
        desk_draw=keeping.desk_draw,
    )
    switchboard = Switchboard(router, config, shipped_instruments(), around)
    router.replies.take_listing = switchboard.take_listing
    margins = Margins(child.paths.lib_dir / "margin", Source(child.mode.source), router)
    margins.use(child.effective)
    switchboard.apply(config)
    for contract in router.instruments:
        if ADAPTERS[contract.venue].replays_liquidations and contract.symbol in router.lanes:
            router.flow.replays.remember(liquidations_said(instance, contract))
    log.info("listening", extra=fields(epoch=epoch, symbols=",".join(config.enabled_symbols)))
    while not child.should_stop() and not has_ended(child.mode, router.time.now_ns):
        if router.turn(min(_LONGEST_TURN_S, router.until_tick_s)):
            switchboard.check()
            keeping.tell()
            margins.look(router.time.now_ns)
            accounts.save()
            _publish(child, router, board, handoff)
        if child.reload.is_set():
            _reload(child, switchboard, keeping, margins)
    switchboard.stop(_STOP_S, lambda: router.turn(0.05))
    router.stop()
    keeping.close()
    feeds.finished = has_ended(child.mode, router.time.now_ns)
    _publish(child, router, board, handoff)
    if not child.should_stop():
        log.info("the replay came to its end", extra=fields(frames=router.frames))
    while not child.clock.wait(child.stop, _LONGEST_TURN_S) and not child.should_stop():
        _publish(child, router, board, handoff)


def depth_board(instance: str, symbol: str, buckets: int) -> BoardWriter:
    """The board that shows a symbol's order books. Raises SegmentMissing, LayoutMismatch."""
    return BoardWriter.open(segment_name(instance, "depth", symbol), depth_dtype(buckets))


def has_ended(mode: RunMode, engine_ns: int) -> bool:
    """Whether the capture that is replayed has been played, and its last frames had time to arrive. Listening on would
    hear old news again: venues greet everybody who comes back with a snapshot."""
    return mode.ends_ns is not None and engine_ns > mode.ends_ns + int(mode.speed * _ARRIVAL_S * 1e9)


def _reload(child: Child, switchboard: Switchboard, keeping: Keeping, margins: Margins) -> None:
    """Follow a changed configuration by difference; a bad one changes nothing."""
    try:
        effective = child.reread()
    except ConfigError as error:
        log.error("configuration not taken over", extra=fields(reason=str(error)))  # noqa: TRY400
        return
    keeping.configured(effective.config)
    margins.use(effective)
    switchboard.apply(effective.config)
    log.info("configuration taken over", extra=fields(symbols=",".join(effective.config.enabled_symbols)))


def _publish(child: Child, router: Router, board: BoardWriter, handoff: Handoff) -> None:
    board.publish(painter(router.feeds, router.time.now_ns, router.set_aside))
    child.beat(
        ready=True,
        engine_ns=router.time.now_ns,
        sequence=max((lane.next_sequence - 1 for lane in router.lanes.values()), default=0),
        lag_events=handoff.waiting,
        errors=sum(state.malformed for state in router.feeds.venues.values()),
        work=router.frames,
    )

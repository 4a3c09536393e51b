"""Which links and polls there are: from the configuration and the venues' lists of contracts, by difference.

`apply` compares what is wanted with what runs. A link whose streams changed is told so on its open connection, one
whose address changed is replaced, everything else is left alone: adding a symbol disturbs nobody.
"""

import logging
import queue
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from liqmap.clock import Clock
from liqmap.config import Config, DepthConfig
from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import Instrument, InstrumentTable, Unlisted, configured_table
from liqmap.exchanges.adapter import Adapter, LinkPlan, PollPlan
from liqmap.exchanges.plans import next_page
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest import link as links
from liqmap.ingest import poller as polls
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.contracts import ContractLists
from liqmap.ingest.depth_board import BoardSink, DepthBoard, Unseen
from liqmap.ingest.feeds import SourceState, VenueState
from liqmap.ingest.fetcher import Fetcher
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import Handoff, LinkState
from liqmap.ingest.lanes import Lane
from liqmap.ingest.link import Link, Replan
from liqmap.ingest.listener import Listener
from liqmap.ingest.poller import Poller
from liqmap.ingest.replies import Asker
from liqmap.ingest.router import Router
from liqmap.ingest.shelf import WantedBook
from liqmap.ingest.transport import Connector
from liqmap.logs import fields

_OF_THE_VENUE: Final = frozenset({Topic.INSTRUMENTS, Topic.CLOCK})
"""Topics of no symbol."""

log = logging.getLogger(__name__)


class ListenerDied(RuntimeError):
    """A thread that listens ended without being asked to: a bug, and nobody would hear the venue any more."""


def nobody(_instruments: InstrumentTable) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every link and poll is given; tests hand in their own."""

    clock: Clock
    accounts: AccountBook
    handoff: Handoff
    connect: Connector
    fetcher: Callable[[], Fetcher]
    draw: Callable[[], float]
    lane: Callable[[str], Lane]
    """Opens the way into the ring of a symbol."""
    depth_board: Callable[[str], BoardSink] = Unseen
    """Opens the board that shows the order books of a symbol."""
    use: Callable[[InstrumentTable], None] = nobody
    """Told of every table of contracts before it is used."""
    desk_draw: Callable[[], float] = random.random
    """Like `draw`, for the router's own thread: a recording tells its seed, so that it can be played again."""
    start: Callable[[threading.Thread], None] = threading.Thread.start
    """Starts a thread that listens; where frames come from a file, nobody does."""


@dataclass(slots=True)
class _RunningLink:
    link: Link
    thread: threading.Thread


@dataclass(slots=True)
class _RunningPoller:
    poller: Poller
    thread: threading.Thread


class Switchboard:
    """Owned by the router's thread."""

    def __init__(self, router: Router, config: Config, shipped: Iterable[Instrument], around: Surroundings) -> None:
        self._router = router
        self._config = config
        self._around = around
        self._contracts = ContractLists(shipped)
        self._links: dict[str, _RunningLink] = {}
        self._pollers: dict[Venue, _RunningPoller] = {}
        self._ending: list[threading.Thread] = []
        self._depth_boards: dict[tuple[str, float, DepthConfig], DepthBoard] = {}

    def apply(self, config: Config) -> None:
        """Make what runs equal to what `config` and the lists of contracts want."""
        self._config = config
        wanted = _wanted(config)
        table, unlisted = configured_table(wanted, self._contracts)
        self._around.use(table)
        self._router.use(table, self._lanes(config))
        for venue, adapter in ADAPTERS.items():
            section = _section(config, venue)
            state = self._router.feeds.venues.setdefault(venue, VenueState())
            state.enabled = section.enabled
            self._name_unlisted(venue, state, unlisted)
            plans = adapter.link_plans(section, table) if section.enabled else ()
            self._apply_links(venue, adapter, {links.source_of(plan): plan for plan in plans})
            self._apply_polls(venue, adapter, self._poll_plans(adapter, section, table, unlisted))
        self._apply_depth(config, table)

    def take_listing(self, asked: PollPlan, body: bytes, *, first: bool) -> None:
        """A venue's own list of contracts, or a later page of it: sizes come from it from now on. `asked`: the poll of
        the first page. Raises Malformed."""
        venue = asked.venue
        ours = {names[venue] for names in _wanted(self._config).values() if venue in names}
        taken = self._contracts.take(venue, ADAPTERS[venue].parse_listing(body), ours, first=first)
        if taken.cursor:
            self._pollers[venue].poller.ask(next_page(asked, taken.cursor))
        if taken.absent is not None:
            words = f"not in the venue's list: {', '.join(taken.absent)}" if taken.absent else None
            self._router.standing(venue, "absent", words)
        if taken.changed:
            log.warning("contract sizes changed", extra=fields(venue=venue.name.lower(), **taken.changed))
            self.apply(self._config)

    def check(self) -> None:
        """Look at the accounts and the threads. Raises ListenerDied when one is gone that nobody asked to go."""
        now_ns = self._around.clock.monotonic_ns()
        for venue, state in self._router.feeds.venues.items():
            state.budget_used = self._around.accounts[venue].used(now_ns)
        threads = [one.thread for one in self._links.values()] + [one.thread for one in self._pollers.values()]
        for thread in threads:
            if not thread.is_alive():
                raise ListenerDied(f"the thread of {thread.name} ended")
        self._ending = [thread for thread in self._ending if thread.is_alive()]

    def stop(self, timeout_s: float, turn: Callable[[], object]) -> None:
        """End every link and poll, dealing with what they still hand over by `turn`; waits at most `timeout_s`."""
        for running in self._links.values():
            running.link.stop.set()
            self._ending.append(running.thread)
        for poller in self._pollers.values():
            poller.poller.stop.set()
            self._ending.append(poller.thread)
        deadline_ns = self._around.clock.monotonic_ns() + int(timeout_s * 1e9)
        while self._around.clock.monotonic_ns() < deadline_ns and any(thread.is_alive() for thread in self._ending):
            turn()
        self._around.handoff.close()
        turn()

    # Symbols ------------------------------------------------------------------------------------------------------

    def _lanes(self, config: Config) -> dict[str, Lane]:
        present = self._router.lanes
        return {symbol: present.get(symbol) or self._around.lane(symbol) for symbol in config.enabled_symbols}

    def _name_unlisted(self, venue: Venue, state: VenueState, unlisted: tuple[Unlisted, ...]) -> None:
        """Contracts whose size nobody knows are refused, counted, and named where everybody looks."""
        mine = {entry.name for entry in unlisted if entry.venue is venue} if state.enabled else set()
        for name in mine - state.refused_rows.keys():
            why = self._contracts.refusal(venue, name) or "contract size unknown"
            log.error("instrument refused", extra=fields(venue=venue.name.lower(), instrument=name, reason=why))
            state.refused_rows[name] = 0
        for name in state.refused_rows.keys() - mine:
            del state.refused_rows[name]

    # Links --------------------------------------------------------------------------------------------------------

    def _apply_links(self, venue: Venue, adapter: Adapter, wanted: Mapping[str, LinkPlan]) -> None:
        for source in [source for source, one in self._router.listeners.items() if one.venue is venue]:
            plan = wanted.get(source)
            if plan is None or plan.url != self._router.listeners[source].plan.url:
                self._end_link(source)
        for source, plan in wanted.items():
            running = self._links.get(source)
            if running is None:
                self._begin_link(source, plan, adapter)
            elif plan != self._router.listeners[source].plan:
                self._change_link(source, plan, adapter)

    def _begin_link(self, source: str, plan: LinkPlan, adapter: Adapter) -> None:
        around = self._around
        orders: queue.SimpleQueue[links.Order] = queue.SimpleQueue()
        link = Link(
            plan,
            adapter,
            self._config.ingest,
            around.clock,
            around.connect,
            around.handoff,
            around.accounts[plan.venue],
            around.draw,
            orders,
            threading.Event(),
        )
        self._router.listeners[source] = Listener(plan.venue, adapter, orders, plan)
        self._follow_link(source, plan)
        before = next((ending for ending in reversed(self._ending) if ending.name == source), None)
        thread = threading.Thread(target=_hold_after, args=(before, link), name=source, daemon=True)
        self._links[source] = _RunningLink(link, thread)
        self._around.start(thread)

    def _follow_link(self, source: str, plan: LinkPlan) -> None:
        carried = (
            (Feed(plan.venue, stream.topic, symbol), stream.quiet)
            for stream in plan.streams
            for symbol in stream.symbols
        )
        state = SourceState(plan.venue, plan.name, is_link=True)
        self._router.feeds.follow(source, state, carried, self._router.time.now_ns)

    def _change_link(self, source: str, plan: LinkPlan, adapter: Adapter) -> None:
        """More or less to listen to, on the connection that is open."""
        listener = self._router.listeners[source]
        old = {stream.name for stream in listener.plan.streams}
        new = {stream.name for stream in plan.streams}
        texts = (
            *adapter.unsubscribe_texts([stream for stream in listener.plan.streams if stream.name not in new]),
            *adapter.subscribe_texts([stream for stream in plan.streams if stream.name not in old]),
        )
        listener.plan = plan
        listener.orders.put(Replan(plan, texts))
        self._follow_link(source, plan)
        log.info("link changed", extra=fields(link=source, added=len(new - old), removed=len(old - new)))

    def _end_link(self, source: str) -> None:
        running = self._links.pop(source)
        running.link.stop.set()
        self._ending.append(running.thread)
        del self._router.listeners[source]
        self._router.feeds.unfollow(source, self._router.time.now_ns)

    # Polls --------------------------------------------------------------------------------------------------------

    def _poll_plans(
        self, adapter: Adapter, section: Any, table: InstrumentTable, unlisted: tuple[Unlisted, ...]
    ) -> dict[str, PollPlan]:
        """Readings of the listed contracts; the list of contracts is asked for those that are not listed, too."""
        if not section.enabled:
            return {}
        missing = [Instrument(entry.venue, entry.name, 1.0, entry.symbol) for entry in unlisted]
        asked = adapter.poll_plans(section, InstrumentTable([*table, *missing]))
        listings = [plan for plan in asked if plan.topic is Topic.INSTRUMENTS]
        readings = [plan for plan in adapter.poll_plans(section, table) if plan.topic is not Topic.INSTRUMENTS]
        rare = (*adapter.ratio_plans(section, table), *adapter.tier_plans(section, table))
        return {polls.source_of(plan): plan for plan in (*listings, *readings, *rare)}

    def _apply_polls(self, venue: Venue, adapter: Adapter, wanted: dict[str, PollPlan]) -> None:
        router = self._router
        present = {
            source: asker.plan
            for source, asker in router.replies.askers.items()
            if asker.plan.venue is venue and asker.plan.topic is not Topic.DEPTH
        }
        for source in present.keys() - wanted.keys():
            del router.replies.askers[source]
            router.feeds.unfollow(source, router.time.now_ns)
        for source, plan in wanted.items():
            router.replies.askers[source] = Asker(plan, adapter)
            router.feeds.follow(source, _poll_state(plan), _carried(plan), router.time.now_ns, plan.every_s)
        if present != wanted and (wanted or venue in self._pollers):
            self._poller(venue, adapter).replan(tuple(wanted.values()))

    # Books --------------------------------------------------------------------------------------------------------

    def _apply_depth(self, config: Config, table: InstrumentTable) -> None:
        """The books that the links now carry, the requests for their snapshots, the boards that show them."""
        router = self._router
        by_symbol = {(instrument.venue, instrument.symbol): instrument for instrument in table}
        wanted: list[WantedBook] = []
        for source, listener in router.listeners.items():
            section, adapter = _section(config, listener.venue), listener.adapter
            for stream in listener.plan.streams:
                if stream.topic is Topic.DEPTH:
                    instrument = by_symbol[listener.venue, stream.symbols[0]]
                    levels, request = adapter.book_levels(section), adapter.book_plan(section, instrument)
                    wanted.append(WantedBook(instrument, adapter, source, stream, levels, request))
        self._follow_requests({polls.source_of(book.request): book for book in wanted if book.request is not None})
        keys = [(symbol, config.symbols[symbol].step, config.depth) for symbol in config.enabled_symbols]
        self._depth_boards = {key: self._depth_boards.get(key) or self._depth_board(*key) for key in keys}
        boards = {symbol: board for (symbol, _, _), board in self._depth_boards.items()}
        router.desk.use((config.depth, config.ingest), wanted, boards, self._ask, self._around.desk_draw)

    def _depth_board(self, symbol: str, step: float, settings: DepthConfig) -> DepthBoard:
        return DepthBoard(self._around.depth_board(symbol), step, settings)

    def _ask(self, request: PollPlan) -> None:
        self._poller(request.venue, ADAPTERS[request.venue]).ask(request)

    def _follow_requests(self, wanted: Mapping[str, WantedBook]) -> None:
        """Requests that are made once are sources, too: what the venue says of them stands where everybody looks."""
        router = self._router
        askers = router.replies.askers
        for source in [source for source, asker in askers.items() if asker.plan.topic is Topic.DEPTH]:
            if source not in wanted:
                del askers[source]
                router.feeds.unfollow(source, router.time.now_ns)
        for source, book in wanted.items():
            if book.request is not None:
                askers[source] = Asker(book.request, book.adapter)
                state = SourceState(book.request.venue, book.request.name, is_link=False, state=LinkState.UP)
                router.feeds.follow(source, state, (), router.time.now_ns)

    def _poller(self, venue: Venue, adapter: Adapter) -> Poller:
        if venue not in self._pollers:
            around = self._around
            poller = Poller(
                venue,
                adapter,
                self._config.ingest,
                around.clock,
                around.fetcher(),
                around.handoff,
                around.accounts[venue],
                around.draw,
                threading.Event(),
            )
            name = f"{venue.name.lower()}/polls"
            thread = threading.Thread(target=polls.poll_forever, args=(poller,), name=name, daemon=True)
            self._pollers[venue] = _RunningPoller(poller, thread)
            around.start(thread)
        return self._pollers[venue].poller


def _hold_after(before: threading.Thread | None, link: Link) -> None:
    """Hold a link once the one of the same name that it replaces has said its last word: messages carry the name, so
    the end of the old one would be taken for an end of the new one."""
    if before is not None:
        before.join()
    links.hold(link)


def _poll_state(plan: PollPlan) -> SourceState:
    """A poll before its first answer. Without margin tiers nothing of a map is missing: how they stand is told apart
    (margin_standing), and a venue is not worse for it."""
    state = LinkState.UP if plan.topic is Topic.MARGINS else LinkState.CONNECTING
    return SourceState(plan.venue, plan.name, is_link=False, state=state)


def _carried(plan: PollPlan) -> list[tuple[Feed, bool]]:
    """The feeds that a poll carries, none of which may be quiet."""
    if plan.topic is Topic.MARGINS:
        return []
    symbols = ("",) if plan.topic in _OF_THE_VENUE else plan.symbols
    return [(Feed(plan.venue, plan.topic, symbol), False) for symbol in symbols]


def _wanted(config: Config) -> dict[str, dict[Venue, str]]:
    """Symbol → venue → name of its contract there, for the enabled symbols and venues."""
    wanted: dict[str, dict[Venue, str]] = {}
    for symbol in config.enabled_symbols:
        names = msgspec.structs.asdict(config.symbols[symbol].instruments)
        wanted[symbol] = {venue: names[venue.name.lower()] for venue in ADAPTERS if names.get(venue.name.lower())}
    return wanted


def _section(config: Config, venue: Venue) -> Any:
    return getattr(config.venues, venue.name.lower())

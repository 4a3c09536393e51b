"""From what the processes say of themselves to a verdict, and to sentences a tired person understands."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from liqmap.client.feeds import Feeds
from liqmap.client.kept import Kept
from liqmap.client.records import Gap, ProcessStatus, SymbolStatus, VenueStatus
from liqmap.client.words import known, text
from liqmap.shm.status import Beat

OK: Final = "ok"
DEGRADED: Final = "degraded"
DOWN: Final = "down"

NEVER_DIED: Final = -1000
SUPERVISOR_SILENT_MS: Final = 10_000
LATE_MS: Final = 3000
"""What is on its way for longer is told: real ways take tens of ms, a busy venue in a cascade a second or two."""


def process_statuses(board: Any | None, beats: Mapping[str, Beat], monotonic_ns: int) -> dict[str, ProcessStatus]:
    """Every process: the supervisor's table when there is one, and the heartbeat rows."""
    rows = {} if board is None else {text(row["name"]): row for row in board["rows"][: int(board["count"])]}
    return {name: _process(rows.get(name), beats.get(name), monotonic_ns) for name in {**rows, **beats}}


def _process(row: Any | None, beat: Beat | None, monotonic_ns: int) -> ProcessStatus:
    """Pid and heartbeat belong to the living process that the supervisor names: what a dead one left in its row of
    heartbeats does not count. Without a supervisor's table the rows are all there is."""
    died = row is not None and int(row["exit_code"]) != NEVER_DIED
    pid = int(row["pid"]) if row is not None else beat.pid if beat is not None else 0
    beat = beat if beat is not None and beat.pid == pid else None
    age_s = beat.age_s(monotonic_ns) if beat is not None else None
    return ProcessStatus(
        state=text(row["state"]) if row is not None else "",
        pid=pid or None,
        heartbeat_age_ms=None if age_s is None else max(0, int(age_s * 1000)),
        restarts=int(row["restarts"]) if row is not None else 0,
        cpu_pct=known(row["cpu_pct"]) if row is not None else None,
        rss_mb=known(row["rss_mb"]) if row is not None else None,
        exit=int(row["exit_code"]) if row is not None and died else None,
        reason=text(row["reason"]) if row is not None else "",
        lag_events=beat.lag_events if beat is not None else None,
        errors=beat.errors if beat is not None else None,
    )


def verdict(symbols: Mapping[str, SymbolStatus], feeds: Mapping[str, VenueStatus], kept: Kept) -> str:
    """`ok`: every enabled symbol fresh, every enabled venue delivering and not late, everything written that should be;
    `down`: no symbol fresh."""
    if not any(symbol.ready for symbol in symbols.values()):
        return DOWN
    venues = [venue for venue in feeds.values() if venue.enabled]
    delivering = bool(venues) and all(venue.delivering and not late(venue) for venue in venues)
    whole = delivering and not kept.failing
    return OK if whole and all(symbol.ready for symbol in symbols.values()) else DEGRADED


def late(venue: VenueStatus) -> bool:
    """Whether what a venue tells is old when it arrives: its books look whole, and are those of a time past."""
    return venue.delivering and (venue.on_its_way_ms or 0.0) > LATE_MS


def problems(
    symbols: Mapping[str, SymbolStatus],
    feeds: Mapping[str, VenueStatus],
    missing: Feeds,
    processes: Mapping[str, ProcessStatus],
    supervisor_age_ms: int | None,
) -> Iterator[str]:
    """One sentence per thing that is wrong now, the gravest first."""
    if supervisor_age_ms is None or supervisor_age_ms > SUPERVISOR_SILENT_MS:
        yield "the supervisor does not answer: nothing will be restarted"
    for name, process in processes.items():
        if process.state and process.state.upper() not in ("RUNNING", "STOPPED"):
            yield _process_in_words(name, process)
    yield from data_problems(symbols, feeds, missing, processes)


def simulated_faults(board: Any | None) -> Iterator[str]:
    """What somebody has switched on at the simulated venues: other problems may come from it."""
    if board is not None:
        for words in board["faults"][: int(board["fault_count"])]:
            yield f"simulated fault: {text(words)}"


def data_problems(
    symbols: Mapping[str, SymbolStatus],
    feeds: Mapping[str, VenueStatus],
    missing: Feeds,
    processes: Mapping[str, ProcessStatus],
) -> Iterator[str]:
    """What is wrong with maps and feeds; processes only explain it."""
    if missing.finished:
        yield "the replay has ended: nothing more comes"
    for name, symbol in symbols.items():
        if not symbol.ready:
            yield symbol_in_words(name, symbol, processes)
    if not feeds:
        yield "no venue has reported yet"
    for name, venue in feeds.items():
        if venue.enabled and not venue.delivering:
            yield f"{name} does not deliver{_how_much(venue)}: {venue.reason or venue.state or 'no reason known'}"
        elif venue.enabled and venue.reason:
            yield f"{name}: {venue.reason}"
        if venue.enabled and late(venue):
            yield f"{name} is late: what it tells is {(venue.on_its_way_ms or 0) / 1000:.1f} s old when it arrives"
        if venue.refused_instruments:
            yield f"{name}: {venue.refused_instruments} instruments of unknown size were refused"
    yield from _gaps_in_words(missing.gaps)


def _how_much(venue: VenueStatus) -> str:
    """A venue delivers when nothing of it is missing; where something still arrives the sentence says so."""
    arrives = any(topic.events and not topic.missing and not topic.silent for topic in venue.topics.values())
    return " everything" if arrives else ""


def _process_in_words(name: str, process: ProcessStatus) -> str:
    ended = "" if process.exit is None else f", it ended with {_exit_in_words(process.exit)}"
    why = f": {process.reason}" if process.reason else ""
    return f"process {name} is {process.state.lower()}{ended}{why}"


def _exit_in_words(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def why_not_ready(symbol: str, age_ms: int | None, *, old: bool = True, finished: bool = False) -> str:
    """Why a symbol has no fresh map, whatever its process does. `age_ms` None: none was ever published."""
    if age_ms is None:
        return f"{symbol} has not published a map yet: no market data has arrived"
    if finished:
        return f"{symbol} is stale: the replay has ended"
    if old:
        return f"{symbol} is stale: its newest map is {age_ms / 1000:.1f} s old"
    return f"{symbol} is stale: no venue delivers a price of it"


def symbol_in_words(name: str, symbol: SymbolStatus, processes: Mapping[str, ProcessStatus]) -> str:
    """Why a symbol has no fresh map, and what its process does."""
    process = processes.get(name)
    state = f" (its process is {process.state.lower()})" if process is not None and process.state else ""
    return f"{symbol.reason}{state}"


def _gaps_in_words(gaps: tuple[Gap, ...]) -> Iterator[str]:
    """What is missing, put together: one sentence per venue, reason and set of symbols, however many topics it hits."""
    symbols: dict[tuple[str, str, str], list[str]] = {}
    for gap in gaps:
        symbols.setdefault((gap.venue, gap.reason, gap.topic), []).append(gap.symbol or "")
    topics: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (venue, reason, topic), hit in symbols.items():
        topics.setdefault((venue, reason, tuple(sorted(hit))), []).append(topic)
    for (venue, reason, hit_symbols), hit_topics in topics.items():
        what = "nothing" if "all" in hit_topics else f"no {_listed(topic.replace('_', ' ') for topic in hit_topics)}"
        whom = _listed(symbol for symbol in hit_symbols if symbol)
        where = "any venue" if venue == "all" else venue
        yield f"{what} arrives from {where}{whom and f' for {whom}'}: {reason.replace('_', ' ')}"


def _listed(words: Iterable[str]) -> str:
    """a, b or c."""
    several = list(words)
    return " or ".join([", ".join(several[:-1]), several[-1]] if len(several) > 1 else several)

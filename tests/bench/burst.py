"""A burst of twice what ingest sustains, for ten seconds, at full speed: what is lost, how long facts wait, what it
takes. The sender is `burst_sender`, a process of its own that cuts off whoever does not read for two seconds.

Sustained is what nine links in threads, hand-over, router and rings deal with in a second while they are sent as much
as their sockets take, and no trade is given up.
"""

import json
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from liqmap import config as configuration
from liqmap.domain.enums import Topic
from liqmap.domain.event import Event
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.handoff import Frames, Handoff, Message
from tests.bench.burst_sender import dear
from tests.bench.ingest import Stage, linked, staged, table
from tests.bench.table import Row

BURST_S = 10.0
FLOODED_S = 3.0
_PATIENT_S = 60.0
"""So long a full line of trades holds its socket back while the sustained rate is measured."""


@dataclass
class Outcome:
    """What one storm did."""

    sent: dict[str, int] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    seconds: float = 0.0
    handled: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    per_s: float = 0.0
    """Frames dealt with in a second, from the first until the sender was done."""
    facts_waited_ms: float = 0.0
    """The longest."""
    grown_mb: float = 0.0
    """Resident memory over the one before."""


def rows(effort: float) -> Iterator[Row]:
    """The row of the burst."""
    sustained = storm(0.0, max(0.5, FLOODED_S * effort), Handoff(QUEUE_FRAMES, trades_wait_s=_PATIENT_S)).per_s
    burst = storm(2.0 * sustained, max(1.0, BURST_S * effort), Handoff(QUEUE_FRAMES))
    lost = {kind: sum(n for link, n in burst.dropped.items() if link.endswith(kind)) for kind in KINDS}
    total = {kind: sum(n for link, n in burst.sent.items() if link.endswith(kind)) for kind in KINDS}
    unsaid = sum(burst.sent.values()) - sum(burst.handled.values()) - sum(burst.dropped.values())
    today = (
        f"{sum(burst.sent.values()) / burst.seconds / 1e3:.0f} k/s sent of {sustained / 1e3:.0f} sustained; "
        + ", ".join(f"{kind} lost {lost[kind]:,} of {total[kind]:,}" for kind in KINDS)
        + f"; {len(burst.cut)} links cut, {unsaid} frames unaccounted; facts waited {burst.facts_waited_ms:.0f} ms "
        f"at most; memory +{burst.grown_mb:.0f} MB"
    )
    reached = not burst.cut and not lost["facts"] and not unsaid
    yield Row("burst of twice what is sustained, 10 s", "", "no fact lost, no link cut", today, reached)


KINDS = ("facts", "trades", "depth")
QUEUE_FRAMES = configuration.parse({}).ingest.queue_frames


def storm(rate: float, seconds: float, handoff: Handoff) -> Outcome:
    """One storm over nine links; 0: as much as the sockets take."""
    outcome, process = Outcome(), psutil.Process()
    command = [sys.executable, "-m", "tests.bench.burst_sender", f"{rate}", f"{seconds}"]
    with (
        staged(handoff) as stage,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender,
    ):
        assert sender.stdout is not None
        assert sender.stdin is not None
        _watch(stage, outcome)
        port = int(sender.stdout.readline())
        before = process.memory_info().rss
        with linked(stage, port):
            report = _until_reported(stage, sender, process, outcome)
            outcome.sent = {source: frames for source, (frames, _) in report["links"].items()}
            outcome.cut = [source for source, (_, cut) in report["links"].items() if cut]
            outcome.seconds = report["seconds"]
            _settle(stage, sum(outcome.sent.values()))
            sender.stdin.write("\n")
            sender.stdin.flush()
        outcome.grown_mb = (outcome.grown_mb * 1e6 - before) / 1e6
        for source, state in stage.feeds.sources.items():
            outcome.handled[source], outcome.dropped[source] = state.frames, state.dropped
        if not outcome.cut:
            _check_facts(stage, outcome)
    return outcome


def _watch(stage: Stage, outcome: Outcome) -> None:
    """How long facts wait between the socket and the router."""
    take = stage.handoff.take

    def timed(timeout_s: float) -> list[Message]:
        taken = take(timeout_s)
        now_ns = time.time_ns()
        for message in taken:
            if isinstance(message, Frames) and message.source.endswith("facts"):
                outcome.facts_waited_ms = max(outcome.facts_waited_ms, (now_ns - message.receive_ns) / 1e6)
        return taken

    stage.handoff.take = timed  # type: ignore[method-assign]


def _until_reported(stage: Stage, sender: "subprocess.Popen[str]", process: psutil.Process, outcome: Outcome) -> Any:
    """Deal with what comes until the sender says what it sent."""
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert sender.stdout is not None
    listening = threading.Thread(target=lambda out: said.put(out.readline()), args=(sender.stdout,))
    listening.start()
    looked_s = began_s = 0.0
    while said.empty():
        stage.router.turn(0.05)
        began_s = began_s or (stage.router.frames and time.monotonic())
        if time.monotonic() - looked_s > 0.1:
            looked_s = time.monotonic()
            outcome.grown_mb = max(outcome.grown_mb, process.memory_info().rss / 1e6)
    outcome.per_s = stage.router.frames / (time.monotonic() - began_s)
    listening.join()
    return json.loads(said.get())


def _settle(stage: Stage, sent: int) -> None:
    """Deal with what is still on its way."""
    ends_s = time.monotonic() + 20.0
    while time.monotonic() < ends_s:
        stage.router.turn(0.05)
        if sum(state.frames + state.dropped for state in stage.feeds.sources.values()) >= sent:
            return


def _check_facts(stage: Stage, outcome: Outcome) -> None:
    """Every liquidation, mark and level of open interest that was sent became an event, or a row known already."""
    sessions = {venue: adapter.session(table()) for venue, adapter in ADAPTERS.items()}
    left, last, wanted = Counter(outcome.sent), dict[str, bytes](), 0
    for sent in dear():
        if sent.link == "facts" and left[sent.source] > 0:
            left[sent.source] -= 1
            if sent.raw == last.get(sent.source):
                continue  # a message that only repeats the one before it is none
            last[sent.source] = sent.raw
            wanted += sum(isinstance(fact, Event) for fact in sessions[sent.venue].parse(sent.raw, 1))
    feeds = stage.feeds.feeds.items()
    told = sum(state.events for feed, state in feeds if feed.topic is not Topic.TRADE and feed.topic is not Topic.DEPTH)
    assert told + stage.router.flow.replays.dropped == wanted, f"{wanted} facts were sent, {told} were told"

"""The supervisor's line to the simulated venues: nothing about it waits, whatever the other end does."""

import json
import selectors
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from liqmap.supervisor.sockets import listen_privately
from liqmap.supervisor.venue_line import MAX_LINE_BYTES, PATIENCE_NS, VenueLine

NS = 1_000_000_000


class Ends:
    """Both ends: the supervisor's in a select loop that is turned by hand, the venues' written by hand."""

    def __init__(self, path: Path) -> None:
        self.listener = listen_privately(path)
        self.listener.settimeout(10)
        self.selector = selectors.DefaultSelector()
        self.line = VenueLine(path)
        self.line.use(self.selector)
        self.now_ns = NS
        self.venues: socket.socket | None = None

    def turn(self, running: bool = True) -> None:
        self.now_ns += NS
        ready = [(key.data, events) for key, events in self.selector.select(0.01)]
        self.line.turn(ready, running, self.now_ns)

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            self.turn()

    def connect(self) -> socket.socket:
        self.turn()
        self.venues = self.listener.accept()[0]
        self.venues.settimeout(10)
        return self.venues

    def close(self) -> None:
        self.line.close()
        self.selector.close()
        self.listener.close()
        if self.venues is not None:
            self.venues.close()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    both = Ends(tmp_path / "venues.sock")
    yield both
    both.close()


def said(**what: Any) -> bytes:
    return json.dumps(what).encode() + b"\n"


def test_only_its_owner_may_speak_to_the_venues(tmp_path: Path, ends: Ends) -> None:
    assert stat.S_IMODE((tmp_path / "venues.sock").stat().st_mode) == 0o600


def test_a_question_goes_out_as_one_line_and_its_answer_comes_back_in_pieces(ends: Ends) -> None:
    venues = ends.connect()
    number = ends.line.ask({"venue": "okx", "command": {"fault": "stall"}}, ends.now_ns)
    assert json.loads(venues.recv(65536)) == {"id": number, "venue": "okx", "command": {"fault": "stall"}}
    assert ends.line.outcome(number, ends.now_ns, ends.now_ns) is None
    answer = said(on=["okx stall"]) + said(id=number, ok=True, said="okx: stall is on")
    for piece in (answer[:5], answer[5:30], answer[30:]):
        venues.sendall(piece)
        ends.turn()
    ends.until(lambda: ends.line.on)
    assert ends.line.on == ("okx stall",)
    outcome = ends.line.outcome(number, ends.now_ns, ends.now_ns)
    assert outcome == {"ok": True, "said": "okx: stall is on"}


def test_who_gets_no_answer_is_told_so_in_words(ends: Ends) -> None:
    ends.connect()
    number = ends.line.ask({}, ends.now_ns)
    assert ends.line.outcome(number, ends.now_ns, ends.now_ns + PATIENCE_NS) is None
    outcome = ends.line.outcome(number, ends.now_ns, ends.now_ns + PATIENCE_NS + 1)
    assert outcome is not None and outcome["error"] == "the simulated venues did not answer within 10 s"
    ends.venues.sendall(said(id=number, ok=True))  # type: ignore[union-attr]
    ends.turn()  # too late, and nobody minds


def test_who_waits_while_the_venues_die_is_told_and_their_faults_are_gone(ends: Ends) -> None:
    venues = ends.connect()
    venues.sendall(said(on=["okx stall"]))
    ends.until(lambda: ends.line.on)
    number = ends.line.ask({}, ends.now_ns)
    venues.close()
    ends.until(lambda: not ends.line.on)
    outcome = ends.line.outcome(number, ends.now_ns, ends.now_ns)
    assert outcome is not None and "hung up before they answered" in outcome["error"]
    again = ends.listener.accept()[0]  # the line is made anew, for whoever comes next
    again.close()


def test_a_process_that_does_not_run_is_not_spoken_to(ends: Ends) -> None:
    venues = ends.connect()
    venues.sendall(said(on=["okx stall"]))
    ends.until(lambda: ends.line.on)
    ends.turn(running=False)
    assert ends.line.on == ()
    assert venues.recv(10) == b""


def test_without_anybody_there_the_answer_is_a_refusal_at_once(tmp_path: Path) -> None:
    line = VenueLine(tmp_path / "nobody.sock")
    number = line.ask({}, NS)
    outcome = line.outcome(number, NS, NS)
    assert outcome is not None and "cannot be reached" in outcome["error"]


def test_venues_that_never_read_or_never_end_a_line_cost_only_the_line(ends: Ends) -> None:
    venues = ends.connect()
    numbers = [ends.line.ask({"command": "x" * 50_000}, ends.now_ns) for _ in range(40)]
    outcomes = [ends.line.outcome(number, ends.now_ns, ends.now_ns) for number in numbers]
    assert any(outcome is not None and not outcome["ok"] for outcome in outcomes)
    venues.close()
    venues = ends.connect()
    venues.setblocking(False)
    sent = 0
    end = time.monotonic() + 10
    while sent <= MAX_LINE_BYTES + 500_000:
        assert time.monotonic() < end
        try:
            sent += venues.send(b"x" * 65536)
        except BlockingIOError:
            ends.turn()
        except OSError:
            break  # hung up on
    else:
        pytest.fail("a line without an end was listened to for ever")

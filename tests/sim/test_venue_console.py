"""The line by which faults are asked for, and the table that stands behind it."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap.domain.enums import Venue
from liqmap.sim.venues.console import Console
from liqmap.sim.venues.fault_actions import MALFORMED_KINDS, broken
from liqmap.sim.venues.fault_table import FAULTS, described
from liqmap.sim.venues.faults import UnknownFault
from tests.venue_servers import RunningVenues, venue_servers

BINANCE, BYBIT, OKX = Venue.BINANCE, Venue.BYBIT, Venue.OKX
DEADLINE_S = 15.0


class Line:
    """The supervisor's end, blocking."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(str(path))
        self._reader = self._socket.makefile("rb")

    def next(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._reader.readline())
        return said

    def ask(self, line: object) -> dict[str, Any]:
        """The answer; news on the way are passed over."""
        self._socket.sendall((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
        while "ok" not in (said := self.next()):
            pass
        return said

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


@contextmanager
def console(venues: RunningVenues, path: Path) -> Iterator[Line]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    ended = asyncio.Event()

    async def serve() -> None:
        async with Console({venue: venues.server(venue) for venue in (BINANCE, BYBIT, OKX)}).listening(listener):
            await ended.wait()

    serving = venues.spawn(serve())
    line = Line(path)
    try:
        yield line
    finally:
        line.close()
        venues.call(ended.set)
        serving.result(timeout=10)
        listener.close()


def test_faults_are_listed_switched_on_told_of_and_end_by_themselves(tmp_path: Path) -> None:
    with venue_servers() as venues, console(venues, tmp_path / "line") as line:
        assert line.next() == {"on": []}
        table = line.ask({"id": 1})
        assert [row["fault"] for row in table["faults"]] == list(FAULTS)
        assert table["venues"] == ["binance", "bybit", "okx", "all"]
        command = {"fault": "silent", "topic": "*@aggTrade", "for_s": "0.3"}
        answer = line.ask({"id": 2, "venue": "binance", "command": command})
        assert answer == {
            "id": 2,
            "ok": True,
            "said": "binance: silent *@aggTrade is on, 0.3 s",
            "on": ["binance silent *@aggTrade"],
        }
        assert line.next() == {"on": ["binance silent *@aggTrade"]}
        assert line.next() == {"on": []}
        for name in ("stall", "duplicate"):
            assert line.ask({"venue": "all", "command": {"fault": name}})["ok"]
        ended = line.ask({"id": 3, "venue": "all", "command": {"fault": "clear"}})
        assert ended["said"].splitlines()[2] == "okx: stall, duplicate share=1 ended" and ended["on"] == []


def test_its_end_while_somebody_is_on_the_line_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The loop ends with the console, as that of the process does."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "line"))
        listener.listen()
        client.connect(str(tmp_path / "line"))

        async def serve() -> None:
            async with Console({}).listening(listener):
                await asyncio.to_thread(client.recv, 100)

        asyncio.run(serve())
        assert client.recv(100) == b""
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"venue": "mtgox", "command": {"fault": "stall"}}, "there are binance, bybit, okx and all"),
        ({"venue": "okx", "command": {"fault": "fire"}}, "there are silent, drop, gap"),
        ({"venue": "okx", "command": {"fault": "gap", "size": 3}}, "it takes topic, count, for_s"),
        ({"venue": "okx", "command": {"fault": "gap", "count": 0}}, "a whole number from 1, not 0"),
        ({"venue": "okx", "command": {"fault": "silent"}}, "needs topic"),
        ({"venue": "okx", "command": {"fault": "rest", "kind": "418"}}, "it has reset, 429, 50011"),
        ({"venue": "okx", "command": {"fault": "disconnect", "on": False}}, "happens once"),
        ({"venue": "okx", "command": {"fault": "stall", "on": "no"}}, "true or false"),
        ({"venue": "okx", "command": 7}, "an object"),
        (b"not json", "no JSON object"),
        (b"[]", "no JSON object"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_is_allowed(tmp_path: Path, request_: object, words: str) -> None:
    with venue_servers() as venues, console(venues, tmp_path / "line") as line:
        answer = line.ask(request_)
        assert answer["ok"] is False and words in answer["error"]
        assert line.ask({"id": 1})["on"] == []


def test_every_row_of_the_table_can_be_begun_and_ended_at_every_venue() -> None:
    needed = {"topic": "nothing*", "state": "stale", "ms": 5, "text": "x"}
    contracts = {BINANCE: "DOGEUSDT", BYBIT: "DOGEUSDT", OKX: "DOGE-USDT-SWAP"}
    with venue_servers() as venues:
        for venue in (BINANCE, BYBIT, OKX):
            for row in described():
                known = {**needed, "contract": contracts[venue]}
                said = {p["name"]: known[p["name"]] for p in row["parameters"] if p["required"]}
                done = venues.fault(venue, {"fault": row["fault"], **said})
                assert done["done"] == row["fault"]
            lasting = sorted(row["fault"] for row in described() if row["lasts"])
            assert sorted(words.split()[0] for words in venues.state(venue)["faults"]) == lasting
            for name in lasting:
                assert len(venues.fault(venue, {"fault": name, "on": False})["ended"]) == 1
            assert venues.state(venue)["faults"] == []


def test_every_refusal_by_name_is_an_answer() -> None:
    with venue_servers() as venues:
        for venue, expected in ((BINANCE, "418"), (BYBIT, "10006"), (OKX, "50011")):
            server = venues.server(venue)
            names = venues.call(lambda server=server: server.refusals)  # type: ignore[misc]
            assert expected in names
            for name in names:
                reply = venues.call(lambda server=server, name=name: server.refusal(name))  # type: ignore[misc]
                assert reply is not None and (not name[:3].isdigit() or len(name) > 4 or reply.status == int(name[:3]))


def test_the_same_fault_of_another_topic_stands_beside_the_first() -> None:
    with venue_servers() as venues:
        venues.fault(OKX, {"fault": "slow", "topic": "trades/*", "latency_s": 3})
        venues.fault(OKX, {"fault": "slow", "topic": "books/*"})
        venues.fault(OKX, {"fault": "slow", "topic": "trades/*", "latency_s": 1})
        assert venues.state(OKX)["faults"] == ["slow books/* latency_s=2", "slow trades/* latency_s=1"]
        venues.fault(OKX, {"fault": "slow", "topic": "books/*", "on": False})
        assert venues.state(OKX)["faults"] == ["slow trades/* latency_s=1"]


@given(st.sampled_from(sorted(FAULTS)), st.dictionaries(st.text(max_size=9), st.integers() | st.text() | st.none()))
def test_whatever_is_said_is_taken_or_refused(name: str, said: dict[str, Any]) -> None:
    try:
        taken = FAULTS[name].given(said)
    except UnknownFault as refused:
        assert str(refused).startswith(name)
    else:
        assert said.keys() <= taken.keys()


@pytest.mark.parametrize("kind", MALFORMED_KINDS)
def test_broken_messages_differ_from_what_they_were_made_of(kind: str) -> None:
    payload = b'{"e":"aggTrade","p":"60000.1","q":"0.5"}'
    assert broken(kind, payload) not in (payload, b"")


def test_commands_over_the_line_are_answered_in_order_however_fast_they_come(tmp_path: Path) -> None:
    with venue_servers() as venues, console(venues, tmp_path / "line") as line:
        count = 50
        for number in range(count):
            line._socket.sendall(json.dumps({"id": number}).encode() + b"\n")
        seen: list[int] = []
        end = time.monotonic() + DEADLINE_S
        while len(seen) < count:
            assert time.monotonic() < end
            seen += [said["id"] for said in [line.next()] if "id" in said]
        assert seen == list(range(count))

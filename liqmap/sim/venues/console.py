"""The line by which the supervisor asks for faults: a Unix socket, one JSON object per line each way.

In: `{"id": 7, "venue": "binance" | … | "all", "command": {"fault": "silent", "topic": "*@aggTrade", "for_s": 30}}`;
without a command: which faults there are, and which are on. Out: `{"id": 7, "ok": true, "said": …}` or
`{"id": 7, "ok": false, "error": …}`, and, unasked, `{"on": [words, …]}` at the start and after each change.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from typing import Any, Final

import orjson

from liqmap.domain.enums import Venue
from liqmap.sim.venues.fault_table import described
from liqmap.sim.venues.faults import UnknownFault
from liqmap.sim.venues.server import VenueServer

log = logging.getLogger(__name__)

ALL: Final = "all"
LINE_BYTES: Final = 16 * 1024
_LOOK_S: Final = 0.1


class Console:
    """Answers on one listening socket. Whoever can connect may switch: the file's mode decides who that is."""

    def __init__(self, servers: Mapping[Venue, VenueServer]) -> None:
        self._servers = {venue.name.lower(): server for venue, server in servers.items()}
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    @contextlib.asynccontextmanager
    async def listening(self, listener: socket.socket | None) -> Any:
        """Answer as long as the block runs; None: nobody can ask."""
        if listener is None:
            yield
            return
        server = await asyncio.start_unix_server(self._converse, sock=listener.dup(), limit=LINE_BYTES)
        telling = asyncio.create_task(self._tell_changes())
        try:
            yield
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            server.close()
            talking = [task for task in self._clients.values() if task is not None]
            for client in list(self._clients):
                client.transport.abort()
            await asyncio.gather(*talking)  # a conversation that the loop's end cuts off would be told as a fault
            await server.wait_closed()

    def on(self) -> list[str]:
        """The faults that are on, in words."""
        return [f"{name} {fault.words}" for name, server in self._servers.items() for fault in server.faults.on]

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What is said to a request; what it asks for is done."""
        command = request.get("command")
        if command is None:
            return {"ok": True, "faults": described(), "venues": [*self._servers, ALL], "on": self.on()}
        name = request.get("venue")
        if name != ALL and name not in self._servers:
            return {
                "ok": False,
                "error": f"no venue is called {name!r}; there are {', '.join(self._servers)} and {ALL}",
            }
        if not isinstance(command, dict):
            return {"ok": False, "error": "a command is an object"}
        for_s = f", {command['for_s']} s" if "for_s" in command else ""
        said, errors = [], []
        for venue, server in self._servers.items():
            if name in (venue, ALL):
                try:
                    said.append(f"{venue}: {_told(server.control.apply(command))}{for_s}")
                except UnknownFault as error:
                    errors.append(str(error))
        if errors:
            done = f" (done: {'; '.join(said)})" if said else ""
            return {"ok": False, "error": "; ".join(dict.fromkeys(errors)) + done}
        return {"ok": True, "said": "\n".join(said), "on": self.on()}

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients[writer] = asyncio.current_task()
        try:
            self._say(writer, {"on": self.on()})
            while line := await reader.readline():
                request = _object(line)
                answer = self.answer(request) if request is not None else {"ok": False, "error": "no JSON object"}
                self._say(writer, {"id": (request or {}).get("id"), **answer})
                await writer.drain()
        except (ConnectionError, ValueError) as error:  # ValueError: a line without an end
            log.warning("the line to the supervisor broke: %s", error)
        finally:
            self._clients.pop(writer, None)
            writer.close()

    async def _tell_changes(self) -> None:
        known = [server.faults.version for server in self._servers.values()]
        while True:
            await asyncio.sleep(_LOOK_S)
            versions = [server.faults.version for server in self._servers.values()]
            if versions != known:
                known = versions
                log.info("faults that are on: %s", ", ".join(self.on()) or "none")
                for client in list(self._clients):
                    self._say(client, {"on": self.on()})

    @staticmethod
    def _say(client: asyncio.StreamWriter, what: dict[str, Any]) -> None:
        client.write(orjson.dumps(what) + b"\n")


def _told(done: dict[str, Any]) -> str:
    """The answer of a venue's control in words."""
    if "ended" in done:
        ended = ", ".join(done["ended"]) or "nothing was on"
        return f"{ended} ended" if done["ended"] else ended
    reached = f", {done['reached']} connections" if "reached" in done else ""
    return f"{done['on']} is on{reached}" if "on" in done else f"{done['done']}{reached}"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return request if isinstance(request, dict) else None

"""Faults on command: one JSON object per line to POST /_sim/fault, or `FaultControl.apply` in-process.

`{"fault": NAME, …}` with the parameters of its row in `fault_table.py`. Lasting faults end with `"on": false` (of the
named topic or path, without one all of that name), after `"for_s"` seconds, or with `{"fault": "clear"}`.
"""

from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from liqmap.sim.venues.fault_table import CLEAR, FAULTS, Fault, fault_named
from liqmap.sim.venues.faults import Switched, UnknownFault

if TYPE_CHECKING:
    from liqmap.sim.venues.server import VenueServer


class FaultControl:
    """Applies commands to one server."""

    def __init__(self, server: "VenueServer") -> None:
        self._server = server

    def apply(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what the command says; what was done. Raises UnknownFault."""
        name = command.get("fault")
        if name == CLEAR:
            return {"done": CLEAR, "ended": self._finish(self._server.faults.clear())}
        row = fault_named(name)
        said = {key: value for key, value in command.items() if key not in ("fault", "on")}
        on = command.get("on", True)
        if not isinstance(on, bool):
            raise UnknownFault(f"{row.name}: on is true or false, not {on!r}")
        if on:
            return self._begin(row, said)
        if not row.lasts:
            raise UnknownFault(f"{row.name} happens once: there is nothing to switch off")
        return {"done": row.name, "ended": self._finish(self._server.faults.end(row.name, said))}

    def end_due(self, now_s: float) -> None:
        """End the faults whose time is over."""
        self._finish(self._server.faults.due(now_s))

    def _begin(self, row: Fault, said: dict[str, Any]) -> dict[str, Any]:
        server = self._server
        given = row.given(said)
        if row.check is not None:
            row.check(server, given)
        if not row.lasts:
            return {"done": row.name, "reached": 0 if row.begin is None else row.begin(server, given)}
        ends_s = server.now_s() + given["for_s"] if "for_s" in given else None
        fault = Switched(row.name, given, ends_s)
        server.faults.begin(fault)
        done: dict[str, Any] = {"done": row.name, "on": fault.words}
        if row.begin is not None:
            done["reached"] = row.begin(server, given)
        return done

    def _finish(self, ended: list[Switched]) -> list[str]:
        """What is left to do for faults that were switched off; their words."""
        for fault in ended:
            end = FAULTS[fault.name].end
            if end is not None:
                end(self._server, fault)
        return [fault.words for fault in ended]

    async def post(self, request: web.Request) -> web.Response:
        """POST /_sim/fault, from this machine only."""
        if request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="only from this machine\n")
        answers = [self._answer(line) for line in (await request.read()).splitlines() if line.strip()]
        bad = any("error" in answer for answer in answers)
        body = b"".join(orjson.dumps(answer) + b"\n" for answer in answers)
        return web.Response(status=400 if bad else 200, body=body, content_type="application/jsonl")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            command = orjson.loads(line)
            if not isinstance(command, dict):
                raise UnknownFault("a command is one JSON object")
            return self.apply(command)
        except (UnknownFault, orjson.JSONDecodeError) as error:
            return {"error": str(error)}

    async def state(self, request: web.Request) -> web.Response:
        """GET /_sim/state, from this machine only."""
        if request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="only from this machine\n")
        return web.Response(body=orjson.dumps(self._server.state()), content_type="application/json")

    async def book(self, request: web.Request) -> web.Response:
        """GET /_sim/book?contract=NAME, from this machine only: the true book now, for tests."""
        if request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="only from this machine\n")
        book = self._server.feed.book_truth(request.query.get("contract", ""), self._server.now_ms())
        if book is None:
            return web.Response(status=404, text="no such contract, or no book yet\n")
        return web.Response(body=orjson.dumps(book), content_type="application/json")

"""Faults on command: one JSON object per line to POST /_sim/fault, or `FaultControl.apply` in-process.

Beside the switches of `faults.py`:
* `{"fault": "disconnect", "code": 1001}` throws every client out (without a code: resets the connections);
* `{"fault": "half_open"}` also freezes the connections there are;
* `{"fault": "stall", "on": true|false}` holds everything back, then lets it go in one burst;
* `{"fault": "malformed", "kind": K, "topic": T?}`, K one of truncated, wrong_types, bad_utf8, not_json, garbage;
* `{"fault": "oversized", "bytes": N, "topic": T?}` and `{"fault": "inject", "text": TEXT, "topic": T?}`;
* `{"fault": "rest", "path": "/fapi", "kind": "429", "times": N?}`, or `status`, `body`, `content_type` for `kind`;
* `{"fault": "restart", "after_s": 60}`, which OKX announces.
"""

import asyncio
import random
import re
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from liqmap.sim.venues.faults import RestFault, UnknownFault, switch
from liqmap.sim.venues.feed import Reply

if TYPE_CHECKING:
    from liqmap.sim.venues.server import VenueServer

_NUMBER_TEXT = re.compile(rb'"-?\d[\d.]*"')


class FaultControl:
    """Applies commands to one server."""

    def __init__(self, server: "VenueServer") -> None:
        self._server = server

    def apply(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what the command says; what was done. Raises UnknownFault."""
        server = self._server
        name = command.get("fault")
        if switch(server.faults, command):
            if name == "clear":
                server.release()
            if name == "half_open" and server.faults.half_open:
                for connection in server.connections.values():
                    connection.half_open = True
            return {"done": name}
        actions = {
            "disconnect": self._disconnect,
            "stall": self._stall,
            "malformed": self._malformed,
            "oversized": self._oversized,
            "inject": self._inject,
            "rest": self._rest,
            "restart": self._restart,
        }
        if name not in actions:
            raise UnknownFault(f"no fault is called {name!r}")
        return {"done": name, "reached": actions[name](command)}

    async def post(self, request: web.Request) -> web.Response:
        """POST /_sim/fault, from this machine only."""
        if request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="only from this machine\n")
        answers = []
        for line in (await request.read()).splitlines():
            if not line.strip():
                continue
            try:
                answers.append(self.apply(orjson.loads(line)))
            except (UnknownFault, orjson.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
                answers.append({"error": str(error)})
        bad = any("error" in answer for answer in answers)
        body = b"".join(orjson.dumps(answer) + b"\n" for answer in answers)
        return web.Response(status=400 if bad else 200, body=body, content_type="application/jsonl")

    async def state(self, request: web.Request) -> web.Response:
        """GET /_sim/state, from this machine only."""
        if request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="only from this machine\n")
        return web.Response(body=orjson.dumps(self._server.state()), content_type="application/json")

    def _disconnect(self, command: dict[str, Any]) -> int:
        code = command.get("code")
        there = list(self._server.connections.values())
        for connection in there:
            connection.cut(None if code is None else int(code), str(command.get("reason", "")))
        return len(there)

    def _stall(self, command: dict[str, Any]) -> int:
        if command.get("on", True):
            self._server.faults.stalled = True
        else:
            self._server.release()
        return len(self._server.connections)

    def _malformed(self, command: dict[str, Any]) -> int:
        topic = command.get("topic")
        known = self._server.last_payload
        sample = known.get(topic, b"") if topic else next(reversed(known.values()), b"")
        sample = sample or b'{"e":"x","ts":"1"}'
        kinds = {
            "truncated": sample[: max(1, len(sample) // 2)],
            "wrong_types": _NUMBER_TEXT.sub(b'"not a number"', sample),
            "bad_utf8": sample[:-1] + b',"\xff\xfe":1}',
            "not_json": b"<html>502 Bad Gateway</html>",
            "garbage": random.Random(7).randbytes(64),
        }
        kind = command.get("kind", "truncated")
        if kind not in kinds:
            raise UnknownFault(f"malformed: kind is one of {', '.join(kinds)}")
        return self._server.send_raw(kinds[kind], topic)

    def _oversized(self, command: dict[str, Any]) -> int:
        size = int(command.get("bytes", 1 << 20))
        head, tail = b'{"stream":"x","topic":"x","data":"', b'"}'
        return self._server.send_raw(head + b"A" * max(0, size - len(head) - len(tail)) + tail, command.get("topic"))

    def _inject(self, command: dict[str, Any]) -> int:
        text = command.get("text")
        if not isinstance(text, str):
            raise UnknownFault("inject: needs a string 'text'")
        return self._server.send_raw(text.encode(), command.get("topic"))

    def _rest(self, command: dict[str, Any]) -> int:
        prefix = str(command.get("path", "/"))
        self._server.faults.rest = [f for f in self._server.faults.rest if f.prefix != prefix]
        if not command.get("on", True):
            return 0
        kind = command.get("kind")
        reply = self._server.known_rest_fault(str(kind)) if kind is not None else None
        if reply is None and "status" not in command:
            raise UnknownFault(f"rest: {self._server.venue.name.lower()} has no refusal called {kind!r}")
        if reply is None:
            content_type = str(command.get("content_type", "text/html"))
            reply = Reply(int(command["status"]), str(command.get("body", "")).encode(), content_type)
        self._server.faults.rest.append(RestFault(prefix, reply, command.get("times")))
        return 1

    def _restart(self, command: dict[str, Any]) -> int:
        server = self._server
        server.announce_restart()
        there = list(server.connections.values())

        def throw_out() -> None:
            for connection in there:
                connection.cut(1001, "restart")

        asyncio.get_running_loop().call_later(float(command.get("after_s", 60.0)), throw_out)
        return len(there)

"""What the three venue servers share: accepting websockets, topics and subscribers, timers, REST, faults.

A venue's own protocol is a subclass that answers the hooks at the end. Everything runs in one event loop; nothing
here waits for a client.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final

import orjson
from aiohttp import WSMsgType, web

from liqmap.domain.enums import Venue
from liqmap.logs import fields
from liqmap.sim.venues.connection import Connection, text_frame
from liqmap.sim.venues.control import FaultControl
from liqmap.sim.venues.fault_actions import reply_to_refused
from liqmap.sim.venues.faults import EVERYTHING, Faults
from liqmap.sim.venues.feed import Feed, Message, Reply
from liqmap.sim.venues.tampering import Parcel, Tampering

log = logging.getLogger(__name__)

_BAD_ANSWERS: Final[Mapping[str, Reply]] = {
    "200_html": Reply(200, b"<html><body><h1>We will be back soon</h1></body></html>", "text/html"),
    "200_empty": Reply(200, b""),
    "200_truncated": Reply(200, b'{"code":"0","retCode":0,"data":[{"'),
    "200_nothing": Reply(200, b"{}"),
}
"""No refusals at all by their status, and no data either."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits that every venue has."""

    max_buffer_bytes: int = 4 * 1024 * 1024
    slow_after_s: float = 5.0
    """A client for which more than max_buffer_bytes wait this long is cut off."""
    max_client_bytes: int = 64 * 1024
    """A larger client message ends the connection (1009)."""
    timers_every_s: float = 0.1


class VenueServer:
    """One simulated venue on one listening socket. Call everything from its event loop."""

    venue: ClassVar[Venue]
    ws_paths: ClassVar[tuple[str, ...]]
    """aiohttp route patterns that take websockets."""

    def __init__(self, feed: Feed, faults: Faults, rules: Rules, now_ms: Callable[[], int]) -> None:
        self.feed = feed
        self.faults = faults
        self.rules = rules
        self._true_ms = now_ms
        self.connections: dict[int, Connection] = {}
        self.last_payload: dict[str, bytes] = {}
        """The latest message of each topic, from which faults make broken ones."""
        self.messages = 0
        self.notes: dict[str, object] = {}
        """What whoever drives the server wants its state to say (a capture: how far it is)."""
        self._subscribers: dict[str, dict[int, Connection]] = {}
        self._tampering = Tampering(faults)
        self._opened = 0
        self._runner: web.AppRunner | None = None
        self._timers: asyncio.Task[None] | None = None
        self.control = FaultControl(self)

    def now_ms(self) -> int:
        """The venue's clock, ms UTC: the true one but for a fault."""
        return self._true_ms() + self.faults.skew_ms

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self, listening: socket.socket) -> None:
        """Serve on an already listening socket, which stays the caller's to close."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/_sim/fault", self.control.post)
        app.router.add_get("/_sim/state", self.control.state)
        app.router.add_get("/_sim/book", self.control.book)
        for path in self.ws_paths:
            app.router.add_get(path, self._websocket)
        app.router.add_route("*", "/{path:.*}", self._rest)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.SockSite(self._runner, listening.dup()).start()
        self._timers = asyncio.create_task(self._run_timers())

    async def stop(self) -> None:
        """Reset every client and stop serving."""
        if self._timers is not None:
            self._timers.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timers
        for connection in list(self.connections.values()):
            connection.cut(None)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _run_timers(self) -> None:
        while True:
            await asyncio.sleep(self.rules.timers_every_s)
            now_s = self.now_s()
            self.control.end_due(now_s)
            self._deliver(self._tampering.due(now_s))
            for connection in list(self.connections.values()):
                connection.flush(now_s)
                self._cut_if_slow(connection, now_s)
                if not connection.half_open and not connection.closing:
                    self.due(connection, now_s)

    @staticmethod
    def now_s() -> float:
        """The event loop's clock."""
        return asyncio.get_running_loop().time()

    # --- data out -----------------------------------------------------------------------------------------------

    def publish(self, messages: Iterable[Message]) -> None:
        """Send each message to the subscribers of its topic; each is encoded once per form of envelope."""
        parcels = []
        for message in messages:
            self.messages += 1
            self.last_payload[message.topic] = message.payload
            parcels.append(Parcel(message))
        self._deliver(self._tampering.through(parcels, self.now_s()))

    def send(self, connection: Connection, messages: Iterable[Message]) -> None:
        """Send messages to one client only (snapshots on subscription)."""
        parcels = (Parcel(message, connection) for message in messages)
        self._deliver(self._tampering.through(parcels, self.now_s()))

    def release(self) -> None:
        """A fault that held messages back has ended: they go out in one burst."""
        self._deliver(self._tampering.released())

    def _deliver(self, parcels: Iterable[Parcel]) -> None:
        now_s = self.now_s()
        touched: dict[int, Connection] = {}
        for message, to in parcels:
            subscribers = self._subscribers.get(message.topic, {}) if to is None else {to.number: to}
            frames: dict[bool, bytes] = {}
            for connection in subscribers.values():
                if connection.half_open or not self.delivers(connection, message.topic):
                    continue
                frame = frames.get(connection.wrapped)
                if frame is None:
                    frame = frames[connection.wrapped] = text_frame(self.envelope(message, connection.wrapped))
                connection.queue(frame)
                touched[connection.number] = connection
        for connection in touched.values():
            connection.flush(now_s)
            self._cut_if_slow(connection, now_s)

    def send_raw(self, payload: bytes, topic: str) -> int:
        """Send bytes as they are to the connections that carry a topic of the pattern; how many got them."""
        receivers = self.carrying(topic)
        for connection in receivers:
            connection.say(payload, self.now_s())
        return len(receivers)

    def carrying(self, pattern: str) -> list[Connection]:
        """The connections that subscribed a topic of the pattern; of `*` all there are."""
        return [
            connection
            for connection in self.connections.values()
            if pattern == EVERYTHING or any(self.matches(pattern, topic) for topic in connection.topics)
        ]

    @staticmethod
    def matches(pattern: str, topic: str) -> bool:
        """Is it one of the topics that the pattern means?"""
        return fnmatchcase(topic, pattern)

    def set_rates(self) -> None:
        """Every connection delivers as fast as it may now."""
        fault = self.faults.of("trickle")
        for connection in self.connections.values():
            connection.set_rate(None if fault is None else fault.given["bytes_per_s"], self.now_s())

    def _cut_if_slow(self, connection: Connection, now_s: float) -> None:
        if connection.too_slow(self.rules.max_buffer_bytes, self.rules.slow_after_s, now_s):
            log.warning("slow client cut off", extra=fields(venue=self.venue.name, connection=connection.number))
            connection.cut(None)

    # --- subscriptions ------------------------------------------------------------------------------------------

    def subscribe(self, connection: Connection, topic: str) -> None:
        """Enter a subscription."""
        connection.topics[topic] = None
        if self.faults.of("half_open", topic) is not None:
            connection.half_open = True
        self._subscribers.setdefault(topic, {})[connection.number] = connection

    def unsubscribe(self, connection: Connection, topic: str) -> None:
        """Remove a subscription, if there is one."""
        connection.topics.pop(topic, None)
        subscribers = self._subscribers.get(topic, {})
        subscribers.pop(connection.number, None)
        if not subscribers:
            self._subscribers.pop(topic, None)

    def is_followed(self, topic: str) -> bool:
        """Has anybody subscribed this topic?"""
        return topic in self._subscribers

    # --- data in ------------------------------------------------------------------------------------------------

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await self._rest(request)
        transport = request.transport
        refusal = self._refusal(request)
        if refusal is not None or transport is None:
            return refusal or web.Response(status=503)
        socket_ = web.WebSocketResponse(
            autoping=False, autoclose=False, compress=False, max_msg_size=self.rules.max_client_bytes, timeout=0.5
        )
        try:
            await socket_.prepare(request)
        except ConnectionError:
            return web.Response(status=503)  # nobody is there to read it: the client gave up while it waited
        self._opened += 1
        connection = Connection(self._opened, request.path, False, transport, self.now_s())
        half_open, trickle = self.faults.of("half_open"), self.faults.of("trickle")
        connection.half_open = half_open is not None and half_open.topic == EVERYTHING
        connection.set_rate(None if trickle is None else trickle.given["bytes_per_s"], self.now_s())
        self.connections[connection.number] = connection
        try:
            self.opened(connection, request)
            await self._listen(connection, socket_)
        finally:
            for topic in list(connection.topics):
                self.unsubscribe(connection, topic)
            del self.connections[connection.number]
        return socket_

    def _refusal(self, request: web.Request) -> web.Response | None:
        fault = self.faults.of("refuse")
        if fault is None:
            reply = self.refuses(request)
            return None if reply is None else _response(reply)
        return self._struck(request, reply_to_refused(self, fault.given))

    def _struck(self, request: web.Request, reply: Reply | None) -> web.Response:
        """The answer of a fault; None resets the connection."""
        if reply is None and request.transport is not None:
            request.transport.abort()
        return web.Response(status=503) if reply is None else _response(reply, self.rest_headers())

    async def _listen(self, connection: Connection, socket_: web.WebSocketResponse) -> None:
        while not connection.closing:
            message = await socket_.receive()
            connection.heard_s = self.now_s()
            if connection.half_open:
                break
            if message.type is WSMsgType.TEXT:
                self.received(connection, message.data)
            elif message.type is WSMsgType.BINARY:
                self.received(connection, message.data.decode("utf-8", "replace"))
            elif message.type is WSMsgType.PING:
                connection.pong(bytes(message.data))
                self.heard_control_frame(connection)
            elif message.type is WSMsgType.PONG:
                connection.ponged(bytes(message.data))
                self.heard_control_frame(connection)
            else:
                break
        while connection.half_open and not connection.closing:
            # Nobody is there: whatever the client sends goes unread until it gives up.
            await asyncio.sleep(self.rules.timers_every_s)
        if not connection.closing:
            await socket_.close()

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info.get("path", request.path.lstrip("/"))
        slow = self.faults.rest_fault("rest_slow", path)
        if slow is not None:
            await asyncio.sleep(slow.given["latency_s"])
        fault = self.faults.rest_fault("rest", path)
        if fault is not None:
            return self._struck(request, reply_to_refused(self, fault.given))
        query = dict(request.query)
        reply = self.admit(path, query) or self.feed.answer(path, query, self.now_ms()) or self.no_such_path(path)
        return _response(reply, self.rest_headers())

    # --- what a venue answers for itself ------------------------------------------------------------------------

    def envelope(self, message: Message, wrapped: bool) -> bytes:
        """The text of a message for clients that asked for wrapped or for raw payloads."""
        return message.payload

    def delivers(self, connection: Connection, topic: str) -> bool:
        """Does this connection get the data of a topic it subscribed? (Binance's routes do not always.)"""
        return True

    def refuses(self, request: web.Request) -> Reply | None:
        """The HTTP answer to a handshake that the venue refuses, None to accept it."""
        return None

    def opened(self, connection: Connection, request: web.Request) -> None:
        """A handshake was completed."""

    def received(self, connection: Connection, text: str) -> None:
        """A client sent a text."""
        raise NotImplementedError

    def heard_control_frame(self, connection: Connection) -> None:
        """A client sent a protocol ping or pong."""

    def due(self, connection: Connection, now_s: float) -> None:
        """Time passed: ping, or throw out."""

    def admit(self, path: str, query: dict[str, str]) -> Reply | None:
        """Count a REST request against the limits; a reply when it is refused."""
        return None

    def rest_headers(self) -> dict[str, str]:
        """Headers of every REST answer."""
        return {}

    def no_such_path(self, path: str) -> Reply:
        """The answer to a request for nothing there is."""
        return Reply(404, b"<html><body><h1>404 Not Found</h1></body></html>", "text/html")

    def refusal_of(self, status: int) -> Reply:
        """A refusal of that HTTP status: with the venue's own body where it has one."""
        return self.refusal(str(status)) or Reply(status, b"<html><h1>Refused</h1></html>", "text/html")

    @property
    def refusals(self) -> tuple[str, ...]:
        """The names of all refusals."""
        return (*self.own_refusals(), *_BAD_ANSWERS)

    def refusal(self, name: str) -> Reply | None:
        """A refusal by name (`429`, `418`, `451`, `403_country` …) with the venue's real body; None: no such name."""
        return self.own_refusals().get(name) or _BAD_ANSWERS.get(name)

    def own_refusals(self) -> Mapping[str, Reply]:
        """The venue's refusals by name, as it would answer now (docs/exchanges.md, "Refusals")."""
        return {}

    def announce_restart(self) -> None:
        """Say that the server will go away soon, where the venue says so."""

    def state(self) -> dict[str, Any]:
        """What GET /_sim/state answers."""
        return {
            "venue": self.venue.name.lower(),
            "messages": self.messages,
            "opened": self._opened,
            "faults": [fault.words for fault in self.faults.on],
            **self.notes,
            "connections": [
                {
                    "number": connection.number,
                    "route": connection.route,
                    "topics": list(connection.topics),
                    "half_open": connection.half_open,
                    "frames_sent": connection.frames_sent,
                }
                for connection in self.connections.values()
            ],
        }


def _response(reply: Reply, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=reply.status,
        body=reply.body,
        content_type=reply.content_type,
        headers={**(headers or {}), **reply.headers},
    )


def parsed_object(text: str) -> dict[str, Any] | None:
    """The JSON object a client sent, None when it is anything else."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None

"""OKX V5 public socket on loopback: per-argument acknowledgements, text pings, limits (docs/exchanges.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from aiohttp import web

from liqmap.domain.enums import Venue
from liqmap.sim.venues.connection import Connection
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Feed, Reply, json_reply
from liqmap.sim.venues.server import Rules, VenueServer, parsed_object

INSTRUMENT_CHANNELS = (
    "trades",
    "mark-price",
    "open-interest",
    "funding-rate",
    "tickers",
    "books",
    "books5",
    "bbo-tbt",
    "price-limit",
)

USUAL_REQUESTS = 20
REQUESTS_PER_2_S = {
    "/api/v5/market/books": 40,
    "/api/v5/market/trades": 100,
    "/api/v5/rubik/stat/contracts/open-interest-history": 10,
    "/api/v5/rubik/": 5,
    "/api/v5/public/position-tiers": 10,
    "/api/v5/public/funding-rate-history": 10,
    "/api/v5/public/mark-price": 10,
}
"""What OKX allows of the endpoints that are not usual."""

LOGIN_CHANNELS = ("books-l2-tbt", "books50-l2-tbt")


def _code(number: str, text: str, status: int = 200) -> Reply:
    return json_reply({"code": number, "data": [], "msg": text}, status)


def _page(title: bytes) -> Reply:
    return Reply(403, b"<!DOCTYPE html><html><head><title>%b</title></head><body></body></html>" % title, "text/html")


REFUSALS: Mapping[str, Reply] = {
    "429": _code("50011", "Too Many Requests", 429),
    "50011": _code("50011", "Rate limit reached. Please refer to API documentation and throttle requests."),
    "50013": _code("50013", "Systems are busy. Please try again later."),
    "50001": _code("50001", "Service temporarily unavailable. Please try again later.", 503),
    "50051": _code("50051", "This service is not available in your region."),
    "503": _code("50001", "Service temporarily unavailable. Please try again later.", 503),
    "403": _page(b"Attention Required! | Cloudflare"),
    "403_waf": _page(b"Just a moment..."),
    "403_country": _code("50051", "This service is not available in your region.", 403),
}


@dataclass(frozen=True, slots=True)
class OkxRules(Rules):
    """Limits of the venue, smaller in tests."""

    idle_s: float = 30.0
    """Nothing pushed, or no subscription, for this long: closed with 4004."""
    operations_per_hour: int = 480
    requests_per_2_s: int = 20
    """Per endpoint of the usual kind; others have their share of it more or less."""


class OkxServer(VenueServer):
    """The swaps venue."""

    venue = Venue.OKX
    ws_paths: ClassVar[tuple[str, ...]] = ("/ws/v5/public", "/ws/v5/business")

    def __init__(self, feed: Feed, faults: Faults, now_ms: Callable[[], int], rules: OkxRules | None = None) -> None:
        self.limits = rules or OkxRules()
        super().__init__(feed, faults, self.limits, now_ms)
        self._requests_s: dict[str, list[float]] = {}

    # --- websocket ----------------------------------------------------------------------------------------------

    def opened(self, connection: Connection, request: web.Request) -> None:
        """Which of the two sockets this is decides what exists on it."""
        connection.route = request.path.rpartition("/")[2]

    def received(self, connection: Connection, text: str) -> None:
        """A bare `ping`, or an operation on a list of arguments."""
        if text == "ping":
            connection.say(b"pong", self.now_s())
            return
        request = parsed_object(text)
        operation = request.get("op") if request is not None else None
        arguments = request.get("args") if request is not None else None
        if request is None or operation not in ("subscribe", "unsubscribe") or not isinstance(arguments, list):
            self._error(connection, "60012", f"Invalid request: {text[:200]}", {})
            return
        connection.operations += 1
        if connection.operations > self.limits.operations_per_hour:
            self._error(connection, "60014", "Requests too frequent", request)
            return
        for argument in arguments:
            self._operate(connection, request, operation, argument)

    def _operate(self, connection: Connection, request: dict[str, Any], operation: str, argument: object) -> None:
        topic = self._topic(connection, argument)
        if isinstance(argument, dict) and argument.get("channel") in LOGIN_CHANNELS:
            text = "Your trading fee tier doesn't meet the requirement to access this channel"
            self._error(connection, "64003", text, request)
            return
        if topic is None:
            wrong = ",".join(f"{key}:{value}" for key, value in argument.items()) if isinstance(argument, dict) else ""
            wrong = wrong.removeprefix("channel:")
            text = (
                f"Wrong URL or channel:{wrong} doesn't exist. Please use the correct URL, channel and parameters "
                "referring to API document."
            )
            self._error(connection, "60018", text, request)
            return
        (self.subscribe if operation == "subscribe" else self.unsubscribe)(connection, topic)
        answer = {"event": operation, "arg": argument, "connId": _name(connection)}
        connection.say(orjson.dumps(_with_id(request, answer)), self.now_s())
        if operation == "subscribe":
            self.send(connection, self.feed.on_subscribe(topic, self.now_ms()))

    def _topic(self, connection: Connection, argument: object) -> str | None:
        """The topic of a subscription argument; None when the venue does not have it on this socket."""
        if not isinstance(argument, dict) or connection.route != "public":
            return None
        channel, name = argument.get("channel"), argument.get("instId")
        if channel == "liquidation-orders":
            kind = argument.get("instType")
            good = name is None and kind in ("SWAP", "FUTURES", "MARGIN", "OPTION")
            return f"{channel}/{kind}" if good else None
        if not isinstance(name, str):
            return None
        if channel == "index-tickers":
            return f"{channel}/{name}" if self.feed.lists(f"{name}-SWAP") else None
        return f"{channel}/{name}" if channel in INSTRUMENT_CHANNELS and self.feed.lists(name) else None

    def _error(self, connection: Connection, code: str, text: str, request: dict[str, Any]) -> None:
        answer = {"event": "error", "msg": text, "code": code, "connId": _name(connection)}
        connection.say(orjson.dumps(_with_id(request, answer)), self.now_s())

    def due(self, connection: Connection, now_s: float) -> None:
        """The 30 s rule."""
        idle_since_s = max(connection.pushed_s, connection.opened_s)
        if not connection.topics:
            idle_since_s = connection.opened_s
        if now_s - idle_since_s >= self.limits.idle_s:
            connection.cut(4004, "No data received in 30s.")

    def announce_restart(self) -> None:
        """Notice 64008, about 60 s before the server goes away."""
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        for connection in self.connections.values():
            body = {"event": "notice", "code": "64008", "msg": text, "connId": _name(connection)}
            connection.say(orjson.dumps(body), self.now_s())

    # --- REST ---------------------------------------------------------------------------------------------------

    def admit(self, path: str, query: dict[str, str]) -> Reply | None:
        """A budget per endpoint."""
        now_s = self.now_s()
        recent = [at for at in self._requests_s.get(path, []) if now_s - at < 2.0]
        self._requests_s[path] = [*recent, now_s]
        return self.refusal("429") if len(recent) >= self._allowed(path) else None

    def _allowed(self, path: str) -> int:
        usual = self.limits.requests_per_2_s
        own = next((limit for prefix, limit in REQUESTS_PER_2_S.items() if path.startswith(prefix)), USUAL_REQUESTS)
        return max(1, usual * own // USUAL_REQUESTS)

    def no_such_path(self, path: str) -> Reply:
        """The venue's answer to a path it does not have."""
        return json_reply({"code": "404", "data": [], "msg": "Invalid Path"}, 404)

    def own_refusals(self) -> Mapping[str, Reply]:
        """The code is a text, and comes with a 200 as often as not."""
        return REFUSALS


def _name(connection: Connection) -> str:
    return f"{0x439535F1 + connection.number:08x}"


def _with_id(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {"id": request["id"], **answer} if "id" in request else answer

"""Binance USD-M on loopback: routes, control messages, pings, limits and refusals (docs/exchanges.md).

What is on the wrong route is acknowledged and stays silent, and so do the market streams of the legacy paths: the
failure that cost others a week in 2026.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from aiohttp import web

from liqmap.domain.enums import Venue
from liqmap.sim.venues.connection import Connection
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Feed, Message, Reply, json_reply
from liqmap.sim.venues.server import Rules, VenueServer, parsed_object

PUBLIC_KINDS = ("bookTicker", "depth", "rpiDepth", "trade")
"""Streams of the /public route begin so after the @; everything else belongs to /market."""

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

WEIGHTS = {"/fapi/v1/exchangeInfo": 1, "/fapi/v1/aggTrades": 20}
DEPTH_WEIGHTS = {"5": 2, "10": 2, "20": 2, "50": 2, "100": 5, "500": 10, "1000": 20}
BARS_WEIGHTS = ((99, 1), (499, 2), (1000, 5), (math.inf, 10))
"""What so many bars cost at most."""

RESTRICTED = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you received this message "
    "in error."
)

TIMED_OUT = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."

FIREWALL = Reply(
    403,
    b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden</h1></center>\r\n"
    b"</body>\r\n</html>\r\n",
    "text/html",
)


@dataclass(frozen=True, slots=True)
class BinanceRules(Rules):
    """Limits of the venue, smaller in tests."""

    ping_every_s: float = 180.0
    pong_within_s: float = 600.0
    life_s: float = 86_400.0
    messages_per_s: int = 10
    streams: int = 1024
    weight_per_minute: int = 2400
    data_per_5_min: int = 1000
    """Requests to /futures/data."""
    funding_per_5_min: int = 500
    minute_s: float = 60.0
    refused_before_ban: int = 10
    """Requests after a 429 within the same minute that turn it into a 418."""
    ban_s: float = 120.0


class BinanceServer(VenueServer):
    """The USD-M futures venue."""

    venue = Venue.BINANCE
    ws_paths: ClassVar[tuple[str, ...]] = (
        "/ws",
        "/ws/{streams:.+}",
        "/stream",
        "/{route:market|public|private}/ws",
        "/{route:market|public|private}/ws/{streams:.+}",
        "/{route:market|public|private}/stream",
    )

    def __init__(
        self, feed: Feed, faults: Faults, now_ms: Callable[[], int], rules: BinanceRules | None = None
    ) -> None:
        self.limits = rules or BinanceRules()
        super().__init__(feed, faults, self.limits, now_ms)
        five_minutes_s = 5.0 * self.limits.minute_s
        self._accounts = {
            "weight": _Account(self.limits.weight_per_minute, self.limits.minute_s),
            "data": _Account(self.limits.data_per_5_min, five_minutes_s),
            "funding": _Account(self.limits.funding_per_5_min, five_minutes_s),
        }
        self._banned_until_ms = 0

    # --- websocket ----------------------------------------------------------------------------------------------

    def refuses(self, request: web.Request) -> Reply | None:
        """The private route needs a listen key, which nobody has here."""
        if request.match_info.get("route") == "private":
            return json_reply({"code": -1125, "msg": "This listenKey does not exist."}, 400)
        return None

    def opened(self, connection: Connection, request: web.Request) -> None:
        """Subscribe what the URL names."""
        connection.route = request.match_info.get("route") or "legacy"
        connection.wrapped = request.path.endswith("/stream")
        named = request.match_info.get("streams") or request.query.get("streams", "")
        for stream in [stream for stream in named.split("/") if stream][: self.limits.streams]:
            self.subscribe(connection, stream)

    def envelope(self, message: Message, wrapped: bool) -> bytes:
        """`{"stream": …, "data": …}` for combined connections."""
        if not wrapped:
            return message.payload
        return message.wrapped or b'{"stream":%b,"data":%b}' % (orjson.dumps(message.topic), message.payload)

    def delivers(self, connection: Connection, topic: str) -> bool:
        """Only the streams of its own route reach a connection; the legacy paths behave like /public."""
        public = topic.partition("@")[2].startswith(PUBLIC_KINDS) or topic == "!bookTicker"
        return public == (connection.route != "market")

    def received(self, connection: Connection, text: str) -> None:
        """A control message."""
        if not self._within_rate(connection):
            return
        request = parsed_object(text)
        if request is None:
            self._answer(connection, {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})
            return
        identity = request.get("id")
        fault = _fault(request)
        if fault is not None:
            self._answer(connection, {"code": 2, "msg": f"Invalid request: {fault}", "id": identity})
            return
        result = self._perform(connection, request["method"], request.get("params", []))
        if isinstance(result, _Refused):
            self._answer(connection, {"code": 2, "msg": f"Invalid request: {result.why}", "id": identity})
        else:
            self._answer(connection, {"result": result, "id": identity})

    def _perform(self, connection: Connection, method: str, params: list[Any]) -> Any:
        if method == "LIST_SUBSCRIPTIONS":
            return list(connection.topics)
        if method == "GET_PROPERTY":
            return connection.wrapped
        if method == "SET_PROPERTY":
            if len(params) != 2 or params[0] != "combined" or not isinstance(params[1], bool):
                return _Refused("invalid property")
            connection.wrapped = params[1]
            return None
        if method == "UNSUBSCRIBE":
            for stream in params:
                self.unsubscribe(connection, stream)
            return None
        if len(connection.topics.keys() | set(params)) > self.limits.streams:
            return _Refused(f"too many streams, the limit is {self.limits.streams}")
        for stream in params:
            self.subscribe(connection, stream)
            self.send(connection, self.feed.on_subscribe(stream, self.now_ms()))
        return None

    def _answer(self, connection: Connection, body: dict[str, Any]) -> None:
        connection.say(orjson.dumps(body), self.now_s())

    def heard_control_frame(self, connection: Connection) -> None:
        """Pings and pongs count towards the message rate."""
        self._within_rate(connection)

    def _within_rate(self, connection: Connection) -> bool:
        now_s = self.now_s()
        connection.recent_s = [at for at in connection.recent_s if now_s - at < 1.0]
        connection.recent_s.append(now_s)
        if len(connection.recent_s) > self.limits.messages_per_s:
            connection.cut(1008, "Too many requests")
            return False
        return True

    def due(self, connection: Connection, now_s: float) -> None:
        """Ping, and throw out who did not answer or has lived its time."""
        unanswered = connection.unanswered_since_s
        if unanswered is not None and now_s - unanswered >= self.limits.pong_within_s:
            connection.cut(1008, "Pong timeout")
        elif now_s - connection.opened_s >= self.limits.life_s:
            connection.cut(None)
        elif now_s - connection.pinged_s >= self.limits.ping_every_s and now_s - connection.opened_s > 0:
            connection.ping(str(self.now_ms()).encode(), now_s)

    # --- REST ---------------------------------------------------------------------------------------------------

    def admit(self, path: str, query: dict[str, str]) -> Reply | None:
        """Charge the request's weight; 429 above the budget, 418 for those who do not stop."""
        wall_ms, now_s = self.now_ms(), self.now_s()
        for account in self._accounts.values():
            account.begin_window(now_s)
        if wall_ms < self._banned_until_ms:
            return self._banned(self._banned_until_ms)
        name = _account_of(path)
        account = self._accounts[name]
        account.used += self._weight_of(path, query) if name == "weight" else 1
        if account.used <= account.limit:
            return None
        account.refused += 1
        if account.refused > self.limits.refused_before_ban:
            self._banned_until_ms = wall_ms + int(self.limits.ban_s * 1000)
            return self._banned(self._banned_until_ms)
        return self._too_many(math.ceil(account.per_s - now_s % account.per_s))

    @staticmethod
    def _weight_of(path: str, query: dict[str, str]) -> int:
        if path == "/fapi/v1/depth":
            return DEPTH_WEIGHTS.get(query.get("limit", "500"), 10)
        if path == "/fapi/v1/premiumIndex":
            return 1 if "symbol" in query else 10
        if path == "/fapi/v1/klines":
            limit = query.get("limit", "500")
            return next(weight for most, weight in BARS_WEIGHTS if not limit.isdigit() or int(limit) <= most)
        return WEIGHTS.get(path, 1)

    def rest_headers(self) -> dict[str, str]:
        """Every answer says how much of the minute's weight is used."""
        return {"X-MBX-USED-WEIGHT-1M": str(self._accounts["weight"].used)}

    def no_such_path(self, path: str) -> Reply:
        """The venue's answer to a path it does not have."""
        return json_reply({"code": -5000, "msg": f"Path {path}, Method GET is invalid"}, 404)

    def own_refusals(self) -> Mapping[str, Reply]:
        """Too fast, banned, the wrong country, the firewall, overload."""
        ban_ms = self.now_ms() + int(self.limits.ban_s * 1000)
        return {
            "429": self._too_many(7),
            "418": self._banned(ban_ms),
            "451": json_reply({"code": 0, "msg": RESTRICTED}, 451),
            "403": FIREWALL,
            "403_waf": FIREWALL,
            "503": json_reply({"code": -1008, "msg": "Server is currently overloaded with other requests."}, 503),
            "408": json_reply({"code": -1007, "msg": TIMED_OUT}, 408),
        }

    def _too_many(self, retry_after_s: int) -> Reply:
        text = (
            f"Too many requests; current limit of IP(127.0.0.1) is {self.limits.weight_per_minute} "
            "requests per minute. Please use the websocket for live updates to avoid polling the API."
        )
        body = orjson.dumps({"code": -1003, "msg": text})
        return Reply(429, body, headers={"Retry-After": str(max(1, retry_after_s))})

    def _banned(self, until_ms: int) -> Reply:
        text = (
            f"Way too many requests; IP(127.0.0.1) banned until {until_ms}. "
            "Please use the websocket for live updates to avoid bans."
        )
        retry_after_s = math.ceil((until_ms - self.now_ms()) / 1000)
        body = orjson.dumps({"code": -1003, "msg": text})
        return Reply(418, body, headers={"Retry-After": str(max(1, retry_after_s))})


@dataclass(frozen=True, slots=True)
class _Refused:
    why: str


@dataclass(slots=True)
class _Account:
    """One budget of one IP: `limit` in each window of `per_s` seconds."""

    limit: int
    per_s: float
    window: int = -1
    used: int = 0
    refused: int = 0

    def begin_window(self, now_s: float) -> None:
        """Forget what was spent when a new window has begun."""
        window = int(now_s // self.per_s)
        if window != self.window:
            self.window, self.used, self.refused = window, 0, 0


def _account_of(path: str) -> str:
    if path.startswith("/futures/data/"):
        return "data"
    return "funding" if path in ("/fapi/v1/fundingRate", "/fapi/v1/fundingInfo") else "weight"


def _fault(request: dict[str, Any]) -> str | None:
    identity = request.get("id")
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        return "request ID must be an unsigned integer"
    method = request.get("method")
    if method not in METHODS:
        allowed = ", ".join(f"`{name}`" for name in METHODS)
        return f"unknown variant `{method}`, expected one of {allowed} at line 1 column 2"
    params = request.get("params", [])
    if not isinstance(params, list):
        return "params must be an array"
    if method.endswith("SUBSCRIBE") and not all(isinstance(stream, str) and stream for stream in params):
        return "params must be an array of stream names"
    return None

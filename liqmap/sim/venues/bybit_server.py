"""Bybit V5 linear on loopback: subscriptions, pings, limits and refusals (docs/exchanges.md)."""

import uuid
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

TOPIC_KINDS = (
    "publicTrade",
    "allLiquidation",
    "tickers",
    "orderbook.1",
    "orderbook.50",
    "orderbook.200",
    "orderbook.1000",
    "orderbook.rpi",
)
KLINE_INTERVALS = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M")

COUNTRY = Reply(
    403,
    b"<!DOCTYPE HTML><HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD>"
    b"<BODY><H1>403 ERROR</H1><H2>The request could not be satisfied.</H2>"
    b"The Amazon CloudFront distribution is configured to block access from your country.</BODY></HTML>",
    "text/html",
)


@dataclass(frozen=True, slots=True)
class BybitRules(Rules):
    """Limits of the venue, smaller in tests."""

    silence_s: float = 600.0
    """A client that says nothing for this long is cut off."""
    args_characters: int = 21_000
    requests_per_5_s: int = 600
    ban_s: float = 600.0


class BybitServer(VenueServer):
    """The linear contracts venue."""

    venue = Venue.BYBIT
    ws_paths: ClassVar[tuple[str, ...]] = ("/v5/public/linear",)

    def __init__(self, feed: Feed, faults: Faults, now_ms: Callable[[], int], rules: BybitRules | None = None) -> None:
        self.limits = rules or BybitRules()
        super().__init__(feed, faults, self.limits, now_ms)
        self._connection_ids: dict[int, str] = {}
        self._requests_s: list[float] = []
        self._banned_until_s = 0.0

    # --- websocket ----------------------------------------------------------------------------------------------

    def opened(self, connection: Connection, request: web.Request) -> None:
        """Each connection has an id, which every acknowledgement repeats."""
        self._connection_ids = {
            number: name for number, name in self._connection_ids.items() if number in self.connections
        }
        self._connection_ids[connection.number] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"bybit{connection.number}"))

    def received(self, connection: Connection, text: str) -> None:
        """An operation: ping, subscribe, unsubscribe; anything else is an error."""
        request = parsed_object(text)
        operation = request.get("op") if request is not None else None
        if request is None or operation not in ("ping", "subscribe", "unsubscribe"):
            self._answer(connection, {}, str(operation or ""), False, "error:Invalid request")
            return
        if operation == "ping":
            self._answer(connection, request, "ping", True, "pong")
            return
        topics = request.get("args")
        if not isinstance(topics, list) or not topics or not all(isinstance(topic, str) for topic in topics):
            self._answer(connection, request, operation, False, "error:args is empty or not a list of topics")
        elif operation == "unsubscribe":
            for topic in topics:
                self.unsubscribe(connection, topic)
            self._answer(connection, request, operation, True, "")
        else:
            self._subscribe(connection, request, topics)

    def _subscribe(self, connection: Connection, request: dict[str, Any], topics: list[str]) -> None:
        """All or nothing (whether the venue keeps the good ones of a bad batch is not settled: the strict reading)."""
        fault = next(filter(None, (self._fault(topic) for topic in topics)), None)
        if sum(map(len, topics)) + sum(map(len, connection.topics)) > self.limits.args_characters:
            fault = f"error:args size is over {self.limits.args_characters}"
        repeated = next((topic for topic in topics if topic in connection.topics), None)
        if repeated is not None:
            fault = f"error:already subscribed,topic:{repeated}"
        if fault is not None:
            self._answer(connection, request, "subscribe", False, fault)
            return
        for topic in topics:
            self.subscribe(connection, topic)
            # A snapshot may well overtake the acknowledgement; here it always does.
            self.send(connection, self.feed.on_subscribe(topic, self.now_ms()))
        self._answer(connection, request, "subscribe", True, "")

    def _fault(self, topic: str) -> str | None:
        kind, _, name = topic.rpartition(".")
        head, _, interval = kind.partition(".")
        if kind not in TOPIC_KINDS and not (head == "kline" and interval in KLINE_INTERVALS):
            return f"error:handler not found,topic:{topic}"
        return None if self.feed.lists(name) else f"error:Invalid symbol :[{topic}]"

    def _answer(
        self, connection: Connection, request: dict[str, Any], operation: str, success: bool, text: str
    ) -> None:
        body = {
            "success": success,
            "ret_msg": text,
            "conn_id": self._connection_ids[connection.number],
            "req_id": request.get("req_id", ""),
            "op": operation,
        }
        connection.say(orjson.dumps(body), self.now_s())

    def due(self, connection: Connection, now_s: float) -> None:
        """Cut off who has been silent too long."""
        if now_s - connection.heard_s >= self.limits.silence_s:
            connection.cut(None)

    # --- REST ---------------------------------------------------------------------------------------------------

    def admit(self, path: str, query: dict[str, str]) -> Reply | None:
        """600 requests in 5 s, then a refusal of ten minutes."""
        now_s = self.now_s()
        self._requests_s = [at for at in self._requests_s if now_s - at < 5.0]
        self._requests_s.append(now_s)
        if len(self._requests_s) > self.limits.requests_per_5_s:
            self._banned_until_s = now_s + self.limits.ban_s
        return self.refusal("403_too_frequent") if now_s < self._banned_until_s else None

    def own_refusals(self) -> Mapping[str, Reply]:
        """Three kinds of 403 that mean three things; most errors come with a 200."""
        now_ms = self.now_ms()

        def code(number: int, text: str, status: int = 200) -> Reply:
            body = {"retCode": number, "retMsg": text, "result": {}, "retExtInfo": {}, "time": now_ms}
            return json_reply(body, status)

        limited = code(10006, "Too many visits. Exceeded the API Rate Limit.")
        headers = {"X-Bapi-Limit-Status": "0", "X-Bapi-Limit-Reset-Timestamp": str(now_ms + 2000), "X-Bapi-Limit": "10"}
        return {
            "403": COUNTRY,
            "403_country": COUNTRY,
            "403_json": code(10024, "Service is restricted in your region.", 403),
            "403_too_frequent": json_reply({"retCode": 10006, "retMsg": "access too frequent"}, 403),
            "429": code(10016, "System protection: request frequency is too high", 429),
            "10006": Reply(200, limited.body, headers=headers),
            "10009": code(10009, "Your IP is banned."),
            "10016": code(10016, "Server error."),
            "10024": code(10024, "Compliance rules triggered: the service is restricted in your region."),
            "503": Reply(503, b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>", "text/html"),
        }

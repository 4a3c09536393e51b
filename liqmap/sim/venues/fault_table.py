"""Every fault that a simulated venue can be given: its name, its parameters, a line of words, and what it does.

The help of `liqmapctl fault`, the checks of what is asked for and the table in docs/operations.md come from here.
Lasting faults stay until they are switched off, or for `for_s` seconds; the others happen once.
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from liqmap.sim.venues.faults import EVERYTHING, Switched, UnknownFault
from liqmap.sim.venues.feed import Reply

if TYPE_CHECKING:
    from liqmap.sim.venues.server import VenueServer

Given = Mapping[str, Any]
"""The parameters of one command, checked: those that have a value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that can be said about a fault. `default` None: there is none."""

    name: str
    words: str
    kind: type[str] | type[int] | type[float] = str
    default: str | int | float | None = None
    required: bool = False
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def value(self, fault: str, said: object) -> str | int | float:
        """What was said, as this parameter's kind. Raises UnknownFault with what is allowed."""
        try:
            if isinstance(said, bool) or not isinstance(said, str | int | float):
                raise ValueError
            value = self.kind(said)
            inside = isinstance(value, str) or (
                (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
            )
            if not inside or (self.choices and value not in self.choices) or value == "":
                raise ValueError
        except ValueError:
            raise UnknownFault(f"{fault}: {self.name} is {self.allowed}, not {said!r}") from None
        return value

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is str:
            return "a text"
        noun = "a whole number" if self.kind is int else "a number"
        low = "" if self.least is None else f" from {self.least:.12g}"
        return noun + low + ("" if self.most is None else f" to {self.most:.12g}")


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `check` raises UnknownFault for what this venue cannot do; `begin` does what switching on does not do
    by itself and says how many connections it reached; `end` is what is left to do when the fault ends."""

    name: str
    words: str
    parameters: tuple[Parameter, ...] = ()
    lasts: bool = True
    check: "Callable[[VenueServer, Given], object] | None" = None
    begin: "Callable[[VenueServer, Given], int] | None" = None
    end: "Callable[[VenueServer, Switched], None] | None" = None

    def given(self, command: Mapping[str, Any]) -> Given:
        """The parameters of a command, checked, with defaults. Raises UnknownFault with what is allowed."""
        known = {parameter.name: parameter for parameter in (*self.parameters, *((FOR_S,) if self.lasts else ()))}
        unknown = sorted(command.keys() - known.keys())
        if unknown:
            takes = ", ".join(known) or "no parameters"
            raise UnknownFault(f"{self.name}: no parameter is called {', '.join(unknown)}; it takes {takes}")
        given: dict[str, Any] = {}
        for name, parameter in known.items():
            if name in command:
                given[name] = parameter.value(self.name, command[name])
            elif parameter.required:
                raise UnknownFault(f"{self.name}: needs {name}, {parameter.words}")
            elif parameter.default is not None:
                given[name] = parameter.default
        return given


FOR_S: Final = Parameter("for_s", "seconds after which it ends by itself", float, least=0.001, most=86_400.0)
_TOPIC: Final = Parameter("topic", "pattern of the topics, as in a shell", default=EVERYTHING)
_SHARE: Final = Parameter("share", "share of the messages, 0 to 1", float, 1.0, least=0.0, most=1.0)
_COUNT: Final = Parameter("count", "how many messages of each topic", int, least=1)
_TIMES: Final = Parameter("times", "how many of its requests", int, least=1)
_PATH: Final = Parameter("path", "how the paths of the requests begin", default="/")

MALFORMED_KINDS: Final = (
    "truncated",
    "wrong_types",
    "blank_numbers",
    "bad_utf8",
    "not_json",
    "nested",
    "garbage",
)
_KIND: Final = Parameter("kind", "how they are broken", default="truncated", choices=MALFORMED_KINDS)

_NUMBER_TEXT: Final = re.compile(rb'"-?\d[\d.]*"')
_NESTING: Final = 5000


def broken(kind: str, payload: bytes) -> bytes:
    """A message as a venue should never send it; see MALFORMED_KINDS."""
    if kind == "truncated":
        return payload[: max(1, len(payload) // 2)]
    if kind == "wrong_types":
        return _NUMBER_TEXT.sub(b'"not a number"', payload)
    if kind == "blank_numbers":
        return _NUMBER_TEXT.sub(b'""', payload)
    if kind == "bad_utf8":
        return payload[:-1] + b',"\xff\xfe":1}'
    if kind == "not_json":
        return b"<html>502 Bad Gateway</html>"
    if kind == "nested":
        return b'{"data":' * _NESTING + b"1" + b"}" * _NESTING
    return random.Random(7).randbytes(64)


def _disconnect(server: "VenueServer", given: Given) -> int:
    code = given.get("code")
    there = server.carrying(given["topic"])
    for connection in there:
        # 1006 is what a client calls an end without a close frame: no server can send it.
        connection.cut(None if code in (None, 1006) else int(code), str(given.get("reason", "")))
    return len(there)


def _half_open(server: "VenueServer", given: Given) -> int:
    there = server.carrying(given["topic"])
    for connection in there:
        connection.half_open = True
    return len(there)


def _malformed(server: "VenueServer", given: Given) -> int:
    known = server.last_payload
    samples = [payload for topic, payload in known.items() if server.matches(given["topic"], topic)]
    text = broken(given["kind"], samples[-1] if samples else b'{"e":"x","ts":"1"}')
    return max(server.send_raw(text, given["topic"]) for _ in range(given["count"]))


def _oversized(server: "VenueServer", given: Given) -> int:
    head, tail = b'{"stream":"x","topic":"x","data":"', b'"}'
    text = head + b"A" * max(0, given["bytes"] - len(head) - len(tail)) + tail
    return max(server.send_raw(text, given["topic"]) for _ in range(given["count"]))


def _inject(server: "VenueServer", given: Given) -> int:
    return server.send_raw(given["text"].encode(), given["topic"])


def reply_to_refused(server: "VenueServer", given: Given) -> Reply | None:
    """What a refused handshake or request is answered now; None: the connection is reset. Raises UnknownFault."""
    kind = given.get("kind", "reset")
    if "status" in given:
        body = given.get("body")
        if body is None:
            return server.refusal_of(given["status"])
        return Reply(given["status"], body.encode(), given.get("content_type", "text/html"))
    if kind == "reset":
        return None
    reply = server.refusal(kind)
    if reply is None:
        venue, known = server.venue.name.lower(), ", ".join(("reset", *server.refusals))
        raise UnknownFault(f"{venue} has no refusal called {kind!r}; it has {known}")
    return reply


def _release(server: "VenueServer", _fault: Switched) -> None:
    server.release()


def _trickle(server: "VenueServer", _given: Given) -> int:
    server.set_rates()
    return len(server.connections)


def _untrickle(server: "VenueServer", _fault: Switched) -> None:
    server.set_rates()


def _restart(server: "VenueServer", given: Given) -> int:
    server.announce_restart()
    there = list(server.connections.values())

    def throw_out() -> None:
        for connection in there:
            connection.cut(1001, "restart")

    asyncio.get_running_loop().call_later(given["after_s"], throw_out)
    return len(there)


_REFUSAL: Final = (
    Parameter("kind", "a refusal of the venue by name (an unknown name is answered with the list)"),
    Parameter("status", "any HTTP status instead", int, least=200, most=599),
    Parameter("body", "with status: the body"),
    Parameter("content_type", "with status: the type of the body"),
)

_ROWS: Final = (
    Fault(
        "silent",
        "nothing of the topics is delivered, everything else looks alive",
        (Parameter("topic", _TOPIC.words, required=True),),
    ),
    Fault(
        "drop", "messages are lost, now and then", (_TOPIC, Parameter("share", _SHARE.words, float, 0.2, False, 0, 1))
    ),
    Fault(
        "gap",
        "the next messages of each topic are lost in a row: a hole in its sequence",
        (_TOPIC, Parameter("count", _COUNT.words, int, 1, least=1)),
    ),
    Fault("duplicate", "messages come twice", (_TOPIC, _SHARE, _COUNT)),
    Fault("reorder", "a message changes places with the next one of its topic", (_TOPIC, _SHARE, _COUNT), end=_release),
    Fault("corrupt", "messages arrive broken", (_TOPIC, _KIND, _SHARE, _COUNT)),
    Fault(
        "malformed",
        "broken messages between the good ones",
        (_TOPIC, _KIND, Parameter("count", "how many", int, 1, least=1, most=10_000)),
        lasts=False,
        begin=_malformed,
    ),
    Fault(
        "oversized",
        "huge messages between the good ones",
        (
            _TOPIC,
            Parameter("bytes", "size of each", int, 1 << 20, least=100, most=1 << 26),
            Parameter("count", "how many", int, 1, least=1, most=100),
        ),
        lasts=False,
        begin=_oversized,
    ),
    Fault(
        "inject",
        "a text of your own between the good ones",
        (Parameter("text", "the text", required=True), _TOPIC),
        lasts=False,
        begin=_inject,
    ),
    Fault("stall", "messages are held back, and delivered in one burst when the stall ends", (_TOPIC,), end=_release),
    Fault(
        "slow",
        "messages arrive late",
        (_TOPIC, Parameter("latency_s", "how late, in seconds", float, 2.0, least=0.01, most=600)),
        end=_release,
    ),
    Fault(
        "trickle",
        "every connection delivers so many bytes a second, in pieces of frames",
        (Parameter("bytes_per_s", "how many", int, 2000, least=100),),
        begin=_trickle,
        end=_untrickle,
    ),
    Fault(
        "half_open",
        "connections that carry the topics stay open, deliver nothing and answer nothing",
        (_TOPIC,),
        begin=_half_open,
    ),
    Fault(
        "disconnect",
        "connections that carry the topics are closed with that code; without one (or 1006) they are reset",
        (
            _TOPIC,
            Parameter("code", "of the close frame: 1000, 1001, 1008, 1009, 1011, 4004 …", int, least=1000, most=4999),
            Parameter("reason", "text of the close frame"),
        ),
        lasts=False,
        begin=_disconnect,
    ),
    Fault(
        "restart",
        "the venue announces that it will close (OKX: notice 64008), and closes with 1001",
        (Parameter("after_s", "seconds from the notice to the end", float, 60.0, least=0, most=3600),),
        lasts=False,
        begin=_restart,
    ),
    Fault(
        "refuse",
        "new websocket connections are refused with the venue's real answer, or reset",
        (Parameter("kind", f"reset, or {_REFUSAL[0].words}"), *_REFUSAL[1:]),
        check=reply_to_refused,
    ),
    Fault(
        "rest",
        "REST requests are refused with the venue's real answer",
        (_PATH, *_REFUSAL, _TIMES),
        check=reply_to_refused,
    ),
    Fault(
        "rest_slow",
        "answers to REST requests come late",
        (_PATH, Parameter("latency_s", "how late, in seconds", float, 15.0, least=0.01, most=600), _TIMES),
    ),
    Fault(
        "open_interest",
        "open interest keeps its value and its time, or is not told at all",
        (Parameter("state", "how", required=True, choices=("stale", "failing")),),
    ),
    Fault(
        "clock_skew",
        "the venue's clock is wrong: in every message and in the answer to the time",
        (
            Parameter(
                "ms", "how far it is ahead; negative: behind", int, required=True, least=-86_400_000, most=86_400_000
            ),
        ),
    ),
)

FAULTS: Final[Mapping[str, Fault]] = {row.name: row for row in _ROWS}
CLEAR: Final = "clear"


def fault_named(name: object) -> Fault:
    """The row of that name. Raises UnknownFault with all names."""
    row = FAULTS.get(name) if isinstance(name, str) else None
    if row is None:
        raise UnknownFault(f"no fault is called {name!r}; there are {', '.join(FAULTS)}, and {CLEAR}")
    return row


def described() -> list[dict[str, Any]]:
    """The table for people and scripts: JSON-ready rows."""
    return [
        {
            "fault": row.name,
            "words": row.words,
            "lasts": row.lasts,
            "parameters": [
                {
                    "name": parameter.name,
                    "words": parameter.words,
                    "allowed": parameter.allowed,
                    "default": parameter.default,
                    "required": parameter.required,
                }
                for parameter in (*row.parameters, *((FOR_S,) if row.lasts else ()))
            ],
        }
        for row in FAULTS.values()
    ]

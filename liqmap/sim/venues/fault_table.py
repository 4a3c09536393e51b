"""Every fault that a simulated venue can be given: its name, its parameters, a line of words, and what it does.

The help of `liqmapctl fault`, the checks of what is asked for and the table in docs/operations.md come from here.
Lasting faults stay until they are switched off, or for `for_s` seconds; the others happen once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from liqmap.sim.venues import fault_actions as actions
from liqmap.sim.venues.fault_parameters import FOR_S, Given, Parameter
from liqmap.sim.venues.faults import EVERYTHING, Switched, UnknownFault

if TYPE_CHECKING:
    from liqmap.sim.venues.server import VenueServer


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


_TOPIC: Final = Parameter("topic", "pattern of the topics, as in a shell", default=EVERYTHING)
_SHARE: Final = Parameter("share", "share of the messages, 0 to 1", float, 1.0, least=0.0, most=1.0)
_COUNT: Final = Parameter("count", "how many messages of each topic", int, least=1)
_TIMES: Final = Parameter("times", "how many of its requests", int, least=1)
_PATH: Final = Parameter("path", "how the paths of the requests begin", default="/")
_KIND: Final = Parameter("kind", "how they are broken", default="truncated", choices=actions.MALFORMED_KINDS)


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
    Fault(
        "reorder",
        "a message changes places with the next one of its topic",
        (_TOPIC, _SHARE, _COUNT),
        end=actions.release,
    ),
    Fault("corrupt", "messages arrive broken", (_TOPIC, _KIND, _SHARE, _COUNT)),
    Fault(
        "malformed",
        "broken messages between the good ones",
        (_TOPIC, _KIND, Parameter("count", "how many", int, 1, least=1, most=10_000)),
        lasts=False,
        begin=actions.malformed,
    ),
    Fault(
        "oversized",
        "huge messages between the good ones",
        (
            _TOPIC,
            Parameter("bytes", "size of each", int, 1 << 20, least=100, most=1 << 25),
            Parameter("count", "how many", int, 1, least=1, most=8),
        ),
        lasts=False,
        begin=actions.oversized,
    ),
    Fault(
        "inject",
        "a text of your own between the good ones",
        (Parameter("text", "the text", required=True), _TOPIC),
        lasts=False,
        begin=actions.inject,
    ),
    Fault(
        "stall",
        "messages are held back, and delivered in one burst when the stall ends",
        (_TOPIC,),
        end=actions.release,
    ),
    Fault(
        "slow",
        "messages arrive late",
        (_TOPIC, Parameter("latency_s", "how late, in seconds", float, 2.0, least=0.01, most=600)),
        end=actions.release,
    ),
    Fault(
        "trickle",
        "every connection delivers so many bytes a second, in pieces of frames",
        (Parameter("bytes_per_s", "how many", int, 2000, least=100),),
        begin=actions.trickle,
        end=actions.untrickle,
    ),
    Fault(
        "half_open",
        "connections that carry the topics stay open, deliver nothing and answer nothing",
        (_TOPIC,),
        begin=actions.half_open,
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
        begin=actions.disconnect,
    ),
    Fault(
        "restart",
        "the venue announces that it will close (OKX: notice 64008), and closes with 1001",
        (Parameter("after_s", "seconds from the notice to the end", float, 60.0, least=0, most=3600),),
        lasts=False,
        begin=actions.restart,
    ),
    Fault(
        "refuse",
        "new websocket connections are refused with the venue's real answer, or reset",
        (Parameter("kind", f"reset, or {_REFUSAL[0].words}"), *_REFUSAL[1:]),
        check=actions.reply_to_refused,
    ),
    Fault(
        "rest",
        "REST requests are refused with the venue's real answer",
        (_PATH, *_REFUSAL, _TIMES),
        check=actions.reply_to_refused,
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
        "stale_snapshot",
        "REST snapshots of order books are old: those of one moment for a while, as from a cache",
        (Parameter("period_s", "seconds between two new ones", float, 30.0, least=0.1, most=3600),),
        check=actions.books,
        begin=actions.stale_snapshot,
        end=actions.fresh_snapshot,
    ),
    Fault(
        "unlisted",
        "the venue does not list that contract yet: no data, no row in its list; when the fault ends it is listed",
        (Parameter("contract", "the venue's name of it", required=True),),
        check=actions.listed,
    ),
    Fault(
        "sequence_reset",
        "the numbers of the updates of order books are set back once, as after maintenance",
        lasts=False,
        check=actions.books,
        begin=actions.sequence_reset,
    ),
    Fault(
        "book_restart",
        "order books begin anew, with a snapshot in mid-stream where the stream brings snapshots",
        lasts=False,
        check=actions.books,
        begin=actions.book_restart,
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

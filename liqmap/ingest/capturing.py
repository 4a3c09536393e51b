"""What the router acts on, as lines of a capture: each message before it is handled, and the clocks of each turn.

Frames carry the engine time they are given; everything else the time it carries itself. So `offline`, with a clock
that says what the lines say, makes the same events again, outages and all.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from liqmap.config import Config
from liqmap.exchanges.adapter import PollPlan
from liqmap.ingest.handoff import BadFrames, Changed, Ended, Frames, Message, Opened, Polled, PollFailed
from liqmap.ingest.router import Router
from liqmap.store.capture_writer import CaptureWriter, FrameLine, payload


class Capturing:
    """The router's frame log. Owned by its thread."""

    def __init__(self, writer: CaptureWriter, router: Router) -> None:
        self._writer = writer
        self._router = router

    def configured(self, config: Config, seed: int, engine_ns: int, monotonic_ns: int) -> None:
        """From now on this configuration holds. `seed`: of what is drawn in the router's thread."""
        told = msgspec.to_builtins(config)
        self._writer.line(t="config", ns=engine_ns, mono=monotonic_ns, seed=seed, config=told)

    def took(self, message: Message, engine_ns: int) -> None:
        """This message is handled now."""
        if isinstance(message, Frames):
            at_ns = max(engine_ns, message.receive_ns)
            self._writer.frames_of(FrameLine(_connection(message), at_ns, message.messages, message.dropped))
            return
        for line in _LINES[type(message)](message, self._router):
            self._writer.line(**line)

    def turned(self, wall_ns: int, monotonic_ns: int) -> None:
        """What waited is handled; the clocks say this."""
        self._writer.turn(wall_ns, monotonic_ns)

    def ended(self, engine_ns: int) -> None:
        """The router stops."""
        self._writer.line(t="end", ns=engine_ns)


def _connection(message: Frames | BadFrames | Opened | Ended) -> str:
    return f"{message.source}#{message.connection}"


def _opened(message: Opened, router: Router) -> list[dict[str, Any]]:
    listener = router.listeners.get(message.source)
    line = {"t": "connect", "conn": _connection(message), "ns": message.at_ns}
    if listener is None:
        return [{**line, "addr": ""}]
    sent = [{**line, "t": "send", "data": text} for text in listener.plan.subscribe]
    return [{**line, "addr": listener.plan.url}, *sent]


def _ended(message: Ended, _router: Router) -> list[dict[str, Any]]:
    about = {"reason": message.reason, "gap": int(message.gap), "last": message.last}
    return [{"t": "close", "conn": _connection(message), "ns": message.at_ns, **about}]


def _changed(message: Changed, _router: Router) -> list[dict[str, Any]]:
    about = {"state": message.state.value, "reason": message.reason, "delay_s": message.delay_s}
    return [{"t": "state", "conn": message.source, "ns": message.at_ns, **about}]


def _bad(message: BadFrames, _router: Router) -> list[dict[str, Any]]:
    line = {"t": "bad", "conn": _connection(message), "ns": message.receive_ns}
    return [{**line, "why": bad.why, "size": bad.size, **payload(bad.sample)} for bad in message.bad]


def _polled(message: Polled, router: Router) -> list[dict[str, Any]]:
    asker = router.replies.askers.get(message.source)
    plan = message.plan or (asker.plan if asker is not None else None)
    line: dict[str, Any] = {
        "t": "http",
        "conn": message.source,
        "ns": message.receive_ns,
        "url": plan.url if plan else "",
    }
    line["asked"] = message.asked_ns
    return [{**line, **_asked_once(message.plan), **payload(message.body)}]


def _failed(message: PollFailed, _router: Router) -> list[dict[str, Any]]:
    about = {"reason": message.reason, "gap": int(message.gap), "delay_s": message.delay_s}
    return [{"t": "failed", "conn": message.source, "ns": message.at_ns, **about, **_asked_once(message.plan)}]


def _asked_once(plan: PollPlan | None) -> dict[str, Any]:
    return {} if plan is None else {"plan": msgspec.to_builtins(plan)}


_LINES: Final[dict[type, Callable[[Any, Router], list[dict[str, Any]]]]] = {
    Opened: _opened,
    Ended: _ended,
    Changed: _changed,
    BadFrames: _bad,
    Polled: _polled,
    PollFailed: _failed,
}

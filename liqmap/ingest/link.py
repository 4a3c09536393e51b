"""One websocket link: one connection's life is one function, `live`; `hold` begins the next one, for ever.

    connect → open → (data) up → … → ended → backoff → connect
                 └ no data in time ─────┘

A link listens and hands over; it decides nothing about what a frame means. What it must know about the meaning comes
back from the router as orders: that market data came (`Delivering`: the only thing that confirms a subscription, keeps
the link alive and, sustained, resets its backoff), that the venue is about to close (`Rotate`), that there is more or
less to listen to (`Replan`).

Any end that nobody asked for, whatever its close code, means: reconnect. A planned rotation opens the next connection
first and closes the old one when the new one delivers; the router removes what comes twice.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from liqmap.clock import Clock
from liqmap.config import IngestConfig
from liqmap.domain.enums import GapReason, Topic
from liqmap.exchanges.adapter import Adapter, LinkPlan, Refusal, RefusalKind
from liqmap.ingest.accounts import VenueAccount
from liqmap.ingest.backoff import Backoff
from liqmap.ingest.handoff import BadFrames, Changed, Ended, Frames, Handoff, LinkState, Opened, cargo_of
from liqmap.ingest.pace import Pace
from liqmap.ingest.transport import Connector, HandshakeRefused, Transport, TransportError
from liqmap.logs import fields

TURN_S: Final = 0.25
"""How long a link may sleep on its socket before it looks at its orders and its clock again."""

_ROTATION_TURN_S: Final = 0.02
_ROTATION_AGAIN_S: Final = 60.0
_NOTICED_AGAIN_S: Final = 5.0
"""A rotation that did not come about is tried again after this; when the venue said that it will close, sooner."""

_STAGGER_S: Final = 1.0
"""Links that wait for the same moment come spread over this."""

_ROTATION_JITTER: Final = 0.06
"""Rotate this share earlier at most, drawn per connection: links opened together must not rotate together."""

_TRADE_PATIENCE: Final = 4.0
"""A link that carries trades only is given this many times the probe timeout: small markets do rest."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivering:
    """Market data came on that connection."""

    connection: int


@dataclass(frozen=True, slots=True)
class Rotate:
    """That connection will end soon, or something on it stays silent: have another one before. Unless it is `closing`
    try once: who asks will ask again, and while a connection is made nobody reads from the one that stands."""

    connection: int
    reason: str
    closing: bool = True


@dataclass(frozen=True, slots=True)
class Replan:
    """Listen to this from now on; `texts` make the change on a connection that is open."""

    plan: LinkPlan
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Say these texts on that connection: an order book begins anew by a new subscription."""

    connection: int
    texts: tuple[str, ...]


Order = Delivering | Rotate | Replan | Say


def source_of(plan: LinkPlan) -> str:
    """The name of a link in messages, logs and the feeds board."""
    return f"{plan.venue.name.lower()}/{plan.name}"


@dataclass(slots=True)
class Link:
    """What one link is given. After the start only its own thread touches it; others use `orders` and `stop`."""

    plan: LinkPlan
    adapter: Adapter
    settings: IngestConfig
    clock: Clock
    connect: Connector
    handoff: Handoff
    account: VenueAccount
    draw: Callable[[], float]
    orders: "queue.SimpleQueue[Order]"
    stop: threading.Event
    connections: int = 0

    @property
    def source(self) -> str:
        """Its name."""
        return source_of(self.plan)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a life ended. `asked`: we wanted it."""

    reason: str
    gap: GapReason = GapReason.DISCONNECTED
    refusal: Refusal | None = None
    asked: bool = False


def hold(link: Link) -> None:
    """Keep the link until asked to stop. Never raises for what the world does."""
    backoff = Backoff(link.settings.backoff_first_s, link.settings.backoff_ceiling_s, link.draw)
    said = _Saying(link)
    while not link.stop.is_set():
        held_s, why = link.account.connect(link.clock.monotonic_ns())
        if held_s > 0:
            if why:
                said.change(LinkState.REFUSED, why, held_s)
            link.clock.wait(link.stop, held_s + link.draw() * _STAGGER_S)
            continue
        ending = live(link, backoff, said)
        if ending.asked:
            continue
        delay_s = _delay_s(link, backoff, ending.refusal)
        state = LinkState.REFUSED if ending.gap is GapReason.REFUSED else LinkState.BACKOFF
        said.change(state, ending.reason, delay_s)
        link.clock.wait(link.stop, delay_s)
    said.change(LinkState.STOPPED, "asked to stop")


def _delay_s(link: Link, backoff: Backoff, refusal: Refusal | None) -> float:
    """How long to wait after a failure. A refused handshake is the affair of every link of the venue."""
    delay_s = backoff.next_s(refusal)
    if refusal is not None:
        link.account.refused(refusal, link.clock.monotonic_ns(), delay_s, handshake=True)
    return delay_s


def live(link: Link, backoff: Backoff, said: "_Saying") -> Ending:
    """One connection's life, with the successor it may hand its work to."""
    said.change(LinkState.CONNECTING)
    try:
        socket = _Connection(link)
    except HandshakeRefused as error:
        return _refused(link, error)
    except TransportError as error:
        return Ending(str(error), GapReason.NOT_CONNECTED)
    link.account.served(handshake=True)
    said.change(LinkState.OPEN)
    successor: _Connection | None = None
    ending = Ending("asked to stop", GapReason.STOPPED, asked=True)
    try:
        while not link.stop.is_set():
            socket.turn(_ROTATION_TURN_S if successor else TURN_S)
            if successor is not None:
                successor = _served(successor)
            _obey(link, socket, successor)
            if socket.delivering:
                said.change(LinkState.UP)
                if socket.sustained():
                    backoff.reset()
            if successor is None and socket.rotation_due():
                successor = _successor_of(link, socket, backoff)
            elif successor is not None and (successor.delivering or successor.overdue()):
                socket, successor = _handed_over(socket, successor)
    except TransportError as error:
        ending = Ending(str(error))
    if successor is not None:
        successor.end(ending, last=False)
    socket.end(ending)
    return ending


class _Connection:
    """An open socket with its deadlines. Raises TransportError when it cannot be made. `beside`: another one of the
    link stands."""

    def __init__(self, link: Link, beside: bool = False) -> None:
        self.link = link
        self._transport: Transport = link.connect(link.plan.url)
        link.connections += 1
        self.number = link.connections
        self.delivering = self._once = False
        self._opened_ns = self._heard_ns = self._data_ns = self._spoke_ns = link.clock.monotonic_ns()
        self._first_data_ns = 0
        probes = {stream.topic for stream in link.plan.streams if not stream.quiet}
        self._probed = bool(probes)
        self._patience_s = link.settings.probe_timeout_s * (_TRADE_PATIENCE if probes == {Topic.TRADE} else 1.0)
        self._cargo = cargo_of(link.plan)
        self.rotate_reason = self._notice = self._wish = ""
        self._rotate_ns = self._planned_rotation(link)
        self._rotate_again_s = _ROTATION_AGAIN_S
        self._pace = Pace(link.adapter.limits)
        self._unsaid: deque[str] = deque()
        link.handoff.announce(Opened(link.source, self.number, link.clock.now_ns()))
        try:
            self.say(link.plan.subscribe)
        except TransportError as error:
            self.end(Ending(str(error)), last=not beside)
            raise

    def _planned_rotation(self, link: Link) -> int:
        if link.plan.rotate_after_s is None:
            return 0
        return self._opened_ns + int(link.plan.rotate_after_s * (1.0 - _ROTATION_JITTER * link.draw()) * 1e9)

    def turn(self, timeout_s: float) -> None:
        """Listen, hand over, keep alive. Raises TransportError, also when nothing came for too long."""
        link = self.link
        received = self._transport.receive(timeout_s)
        now_ns = link.clock.monotonic_ns()
        if received.messages:
            self._heard_ns = now_ns
            frames = Frames(link.source, self.number, received.receive_ns, received.messages)
            link.handoff.give(frames, self._cargo, received.full)
        if received.bad:
            link.handoff.give(BadFrames(link.source, self.number, received.receive_ns, received.bad), self._cargo)
        self._pace.answered(received.pongs, now_ns)
        ping = link.plan.ping
        if ping is not None and now_ns - self._spoke_ns >= link.plan.ping_every_s * 1e9:
            self._spoke_ns = now_ns
            if self._pace.may_say(ping, now_ns):
                self._transport.send(ping)
        self.say(())
        lively_ns = self._data_ns if self._probed else self._heard_ns
        if now_ns - lively_ns > self._patience_s * 1e9:
            what = "no market data" if self._probed else "nothing"
            raise TransportError(f"{what} for {self._patience_s:g} s")

    def delivered(self) -> None:
        """The router saw market data of this connection."""
        self._data_ns = self.link.clock.monotonic_ns()
        if not self.delivering:
            self.delivering = True
            self._first_data_ns = self._data_ns

    def sustained(self) -> bool:
        """Data has come for long enough to forget past failures."""
        return self.delivering and self._data_ns - self._first_data_ns >= self.link.settings.sustained_s * 1e9

    def rotation_due(self) -> bool:
        """It is time to open the next one."""
        now_ns = self.link.clock.monotonic_ns()
        if self._rotate_ns and now_ns >= self._rotate_ns:
            self.rotate_reason, self._once = self._notice or "planned rotation", False
            self._rotate_ns = now_ns + int(self._rotate_again_s * 1e9)
            return True
        self.rotate_reason, self._wish, self._once = self._wish, "", True
        return bool(self.rotate_reason)

    def rotate_now(self, order: Rotate) -> None:
        """The venue said that it will close, or another connection may bring what this one does not."""
        if order.closing:
            self._notice, self._rotate_again_s = order.reason, _NOTICED_AGAIN_S
            self._rotate_ns = self.link.clock.monotonic_ns()
        else:
            self._wish = order.reason

    def rotate_in(self, seconds: float, tried: bool) -> None:
        """It is not possible now."""
        if not self._once:
            self._rotate_ns = self.link.clock.monotonic_ns() + int(seconds * 1e9)
        elif not tried:
            self._wish = self.rotate_reason

    def overdue(self) -> bool:
        """As a successor: it should have delivered by now."""
        return self.link.clock.monotonic_ns() - self._opened_ns > self.link.settings.probe_timeout_s * 1e9

    def say(self, texts: Sequence[str]) -> None:
        """Say these, and what still waits, as fast as the venue allows. Raises TransportError."""
        self._unsaid.extend(texts)
        while self._unsaid and self._pace.may_say(self._unsaid[0], self.link.clock.monotonic_ns()):
            self._transport.send(self._unsaid.popleft())

    def end(self, ending: Ending, last: bool = True) -> None:
        """Close it and say so."""
        self._transport.close()
        link = self.link
        link.handoff.announce(Ended(link.source, self.number, link.clock.now_ns(), ending.reason, ending.gap, last))


def _served(successor: _Connection) -> _Connection | None:
    """A turn of the successor; None when it died young (the old connection goes on)."""
    try:
        successor.turn(_ROTATION_TURN_S)
    except TransportError as error:
        successor.end(Ending(str(error)), last=False)
        return None
    return successor


def _successor_of(link: Link, socket: _Connection, backoff: Backoff) -> _Connection | None:
    """Open the next connection beside this one; None (and a later try) when that fails, or may not be tried now."""
    held_s, _ = link.account.connect(link.clock.monotonic_ns())
    if held_s > 0:
        socket.rotate_in(held_s, tried=False)
        return None
    try:
        successor = _Connection(link, beside=True)
    except TransportError as error:
        log.warning("rotation failed", extra=fields(link=link.source, reason=str(error)))
        refusal = _refused(link, error).refusal if isinstance(error, HandshakeRefused) else None
        if refusal is not None:
            socket.rotate_in(max(_delay_s(link, backoff, refusal), _ROTATION_AGAIN_S), tried=True)
        return None
    link.account.served(handshake=True)
    log.info("rotating", extra=fields(link=link.source, reason=socket.rotate_reason))
    return successor


def _handed_over(socket: _Connection, successor: _Connection) -> tuple[_Connection, None]:
    """Which of the two lives on, once the successor delivers or is given up."""
    if successor.delivering:
        socket.end(Ending(socket.rotate_reason, asked=True), last=False)
        return successor, None
    successor.end(Ending("successor did not deliver"), last=False)
    return socket, None


def _obey(link: Link, socket: _Connection, successor: _Connection | None) -> None:
    """Carry out what the router said. Raises TransportError."""
    by_number = {connection.number: connection for connection in (socket, successor) if connection is not None}
    while True:
        try:
            order = link.orders.get_nowait()
        except queue.Empty:
            return
        if isinstance(order, Replan):
            link.plan = order.plan
            for connection in by_number.values():
                connection.say(order.texts)
            continue
        meant = by_number.get(order.connection)
        if meant is None:
            continue
        if isinstance(order, Delivering):
            meant.delivered()
        elif isinstance(order, Say):
            meant.say(order.texts)
        else:
            meant.rotate_now(order)


def _refused(link: Link, error: HandshakeRefused) -> Ending:
    refusal = link.adapter.classify_refusal(
        error.status, error.headers.get("content-type", ""), error.headers, error.body
    )
    if refusal is None or refusal.kind in (RefusalKind.OVERLOAD, RefusalKind.SHAPE):
        return Ending(str(error) if refusal is None else refusal.text, GapReason.NOT_CONNECTED, refusal)
    return Ending(refusal.text, GapReason.REFUSED, refusal)


class _Saying:
    """Says each change of state once: one log line, one announcement. The same failure again and again is said at
    the 1st, 2nd, 4th, 8th … time, with its count."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._state: LinkState | None = None
        self._failure = ""
        self._failures = 0

    def change(self, state: LinkState, reason: str = "", delay_s: float = 0.0) -> None:
        """The link is now in that state."""
        link = self._link
        if state is self._state and state in (LinkState.OPEN, LinkState.UP):
            return
        self._state = state
        link.handoff.announce(Changed(link.source, state, link.clock.now_ns(), reason, delay_s))
        told = {"venue": link.plan.venue.name.lower(), "link": link.plan.name, "state": state.value}
        if state in (LinkState.BACKOFF, LinkState.REFUSED):
            self._failures = self._failures + 1 if reason == self._failure else 1
            self._failure = reason
            if self._failures & (self._failures - 1) == 0:
                told |= {"reason": reason, "delay_s": f"{delay_s:.3f}", "times": str(self._failures)}
                log.warning("link", extra=fields(**told))
        elif state is LinkState.CONNECTING:
            log.debug("link", extra=fields(**told))
        else:
            if state is LinkState.UP:
                self._failure, self._failures = "", 0
            log.info("link", extra=fields(**told, **({"reason": reason} if reason else {})))

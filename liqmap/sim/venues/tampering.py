"""What faults do to messages on their way from the feed to the subscribers: lose, break, repeat, swap, hold back.

Messages to all subscribers of a topic and messages to one new subscriber (snapshots) take the same way, so that a
fault of a topic is a fault of its snapshots too, and nobody is overtaken by what comes later.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from liqmap.sim.venues.connection import Connection
from liqmap.sim.venues.fault_actions import broken
from liqmap.sim.venues.faults import Faults
from liqmap.sim.venues.feed import Message

_HELD_MESSAGES: Final = 100_000


class Parcel(NamedTuple):
    """One message and who gets it; None: all subscribers of its topic."""

    message: Message
    to: Connection | None = None


class Tampering:
    """The way of one venue's messages. Bounded: of what is held back too long the oldest is lost."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._stalled: deque[Parcel] = deque(maxlen=_HELD_MESSAGES)
        self._late: deque[tuple[float, Parcel]] = deque(maxlen=_HELD_MESSAGES)
        self._swapping: dict[tuple[str, int], Parcel] = {}

    def through(self, parcels: Iterable[Parcel], now_s: float) -> list[Parcel]:
        """What goes out now, in order."""
        if not self._faults.on and not self._late:
            return list(parcels)
        out: list[Parcel] = []
        for parcel in parcels:
            for copy in self._struck(parcel):
                if self._faults.of("stall", copy.message.topic) is not None:
                    self._stalled.append(copy)
                elif (slow := self._faults.of("slow", copy.message.topic)) is not None:
                    self._late.append((now_s + slow.given["latency_s"], copy))
                else:
                    out.append(copy)
        return out

    def due(self, now_s: float) -> list[Parcel]:
        """What was late and has arrived now."""
        out: list[Parcel] = []
        while self._late and self._late[0][0] <= now_s:
            out.append(self._late.popleft()[1])
        return out

    def released(self) -> list[Parcel]:
        """A fault has ended: what nothing holds back any more, in order."""
        out: list[Parcel] = []
        if not any(self._faults.named("reorder")):
            out += self._swapping.values()
            self._swapping.clear()
        if not any(self._faults.named("slow")):
            out += [parcel for _, parcel in self._late]
            self._late.clear()
        kept = [parcel for parcel in self._stalled if self._faults.of("stall", parcel.message.topic) is not None]
        out += [parcel for parcel in self._stalled if self._faults.of("stall", parcel.message.topic) is None]
        self._stalled.clear()
        self._stalled.extend(kept)
        return out

    def _struck(self, parcel: Parcel) -> list[Parcel]:
        """The parcel after what happens to single messages: none, one or several."""
        faults, topic = self._faults, parcel.message.topic
        if faults.of("silent", topic) is not None:
            return []
        if faults.strikes("drop", topic) is not None or faults.strikes("gap", topic) is not None:
            return []
        corrupt = faults.strikes("corrupt", topic)
        if corrupt is not None:
            message = Message(topic, broken(corrupt.given["kind"], parcel.message.payload))
            parcel = parcel._replace(message=message)
        copies = [parcel] * (1 if faults.strikes("duplicate", topic) is None else 2)
        return self._swapped(copies)

    def _swapped(self, copies: list[Parcel]) -> list[Parcel]:
        """Hold a message back until the next of its topic has passed it."""
        first = copies[0]
        place = (first.message.topic, 0 if first.to is None else first.to.number)
        waiting = self._swapping.pop(place, None)
        if waiting is not None:
            return [*copies, waiting]
        if self._faults.strikes("reorder", first.message.topic) is not None:
            self._swapping[place] = first
            return copies[1:]
        return copies

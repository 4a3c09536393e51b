"""Bytes of a websocket (RFC 6455) into messages: pure, cut-independent, and hard to hurt.

A frame that breaks the rules costs that frame: it is reported as a `BadFrame` and the reader goes on behind it, since
its length still says where the next one begins. A message larger than `max_frame_bytes` is never held in memory: its
bytes are counted and thrown away as they come. Only a length that nobody can mean (2^62 and more) cannot be stepped
over; it is reported as `FramingLost`, and nothing is read after it.

Receive buffers are the caller's: hand in as much as the socket gives. websocket-client's own reader asks the socket
twice per frame and copies each payload several times; this one is the reason why one core carries a cascade
(docs/decisions/0007).
"""

from dataclasses import dataclass
from typing import Final

_WHOLE: Final = (0x81, 0x82)
"""First byte of a text or binary message in one frame, no extension bits."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_CONTROL_LIMIT: Final = 125
_STEPPABLE: Final = 1 << 62
_SAMPLE: Final = 256


@dataclass(frozen=True, slots=True)
class FramingLost:
    """It can no longer be told where the next frame begins."""

    why: str


@dataclass(frozen=True, slots=True)
class BadFrame:
    """One frame that was thrown away: why, its beginning, and its full size."""

    why: str
    sample: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """An answer to a ping of ours."""


@dataclass(frozen=True, slots=True)
class Close:
    """The other side ends the connection; `code` 1005 when it gives none."""

    code: int
    reason: str


Notice = BadFrame | Ping | Pong | Close | FramingLost


class FrameReader:
    """Feed it what the socket gave; it returns whole messages and collects the rest in `notices`."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes
        self._pending = bytearray()
        self._need = 2
        self._skip = 0
        self._parts: list[bytes] | None = None
        self._parts_bytes = 0
        self._dropping = False
        self._lost = False
        self.notices: list[Notice] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The messages completed by `data`, in order."""
        if self._lost:
            return []
        if self._skip:
            data = self._step_over(data)
        if self._pending:
            self._pending += data
            if len(self._pending) < self._need:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        elif not data:
            return []
        messages: list[bytes] = []
        rest = self._cut(data, messages)
        if rest < len(data):
            self._pending += data[rest:]
        return messages

    def _cut(self, data: bytes, messages: list[bytes]) -> int:
        """Take frames off `data`; returns where the first incomplete one begins, and sets how much it needs."""
        at, end = 0, len(data)
        while end - at >= 2 and not self._lost:
            first, second = data[at], data[at + 1]
            body = at + 2
            length = second & 0x7F
            if length > 125:
                wide = 2 if length == 126 else 8
                if end - body < wide:
                    self._need = 2 + wide
                    return at
                length = int.from_bytes(data[body : body + wide], "big")
                body += wide
            if second & 0x80:
                body += 4
            if length > self._limit:
                at = self._refuse_large(first, data, body, length)
                continue
            if end - body < length:
                self._need = body - at + length
                return at
            payload = data[body : body + length]
            if second & 0x80:
                payload = _unmasked(payload, data[body - 4 : body])
            at = body + length
            if first in _WHOLE and self._parts is None and not self._dropping:
                messages.append(payload)
            else:
                self._uncommon(first, payload, messages)
        self._need = 2
        return at

    def _refuse_large(self, first: int, data: bytes, body: int, length: int) -> int:
        self._need = 2
        if length >= _STEPPABLE:
            self._lost = True
            self.notices.append(FramingLost(f"a frame claims {length} bytes"))
            return len(data)
        here = data[body : body + length]
        self._bad(f"frame of {length} bytes, more than {self._limit}", here, length)
        if first & 0x0F < _CLOSE:
            self._parts, self._dropping = None, not first & 0x80
        self._skip = length - len(here)
        return len(data) if self._skip else body + length

    def _step_over(self, data: bytes) -> bytes:
        stepped = min(self._skip, len(data))
        self._skip -= stepped
        return data[stepped:]

    def _uncommon(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        opcode, final = first & 0x0F, bool(first & 0x80)
        if first & 0x70:
            self._bad("extension bits that were not negotiated", payload, len(payload))
        elif opcode >= _CLOSE:
            self._control(opcode, final, payload)
        elif opcode > _BINARY:
            self._bad(f"opcode {opcode}", payload, len(payload))
        else:
            self._fragment(opcode, final, payload, messages)

    def _control(self, opcode: int, final: bool, payload: bytes) -> None:
        if not final or len(payload) > _CONTROL_LIMIT:
            self._bad("control frame in pieces or too long", payload, len(payload))
        elif opcode == _PING:
            self.notices.append(Ping(payload))
        elif opcode == _PONG:
            self.notices.append(Pong())
        elif opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.notices.append(Close(code, payload[2:].decode("utf-8", "replace")))
        else:
            self._bad(f"opcode {opcode}", payload, len(payload))

    def _fragment(self, opcode: int, final: bool, payload: bytes, messages: list[bytes]) -> None:
        """A piece of a message: begins it (text, binary), or goes on with it (continuation)."""
        if opcode != _CONTINUATION:
            if self._parts is not None:
                self._bad("a new message inside an unfinished one", b"".join(self._parts), self._parts_bytes)
            self._parts, self._parts_bytes, self._dropping = [], 0, False
        elif self._dropping:
            self._dropping = not final
            return
        elif self._parts is None:
            self._bad("a continuation of nothing", payload, len(payload))
            return
        self._parts.append(payload)
        self._parts_bytes += len(payload)
        if self._parts_bytes > self._limit:
            self._bad(f"message in pieces of more than {self._limit} bytes", self._parts[0], self._parts_bytes)
            self._parts, self._dropping = None, not final
        elif final:
            messages.append(b"".join(self._parts))
            self._parts = None

    def _bad(self, why: str, payload: bytes, size: int) -> None:
        self.notices.append(BadFrame(why, payload[:_SAMPLE], size))


def _unmasked(payload: bytes, key: bytes) -> bytes:
    """Servers must not mask, but a masked frame is still whole."""
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")

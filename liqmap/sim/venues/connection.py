"""One client of a venue server: what it subscribed, what waits to be written, and how it is thrown out.

Frames are written straight to the transport, never through a buffer of our own. A client that does not read has them
wait there: beyond a limit for some time, or beyond many times that limit at once, and it is cut off, as the venues do.
"""

import asyncio
from typing import Final

_FIN_TEXT = 0x81
_FIN_CLOSE = 0x88
_FIN_PING = 0x89
_FIN_PONG = 0x8A

HARD_LIMIT: Final = 16
"""Times the soft limit that may wait for a moment: a single oversized frame, a burst after a stall."""


class Connection:
    """One websocket, from the server's side. Times in seconds of the event loop's clock."""

    def __init__(self, number: int, route: str, wrapped: bool, transport: asyncio.Transport, now_s: float) -> None:
        self.number = number
        self.route = route
        self.wrapped = wrapped
        self.topics: dict[str, None] = {}
        self.half_open = False
        self.opened_s = now_s
        self.heard_s = now_s
        """When the client last sent anything."""
        self.pushed_s = now_s
        """When data was last written to it."""
        self.pinged_s = now_s
        self.unanswered_since_s: float | None = None
        self._ping_payload = b""
        self.recent_s: list[float] = []
        """When it sent its latest messages, for venues that limit their rate."""
        self.operations = 0
        self.frames_sent = 0
        self._transport = transport
        self._pending: list[bytes] = []
        self._full_since_s: float | None = None
        self._rate_bytes_s: int | None = None
        self._rated_s = now_s
        self._slow = bytearray()
        """What waits for its turn on a slow line; every byte goes through it in order."""

    @property
    def closing(self) -> bool:
        """Is the TCP connection gone, or going?"""
        return self._transport.is_closing()

    def queue(self, frame: bytes) -> None:
        """Have an encoded frame written by the next `flush`."""
        self._pending.append(frame)

    def flush(self, now_s: float) -> None:
        """Write what waits."""
        if self.closing:
            self._pending.clear()
            self._slow.clear()
            return
        if not self._slow:
            self._rated_s = now_s  # what a line did not carry while there was nothing to carry is not made up
        if self._pending:
            self.frames_sent += len(self._pending)
            self._write(b"".join(self._pending))
            self._pending.clear()
            self.pushed_s = now_s
        if self._slow:
            self._trickle(now_s)

    def set_rate(self, bytes_per_s: int | None, now_s: float) -> None:
        """From now on at most so many bytes a second reach the client; None: as fast as it reads."""
        self._rate_bytes_s, self._rated_s = bytes_per_s, now_s
        if bytes_per_s is None and self._slow:
            self._trickle(now_s)

    def _write(self, data: bytes) -> None:
        """Frames must not be cut into by others: while a slow line holds bytes, everything waits behind them."""
        if self._slow or self._rate_bytes_s is not None:
            self._slow += data
        else:
            self._transport.write(data)

    def _trickle(self, now_s: float) -> None:
        rate = self._rate_bytes_s
        size = len(self._slow) if rate is None else int((now_s - self._rated_s) * rate)
        if size > 0:
            self._rated_s = now_s
            self._transport.write(bytes(self._slow[:size]))
            del self._slow[:size]

    def too_slow(self, limit_bytes: int, for_s: float, now_s: float) -> bool:
        """Has more than `limit_bytes` waited for the client for `for_s`, or far more at this moment?"""
        waiting_bytes = self._transport.get_write_buffer_size() + len(self._slow)
        if waiting_bytes <= limit_bytes:
            self._full_since_s = None
            return False
        if self._full_since_s is None:
            self._full_since_s = now_s
        return waiting_bytes > HARD_LIMIT * limit_bytes or now_s - self._full_since_s >= for_s

    def say(self, text: bytes, now_s: float) -> None:
        """Send one text at once (acknowledgements, pongs, errors), after whatever waits."""
        if self.half_open or self.closing:
            return
        self._pending.append(text_frame(text))
        self.flush(now_s)

    def ping(self, payload: bytes, now_s: float) -> None:
        """Send a protocol ping and wait for its answer."""
        self.pinged_s = now_s
        self._ping_payload = payload
        if self.unanswered_since_s is None:
            self.unanswered_since_s = now_s
        if not self.half_open and not self.closing:
            self._write(ping_frame(payload))

    def ponged(self, payload: bytes) -> None:
        """The client sent a pong: an answer when it repeats the latest ping, else unsolicited, which is allowed."""
        if payload == self._ping_payload:
            self.unanswered_since_s = None

    def pong(self, payload: bytes) -> None:
        """Answer a protocol ping of the client."""
        if not self.half_open and not self.closing:
            self._write(pong_frame(payload))

    def cut(self, code: int | None, reason: str = "") -> None:
        """Throw the client out: with a close frame and an orderly end, or (None) by resetting the connection."""
        if self.closing:
            return
        if code is None or self._slow:  # a close frame in the middle of another frame would be none
            self._transport.abort()
            return
        self._transport.write(b"".join(self._pending) + close_frame(code, reason))
        self._pending.clear()
        self._transport.close()


def text_frame(payload: bytes) -> bytes:
    """One whole text message (RFC 6455 §5.2), unmasked, so that one encoding serves every subscriber.

    The payload is not checked: a hostile server does not either.
    """
    return _head(_FIN_TEXT, len(payload)) + payload


def ping_frame(payload: bytes) -> bytes:
    """A protocol ping."""
    return _head(_FIN_PING, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a protocol ping, with its payload."""
    return _head(_FIN_PONG, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what a control frame can carry (123 bytes)."""
    body = code.to_bytes(2, "big") + reason.encode()[:123]
    return _head(_FIN_CLOSE, len(body)) + body


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")

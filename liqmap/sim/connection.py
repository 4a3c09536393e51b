"""One client of a venue server: what it subscribed, what waits to be written, and how it is thrown out.

Frames are written straight to the transport, never through a buffer of our own: a client whose socket stays full
beyond the limit is cut off, as the venues do.
"""

import asyncio

from liqmap.sim.ws_frames import close_frame, ping_frame, pong_frame, text_frame


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

    @property
    def closing(self) -> bool:
        """Is the TCP connection gone, or going?"""
        return self._transport.is_closing()

    def queue(self, frame: bytes) -> None:
        """Have an encoded frame written by the next `flush`."""
        self._pending.append(frame)

    def flush(self, limit_bytes: int, now_s: float) -> bool:
        """Write what waits. False when the client does not read: more than `limit_bytes` stay in its buffer."""
        if not self._pending or self.closing:
            self._pending.clear()
            return True
        self.frames_sent += len(self._pending)
        self._transport.write(b"".join(self._pending))
        self._pending.clear()
        self.pushed_s = now_s
        return self._transport.get_write_buffer_size() <= limit_bytes

    def say(self, text: bytes, now_s: float) -> None:
        """Send one text at once (acknowledgements, pongs, errors), after whatever waits."""
        if self.half_open or self.closing:
            return
        self._pending.append(text_frame(text))
        self.flush(1 << 62, now_s)

    def ping(self, payload: bytes, now_s: float) -> None:
        """Send a protocol ping and wait for its answer."""
        self.pinged_s = now_s
        self._ping_payload = payload
        if self.unanswered_since_s is None:
            self.unanswered_since_s = now_s
        if not self.half_open and not self.closing:
            self._transport.write(ping_frame(payload))

    def ponged(self, payload: bytes) -> None:
        """The client sent a pong: an answer when it repeats the latest ping, else unsolicited, which is allowed."""
        if payload == self._ping_payload:
            self.unanswered_since_s = None

    def pong(self, payload: bytes) -> None:
        """Answer a protocol ping of the client."""
        if not self.half_open and not self.closing:
            self._transport.write(pong_frame(payload))

    def cut(self, code: int | None, reason: str = "") -> None:
        """Throw the client out: with a close frame and an orderly end, or (None) by resetting the connection."""
        if self.closing:
            return
        if code is None:
            self._transport.abort()
            return
        self._transport.write(b"".join(self._pending) + close_frame(code, reason))
        self._pending.clear()
        self._transport.close()

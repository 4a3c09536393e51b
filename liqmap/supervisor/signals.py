"""Signals become numbers in a queue: the handlers do nothing else, the loop takes them when it is ready.

The interpreter itself writes each number into a socket pair (signal.set_wakeup_fd), so that the loop's select wakes.
"""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


class SignalQueue:
    """The signals that have arrived. `fileno` is readable when there are some."""

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader

    def fileno(self) -> int:
        """For select."""
        return self._reader.fileno()

    def take(self) -> list[signal.Signals]:
        """All that arrived since the last call, in order. Never blocks."""
        numbers = bytearray()
        while True:
            try:
                chunk = self._reader.recv(4096)
            except BlockingIOError:
                break
            numbers += chunk
        return [signal.Signals(number) for number in numbers]


@contextmanager
def signal_queue() -> Iterator[SignalQueue]:
    """Queue the HANDLED signals while inside; main thread only. Puts everything back afterwards."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    before = {number: signal.signal(number, _enqueued) for number in HANDLED}
    wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield SignalQueue(reader)
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def _enqueued(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the number already stands in the queue."""

"""The supervisor's line to the process that plays the venues: by it an operator switches faults on and off.

Nothing here waits. A question goes out as one line; its answer, or the news of which faults are on, is taken when it
has come. A line that breaks (the process died) is refused to who asked, and made anew when the process runs again.
"""

import itertools
import json
import logging
import selectors
import socket
from pathlib import Path
from typing import Any, Final

from liqmap.supervisor.control import Outcome, reachable, refusal

log = logging.getLogger(__name__)

PATIENCE_NS: Final = 10_000_000_000
MAX_LINE_BYTES: Final = 1024 * 1024
_AGAIN_NS: Final = 500_000_000


class VenueLine:
    """One connection to the console of the simulated venues, which listens on `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._selector: selectors.BaseSelector | None = None
        self._socket: socket.socket | None = None
        self._incoming = bytearray()
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any] | None] = {}
        self._tried_ns = 0
        self.on: tuple[str, ...] = ()
        """The faults that are on, in words: `binance silent *@aggTrade`."""

    def use(self, selector: selectors.BaseSelector) -> None:
        """Be woken by this selector."""
        self._selector = selector

    def turn(self, ready: list[tuple[object, int]], running: bool, now_ns: int) -> None:
        """Take what has come; hold the line while the process is `running`."""
        if any(data is self for data, _ in ready):
            self._receive()
        if not running:
            self.close()
        elif self._socket is None and now_ns - self._tried_ns >= _AGAIN_NS:
            self._tried_ns = now_ns
            self._connect()

    def ask(self, question: dict[str, Any], now_ns: int) -> int:
        """Send a question; the number by which `outcome` knows it. One that cannot be sent is answered at once."""
        number = next(self._numbers)
        self._answers[number] = None
        if self._socket is None:
            self._tried_ns = now_ns
            self._connect()
        line = json.dumps({"id": number, **question}).encode() + b"\n"
        if self._socket is not None:
            try:
                if self._socket.send(line) != len(line):
                    raise BlockingIOError("the line is full")
            except OSError as error:
                log.warning("the simulated venues cannot be asked: %s", error)
                self.close()
        if self._socket is None:
            self._answers[number] = refusal("the simulated venues cannot be reached; see liqmapctl status")
        return number

    def outcome(self, number: int, asked_ns: int, now_ns: int) -> Outcome:
        """The answer; None while it may still come."""
        answer = self._answers.get(number)
        if answer is None and now_ns - asked_ns > PATIENCE_NS:
            answer = refusal(f"the simulated venues did not answer within {PATIENCE_NS / 1e9:g} s")
        if answer is not None:
            self._answers.pop(number, None)
        return answer

    def close(self) -> None:
        """Hang up: who waits for an answer is told that none comes."""
        if self._socket is None:
            return
        if self._selector is not None:
            self._selector.unregister(self._socket)
        self._socket.close()
        self._socket = None
        self._incoming.clear()
        self.on = ()
        for number, answer in self._answers.items():
            if answer is None:
                self._answers[number] = refusal("the simulated venues hung up before they answered")

    def _connect(self) -> None:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with reachable(self._path) as address:
                line.connect(address)
        except OSError as error:
            line.close()
            log.warning("the simulated venues cannot be reached: %s", error.strerror)
            return
        self._socket = line
        if self._selector is not None:
            self._selector.register(line, selectors.EVENT_READ, self)

    def _receive(self) -> None:
        if self._socket is None:
            return
        try:
            chunk = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self._incoming += chunk
        if not chunk or len(self._incoming) > MAX_LINE_BYTES:
            self.close()
            return
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            self._take(json.loads(line))

    def _take(self, said: dict[str, Any]) -> None:
        if "on" in said:
            self.on = tuple(said["on"])
        number = said.pop("id", None)
        if number in self._answers:
            self._answers[number] = said

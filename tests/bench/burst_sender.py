"""Sends a storm by the clock, with the manners of a venue: `python -m tests.bench.burst_sender FRAMES_PER_S SECONDS`.

0 frames a second: as many as the sockets take. What a socket does not take waits here; a client for whom more than
BUFFER_BYTES wait for CUT_AFTER_S is cut off. At the end one line of JSON says what went out on each link.
"""

import json
import socket
import sys
import time
from dataclasses import dataclass, field

from tests.bench.cascade import Sent, cascade
from tests.bench.sender import framed, greeted

STEP_S = 0.01
BUFFER_BYTES = 1 << 20
CUT_AFTER_S = 2.0
DEAR_SHARE = 20
"""One frame in so many is a fact or depth, in the proportions of a cascade; the rest of a storm is trades."""
BUNDLE = 50
"""Trades that are due together."""
DEAR_FRAMES = 40_000
"""Different ones, so many are ready."""


Bundle = list[tuple[str, bytes, int]]
"""Link, its bytes and frames."""


def dear() -> list[Sent]:
    """Facts and depth of a long cascade: every frame is another one."""
    return [sent for sent in cascade(12 * DEAR_FRAMES // 2) if sent.link != "trades"][:DEAR_FRAMES]


def tape() -> list[Bundle]:
    """Trades, to be sent again and again: bundles of each link's share, so that the sender keeps up with the storm."""
    trades = [sent for sent in cascade(40_000) if sent.link == "trades"]
    bundles = []
    for at in range(0, len(trades) - BUNDLE + 1, BUNDLE):
        shares: dict[str, list[bytes]] = {}
        for sent in trades[at : at + BUNDLE]:
            shares.setdefault(sent.source, []).append(framed(sent.raw))
        bundles.append([(source, b"".join(frames), len(frames)) for source, frames in shares.items()])
    return bundles


@dataclass
class Client:
    """One link: what waits for it, and since when too much."""

    here: socket.socket
    waiting: bytearray = field(default_factory=bytearray)
    frames: int = 0
    full_since_s: float = 0.0
    cut: bool = False

    def push(self, now_s: float) -> None:
        """Send what the socket takes, and look at the rest as a venue does."""
        if self.cut:
            return
        try:
            while self.waiting and (taken := self.here.send(memoryview(self.waiting)[: 1 << 18].tobytes())):
                del self.waiting[:taken]
        except BlockingIOError:
            pass
        if len(self.waiting) <= BUFFER_BYTES:
            self.full_since_s = now_s
        elif now_s - self.full_since_s > CUT_AFTER_S:
            self.cut = True
            self.here.close()


def main() -> None:
    """Serve once."""
    rate, seconds = float(sys.argv[1]), float(sys.argv[2])
    dears, tapes = [(sent.source, framed(sent.raw)) for sent in dear()], tape()
    sources = {source for source, _ in dears} | {source for bundle in tapes for source, _, _ in bundle}
    clients = _accepted(len(sources))
    began_s = now_s = time.monotonic()
    due, offered, dear_at, tape_at = 0.0, 0, 0, 0
    while now_s - began_s < seconds:
        due += STEP_S * rate if rate else 4000
        until = int(due)
        for _ in range((until - offered) // DEAR_SHARE):
            source, raw = dears[dear_at % len(dears)]
            dear_at, offered = dear_at + 1, offered + 1
            if dear_at <= len(dears):
                _queue(clients[source], raw, 1)
        while offered < until:
            for source, raw, frames in tapes[tape_at % len(tapes)]:
                if rate or len(clients[source].waiting) < BUFFER_BYTES // 2:
                    _queue(clients[source], raw, frames)
            tape_at, offered = tape_at + 1, offered + BUNDLE
        for client in clients.values():
            client.push(now_s)
        now_s = time.monotonic()
        if rate:
            time.sleep(max(0.0, began_s + offered / rate - now_s))
            now_s = time.monotonic()
    ends_s = now_s + 10.0
    while any(client.waiting and not client.cut for client in clients.values()) and now_s < ends_s:
        for client in clients.values():
            client.push(now_s)
        time.sleep(STEP_S)
        now_s = time.monotonic()
    report = {source: [client.frames, client.cut] for source, client in clients.items()}
    sys.stdout.write(json.dumps({"links": report, "seconds": now_s - began_s}) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for client in clients.values():
        client.here.close()


def _accepted(count: int) -> dict[str, Client]:
    """So many links, after the port was said."""
    clients: dict[str, Client] = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        while len(clients) < count:
            here, _ = listening.accept()
            clients[greeted(here)] = Client(here)
            here.setblocking(False)
    return clients


def _queue(client: Client, raw: bytes, frames: int) -> None:
    if not client.cut:
        client.waiting += raw
        client.frames += frames


if __name__ == "__main__":
    main()

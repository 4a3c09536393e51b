"""A day of order books at full width, three symbols: what it takes, and that it takes no more at the end of the day.

`python -m tests.sim.test_books_day` prints the figures that docs/operations.md tells.
"""

import ctypes
import gc
import os
import secrets
from pathlib import Path

import numpy as np
import pytest

from liqmap.client import Client, Prices
from liqmap.config import Config, parse
from liqmap.shm.plan import create_all, segments_of
from liqmap.worker.books import OrderBooks
from tests.books_stage import SECOND_NS, DepthStage

FRAMES_A_DAY = 2880
BEGIN_NS = 1_700_000_010 * SECOND_NS
LOOKS = (60, 960, 1440, 1920, 2400, 2880)
"""When memory is looked at. From 960 on all rows are in use, and readers have asked for all of them."""
SAMPLES = 20
ALLOWED_GROWTH_KB = 8 * 1024
MIDS = {"BTC": 204_800.0, "ETH": 10_240.0, "SOL": 1_024.0}
"""At these prices the books are some 1,950 cells wide: with a window that moves, about what the arrays hold."""


def memory_kb() -> dict[str, int]:
    """This process: private pages, and pages of shared memory it has touched."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) for name in ("VmRSS", "RssAnon", "RssShmem")}


def _give_back() -> None:
    """What was freed goes back to the system: libc keeps it at will, and this is about what is in use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def shared_bytes(config: Config) -> dict[str, int]:
    """Bytes below /dev/shm, by role, of all symbols together."""
    sizes: dict[str, int] = {}
    for plan in segments_of(config):
        size = (Path("/dev/shm") / plan.name).stat().st_blocks * 512
        sizes[plan.role.value] = sizes.get(plan.role.value, 0) + size
    return sizes


def day(frames: int) -> dict[str, dict[str, int]]:
    """Live through so many frames; memory before, on the way, and after."""
    config = parse(
        {
            "daemon": {"instance": f"t{os.getpid()}{secrets.token_hex(3)}"},
            "ingest": {"ring_events": 1024},
            "history": {"minute_columns": 8, "recent_liquidations": 256},
        }
    )
    holding = create_all(config)
    try:
        with Client(config.daemon.instance) as client:
            return _lived(config, client, frames)
    finally:
        holding.retire_all()


def _lived(config: Config, client: Client, frames: int) -> dict[str, dict[str, int]]:
    told = {"before": memory_kb(), "shared before": shared_bytes(config)}
    books = {symbol: OrderBooks(config, symbol) for symbol in MIDS}
    depth = {symbol: DepthStage(config, symbol) for symbol in MIDS}
    rng = np.random.default_rng(11)
    walk = {symbol: mid * np.exp(np.cumsum(rng.normal(0, 2e-4, frames + 1))) for symbol, mid in MIDS.items()}
    for frame in range(frames + 1):
        for symbol in MIDS:
            for number in range(SAMPLES if frame < frames else 1):
                at_ns = BEGIN_NS + (frame * 30 + number * 1.5) * SECOND_NS
                depth[symbol].publish(int(at_ns), float(walk[symbol][frame]), range_pct=9.5)
                books[symbol].turn(-1)
        _ask(client, frame)
        if frame in LOOKS:
            _give_back()
            told[f"{frame} frames"] = memory_kb()
    told["shared after"] = shared_bytes(config)
    rows = {symbol: len(depth[symbol].rows()) for symbol in MIDS}
    assert rows == dict.fromkeys(MIDS, min(frames, config.depth.frames))
    assert books["BTC"].passed_over == 0
    return told


def _ask(client: Client, frame: int) -> None:
    """What a reader asks for: each frame, now and then an hour and all there is."""
    for symbol in MIDS:
        if frame:
            assert client.books.frame(symbol, Prices(range_pct=10)).columns.bid_usd.shape[0] == 1
            client.books.standing(symbol)
        if frame % 20 == 19:
            client.books.history(symbol, 60, Prices(range_pct=10))
        if frame % 240 == 239:
            client.books.history(symbol, 1440, Prices(range_pct=10), stride=4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_day_of_order_books_takes_no_more_at_its_end_than_at_its_beginning() -> None:
    told = day(FRAMES_A_DAY)
    assert told["shared before"] == told["shared after"]
    private = [told[f"{frame} frames"]["RssAnon"] for frame in LOOKS if frame > 960]
    assert max(private) - private[0] < ALLOWED_GROWTH_KB, told


def test_an_hour_of_order_books_lives_in_what_was_backed_at_the_start() -> None:
    told = day(12)
    assert told["shared before"] == told["shared after"]


if __name__ == "__main__":
    for name, figures in day(FRAMES_A_DAY).items():
        os.write(1, f"{name}: {figures}\n".encode())

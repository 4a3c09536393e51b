"""Threads that take turns on a clock of their own: a whole ingest, and what happens to it, the same for every seed.

Every thread that listens is a strand: it runs when it is its turn, until it waits for something (its socket, the clock,
another strand), and nobody else runs meanwhile. Time passes only between the turns.
"""

import random
import threading

from liqmap.clock import ManualClock


class Strands(ManualClock):
    """The clock, and the strands that wait on it."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self._draw = draw
        self._alive: dict[threading.Thread, _Strand] = {}

    def start(self, thread: threading.Thread) -> None:
        """Start it as a strand; others that join it wait for it as strands do."""
        strand = self._alive[thread] = _Strand(thread)
        run = thread.run

        def runs() -> None:
            strand.go.acquire()
            try:
                run()
            finally:
                strand.done = True
                strand.rests.release()

        def joins(_timeout: float | None = None) -> None:
            while not strand.done:
                self.pause(0.25)

        thread.run = runs  # type: ignore[method-assign]
        setattr(thread, "join", joins)  # noqa: B010 - the type checker knows another name of its argument
        thread.start()

    def pause(self, seconds: float) -> None:
        """The strand that says this rests for so long."""
        strand = self._alive[threading.current_thread()]
        strand.wakes_ns = self.monotonic_ns() + int(seconds * 1e9)
        strand.rests.release()
        strand.go.acquire()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """In slices: who is asked to stop hears of it at once."""
        left_s = timeout_s
        while left_s > 0 and not event.is_set():
            self.pause(min(left_s, 1.0))
            left_s -= 1.0
        return event.is_set()

    def step(self, seconds: float) -> None:
        """Time passes, and every strand whose time has come has its turn, in any order."""
        self.advance(seconds)
        strands = list(self._alive.items())
        self._draw.shuffle(strands)
        for thread, strand in strands:
            if strand.wakes_ns <= self.monotonic_ns():
                strand.go.release()
                assert strand.rests.acquire(timeout=20.0), f"{thread.name} neither waits nor ends"
            if strand.done:
                threading.Thread.join(thread)
                del self._alive[thread]

    @property
    def idle(self) -> bool:
        """Every strand has ended."""
        return not self._alive


class _Strand:
    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        self.go = threading.Semaphore(0)
        self.rests = threading.Semaphore(0)
        self.wakes_ns = 0
        self.done = False

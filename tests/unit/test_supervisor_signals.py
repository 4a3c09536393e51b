"""Signals are queued, in order, and wake a select."""

import os
import select
import signal

from liqmap.supervisor.signals import signal_queue


def test_signals_are_queued_in_order_and_handlers_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signal_queue() as queue:
        assert queue.take() == []
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
            assert select.select([queue], [], [], 20)[0]
        assert queue.take() == [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1]
        assert queue.take() == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_flood_of_signals_never_blocks() -> None:
    with signal_queue() as queue:
        for _ in range(5000):
            signal.raise_signal(signal.SIGCHLD)
        taken = queue.take()
        assert taken
        assert set(taken) == {signal.SIGCHLD}

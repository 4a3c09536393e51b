"""The flag that signal handlers set."""

import os
import signal
import threading

from liqmap.child import Flag


def test_a_handler_may_set_the_flag_while_its_own_thread_waits_for_it() -> None:
    flag = Flag()
    before = signal.signal(signal.SIGUSR2, lambda *_: flag.set())
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        assert flag.wait(20.0)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_handler_may_set_the_flag_while_its_lock_is_held() -> None:
    flag = Flag()
    before = signal.signal(signal.SIGUSR2, lambda *_: flag.set())
    try:
        with flag._cond:  # where a plain Event would wait for itself for ever
            signal.raise_signal(signal.SIGUSR2)
        assert flag.is_set()
    finally:
        signal.signal(signal.SIGUSR2, before)

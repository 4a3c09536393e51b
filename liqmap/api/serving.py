"""How gunicorn serves the API: settings from the configuration, and hooks that make its master a child of ours.

Read by etc/gunicorn.conf.py (and by gunicorn_settings.py where that file is not installed), at the start and again on
HUP. The master takes the lock, the log and the heartbeat row of `api`; the workers only answer.
"""

import faulthandler
import logging
import os
import signal
import sys
from contextlib import ExitStack
from functools import lru_cache
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import Any, Final

from flask import Flask
from gunicorn.glogging import Logger

from liqmap.api.app import create_app
from liqmap.api.main import EFFECTIVE
from liqmap.api.pulse import Pulse
from liqmap.api.tally import Tallies
from liqmap.child import Child, open_child, reopen_logs, signal_at_parents_end
from liqmap.config import Config, load_effective, paths
from liqmap.logs import KeyValueFormatter

_ORDERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)

log = logging.getLogger(__name__)


def application() -> Flask:
    """What each worker serves; made in the worker, from the configuration as it is then."""
    effective = load_effective(Path(os.environ[EFFECTIVE]))
    return create_app(effective.config, var_dir=paths(effective.config, effective.base_dir).log_dir)


def settings() -> dict[str, Any]:
    """Everything gunicorn is told."""
    config = _config()
    return {
        "bind": config.api.bind,  # only without a supervisor: an inherited socket comes first
        "backlog": config.api.backlog,
        "workers": config.api.workers,
        "threads": config.api.threads,
        "worker_class": "liqmap.api.connections.PatientWorker",
        "worker_connections": 1000,
        "worker_tmp_dir": "/dev/shm",
        "keepalive": 15,
        "timeout": 30,
        "graceful_timeout": max(1, int(config.supervisor.stop_timeout_s) - 1),
        "limit_request_line": 2048,
        "limit_request_fields": 64,
        "limit_request_field_size": 4096,
        "control_socket_disable": True,
        "accesslog": None,
        "logger_class": KeyValueLogger,
        "loglevel": config.daemon.log_level.lower(),
        "proc_name": f"liqmap-{config.daemon.instance}",
        "on_starting": on_starting,
        "when_ready": when_ready,
        "pre_fork": pre_fork,
        "post_fork": post_fork,
        "post_worker_init": post_worker_init,
        "post_request": post_request,
        "child_exit": child_exit,
        "on_exit": on_exit,
    }


class KeyValueLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Sends what gunicorn says through our own handlers, and reopens ours on USR1."""

    def setup(self, cfg: Any) -> None:
        """As gunicorn does, without handlers of its own."""
        super().setup(cfg)
        for handler in list(self.error_log.handlers):
            self.error_log.removeHandler(handler)
        self.error_log.propagate = True

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """A client that stalls is no fault of ours, and must not be able to fill the log."""
        if isinstance(sys.exc_info()[1], BlockingIOError | TimeoutError):
            self.debug("gave up on a stalled client")
        else:
            super().exception(msg, *args, **kwargs)

    def reopen_files(self) -> None:
        """Our own files."""
        reopen_logs()


class _Master:
    """What the hooks of one master share."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.tallies = Tallies()
        self.child: Child | None = None
        self.pulse: Pulse | None = None


@lru_cache(maxsize=1)
def _master() -> _Master:
    return _Master()


def on_starting(_arbiter: Any) -> None:
    """Before anything listens: lock, log, heartbeat row. Ends the process with 75 or 78 and one line."""
    master = _master()
    child = open_child("api", os.environ[EFFECTIVE], handle_signals=False)
    master.child = master.stack.enter_context(child)
    master.child.beat(ready=False)
    os.register_at_fork(after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _ORDERS) and None)


def when_ready(_arbiter: Any) -> None:
    """The socket listens; workers come next."""
    master = _master()
    assert master.child is not None
    master.pulse = Pulse(master.child, master.tallies)
    master.pulse.start()


def pre_fork(_arbiter: Any, _worker: Any) -> None:
    """A worker has the handlers of its master until it has its own: an order to stop would be lost meanwhile, and its
    clients would be cut off when it is killed for it. Such signals wait until the worker can act on them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ORDERS)


def post_fork(_arbiter: Any, worker: Any) -> None:
    """In the new worker: end with the master, write to the log without rotating it, count in a row of its own."""
    if not signal_at_parents_end(signal.SIGTERM, worker.ppid):
        sys.exit(0)
    _only_append(f"api.{worker.age}")
    worker.tally = _master().tallies.of(worker.age)


def post_worker_init(worker: Any) -> None:
    """The worker has its application. Aborted by its master, it leaves the traceback of every thread on stderr."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ORDERS)
    faulthandler.disable()  # gunicorn has taken SIGABRT meanwhile; only this order takes it back
    faulthandler.enable(file=sys.stderr, all_threads=True)
    worker.tally.booted()


def post_request(worker: Any, _request: Any, _environ: Any, response: Any) -> None:
    """Count the requests that failed by our fault."""
    if response is not None and response.status_code == 500:
        worker.tally.error()


def child_exit(_arbiter: Any, worker: Any) -> None:
    """In the master: a worker has ended."""
    _master().tallies.ended(worker.age)


def on_exit(_arbiter: Any) -> None:
    """In the master, last."""
    master = _master()
    if master.pulse is not None:
        master.pulse.end()
    master.stack.close()


def _config() -> Config:
    return load_effective(Path(os.environ[EFFECTIVE])).config


def _only_append(process: str) -> None:
    """Replace the rotating handler: two processes that rotate one file lose lines. The master rotates (see pulse)."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, RotatingFileHandler):
            root.removeHandler(handler)
            handler.close()
            root.addHandler(WatchedFileHandler(handler.baseFilename, encoding="utf-8"))
    for handler in root.handlers:
        handler.setFormatter(KeyValueFormatter(process))

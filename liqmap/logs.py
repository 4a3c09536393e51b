"""Logging: one line = one event, `time level process logger message key=value …`, in a file that rotates while running.

Fields are passed as `extra={"fields": {...}}` or through `fields(...)`. USR1 (or `reopen()`) reopens the file, so that
logrotate works too. faulthandler writes into the same file, so that an aborted process leaves its traceback there.
"""

import contextlib
import faulthandler
import logging
import sys
import threading
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO


def fields(**values: object) -> dict[str, Any]:
    """The `extra=` argument of a log call that carries key=value pairs."""
    return {"fields": values}


class KeyValueFormatter(logging.Formatter):
    """Renders a record as one line; a traceback follows on lines of its own, indented by the standard library."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self, process: str) -> None:
        super().__init__("%(asctime)s %(levelname)s")
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        pairs = getattr(record, "fields", {})
        tail = "".join(f" {key}={_quoted(value)}" for key, value in pairs.items())
        head = f"{self.formatTime(record)} {record.levelname} {self._process} {record.name}"
        line = f"{head} {_one_line(record.getMessage())}{tail}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class _LogFile(RotatingFileHandler):
    """A rotating file to which faulthandler follows each time it is opened anew."""

    def _open(self) -> Any:
        stream = super()._open()
        faulthandler.enable(file=stream, all_threads=True)
        return stream

    def reopen(self) -> None:
        """Close and open again under the same name (after logrotate moved the file away). Where no new file can be
        had the old one is kept: a full disk costs lines, never the process."""
        with self.lock or threading.RLock():
            before = self.stream
            try:
                self.stream = self._open()
            except OSError:
                logging.getLogger(__name__).exception("the log cannot be reopened, the old file is kept")
                return
            if before:
                with contextlib.suppress(OSError):  # lines that found no room are lost with it
                    before.close()


def setup(
    process: str,
    level: str,
    file: Path | None,
    max_bytes: int = 0,
    keep: int = 1,
    terminal: TextIO | None = sys.stderr,
) -> None:
    """Send this process's log to `file` (rotated at `max_bytes`, `keep` old ones) and to `terminal`.

    Uncaught exceptions of the main thread and of other threads are logged with their traceback before they end it.
    Raises OSError when the file cannot be opened.
    """
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(level)
    handlers: list[logging.Handler] = []
    if file is not None:
        handlers.append(_LogFile(file, maxBytes=max_bytes, backupCount=keep, encoding="utf-8"))
    if terminal is not None:
        handlers.append(logging.StreamHandler(terminal))
    for handler in handlers:
        handler.setFormatter(KeyValueFormatter(process))
        root.addHandler(handler)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def reopen() -> None:
    """Reopen every log file of this process."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _LogFile):
            handler.reopen()


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("liqmap").critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    _log_uncaught(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def _quoted(value: object) -> str:
    text = _one_line(f"{value:.6g}" if isinstance(value, float) else str(value))
    return f'"{text}"' if (" " in text or not text or "=" in text) else text


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r").replace('"', "'")

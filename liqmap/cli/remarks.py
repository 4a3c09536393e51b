"""Warnings of the rooms below, as lines of a command on standard error, while it runs."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from liqmap.logs import KeyValueFormatter


class _Line(KeyValueFormatter):
    """`liqmap replay: a part of the journal is lost file=… offset=…`."""

    def __init__(self, command: str) -> None:
        super().__init__(command)
        self._command = command

    def format(self, record: logging.LogRecord) -> str:
        return f"{self._command}: {super().format(record).partition(f' {record.name} ')[2]}"


@contextmanager
def remarks_of(command: str, rooms: Sequence[str] = ("liqmap",)) -> Iterator[None]:
    """While this is open, warnings and errors of these rooms are told to whoever runs `command`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(command))
    handler.setLevel(logging.WARNING)
    loggers = [logging.getLogger(room) for room in rooms]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)

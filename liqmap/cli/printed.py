"""What becomes of a command whose reader goes away before it has printed everything (`| head`)."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Final, ParamSpec

Words = ParamSpec("Words")

BROKEN_PIPE: Final = 141
"""As of a program that SIGPIPE ended."""


def abandon(descriptor: int) -> None:
    """Leave nothing that the interpreter would try to write there at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def printed(command: Callable[Words, int]) -> Callable[Words, int]:
    """The command, which ends with BROKEN_PIPE, and without a word, when nobody reads what it prints any more."""

    @functools.wraps(command)
    def run(*words: Words.args, **named: Words.kwargs) -> int:
        try:
            code = command(*words, **named)
            sys.stdout.flush()
        except BrokenPipeError:
            abandon(sys.stdout.fileno())
            return BROKEN_PIPE
        return code

    return run

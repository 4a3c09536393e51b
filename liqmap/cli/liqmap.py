"""`liqmap`: tools beside the daemon. A table of commands; each is a module with `main(arguments) -> exit code`."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final, cast

from liqmap import __version__

USAGE = 2
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Command:
    """`module` is imported when the command is used, so that `liqmap --help` stays quick."""

    module: str
    summary: str


COMMANDS: Final[Mapping[str, Command]] = {
    "parse": Command("liqmap.cli.parse", "what raw frames of a venue say, as JSON lines"),
    "record": Command("liqmap.cli.record", "listen and keep everything: raw frames and events"),
    "backtest": Command("liqmap.cli.backtest", "recorded tables through both models, scored where the truth is known"),
    "replay": Command("liqmap.cli.replay", "a journal or a capture through the engine, to frames and a digest"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if given and given[0] in ("-V", "--version"):
        sys.stdout.write(f"liqmap {__version__}\n")
        return 0
    if not given:
        sys.stderr.write(_help())
        return USAGE
    command = COMMANDS.get(given[0])
    if command is None:
        sys.stderr.write(f"liqmap: no command {given[0]!r}; there are: {', '.join(COMMANDS)}\n")
        return USAGE
    logging.getLogger("liqmap").addHandler(logging.NullHandler())  # what is said is said by the command, in its words
    run = cast(Callable[[Sequence[str]], int], import_module(command.module).main)
    try:
        return run(given[1:])
    except KeyboardInterrupt:
        return INTERRUPTED


def _help() -> str:
    rows = "\n".join(f"  {name:10} {command.summary}" for name, command in COMMANDS.items())
    return f"usage: liqmap COMMAND …\n\n{rows}\n\n`liqmap COMMAND --help` explains one, with an example.\n"


if __name__ == "__main__":
    sys.exit(main())
